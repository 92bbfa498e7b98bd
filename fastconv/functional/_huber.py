"""Huber's loss and the squared error, by all threads: what the losses of training are made of."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv._kernels._memory import empty
from fastconv.functional._validate import float_array, kernels_for
from fastconv.threads import threads_for

#: Pairs of a partial sum, as in the kernels.
PORTION = 4096


def huber(x: NDArray[Any], t: NDArray[Any], *, bound: float = math.inf) -> np.floating[Any]:
    """Return the mean over all pairs of ``e**2 / 2``, ``e = |x - t|``, where e is above the bound ``bound * (e - bound / 2)``.

    x and t have one shape; the mean of no pairs is 0.

    >>> float(huber(np.array([1.0, 2.0]), np.zeros(2)))
    1.25
    """
    x, t = float_array(x, "prediction"), float_array(t, "target")
    sums = np.zeros(-(-x.size // PORTION))
    if x.size:
        # of a bound that is infinite, an infinite error would have no loss that is a number
        finite = min(bound, float(np.finfo(x.dtype).max))
        kernels_for(x).huber(x, t, sums, None, finite, 0.0, threads_for(x.size))
    mean: np.floating[Any] = x.dtype.type(sums.sum() / max(1, x.size))
    return mean


def huber_backward(x: NDArray[Any], t: NDArray[Any], dvalue: float, *, bound: float = math.inf) -> NDArray[Any]:
    """Return `dvalue` times the gradient of `huber` with respect to x.

    >>> huber_backward(np.array([1.0, 2.0]), np.zeros(2), 1.0)
    array([0.5, 1. ])
    """
    x, t = float_array(x, "prediction"), float_array(t, "target")
    dx = empty(x.shape, x.dtype)
    if x.size:
        kernels_for(x).huber(x, t, None, dx, bound, dvalue / x.size, threads_for(x.size))
    return dx
