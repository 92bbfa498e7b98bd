"""Normalization: subtract the mean, divide by the standard deviation, then scale and shift by learned numbers.

The three differ only in what the mean is taken over, here for images ``(N, H, W, C)``:

- `batch_norm`: over ``N, H, W``, for each channel
- `layer_norm`: over ``C``, for each pixel
- `group_norm`: over ``H, W`` and the channels of a group, for each image and group
"""

from __future__ import annotations

import numpy as np

Axes = tuple[int, ...]


def batch_norm(
    x: np.ndarray,
    scale: np.ndarray,
    bias: np.ndarray,
    *,
    mean: np.ndarray | None = None,
    var: np.ndarray | None = None,
    eps: float = 1e-5,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ``(y, mean, var)``: each channel is normalized over the batch and over all pixels.

    ``y = (x - mean) / sqrt(var + eps) * scale + bias``. Without `mean` and `var` they are those of this batch (the
    variance divides by the number of values); in evaluation the caller gives running statistics.

    Parameters
    ----------
    x : array, shape (..., C)
    scale, bias, mean, var : array, shape (C,)

    References
    ----------
    Ioffe and Szegedy, Batch normalization, ICML 2015, algorithm 1.

    Examples
    --------
    >>> y, mean, var = batch_norm(np.array([[1.0], [3.0]]), np.ones(1), np.zeros(1), eps=0.0)
    >>> y[:, 0], mean, var
    (array([-1.,  1.]), array([2.]), array([1.]))
    """
    if mean is None or var is None:
        axes = tuple(range(x.ndim - 1))
        mean, var = x.mean(axis=axes), x.var(axis=axes)
    return (x - mean) / np.sqrt(var + eps) * scale + bias, mean, var


def batch_norm_backward(
    dy: np.ndarray,
    x: np.ndarray,
    scale: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
    *,
    eps: float = 1e-5,
    batch_statistics: bool = True,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ``(dx, dscale, dbias)`` of `batch_norm`.

    With `batch_statistics`, `mean` and `var` are the batch's own, and the gradient flows through them too.

    Examples
    --------
    >>> x = np.array([[0.0], [1.0], [5.0]])
    >>> dx, dscale, dbias = batch_norm_backward(np.ones((3, 1)), x, np.ones(1), x.mean(0), x.var(0))
    >>> np.abs(dx).max() < 1e-12, dbias  # adding one number to the whole batch changes nothing
    (np.True_, array([3.]))
    """
    axes = tuple(range(x.ndim - 1))
    std = np.sqrt(var + eps)
    normalized = (x - mean) / std
    dscale, dbias = (dy * normalized).sum(axis=axes), dy.sum(axis=axes)
    if not batch_statistics:
        return dy * scale / std, dscale, dbias
    return _normalize_backward(dy * scale, normalized, std, axes), dscale, dbias


def layer_norm(x: np.ndarray, scale: np.ndarray, bias: np.ndarray, *, eps: float = 1e-5) -> np.ndarray:
    """Normalize over the last axis: each pixel by the mean and variance of its own channels.

    Parameters
    ----------
    x : array, shape (..., C)
    scale, bias : array, shape (C,)

    References
    ----------
    Ba, Kiros and Hinton, Layer normalization, 2016, section 3.

    Examples
    --------
    >>> layer_norm(np.array([[1.0, 3.0], [10.0, 30.0]]), np.ones(2), np.zeros(2), eps=0.0)
    array([[-1.,  1.],
           [-1.,  1.]])
    """
    normalized, _ = _normalize(x, (-1,), eps)
    return normalized * scale + bias


def layer_norm_backward(
    dy: np.ndarray, x: np.ndarray, scale: np.ndarray, *, eps: float = 1e-5
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ``(dx, dscale, dbias)`` of `layer_norm`.

    Examples
    --------
    >>> x = np.array([[1.0, 3.0], [10.0, 30.0]])
    >>> layer_norm_backward(np.ones((2, 2)), x, np.ones(2), eps=0.0)[2]
    array([2., 2.])
    """
    normalized, std = _normalize(x, (-1,), eps)
    leading = tuple(range(x.ndim - 1))
    dx = _normalize_backward(dy * scale, normalized, std, (-1,))
    return dx, (dy * normalized).sum(axis=leading), dy.sum(axis=leading)


def group_norm(x: np.ndarray, groups: int, scale: np.ndarray, bias: np.ndarray, *, eps: float = 1e-5) -> np.ndarray:
    """Normalize each image over all its pixels and the channels of a group.

    Parameters
    ----------
    x : array, shape (N, *spatial, C); `groups` divides C
    scale, bias : array, shape (C,)

    References
    ----------
    Wu and He, Group normalization, ECCV 2018, section 3.

    Examples
    --------
    >>> group_norm(np.array([[[1.0, 10.0], [3.0, 30.0]]]), 2, np.ones(2), np.zeros(2), eps=0.0)
    array([[[-1., -1.],
            [ 1.,  1.]]])
    """
    grouped, axes = _grouped(x, groups)
    normalized, _ = _normalize(grouped, axes, eps)
    return normalized.reshape(x.shape) * scale + bias


def group_norm_backward(
    dy: np.ndarray, x: np.ndarray, groups: int, scale: np.ndarray, *, eps: float = 1e-5
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ``(dx, dscale, dbias)`` of `group_norm`.

    Examples
    --------
    >>> x = np.array([[[1.0, 10.0], [3.0, 30.0]]])
    >>> group_norm_backward(np.ones((1, 2, 2)), x, 2, np.ones(2), eps=0.0)[2]
    array([2., 2.])
    """
    grouped, axes = _grouped(x, groups)
    normalized, std = _normalize(grouped, axes, eps)
    dx = _normalize_backward((dy * scale).reshape(grouped.shape), normalized, std, axes).reshape(x.shape)
    leading = tuple(range(x.ndim - 1))
    return dx, (dy * normalized.reshape(x.shape)).sum(axis=leading), dy.sum(axis=leading)


def _grouped(x: np.ndarray, groups: int) -> tuple[np.ndarray, Axes]:
    """Return `x` as ``(N, *spatial, groups, C // groups)`` and the axes that `group_norm` averages over."""
    grouped = x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)
    return grouped, (*range(1, x.ndim - 1), x.ndim)


def _normalize(x: np.ndarray, axes: Axes, eps: float) -> tuple[np.ndarray, np.ndarray]:
    std = np.sqrt(x.var(axis=axes, keepdims=True) + eps)
    return (x - x.mean(axis=axes, keepdims=True)) / std, std


def _normalize_backward(dy: np.ndarray, normalized: np.ndarray, std: np.ndarray, axes: Axes) -> np.ndarray:
    """Return the gradient through ``(x - mean(x)) / std(x)``.

    The output does not change when x is shifted or stretched, so the gradient loses its component along both
    directions: along 1 (the shift) and along the normalized values (the stretch).
    """
    shift = dy.mean(axis=axes, keepdims=True)
    stretch = (dy * normalized).mean(axis=axes, keepdims=True)
    return (dy - shift - normalized * stretch) / std
