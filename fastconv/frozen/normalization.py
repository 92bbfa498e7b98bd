"""Operations that normalize each pixel over its channels, or each image over its pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastconv.arguments import positive
from fastconv.frozen.operation import Array, Operation, of_channels, register, require_channels
from fastconv.functional._norm_arguments import COST
from fastconv.functional.calls import Call, View
from fastconv.functional.loss import EXP_COST
from fastconv.layers.symbol import Shape


@register
@dataclass(frozen=True, eq=False)
class LayerNorm(Operation):
    """Each pixel normalized over its channels, then scaled and shifted.

    ``d / sqrt(max(mean(d**2) + eps, floor)) * scale + bias``, where d is what the channels differ from their mean by, or,
    if not `centred`, the channels themselves. Where all channels have the same scale and bias, there may be any number of them
    if `any_length`.
    """

    scale: Array
    bias: Array
    eps: float
    centred: bool = True
    floor: float = 0.0
    any_length: bool = False

    kind = "layer_norm"

    def output_shape(self, *shapes: Shape) -> Shape:
        scale, bias = self._of_channels(shapes[0][-1])
        require_channels(scale, shapes[0][-1], "scale")
        require_channels(bias, shapes[0][-1], "bias")
        return shapes[0]

    def calls(self, kernels: Any, reads: Sequence[View], writes: Sequence[View]) -> list[Call]:
        x, y = reads[0], writes[0]
        scale, bias = self._of_channels(y.shape[-1])
        arguments = (x, scale, bias, y, self.eps, self.centred, self.floor)
        name = "layer norm" if self.centred else "root mean square norm"
        return [Call(name, kernels.layer_norm_forward, arguments, COST * y.size)] if y.size else []

    def _of_channels(self, channels: int) -> tuple[Array, ...]:
        both = self.scale, self.bias
        return of_channels(channels, *both) if self.any_length else both

    def scaled(self, factor: Array, shift: Array) -> LayerNorm | None:
        """Return the operation whose output is that of this one times `factor` plus `shift`, for each channel.

        None where the new constants would not be finite.
        """
        wide = factor.astype(np.float64)
        with np.errstate(over="ignore"):
            made = [
                np.ascontiguousarray(each, self.scale.dtype) for each in (self.scale * wide, self.bias * wide + shift)
            ]
        return self.replace(scale=made[0], bias=made[1]) if all(np.isfinite(each).all() for each in made) else None


@register
@dataclass(frozen=True, eq=False)
class GroupNorm(Operation):
    """Each image normalized over its pixels and each group of channels, then scaled and shifted."""

    groups: int
    scale: Array
    bias: Array
    eps: float

    kind = "group_norm"

    def output_shape(self, *shapes: Shape) -> Shape:
        shape = shapes[0]
        require_channels(self.scale, shape[-1], "scale")
        require_channels(self.bias, shape[-1], "bias")
        if shape[-1] % positive(self.groups, "groups"):
            raise ValueError(f"groups must divide the channels of x, {shape[-1]}, got {self.groups}")
        if 0 in shape[1:]:
            raise ValueError(f"x must have at least one pixel, got shape {shape}")
        return shape

    def calls(self, kernels: Any, reads: Sequence[View], writes: Sequence[View]) -> list[Call]:
        x, y = reads[0], writes[0]
        if not y.size:
            return []
        arguments = (x, self.scale, self.bias, None, y, None, None, False, False, x.shape[0], self.groups, self.eps)
        return [Call("group norm", kernels.norm_forward, arguments, COST * y.size)]


@register
@dataclass(frozen=True, eq=False)
class LocalResponseNorm(Operation):
    """Each number divided by those of the channels around it; the arguments are those of the layer."""

    size: int
    alpha: float
    beta: float
    bias: float

    kind = "local_response_norm"

    def output_shape(self, *shapes: Shape) -> Shape:
        positive(self.size, "size")
        return shapes[0]

    def calls(self, kernels: Any, reads: Sequence[View], writes: Sequence[View]) -> list[Call]:
        x, y = reads[0], writes[0]
        arguments = (x, y, x.shape[-1], self.size, self.alpha, self.beta, self.bias)
        return (
            [Call("local response norm", kernels.local_response_norm, arguments, EXP_COST * y.size)] if y.size else []
        )


@register
@dataclass(frozen=True, eq=False)
class Softmax(Operation):
    """Probabilities along the last axis."""

    kind = "softmax"

    def output_shape(self, *shapes: Shape) -> Shape:
        return shapes[0]

    def calls(self, kernels: Any, reads: Sequence[View], writes: Sequence[View]) -> list[Call]:
        x, y = reads[0], writes[0]
        arguments = (x, y, x.shape[-1], 1, False)
        return [Call("softmax", kernels.softmax_forward, arguments, EXP_COST * y.size)] if y.size else []
