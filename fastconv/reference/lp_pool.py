"""Pooling by the p-norm of each window."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv.reference.pool import Ints, _each, _windows


def lp_pool(
    x: np.ndarray,
    kernel_size: Ints,
    *,
    p: int = 2,
    stride: Ints | None = None,
    padding: Any = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
) -> np.ndarray:
    """Return ``(sum of |x| ** p) ** (1 / p)`` of each window.

    >>> lp_pool(np.array([3.0, 4.0]).reshape(1, 2, 1), 2)[0, :, 0]
    array([5.])
    """
    axes = _windows(x.shape[1:-1], kernel_size, stride, padding, dilation, ceil_mode)
    y = np.empty((len(x), *[len(axis.first) for axis in axes], x.shape[-1]), x.dtype)
    for at, window, _ in _each(axes):
        y[at] = (np.abs(x[window]) ** p).sum(axis=tuple(range(1, x.ndim - 1))) ** (1 / p)
    return y


def lp_pool_backward(
    dy: np.ndarray,
    x: np.ndarray,
    kernel_size: Ints,
    *,
    p: int = 2,
    stride: Ints | None = None,
    padding: Any = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
) -> np.ndarray:
    """Return dx of `lp_pool`: the derivative of a norm is ``sign(x) * (|x| / y) ** (p - 1)``.

    >>> lp_pool_backward(np.array([[[10.0]]]), np.array([3.0, 4.0]).reshape(1, 2, 1), 2)[0, :, 0]
    array([6., 8.])
    """
    axes = _windows(x.shape[1:-1], kernel_size, stride, padding, dilation, ceil_mode)
    y = lp_pool(x, kernel_size, p=p, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode)
    dx = np.zeros_like(x)
    for at, window, _ in _each(axes):
        spatial = tuple(range(1, x.ndim - 1))
        norm = np.expand_dims(np.where(y[at] > 0, y[at], 1), spatial)
        dx[window] += np.expand_dims(dy[at], spatial) * np.sign(x[window]) * (np.abs(x[window]) / norm) ** (p - 1)
    return dx
