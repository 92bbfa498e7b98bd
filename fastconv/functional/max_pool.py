"""Pooling by the largest value of each window, channel by channel, for one to three spatial axes.

The backward pass hands a gradient to the position of the maximum, which `max_pool_with_indices` keeps.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, NDArray

from fastconv._kernels._memory import empty, signature
from fastconv.functional._known import Known
from fastconv.functional._pool_plan import PoolPlan, adaptive_plan, output_gradient, pool_plan
from fastconv.functional._validate import images, kernels_for
from fastconv.functional.pool_indices import PoolIndices
from fastconv.threads import threads_for

#: The plans of calls that came before, of each function.
_plans, _indexed = Known[PoolPlan](), Known[PoolPlan]()


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
        For dtypes other than float32 and float64; for arguments that are not integers.
    ValueError
        For a wrong rank, a kernel larger than the padded image, padding not smaller than the kernel, a stride below 1.

    See Also
    --------
    max_pool_backward : its gradient. max_pool_with_indices : where the largest values are, too.
    adaptive_max_pool : windows from the output's size.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([1.0, 5.0, 2.0, 3.0, 4.0]).reshape(1, 5, 1)
    >>> max_pool(x, 2)[0, :, 0], max_pool(x, 2, ceil_mode=True)[0, :, 0]
    (array([5., 3.]), array([5., 3., 4.]))
    """
    call = signature(x, kernel_size, stride, padding, dilation, ceil_mode)
    plan = _plans.get(call)
    if plan is None:
        x = images(x, "x")
        plan = _plans.remember(call, pool_plan(x.shape, kernel_size, stride, padding, dilation, ceil_mode))
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
    takes it. `max_pool_with_indices_backward` does the same without looking for them again.

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
        As `max_pool`, where dy has not the shape of the output, and for windows of more than 2**31 pixels.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([1.0, 5.0, 3.0, 3.0]).reshape(1, 4, 1)
    >>> max_pool_backward(np.array([[[10.0], [20.0]]]), x, 2)[0, :, 0]
    array([ 0., 10., 20.,  0.])
    """
    x = images(x, "x")
    _, indices = max_pool_with_indices(
        x, kernel_size, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode
    )
    return _backward(_gradient(dy, indices, x), indices)


def max_pool_with_indices(
    x: ArrayLike,
    kernel_size: Any,
    *,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> tuple[NDArray[Any], PoolIndices]:
    """Return what `max_pool` returns, and where in its window each value was found, for the backward pass.

    Of equal pixels it is the first in row-major order; a NaN is larger than any number, and it is the first NaN.

    Parameters
    ----------
    x, kernel_size, stride, padding, dilation, ceil_mode
        As for `max_pool`.

    Returns
    -------
    y : array (N, *output, C), dtype of x
    indices : PoolIndices
        A byte for each output, or two or four where windows are large.

    Raises
    ------
    TypeError, ValueError
        As `max_pool`, and for windows of more than 2**31 pixels.

    See Also
    --------
    max_pool_with_indices_backward : the gradient, from the indices.

    Examples
    --------
    >>> import numpy as np
    >>> y, indices = max_pool_with_indices(np.array([1.0, 5.0, 3.0, 3.0]).reshape(1, 4, 1), 2)
    >>> y[0, :, 0], indices.numbers[0, :, 0], indices.pixels()[0, :, 0]
    (array([5., 3.]), array([1, 0], dtype=uint8), array([1, 2]))
    """
    call = signature(x, kernel_size, stride, padding, dilation, ceil_mode)
    plan = _indexed.get(call)
    if plan is None:
        x = images(x, "x")
        plan = pool_plan(x.shape, kernel_size, stride, padding, dilation, ceil_mode)
        _indexed.remember(call, plan)
    return _with_indices(x, plan)


def max_pool_with_indices_backward(dy: ArrayLike, indices: PoolIndices) -> NDArray[Any]:
    """Return the gradient of `max_pool`: each window hands ``dy[n, p, q, c]`` to the pixel that is its place.

    Parameters
    ----------
    dy : array (N, *output, C), float32 or float64
        The gradient of the loss with respect to the output.
    indices : PoolIndices
        As returned by `max_pool_with_indices`.

    Returns
    -------
    array of the shape of x, dtype of dy

    Raises
    ------
    TypeError
        For dtypes other than float32 and float64, and for indices that are not `PoolIndices`.
    ValueError
        Where dy has not the shape of the output.

    Examples
    --------
    >>> import numpy as np
    >>> y, indices = max_pool_with_indices(np.array([1.0, 5.0, 3.0, 3.0]).reshape(1, 4, 1), 2)
    >>> max_pool_with_indices_backward(np.array([[[10.0], [20.0]]]), indices)[0, :, 0]
    array([ 0., 10., 20.,  0.])
    """
    return _backward(_gradient(dy, indices), indices)


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
        For dtypes other than float32 and float64; for a size that is not an integer.
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
    _, indices = adaptive_max_pool_with_indices(x, output_size)
    return _backward(_gradient(dy, indices, x), indices)


def adaptive_max_pool_with_indices(x: ArrayLike, output_size: Any) -> tuple[NDArray[Any], PoolIndices]:
    """Return what `adaptive_max_pool` returns, and where in its window each value was found, as `max_pool_with_indices`.

    Arguments and errors are those of `adaptive_max_pool`.

    Returns
    -------
    y : array (N, *output_size, C), dtype of x
    indices : PoolIndices

    See Also
    --------
    adaptive_max_pool_with_indices_backward : the gradient, from the indices.

    Examples
    --------
    >>> import numpy as np
    >>> y, indices = adaptive_max_pool_with_indices(np.arange(5.0).reshape(1, 5, 1), 2)
    >>> indices.numbers[0, :, 0], indices.pixels()[0, :, 0]
    (array([2, 2], dtype=uint8), array([2, 4]))
    """
    x = images(x, "x")
    return _with_indices(x, adaptive_plan(x.shape, output_size))


def adaptive_max_pool_with_indices_backward(dy: ArrayLike, indices: PoolIndices) -> NDArray[Any]:
    """Return the gradient of `adaptive_max_pool`, as `max_pool_with_indices_backward`.

    Parameters
    ----------
    dy : array (N, *output_size, C), float32 or float64
    indices : PoolIndices
        As returned by `adaptive_max_pool_with_indices`.

    Returns
    -------
    array of the shape of x, dtype of dy

    Examples
    --------
    >>> import numpy as np
    >>> y, indices = adaptive_max_pool_with_indices(np.arange(5.0).reshape(1, 5, 1), 2)
    >>> adaptive_max_pool_with_indices_backward(np.array([[[3.0], [6.0]]]), indices)[0, :, 0]
    array([0., 0., 3., 0., 6.])
    """
    return max_pool_with_indices_backward(dy, indices)


def _gradient(dy: ArrayLike, indices: PoolIndices, x: NDArray[Any] | None = None) -> NDArray[Any]:
    if not isinstance(indices, PoolIndices):
        raise TypeError(f"indices must be what max_pool_with_indices returned, got {type(indices).__name__}")
    return output_gradient(dy, indices.plan, x)


def _max(x: Any, plan: PoolPlan) -> NDArray[Any]:
    y = empty(plan.y_shape, x.dtype)
    if y.size:
        kernels_for(x).max_pool_forward(x, 0, y, 0, plan.axes, *plan.sizes, threads_for(plan.reads))
    return y


def _with_indices(x: Any, plan: PoolPlan) -> tuple[NDArray[Any], PoolIndices]:
    if plan.index_dtype is None:
        raise ValueError(f"x must have windows of at most 2**31 pixels for a gradient, got shape {x.shape}")
    y, numbers = empty(plan.y_shape, x.dtype), empty(plan.y_shape, plan.index_dtype)
    if y.size:
        kernels_for(x).max_pool_places(x, y, numbers, plan.axes, *plan.sizes, threads_for(2 * plan.reads))
    return y, PoolIndices(numbers, plan, x.shape)


def _backward(dy: Any, indices: PoolIndices) -> NDArray[Any]:
    dx, plan = empty(indices.x_shape, dy.dtype), indices.plan
    if dx.size:
        kernels_for(dy).max_pool_backward(dy, indices.numbers, dx, plan.axes, *plan.sizes, threads_for(plan.reads))
    return dx
