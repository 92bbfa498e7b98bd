"""EfficientNet: inverted residual blocks with squeeze-and-excitation, found by a search."""

from __future__ import annotations

from fastconv import layers as L
from fastconv.layers import Layer
from fastconv.layers.symbol import Symbol
from fastconv.model import Input, Model
from fastconv.networks.blocks import conv, depthwise, squeeze_excite, through

Shape = tuple[int, ...]

#: The paper's table 1: how many times wider within the block, kernel, stride of the first block, channels, blocks.
STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)

#: How often, in training, the last block is left out for a sample; the blocks before it less often, the first never.
STOCHASTIC_DEPTH = 0.2


def efficientnet_b0(input_shape: Shape, classes: int) -> Model:
    """EfficientNet-B0, 5.3 million parameters for 1,000 classes (Tan and Le 2019).

    Source: M. Tan, Q. Le, "EfficientNet: rethinking model scaling for convolutional neural networks", ICML 2019, table 1. The
    names of the layers are those of torchvision.
    """
    image = Input(input_shape)
    y = through(_unit("features.0", conv("features.0.0", 32, 3, stride=2)), image)
    count, total = 0, sum(blocks for *_, blocks in STAGES)
    for stage, (expansion, kernel_size, first_stride, channels, blocks) in enumerate(STAGES, start=1):
        for number in range(blocks):
            stride = first_stride if number == 0 else 1
            rate = STOCHASTIC_DEPTH * count / total
            y = _block(f"features.{stage}.{number}.block", y, expansion, kernel_size, stride, channels, rate)
            count += 1
    last = f"features.{len(STAGES) + 1}"
    y = through(_unit(last, conv(f"{last}.0", 1280, 1)), y)
    y = through([L.GlobalAvgPool().named("avgpool"), L.Dropout(0.2).named("classifier.0")], y)
    return Model(image, L.Linear(classes).named("classifier.1")(y))


def _unit(name: str, convolution: Layer, *, activation: bool = True) -> list[Layer]:
    norm = L.BatchNorm().named(f"{name}.1")
    return [convolution, norm, *([L.SiLU().named(f"{name}.2")] if activation else [])]


def _block(name: str, x: Symbol, expansion: int, kernel_size: int, stride: int, channels: int, rate: float) -> Symbol:
    narrow, at, y = x.shape[-1], 0, x
    if expansion != 1:
        y = through(_unit(f"{name}.0", conv(f"{name}.0.0", expansion * narrow, 1)), y)
        at = 1
    y = through(_unit(f"{name}.{at}", depthwise(f"{name}.{at}.0", kernel_size, stride=stride)), y)
    y = squeeze_excite(f"{name}.{at + 1}", y, max(1, narrow // 4), activation=L.SiLU)
    y = through(_unit(f"{name}.{at + 2}", conv(f"{name}.{at + 2}.0", channels, 1), activation=False), y)
    return L.Add()(L.StochasticDepth(rate)(y), x) if stride == 1 and narrow == channels else y
