"""Arrays of other libraries: tensors of PyTorch, JAX and their like, taken as they lie in memory.

What has ``__dlpack__`` (https://data-apis.org/array-api) or NumPy's ``__array__`` is an array here, wherever one is taken: by
layers, models, training and functions. Nothing is copied where the numbers lie in this machine's memory in a dtype of NumPy.
What comes out is a NumPy array, which those libraries take in turn: ``torch.from_dlpack(y)``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv import _kernels
from fastconv.threads import get_num_threads


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


def contiguous(array: np.ndarray) -> np.ndarray:
    """Return an array that is C contiguous, a copy where it was not; of a transposed matrix a kernel makes it, in less time.

    >>> contiguous(np.arange(6.0).reshape(2, 3).T).flags.c_contiguous
    True
    """
    if (
        array.ndim != 2
        or array.flags.c_contiguous
        or not array.flags.f_contiguous
        or array.dtype not in _kernels.modules
    ):
        return np.ascontiguousarray(array)
    cols, rows = array.shape
    y = np.empty((cols, rows), array.dtype)
    if y.size:
        _kernels.modules[array.dtype].transpose(array.T, y, 1, rows, cols, get_num_threads())
    return y
