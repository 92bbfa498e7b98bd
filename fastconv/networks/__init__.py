"""The networks: names to builders of image classifiers, fastconv's own and those of plugins.

A builder takes the shape of one image, ``(H, W, C)``, and the number of classes, and returns a model whose output are
logits, one for each class (``"unet"``: one for each pixel and class). The weights are drawn when the model is built:
``model.build(input_shape, rng=rng)``; those that others have trained come from `fastconv.load_torch_weights`, for the layers of
the published architectures are called as those of torchvision.

A plugin offers its builder as an entry point of the group ``fastconv.models``, a program registers one with
``@fastconv.networks.register("my.tiny")``.

>>> from fastconv import networks
>>> networks.names()[:6]
['cnn-small', 'densenet121', 'efficientnet_b0', 'lenet', 'mobilenet-small', 'mobilenet_v2']
>>> model = networks.create("lenet", (28, 28, 1), 10)
>>> model.output_shape((28, 28, 1))
(10,)
"""

from __future__ import annotations

from collections.abc import Callable

from fastconv.model import Model
from fastconv.networks.densenet import densenet121
from fastconv.networks.efficientnet import efficientnet_b0
from fastconv.networks.mobilenet import mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small
from fastconv.networks.resnet import resnet18, resnet34, resnet50
from fastconv.networks.small import cnn_small, lenet, mobilenet_small, resnet20, vgg_small
from fastconv.networks.squeezenet import squeezenet1_0, squeezenet1_1
from fastconv.networks.unet import unet
from fastconv.networks.vgg import vgg11, vgg11_bn, vgg16, vgg16_bn, vgg19, vgg19_bn
from fastconv.registry import Registry, UnknownNameError, closest

Shape = tuple[int, ...]
Builder = Callable[[Shape, int], Model]

registry = Registry("fastconv.models")

#: Decorator that gives a builder of one's own a name, as ``@fastconv.layers.register`` does for a layer.
register = registry.register


def create(name: str, input_shape: Shape, classes: int) -> Model:
    """Return the network `name` for images of `input_shape`, ``(H, W, C)``, and a number of `classes`; it is not built yet.

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
    least = SMALLEST.get(name, 1)
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
        close = closest(name, known, cutoff=0.85)  # AlexNet is no LeNet
        hint = f"did you mean {close!r}? There" if close else "there"
        raise ValueError(f"there is no network {name!r}; {hint} are: {', '.join(known)}") from None
    return found


def names() -> list[str]:
    """Return the names of the built-in networks, sorted."""
    return sorted(NETWORKS)


def description(name: str) -> str:
    """Return the first sentence of a built-in network's documentation."""
    return (NETWORKS[name].__doc__ or "").partition("\n")[0]


#: Name on the command line to builder; those with an underscore or a number alone are called as in torchvision.
NETWORKS: dict[str, Builder] = {
    "cnn-small": cnn_small,
    "lenet": lenet,
    "vgg-small": vgg_small,
    "resnet20": resnet20,
    "mobilenet-small": mobilenet_small,
    "resnet18": resnet18,
    "resnet34": resnet34,
    "resnet50": resnet50,
    "vgg11": vgg11,
    "vgg16": vgg16,
    "vgg19": vgg19,
    "vgg11_bn": vgg11_bn,
    "vgg16_bn": vgg16_bn,
    "vgg19_bn": vgg19_bn,
    "mobilenet_v2": mobilenet_v2,
    "mobilenet_v3_small": mobilenet_v3_small,
    "mobilenet_v3_large": mobilenet_v3_large,
    "efficientnet_b0": efficientnet_b0,
    "densenet121": densenet121,
    "squeezenet1_0": squeezenet1_0,
    "squeezenet1_1": squeezenet1_1,
    "unet": unet,
}

#: The shortest side, in pixels, that leaves at least one pixel after every pooling and stride; 1 where nothing is said.
SMALLEST = {
    "cnn-small": 4,
    "lenet": 12,
    "vgg-small": 8,
    "vgg11": 32,
    "vgg16": 32,
    "vgg19": 32,
    "vgg11_bn": 32,
    "vgg16_bn": 32,
    "vgg19_bn": 32,
    "densenet121": 29,
    "squeezenet1_0": 29,
    "squeezenet1_1": 25,
    "unet": 16,
}

#: The network of `fastconv train` without options.
DEFAULT = "cnn-small"
