"""Validation of data, once before the first batch: errors name the sample, the value and what was expected."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv.arguments import integer

#: Bytes that the check for NaN looks at together: small enough for the cache, large enough for NumPy.
_BLOCK = 1 << 20


class DataError(ValueError):
    """Samples or a data file that cannot be used; the message names the index or the file."""


def check_fraction(value: Any, name: str) -> float:
    """Return `value` as a float between 0 and 1, both exclusive; raise `ValueError` for anything else."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < 1:
        raise ValueError(f"{name} must be a number between 0 and 1, got {value!r}")
    return float(value)


def whole(value: Any, name: str, *, minimum: int = 0) -> int:
    """Return `value` as an int; raise `TypeError` for what is not an integer and `ValueError` for one below `minimum`."""
    number = integer(value, name, "an integer")
    if number < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {value!r}")
    return number


def check_finite(x: np.ndarray, name: str = "x", dtype: Any = None) -> None:
    """Raise `DataError` that names the first sample of `x` (N, ...) with a masked value, NaN or infinity, or with what becomes
    infinite in `dtype`; integers pass unread.

    >>> check_finite(np.array([[0.0, 1.0], [2.0, np.nan]]))
    Traceback (most recent call last):
        ...
    fastconv.data.check.DataError: x[1] holds nan at position (1,); every value must be finite
    """
    if np.ma.is_masked(x):
        raise DataError(
            f"{name}[{np.argwhere(np.ma.getmaskarray(x))[0][0]}] has masked values: fill them (numpy.ma.filled)"
        )
    if x.dtype.kind != "f" or x.size == 0:
        return
    step = max(1, _BLOCK * len(x) // x.nbytes)
    dtype = x.dtype if dtype is None else np.dtype(dtype)
    for start in range(0, len(x), step):
        with np.errstate(over="ignore"):
            finite = np.isfinite(x[start : start + step].astype(dtype, copy=False))
        if not finite.all():
            first = tuple(int(i) for i in np.argwhere(~finite)[0])
            value = x[start : start + step][first]
            within = f" in {dtype}" if np.isfinite(value) else ""
            raise DataError(
                f"{name}[{start + first[0]}] holds {value} at position {first[1:]}; every value must be finite{within}"
            )


def check_labels(y: np.ndarray, classes: int, name: str = "y") -> None:
    """Raise `DataError` that names the first label of the integer array `y` (N, ...) outside ``0 .. classes - 1``.

    >>> check_labels(np.array([0, 2, 10]), 10)
    Traceback (most recent call last):
        ...
    fastconv.data.check.DataError: y[2] is label 10; with 10 classes the labels are 0 to 9
    """
    if y.size == 0 or (y.min() >= 0 and y.max() < classes):
        return
    first = tuple(int(i) for i in np.argwhere((y < 0) | (y >= classes))[0])
    index = ", ".join(map(str, first))
    raise DataError(f"{name}[{index}] is label {y[first]}; with {classes} classes the labels are 0 to {classes - 1}")


def check_probabilities(y: np.ndarray, name: str = "y") -> None:
    """Raise `DataError` that names the first row of `y` (N, ..., classes) with an entry below 0 or a sum other than 1."""
    totals = y.sum(axis=-1, dtype=np.float64)
    bad = (y.min(axis=-1, initial=0) < 0) | ~(np.abs(totals - 1) <= 1e-3)
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        index = ", ".join(map(str, first))
        raise DataError(
            f"{name}[{index}] must be probabilities (none negative, sum 1), "
            f"got a sum of {totals[first]:.6g} and a smallest entry of {y[first].min():.6g}"
        )


def check_lengths(x: tuple[Any, ...], y: tuple[Any, ...], names: tuple[str, str] = ("x", "y")) -> int:
    """Return the number of samples that all arrays of `x` and `y` have; raise `DataError` where they differ."""
    arrays = [(names[0], i, len(x), item) for i, item in enumerate(x)] + [
        (names[1], i, len(y), item) for i, item in enumerate(y)
    ]
    lengths = []
    for name, index, count, item in arrays:
        label = name if count == 1 else f"{name}[{index}]"
        if not hasattr(item, "shape") or len(item.shape) == 0:
            raise TypeError(
                f"{label} must be an array with one sample for each index, got {item!r:.80}; "
                f"a tuple stands for several arrays, a list for one"
            )
        lengths.append((label, len(item)))
    if len({length for _, length in lengths}) > 1:
        counted = ", ".join(f"{label} has {length}" for label, length in lengths)
        raise DataError(f"all arrays must have the same number of samples; {counted}")
    return lengths[0][1]
