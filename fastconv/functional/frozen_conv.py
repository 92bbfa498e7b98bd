"""A convolution whose weight never changes again, with all that follows it in one step: the calls of a frozen model.

This is the one place that decides which kernels such a step calls, and in what form they get the weight.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastconv.functional._conv_algorithm import FAST, Algorithm, wish
from fastconv.functional._conv_plan import ConvPlan, weight3
from fastconv.functional.calls import Activation, Call, View, epilogue
from fastconv.functional.frozen_weight import Weight, array_of, packed_weight
from fastconv.functional.linear import linear_plan
from fastconv.functional.local import LocalPlan

#: Elements of the widest vectors.
WHOLE = 16

#: So many vectors that one more, which is not full, takes no time to speak of.
FEW = 2

#: Columns of the widest panel, and what the kernel for shuffled channels takes: channels of a group, elements of all panels.
PANEL, MOST_DEPTH, MOST_SHUFFLED = 32, 256, 2**20

#: So many times as long takes a multiply-add with a weight that no other pixel meets: it comes from far.
READ_ONCE = 2


def conv_calls(
    kernels: Any,
    plan: ConvPlan,
    weight: NDArray[Any] | Weight,
    bias: NDArray[Any] | None,
    x: View,
    y: View,
    *,
    residual: View | None = None,
    activation: Activation | None = None,
    parts: int = 1,
) -> list[Call]:
    """Return the calls for ``y = f(conv(x, weight) + bias + residual)``.

    Parameters
    ----------
    kernels : module of kernels for the dtype of the arrays
    plan : ConvPlan
        Of the convolution; x and y have its shapes.
    weight, bias : arrays as `fastconv.functional.conv` takes them, C contiguous
    x, y, residual : View
        `residual` has the shape of y; y shares memory with neither. y may be channels of another array for what
        `writes_channels` says.
    parts : int
        Groups take the channels of as many parts of x in turn, where `takes_parts` says that they may.
    """
    if plan.empty:
        return _without_products(bias, y) + epilogue(kernels, activation, residual, y)
    name = _named(plan.forward, residual, activation)
    kernel: Any
    args: tuple[Any, ...]
    if plan.forward.name == "depthwise":
        kernel = kernels.depthwise
        phases = np.split(plan.axes, 3)  # a convolution has one phase
        shortcut = residual.spatial3() if residual is not None else None
        args = (x.spatial3(), weight3(array_of(weight)), bias, y.spatial3(), *phases, False, shortcut, activation)
    else:
        kernel = kernels.conv_frozen
        shape = (plan.axes, *plan.sizes, *plan.forward.tile)
        args = (x, *_read(kernels, weight, shape), bias, residual, y, y.first, activation, parts, *shape)
    one_row = math.prod(plan.y_shape[:-1]) == 1
    return [Call(name, kernel, args, plan.multiply_adds * (READ_ONCE if one_row else 1))]


def takes_parts(plan: ConvPlan) -> bool:
    """Return whether the groups of a convolution may take the channels of several parts of the image in turn."""
    images = len(plan.x_shape) - 2
    plain = plan.weight_shape[:images] == (1,) * images and plan.x_shape[:-1] == plan.y_shape[:-1]
    depth, groups = plan.weight_shape[images], plan.sizes[3]
    packed = plan.sizes[1] * -(-plan.sizes[2] // groups // PANEL) * PANEL
    return plain and not plan.empty and groups > 1 and depth <= MOST_DEPTH and packed <= MOST_SHUFFLED


def product_calls(kernels: Any, x: View, matrix: View, y: View) -> list[Call]:
    """Return the call for ``y = x @ matrix``, all of two axes, where both come at each call."""
    plan = linear_plan(x.shape, matrix.shape, wish(None))
    shape = (plan.axes, *plan.sizes, *plan.forward.tile)
    arguments = (x, matrix, None, None, None, y, 0, None, 1, *shape)
    return [Call("product", kernels.conv_frozen, arguments, plan.multiply_adds)]


def writes_channels(plan: ConvPlan) -> bool:
    """Return whether a convolution can write its output as some of the channels of a larger array, and is not slower for it."""
    return not plan.empty and _writes_channels(plan.forward, plan.sizes[2])


def transposed_writes_channels(plan: ConvPlan) -> bool:
    """Return the same for a transposed convolution: it must write every pixel of its output, and each by itself."""
    apart = plan.adjoint.reached and plan.sizes[1] == plan.x_shape[-1]
    return not plan.empty and apart and _writes_channels(plan.adjoint.algorithm, plan.sizes[1])


def _writes_channels(algorithm: Algorithm, channels: int) -> bool:
    # the product writes vectors that are not full number by number: one of several does not matter
    full = channels % WHOLE == 0 or channels > FEW * WHOLE
    return algorithm.name in FAST or (algorithm.name == "product" and full)


def conv_transpose_calls(
    kernels: Any,
    plan: ConvPlan,
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    x: View,
    y: View,
    *,
    residual: View | None = None,
    activation: Activation | None = None,
) -> list[Call]:
    """Return the calls for the same with a transposed convolution: `plan` is of that whose adjoint it is.

    y may be channels of another array for what `transposed_writes_channels` says, where nothing else follows.
    """
    if plan.empty:
        return _without_products(bias, y) + epilogue(kernels, activation, residual, y)
    algorithm, phases, reached = plan.adjoint
    calls = [] if reached else _without_products(bias, y)
    kernel: Any
    args: tuple[Any, ...]
    if algorithm.name == "depthwise":
        kernel = kernels.depthwise
        args = (x.spatial3(), weight3(weight), bias, y.spatial3(), *phases, True, None, None)
    else:
        kernel = kernels.conv_backward_input
        args = (x, weight, plan.adjoint_bias(bias), y, y.first, plan.axes, *phases, *plan.sizes, *algorithm.tile)
    calls.append(Call(_named(algorithm), kernel, args, plan.multiply_adds))
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


class Part(NamedTuple):
    """A convolution of a block: its plan, its constants, the activation after it."""

    plan: ConvPlan
    weight: NDArray[Any] | Weight
    bias: NDArray[Any] | None
    activation: Activation | None

    def multiplied(self, kernels: Any) -> tuple[Any, ...]:
        """Return what the kernel of blocks takes for a product."""
        axes, sizes = self.plan.axes, self.plan.sizes
        read = _read(kernels, self.weight, (axes, *sizes, *self.plan.forward.tile))
        return *read, self.bias, axes, sizes[1], sizes[2]


def block_calls(
    kernels: Any,
    expansion: Part | None,
    depthwise: Part | None,
    gate: View | None,
    projection: Part | None,
    x: View,
    residual: View | None,
    y: View,
) -> list[Call]:
    """Return the call for convolutions one after the other, whose results between stay in the caches of the cores.

    The first and the last are products of one group, the last of each pixel by itself; None is left out. `gate` are factors for
    each channel of each image, instead of the first two. There are at least `WHOLE` channels between and as outputs, and
    nothing is empty.
    """
    parts = [part for part in (expansion, depthwise, projection) if part is not None]
    names = [_named(part.plan.forward, residual if part is parts[-1] else None, part.activation) for part in parts]
    args = (
        x,
        expansion and expansion.multiplied(kernels),
        expansion and expansion.activation,
        depthwise and (array_of(depthwise.weight), depthwise.bias, depthwise.plan.axes, depthwise.plan.sizes[1]),
        gate,
        depthwise and depthwise.activation,
        projection and projection.multiplied(kernels),
        residual,
        parts[-1].activation,
        y,
        x.shape[0],
    )
    name = " > ".join(names if gate is None else ["scale", *names])
    return [Call(name, kernels.mobile_block, args, sum(part.plan.multiply_adds for part in parts))]


def _named(algorithm: Algorithm, residual: View | None = None, activation: Activation | None = None) -> str:
    tile = f" F({algorithm.tile[0]} x {algorithm.tile[1]})" if algorithm.name == "winograd" else ""
    ends = [] if residual is None else ["add"]
    return ", ".join([algorithm.name + tile, *ends, *([] if activation is None else [activation.name])])


def _read(kernels: Any, weight: NDArray[Any] | Weight, shape: tuple[Any, ...]) -> tuple[NDArray[Any] | None, Any]:
    """Return what a kernel takes as its weight and its packed weight: one of them is None."""
    packed = packed_weight(kernels, weight, shape)
    return (array_of(weight) if packed is None else None), packed


def _without_products(bias: NDArray[Any] | None, y: View) -> list[Call]:
    return [Call("fill", _fill, (y, 0 if bias is None else bias))] if y.size else []


def _fill(y: NDArray[Any], value: Any) -> None:
    y[...] = value


def _add_in_place(y: NDArray[Any], bias: NDArray[Any]) -> None:
    y += bias
