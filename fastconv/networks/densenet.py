"""DenseNet: every layer reads the outputs of all layers before it in its block."""

from __future__ import annotations

from fastconv import layers as L
from fastconv.layers.symbol import Symbol
from fastconv.model import Input, Model
from fastconv.networks.blocks import conv, through

Shape = tuple[int, ...]

GROWTH = 32


def densenet121(input_shape: Shape, classes: int) -> Model:
    """DenseNet-121, 8 million parameters for 1,000 classes (Huang, Liu, van der Maaten and Weinberger 2017).

    Source: G. Huang, Z. Liu, L. van der Maaten, K. Weinberger, "Densely connected convolutional networks", CVPR 2017, table 1,
    with bottlenecks and compression by half. The names of the layers are those of torchvision.
    """
    image = Input(input_shape)
    stem = [
        conv("features.conv0", 64, 7, stride=2),
        L.BatchNorm().named("features.norm0"),
        L.ReLU().named("features.relu0"),
        L.MaxPool2d(3, 2, padding=1).named("features.pool0"),
    ]
    y = through(stem, image)
    for stage, depth in enumerate((6, 12, 24, 16), start=1):
        if stage > 1:
            y = _transition(f"features.transition{stage - 1}", y)
        for number in range(1, depth + 1):
            y = L.Concat()(y, _dense(f"features.denseblock{stage}.denselayer{number}", y))
    y = through([L.BatchNorm().named("features.norm5"), L.ReLU(), L.GlobalAvgPool()], y)
    return Model(image, L.Linear(classes).named("classifier")(y))


def _dense(name: str, x: Symbol) -> Symbol:
    """Return GROWTH new channels, made of all that there are: BN, ReLU, 1x1, BN, ReLU, 3x3."""
    steps = [
        L.BatchNorm().named(f"{name}.norm1"),
        L.ReLU().named(f"{name}.relu1"),
        conv(f"{name}.conv1", 4 * GROWTH, 1),
        L.BatchNorm().named(f"{name}.norm2"),
        L.ReLU().named(f"{name}.relu2"),
        conv(f"{name}.conv2", GROWTH, 3),
    ]
    return through(steps, x)


def _transition(name: str, x: Symbol) -> Symbol:
    """Return half the channels at half the resolution."""
    steps = [
        L.BatchNorm().named(f"{name}.norm"),
        L.ReLU().named(f"{name}.relu"),
        conv(f"{name}.conv", x.shape[-1] // 2, 1),
        L.AvgPool2d(2).named(f"{name}.pool"),
    ]
    return through(steps, x)
