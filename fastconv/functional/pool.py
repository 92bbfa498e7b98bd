"""Pooling: the largest value or the mean of each window, channel by channel, for one to three spatial axes.

Every kind of pooling comes down to windows along each axis (`fastconv.geometry.PoolAxis`), so they share two kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from numpy.typing import ArrayLike, NDArray

from fastconv._kernels._memory import empty, signature
from fastconv.functional._known import Known
from fastconv.functional._pool_plan import PoolPlan, adaptive_plan, image_shape, pool_plan
from fastconv.functional._validate import float_array, images, kernels_for, require_shape
from fastconv.threads import threads_for

#: The kernel of the gradient of a maximum numbers the pixels of an image in 32 bits.
MOST_PIXELS = 2**31 - 1

#: The plans of calls that came before, of each function.
_maxima, _maxima_back = Known[PoolPlan](), Known[PoolPlan]()
_means, _means_back = Known[PoolPlan](), Known[PoolPlan]()


def max_pool(
    x: ArrayLike,
    kernel_size: Any,
    *,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> NDArray[Any]:
    """Return the largest value of each window.

    ``y[n, p, q, c] = max_{r, s} x[n, p * stride + r * dilation - before, ..., c]`` over the pixels that exist:
    padding adds windows but no values. A NaN in a window makes its result NaN; a window without a pixel (possible
    with dilation) gives -inf.

    Parameters
    ----------
    x : array (N, *spatial, C), float32 or float64
        One, two or three spatial axes; any memory order; not changed.
    kernel_size : int or one int for each spatial axis, pixels
    stride : int or one for each axis, pixels; the kernel size where it is None
    padding : int, one int or a pair (before, after) for each axis, "same" or "valid"
        Smaller than the span of the kernel.
    dilation : int or one for each axis
    ceil_mode : bool
        Whether a last window may hang over the end (never begin there), so that no pixel is left out.

    Returns
    -------
    array (N, *output, C), dtype of x
        ``output = (size + before + after - dilation * (kernel - 1) - 1) // stride + 1``, or the quotient rounded up.

    Raises
    ------
    TypeError
        For dtypes other than float32 and float64; for arguments that are no integers.
    ValueError
        For a wrong rank, a kernel larger than the padded image, padding not smaller than the kernel, a stride below 1.

    See Also
    --------
    max_pool_backward : its gradient. adaptive_max_pool : windows from the output's size.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([1.0, 5.0, 2.0, 3.0, 4.0]).reshape(1, 5, 1)
    >>> max_pool(x, 2)[0, :, 0], max_pool(x, 2, ceil_mode=True)[0, :, 0]
    (array([5., 3.]), array([5., 3., 4.]))
    """
    call = signature(x, kernel_size, stride, padding, dilation, ceil_mode)
    plan = _maxima.get(call)
    if plan is None:
        x = images(x, "x")
        plan = _maxima.remember(call, pool_plan(x.shape, kernel_size, stride, padding, dilation, ceil_mode))
    return _max(x, plan)


def max_pool_backward(
    dy: ArrayLike,
    x: ArrayLike,
    kernel_size: Any,
    *,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> NDArray[Any]:
    """Return the gradient of `max_pool`: each window hands ``dy[n, p, q, c]`` to its largest pixel.

    Of equal pixels the first in row-major order takes all of it; a NaN is larger than any number, and the first NaN
    takes it.

    Parameters
    ----------
    dy : array (N, *output, C), dtype of x
        The gradient of the loss with respect to the output.
    x, kernel_size, stride, padding, dilation, ceil_mode
        As given to `max_pool`.

    Returns
    -------
    array, shape and dtype of x

    Raises
    ------
    TypeError, ValueError
        As `max_pool`, where dy has not the shape of the output, and for images of 2**31 pixels or more.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([1.0, 5.0, 3.0, 3.0]).reshape(1, 4, 1)
    >>> max_pool_backward(np.array([[[10.0], [20.0]]]), x, 2)[0, :, 0]
    array([ 0., 10., 20.,  0.])
    """
    call = signature(dy, x, kernel_size, stride, padding, dilation, ceil_mode)
    plan = _maxima_back.get(call)
    if plan is None:
        x = images(x, "x")
        plan = pool_plan(x.shape, kernel_size, stride, padding, dilation, ceil_mode)
        dy = _gradient_of_maxima(dy, plan, x)
        _maxima_back.remember(call, plan)
    return _max_backward(dy, x, plan)


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
    plan = _means.get(call)
    if plan is None:
        x = images(x, "x")
        plan = pool_plan(x.shape, kernel_size, stride, padding, dilation, ceil_mode, count_include_pad)
        _means.remember(call, plan)
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
    plan = _means_back.get(call)
    if plan is None:
        input_shape = image_shape(input_shape)
        plan = pool_plan(input_shape, kernel_size, stride, padding, dilation, ceil_mode, count_include_pad)
        dy = _output_gradient(dy, plan, None)
        _means_back.remember(call, plan)
    return _mean_backward(dy, input_shape, plan)


def adaptive_max_pool(x: ArrayLike, output_size: Any) -> NDArray[Any]:
    """Return the largest values of `output_size` windows that cover the image, whatever its size.

    Output ``i`` of ``P`` along an axis of ``H`` pixels sees those from ``floor(i * H / P)`` up to ``ceil((i + 1) *
    H / P)``.

    Parameters
    ----------
    x : array (N, *spatial, C), float32 or float64
    output_size : int or one int for each spatial axis; 1 is global pooling

    Returns
    -------
    array (N, *output_size, C), dtype of x

    Raises
    ------
    TypeError
        For dtypes other than float32 and float64; for a size that is no integer.
    ValueError
        For a wrong rank, no pixels, a size below 1.

    See Also
    --------
    adaptive_max_pool_backward : its gradient.

    Examples
    --------
    >>> import numpy as np
    >>> adaptive_max_pool(np.arange(5.0).reshape(1, 5, 1), 2)[0, :, 0]
    array([2., 4.])
    """
    x = images(x, "x")
    return _max(x, adaptive_plan(x.shape, output_size))


def adaptive_max_pool_backward(dy: ArrayLike, x: ArrayLike, output_size: Any) -> NDArray[Any]:
    """Return the gradient of `adaptive_max_pool`: to the first largest pixel of each window, as `max_pool_backward`.

    Parameters
    ----------
    dy : array (N, *output_size, C), dtype of x
    x, output_size
        As given to `adaptive_max_pool`.

    Returns
    -------
    array, shape and dtype of x

    Raises
    ------
    TypeError, ValueError
        As `adaptive_max_pool`, and where dy has not the shape of the output.

    Examples
    --------
    >>> import numpy as np
    >>> adaptive_max_pool_backward(np.array([[[3.0], [6.0]]]), np.arange(5.0).reshape(1, 5, 1), 2)[0, :, 0]
    array([0., 0., 3., 0., 6.])
    """
    x = images(x, "x")
    plan = adaptive_plan(x.shape, output_size)
    return _max_backward(_gradient_of_maxima(dy, plan, x), x, plan)


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


def _output_gradient(dy: ArrayLike, plan: PoolPlan, x: NDArray[Any] | None) -> NDArray[Any]:
    array = float_array(dy, "dy", like=x)
    require_shape(array, plan.y_shape, "dy", "the shape of the output")
    return array


def _gradient_of_maxima(dy: ArrayLike, plan: PoolPlan, x: NDArray[Any]) -> NDArray[Any]:
    array = _output_gradient(dy, plan, x)
    if prod(x.shape[1:-1]) > MOST_PIXELS:
        raise ValueError(f"x must have at most {MOST_PIXELS} pixels for a gradient, got shape {x.shape}")
    return array


def _max(x: Any, plan: PoolPlan) -> NDArray[Any]:
    y = empty(plan.y_shape, x.dtype)
    if y.size:
        kernels_for(x).max_pool_forward(x, 0, y, 0, plan.axes, *plan.sizes, threads_for(plan.reads))
    return y


def _max_backward(dy: Any, x: Any, plan: PoolPlan) -> NDArray[Any]:
    dx = empty(x.shape, x.dtype)
    if dx.size:
        threads = threads_for(2 * plan.reads)
        kernels_for(x).max_pool_backward(dy, x, dx, plan.axes, *plan.sizes, threads)
    return dx


def mean_of(x: Any, plan: PoolPlan) -> NDArray[Any]:
    """Return the mean of each window of a plan."""
    y = empty(plan.y_shape, x.dtype)
    if y.size:
        kernels_for(x).avg_pool_forward(x, 0, y, 0, plan.axes, *plan.sizes, threads_for(plan.reads))
    return y


def mean_of_backward(dy: ArrayLike, x_shape: tuple[int, ...], plan: PoolPlan) -> NDArray[Any]:
    """Return the gradient of `mean_of`."""
    return _mean_backward(_output_gradient(dy, plan, None), x_shape, plan)


def _mean_backward(dy: Any, x_shape: Any, plan: PoolPlan) -> NDArray[Any]:
    dx = empty(x_shape, dy.dtype)
    if dx.size:
        kernels_for(dy).avg_pool_backward(dy, dx, plan.axes, *plan.sizes, threads_for(plan.reads))
    return dx
