"""Finite differences: the gradient that every backward function must give, up to rounding."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def numeric_gradient(function: Callable[[np.ndarray], np.ndarray], x: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """Return the gradient of ``sum(dy * function(x))`` with respect to `x`, by central differences in float64."""
    x = x.astype(np.float64)
    step = 1e-6
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):
        above, below = x.copy(), x.copy()
        above[index] += step
        below[index] -= step
        change = np.asarray(function(above)) - np.asarray(function(below))
        gradient[index] = np.sum(dy * change) / (above[index] - below[index])
    return gradient


def assert_gradient(
    got: np.ndarray | None, function: Callable[[np.ndarray], np.ndarray], x: np.ndarray, dy: np.ndarray
) -> None:
    """Fail unless `got` is the gradient of ``sum(dy * function(x))`` with respect to `x`."""
    assert got is not None
    want = numeric_gradient(function, x, dy)
    assert got.shape == x.shape
    assert got.dtype == x.dtype
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6 * max(1.0, float(np.abs(dy).max(initial=0.0))))
