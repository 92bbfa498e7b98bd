"""Normalization: subtract a mean, divide by a standard deviation, scale and shift by learned numbers of each channel.

What the mean is taken over, for images ``(N, H, W, C)``: `batch_norm` over N, H and W; `group_norm` over H, W and
the channels of a group; `layer_norm` (layer_norm.py) over C.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastconv._kernels._memory import empty
from fastconv.arguments import boolean, positive
from fastconv.functional._norm_arguments import COST, Gradients, channel_values, epsilon, norm_gradient, norm_input
from fastconv.functional._validate import float_array, images, kernels_for, require_shape
from fastconv.threads import threads_for


def batch_norm(
    x: ArrayLike,
    scale: ArrayLike,
    bias: ArrayLike,
    *,
    mean: ArrayLike | None = None,
    var: ArrayLike | None = None,
    eps: float = 1e-5,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Normalize each channel over the batch and over all pixels.

    ``y[..., c] = (x[..., c] - mean[c]) / sqrt(var[c] + eps) * scale[c] + bias[c]`` (Ioffe and Szegedy, ICML 2015,
    algorithm 1). Without `mean` and `var` they are those of this batch, over all axes but the last; the variance
    divides by the number of values. In evaluation the caller gives running statistics.

    Parameters
    ----------
    x : array (..., C), float32 or float64
        At least one value for each channel where the statistics are the batch's own.
    scale, bias : array (C,), dtype of x
    mean, var : array (C,), dtype of x; both or neither
    eps : float, at least 0; keeps channels without variance finite

    Returns
    -------
    y (shape of x), mean (C,), var (C,), all of the dtype of x

    Raises
    ------
    TypeError
        For dtypes other than float32 and float64, or that differ.
    ValueError
        For shapes that do not match, one of mean and var without the other, no values to average.

    See Also
    --------
    batch_norm_backward : its gradients.

    Examples
    --------
    >>> import numpy as np
    >>> y, mean, var = batch_norm(np.array([[1.0], [3.0]]), np.ones(1), np.zeros(1), eps=0.0)
    >>> y[:, 0], mean, var
    (array([-1.,  1.]), array([2.]), array([1.]))
    """
    return of_batch(x, scale, bias, mean, var, eps)


def batch_norm_backward(
    dy: ArrayLike,
    x: ArrayLike,
    scale: ArrayLike,
    mean: ArrayLike,
    var: ArrayLike,
    *,
    eps: float = 1e-5,
    batch_statistics: bool = True,
) -> Gradients:
    """Return the gradients of `batch_norm` with respect to x, scale and bias.

    With ``z = (x - mean) / sqrt(var + eps)``: ``dbias = sum dy``, ``dscale = sum dy * z`` and ``dx = scale /
    sqrt(var + eps) * (dy - mean(dy) - z * mean(dy * z))``, sums and means over all axes but the last. With given
    statistics, through which no gradient flows, ``dx = scale / sqrt(var + eps) * dy``.

    Parameters
    ----------
    dy : array, shape and dtype of x
    x, scale, eps
        As given to `batch_norm`.
    mean, var : array (C,), as `batch_norm` returned them
    batch_statistics : bool
        Whether they are the statistics of x itself.

    Returns
    -------
    dx (shape of x), dscale (C,), dbias (C,)

    Raises
    ------
    TypeError, ValueError
        As `batch_norm`, and where dy has not the shape of x.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[0.0], [1.0], [5.0]])
    >>> dx, dscale, dbias = batch_norm_backward(np.ones((3, 1)), x, np.ones(1), x.mean(axis=0), x.var(axis=0))
    >>> bool(abs(dx).max() < 1e-12), dbias  # adding one number to the whole batch changes nothing
    (True, array([3.]))
    """
    return of_batch_backward(dy, x, scale, mean, var, eps, boolean(batch_statistics, "batch_statistics"))


