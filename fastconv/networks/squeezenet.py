"""SqueezeNet: few weights, because 1x1 convolutions squeeze the channels before the 3x3 ones."""

from __future__ import annotations

from collections.abc import Sequence

from fastconv import layers as L
from fastconv.layers.symbol import Symbol
from fastconv.model import Input, Model
from fastconv.networks.blocks import conv, through

Shape = tuple[int, ...]


def squeezenet1_0(input_shape: Shape, classes: int) -> Model:
    """SqueezeNet 1.0, 1.2 million parameters for 1,000 classes (Iandola et al. 2016).

    Source: F. Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size",
    arXiv:1602.07360, table 1. The names of the layers are those of torchvision.
    """
    # where None stands, there is a pooling
    squeezed = (None, 16, 16, 32, None, 32, 48, 48, 64, None, 64)
    return _squeezenet(L.Conv2d(96, 7, stride=2), squeezed, input_shape, classes)


def squeezenet1_1(input_shape: Shape, classes: int) -> Model:
    """SqueezeNet 1.1, with 2.4 times less to compute than 1.0 (Iandola et al. 2016).

    A smaller first convolution and earlier poolings, as its authors published it after the paper. Source and names as for
    SqueezeNet 1.0.
    """
    squeezed = (None, 16, 16, None, 32, 32, None, 48, 48, 64, 64)
    return _squeezenet(L.Conv2d(64, 3, stride=2), squeezed, input_shape, classes)


def _squeezenet(first: L.Conv2d, squeezed: Sequence[int | None], input_shape: Shape, classes: int) -> Model:
    image = Input(input_shape)
    y = through([first.named("features.0"), L.ReLU().named("features.1")], image)
    for at, channels in enumerate(squeezed, start=2):
        name = f"features.{at}"
        y = L.MaxPool2d(3, 2, ceil_mode=True).named(name)(y) if channels is None else _fire(name, y, channels)
    classifier = [
        L.Dropout(0.5).named("classifier.0"),
        L.Conv2d(classes, 1).named("classifier.1"),
        L.ReLU().named("classifier.2"),
        L.GlobalAvgPool().named("classifier.3"),
    ]
    return Model(image, through(classifier, y))


def _fire(name: str, x: Symbol, squeezed: int) -> Symbol:
    """Squeeze the channels, then expand them fourfold by 1x1 and fourfold by 3x3 convolutions: the paper's figure 1."""
    x = through([conv(f"{name}.squeeze", squeezed, 1, bias=True), L.ReLU()], x)
    expanded = (
        through([conv(f"{name}.expand{size}x{size}", 4 * squeezed, size, bias=True), L.ReLU()], x) for size in (1, 3)
    )
    return L.Concat()(*expanded)
