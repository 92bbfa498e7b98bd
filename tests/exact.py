"""Arrays of small whole numbers: their products and sums are exact in float32, in whatever order, so equal means equal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def whole(shape: Sequence[int], dtype: Any = np.float64, seed: int = 0) -> np.ndarray:
    """Return an array of whole numbers from -4 to 4."""
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(dtype)


def several(shapes: Sequence[Sequence[int]], dtype: Any = np.float64, seed: int = 0) -> list[np.ndarray]:
    """Return an array of whole numbers for each of `shapes`, all different."""
    return [whole(shape, dtype, 1000 * seed + i) for i, shape in enumerate(shapes)]


def assert_exact(got: np.ndarray | None, want: np.ndarray, dtype: Any = None) -> None:
    """Fail unless `got` has the values, the shape and the dtype of `want` (or the `dtype` given)."""
    assert got is not None
    assert got.dtype == np.dtype(want.dtype if dtype is None else dtype)
    assert got.shape == want.shape
    np.testing.assert_array_equal(got, want)


def assert_all_exact(got: Sequence[np.ndarray | None], want: Sequence[np.ndarray], dtype: Any = None) -> None:
    """`assert_exact` for each pair."""
    for one, other in zip(got, want, strict=True):
        assert_exact(one, other, dtype)


def dot(a: np.ndarray | None, b: np.ndarray | None) -> float:
    """Return the inner product of two arrays of one shape."""
    assert a is not None
    assert b is not None
    assert a.shape == b.shape
    return float(np.sum(a * b, dtype=np.float64))
