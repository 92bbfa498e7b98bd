"""Dropout of an array by a key; `fastconv.layers.Dropout` draws the key."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from fastconv._kernels._memory import empty
from fastconv.functional._validate import float_array, kernels_for
from fastconv.threads import threads_for

#: What mixing the bits of a place costs in multiply-adds, about.
MIX_COST = 2


def dropped(x: NDArray[Any], rate: float, key: int) -> NDArray[Any]:
    """Return x with each number set to 0 with probability `rate` (below 1), and the others divided by ``1 - rate``.

    Which ones depends on the key, an integer from 0 to 2**64 - 1, and on nothing else: for the same key they are the same in
    any array of as many numbers, on any number of threads.

    >>> import numpy as np
    >>> dropped(np.ones(8, np.float32), 0.5, 2)
    array([2., 2., 2., 2., 2., 0., 0., 0.], dtype=float32)
    """
    array = float_array(x, "x")
    y = empty(array.shape, array.dtype)
    if array.size:
        kernels_for(array).dropout(array, y, key, rate, threads_for(MIX_COST * array.size))
    return y
