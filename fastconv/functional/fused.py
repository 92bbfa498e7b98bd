"""Several operations in one pass over memory, which is what limits each of them; the bits are those of one after the other.

Only sums that one pass takes over other numbers than several do are rounded differently.
"""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastconv._kernels._memory import empty, signature
from fastconv.arguments import boolean
from fastconv.functional import norm
from fastconv.functional._known import Known
from fastconv.functional._norm_arguments import COST, Gradients
from fastconv.functional._pool_plan import PoolPlan, output_gradient, pool_plan
from fastconv.functional._validate import float_array, images, kernels_for, require_shape
from fastconv.functional.max_pool import max_pool_with_indices, max_pool_with_indices_backward
from fastconv.functional.pool_indices import PoolIndices
from fastconv.threads import threads_for

#: What the kernel of normalized maxima takes: so many channels, and so many pixels in a window at most.
_CHANNELS, _TAPS = 16, 16
_BYTE = np.dtype(np.uint8)

#: Windows that see a pixel more often than this normalize it more often than it takes to read it again.
_MOST_READS = 3

#: The plans of calls that came before and go in one pass.
_plans = Known[PoolPlan]()


def batch_norm_relu(
    x: ArrayLike,
    scale: ArrayLike,
    bias: ArrayLike,
    *,
    residual: ArrayLike | None = None,
    mean: ArrayLike | None = None,
    var: ArrayLike | None = None,
    eps: float = 1e-5,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return ``relu(batch_norm(x) + residual)``, the end of a residual block (He et al., CVPR 2016), or without residual.

    Parameters
    ----------
    x, scale, bias, mean, var, eps
        As for `batch_norm`.
    residual : array, shape and dtype of x, optional
        What is added before the ReLU.

    Returns
    -------
    y (shape of x), mean (C,), var (C,), all of the dtype of x

    Raises
    ------
    TypeError, ValueError
        As `batch_norm`, and where residual has not the shape and the dtype of x.

    See Also
    --------
    batch_norm_relu_backward : its gradients.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[1.0], [3.0]])
    >>> y, _, _ = batch_norm_relu(x, np.ones(1), np.zeros(1), residual=np.full((2, 1), 2.0), eps=0.0)
    >>> y[:, 0]
    array([1., 3.])
    """
    if residual is not None:
        like = float_array(x, "x")
        residual = float_array(residual, "residual", like=like)
        require_shape(residual, like.shape, "residual", "the shape of x")
    return norm.of_batch(x, scale, bias, mean, var, eps, residual=residual, relu=True)


def batch_norm_relu_backward(
    dy: ArrayLike,
    x: ArrayLike,
    scale: ArrayLike,
    bias: ArrayLike,
    mean: ArrayLike,
    var: ArrayLike,
    *,
    eps: float = 1e-5,
    batch_statistics: bool = True,
) -> Gradients:
    """Return the gradients of `batch_norm_relu` without a residual: ``batch_norm_backward(relu_backward(dy, y=y), x, ...)``.

    Where the output was positive is computed again from x, which costs less than reading it. With a residual,
    ``g = relu_backward(dy, y=y)`` is its gradient, and `batch_norm_backward` takes g.

    Parameters
    ----------
    dy : array, shape and dtype of x
    x, scale, bias, eps
        As given to `batch_norm_relu`.
    mean, var : array (C,), as `batch_norm_relu` returned them
    batch_statistics : bool
        Whether they are the statistics of x itself.

    Returns
    -------
    dx (shape of x), dscale (C,), dbias (C,)

    Raises
    ------
    TypeError, ValueError
        As `batch_norm_backward`.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[0.0], [1.0], [5.0]])
    >>> _, mean, var = batch_norm_relu(x, np.ones(1), np.zeros(1))
    >>> batch_norm_relu_backward(np.ones((3, 1)), x, np.ones(1), np.zeros(1), mean, var)[2]  # two were cut off
    array([1.])
    """
    return norm.of_batch_backward(
        dy, x, scale, mean, var, eps, boolean(batch_statistics, "batch_statistics"), relu_bias=bias
    )


class Maxima(NamedTuple):
    """Where the maxima of `batch_norm_relu_max_pool` were found, and what x is there, for sums over them alone.

    None where that was not one pass, and where mean and var were given: an infinity or NaN beside the maxima takes part in the
    sums, and only statistics of x itself tell that there is none, or that nothing is finite anyway.
    """

    indices: PoolIndices
    sources: NDArray[Any] | None


def batch_norm_relu_max_pool(
    x: ArrayLike,
    scale: ArrayLike,
    bias: ArrayLike,
    kernel_size: Any,
    *,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    mean: ArrayLike | None = None,
    var: ArrayLike | None = None,
    eps: float = 1e-5,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], Maxima]:
    """Return ``max_pool(relu(batch_norm(x)))``, the end of a stage of VGG and the stem of ResNet.

    Parameters
    ----------
    x : array (N, *spatial, C), float32 or float64
    scale, bias, mean, var, eps
        As for `batch_norm`.
    kernel_size, stride, padding, dilation, ceil_mode
        As for `max_pool`.

    Returns
    -------
    y : array (N, *output, C), dtype of x
    mean, var : array (C,)
    maxima : Maxima
        For the backward pass.

    Raises
    ------
    TypeError, ValueError
        As `batch_norm` and `max_pool_with_indices`.

    See Also
    --------
    batch_norm_relu_max_pool_backward : its gradients.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([1.0, 3.0, 2.0, 2.0]).reshape(1, 4, 1)
    >>> y, mean, var, maxima = batch_norm_relu_max_pool(x, np.ones(1), np.zeros(1), 2, eps=0.0)
    >>> y[0, :, 0], mean, var, maxima.indices.numbers[0, 0]
    (array([1.41421356, 0.        ]), array([2.]), array([0.5]), array([1], dtype=uint8))
    """
    call = signature(x, kernel_size, stride, padding, dilation, ceil_mode)
    plan = _plans.get(call)
    if plan is None:
        x = images(x, "x")
        plan = pool_plan(x.shape, kernel_size, stride, padding, dilation, ceil_mode)
        if not _in_one_pass(x, plan):
            y, mean, var = batch_norm_relu(x, scale, bias, mean=mean, var=var, eps=eps)
            y, indices = max_pool_with_indices(
                y, kernel_size, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode
            )
            return y, mean, var, Maxima(indices, None)
        _plans.remember(call, plan)
    return _one_pass(x, plan, scale, bias, mean, var, eps)


def batch_norm_relu_max_pool_backward(
    dy: ArrayLike,
    x: ArrayLike,
    scale: ArrayLike,
    bias: ArrayLike,
    mean: ArrayLike,
    var: ArrayLike,
    maxima: Maxima,
    *,
    eps: float = 1e-5,
    batch_statistics: bool = True,
) -> Gradients:
    """Return the gradients of `batch_norm_relu_max_pool` with respect to x, scale and bias.

    Those of scale and bias, and the means in that of x, are sums over the maxima alone where mean and var were not given: no
    gradient gets to other pixels.

    Parameters
    ----------
    dy : array (N, *output, C), dtype of x
    x, scale, bias, eps
        As given to `batch_norm_relu_max_pool`.
    mean, var, maxima
        As it returned them.
    batch_statistics : bool
        Whether mean and var are the statistics of x itself.

    Returns
    -------
    dx (shape of x), dscale (C,), dbias (C,)

    Raises
    ------
    TypeError, ValueError
        As `batch_norm_backward`, and where dy has not the shape of the output.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([1.0, 3.0, 2.0, 2.0]).reshape(1, 4, 1)
    >>> y, mean, var, maxima = batch_norm_relu_max_pool(x, np.ones(1), np.zeros(1), 2)
    >>> batch_norm_relu_max_pool_backward(np.ones((1, 2, 1)), x, np.ones(1), np.zeros(1), mean, var, maxima)[2]
    array([1.])
    """
    if not isinstance(maxima, Maxima):
        raise TypeError(f"maxima must be what batch_norm_relu_max_pool returned, got {type(maxima).__name__}")
    x = images(x, "x")
    require_shape(x, maxima.indices.x_shape, "x", "the shape that was pooled")
    dy, through = output_gradient(dy, maxima.indices.plan, x), boolean(batch_statistics, "batch_statistics")
    if maxima.sources is None:
        dy = max_pool_with_indices_backward(dy, maxima.indices)
        return norm.of_batch_backward(dy, x, scale, mean, var, eps, through, relu_bias=bias)
    mean, var = float_array(mean, "mean", like=x), float_array(var, "var", like=x)
    n, dx = norm.statistics(x, scale, bias, mean, var, eps), empty(x.shape, x.dtype)
    dscale, dbias = np.empty_like(n.scale), np.empty_like(n.scale)
    indices, plan = maxima.indices.numbers, maxima.indices.plan
    kernels_for(x).norm_pool_backward(
        dy, indices, maxima.sources, x, n.scale, n.bias, n.mean, n.var, dx, dscale, dbias, through, plan.axes, len(x), n.eps,
        _threads(x, plan),
    )  # fmt: skip
    return dx, dscale, dbias


def _one_pass(x: Any, plan: PoolPlan, *others: Any) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], Maxima]:
    """Return what `batch_norm_relu_max_pool` of these windows returns; `others` are its arguments from scale to eps."""
    n = norm.statistics(x, *others)
    y, sources, indices = empty(plan.y_shape, x.dtype), empty(plan.y_shape, x.dtype), empty(plan.y_shape, _BYTE)
    kernels_for(x).norm_pool_forward(
        x, n.scale, n.bias, y, indices, sources, n.mean, n.var, n.given, plan.axes, len(x), n.eps, _threads(x, plan)
    )
    return y, n.mean, n.var, Maxima(PoolIndices(indices, plan, x.shape), None if n.given else sources)


def _threads(x: NDArray[Any], plan: PoolPlan) -> int:
    return threads_for(COST * (x.size + plan.reads))


def _in_one_pass(x: NDArray[Any], plan: PoolPlan) -> bool:
    """Whether there is a kernel for windows over so many channels, and it is the faster way."""
    taps = prod(axis.window_taps for axis in plan.windows)
    gapless = all(axis.step == axis.parts == 1 for axis in plan.windows)
    return gapless and taps <= _TAPS and x.shape[-1] >= _CHANNELS and 0 < plan.reads <= _MOST_READS * x.size
