"""Pooling by the mean of each window, channel by channel, for one to three spatial axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike, NDArray

from fastconv._kernels._memory import empty, signature
from fastconv.functional._known import Known
from fastconv.functional._pool_plan import PoolPlan, adaptive_plan, image_shape, output_gradient, pool_plan
from fastconv.functional._validate import images, kernels_for
from fastconv.threads import threads_for

#: The plans of calls that came before, of each function.
_plans, _plans_back = Known[PoolPlan](), Known[PoolPlan]()


def avg_pool(
    x: ArrayLike,
    kernel_size: Any,
    *,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = False,
) -> NDArray[Any]:
    """Return the mean of each window.

    ``y[n, p, q, c] = 1 / count[p, q] * sum_{r, s} x[n, p * stride + r - before, ..., c]``, where count is the
    number of pixels in the window that exist, or, with `count_include_pad`, the pixels and the padding in it.

    Parameters
    ----------
    x : array (N, *spatial, C), float32 or float64
    kernel_size, stride, padding, dilation, ceil_mode
        As for `max_pool`.
    count_include_pad : bool
        Whether the mean counts padding as pixels that are zero.

    Returns
    -------
    array (N, *output, C), dtype of x

    Raises
    ------
    TypeError, ValueError
        As `max_pool`.

    See Also
    --------
    avg_pool_backward : its gradient. adaptive_avg_pool : windows from the output's size.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([2.0, 4.0, 6.0]).reshape(1, 3, 1)
    >>> avg_pool(x, 2, stride=1, padding=1)[0, :, 0]
    array([2., 3., 5., 6.])
    >>> avg_pool(x, 2, stride=1, padding=1, count_include_pad=True)[0, :, 0]
    array([1., 3., 5., 3.])
    """
    call = signature(x, kernel_size, stride, padding, dilation, ceil_mode, count_include_pad)
    plan = _plans.get(call)
    if plan is None:
        x = images(x, "x")
        plan = pool_plan(x.shape, kernel_size, stride, padding, dilation, ceil_mode, count_include_pad)
        _plans.remember(call, plan)
    return mean_of(x, plan)


def avg_pool_backward(
    dy: ArrayLike,
    input_shape: Sequence[int],
    kernel_size: Any,
    *,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = False,
) -> NDArray[Any]:
    """Return the gradient of `avg_pool`: each window hands ``dy[n, p, q, c] / count[p, q]`` to all of its pixels.

    Parameters
    ----------
    dy : array (N, *output, C), float32 or float64
    input_shape : shape of x, (N, *spatial, C)
    kernel_size, stride, padding, dilation, ceil_mode, count_include_pad
        As given to `avg_pool`.

    Returns
    -------
    array of `input_shape`, dtype of dy

    Raises
    ------
    TypeError, ValueError
        As `avg_pool`, and where dy has not the shape of the output.

    Examples
    --------
    >>> import numpy as np
    >>> avg_pool_backward(np.array([[[10.0], [20.0]]]), (1, 4, 1), 2)[0, :, 0]
    array([ 5.,  5., 10., 10.])
    """
    call = signature(dy, input_shape, kernel_size, stride, padding, dilation, ceil_mode, count_include_pad)
    plan = _plans_back.get(call)
    if plan is None:
        input_shape = image_shape(input_shape)
        plan = pool_plan(input_shape, kernel_size, stride, padding, dilation, ceil_mode, count_include_pad)
        dy = output_gradient(dy, plan)
        _plans_back.remember(call, plan)
    return _mean_backward(dy, input_shape, plan)


def adaptive_avg_pool(x: ArrayLike, output_size: Any) -> NDArray[Any]:
    """Return the means of `output_size` windows that cover the image, whatever its size.

    The windows are those of `adaptive_max_pool`; they may overlap by a pixel. Arguments and errors as there.

    Returns
    -------
    array (N, *output_size, C), dtype of x

    See Also
    --------
    adaptive_avg_pool_backward : its gradient.

    Examples
    --------
    >>> import numpy as np
    >>> adaptive_avg_pool(np.arange(5.0).reshape(1, 5, 1), 2)[0, :, 0]
    array([1., 3.])
    """
    x = images(x, "x")
    return mean_of(x, adaptive_plan(x.shape, output_size))


def adaptive_avg_pool_backward(dy: ArrayLike, input_shape: Sequence[int], output_size: Any) -> NDArray[Any]:
    """Return the gradient of `adaptive_avg_pool`: each window hands its pixels equal shares of dy.

    Parameters
    ----------
    dy : array (N, *output_size, C), float32 or float64
    input_shape : shape of x, (N, *spatial, C)
    output_size
        As given to `adaptive_avg_pool`.

    Returns
    -------
    array of `input_shape`, dtype of dy

    Raises
    ------
    TypeError, ValueError
        As `adaptive_avg_pool`, and where dy has not the shape of the output.

    Examples
    --------
    >>> import numpy as np
    >>> adaptive_avg_pool_backward(np.array([[[3.0], [6.0]]]), (1, 5, 1), 2)[0, :, 0]
    array([1., 1., 3., 2., 2.])
    """
    shape = image_shape(input_shape)
    return mean_of_backward(dy, shape, adaptive_plan(shape, output_size))


def mean_of(x: Any, plan: PoolPlan) -> NDArray[Any]:
    """Return the mean of each window of a plan."""
    y = empty(plan.y_shape, x.dtype)
    if y.size:
        kernels_for(x).avg_pool_forward(x, 0, y, 0, plan.axes, *plan.sizes, threads_for(plan.reads))
    return y


def mean_of_backward(dy: ArrayLike, x_shape: tuple[int, ...], plan: PoolPlan) -> NDArray[Any]:
    """Return the gradient of `mean_of`."""
    return _mean_backward(output_gradient(dy, plan), x_shape, plan)


def _mean_backward(dy: Any, x_shape: Any, plan: PoolPlan) -> NDArray[Any]:
    dx = empty(x_shape, dy.dtype)
    if dx.size:
        kernels_for(dy).avg_pool_backward(dy, dx, plan.axes, *plan.sizes, threads_for(plan.reads))
    return dx
