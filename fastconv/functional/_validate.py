"""What every public function of this floor validates: arrays, dtypes, ranks, matching shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastconv import _kernels
from fastconv.arguments import integer, is_list
from fastconv.arrays import as_array

if TYPE_CHECKING:
    from fastconv._kernels.protocol import Kernels

FLOATS = FLOAT32, FLOAT64 = (np.dtype(np.float32), np.dtype(np.float64))

#: What a gradient may be with respect to.
NAMES = ("x", "weight", "bias")


def float_array(value: Any, name: str, *, like: np.ndarray | None = None, like_name: str = "x") -> NDArray[Any]:
    """Return `value` as a C contiguous float32 or float64 array, copied only where its order in memory is another.

    Raises `TypeError` for another dtype (naming `name`) and, given an array `like`, for a dtype that differs from its;
    `ValueError` as `fastconv.arrays.as_array` does, which takes arrays of other libraries too.
    """
    if type(value) is np.ndarray:  # nearly every call: nothing to convert, and a tiny layer is done sooner than checked
        found = value.dtype
        if (
            (found is FLOAT32 or found is FLOAT64)
            and (like is None or found is like.dtype)
            and value.flags.c_contiguous
        ):
            return value
    array = as_array(value, name)
    dtype = array.dtype if array.dtype.isnative else array.dtype.newbyteorder("=")
    if dtype not in FLOATS:
        raise TypeError(f"{name} must be a float32 or float64 array, got {array.dtype} of shape {array.shape}")
    if like is not None and dtype != like.dtype:
        raise TypeError(f"{name} must have the dtype of {like_name}, {like.dtype}, got {array.dtype}")
    return np.ascontiguousarray(array, dtype=dtype) if array.ndim else array.astype(dtype, copy=False)


def float_dtype(value: Any) -> np.dtype[Any]:
    """Return `value` as a dtype; raises `TypeError` for one that is not float32 or float64."""
    dtype = np.dtype(value)
    if dtype not in FLOATS:
        raise TypeError(f"dtype must be float32 or float64, got {value!r}")
    return dtype


def images(value: Any, name: str, *, like: np.ndarray | None = None, like_name: str = "x") -> NDArray[Any]:
    """Return `value` as a contiguous float array (N, *spatial, C) with one to three spatial axes.

    Raises `ValueError` for another rank or no channels, `TypeError` as `float_array` does.
    """
    array = float_array(value, name, like=like, like_name=like_name)
    if not 3 <= array.ndim <= 5:
        raise ValueError(
            f"{name} must have shape (N, *spatial, C) with 1, 2 or 3 spatial axes, got shape {array.shape}"
        )
    if array.shape[-1] == 0:
        raise ValueError(f"{name} must have at least one channel (its last axis), got shape {array.shape}")
    return array


def require_shape(array: np.ndarray, shape: Sequence[int], name: str, what: str) -> None:
    """Raise `ValueError` unless `array` has `shape`; `what` says where the expected shape comes from."""
    if array.shape != shape and array.shape != tuple(shape):
        raise ValueError(f"{name} must have shape {tuple(shape)} ({what}), got {array.shape}")


def require_wrt(wrt: Any) -> tuple[str, ...]:
    """Return `wrt` as a tuple of some of ``"x"``, ``"weight"``, ``"bias"``; raise `ValueError` for anything else."""
    if type(wrt) is tuple:
        for item in wrt:
            if item.__class__ is not str or item not in NAMES:
                break
        else:
            return wrt
    names = (wrt,) if isinstance(wrt, str) else wrt
    if not isinstance(names, (tuple, list, set, frozenset)) or any(item not in NAMES for item in names):
        raise ValueError(f'wrt must name some of "x", "weight" and "bias", got {wrt!r}')
    return tuple(names)


def kernels_for(array: np.ndarray) -> Kernels:
    """Return the kernel module for an array's dtype."""
    return _kernels.modules[array.dtype]


def flat_arguments(value: Any, name: str) -> Any:
    """Return an argument of integers, lists or arrays as (nested) tuples of int, so that it can be the key of a cache.

    Strings and None stay. Raises `TypeError` for anything else: as keys 1, 1.0 and True are one.
    """
    kind = type(value)
    if kind is int or value is None:  # nearly always, and this runs at every call
        return value
    if kind is tuple:
        for item in value:
            if type(item) is not int:
                break
        else:
            return value
    if is_list(value):
        return tuple(flat_arguments(item, name) for item in value)
    return value if isinstance(value, str) else integer(value, name)
