"""The operations on the plan of a convolution, as functions of arrays alone: what follows from the shapes is settled once.

Convolution, transposed convolution and their gradients are three of them: `forward` (windows of x times the weight), `adjoint`
(the same weight the other way) and `weight_gradient`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv import _kernels
from fastconv._kernels._memory import empty
from fastconv.functional._conv_plan import ConvPlan, spatial3, weight3
from fastconv.functional._validate import kernels_for
from fastconv.geometry import Axis
from fastconv.threads import threads_for

#: A weight gradient is cut into so many blocks at least, whatever the number of threads: partial sums are added in order.
ENOUGH_BLOCKS = 16

#: Bytes that all the partial sums of a depthwise weight gradient may take; a larger kernel is cut into fewer.
MOST_PARTIAL = 4 * 2**20

#: Pixels of one partial sum of a depthwise weight gradient: the rounding error grows with their number.
MOST_TERMS = 2**14

#: Where the records of axes have the number of taps.
TAPS = Axis._fields.index("taps")

#: Of x or dy, a weight and a bias or None; of two arrays; of dy. Their parameters are arrays, checked.
Multiply = Callable[[Any, Any, Any], NDArray[Any]]
Gradient = Callable[[Any, Any], NDArray[Any]]
Sum = Callable[[Any], NDArray[Any]]

#: What computes the gradients of x, the weight and the bias, None for those that nobody wants.
GradientCalls = tuple[Multiply | None, Gradient | None, Sum | None]


def _without_products(shape: tuple[int, ...], bias: NDArray[Any] | None, dtype: Any) -> NDArray[Any]:
    y = np.zeros(shape, dtype)
    if bias is not None:
        y += bias
    return y


def forward(plan: ConvPlan, dtype: np.dtype[Any]) -> Multiply:
    """Return the convolution of x (plan.x_shape): it makes an array of plan.y_shape."""
    modules, y_shape, axes, work = _kernels.modules, plan.y_shape, plan.axes, plan.multiply_adds
    (batch, channels, outputs, groups), (tile_h, tile_w) = plan.sizes, plan.forward.tile
    d, h, w = np.split(axes, 3)  # a convolution has one phase

    def depthwise(x: NDArray[Any], weight: NDArray[Any], bias: NDArray[Any] | None) -> NDArray[Any]:
        y = empty(y_shape, dtype)
        kernel = modules[dtype].depthwise
        kernel(spatial3(x), weight3(weight), bias, spatial3(y), d, h, w, False, None, None, threads_for(work))
        return y

    def product(x: NDArray[Any], weight: NDArray[Any], bias: NDArray[Any] | None) -> NDArray[Any]:
        y = empty(y_shape, dtype)
        modules[dtype].conv_forward(
            x, weight, bias, y, axes, batch, channels, outputs, groups, tile_h, tile_w, threads_for(work)
        )
        return y

    if plan.empty:
        return lambda x, weight, bias: _without_products(y_shape, bias, dtype)
    return depthwise if plan.forward.name == "depthwise" else product


def adjoint(plan: ConvPlan, dtype: np.dtype[Any]) -> Multiply:
    """Return the adjoint of the convolution at dy (plan.y_shape): it makes an array of plan.x_shape."""
    modules, x_shape, axes, work = _kernels.modules, plan.x_shape, plan.axes, plan.multiply_adds
    algorithm, (d, h, w), reached = plan.adjoint
    (batch, channels, outputs, groups), (tile_h, tile_w) = plan.sizes, algorithm.tile

    def depthwise(dy: NDArray[Any], weight: NDArray[Any], bias: NDArray[Any] | None) -> NDArray[Any]:
        dx = empty(x_shape, dtype) if reached else _without_products(x_shape, bias, dtype)
        kernel = modules[dtype].depthwise
        kernel(spatial3(dy), weight3(weight), bias, spatial3(dx), d, h, w, True, None, None, threads_for(work))
        return dx

    def product(dy: NDArray[Any], weight: NDArray[Any], bias: NDArray[Any] | None) -> NDArray[Any]:
        dx = empty(x_shape, dtype) if reached else _without_products(x_shape, bias, dtype)
        bias = plan.adjoint_bias(bias)
        modules[dtype].conv_backward_input(
            dy, weight, bias, dx, 0, axes, d, h, w, batch, channels, outputs, groups, tile_h, tile_w, threads_for(work)
        )
        return dx

    if plan.empty:
        return lambda dy, weight, bias: _without_products(x_shape, bias, dtype)
    return depthwise if algorithm.name == "depthwise" else product


def weight_gradient(plan: ConvPlan, dtype: np.dtype[Any]) -> Gradient:
    """Return the gradient of the weight as a function of x and dy: it makes an array of plan.weight_shape.

    Sums over pixels are cut into a number of parts that the shapes alone fix and added in order.
    """
    modules, shape, axes, work, enough = (
        _kernels.modules,
        plan.weight_shape,
        plan.axes,
        plan.multiply_adds,
        ENOUGH_BLOCKS,
    )
    algorithm, exchanged = plan.weight_gradient
    (batch, channels, outputs, groups), (tile_h, tile_w) = plan.sizes, algorithm.tile
    parts = _depthwise_parts(plan, dtype)

    def depthwise(x: NDArray[Any], dy: NDArray[Any]) -> NDArray[Any]:
        dweight = empty(shape, dtype)
        modules[dtype].depthwise_backward_weight(x, dy, dweight, axes, batch, channels, parts, threads_for(work))
        return dweight

    def product(x: NDArray[Any], dy: NDArray[Any]) -> NDArray[Any]:
        dweight = empty(shape, dtype)
        threads = threads_for(work)
        if exchanged is None or not _exchanged_gradient(plan, exchanged, x, dy, dweight, threads):
            modules[dtype].conv_backward_weight(
                x, dy, dweight, axes, batch, channels, outputs, groups, enough, tile_h, tile_w, threads
            )
        return dweight

    if plan.empty:
        return lambda x, dy: np.zeros(shape, dtype)
    return depthwise if algorithm.name == "depthwise" else product


def _depthwise_parts(plan: ConvPlan, dtype: np.dtype[Any]) -> int:
    lines = math.prod(plan.y_shape[:-2])  # (N, *spatial but the last)
    fitting = MOST_PARTIAL // (math.prod(plan.weight_shape) * dtype.itemsize)
    parts = max(ENOUGH_BLOCKS, math.prod(plan.y_shape[:-1]) // MOST_TERMS)
    return max(1, min(lines, fitting, parts))


def _exchanged_gradient(
    plan: ConvPlan, exchanged: int, x: NDArray[Any], dy: NDArray[Any], dweight: NDArray[Any], threads: int
) -> bool:
    """Write the gradient of the weight of the convolution of dy that makes x, turned; or return False.

    Padding is on the other side then: what is not finite in x or dy would meet other zeros.
    """
    kernels = kernels_for(x)
    lanes = kernels.describe()["vector_bytes"] // x.itemsize
    if lanes < exchanged or not np.isfinite(bias_gradient(dy)).all():
        return False
    batch, channels, outputs, groups = plan.sizes
    kernel = tuple(plan.axes[:, TAPS])
    turned = empty((*kernel, outputs, channels), x.dtype)
    sizes = batch, outputs, channels, groups
    kernels.conv_backward_weight(
        dy, x, turned, np.concatenate(plan.adjoint.phases), *sizes, ENOUGH_BLOCKS, 0, 0, threads
    )
    dweight.reshape(*kernel, channels, outputs)[...] = np.flip(turned, (0, 1, 2)).swapaxes(-1, -2)
    return bool(np.isfinite(dweight).all())


def bias_gradient(dy: NDArray[Any]) -> NDArray[Any]:
    """Return the sum of dy (..., O) over all axes but the last: shape (O,)."""
    if not dy.size:
        return np.zeros(dy.shape[-1], dy.dtype)
    sums = empty(dy.shape[-1:], dy.dtype)
    kernels_for(dy).column_sums(dy, sums, threads_for(dy.size))
    return sums


def gradient_calls(
    plan: ConvPlan, dtype: np.dtype[Any], wrt: tuple[str, ...], *, transposed: bool = False
) -> GradientCalls:
    """Return the gradients of a convolution, or of a transposed one, that are wanted: some of "x", "weight" and "bias"."""
    to_input = forward if transposed else adjoint
    return (
        to_input(plan, dtype) if "x" in wrt else None,
        weight_gradient(plan, dtype) if "weight" in wrt else None,
        bias_gradient if "bias" in wrt else None,
    )
