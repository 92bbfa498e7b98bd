"""Layer normalization: each row by itself, whose kernel is not that of the other normalizations."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastconv._kernels._memory import empty
from fastconv.functional._norm_arguments import COST, Gradients, channel_values, epsilon, norm_gradient, norm_input
from fastconv.functional._validate import kernels_for
from fastconv.threads import threads_for

#: The gradients of scale and bias are summed over at most so many parts of the rows, of at least so many rows each; all partial
#: sums together are at most so many.
PARTS, PART_ROWS, PARTIAL_ITEMS = 64, 64, 2**19


def layer_norm(x: ArrayLike, scale: ArrayLike, bias: ArrayLike, *, eps: float = 1e-5) -> NDArray[Any]:
    """Normalize over the last axis: each pixel by the mean and the variance of its own channels.

    ``y[..., c] = (x[..., c] - mean[...]) / sqrt(var[...] + eps) * scale[c] + bias[c]`` (Ba, Kiros and Hinton 2016,
    section 3).

    Parameters
    ----------
    x : array (..., C), float32 or float64
    scale, bias : array (C,), dtype of x
    eps : float, at least 0

    Returns
    -------
    array, shape and dtype of x

    Raises
    ------
    TypeError
        For dtypes other than float32 and float64, or that differ.
    ValueError
        For shapes that do not match.

    See Also
    --------
    layer_norm_backward : its gradients.

    Examples
    --------
    >>> import numpy as np
    >>> layer_norm(np.array([[1.0, 3.0], [10.0, 30.0]]), np.ones(2), np.zeros(2), eps=0.0)
    array([[-1.,  1.],
           [-1.,  1.]])
    """
    x = norm_input(x)
    scale, bias, eps = channel_values(scale, "scale", x), channel_values(bias, "bias", x), epsilon(eps)
    y = empty(x.shape, x.dtype)
    if x.size:
        kernels_for(x).layer_norm_forward(x, scale, bias, y, eps, True, 0.0, threads_for(COST * x.size))
    return y


def layer_norm_backward(dy: ArrayLike, x: ArrayLike, scale: ArrayLike, *, eps: float = 1e-5) -> Gradients:
    """Return the gradients of `layer_norm` with respect to x, scale and bias.

    As those of `batch_norm_backward`, with means over the channels of a pixel.

    Parameters
    ----------
    dy : array, shape and dtype of x
    x, scale, eps
        As given to `layer_norm`.

    Returns
    -------
    dx (shape of x), dscale (C,), dbias (C,)

    Raises
    ------
    TypeError, ValueError
        As `layer_norm`, and where dy has not the shape of x.

    Examples
    --------
    >>> import numpy as np
    >>> layer_norm_backward(np.ones((2, 2)), np.array([[1.0, 3.0], [10.0, 30.0]]), np.ones(2), eps=0.0)[2]
    array([2., 2.])
    """
    x = norm_input(x)
    scale, dy, eps = channel_values(scale, "scale", x), norm_gradient(dy, x), epsilon(eps)
    channels = x.shape[-1]
    dx = empty(x.shape, x.dtype)
    parts = min(-(-(x.size // channels) // PART_ROWS), PARTS, max(PARTIAL_ITEMS // (2 * channels), 1))
    partial = np.zeros((parts, 2, channels))
    if x.size:
        kernels_for(x).layer_norm_backward(dy, x, scale, dx, partial, eps, threads_for(2 * COST * x.size))
    dscale, dbias = partial.sum(axis=0).astype(x.dtype)
    return dx, dscale, dbias
