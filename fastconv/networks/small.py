"""The small networks: fastconv's own, and published ones for small images; each trains on a laptop.

Where an architecture was published for another size of image, it is kept layer by layer, and only the pooling before the last
linear layers adapts.
"""

from __future__ import annotations

from fastconv import layers as L
from fastconv.layers import Layer
from fastconv.layers.symbol import Symbol
from fastconv.model import Input, Model
from fastconv.networks.blocks import through
from fastconv.sequential import Sequential

Shape = tuple[int, ...]


def cnn_small(input_shape: Shape, classes: int) -> Model:
    """Two 3x3 convolutions with batch normalization, one hidden layer: the default, trained in seconds."""
    return Sequential(
        [
            *_conv(32, 3),
            L.MaxPool2d(2),
            *_conv(64, 3),
            L.MaxPool2d(2),
            L.Flatten(),
            L.Linear(128),
            L.ReLU(),
            L.Linear(classes),
        ],
        input_shape=input_shape,
    )


def lenet(input_shape: Shape, classes: int) -> Model:
    """LeNet-5, the network that read cheques (LeCun, Bottou, Bengio and Haffner 1998).

    As in figure 2 of the paper: 5x5 convolutions with 6 and 16 maps, each followed by averages over 2x2 pixels, then 120
    and 84 hidden units, all through tanh. Its 28x28 digits stood in a frame of 32x32, which is the padding of the first
    convolution here. Every map of the second convolution sees all six of the first (the paper left some out to save
    time), the averages have no learned factor, and logits replace the radial basis functions of the output.

    Source: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document recognition",
    Proceedings of the IEEE 86 (11), 1998, section II.
    """
    return Sequential(
        [
            L.Conv2d(6, 5, padding=2),
            L.Tanh(),
            L.AvgPool2d(2),
            L.Conv2d(16, 5),
            L.Tanh(),
            L.AvgPool2d(2),
            L.Flatten(),
            L.Linear(120),
            L.Tanh(),
            L.Linear(84),
            L.Tanh(),
            L.Linear(classes),
        ],
        input_shape=input_shape,
    )


def vgg_small(input_shape: Shape, classes: int) -> Model:
    """Pairs of 3x3 convolutions between poolings, in the manner of VGG (Simonyan and Zisserman 2015), for small images.

    Three stages of 32, 64 and 128 channels, with the batch normalization that VGG did not have yet, and a global average in
    place of its wide linear layers.

    Source: K. Simonyan, A. Zisserman, "Very deep convolutional networks for large-scale image recognition", ICLR 2015.
    """
    stages: list[Layer] = []
    for channels in (32, 64, 128):
        stages += [*_conv(channels, 3), *_conv(channels, 3), L.MaxPool2d(2), L.Dropout(0.2)]
    return Sequential([*stages, L.GlobalAvgPool(), L.Linear(classes)], input_shape=input_shape)


def resnet20(input_shape: Shape, classes: int) -> Model:
    """ResNet-20, the residual network for CIFAR-10 (He, Zhang, Ren and Sun 2016).

    A 3x3 convolution, then three stages of three blocks with 16, 32 and 64 channels, the second and third stage at half
    the resolution of the one before, then the global average. Where the shape changes, the shortcut is a 1x1 convolution
    with stride 2 (option B of the paper; its own CIFAR networks padded the channels with zeros).

    Source: K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition", CVPR 2016, section 4.2.
    """
    image = Input(input_shape)
    y = through(_conv(16, 3), image)
    for stage, channels in enumerate((16, 32, 64)):
        for block in range(3):
            y = _residual(y, channels, halve=stage > 0 and block == 0)
    return Model(image, L.Linear(classes)(L.GlobalAvgPool()(y)))


def mobilenet_small(input_shape: Shape, classes: int) -> Model:
    """Depthwise separable convolutions, in the manner of MobileNet (Howard et al. 2017), for small images.

    One 3x3 convolution, then six pairs of a depthwise 3x3 and a 1x1 convolution, up to 256 channels, with stride 2 in the
    second and the fourth.

    Source: A. Howard et al., "MobileNets: efficient convolutional neural networks for mobile vision applications",
    arXiv:1704.04861, 2017, section 3.
    """
    blocks = _conv(32, 3)
    for channels, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (256, 1)):
        blocks += [
            L.DepthwiseConv2d(3, stride=stride, padding=1, bias=False),
            L.BatchNorm(),
            L.ReLU(),
            *_conv(channels, 1),
        ]
    return Sequential([*blocks, L.GlobalAvgPool(), L.Dropout(0.2), L.Linear(classes)], input_shape=input_shape)


def _conv(channels: int, kernel_size: int, stride: int = 1) -> list[Layer]:
    """Convolution, batch normalization (whose bias makes the convolution's own idle) and ReLU."""
    padding = kernel_size // 2
    return [L.Conv2d(channels, kernel_size, stride=stride, padding=padding, bias=False), L.BatchNorm(), L.ReLU()]


def _residual(x: Symbol, channels: int, halve: bool) -> Symbol:
    """Return relu(shortcut(x) + two convolutions of x), the basic block of He et al. 2016, figure 2."""
    stride = 2 if halve else 1
    *second, relu = _conv(channels, 3)
    y = through([*_conv(channels, 3, stride), *second], x)
    shortcut = through([L.Conv2d(channels, 1, stride=stride, bias=False), L.BatchNorm()], x) if halve else x
    return relu(L.Add()(y, shortcut))
