"""Convolution and transposed convolution, for one to three spatial axes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastconv import functional as F
from fastconv.arguments import ntuple
from fastconv.geometry import conv_transpose_output, conv_transpose_padding, effective_kernel
from fastconv.layers.base import Backward
from fastconv.layers.checks import positive, spatial_shape
from fastconv.layers.context import Context
from fastconv.layers.symbol import Shape
from fastconv.layers.windowed import Gradients, Windowed, named_gradients, wanted
from fastconv.registry import layers


class _Conv(Windowed):
    def __init__(
        self,
        channels: int,
        kernel_size: Any,
        *,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        initializer: Any = "he_normal",
        bias_initializer: Any = "zeros",
    ) -> None:
        self.channels = positive(channels, "channels")
        self.groups = positive(groups, "groups")
        self._divides(self.channels, "channels")
        self._window(kernel_size, stride, padding, dilation, bias, initializer, bias_initializer)

    def build(self, shape: Shape, rng: np.random.Generator) -> None:
        self.output_shape(shape)
        group = self._divides(shape[-1], "the input's channels")  # C // G
        taps = math.prod(self.kernel)
        self._fill(
            "weight",
            (*self.kernel, group, self.channels),
            rng,
            fan_in=taps * group,
            fan_out=taps * self.channels // self.groups,
            bias_shape=(self.channels,),
        )

    def output_shape(self, shape: Shape) -> Shape:
        size = spatial_shape(shape, self.rank)
        self._divides(shape[-1], "the input's channels")
        return (*self._output(size), self.channels)

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        spatial_shape(x.shape[1:], self.rank)
        weight, arguments = self.params["weight"], self._arguments()
        y = F.conv(x, weight, self.params.get("bias"), **arguments)

        def backward(dy: np.ndarray) -> tuple[np.ndarray | None, Gradients]:
            dx, *rest = F.conv_backward(dy, x, weight, **arguments, wrt=wanted(ctx.input_grad, self.bias))
            return dx, named_gradients(*rest)

        return y, backward

    def multiply_adds(self, *shapes: Shape) -> int:
        return math.prod(self.output_shape(*shapes)) * math.prod(self.kernel) * (shapes[0][-1] // self.groups)


@layers.register("Conv1d")
class Conv1d(_Conv):
    """Convolve ``(N, L, C)`` to ``(N, P, channels)``; the arguments are those of `Conv2d`.

    >>> import numpy as np
    >>> Conv1d(8, 3, padding="same")(np.zeros((2, 100, 4), np.float32)).shape
    (2, 100, 8)
    """

    rank = 1


@layers.register("Conv2d")
class Conv2d(_Conv):
    """Convolve ``(N, H, W, C)`` to ``(N, P, Q, channels)``: every window is multiplied by the same weight.

    Parameters ``weight`` ``(*kernel, C // groups, channels)`` and ``bias`` ``(channels,)``.

    Parameters
    ----------
    channels : int
        Channels of the output; those of the input are taken from it.
    kernel_size : int or tuple of int
        Pixels of the window along each spatial axis.
    stride, dilation : int or tuple of int
        Pixels between windows, and between the taps of one window.
    padding : int, tuple of int, tuple of (before, after), "same" or "valid"
        Zeros around the image, in pixels.
    groups : int
        Number of groups of channels that are convolved independently.
    bias : bool
        Whether a learned bias is added to each output channel.
    initializer, bias_initializer : str, float or dict
        See `fastconv.layers.initializers.initialize`.

    Raises
    ------
    TypeError, ValueError
        For arguments out of range, at once; for another rank, or a kernel larger than the padded image, when it meets one.

    See Also
    --------
    fastconv.functional.conv : the same without the parameters.

    Examples
    --------
    >>> import numpy as np
    >>> layer = Conv2d(16, 3, stride=2, padding=1)
    >>> layer(np.zeros((8, 32, 32, 3), np.float32)).shape
    (8, 16, 16, 16)
    >>> layer.params["weight"].shape
    (3, 3, 3, 16)
    """

    rank = 2


@layers.register("Conv3d")
class Conv3d(_Conv):
    """Convolve ``(N, D, H, W, C)`` to ``(N, *output, channels)``; the arguments are those of `Conv2d`.

    >>> import numpy as np
    >>> Conv3d(2, (1, 3, 3))(np.zeros((1, 4, 8, 8, 1), np.float32)).shape
    (1, 4, 6, 6, 2)
    """

    rank = 3


class _ConvTranspose(Windowed):
    def __init__(
        self,
        channels: int,
        kernel_size: Any,
        *,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        initializer: Any = "he_normal",
        bias_initializer: Any = "zeros",
    ) -> None:
        self.channels = positive(channels, "channels")
        self.groups = positive(groups, "groups")
        self._divides(self.channels, "channels")
        self._window(kernel_size, stride, padding, dilation, bias, initializer, bias_initializer)
        self.output_padding = ntuple(output_padding, self.rank, "output_padding", minimum=0)

    def build(self, shape: Shape, rng: np.random.Generator) -> None:
        self.output_shape(shape)
        taps = math.prod(self.kernel)
        self._fill(
            "weight",
            (*self.kernel, self.channels // self.groups, shape[-1]),
            rng,
            # the kernel is stamped once for each input, stride pixels apart: an output is met by taps / stride of them
            fan_in=max(1, taps * (shape[-1] // self.groups) // math.prod(self.stride)),
            fan_out=taps * self.channels // self.groups,
            bias_shape=(self.channels,),
        )

    def output_shape(self, shape: Shape) -> Shape:
        size = spatial_shape(shape, self.rank)
        self._divides(shape[-1], "the input's channels")
        extra = self.output_padding
        pairs = conv_transpose_padding(self.padding, self.kernel, self.stride, self.dilation, extra)
        output = conv_transpose_output(size, self.kernel, self.stride, pairs, self.dilation, extra)
        return (*output, self.channels)

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        spatial_shape(x.shape[1:], self.rank)
        weight = self.params["weight"]
        arguments = {**self._arguments(), "output_padding": self.output_padding}
        y = F.conv_transpose(x, weight, self.params.get("bias"), **arguments)

        def backward(dy: np.ndarray) -> tuple[np.ndarray | None, Gradients]:
            dx, *rest = F.conv_transpose_backward(dy, x, weight, **arguments, wrt=wanted(ctx.input_grad, self.bias))
            return dx, named_gradients(*rest)

        return y, backward

    def multiply_adds(self, *shapes: Shape) -> int:
        return math.prod(shapes[0]) * math.prod(self.kernel) * (self.channels // self.groups)

    def window(self, *shapes: Shape) -> list[tuple[Any, Any]]:
        from fractions import Fraction

        spans = (effective_kernel(k, d) for k, d in zip(self.kernel, self.dilation, strict=True))
        return [(-(-span // s), Fraction(1, s)) for span, s in zip(spans, self.stride, strict=True)]


@layers.register("ConvTranspose1d")
class ConvTranspose1d(_ConvTranspose):
    """Transposed convolution of ``(N, L, C)``; the arguments are those of `ConvTranspose2d`.

    >>> import numpy as np
    >>> ConvTranspose1d(4, 4, stride=2, padding=1)(np.zeros((1, 10, 8), np.float32)).shape
    (1, 20, 4)
    """

    rank = 1


@layers.register("ConvTranspose2d")
class ConvTranspose2d(_ConvTranspose):
    """The adjoint of the convolution with the same arguments: each input stamps the kernel onto the output.

    ``(N, H, W, C)`` to ``(N, P, Q, channels)`` with ``P = (H - 1) * stride - before - after + span + output_padding``.
    Parameters ``weight`` ``(*kernel, channels // groups, C)`` and ``bias`` ``(channels,)``.

    Parameters
    ----------
    channels, kernel_size, stride, dilation, groups, bias, initializer, bias_initializer
        As in `Conv2d`.
    padding : int, tuple of int, tuple of (before, after), "same" or "valid"
        What is cut off the output's border, in pixels; "same" makes it ``stride`` times as large as the input.
    output_padding : int or tuple of int
        Pixels added to the output's end, fewer than the stride.

    Examples
    --------
    >>> import numpy as np
    >>> ConvTranspose2d(4, 3, stride=2, padding="same")(np.zeros((1, 7, 7, 8), np.float32)).shape
    (1, 14, 14, 4)
    """

    rank = 2


@layers.register("ConvTranspose3d")
class ConvTranspose3d(_ConvTranspose):
    """Transposed convolution of ``(N, D, H, W, C)``; the arguments are those of `ConvTranspose2d`.

    >>> import numpy as np
    >>> ConvTranspose3d(1, 2, stride=2)(np.zeros((1, 2, 3, 4, 2), np.float32)).shape
    (1, 4, 6, 8, 1)
    """

    rank = 3
