"""Arrays of other libraries, such as tensors of PyTorch and JAX, used without copying.

What has ``__dlpack__`` (https://data-apis.org/array-api) or NumPy's ``__array__`` is an array here, wherever one is taken: by
layers, models, training and functions. Nothing is copied where the numbers lie in this machine's memory in a dtype of NumPy.
What comes out is a NumPy array, which those libraries take in turn: ``torch.from_dlpack(y)``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastconv import _kernels
from fastconv._kernels._memory import empty
from fastconv.lasting import Place, lasting
from fastconv.threads import threads_for

#: Numbers below which NumPy turns an array as fast, and those that a kernel turns at a time: they fit into a core's cache.
FEW, CHUNK = 2**12, 2**19


def is_foreign(value: Any) -> bool:
    """Return whether `value` is an array of another library, or anything else that says how it becomes one.

    >>> is_foreign(memoryview(b"")), is_foreign(np.float32(1))
    (False, True)
    """
    return not isinstance(value, np.ndarray) and (hasattr(value, "__dlpack__") or hasattr(value, "__array__"))


def as_array(value: Any, name: str) -> np.ndarray:
    """Return `value` as an array, uncopied where that can be; nested lists of numbers become one too.

    Raises `TypeError`, naming `name`, for what does not let itself be read: a tensor on another device, one that PyTorch
    follows for its gradient; `ValueError` for nested lists of several lengths and for masked values.

    >>> as_array([[1.0, 2.0]], "x")
    array([[1., 2.]])
    """
    if np.ma.is_masked(value):
        raise ValueError(
            f"{name} must have no masked values, got {np.ma.count_masked(value)} of {value.size} masked: "
            "a plain array has no mask, fill them first (numpy.ma.filled)"
        )
    if not is_foreign(value):
        try:
            return np.asarray(value)
        except ValueError as error:
            raise ValueError(f"{name} must be an array: {error}") from None
    try:
        # NumPy's own way first: libraries that have both say more when they refuse
        return np.asarray(value) if hasattr(value, "__array__") else np.from_dlpack(value)
    except Exception as error:  # of another library
        raise TypeError(f"{name} cannot be read as an array, a {type(value).__name__} says: {error}") from error


def contiguous(array: np.ndarray, read: Callable[[int], object] | None = None) -> np.ndarray:
    """Return an array that is C contiguous, a copy where it was not.

    What lies in memory as rows and shall be columns, as the weights in files of other libraries, is turned by a kernel, some
    rows at a time; `read` is told how many bytes of them were read.

    >>> contiguous(np.arange(6.0).reshape(2, 3).T).flags.c_contiguous
    True
    """
    if array.flags.c_contiguous or array.size < FEW or array.ndim < 2 or array.dtype not in _kernels.modules:
        return np.ascontiguousarray(array)
    order = sorted(range(array.ndim), key=lambda axis: (-array.strides[axis], -axis))  # as it lies
    rows = array.transpose(order)
    if order[0] != array.ndim - 1 or not rows.flags.c_contiguous:
        return np.ascontiguousarray(array)
    y = lasting(array.shape, array.dtype)
    _turn(rows, y.transpose(*order[1:], order[0]), read)
    return y


def copied(array: np.ndarray) -> np.ndarray:
    """Return a copy of an array, C contiguous, that stays: it lies where weights do.

    >>> copied(np.frombuffer(bytes(9), "<f4", 2, offset=1)).flags.aligned
    True
    """
    made = lasting(array.shape, array.dtype)
    made[...] = array
    return made


def owned(array: np.ndarray) -> bool:
    """Return whether an array may be written to and has all of a memory of its own.

    >>> owned(np.zeros(6).reshape(2, 3)), owned(np.zeros(6)[1:])
    (True, False)
    """
    whole = array.base if isinstance(array.base, np.ndarray) else array
    own = whole.flags.owndata or isinstance(whole.base, Place)
    return own and array.flags.writeable and whole.size == array.size


def _turn(rows: np.ndarray, columns: np.ndarray, read: Callable[[int], object] | None) -> None:
    """Write the first axis of `rows` as the last axis of `columns`, whose strides are any."""
    many, width = len(rows), rows.size // len(rows)
    some = -(-CHUNK // (width * 16)) * 16
    transpose = _kernels.modules[rows.dtype].transpose
    whole = some >= many and columns.flags.c_contiguous
    some = min(some, many)
    turned = columns if whole else np.empty(some * width, rows.dtype)
    for first in range(0, many, some):
        part = rows[first : first + some]
        to = turned if whole else turned[: part.size]
        # what a file has mapped lies at any byte
        transpose(part if part.flags.aligned else _here(part), to, 1, len(part), width, threads_for(part.size))
        if not whole:
            columns[..., first : first + some] = to.reshape(*rows.shape[1:], len(part))
        if read is not None:
            read(part.nbytes)


def _here(part: np.ndarray) -> np.ndarray:
    """Return a copy for the moment, in memory that is kept for the next one."""
    made = empty((max(part.size, CHUNK),), part.dtype)[: part.size].reshape(part.shape)
    np.copyto(made, part)
    return made
