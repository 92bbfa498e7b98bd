"""Pooling by the largest value of each window, channel by channel, for one to three spatial axes.

The backward pass hands a gradient to the position of the maximum, which `max_pool_places` keeps.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, NDArray

from fastconv._kernels._memory import empty, signature
from fastconv.functional._known import Known
from fastconv.functional._pool_plan import PoolPlan, adaptive_plan, output_gradient, pool_plan
from fastconv.functional._validate import images, kernels_for
from fastconv.functional.places import Places
from fastconv.threads import threads_for

#: The plans of calls that came before, of each function.
_plans, _placed = Known[PoolPlan](), Known[PoolPlan]()


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
    max_pool_backward : its gradient. max_pool_places : where the largest values are, too.
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
    takes it. `max_pool_places_backward` does the same without looking for them again.

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
    _, places = max_pool_places(x, kernel_size, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode)
    return _backward(_gradient(dy, places, x), places)


def max_pool_places(
    x: ArrayLike,
    kernel_size: Any,
    *,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> tuple[NDArray[Any], Places]:
    """Return what `max_pool` returns, and where in its window each value was found, for the backward pass.

    Of equal pixels it is the first in row-major order; a NaN is larger than any number, and it is the first NaN.

    Parameters
    ----------
    x, kernel_size, stride, padding, dilation, ceil_mode
        As for `max_pool`.

    Returns
    -------
    y : array (N, *output, C), dtype of x
    places : Places
        A byte for each output, or two or four where windows are large.

    Raises
    ------
    TypeError, ValueError
        As `max_pool`, and for windows of more than 2**31 pixels.

    See Also
    --------
    max_pool_places_backward : the gradient, from the places.

    Examples
    --------
    >>> import numpy as np
    >>> y, places = max_pool_places(np.array([1.0, 5.0, 3.0, 3.0]).reshape(1, 4, 1), 2)
    >>> y[0, :, 0], places.numbers[0, :, 0], places.pixels()[0, :, 0]
    (array([5., 3.]), array([1, 0], dtype=uint8), array([1, 2]))
    """
    call = signature(x, kernel_size, stride, padding, dilation, ceil_mode)
    plan = _placed.get(call)
    if plan is None:
        x = images(x, "x")
        plan = pool_plan(x.shape, kernel_size, stride, padding, dilation, ceil_mode)
        _placed.remember(call, plan)
    return _places(x, plan)


def max_pool_places_backward(dy: ArrayLike, places: Places) -> NDArray[Any]:
    """Return the gradient of `max_pool`: each window hands ``dy[n, p, q, c]`` to the pixel that is its place.

    Parameters
    ----------
    dy : array (N, *output, C), float32 or float64
        The gradient of the loss with respect to the output.
    places : Places
        As returned by `max_pool_places`.

    Returns
    -------
    array of the shape of x, dtype of dy

    Raises
    ------
    TypeError
        For dtypes other than float32 and float64, and for places that are not `Places`.
    ValueError
        Where dy has not the shape of the output.

    Examples
    --------
    >>> import numpy as np
    >>> y, places = max_pool_places(np.array([1.0, 5.0, 3.0, 3.0]).reshape(1, 4, 1), 2)
    >>> max_pool_places_backward(np.array([[[10.0], [20.0]]]), places)[0, :, 0]
    array([ 0., 10., 20.,  0.])
    """
    return _backward(_gradient(dy, places), places)


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
    _, places = adaptive_max_pool_places(x, output_size)
    return _backward(_gradient(dy, places, x), places)


def adaptive_max_pool_places(x: ArrayLike, output_size: Any) -> tuple[NDArray[Any], Places]:
    """Return what `adaptive_max_pool` returns, and where in its window each value was found, as `max_pool_places`.

    Arguments and errors are those of `adaptive_max_pool`.

    Returns
    -------
    y : array (N, *output_size, C), dtype of x
    places : Places

    See Also
    --------
    adaptive_max_pool_places_backward : the gradient, from the places.

    Examples
    --------
    >>> import numpy as np
    >>> y, places = adaptive_max_pool_places(np.arange(5.0).reshape(1, 5, 1), 2)
    >>> places.numbers[0, :, 0], places.pixels()[0, :, 0]
    (array([2, 2], dtype=uint8), array([2, 4]))
    """
    x = images(x, "x")
    return _places(x, adaptive_plan(x.shape, output_size))


def adaptive_max_pool_places_backward(dy: ArrayLike, places: Places) -> NDArray[Any]:
    """Return the gradient of `adaptive_max_pool`, as `max_pool_places_backward`.

    Parameters
    ----------
    dy : array (N, *output_size, C), float32 or float64
    places : Places
        As returned by `adaptive_max_pool_places`.

    Returns
    -------
    array of the shape of x, dtype of dy

    Examples
    --------
    >>> import numpy as np
    >>> y, places = adaptive_max_pool_places(np.arange(5.0).reshape(1, 5, 1), 2)
    >>> adaptive_max_pool_places_backward(np.array([[[3.0], [6.0]]]), places)[0, :, 0]
    array([0., 0., 3., 0., 6.])
    """
    return max_pool_places_backward(dy, places)


def _gradient(dy: ArrayLike, places: Places, x: NDArray[Any] | None = None) -> NDArray[Any]:
    if not isinstance(places, Places):
        raise TypeError(f"places must be what max_pool_places returned, got {type(places).__name__}")
    return output_gradient(dy, places.plan, x)


def _max(x: Any, plan: PoolPlan) -> NDArray[Any]:
    y = empty(plan.y_shape, x.dtype)
    if y.size:
        kernels_for(x).max_pool_forward(x, 0, y, 0, plan.axes, *plan.sizes, threads_for(plan.reads))
    return y


def _places(x: Any, plan: PoolPlan) -> tuple[NDArray[Any], Places]:
    if plan.place_dtype is None:
        raise ValueError(f"x must have windows of at most 2**31 pixels for a gradient, got shape {x.shape}")
    y, numbers = empty(plan.y_shape, x.dtype), empty(plan.y_shape, plan.place_dtype)
    if y.size:
        kernels_for(x).max_pool_places(x, y, numbers, plan.axes, *plan.sizes, threads_for(2 * plan.reads))
    return y, Places(numbers, plan, x.shape)


def _backward(dy: Any, places: Places) -> NDArray[Any]:
    dx, plan = empty(places.x_shape, dy.dtype), places.plan
    if dx.size:
        kernels_for(dy).max_pool_backward(dy, places.numbers, dx, plan.axes, *plan.sizes, threads_for(plan.reads))
    return dx
