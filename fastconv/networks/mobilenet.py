"""MobileNetV2 and MobileNetV3: blocks that are narrow at both ends, and wide with depthwise convolutions in between."""

from __future__ import annotations

from collections.abc import Sequence

from fastconv import layers as L
from fastconv.layers import Layer
from fastconv.layers.symbol import Symbol
from fastconv.model import Input, Model
from fastconv.networks.blocks import conv, depthwise, squeeze_excite, through

Shape = tuple[int, ...]

#: Of MobileNetV2, table 2: how many times wider within the block, channels, blocks, stride of the first.
V2_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)

#: Of MobileNetV3, tables 1 and 2: kernel, channels within the block and after it, squeeze-and-excitation, activation, stride.
V3_LARGE = (
    (3, 16, 16, False, L.ReLU, 1),
    (3, 64, 24, False, L.ReLU, 2),
    (3, 72, 24, False, L.ReLU, 1),
    (5, 72, 40, True, L.ReLU, 2),
    (5, 120, 40, True, L.ReLU, 1),
    (5, 120, 40, True, L.ReLU, 1),
    (3, 240, 80, False, L.HardSwish, 2),
    (3, 200, 80, False, L.HardSwish, 1),
    (3, 184, 80, False, L.HardSwish, 1),
    (3, 184, 80, False, L.HardSwish, 1),
    (3, 480, 112, True, L.HardSwish, 1),
    (3, 672, 112, True, L.HardSwish, 1),
    (5, 672, 160, True, L.HardSwish, 2),
    (5, 960, 160, True, L.HardSwish, 1),
    (5, 960, 160, True, L.HardSwish, 1),
)
V3_SMALL = (
    (3, 16, 16, True, L.ReLU, 2),
    (3, 72, 24, False, L.ReLU, 2),
    (3, 88, 24, False, L.ReLU, 1),
    (5, 96, 40, True, L.HardSwish, 2),
    (5, 240, 40, True, L.HardSwish, 1),
    (5, 240, 40, True, L.HardSwish, 1),
    (5, 120, 48, True, L.HardSwish, 1),
    (5, 144, 48, True, L.HardSwish, 1),
    (5, 288, 96, True, L.HardSwish, 2),
    (5, 576, 96, True, L.HardSwish, 1),
    (5, 576, 96, True, L.HardSwish, 1),
)


def mobilenet_v2(input_shape: Shape, classes: int) -> Model:
    """MobileNetV2, 3.5 million parameters for 1,000 classes (Sandler et al. 2018).

    Source: M. Sandler, A. Howard, M. Zhu, A. Zhmoginov, L.-C. Chen, "MobileNetV2: inverted residuals and linear bottlenecks",
    CVPR 2018, table 2. The names of the layers are those of torchvision.
    """
    image = Input(input_shape)
    y = through(_v2_unit("features.0", conv("features.0.0", 32, 3, stride=2)), image)
    at = 1
    for expansion, channels, blocks, first_stride in V2_STAGES:
        for number in range(blocks):
            y = _v2_block(f"features.{at}", y, expansion, channels, first_stride if number == 0 else 1)
            at += 1
    y = through(_v2_unit(f"features.{at}", conv(f"features.{at}.0", 1280, 1)), y)
    y = through([L.GlobalAvgPool(), L.Dropout(0.2).named("classifier.0")], y)
    return Model(image, L.Linear(classes).named("classifier.1")(y))


def _v2_unit(name: str, convolution: Layer) -> list[Layer]:
    return [convolution, L.BatchNorm().named(f"{name}.1"), L.ReLU6().named(f"{name}.2")]


def _v2_block(name: str, x: Symbol, expansion: int, channels: int, stride: int) -> Symbol:
    wide = expansion * x.shape[-1]
    steps: list[Layer] = []
    at = 0  # without an expansion the depthwise convolution is the first
    if expansion != 1:
        steps += _v2_unit(f"{name}.conv.0", conv(f"{name}.conv.0.0", wide, 1))
        at = 1
    steps += [
        *_v2_unit(f"{name}.conv.{at}", depthwise(f"{name}.conv.{at}.0", 3, stride=stride)),
        conv(f"{name}.conv.{at + 1}", channels, 1),
        L.BatchNorm().named(f"{name}.conv.{at + 2}"),
    ]
    y = through(steps, x)
    return L.Add()(x, y) if stride == 1 and x.shape[-1] == channels else y


def mobilenet_v3_large(input_shape: Shape, classes: int) -> Model:
    """MobileNetV3-Large, 5.5 million parameters for 1,000 classes (Howard et al. 2019).

    Source: A. Howard et al., "Searching for MobileNetV3", ICCV 2019, table 1. The names of the layers are those of torchvision.
    """
    return _mobilenet_v3(V3_LARGE, 1280, input_shape, classes)


def mobilenet_v3_small(input_shape: Shape, classes: int) -> Model:
    """MobileNetV3-Small, 2.5 million parameters for 1,000 classes (Howard et al. 2019).

    Source: as for MobileNetV3-Large, table 2.
    """
    return _mobilenet_v3(V3_SMALL, 1024, input_shape, classes)


def _mobilenet_v3(rows: Sequence[tuple], hidden: int, input_shape: Shape, classes: int) -> Model:
    image = Input(input_shape)
    y = through(_v3_unit("features.0", conv("features.0.0", 16, 3, stride=2), L.HardSwish), image)
    for at, row in enumerate(rows, start=1):
        y = _v3_block(f"features.{at}", y, *row)
    last = f"features.{len(rows) + 1}"
    y = through(_v3_unit(last, conv(f"{last}.0", 6 * y.shape[-1], 1), L.HardSwish), y)
    classifier = [
        L.GlobalAvgPool().named("avgpool"),
        L.Linear(hidden).named("classifier.0"),
        L.HardSwish().named("classifier.1"),
        L.Dropout(0.2).named("classifier.2"),
        L.Linear(classes).named("classifier.3"),
    ]
    return Model(image, through(classifier, y))


def _v3_unit(name: str, convolution: Layer, activation: type[Layer] | None) -> list[Layer]:
    norm = L.BatchNorm(momentum=0.99, eps=1e-3).named(f"{name}.1")
    return [convolution, norm, *([activation().named(f"{name}.2")] if activation else [])]


def _v3_block(
    name: str,
    x: Symbol,
    kernel_size: int,
    wide: int,
    channels: int,
    squeeze: bool,
    activation: type[Layer],
    stride: int,
) -> Symbol:
    at, y = 0, x
    if wide != x.shape[-1]:
        y = through(_v3_unit(f"{name}.block.0", conv(f"{name}.block.0.0", wide, 1), activation), y)
        at = 1
    spread = depthwise(f"{name}.block.{at}.0", kernel_size, stride=stride)
    y = through(_v3_unit(f"{name}.block.{at}", spread, activation), y)
    if squeeze:
        at += 1
        y = squeeze_excite(f"{name}.block.{at}", y, _multiple_of_8(wide // 4), gate=L.HardSigmoid)
    at += 1
    y = through(_v3_unit(f"{name}.block.{at}", conv(f"{name}.block.{at}.0", channels, 1), None), y)
    return L.Add()(y, x) if stride == 1 and x.shape[-1] == channels else y


def _multiple_of_8(channels: int) -> int:
    """Return the nearest multiple of 8, the next higher where that would take away more than a tenth."""
    nearest = max(8, (channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8
