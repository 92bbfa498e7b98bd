"""What the published architectures are built from: named layers, and chains of them.

The layers with weights are called as the modules of torchvision are (``layer1.0.conv1``), so that its weights find their place;
those without are numbered by the model.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastconv import layers as L
from fastconv.layers import Layer
from fastconv.layers.symbol import Symbol


def through(steps: Sequence[Layer], x: Symbol) -> Symbol:
    """Return what comes out where `x` goes through all layers of `steps`."""
    for step in steps:
        x = step(x)
    return x


def conv(name: str, channels: int, kernel_size: int, *, stride: int = 1, bias: bool = False) -> Layer:
    """Return a convolution with half the kernel of padding, without bias, since a batch normalization follows."""
    return L.Conv2d(channels, kernel_size, stride=stride, padding=kernel_size // 2, bias=bias).named(name)


def depthwise(name: str, kernel_size: int, *, stride: int = 1) -> Layer:
    """Return a depthwise convolution with half the kernel of padding, without bias."""
    return L.DepthwiseConv2d(kernel_size, stride=stride, padding=kernel_size // 2, bias=False).named(name)


def squeeze_excite(
    name: str, x: Symbol, squeezed: int, activation: type[Layer] = L.ReLU, gate: type[Layer] = L.Sigmoid
) -> Symbol:
    """Return `x` with each channel weighed by what the means of all channels say, through `squeezed` hidden ones.

    Source: J. Hu, L. Shen, G. Sun, "Squeeze-and-excitation networks", CVPR 2018, section 3.
    """
    hidden = L.Conv2d(squeezed, 1).named(f"{name}.fc1")
    weigh = L.Conv2d(x.shape[-1], 1).named(f"{name}.fc2")
    means = L.GlobalAvgPool(keepdims=True)(x)
    return L.Multiply()(x, through([hidden, activation(), weigh, gate()], means))
