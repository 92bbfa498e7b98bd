"""Convolution and transposed convolution, forward and backward, for one to three spatial axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike, NDArray

from fastconv._kernels._memory import signature
from fastconv.accuracy import current_mode
from fastconv.arguments import positive
from fastconv.functional._conv_algorithm import wish
from fastconv.functional._conv_calls import GradientCalls, Multiply, adjoint, forward, gradient_calls
from fastconv.functional._conv_plan import ConvPlan, conv_plan, conv_transpose_plan
from fastconv.functional._known import Known
from fastconv.functional._validate import flat_arguments, float_array, images, require_shape, require_wrt

Gradients = tuple[NDArray[Any] | None, NDArray[Any] | None, NDArray[Any] | None]

#: What computes the calls that came before, of each function.
_convs, _conv_gradients = Known[Multiply](), Known[GradientCalls]()
_transposes, _transpose_gradients = Known[Multiply](), Known[GradientCalls]()


def _bias(bias: ArrayLike | None, channels: int, x: NDArray[Any]) -> NDArray[Any] | None:
    if bias is None:
        return None
    array = float_array(bias, "bias", like=x)
    require_shape(array, (channels,), "bias", "one value for each output channel")
    return array


def conv(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    algorithm: str | None = None,
) -> NDArray[Any]:
    """Convolve images with a weight that all positions share.

    ``y[n, p, q, o] = bias[o] + sum_{r, s, c} x[n, p * stride + r * dilation - before, ..., c] * weight[r, s, c, o]``,
    where x is zero outside its bounds (a cross-correlation, as in every deep learning library).

    Parameters
    ----------
    x : array (N, *spatial, C), float32 or float64
        One, two or three spatial axes; any memory order; not changed.
    weight : array (*kernel, C // groups, O), dtype of x
    bias : array (O,), dtype of x, optional
    stride, dilation : int or one int for each spatial axis
        Pixels between windows, and between the taps of one window.
    padding : int, one int or a pair (before, after) for each axis, "same" or "valid"
        Zeros around the image, in pixels. "same" gives ``ceil(size / stride)`` outputs.
    groups : int
        Channels are cut into so many groups; output group g sees input group g alone.
    algorithm : "product", "winograd", "strassen" or "depthwise", optional
        By default the fastest that `fastconv.precision` allows: `fastconv.explain_conv` says which, and why.

    Returns
    -------
    array (N, *output, O), dtype of x, with ``output = (size + before + after - dilation * (kernel - 1) - 1) // stride + 1``

    Raises
    ------
    TypeError
        For dtypes other than float32 and float64, or that differ; for arguments that are not integers.
    ValueError
        For a wrong rank, channels that do not match, a kernel larger than the padded image, a stride below 1, an
        algorithm that cannot compute this convolution.

    See Also
    --------
    conv_backward : its gradients. conv_transpose : its adjoint. fastconv.reference.conv : its definition in NumPy.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.ones((1, 4, 4, 1), np.float32)
    >>> box = np.ones((3, 3, 1, 1), np.float32)
    >>> conv(image, box, padding=1)[0, :, :, 0]
    array([[4., 6., 6., 4.],
           [6., 9., 9., 6.],
           [6., 9., 9., 6.],
           [4., 6., 6., 4.]], dtype=float32)
    """
    call = signature(x, weight, bias, stride, padding, dilation, groups, algorithm, current_mode())
    multiply = _convs.get(call)
    if multiply is None:
        x, weight, plan = _checked(x, weight, stride, padding, dilation, groups, algorithm)
        bias = _bias(bias, weight.shape[-1], x)
        multiply = _convs.remember(call, forward(plan, x.dtype))
    return multiply(x, weight, bias)


def conv_backward(
    dy: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    algorithm: str | None = None,
    wrt: Sequence[str] = ("x", "weight", "bias"),
) -> Gradients:
    """Return the gradients of `conv` with respect to x, weight and bias.

    ``dx`` is the adjoint of the convolution at dy; ``dweight[r, s, c, o] = sum_{n, p, q} x[window] * dy[n, p, q, o]``;
    ``dbias[o] = sum_{n, p, q} dy[n, p, q, o]``.

    Parameters
    ----------
    dy : array (N, *output, O), dtype of x
        The gradient of the loss with respect to the output.
    x, weight, stride, padding, dilation, groups, algorithm
        As given to `conv`.
    wrt : some of "x", "weight", "bias"
        What is left out is not computed and returned as None.

    Returns
    -------
    dx (shape of x), dweight (shape of weight), dbias (O,)

    Raises
    ------
    TypeError, ValueError
        As `conv`, and where dy has not the shape of the output.

    Notes
    -----
    A weight that is not finite may make NaN of its input channel at the border of dx, where a tap reaches beyond dy.

    Examples
    --------
    >>> import numpy as np
    >>> x, weight = np.ones((1, 3, 2)), np.ones((2, 2, 4))
    >>> dx, dweight, dbias = conv_backward(np.ones((1, 2, 4)), x, weight)
    >>> dx[0, :, 0], dbias
    (array([4., 8., 4.]), array([2., 2., 2., 2.]))
    """
    call = signature(dy, x, weight, stride, padding, dilation, groups, algorithm, wrt, current_mode())
    calls = _conv_gradients.get(call)
    if calls is None:
        x, weight, plan = _checked(x, weight, stride, padding, dilation, groups, algorithm)
        dy = float_array(dy, "dy", like=x)
        require_shape(dy, plan.y_shape, "dy", "the shape of the output")
        calls = _conv_gradients.remember(call, gradient_calls(plan, x.dtype, require_wrt(wrt)))
    of_x, of_weight, of_bias = calls
    return (
        of_x(dy, weight, None) if of_x else None,
        of_weight(x, dy) if of_weight else None,
        of_bias(dy) if of_bias else None,
    )


def conv_transpose(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    algorithm: str | None = None,
) -> NDArray[Any]:
    """Apply the adjoint of a convolution: each input pixel adds its value times the kernel to a window of the output.

    ``y[n, p * stride + r * dilation - before, ..., o] += x[n, p, q, c] * weight[r, s, o, c]``, plus ``bias[o]``
    (Dumoulin and Visin 2016, section 4). The weight is the array of the convolution whose adjoint this is.

    Parameters
    ----------
    x : array (N, *spatial, C), float32 or float64
    weight : array (*kernel, O // groups, C), dtype of x
    bias : array (O,), dtype of x, optional
    stride, padding, dilation, groups, algorithm
        Of the convolution whose adjoint this is. Padding "same" gives ``size * stride`` outputs.
    output_padding : int or one for each axis, smaller than stride or dilation
        Pixels added after the end: several input sizes of a strided convolution share one output size.

    Returns
    -------
    array (N, *output, O) with ``output = (size - 1) * stride - before - after + dilation * (kernel - 1) + 1 + output_padding``

    Raises
    ------
    TypeError, ValueError
        As `conv`.

    See Also
    --------
    conv_transpose_backward : its gradients.

    Notes
    -----
    A weight that is not finite may make NaN of its output channel at the border of y, where a tap reaches beyond x.

    Examples
    --------
    >>> import numpy as np
    >>> conv_transpose(np.array([[[1.0], [2.0]]]), np.ones((3, 1, 1)), stride=2)[0, :, 0]
    array([1., 1., 3., 2., 2.])
    """
    arguments = stride, padding, output_padding, dilation, groups, algorithm
    call = signature(x, weight, bias, *arguments, current_mode())
    multiply = _transposes.get(call)
    if multiply is None:
        x, weight, plan = _checked_transpose(x, weight, *arguments)
        bias = _bias(bias, plan.x_shape[-1], x)
        multiply = _transposes.remember(call, adjoint(plan, x.dtype))
    return multiply(x, weight, bias)


def conv_transpose_backward(
    dy: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike,
    *,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    algorithm: str | None = None,
    wrt: Sequence[str] = ("x", "weight", "bias"),
) -> Gradients:
    """Return the gradients of `conv_transpose` with respect to x, weight and bias.

    ``dx`` is the convolution of dy with the same weight, and ``dweight`` that convolution's weight gradient at x.

    Parameters
    ----------
    dy : array (N, *output, O), dtype of x
    x, weight, stride, padding, output_padding, dilation, groups, algorithm
        As given to `conv_transpose`.
    wrt : some of "x", "weight", "bias"
        What is left out is not computed and returned as None.

    Returns
    -------
    dx (shape of x), dweight (shape of weight), dbias (O,)

    Raises
    ------
    TypeError, ValueError
        As `conv_transpose`, and where dy has not the shape of the output.

    Examples
    --------
    >>> import numpy as np
    >>> dx, dweight, dbias = conv_transpose_backward(np.ones((1, 5, 1)), np.ones((1, 2, 1)), np.ones((3, 1, 1)), stride=2)
    >>> dx[0, :, 0], dweight[:, 0, 0], dbias
    (array([3., 3.]), array([2., 2., 2.]), array([5.]))
    """
    arguments = stride, padding, output_padding, dilation, groups, algorithm
    call = signature(dy, x, weight, *arguments, wrt, current_mode())
    calls = _transpose_gradients.get(call)
    if calls is None:
        x, weight, plan = _checked_transpose(x, weight, *arguments)
        dy = float_array(dy, "dy", like=x)
        require_shape(dy, plan.x_shape, "dy", "the shape of the output")
        calls = _transpose_gradients.remember(call, gradient_calls(plan, x.dtype, require_wrt(wrt), transposed=True))
    of_x, of_weight, of_bias = calls
    return (
        of_x(dy, weight, None) if of_x else None,
        of_weight(dy, x) if of_weight else None,
        of_bias(dy) if of_bias else None,
    )


def _checked(
    x: ArrayLike, weight: ArrayLike, stride: Any, padding: Any, dilation: Any, groups: int, algorithm: str | None
) -> tuple[NDArray[Any], NDArray[Any], ConvPlan]:
    """Check what `conv` and its backward pass are given, and return the arrays and the plan."""
    x = images(x, "x")
    weight = float_array(weight, "weight", like=x)
    plan = conv_plan(
        x.shape,
        weight.shape,
        flat_arguments(stride, "stride"),
        flat_arguments(padding, "padding"),
        flat_arguments(dilation, "dilation"),
        positive(groups, "groups"),
        wish(algorithm),
    )
    return x, weight, plan


def _checked_transpose(
    x: ArrayLike,
    weight: ArrayLike,
    stride: Any,
    padding: Any,
    output_padding: Any,
    dilation: Any,
    groups: int,
    algorithm: str | None,
) -> tuple[NDArray[Any], NDArray[Any], ConvPlan]:
    """The same for `conv_transpose`."""
    x = images(x, "x")
    weight = float_array(weight, "weight", like=x)
    plan = conv_transpose_plan(
        x.shape,
        weight.shape,
        flat_arguments(stride, "stride"),
        flat_arguments(padding, "padding"),
        flat_arguments(output_padding, "output_padding"),
        flat_arguments(dilation, "dilation"),
        positive(groups, "groups"),
        wish(algorithm),
    )
    return x, weight, plan
