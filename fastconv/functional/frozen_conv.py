"""A convolution whose weight never changes again, with all that follows it in one step: the calls of a frozen model.

This is the one place that decides which kernels such a step calls, and in what form they get the weight.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv.functional._conv_plan import ConvPlan, weight3
from fastconv.functional.calls import Activation, Call, View, epilogue
from fastconv.functional.local import LocalPlan


def conv_calls(
    kernels: Any,
    plan: ConvPlan,
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    x: View,
    y: View,
    *,
    adjoint: bool = False,
    residual: View | None = None,
    activation: Activation | None = None,
) -> list[Call]:
    """Return the calls for ``y = f(conv(x, weight) + bias + residual)``, or with `adjoint` the transposed convolution.

    Parameters
    ----------
    kernels : module of kernels for the dtype of the arrays
    plan : ConvPlan
        Of the convolution, or of that whose adjoint this is; x and y have its shapes.
    weight, bias : arrays as `fastconv.functional.conv` takes them, C contiguous
    x, y, residual : View
        `residual` has the shape of y; y shares memory with neither.
    """
    if plan.empty:
        return _without_products(bias, y) + epilogue(kernels, activation, residual, y)
    algorithm = plan.backward_input if adjoint else plan.forward
    name = algorithm.name
    if name == "winograd":
        name += f" F({algorithm.tile[0]} x {algorithm.tile[1]})"
    calls = [] if plan.reached or not adjoint else _without_products(bias, y)
    kernel: Any
    args: tuple[Any, ...]
    if name == "depthwise":
        kernel = kernels.depthwise
        phases = plan.phases if adjoint else np.split(plan.axes, 3)  # a convolution has one phase
        args = (x.spatial3(), weight3(weight), bias, y.spatial3(), *phases, adjoint)
    elif adjoint:
        kernel = kernels.conv_backward_input
        args = (x, weight, bias, y, plan.axes, *plan.phases, *plan.sizes, *algorithm.tile)
    else:
        kernel = kernels.conv_forward
        args = (x, weight, bias, y, plan.axes, *plan.sizes, *algorithm.tile)
    calls.append(Call(name, kernel, args, plan.multiply_adds))
    return calls + epilogue(kernels, activation, residual, y)


def local_calls(
    kernels: Any,
    plan: LocalPlan,
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    x: View,
    y: View,
    *,
    residual: View | None = None,
    activation: Activation | None = None,
) -> list[Call]:
    """Return the calls for the same with a weight of its own at each position, as `functional.locally_connected` takes it."""
    calls = _without_products(None, y)
    if x.size:
        arguments = (x.spatial3(), weight.reshape(plan.weight3), y.spatial3(), plan.axes)
        calls.append(Call("local", kernels.local_forward, arguments, plan.multiply_adds))
    if bias is not None and y.size:
        calls.append(Call("bias", _add_in_place, (y, bias)))
    return calls + epilogue(kernels, activation, residual, y)


def _without_products(bias: NDArray[Any] | None, y: View) -> list[Call]:
    return [Call("fill", _fill, (y, 0 if bias is None else bias))] if y.size else []


def _fill(y: NDArray[Any], value: Any) -> None:
    y[...] = value


def _add_in_place(y: NDArray[Any], bias: NDArray[Any]) -> None:
    y += bias
