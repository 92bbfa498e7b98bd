"""VGG: 3x3 convolutions, one after the other, and three wide linear layers."""

from __future__ import annotations

from fastconv import layers as L
from fastconv.layers import Layer
from fastconv.model import Model
from fastconv.sequential import Sequential

Shape = tuple[int, ...]

#: How many convolutions each of the five stages has, between the poolings.
DEPTHS = {11: (1, 1, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
WIDTHS = (64, 128, 256, 512, 512)


def vgg11(input_shape: Shape, classes: int) -> Model:
    """VGG-11, 133 million parameters for 1,000 classes (Simonyan and Zisserman 2015).

    Source: K. Simonyan, A. Zisserman, "Very deep convolutional networks for large-scale image recognition", ICLR 2015, table 1,
    column A. As in torchvision, whose names the layers have, a pooling brings maps of any size to 7x7.
    """
    return _vgg(11, False, input_shape, classes)


def vgg16(input_shape: Shape, classes: int) -> Model:
    """VGG-16, 138 million parameters for 1,000 classes (Simonyan and Zisserman 2015).

    Source and names as for VGG-11; table 1, column D.
    """
    return _vgg(16, False, input_shape, classes)


def vgg19(input_shape: Shape, classes: int) -> Model:
    """VGG-19, 144 million parameters for 1,000 classes (Simonyan and Zisserman 2015).

    Source and names as for VGG-11; table 1, column E.
    """
    return _vgg(19, False, input_shape, classes)


def vgg11_bn(input_shape: Shape, classes: int) -> Model:
    """VGG-11 with batch normalization after every convolution, as in torchvision."""
    return _vgg(11, True, input_shape, classes)


def vgg16_bn(input_shape: Shape, classes: int) -> Model:
    """VGG-16 with batch normalization after every convolution, as in torchvision."""
    return _vgg(16, True, input_shape, classes)


def vgg19_bn(input_shape: Shape, classes: int) -> Model:
    """VGG-19 with batch normalization after every convolution, as in torchvision."""
    return _vgg(19, True, input_shape, classes)


def _vgg(depth: int, normalized: bool, input_shape: Shape, classes: int) -> Model:
    features: list[Layer] = []
    for width, convolutions in zip(WIDTHS, DEPTHS[depth], strict=True):
        for _ in range(convolutions):
            norm = [L.BatchNorm()] if normalized else []
            features += [L.Conv2d(width, 3, padding=1), *norm, L.ReLU()]
        features.append(L.MaxPool2d(2))
    classifier = [
        L.Linear(4096),
        L.ReLU(),
        L.Dropout(0.5),
        L.Linear(4096),
        L.ReLU(),
        L.Dropout(0.5),
        L.Linear(classes),
    ]
    return Sequential(
        [
            *(layer.named(f"features.{at}") for at, layer in enumerate(features)),
            L.AdaptiveAvgPool2d(7).named("avgpool"),
            L.Flatten(),
            *(layer.named(f"classifier.{at}") for at, layer in enumerate(classifier)),
        ],
        input_shape=input_shape,
    )
