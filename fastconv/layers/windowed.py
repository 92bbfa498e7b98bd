"""What convolutions and locally connected layers share: the arguments of a window, and what the backward pass computes."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv.arguments import boolean, ntuple
from fastconv.geometry import conv_output, effective_kernel, padding_pairs
from fastconv.layers.base import Layer
from fastconv.layers.initializers import checked_initializer, initialize
from fastconv.layers.symbol import Shape
from fastconv.layers.traits import Traits

Gradients = dict[str, np.ndarray]


def wanted(x: bool, bias: bool) -> tuple[str, ...]:
    """Return what a backward pass must compute: x where somebody needs it, the weight, the bias where there is one."""
    return (*(("x",) if x else ()), "weight", *(("bias",) if bias else ()))


def named_gradients(dweight: np.ndarray | None, dbias: np.ndarray | None) -> Gradients:
    """Return the gradients of a weight and, where there is one, a bias, under their names."""
    named = {"weight": dweight, "bias": dbias}
    return {name: gradient for name, gradient in named.items() if gradient is not None}


class Windowed(Layer):
    """What layers with a window share: the arguments of the window, checked, and the first values."""

    traits = Traits(linear=True)

    rank: int
    groups = 1

    def _window(
        self,
        kernel_size: Any,
        stride: Any,
        padding: Any,
        dilation: Any,
        bias: Any,
        initializer: Any,
        bias_initializer: Any,
    ) -> None:
        self.kernel = ntuple(kernel_size, self.rank, "kernel_size")
        self.stride = ntuple(stride, self.rank, "stride")
        self.dilation = ntuple(dilation, self.rank, "dilation")
        self.padding = padding
        padding_pairs(padding, self.kernel, self.kernel, self.stride, self.dilation)
        self.bias = boolean(bias, "bias")
        self.initializer = initializer
        self.bias_initializer = bias_initializer
        checked_initializer(initializer)
        checked_initializer(bias_initializer)

    def _fill(
        self, name: str, weight_shape: Shape, rng: np.random.Generator, *, fan_in: int, fan_out: int, bias_shape: Shape
    ) -> None:
        self.params[name] = initialize(self.initializer, weight_shape, rng, fan_in=fan_in, fan_out=fan_out)
        if self.bias:
            self.params["bias"] = initialize(self.bias_initializer, bias_shape, rng, fan_in=fan_in, fan_out=fan_out)

    def _output(self, size: Shape) -> Shape:
        pairs = padding_pairs(self.padding, size, self.kernel, self.stride, self.dilation)
        return conv_output(size, self.kernel, self.stride, pairs, self.dilation)

    def _divides(self, channels: int, name: str) -> int:
        if channels % self.groups:
            raise ValueError(f"{name} must be a multiple of groups, got {channels} with groups {self.groups}")
        return channels // self.groups

    def _arguments(self) -> dict[str, Any]:
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation, "groups": self.groups}

    def window(self, *shapes: Shape) -> list[tuple[Any, Any]]:
        spans = (effective_kernel(k, d) for k, d in zip(self.kernel, self.dilation, strict=True))
        return list(zip(spans, self.stride, strict=True))
