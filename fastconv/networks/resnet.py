"""ResNet: blocks that learn a residual, which is added to their input."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastconv import layers as L
from fastconv.layers import Layer
from fastconv.layers.symbol import Symbol
from fastconv.model import Input, Model
from fastconv.networks.blocks import conv, through

Shape = tuple[int, ...]
Block = Callable[[str, int, int], list[Layer]]


def resnet18(input_shape: Shape, classes: int) -> Model:
    """ResNet-18, 11.7 million parameters for 1,000 classes (He, Zhang, Ren and Sun 2016).

    Source: K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition", CVPR 2016, table 1. The
    names of the layers are those of torchvision.
    """
    return _resnet(_basic, 1, (2, 2, 2, 2), input_shape, classes)


def resnet34(input_shape: Shape, classes: int) -> Model:
    """ResNet-34, 21.8 million parameters for 1,000 classes (He, Zhang, Ren and Sun 2016).

    Source and names as for ResNet-18.
    """
    return _resnet(_basic, 1, (3, 4, 6, 3), input_shape, classes)


def resnet50(input_shape: Shape, classes: int) -> Model:
    """ResNet-50, 25.6 million parameters for 1,000 classes (He, Zhang, Ren and Sun 2016).

    As in torchvision, the stride of a block is that of its 3x3 convolution, not of its first 1x1 one as in the paper (Goyal et
    al., "Accurate, large minibatch SGD", 2017, section 5.1). Source and names as for ResNet-18.
    """
    return _resnet(_bottleneck, 4, (3, 4, 6, 3), input_shape, classes)


def _resnet(block: Block, expansion: int, depths: Sequence[int], input_shape: Shape, classes: int) -> Model:
    """Return the stem, four stages of residual blocks with 64 to 512 channels, and the classifier."""
    image = Input(input_shape)
    stem = [
        conv("conv1", 64, 7, stride=2),
        L.BatchNorm().named("bn1"),
        L.ReLU().named("relu"),
        L.MaxPool2d(3, 2, padding=1).named("maxpool"),
    ]
    y = through(stem, image)
    for stage, depth in enumerate(depths):
        width = 64 << stage
        for number in range(depth):
            stride = 2 if stage > 0 and number == 0 else 1
            name = f"layer{stage + 1}.{number}"
            y = _residual(name, block(name, width, stride), y, width * expansion, stride)
    y = L.GlobalAvgPool().named("avgpool")(y)
    return Model(image, L.Linear(classes).named("fc")(y))


def _residual(name: str, branch: list[Layer], x: Symbol, channels: int, stride: int) -> Symbol:
    """Return relu(branch(x) + x), with a 1x1 convolution of x where the shape changes."""
    y = through(branch, x)
    if stride > 1 or x.shape[-1] != channels:
        projection = [
            conv(f"{name}.downsample.0", channels, 1, stride=stride),
            L.BatchNorm().named(f"{name}.downsample.1"),
        ]
        x = through(projection, x)
    return L.ReLU()(L.Add()(y, x))


def _basic(name: str, width: int, stride: int) -> list[Layer]:
    """Two 3x3 convolutions: the paper's figure 5, left."""
    return [
        conv(f"{name}.conv1", width, 3, stride=stride),
        L.BatchNorm().named(f"{name}.bn1"),
        L.ReLU(),
        conv(f"{name}.conv2", width, 3),
        L.BatchNorm().named(f"{name}.bn2"),
    ]


def _bottleneck(name: str, width: int, stride: int) -> list[Layer]:
    """A 3x3 convolution between two of 1x1, the last to four times the channels: the paper's figure 5, right."""
    return [
        conv(f"{name}.conv1", width, 1),
        L.BatchNorm().named(f"{name}.bn1"),
        L.ReLU(),
        conv(f"{name}.conv2", width, 3, stride=stride),
        L.BatchNorm().named(f"{name}.bn2"),
        L.ReLU(),
        conv(f"{name}.conv3", 4 * width, 1),
        L.BatchNorm().named(f"{name}.bn3"),
    ]