def group_norm(x: ArrayLike, groups: int, scale: ArrayLike, bias: ArrayLike, *, eps: float = 1e-5) -> NDArray[Any]:
    """Normalize each image over all its pixels and the channels of a group.

    ``y[n, p, c] = (x[n, p, c] - mean[n, g]) / sqrt(var[n, g] + eps) * scale[c] + bias[c]``, g being the group of c:
    neighboring channels, C / groups of them (Wu and He, ECCV 2018, section 3). One group for each channel is
    instance normalization.

    Parameters
    ----------
    x : array (N, *spatial, C), float32 or float64
        One, two or three spatial axes, at least one pixel.
    groups : int that divides C
    scale, bias : array (C,), dtype of x
    eps : float, at least 0

    Returns
    -------
    array, shape and dtype of x

    Raises
    ------
    TypeError
        For dtypes other than float32 and float64, or that differ; for a number of groups that is not an integer.
    ValueError
        For a wrong rank, no pixels, shapes that do not match, groups that do not divide the channels.

    See Also
    --------
    group_norm_with_statistics : also returns the mean and the variance of each group.
    group_norm_backward : its gradients.

    Examples
    --------
    >>> import numpy as np
    >>> group_norm(np.array([[[1.0, 10.0], [3.0, 30.0]]]), 2, np.ones(2), np.zeros(2), eps=0.0)
    array([[[-1., -1.],
            [ 1.,  1.]]])
    """
    return group_norm_with_statistics(x, groups, scale, bias, eps=eps)[0]


def group_norm_with_statistics(
    x: ArrayLike, groups: int, scale: ArrayLike, bias: ArrayLike, *, eps: float = 1e-5
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return what `group_norm` returns, and the mean and the variance of each group of each image.

    Parameters
    ----------
    x, groups, scale, bias, eps
        As of `group_norm`.

    Returns
    -------
    y (shape of x), mean (N, groups), var (N, groups), all of the dtype of x

    Raises
    ------
    TypeError, ValueError
        As `group_norm`.

    See Also
    --------
    group_norm_with_statistics_backward : its gradients.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[[1.0, 10.0], [3.0, 30.0]]])
    >>> group_norm_with_statistics(x, 2, np.ones(2), np.zeros(2))[1:]
    (array([[ 2., 20.]]), array([[  1., 100.]]))
    """
    x, groups = _grouped(x, groups)
    scale, bias, eps = channel_values(scale, "scale", x), channel_values(bias, "bias", x), epsilon(eps)
    y = empty(x.shape, x.dtype)
    mean, var = np.empty((2, len(x), groups), x.dtype)
    if x.size:
        threads = threads_for(COST * x.size)
        kernels_for(x).norm_forward(x, scale, bias, None, y, mean, var, False, False, len(x), groups, eps, threads)
    return y, mean, var


def group_norm_backward(dy: ArrayLike, x: ArrayLike, groups: int, scale: ArrayLike, *, eps: float = 1e-5) -> Gradients:
    """Return the gradients of `group_norm` with respect to x, scale and bias.

    As those of `batch_norm_backward`, with means over the pixels of an image and the channels of a group.

    Parameters
    ----------
    dy : array, shape and dtype of x
    x, groups, scale, eps
        As given to `group_norm`.

    Returns
    -------
    dx (shape of x), dscale (C,), dbias (C,)

    Raises
    ------
    TypeError, ValueError
        As `group_norm`, and where dy has not the shape of x.

    See Also
    --------
    group_norm_with_statistics_backward : the same from mean and variance, which is faster.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[[1.0, 10.0], [3.0, 30.0]]])
    >>> group_norm_backward(np.ones((1, 2, 2)), x, 2, np.ones(2), eps=0.0)[2]
    array([2., 2.])
    """
    x, groups = _grouped(x, groups)
    return _backward(dy, x, channel_values(scale, "scale", x), None, None, None, True, len(x), groups, eps)


def group_norm_with_statistics_backward(
    dy: ArrayLike,
    x: ArrayLike,
    groups: int,
    scale: ArrayLike,
    mean: ArrayLike,
    var: ArrayLike,
    *,
    eps: float = 1e-5,
) -> Gradients:
    """Return the gradients of `group_norm` from the mean and the variance of each group.

    Parameters
    ----------
    dy : array, shape and dtype of x
    x, groups, scale, eps
        As given to `group_norm_with_statistics`.
    mean, var : array (N, groups), as it returned them

    Returns
    -------
    dx (shape of x), dscale (C,), dbias (C,)

    Raises
    ------
    TypeError, ValueError
        As `group_norm_backward`.

    Examples
    --------
    >>> import numpy as np
    >>> x, mean, var = np.array([[[1.0, 10.0], [3.0, 30.0]]]), np.array([[2.0, 20.0]]), np.array([[1.0, 100.0]])
    >>> group_norm_with_statistics_backward(np.ones((1, 2, 2)), x, 2, np.ones(2), mean, var, eps=0.0)[2]
    array([2., 2.])
    """
    x, groups = _grouped(x, groups)
    scale, mean, var = (
        channel_values(scale, "scale", x),
        float_array(mean, "mean", like=x),
        float_array(var, "var", like=x),
    )
    for array, name in ((mean, "mean"), (var, "var")):
        require_shape(array, (len(x), groups), name, "one value for each group of each image")
    return _backward(dy, x, scale, None, mean, var, True, len(x), groups, eps)


class Statistics(NamedTuple):
    """What a batch normalization takes beside x, checked; mean and var are yet to be computed where they are not `given`."""

    scale: NDArray[Any]
    bias: NDArray[Any]
    mean: NDArray[Any]
    var: NDArray[Any]
    given: bool
    eps: float


def statistics(
    x: NDArray[Any], scale: ArrayLike, bias: ArrayLike, mean: ArrayLike | None, var: ArrayLike | None, eps: float
) -> Statistics:
    """Check what `batch_norm` takes beside x, and make room for what is not given."""
    scale, bias, eps = channel_values(scale, "scale", x), channel_values(bias, "bias", x), epsilon(eps)
    if mean is not None and var is not None:
        return Statistics(scale, bias, channel_values(mean, "mean", x), channel_values(var, "var", x), True, eps)
    if mean is not None or var is not None:
        raise ValueError(f"mean and var must be given both or not at all, got mean={mean!r} and var={var!r}")
    if x.size == 0:
        raise ValueError(f"x must have at least one value for each channel to average, got shape {x.shape}")
    return Statistics(scale, bias, np.empty_like(scale), np.empty_like(scale), False, eps)


def of_batch(
    x: ArrayLike,
    scale: ArrayLike,
    bias: ArrayLike,
    mean: ArrayLike | None,
    var: ArrayLike | None,
    eps: float,
    *,
    residual: NDArray[Any] | None = None,
    relu: bool = False,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return what `batch_norm` returns, after a residual (of the shape of x) and a ReLU where they are asked for."""
    x = norm_input(x)
    scale, bias, mean, var, given, eps = statistics(x, scale, bias, mean, var, eps)
    y = empty(x.shape, x.dtype)
    if x.size:
        threads = threads_for(COST * x.size)
        kernels_for(x).norm_forward(x, scale, bias, residual, y, mean, var, given, relu, 1, x.shape[-1], eps, threads)
    return y, mean, var


