"""The multithreaded sum of two arrays: NumPy uses one thread, and gradients that meet in a network are large."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from fastconv._kernels._memory import empty
from fastconv.functional._validate import FLOATS, kernels_for
from fastconv.threads import threads_for


def added(a: NDArray[Any], b: NDArray[Any], *, into: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return ``a + b`` of one shape, a new array or `into`, which may be a; what the kernels do not take is left to NumPy.

    >>> import numpy as np
    >>> added(np.ones(2), np.array([1.0, 2.0]))
    array([2., 3.])
    """
    taken = a.size and a.shape == b.shape and a.dtype == b.dtype and a.dtype in FLOATS
    if not (taken and a.dtype.isnative and a.flags.c_contiguous and b.flags.c_contiguous):
        if into is None:
            return a + b
        into[...] = a + b
        return into
    y = empty(a.shape, a.dtype) if into is None else into
    kernels_for(a).activated_sum(a, b, y, None, 0.0, 0.0, threads_for(a.size))
    return y
