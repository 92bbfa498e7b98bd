"""Operations with a weight: convolutions, linear maps, locally connected layers.

Each ends, in the same step, with the sum with a shortcut (a second input) and an activation. The last axis of the bias is the
channels of the output, which `scaled` multiplies and shifts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from fastconv import geometry
from fastconv.arguments import ntuple, positive
from fastconv.arrays import owned
from fastconv.frozen.operation import Array, Operation, register, require_image, require_slope
from fastconv.frozen.program import Program
from fastconv.functional import _conv_plan as plans
from fastconv.functional._conv_algorithm import wish
from fastconv.functional.calls import Activation, Call, View
from fastconv.functional.frozen_conv import (
    Part,
    conv_calls,
    conv_transpose_calls,
    local_calls,
    takes_parts,
    transposed_writes_channels,
    writes_channels,
)
from fastconv.functional.frozen_weight import Weight
from fastconv.functional.linear import linear_plan
from fastconv.functional.local import LocalPlan, local_plan
from fastconv.layers.symbol import Shape

Self = TypeVar("Self", bound="Weighted")


class Weighted(Operation):
    """What the operations with a weight share."""

    weight: Array
    bias: Array | None
    activation: Activation | None

    def output_shape(self, *shapes: Shape) -> Shape:
        shape = self.product_shape(shapes[0])
        if self.bias is not None and (
            not isinstance(self.bias, np.ndarray) or self.bias.shape != self.bias_shape(shape)
        ):
            raise ValueError(f"bias must have shape {self.bias_shape(shape)}, got {self.bias!r:.80}")
        require_slope(self.activation, shape[-1])
        if len(shapes) > 2 or (len(shapes) == 2 and shapes[1] != shape):
            raise ValueError(f"a shortcut to an output of shape {shape} must have this shape, got {shapes[1:]}")
        return shape

    def product_shape(self, shape: Shape) -> Shape:
        """Return the shape of the output for an input of `shape`; check the weight."""
        raise NotImplementedError

    def bias_shape(self, shape: Shape) -> Shape:
        """Return the shape of the bias for an output of `shape`."""
        return shape[-1:]

    def scaled(self: Self, factor: Array, shift: Array, *, in_place: bool = False) -> Self | None:
        """Return the operation whose output is that of this one times `factor` plus `shift`, for each channel.

        None where the new constants would not be finite. With `in_place` the weight may be that of this one, overwritten.
        """
        wide = factor.astype(np.float64)
        bias = 0.0 if self.bias is None else self.bias.astype(np.float64)
        return self._with(self._factors(wide), bias * wide + shift, in_place=in_place)

    def _factors(self, factor: Array) -> Array:
        """Return what the weight is multiplied by where the output is multiplied by `factor`."""
        return factor  # the last axis of most weights is the output's channels

    def _with(self: Self, factors: Array, bias: Array, *, in_place: bool = False) -> Self | None:
        """Return the operation with its weight times factors (of float64), and another bias; None where one is not finite."""
        with np.errstate(over="ignore", invalid="ignore"):
            factors = factors.astype(self.weight.dtype)  # to multiply in double precision takes four times as long
            if (factors == 1).all():  # a bias that came by itself
                return self._of(self.weight, bias)
            if in_place and owned(self.weight):
                small = _largest(self.weight) * _largest(factors) < float(np.finfo(self.weight.dtype).max)
                made = self._of(self.weight, bias) if small else None
                if made is not None:
                    np.multiply(self.weight, factors, out=self.weight)
                    return made
            return self._of(self.weight * factors, bias)

    def _of(self: Self, weight: Array, bias: Array) -> Self | None:
        """Return the operation with another weight and another bias; None where one is not finite."""
        with np.errstate(over="ignore", invalid="ignore"):
            made = [np.ascontiguousarray(array, self.weight.dtype) for array in (weight, bias)]
        finite = _is_finite(made[1]) and (weight is self.weight or _is_finite(made[0]))
        return self.replace(weight=made[0], bias=made[1]) if finite else None


@register
@dataclass(frozen=True, eq=False)
class Conv(Weighted):
    """A convolution; the arguments are those of `fastconv.functional.conv`.

    `extra` are pixels of zeros, pairs (before, after), around the image before `padding` is looked at. The channels of an
    image may be of several `parts`, which the groups take in turn, one of each, as after a shuffle; the rows of each group's
    weight are then in the order in which its channels lie.
    """

    weight: Array
    bias: Array | None = None
    stride: Any = 1
    padding: Any = 0
    dilation: Any = 1
    groups: int = 1
    extra: Any = ()
    activation: Activation | None = None
    parts: int = 1

    kind = "conv"

    def product_shape(self, shape: Shape) -> Shape:
        plan = self.plan(shape)
        if self.parts != 1:
            parts = positive(self.parts, "parts")
            if shape[-1] % parts or not (plan.empty or takes_parts(plan)):
                raise ValueError(
                    f"parts must be 1 for a weight of shape {self.weight.shape} and x of shape {shape}, got {parts}"
                )
        return plan.y_shape

    def plan(self, shape: Shape) -> plans.ConvPlan:
        """Return the plan for an input of `shape`, with the algorithms that are allowed at this moment."""
        require_image(shape)
        groups = positive(self.groups, "groups")
        padding = self.padding
        if self.extra:
            padding = self.pairs(shape)
        return plans.conv_plan(
            shape, self.weight.shape, self.stride, padding, self.dilation, groups, wish(None, kept=True)
        )

    def pairs(self, shape: Shape) -> tuple[tuple[int, int], ...]:
        """Return the zeros around an image of `shape` as pairs (before, after)."""
        rank = len(shape) - 2
        extra = self.extra or ((0, 0),) * rank
        size = tuple(n + before + after for n, (before, after) in zip(shape[1:-1], extra, strict=True))
        kernel = self.weight.shape[:rank]
        stride, dilation = (
            ntuple(self.stride, rank, "stride"),
            ntuple(self.dilation, rank, "dilation"),
        )
        inner = geometry.padding_pairs(self.padding, size, kernel, stride, dilation)
        return tuple((a + c, b + d) for (a, b), (c, d) in zip(inner, extra, strict=True))

    def never_padded(self) -> bool:
        """Whether there are no zeros around an image of any size."""
        rank = self.weight.ndim - 2
        if self.padding == "same":
            inner = any(n > 1 for n in self.weight.shape[:rank])
        else:
            ones = (1,) * rank
            inner = any(map(any, geometry.padding_pairs(self.padding, ones, ones, ones, ones)))
        return not inner and not any(map(any, self.extra))

    def writes_channels(self, *shapes: Shape) -> bool:
        return len(shapes) == 1 and writes_channels(self.plan(shapes[0]))

    def calls(self, kernels: Any, reads: Sequence[View], writes: Sequence[View]) -> list[Call]:
        return self._calls(kernels, self.plan(reads[0].shape), reads, writes[0])

    def lines_together(self, shape: Shape) -> int | None:
        """Return how many lines of the output for an image of `shape` come together; None where they do not by themselves."""
        plan = self.plan(shape)
        alone = len(shape) == 4 and not plan.empty and plan.forward.name != "depthwise" and self.parts == 1
        dilation = ntuple(self.dilation, len(shape) - 2, "dilation")[0]  # the tiles of so many images lie in turn
        return max(plan.forward.tile[0] * dilation, 1) if alone else None

    def line_calls(self, kernels: Any, reads: Sequence[View], y: View, first: int, end: int) -> list[Call]:
        """Return the calls that write lines ``first .. end - 1`` for an image; y and a shortcut are these lines."""
        return self._calls(kernels, plans.lines_of(self.plan(reads[0].shape), first, end), reads, y)

    def part(self, shape: Shape) -> Part:
        """Return it as a part of a block, for an input of `shape`."""
        return Part(self.plan(shape), self.weight, self.bias, self.activation)

    def _calls(self, kernels: Any, plan: plans.ConvPlan, reads: Sequence[View], y: View) -> list[Call]:
        residual = reads[1] if len(reads) > 1 else None
        end = {"residual": residual, "activation": self.activation, "parts": self.parts}
        return conv_calls(kernels, plan, self.weight, self.bias, reads[0], y, **end)  # type: ignore[arg-type]

    def multiply_adds(self, *shapes: Shape) -> int:
        return self.plan(shapes[0]).multiply_adds

    def is_matrix(self) -> bool:
        """Return whether it multiplies each pixel with a matrix, and does nothing more or less."""
        rank = self.weight.ndim - 2
        ones = self.weight.shape[:rank] == (1,) * rank == ntuple(self.stride, rank, "stride")
        return ones and self.groups == 1 and self.never_padded()

    def matrix(self) -> Array | None:
        """Return the matrix (in, out) that it multiplies each pixel with, None where it is more or less than that."""
        return self.weight[(0,) * (self.weight.ndim - 2)] if self.is_matrix() else None

    def times(self, matrix: Array, bias: Array | None) -> Conv | None:
        """Return the operation whose output is that of this one times `matrix` plus `bias`, for one group."""
        return self._of(self.weight @ matrix.astype(np.float64), _times(self.bias, matrix, bias))

    def of_product(self, matrix: Array, bias: Array | None) -> Conv | None:
        """Return the operation that takes x for this one's ``x * matrix + bias``: of one group, with a bias no zeros around."""
        wide = self.weight.astype(np.float64)
        constant = 0.0 if bias is None else (bias.astype(np.float64) @ wide).sum(axis=tuple(range(wide.ndim - 2)))
        bias = np.zeros(wide.shape[-1]) + _plus(self.bias, constant)
        return self._of(matrix @ wide, bias)

    def scaled_input(self, factor: Array, shift: Array) -> Conv | None:
        """Return the operation that takes x for this one's ``x * factor + shift``; the image has no zeros around it."""
        group = self.weight.shape[-2]
        outputs = self.weight.shape[-1] // self.groups
        # (C // groups, O): what a tap of output o multiplies input c of its group with
        in_group = np.arange(group)[:, None] + group * (np.arange(self.weight.shape[-1]) // outputs)
        wide = self.weight.astype(np.float64)
        constant = (wide * shift.astype(np.float64)[in_group]).sum(axis=tuple(range(wide.ndim - 1)))
        return self._with(factor.astype(np.float64)[in_group], _plus(self.bias, constant))


@register
@dataclass(frozen=True, eq=False)
class ConvTranspose(Weighted):
    """A transposed convolution; the arguments are those of `fastconv.functional.conv_transpose`."""

    weight: Array
    bias: Array | None = None
    stride: Any = 1
    padding: Any = 0
    output_padding: Any = 0
    dilation: Any = 1
    groups: int = 1
    activation: Activation | None = None

    kind = "conv_transpose"

    def product_shape(self, shape: Shape) -> Shape:
        return self.plan(shape).x_shape

    def plan(self, shape: Shape) -> plans.ConvPlan:
        """Return the plan of the convolution whose adjoint takes an array of `shape`."""
        require_image(shape)
        groups = positive(self.groups, "groups")
        arguments = self.stride, self.padding, self.output_padding, self.dilation, groups, wish(None)
        return plans.conv_transpose_plan(shape, self.weight.shape, *arguments)

    def writes_channels(self, *shapes: Shape) -> bool:
        alone = len(shapes) == 1 and self.activation is None
        return alone and transposed_writes_channels(self.plan(shapes[0]))

    def calls(self, kernels: Any, reads: Sequence[View], writes: Sequence[View]) -> list[Call]:
        x, y = reads[0], writes[0]
        residual = reads[1] if len(reads) > 1 else None
        end = {"residual": residual, "activation": self.activation}
        plan = self.plan(x.shape)
        return conv_transpose_calls(kernels, plan, self.weight, self.bias, x, y, **end)  # type: ignore[arg-type]

    def multiply_adds(self, *shapes: Shape) -> int:
        return self.plan(shapes[0]).multiply_adds

    def _factors(self, factor: Array) -> Array:
        # the weight is (*kernel, O // groups, C): output o of the group that input c belongs to
        outputs, inputs = self.weight.shape[-2:]
        group = np.arange(inputs) // (inputs // self.groups)
        return factor[np.arange(outputs)[:, None] + outputs * group]


@register
@dataclass(frozen=True, eq=False)
class Linear(Weighted):
    """The last axis times a matrix (in, out)."""

    weight: Array
    bias: Array | None = None
    activation: Activation | None = None

    kind = "linear"

    def product_shape(self, shape: Shape) -> Shape:
        return self.plan(shape).y_shape

    def plan(self, shape: Shape) -> plans.ConvPlan:
        """Return the plan for an input of `shape`, with the algorithms that are allowed at this moment."""
        return linear_plan(shape, self.weight.shape, wish(None, kept=True))

    def calls(self, kernels: Any, reads: Sequence[View], writes: Sequence[View]) -> list[Call]:
        x, y = reads[0], writes[0]
        end = {"residual": reads[1] if len(reads) > 1 else None, "activation": self.activation}
        return conv_calls(kernels, self.plan(x.shape), self.weight, self.bias, x, y, **end)  # type: ignore[arg-type]

    def multiply_adds(self, *shapes: Shape) -> int:
        return math.prod(shapes[0]) * int(self.weight.shape[1])

    def matrix(self) -> Array | None:
        """Return the matrix (in, out)."""
        return self.weight

    def times(self, matrix: Array, bias: Array | None) -> Linear | None:
        """Return the operation whose output is that of this one times `matrix` plus `bias`."""
        return self._of(self.weight @ matrix.astype(np.float64), _times(self.bias, matrix, bias))

    def scaled_input(self, factor: Array, shift: Array) -> Linear | None:
        """Return the operation that takes x for this one's ``x * factor + shift``."""
        wide = self.weight.astype(np.float64)
        constant = shift.astype(np.float64) @ wide
        return self._with(factor.astype(np.float64)[:, None], _plus(self.bias, constant))


@register
@dataclass(frozen=True, eq=False)
class Local(Weighted):
    """A convolution with a weight of its own at each position; the arguments are those of `functional.locally_connected`."""

    weight: Array
    bias: Array | None = None
    stride: Any = 1
    padding: Any = 0
    activation: Activation | None = None

    kind = "local"

    def product_shape(self, shape: Shape) -> Shape:
        return self.plan(shape).y_shape

    def bias_shape(self, shape: Shape) -> Shape:
        return shape[1:]

    def plan(self, shape: Shape) -> LocalPlan:
        """Return the plan for an input of `shape`."""
        require_image(shape)
        return local_plan(shape, self.weight.shape, self.stride, self.padding)

    def calls(self, kernels: Any, reads: Sequence[View], writes: Sequence[View]) -> list[Call]:
        x, y = reads[0], writes[0]
        end = {"residual": reads[1] if len(reads) > 1 else None, "activation": self.activation}
        return local_calls(kernels, self.plan(x.shape), self.weight, self.bias, x, y, **end)  # type: ignore[arg-type]

    def multiply_adds(self, *shapes: Shape) -> int:
        return self.plan(shapes[0]).multiply_adds

    def scaled(self, factor: Array, shift: Array, *, in_place: bool = False) -> Local | None:
        wide = factor.astype(np.float64)
        bias = np.zeros(self.bias_shape(self.plan_output())) if self.bias is None else self.bias.astype(np.float64)
        return self._with(self._factors(wide), bias * wide + shift, in_place=in_place)

    def plan_output(self) -> Shape:
        """Return the shape of the output of one sample: the weight says where its windows are."""
        rank = (self.weight.ndim - 2) // 2
        return (1, *self.weight.shape[:rank], self.weight.shape[-1])


def let_go(program: Program) -> Program:
    """Return a program, all passes behind it, whose weights give up their memory once kernels have packed them."""
    weights: dict[int, Weight] = {}
    steps = []
    for step in program.steps:
        operation = step.operation
        if isinstance(operation, (Conv, Linear)) and isinstance(operation.weight, np.ndarray):
            weight = weights.setdefault(id(operation.weight), Weight(operation.weight))
            step = step._replace(operation=operation.replace(weight=weight))
        steps.append(step)
    return program.with_steps(steps)


def _is_finite(array: Array) -> bool:
    # of the smallest and the largest one alone: no array of answers as long as a weight
    return not array.size or (math.isfinite(array.min()) and math.isfinite(array.max()))


def _largest(array: Array) -> float:
    return float(max(array.max(), -array.min())) if array.size else 0.0


def _plus(bias: Array | None, constant: Any) -> Any:
    return constant if bias is None else bias.astype(np.float64) + constant


def _times(bias: Array | None, matrix: Array, more: Array | None) -> Array:
    product = np.zeros(matrix.shape[1]) if bias is None else bias.astype(np.float64) @ matrix
    return product if more is None else product + more