def of_batch_backward(
    dy: ArrayLike,
    x: ArrayLike,
    scale: ArrayLike,
    mean: ArrayLike,
    var: ArrayLike,
    eps: float,
    through: bool,
    *,
    relu_bias: ArrayLike | None = None,
) -> Gradients:
    """Return what `batch_norm_backward` returns; with the bias `relu_bias`, of a gradient that first passes a ReLU."""
    x = norm_input(x)
    scale, mean, var = channel_values(scale, "scale", x), channel_values(mean, "mean", x), channel_values(var, "var", x)
    bias = None if relu_bias is None else channel_values(relu_bias, "bias", x)
    return _backward(dy, x, scale, bias, mean, var, through, 1, x.shape[-1], eps)


def _backward(
    dy: ArrayLike,
    x: NDArray[Any],
    scale: NDArray[Any],
    relu_bias: NDArray[Any] | None,
    mean: NDArray[Any] | None,
    var: NDArray[Any] | None,
    through: bool,
    sets: int,
    groups: int,
    eps: float,
) -> Gradients:
    """Return the gradients of a normalization of so many sets of pixels; `through` the statistics too, or not."""
    gradient, eps = norm_gradient(dy, x), epsilon(eps)
    dx = empty(x.shape, x.dtype)
    if x.size == 0:
        return dx, np.zeros_like(scale), np.zeros_like(scale)
    dscale, dbias = np.empty_like(scale), np.empty_like(scale)
    threads = threads_for(2 * COST * x.size)
    kernels_for(x).norm_backward(
        gradient, x, scale, relu_bias, mean, var, dx, dscale, dbias, through, sets, groups, eps, threads
    )
    return dx, dscale, dbias


def _grouped(x: ArrayLike, groups: Any) -> tuple[NDArray[Any], int]:
    array = images(x, "x")
    if 0 in array.shape[1:]:
        raise ValueError(f"x must have at least one pixel, got shape {array.shape}")
    groups = positive(groups, "groups")
    if array.shape[-1] % groups:
        raise ValueError(f"groups must divide the channels of x, {array.shape[-1]}, got {groups}")
    return array, groups
