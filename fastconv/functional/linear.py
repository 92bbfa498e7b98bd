"""Linear (fully connected) maps of the last axis."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any

from numpy.typing import ArrayLike, NDArray

from fastconv._kernels._memory import signature
from fastconv.accuracy import current_mode
from fastconv.functional._conv_algorithm import wish
from fastconv.functional._conv_calls import GradientCalls, Multiply, forward, gradient_calls
from fastconv.functional._conv_plan import ConvPlan, conv_plan
from fastconv.functional._known import Known
from fastconv.functional._validate import float_array, require_shape, require_wrt
from fastconv.functional.conv import Gradients

#: What computes the calls that came before.
_forwards, _gradients = Known[Multiply](), Known[GradientCalls]()


@lru_cache(maxsize=256)
def linear_plan(x_shape: tuple[int, ...], weight_shape: tuple[int, ...], algorithm: str | None) -> ConvPlan:
    """Return the plan of a 1x1 convolution of lines of pixels, for arrays of these shapes: they lie in memory alike.

    The first of several axes is that of the samples, which do not depend on each other. `algorithm` is a `wish`.
    """
    if len(weight_shape) != 2 or 0 in weight_shape:
        raise ValueError(f"weight must have shape (in, out), at least 1 each, got {weight_shape}")
    if not x_shape or x_shape[-1] != weight_shape[0]:
        raise ValueError(f"x must have shape (..., {weight_shape[0]}), the rows of weight, got {x_shape}")
    samples, rows = prod(x_shape[:-1][:1]), prod(x_shape[1:-1])
    pixels = (samples, rows) if rows else (0, 1)
    plan = conv_plan((*pixels, x_shape[-1]), (1, *weight_shape), 1, 0, 1, 1, algorithm)
    return plan._replace(x_shape=x_shape, weight_shape=weight_shape, y_shape=(*x_shape[:-1], weight_shape[1]))


def linear(x: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None) -> NDArray[Any]:
    """Multiply the last axis of x with a matrix: ``y[..., o] = bias[o] + sum_i x[..., i] * weight[i, o]``.

    Parameters
    ----------
    x : array (..., in), float32 or float64
    weight : array (in, out), dtype of x
    bias : array (out,), dtype of x, optional

    Returns
    -------
    array (..., out), dtype of x

    Raises
    ------
    TypeError
        For dtypes other than float32 and float64, or that differ.
    ValueError
        For shapes that do not match.

    See Also
    --------
    linear_backward : its gradients.

    Examples
    --------
    >>> import numpy as np
    >>> linear(np.array([[1.0, 2.0]]), np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]), np.ones(3))
    array([[2., 3., 4.]])
    """
    call = signature(x, weight, bias, current_mode())
    multiply = _forwards.get(call)
    if multiply is None:
        x = float_array(x, "x")
        weight = float_array(weight, "weight", like=x)
        plan = linear_plan(x.shape, weight.shape, wish(None))
        if bias is not None:
            bias = float_array(bias, "bias", like=x)
            require_shape(bias, weight.shape[1:], "bias", "one value for each output")
        multiply = _forwards.remember(call, forward(plan, x.dtype))
    return multiply(x, weight, bias)


def linear_backward(
    dy: ArrayLike, x: ArrayLike, weight: ArrayLike, *, wrt: Sequence[str] = ("x", "weight", "bias")
) -> Gradients:
    """Return the gradients of `linear`: ``dx = dy @ weight.T``, ``dweight = x.T @ dy``, ``dbias = sum dy``.

    Parameters
    ----------
    dy : array (..., out), dtype of x
    x, weight
        As given to `linear`.
    wrt : some of "x", "weight", "bias"
        What is left out is not computed and returned as None.

    Returns
    -------
    dx (shape of x), dweight (in, out), dbias (out,)

    Raises
    ------
    TypeError, ValueError
        As `linear`, and where dy has not the shape of the output.

    Examples
    --------
    >>> import numpy as np
    >>> dx, dweight, dbias = linear_backward(np.ones((1, 3)), np.array([[1.0, 2.0]]), np.ones((2, 3)))
    >>> dx, dbias
    (array([[3., 3.]]), array([1., 1., 1.]))
    """
    call = signature(dy, x, weight, wrt, current_mode())
    calls = _gradients.get(call)
    if calls is None:
        x = float_array(x, "x")
        weight, dy = float_array(weight, "weight", like=x), float_array(dy, "dy", like=x)
        plan = linear_plan(x.shape, weight.shape, wish(None))
        require_shape(dy, plan.y_shape, "dy", "the shape of the output")
        calls = _gradients.remember(call, gradient_calls(plan, x.dtype, require_wrt(wrt)))
    of_x, of_weight, of_bias = calls
    return (
        of_x(dy, weight, None) if of_x else None,
        of_weight(x, dy) if of_weight else None,
        of_bias(dy) if of_bias else None,
    )
