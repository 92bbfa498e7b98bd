"""Comparisons of arrays whose failures say where, how much, and what was expected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastconv.testing.result import CheckFailed

#: Two float64 computations of one thing in another order agree so well, relative to the largest number.
FLOAT64 = 1e-9

#: What rounding leaves in float64 of numbers around 1 that cancel.
ROUNDING = 1e-11

#: float32 agrees so well with float64, relative to the largest number. Never loosened: what is worse is an error.
FLOAT32 = 1e-4


def require_close(got: np.ndarray, want: np.ndarray, what: str, tolerance: float, *, scale: float = 0.0) -> None:
    """Raise `CheckFailed` unless two arrays agree up to `tolerance` times the largest number (or `scale`, where larger).

    >>> import numpy as np
    >>> require_close(np.array([1.0, 2.0]), np.array([1.0, 4.0]), "the output", 1e-9)
    Traceback (most recent call last):
    ...
    fastconv.testing.result.CheckFailed: the output is wrong at index (1,): got 2.0, expected 4.0, an error of 2
    """
    if np.shape(got) != np.shape(want):
        raise CheckFailed(f"{what} has shape {np.shape(got)}, expected {np.shape(want)}")
    got, want = np.asarray(got), np.asarray(want)
    if not got.size:
        return
    with np.errstate(invalid="ignore", over="ignore"):  # infinity minus infinity
        error = np.abs(got.astype(np.float64) - want.astype(np.float64))
    same = (got == want) | (np.isnan(got) & np.isnan(want))
    error = np.where(same, 0.0, np.where(np.isnan(error), np.inf, error))
    finite = np.abs(want[np.isfinite(want)]).astype(np.float64)
    limit = tolerance * max(scale, float(finite.max(initial=0.0))) + ROUNDING
    _require(error > limit, error, got, want, what)


def require_same(got: np.ndarray, want: np.ndarray, what: str) -> None:
    """Raise `CheckFailed` unless two arrays have the same dtype, shape and bits."""
    if (np.shape(got), got.dtype) != (np.shape(want), want.dtype):
        raise CheckFailed(f"{what} is {got.dtype} of shape {got.shape}, expected {want.dtype} of shape {want.shape}")
    if got.tobytes() == want.tobytes():
        return
    bits = np.dtype(f"u{got.itemsize}") if got.itemsize in (1, 2, 4, 8) else got.dtype
    got, want = np.ascontiguousarray(got), np.ascontiguousarray(want)
    wrong = np.atleast_1d(got).view(bits) != np.atleast_1d(want).view(bits)
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.abs(np.atleast_1d(got).astype(np.float64) - np.atleast_1d(want).astype(np.float64))
    _require(wrong, np.where(wrong, error, -1.0), np.atleast_1d(got), np.atleast_1d(want), what)


def _require(wrong: np.ndarray, error: np.ndarray, got: np.ndarray, want: np.ndarray, what: str) -> None:
    if not wrong.any():
        return
    index = tuple(int(i) for i in np.unravel_index(int(np.argmax(error)), error.shape))
    others = int(wrong.sum()) - 1
    more = f" ({others} more of {wrong.size} numbers are wrong)" if others else ""
    raise CheckFailed(
        f"{what} is wrong at index {index}: got {got[index].item()!r}, expected {want[index].item()!r}, "
        f"an error of {error[index]:.4g}{more}"
    )


def largest(arrays: Mapping[str, Any]) -> float:
    """Return the largest absolute value in some arrays, 0 for none; what is not finite does not count.

    >>> import numpy as np
    >>> largest({"y": np.array([1.0, -3.0]), "dx": np.array([np.inf])})
    3.0
    """
    finite = (np.abs(array[np.isfinite(array)]).max(initial=0.0) for array in arrays.values())
    return max(map(float, finite), default=0.0)


def require_all(
    got: Mapping[str, Any], want: Mapping[str, Any], tolerance: float | None, suffix: str, *, scale: float = 0.0
) -> None:
    """Compare arrays by name, to the last bit where `tolerance` is None; messages end with `suffix`."""
    missing = sorted(set(want) ^ set(got))
    if missing:
        raise CheckFailed(f"{missing[0]} is there only once{suffix}")
    for name, array in want.items():
        if tolerance is None:
            require_same(got[name], array, f"{name}{suffix}")
        else:
            require_close(got[name], array, f"{name}{suffix}", tolerance, scale=scale)


def require_rounded(got: Mapping[str, Any], want: Mapping[str, Any], dtype: Any, suffix: str) -> None:
    """Compare arrays that were computed in `dtype` in another order."""
    if np.dtype(dtype) == np.float64:
        require_all(got, want, FLOAT64, suffix)
    else:
        require_all(got, want, FLOAT32, suffix, scale=largest(want))
