"""The built-in networks: shapes, published sizes, and what they refuse."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch_names import digest

from fastconv import networks
from fastconv.layers import Context, Layer, Linear, from_spec, to_spec
from fastconv.layers.windowed import Windowed
from fastconv.model import Model
from fastconv.weights.pytorch import torch_slots

FACTS: dict[str, Any] = json.loads((Path(__file__).parent / "torchvision.json").read_text())["networks"]

#: Networks whose linear layers alone have more than a hundred million weights.
HEAVY = [name for name in networks.names() if re.match(r"vgg\d", name)]


def smallest(name: str) -> int:
    return networks.SMALLEST.get(name, 1)


def outputs(name: str, size: int, classes: int) -> tuple[int, ...]:
    return (size, size, classes) if name == "unet" else (classes,)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the weights at zero: memory that nobody touches costs nothing."""
    for kind in (Windowed, Linear):
        module = sys.modules[kind.__module__]
        monkeypatch.setattr(module, "initialize", lambda _, shape, *args, **keywords: np.zeros(shape, np.float32))


@pytest.mark.parametrize("name", [name for name in networks.names() if name not in HEAVY])
@pytest.mark.parametrize("channels", [1, 3])
def test_returns_one_logit_for_each_class(name: str, channels: int) -> None:
    model = networks.create(name, (32, 32, channels), 7).build(rng=np.random.default_rng(1))
    x = np.random.default_rng(0).random((4, 32, 32, channels), dtype=np.float32)
    # in training: before it, running statistics say nothing about the values deep in a network
    y, _ = model.forward(Context(training=True), x)
    assert y.shape == model(x).shape == (4, *outputs(name, 32, 7))
    assert np.isfinite(y).all()
    assert 0.01 < y.std() < 30, "logits of an untrained network are of the order of 1"


@pytest.mark.parametrize("name", networks.names())
def test_takes_its_smallest_image_and_says_so_below(name: str) -> None:
    least = smallest(name)
    assert networks.create(name, (least, least, 1), 2).output_shape((least, least, 1)) == outputs(name, least, 2)
    if least > 1:
        with pytest.raises(
            ValueError, match=rf"{name} needs images of at least {least} x {least} pixels, got {least - 1} x 50"
        ):
            networks.create(name, (least - 1, 50, 1), 2)


def test_the_u_net_takes_multiples_of_16_pixels() -> None:
    assert networks.create("unet", (48, 32, 1), 2).output_shape((48, 32, 1)) == (48, 32, 2)
    with pytest.raises(
        ValueError, match=r"unet needs images whose height and width are multiples of 16 .* got 48 x 40"
    ):
        networks.create("unet", (48, 40, 1), 2)


def test_all_networks_of_torchvision_are_compared() -> None:
    own = {"cnn-small", "lenet", "mobilenet-small", "resnet20", "unet", "vgg-small"}
    assert set(FACTS) == set(networks.names()) - own


@pytest.mark.parametrize("name", FACTS)
def test_weights_are_called_and_shaped_as_in_torchvision(name: str, undrawn: None) -> None:
    model = networks.create(name, (224, 224, 3), 1000)
    shapes = {called: slot.shapes[0] for called, slot in torch_slots(model).items()}
    assert sum(array.size for array in model.params.values()) == FACTS[name]["parameters"]
    assert len(shapes) == FACTS[name]["arrays"]
    assert digest(shapes) == FACTS[name]["digest"]


def test_residual_branches_are_never_added_across_a_stride() -> None:
    # on an image of one pixel a stride changes no shape, and what is added is still a question of the architecture
    for name in ("resnet18", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "efficientnet_b0"):
        kinds = [
            [type(layer).__name__ for layer in networks.create(name, (size, size, 3), 10).layers] for size in (1, 64)
        ]
        assert kinds[0] == kinds[1]


def test_the_last_blocks_of_efficientnet_are_left_out_most_often() -> None:
    rates = [
        layer.config["rate"] for layer in layers_of("efficientnet_b0") if type(layer).__name__ == "StochasticDepth"
    ]
    assert rates == sorted(rates)
    assert len(rates) == 9
    assert 0 < rates[0] < rates[-1] < 0.2


def layers_of(name: str) -> tuple[Layer, ...]:
    model: Model = networks.create(name, (64, 64, 3), 10)
    return model.layers


@pytest.mark.parametrize(
    ("name", "input_shape", "parameters"),
    [
        # 61,706: with all connections of C3, 1,516 of the paper's become 2,416, and its S2, S4 and RBF units fall away
        ("lenet", (28, 28, 1), 61_706),
        # 0.27 M in table 6 of the paper; the two projections of option B add 2,720 parameters to option A's
        ("resnet20", (32, 32, 3), 269_722 + (16 * 32 + 32 * 64) + 2 * (32 + 64)),
        # of the implementation whose names it has: 31,037,633 with one class
        ("unet", (32, 32, 3), 31_037_633 + 9 * 65),
    ],
)
def test_has_the_published_number_of_parameters(name: str, input_shape: tuple[int, int, int], parameters: int) -> None:
    model = networks.create(name, input_shape, 10)
    assert sum(array.size for array in model.params.values()) == parameters


@pytest.mark.parametrize("name", networks.names())
def test_survives_its_own_json(name: str) -> None:
    model = networks.create(name, (32, 32, 1), 5)
    again = from_spec(to_spec(model))
    assert to_spec(again) == to_spec(model)


def test_every_network_is_described_in_one_line() -> None:
    for name in networks.names():
        assert 20 < len(networks.description(name)) < 130


def test_a_name_that_is_nearly_right_is_answered_with_the_right_one() -> None:
    with pytest.raises(ValueError, match=r"no network 'resnet-18'; did you mean 'resnet18'\? There are: cnn-small"):
        networks.create("resnet-18", (32, 32, 3), 10)


def test_unknown_name_lists_those_that_are() -> None:
    with pytest.raises(ValueError, match=r"no network 'alexnet'; there are: cnn-small, densenet121"):
        networks.create("alexnet", (28, 28, 1), 10)


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 0), (1, 28, 28, 1)])
def test_what_is_no_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="input_shape must be"):
        networks.create("lenet", shape, 10)


def test_one_class_is_no_classification() -> None:
    with pytest.raises(ValueError, match="classes must be at least 2, got 1"):
        networks.create("lenet", (28, 28, 1), 1)
