"""The built-in networks of fastconv in PyTorch: the same layers, the same initial distribution does not matter for time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from benchmarks.case import Case, Engine
from benchmarks.tensors import images, memory_format


def conv_norm(channels: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Convolution without a bias, batch normalization and ReLU."""
    layer = nn.Conv2d(channels, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)
    return [layer, nn.BatchNorm2d(outputs), nn.ReLU()]


def cnn_small(channels: int, size: int, classes: int) -> nn.Module:
    """Return the default network."""
    return nn.Sequential(
        *(*conv_norm(channels, 32, 3), nn.MaxPool2d(2), *conv_norm(32, 64, 3), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear((size // 4) ** 2 * 64, 128), nn.ReLU(), nn.Linear(128, classes)),
    )


def lenet(channels: int, size: int, classes: int) -> nn.Module:
    """Return LeNet-5."""
    features = ((size // 2 - 4) // 2) ** 2 * 16
    return nn.Sequential(
        *(nn.Conv2d(channels, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh()),
        *(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(features, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh()),
        nn.Linear(84, classes),
    )


def vgg_small(channels: int, size: int, classes: int) -> nn.Module:
    """Return pairs of 3x3 convolutions between poolings."""
    stages: list[nn.Module] = []
    for outputs in (32, 64, 128):
        stages += [*conv_norm(channels, outputs, 3), *conv_norm(outputs, outputs, 3), nn.MaxPool2d(2), nn.Dropout(0.2)]
        channels = outputs
    return nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


class Residual(nn.Module):
    """The basic block of He et al. 2016, with a 1x1 convolution where the shape changes."""

    def __init__(self, channels: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.main = nn.Sequential(*conv_norm(channels, outputs, 3, stride), *conv_norm(outputs, outputs, 3)[:-1])
        shortcut = [] if stride == 1 else conv_norm(channels, outputs, 1, stride)[:-1]
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return relu(shortcut(x) + main(x))."""
        return nn.functional.relu(self.main(x) + self.shortcut(x))


def resnet20(channels: int, size: int, classes: int) -> nn.Module:
    """Return ResNet-20."""
    layers, before = conv_norm(channels, 16, 3), 16
    for outputs in (16, 32, 64):
        for block in range(3):
            layers.append(Residual(before, outputs, 2 if outputs > 16 and block == 0 else 1))
            before = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes))


def mobilenet_small(channels: int, size: int, classes: int) -> nn.Module:
    """Return depthwise separable convolutions."""
    layers, before = conv_norm(channels, 32, 3), 32
    for outputs, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (256, 1)):
        layers += [*conv_norm(before, before, 3, stride, groups=before), *conv_norm(before, outputs, 1)]
        before = outputs
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(before, classes))
    return nn.Sequential(*layers, *head)


BUILDERS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "cnn-small": cnn_small,
    "lenet": lenet,
    "vgg-small": vgg_small,
    "resnet20": resnet20,
    "mobilenet-small": mobilenet_small,
}


def prepare(engine: Engine, case: Case, way: str) -> Callable[[], Any]:
    """Return an inference or a training step of a network."""
    model = BUILDERS[case.name](case.channels, case.size[0], case.outputs)
    model = model.to(dtype=getattr(torch, engine.dtype), memory_format=memory_format(engine, 4))
    x = images(case.input_shape, engine)
    if way == "inference":
        model.eval()

        def infer() -> Any:
            with torch.inference_mode():
                return model(x)

        return infer
    labels = torch.arange(case.batch) % case.outputs
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), labels).backward()
        optimizer.step()

    return step
