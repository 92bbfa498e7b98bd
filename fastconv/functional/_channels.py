"""What layers do with channels, by all threads: products with gates, sums over pixels, arrays side by side.

NumPy uses one thread, and takes its time where rows are as short as the channels of a pixel. What the kernels do not take,
other dtypes and orders in memory, is left to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv._kernels._memory import empty
from fastconv.functional._validate import FLOATS, kernels_for
from fastconv.threads import threads_for

#: Numbers of a row, at least, where two arrays of one shape are multiplied.
ROW = 1024

#: Arrays that the kernel puts side by side, at most.
MOST_JOINED = 64


def multiplied(x: NDArray[Any], factor: NDArray[Any]) -> NDArray[Any]:
    """Return ``x * factor``, two arrays of one shape, or one of them a gate (`is_gate`) for the other.

    >>> import numpy as np
    >>> multiplied(np.ones((1, 2, 2)), np.array([[[3.0, 5.0]]]))
    array([[[3., 5.],
            [3., 5.]]])
    """
    if x.size < factor.size:
        x, factor = factor, x
    if x.shape == factor.shape:
        channels = _row(x.shape)
    elif is_gate(factor.shape, x.shape):
        channels = x.shape[-1]
        factor = factor if factor.shape[-1] == channels else np.repeat(factor, channels, axis=-1)
    else:
        return x * factor
    if not (taken(x, factor) and x.size):
        return x * factor
    y = empty(x.shape, x.dtype)
    kernels_for(x).scale_columns(x, 0, factor, None, y, channels, False, threads_for(x.size))
    return y


def is_gate(shape: Sequence[int], stretched: Sequence[int]) -> bool:
    """Return whether `shape` is ``(N, 1, ..., 1, C)`` or ``(N, 1, ..., 1)``, `stretched` being ``(N, ..., C)``."""
    return (
        len(shape) == len(stretched) >= 3
        and shape[0] == stretched[0]
        and shape[-1] in (1, stretched[-1])
        and math.prod(shape[1:-1]) == 1
    )


def pixel_sums(x: NDArray[Any]) -> NDArray[Any]:
    """Return the sums over the pixels of each sample, ``(N, ..., C)`` to ``(N, 1, ..., 1, C)``.

    >>> import numpy as np
    >>> pixel_sums(np.ones((1, 2, 3, 2)))
    array([[[[6., 6.]]]])
    """
    if not (taken(x) and x.size):
        return x.sum(axis=tuple(range(1, x.ndim - 1)), keepdims=True)
    y = empty((len(x), *(1,) * (x.ndim - 2), x.shape[-1]), x.dtype)
    kernels, threads = kernels_for(x), threads_for(x[0].size)
    for image, sums in zip(x, y, strict=True):
        kernels.column_sums(image, sums, threads)
    return y


def joined(xs: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return arrays side by side along their last axis; the others are alike.

    >>> import numpy as np
    >>> joined([np.zeros((1, 2)), np.ones((1, 1))])
    array([[0., 0., 1.]])
    """
    width = sum(x.shape[-1] for x in xs)
    shape = (*xs[0].shape[:-1], width)
    if not (taken(*xs) and all(x.size for x in xs) and len(xs) <= MOST_JOINED):
        return np.concatenate(xs, axis=-1)
    y = empty(shape, xs[0].dtype)
    kernels_for(y).join_columns(list(xs), y, y.size // width, threads_for(y.size))
    return y


def _row(shape: Sequence[int]) -> int:
    """Return the numbers of the shortest trailing axes that are `ROW` or more."""
    row = 1
    for n in reversed(shape):
        row *= n
        if row >= ROW:
            break
    return row


def taken(*arrays: NDArray[Any]) -> bool:
    """Return whether the kernels take arrays: of one dtype of theirs, C contiguous."""
    dtype = arrays[0].dtype
    if dtype not in FLOATS or not dtype.isnative:
        return False
    return all(array.dtype == dtype and array.flags.c_contiguous for array in arrays)
