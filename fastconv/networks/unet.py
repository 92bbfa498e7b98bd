"""U-Net: from pixels to pixels, down to a sixteenth of the resolution and up again."""

from __future__ import annotations

from fastconv import layers as L
from fastconv.layers import Layer
from fastconv.model import Input, Model
from fastconv.networks.blocks import through

Shape = tuple[int, ...]


def unet(input_shape: Shape, classes: int) -> Model:
    """U-Net for segmentation, 31 million parameters; one logit for each pixel and class (Ronneberger et al. 2015).

    ``(N, H, W, C)`` to ``(N, H, W, classes)``, H and W multiples of 16. As most implementations have it: 3x3 convolutions
    keep the size (the paper's cut the border off), and batch normalization follows them. torchvision has no U-Net; the names of
    the layers are those of github.com/milesial/Pytorch-UNet, with transposed convolutions.

    Source: O. Ronneberger, P. Fischer, T. Brox, "U-Net: convolutional networks for biomedical image segmentation", MICCAI 2015,
    figure 1.
    """
    if input_shape[0] % 16 or input_shape[1] % 16:
        raise ValueError(
            "input_shape: unet needs images whose height and width are multiples of 16 pixels, "
            f"got {input_shape[0]} x {input_shape[1]}"
        )
    image = Input(input_shape)
    y = through(_double("inc", 64), image)
    skipped = []
    for level in range(1, 5):
        skipped.append(y)
        y = through([L.MaxPool2d(2), *_double(f"down{level}.maxpool_conv.1", 64 << level)], y)
    for level in range(1, 5):
        channels = 1024 >> level
        y = L.ConvTranspose2d(channels, 2, stride=2).named(f"up{level}.up")(y)
        y = through(_double(f"up{level}.conv", channels), L.Concat()(skipped.pop(), y))
    return Model(image, L.Conv2d(classes, 1).named("outc.conv")(y))


def _double(name: str, channels: int) -> list[Layer]:
    """Two 3x3 convolutions, each with batch normalization and ReLU."""
    return [
        layer.named(f"{name}.double_conv.{at}")
        for at, layer in enumerate(
            [
                L.Conv2d(channels, 3, padding=1, bias=False),
                L.BatchNorm(),
                L.ReLU(),
                L.Conv2d(channels, 3, padding=1, bias=False),
                L.BatchNorm(),
                L.ReLU(),
            ]
        )
    ]
