"""The networks: names to builders of image classifiers, fastconv's own and those of plugins.

A builder takes the shape of one image, ``(H, W, C)``, and the number of classes, and returns a model whose output are
logits, one for each class. The weights are drawn when the model is built: ``model.build(input_shape, rng=rng)``.

A plugin offers its builder as an entry point of the group ``fastconv.models``, a program registers one with
``@fastconv.networks.register("my.tiny")``.

Each of fastconv's own is small enough to train on a laptop. Where an architecture was published for another size of image, it
is kept layer by layer, and only the pooling before the last linear layers adapts.

>>> from fastconv import networks
>>> networks.names()
['cnn-small', 'lenet', 'mobilenet-small', 'resnet20', 'vgg-small']
>>> model = networks.create("lenet", (28, 28, 1), 10)
>>> model.output_shape((28, 28, 1))
(10,)
"""

from __future__ import annotations

from collections.abc import Callable

from fastconv import layers as L
from fastconv.layers import Layer
from fastconv.layers.symbol import Symbol
from fastconv.model import Input, Model, Sequential
from fastconv.registry import Registry, UnknownNameError

Shape = tuple[int, ...]
Builder = Callable[[Shape, int], Model]

registry = Registry("fastconv.models")

#: Decorator that gives a builder of one's own a name, as ``@fastconv.layers.register`` does for a layer.
register = registry.register


def create(name: str, input_shape: Shape, classes: int) -> Model:
    """Return the network `name` for images of `input_shape`, ``(H, W, C)``, and a number of `classes`.

    `name` is a built-in one, or that of a plugin, ``"acme.tiny"``, which is imported.

    Raises `ValueError` where there is no such network, the shape is not that of an image, the image is too small for the
    network's poolings, or there are fewer than two classes; for a plugin's network `PluginLoadError` where the plugin is
    broken, and `TypeError` where what it returns is no model.
    """
    build = builder(name)
    shape = tuple(input_shape)
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"input_shape must be (height, width, channels), all at least 1, got {shape}")
    if classes < 2:
        raise ValueError(f"classes must be at least 2, got {classes}")
    if name not in NETWORKS:
        model = build(shape, classes)
        if not isinstance(model, Model):
            raise TypeError(f"the network {name!r} must be a function that returns a model, got {model!r:.200}")
        return model
    least = SMALLEST[name]
    if min(shape[:2]) < least:
        raise ValueError(
            f"input_shape: {name} needs images of at least {least} x {least} pixels, got {shape[0]} x {shape[1]}"
        )
    return build(shape, classes)


def builder(name: str) -> Builder:
    """Return what builds the network `name`; raise `ValueError` where there is none."""
    if name in NETWORKS:
        return NETWORKS[name]
    try:
        found: Builder = registry.get(name)
    except UnknownNameError:
        known = [*names(), *(entry.name for entry in registry.entries() if not entry.error)]
        raise ValueError(f"there is no network {name!r}; there are: {', '.join(known)}") from None
    return found


def names() -> list[str]:
    """Return the names of the built-in networks, sorted."""
    return sorted(NETWORKS)


def description(name: str) -> str:
    """Return the first sentence of a built-in network's documentation."""
    return (NETWORKS[name].__doc__ or "").partition("\n")[0]


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
    y = _through(_conv(16, 3), image)
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


#: Name on the command line to builder.
NETWORKS: dict[str, Builder] = {
    "cnn-small": cnn_small,
    "lenet": lenet,
    "vgg-small": vgg_small,
    "resnet20": resnet20,
    "mobilenet-small": mobilenet_small,
}

#: The shortest side, in pixels, that leaves at least one pixel after every pooling and stride.
SMALLEST = {"cnn-small": 4, "lenet": 12, "vgg-small": 8, "resnet20": 1, "mobilenet-small": 1}

#: The network of `fastconv train` without options.
DEFAULT = "cnn-small"


def _conv(channels: int, kernel_size: int, stride: int = 1) -> list[Layer]:
    """Convolution, batch normalization (whose bias makes the convolution's own idle) and ReLU."""
    padding = kernel_size // 2
    return [L.Conv2d(channels, kernel_size, stride=stride, padding=padding, bias=False), L.BatchNorm(), L.ReLU()]


def _residual(x: Symbol, channels: int, halve: bool) -> Symbol:
    """Return relu(shortcut(x) + two convolutions of x), the basic block of He et al. 2016, figure 2."""
    stride = 2 if halve else 1
    *second, relu = _conv(channels, 3)
    y = _through([*_conv(channels, 3, stride), *second], x)
    shortcut = _through([L.Conv2d(channels, 1, stride=stride, bias=False), L.BatchNorm()], x) if halve else x
    return relu(L.Add()(y, shortcut))


def _through(steps: list[Layer], x: Symbol) -> Symbol:
    for step in steps:
        x = step(x)
    return x
