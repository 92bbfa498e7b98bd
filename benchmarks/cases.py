"""The cases, as data: the layers of real networks, derived from the papers that published them.

Each network is a list of its distinct layers; image sizes are those of the layer's input. Where a paper describes blocks in a
table, the rows of that table stand here, and a function unfolds them as the paper says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from benchmarks.case import Case

#: Images in a batch.
BATCHES = (1, 16, 64)


class Network(NamedTuple):
    """A network's name, where it was published, and its distinct layers."""

    name: str
    source: str
    layers: list[Case]
    small: bool = False  # images of 32x32 pixels and fewer


def _sizes(size: int | tuple[int, ...]) -> tuple[tuple[int, ...], int]:
    sizes = (size, size) if isinstance(size, int) else size
    return sizes, len(sizes)


def conv(
    size: int | tuple[int, ...],
    channels: int,
    outputs: int,
    kernel: int = 3,
    stride: int | tuple[int, ...] = 1,
    *,
    padding: int | None = None,
    dilation: int = 1,
    groups: int = 1,
    op: str = "conv",
) -> Case:
    """Return a convolution; `padding` keeps the size of the image unless it is given."""
    sizes, rank = _sizes(size)
    around = dilation * (kernel // 2) if padding is None else padding
    strides = (stride,) * rank if isinstance(stride, int) else stride
    return Case(op, sizes, channels, outputs, (kernel,) * rank, strides, (around,) * rank, dilation, groups)


def up(size: int, channels: int, outputs: int, kernel: int, *, padding: int = 0) -> Case:
    """Return a transposed convolution with stride 2."""
    return conv(size, channels, outputs, kernel, 2, padding=padding, op="conv_transpose")


def depthwise(size: int, channels: int, kernel: int, stride: int = 1) -> Case:
    """Return a convolution of each channel by itself."""
    return conv(size, channels, channels, kernel, stride, groups=channels)


def pool(
    size: int | tuple[int, ...],
    channels: int,
    kernel: int | tuple[int, ...] = 2,
    stride: int = 0,
    *,
    padding: int = 0,
    op: str = "max_pool",
) -> Case:
    """Return a pooling; windows touch unless there is a stride."""
    sizes, rank = _sizes(size)
    windows = (kernel,) * rank if isinstance(kernel, int) else kernel
    strides = (stride,) * rank if stride else windows
    return Case(op, sizes, channels, 0, windows, strides, (padding,) * rank)


def average(size: int, channels: int) -> Case:
    """Return the mean of each channel over the image."""
    return Case("global_avg_pool", (size, size), channels)


def linear(channels: int, outputs: int) -> Case:
    """Return a linear layer."""
    return Case("linear", (), channels, outputs)


def norm(size: int, channels: int) -> Case:
    """Return a batch normalization."""
    return Case("batch_norm", (size, size), channels)


def activation(name: str, size: int, channels: int) -> Case:
    """Return an activation."""
    return Case("activation", (size, size), channels, name=name)


def network(name: str, size: int, channels: int) -> Case:
    """Return a whole network with 10 classes."""
    return Case("network", (size, size), channels, 10, name=name)


def bottlenecks(rows: Iterable[tuple[int, int, int, int]], groups: int = 1) -> Iterator[Case]:
    """Unfold rows (size, channels in, width, stride) of He et al.: 1x1, 3x3, 1x1 with 4 times the width (2 times if grouped).

    The stride is in the 3x3 convolution, as everybody has it since. Blocks after the first have stride 1.
    """
    for size, channels, width, stride in rows:
        after, wide = size // stride, width * (4 if groups == 1 else 2)
        yield conv(size, channels, width, 1)
        yield conv(size, width, width, 3, stride, groups=groups)
        yield conv(after, width, wide, 1)
        yield conv(size, channels, wide, 1, stride)
        yield conv(after, wide, width, 1)
        yield conv(after, width, width, 3, groups=groups)


def inverted(size: int, channels: int, rows: Iterable[tuple[int, int, int, int, int]]) -> Iterator[Case]:
    """Unfold rows (expansion, kernel, channels, repeats, stride): 1x1 up, depthwise, 1x1 down (Sandler et al., table 1)."""
    for expansion, kernel, outputs, repeats, stride in rows:
        for step in [stride] + [1] * (repeats - 1):
            wide = channels * expansion
            if expansion > 1:
                yield conv(size, channels, wide, 1)
            yield depthwise(size, wide, kernel, step)
            size //= step
            yield conv(size, wide, outputs, 1)
            channels = outputs


def dense_blocks(size: int, channels: int, growth: int, rows: Iterable[int]) -> Iterator[Case]:
    """Unfold the numbers of layers of each block: 1x1 to 4 times the growth, 3x3 to the growth, and the transitions."""
    rows = list(rows)
    for block, layers in enumerate(rows):
        for _ in range(layers):
            yield conv(size, channels, 4 * growth, 1)
            channels += growth
        yield conv(size, 4 * growth, growth)
        if block < len(rows) - 1:
            yield conv(size, channels, channels // 2, 1)
            channels //= 2
            yield pool(size, channels, op="avg_pool")
            size //= 2


NETWORKS = [
    Network(
        "VGG-16",
        "Simonyan and Zisserman, Very deep convolutional networks for large-scale image recognition, ICLR 2015, table 1, D",
        [
            *(
                conv(224, 3, 64),
                conv(224, 64, 64),
                pool(224, 64),
                conv(112, 64, 128),
                conv(112, 128, 128),
                pool(112, 128),
            ),
            *(conv(56, 128, 256), conv(56, 256, 256), pool(56, 256), conv(28, 256, 512), conv(28, 512, 512)),
            *(pool(28, 512), conv(14, 512, 512), activation("relu", 224, 64), activation("relu", 14, 512)),
        ],
    ),
    Network(
        "ResNet-18",
        "He, Zhang, Ren and Sun, Deep residual learning for image recognition, CVPR 2016, table 1",
        [
            *(conv(224, 3, 64, 7, 2), pool(112, 64, 3, 2, padding=1), norm(112, 64), activation("relu", 112, 64)),
            *(conv(56, 64, 64), conv(56, 64, 128, 3, 2), conv(56, 64, 128, 1, 2), conv(28, 128, 128)),
            *(conv(28, 128, 256, 3, 2), conv(28, 128, 256, 1, 2), conv(14, 256, 256)),
            *(conv(14, 256, 512, 3, 2), conv(14, 256, 512, 1, 2), conv(7, 512, 512), average(7, 512)),
        ],
    ),
    Network(
        "ResNet-50",
        "He, Zhang, Ren and Sun, Deep residual learning for image recognition, CVPR 2016, table 1",
        [
            *bottlenecks([(56, 64, 64, 1), (56, 256, 128, 2), (28, 512, 256, 2), (14, 1024, 512, 2)]),
            *(norm(56, 256), norm(28, 512), norm(14, 256), norm(7, 2048), activation("relu", 56, 256)),
            *(activation("relu", 7, 512), average(7, 2048)),
        ],
    ),
    Network(
        "MobileNetV2",
        "Sandler et al., MobileNetV2: inverted residuals and linear bottlenecks, CVPR 2018, table 2",
        [
            conv(224, 3, 32, 3, 2),
            *inverted(
                112,
                32,
                [
                    (1, 3, 16, 1, 1),
                    (6, 3, 24, 2, 2),
                    (6, 3, 32, 3, 2),
                    (6, 3, 64, 4, 2),
                    (6, 3, 96, 3, 1),
                    (6, 3, 160, 3, 2),
                    (6, 3, 320, 1, 1),
                ],
            ),
            *(conv(7, 320, 1280, 1), average(7, 1280), norm(112, 96), norm(56, 24), norm(14, 576)),
        ],
    ),
    Network(
        "EfficientNet-B0",
        "Tan and Le, EfficientNet: rethinking model scaling for convolutional neural networks, ICML 2019, table 1",
        [
            conv(224, 3, 32, 3, 2),
            *inverted(
                112,
                32,
                [
                    (1, 3, 16, 1, 1),
                    (6, 3, 24, 2, 2),
                    (6, 5, 40, 2, 2),
                    (6, 3, 80, 3, 2),
                    (6, 5, 112, 3, 1),
                    (6, 5, 192, 4, 2),
                    (6, 3, 320, 1, 1),
                ],
            ),
            *(
                conv(7, 320, 1280, 1),
                activation("silu", 56, 144),
                activation("silu", 14, 480),
                activation("sigmoid", 1, 480),
            ),
        ],
    ),
    Network(
        "DenseNet-121",
        "Huang, Liu, van der Maaten and Weinberger, Densely connected convolutional networks, CVPR 2017, table 1",
        [conv(224, 3, 64, 7, 2), *dense_blocks(56, 64, 32, [6, 12, 24, 16]), norm(28, 320), norm(14, 1024)],
    ),
    Network(
        "U-Net",
        "Ronneberger, Fischer and Brox, U-Net: convolutional networks for biomedical image segmentation, MICCAI 2015, figure 1",
        [
            *(conv(572, 1, 64, padding=0), conv(570, 64, 64, padding=0), pool(568, 64), conv(284, 64, 128, padding=0)),
            *(conv(282, 128, 128, padding=0), conv(140, 128, 256, padding=0), conv(138, 256, 256, padding=0)),
            *(conv(68, 256, 512, padding=0), conv(66, 512, 512, padding=0), pool(64, 512)),
            *(conv(32, 512, 1024, padding=0), conv(30, 1024, 1024, padding=0)),
            *(up(28, 1024, 512, 2), conv(56, 1024, 512, padding=0), conv(54, 512, 512, padding=0)),
            *(up(52, 512, 256, 2), conv(104, 512, 256, padding=0), conv(102, 256, 256, padding=0)),
            *(up(100, 256, 128, 2), conv(200, 256, 128, padding=0), conv(198, 128, 128, padding=0)),
            *(up(196, 128, 64, 2), conv(392, 128, 64, padding=0), conv(390, 64, 64, padding=0), conv(388, 64, 2, 1)),
        ],
    ),
    Network(
        "ResNeXt-50",
        "Xie, Girshick, Dollar, Tu and He, Aggregated residual transformations for deep neural networks, CVPR 2017, table 1",
        [
            layer
            for layer in bottlenecks(
                [(56, 64, 128, 1), (56, 256, 256, 2), (28, 512, 512, 2), (14, 1024, 1024, 2)], groups=32
            )
            if layer.groups > 1
        ],
    ),
    Network(
        "DeepLab",
        "Chen et al., Rethinking atrous convolution for semantic image segmentation, arXiv:1706.05587, 2017, figure 5; "
        "VGG-16 at rate 2: Chen et al., ICLR 2015, section 3.1",
        [
            *(conv(33, 2048, 256, dilation=6), conv(33, 2048, 256, dilation=12), conv(33, 2048, 256, dilation=18)),
            *(conv(33, 512, 512, dilation=2), conv(41, 512, 512, dilation=2)),
        ],
    ),
    Network(
        "DCGAN",
        "Radford, Metz and Chintala, Unsupervised representation learning with deep convolutional generative adversarial "
        "networks, ICLR 2016, figure 1; 4x4 kernels, as everybody has it since",
        [
            *(up(4, 1024, 512, 4, padding=1), up(8, 512, 256, 4, padding=1), up(16, 256, 128, 4, padding=1)),
            *(up(32, 128, 3, 4, padding=1), activation("leaky_relu", 32, 128)),
        ],
    ),
    Network(
        "AlexNet",
        "Krizhevsky, One weird trick for parallelizing convolutional neural networks, arXiv:1404.5997, 2014",
        [conv(224, 3, 64, 11, 4, padding=2), conv(27, 64, 192, 5), pool(55, 64, 3, 2)],
    ),
    Network(
        "GoogLeNet",
        "Szegedy et al., Going deeper with convolutions, CVPR 2015, table 1",
        [
            *(conv(28, 16, 32, 5), conv(28, 32, 96, 5), conv(14, 24, 64, 5), conv(14, 32, 128, 5), conv(7, 48, 128, 5)),
            pool(28, 192, 3, 1, padding=1),
        ],
    ),
    Network(
        "MobileNetV3",
        "Howard et al., Searching for MobileNetV3, ICCV 2019, table 1",
        [activation("hard_swish", 112, 16), activation("hard_swish", 14, 480), activation("hard_sigmoid", 1, 672)],
    ),
    Network(
        "ConvNeXt-T",
        "Liu et al., A ConvNet for the 2020s, CVPR 2022, figure 4",
        [activation("gelu", 56, 384), activation("gelu", 14, 1536)],
    ),
    Network(
        "M5",
        "Dai, Dai, Qu, Li and Das, Very deep convolutional neural networks for raw waveforms, ICASSP 2017, table 1: audio",
        [
            *(conv((32000,), 1, 128, 80, 4), conv((2000,), 128, 128), conv((500,), 128, 256), conv((125,), 256, 512)),
            *(pool((8000,), 128, 4), pool((500,), 256, 4)),
        ],
    ),
    Network(
        "wav2vec 2.0",
        "Baevski, Zhou, Mohamed and Auli, wav2vec 2.0, NeurIPS 2020, section 4.2: the feature encoder on one second of audio",
        [
            *(conv((16000,), 1, 512, 10, 5, padding=0), conv((3199,), 512, 512, 3, 2, padding=0)),
            *(conv((799,), 512, 512, 3, 2, padding=0), conv((99,), 512, 512, 2, 2, padding=0)),
        ],
    ),
    Network(
        "C3D",
        "Tran et al., Learning spatiotemporal features with 3D convolutional networks, ICCV 2015, figure 3: video",
        [
            *(conv((16, 112, 112), 3, 64), conv((16, 56, 56), 64, 128), conv((8, 28, 28), 128, 256)),
            *(conv((8, 28, 28), 256, 256), conv((4, 14, 14), 256, 512), conv((4, 14, 14), 512, 512)),
            *(conv((2, 7, 7), 512, 512), pool((16, 112, 112), 64, (1, 2, 2)), pool((16, 56, 56), 128)),
        ],
    ),
    Network(
        "LeNet",
        "LeCun et al., Gradient-based learning applied to document recognition, Proc. IEEE 86, 1998, figure 2",
        [
            *(
                conv(28, 1, 6, 5),
                pool(28, 6, op="avg_pool"),
                conv(14, 6, 16, 5, padding=0),
                pool(10, 16, op="avg_pool"),
            ),
            *(linear(400, 120), linear(120, 84), linear(84, 10), activation("tanh", 28, 6), network("lenet", 28, 1)),
        ],
        small=True,
    ),
    Network(
        "cnn-small",
        "the default network of fastconv, on Fashion-MNIST (Xiao, Rasul and Vollgraf, arXiv:1708.07747, 2017)",
        [
            *(conv(28, 1, 32), norm(28, 32), activation("relu", 28, 32), pool(28, 32), conv(14, 32, 64), pool(14, 64)),
            *(linear(3136, 128), linear(128, 10), network("cnn-small", 28, 1)),
        ],
        small=True,
    ),
    Network(
        "ResNet-20",
        "He, Zhang, Ren and Sun, Deep residual learning for image recognition, CVPR 2016, section 4.2: CIFAR-10",
        [
            *(conv(32, 3, 16), conv(32, 16, 16), conv(32, 16, 32, 3, 2), conv(32, 16, 32, 1, 2), conv(16, 32, 32)),
            *(conv(16, 32, 64, 3, 2), conv(16, 32, 64, 1, 2), conv(8, 64, 64), norm(32, 16), norm(8, 64)),
            *(average(8, 64), linear(64, 10), network("resnet20", 32, 3)),
        ],
        small=True,
    ),
    Network(
        "VGG for CIFAR",
        "stages of 32, 64 and 128 channels after Simonyan and Zisserman, ICLR 2015",
        [
            *(conv(32, 3, 32), conv(32, 32, 32), pool(32, 32), conv(16, 32, 64), conv(16, 64, 64), pool(16, 64)),
            *(conv(8, 64, 128), conv(8, 128, 128), pool(8, 128), network("vgg-small", 32, 3)),
        ],
        small=True,
    ),
    Network(
        "MobileNet for CIFAR",
        "depthwise separable convolutions after Howard et al., MobileNets, arXiv:1704.04861, 2017",
        [
            *(
                conv(32, 3, 32),
                depthwise(32, 32, 3),
                conv(32, 32, 64, 1),
                depthwise(32, 64, 3, 2),
                conv(16, 64, 128, 1),
            ),
            *(depthwise(16, 128, 3), depthwise(16, 128, 3, 2), conv(8, 256, 256, 1), network("mobilenet-small", 32, 3)),
        ],
        small=True,
    ),
]
