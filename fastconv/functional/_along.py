"""Sums, extremes and running sums along axes, with the bits of NumPy's but for sums, whose order is another one.

NumPy takes its time for each row, and reductions of channels have many short ones: the kernels turn them into columns first,
and then whole arrays are added and compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv._kernels._memory import empty
from fastconv.functional._channels import taken
from fastconv.functional._validate import kernels_for
from fastconv.functional.linear import linear
from fastconv.threads import threads_for

#: Numbers of a row, at most: NumPy's sums of longer ones are more exact.
LONG = 1024

#: Numbers of an array, at least: the calls that it takes for fewer cost more.
MANY = 4096

#: Numbers of a slice, at least, that NumPy is called for, and so many of it, at least, that lie together.
SLICE, WIDE = 256, 16


def sums(x: NDArray[Any], axes: Sequence[int], dtype: Any = None) -> NDArray[Any]:
    """Return ``x.sum(axes, dtype, keepdims=True)``; floats stay what they are.

    >>> import numpy as np
    >>> sums(np.array([[1.0, 2.0]]), (1,))
    array([[3.]])
    """
    rows = _rows(x, axes)
    if rows is None:
        total: NDArray[Any] = x.sum(axis=tuple(axes), keepdims=True, dtype=dtype)
        return total
    return linear(rows, np.ones((rows.shape[-1], 1), x.dtype)).reshape(_kept(x, axes))


def extremes(function: np.ufunc, x: NDArray[Any], axes: Sequence[int], initial: Any) -> NDArray[Any]:
    """Return the largest (`numpy.maximum`) or smallest (`numpy.minimum`) along axes, which stay, beside `initial`.

    >>> import numpy as np
    >>> extremes(np.maximum, np.array([[1.0, 2.0]]), (1,), -np.inf)
    array([[2.]])
    """
    rows = _rows(x, axes)
    if rows is None or len(rows) < SLICE:
        return np.asarray(function.reduce(x, axis=tuple(axes), keepdims=True, initial=initial))
    return np.asarray(function.reduce(_turned(rows), axis=0, initial=initial)).reshape(_kept(x, axes))


def running_sums(x: NDArray[Any], axis: int, *, reverse: bool = False) -> NDArray[Any]:
    """Return ``np.cumsum(x, axis)`` in the dtype of x; in `reverse` from the end.

    >>> import numpy as np
    >>> running_sums(np.array([[1.0, 2.0, 4.0]]), 1, reverse=True)
    array([[7., 6., 4.]])
    """
    if x.dtype.kind == "f" and x.size >= SLICE * x.shape[axis]:
        rows = _rows(x, (axis,))
        if rows is not None:
            columns = _turned(rows)
            _accumulate(columns, 0, reverse)
            return _turned(columns).reshape(x.shape)
        if math.prod(x.shape[axis + 1 :]) >= WIDE:
            y = x.copy()
            _accumulate(y, axis, reverse)
            return y
    y = np.cumsum(np.flip(x, axis) if reverse else x, axis, dtype=x.dtype)
    return np.ascontiguousarray(np.flip(y, axis)) if reverse else y


def _accumulate(y: NDArray[Any], axis: int, reverse: bool) -> None:
    slices = np.moveaxis(y, axis, 0)
    slices = slices[::-1] if reverse else slices
    with np.errstate(all="ignore"):
        for before, each in pairwise(slices):
            np.add(before, each, out=each)


def _rows(x: NDArray[Any], axes: Sequence[int]) -> NDArray[Any] | None:
    """Return x as many short rows (m, n), the axes being its last ones; None where it is not."""
    first = x.ndim - len(axes)
    n = math.prod(x.shape[first:])
    if not (1 < n <= LONG and x.size >= MANY and sorted(axes) == list(range(first, x.ndim)) and taken(x)):
        return None
    return x.reshape(-1, n)


def _kept(x: NDArray[Any], axes: Sequence[int]) -> tuple[int, ...]:
    return tuple(1 if axis in axes else n for axis, n in enumerate(x.shape))


def _turned(x: NDArray[Any]) -> NDArray[Any]:
    """Return the transpose of a matrix, in memory as well."""
    rows, columns = x.shape
    y = empty((columns, rows), x.dtype)
    kernels_for(x).transpose(x, y, 1, rows, columns, threads_for(x.size))
    return y
