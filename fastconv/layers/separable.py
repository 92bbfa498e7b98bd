"""Depthwise and separable convolution: one kernel per channel, then a mixture of the channels of each pixel."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastconv import functional as F
from fastconv.layers.base import Backward
from fastconv.layers.checks import positive, spatial_shape
from fastconv.layers.context import Context
from fastconv.layers.initializers import initialize
from fastconv.layers.symbol import Shape
from fastconv.layers.windowed import Gradients, Windowed, named_gradients, wanted
from fastconv.registry import layers


@layers.register("DepthwiseConv2d")
class DepthwiseConv2d(Windowed):
    """Convolve every channel of ``(N, H, W, C)`` by itself, each to `multiplier` channels: ``(N, P, Q, C * multiplier)``.

    Parameters ``weight`` ``(*kernel, 1, C * multiplier)`` and ``bias`` ``(C * multiplier,)``; the other arguments are those of
    `Conv2d`, of which this is the case ``groups = C``.

    >>> import numpy as np
    >>> DepthwiseConv2d(3, 2, padding="same")(np.zeros((1, 8, 8, 5), np.float32)).shape
    (1, 8, 8, 10)
    """

    rank = 2

    def __init__(
        self,
        kernel_size: Any,
        multiplier: int = 1,
        *,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        bias: bool = True,
        initializer: Any = "he_normal",
        bias_initializer: Any = "zeros",
    ) -> None:
        self.multiplier = positive(multiplier, "multiplier")
        self._window(kernel_size, stride, padding, dilation, bias, initializer, bias_initializer)

    def build(self, shape: Shape, rng: np.random.Generator) -> None:
        *_, channels = self.output_shape(shape)
        taps = math.prod(self.kernel)
        self._fill(
            "weight",
            (*self.kernel, 1, channels),
            rng,
            fan_in=taps,
            fan_out=taps * self.multiplier,
            bias_shape=(channels,),
        )

    def output_shape(self, shape: Shape) -> Shape:
        return (*self._output(spatial_shape(shape, 2)), shape[-1] * self.multiplier)

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        spatial_shape(x.shape[1:], 2)
        weight = self.params["weight"]
        arguments = {**self._arguments(), "groups": weight.shape[-1] // self.multiplier}
        y = F.conv(x, weight, self.params.get("bias"), **arguments)

        def backward(dy: np.ndarray) -> tuple[np.ndarray | None, Gradients]:
            dx, *rest = F.conv_backward(dy, x, weight, **arguments, wrt=wanted(ctx.input_grad, self.bias))
            return dx, named_gradients(*rest)

        return y, backward

    def multiply_adds(self, *shapes: Shape) -> int:
        return math.prod(self.output_shape(*shapes)) * math.prod(self.kernel)


@layers.register("SeparableConv2d")
class SeparableConv2d(Windowed):
    """Convolve every channel by itself, then mix the channels of each pixel: ``(N, H, W, C)`` to ``(N, P, Q, channels)``.

    Parameters ``depthwise`` ``(*kernel, 1, C * multiplier)``, ``pointwise`` ``(1, 1, C * multiplier, channels)`` and ``bias``
    ``(channels,)``; the other arguments are those of `Conv2d`. Source: Chollet, Xception, CVPR 2017, section 1.

    >>> import numpy as np
    >>> SeparableConv2d(16, 3, padding="same")(np.zeros((1, 8, 8, 5), np.float32)).shape
    (1, 8, 8, 16)
    """

    rank = 2

    def __init__(
        self,
        channels: int,
        kernel_size: Any,
        *,
        multiplier: int = 1,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        bias: bool = True,
        initializer: Any = "he_normal",
        bias_initializer: Any = "zeros",
    ) -> None:
        self.channels = positive(channels, "channels")
        self.multiplier = positive(multiplier, "multiplier")
        self._window(kernel_size, stride, padding, dilation, bias, initializer, bias_initializer)

    def build(self, shape: Shape, rng: np.random.Generator) -> None:
        self.output_shape(shape)
        taps, middle = math.prod(self.kernel), shape[-1] * self.multiplier
        self.params["depthwise"] = initialize(
            self.initializer, (*self.kernel, 1, middle), rng, fan_in=taps, fan_out=taps * self.multiplier
        )
        self._fill(
            "pointwise",
            (1, 1, middle, self.channels),
            rng,
            fan_in=middle,
            fan_out=self.channels,
            bias_shape=(self.channels,),
        )

    def output_shape(self, shape: Shape) -> Shape:
        return (*self._output(spatial_shape(shape, 2)), self.channels)

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        spatial_shape(x.shape[1:], 2)
        depthwise, pointwise = self.params["depthwise"], self.params["pointwise"]
        arguments = {**self._arguments(), "groups": depthwise.shape[-1] // self.multiplier}
        middle = F.conv(x, depthwise, **arguments)
        y = F.conv(middle, pointwise, self.params.get("bias"))

        def backward(dy: np.ndarray) -> tuple[np.ndarray | None, Gradients]:
            dmiddle, dpointwise, dbias = F.conv_backward(dy, middle, pointwise, wrt=wanted(True, self.bias))
            assert dmiddle is not None
            dx, ddepthwise, _ = F.conv_backward(dmiddle, x, depthwise, **arguments, wrt=wanted(ctx.input_grad, False))
            named = {"depthwise": ddepthwise, "pointwise": dpointwise, "bias": dbias}
            return dx, {name: gradient for name, gradient in named.items() if gradient is not None}

        return y, backward

    def multiply_adds(self, *shapes: Shape) -> int:
        *output, channels = self.output_shape(*shapes)
        middle = shapes[0][-1] * self.multiplier
        return math.prod(output) * middle * (math.prod(self.kernel) + channels)
