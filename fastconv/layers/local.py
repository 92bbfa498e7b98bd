"""Locally connected layers: the windows of a convolution, each with weights of its own."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastconv import functional as F
from fastconv.layers.base import Backward
from fastconv.layers.checks import positive, spatial_shape
from fastconv.layers.context import Context
from fastconv.layers.symbol import Shape
from fastconv.layers.windowed import Gradients, Windowed, named_gradients, wanted
from fastconv.registry import layers


class _LocallyConnected(Windowed):
    def __init__(
        self,
        channels: int,
        kernel_size: Any,
        *,
        stride: Any = 1,
        padding: Any = 0,
        bias: bool = True,
        initializer: Any = "he_normal",
        bias_initializer: Any = "zeros",
    ) -> None:
        self.channels = positive(channels, "channels")
        self._window(kernel_size, stride, padding, 1, bias, initializer, bias_initializer)

    def build(self, shape: Shape, rng: np.random.Generator) -> None:
        *output, _ = self.output_shape(shape)
        taps = math.prod(self.kernel)
        self._fill(
            "weight",
            (*output, *self.kernel, shape[-1], self.channels),
            rng,
            fan_in=taps * shape[-1],
            fan_out=taps * self.channels,
            bias_shape=(*output, self.channels),
        )

    def output_shape(self, shape: Shape) -> Shape:
        return (*self._output(spatial_shape(shape, self.rank)), self.channels)

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        spatial_shape(x.shape[1:], self.rank)
        weight, arguments = self.params["weight"], {"stride": self.stride, "padding": self.padding}
        y = F.locally_connected(x, weight, self.params.get("bias"), **arguments)

        def backward(dy: np.ndarray) -> tuple[np.ndarray | None, Gradients]:
            dx, *rest = F.locally_connected_backward(dy, x, weight, **arguments, wrt=wanted(ctx.input_grad, self.bias))
            return dx, named_gradients(*rest)

        return y, backward

    def multiply_adds(self, *shapes: Shape) -> int:
        return math.prod(self.output_shape(*shapes)) * math.prod(self.kernel) * shapes[0][-1]


@layers.register("LocallyConnected1d")
class LocallyConnected1d(_LocallyConnected):
    """Locally connected layer for ``(N, L, C)``; the arguments are those of `LocallyConnected2d`.

    >>> import numpy as np
    >>> LocallyConnected1d(4, 3)(np.zeros((1, 10, 2), np.float32)).shape
    (1, 8, 4)
    """

    rank = 1


@layers.register("LocallyConnected2d")
class LocallyConnected2d(_LocallyConnected):
    """Multiply every window by weights of its own: ``(N, H, W, C)`` to ``(N, P, Q, channels)``.

    Parameters ``weight`` ``(*output, *kernel, C, channels)`` and ``bias`` ``(*output, channels)``; so the size of the image is
    fixed by the first input. The arguments are those of `Conv2d`, without dilation and groups.
    Source: Taigman et al., DeepFace, CVPR 2014, section 3.1.

    >>> import numpy as np
    >>> layer = LocallyConnected2d(4, 3, stride=2)
    >>> layer(np.zeros((1, 9, 9, 2), np.float32)).shape, layer.params["weight"].shape
    ((1, 4, 4, 4), (4, 4, 3, 3, 2, 4))
    """

    rank = 2
