"""The built-in networks: shapes, published sizes, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv import networks
from fastconv.layers import from_spec, to_spec


@pytest.mark.parametrize("name", networks.names())
@pytest.mark.parametrize("channels", [1, 3])
def test_returns_one_logit_for_each_class(name: str, channels: int) -> None:
    model = networks.create(name, (28, 32, channels), 7).build(rng=np.random.default_rng(1))
    x = np.random.default_rng(0).random((2, 28, 32, channels), dtype=np.float32)
    y = model(x)
    assert y.shape == (2, 7)
    assert np.isfinite(y).all()
    assert 0.01 < y.std() < 30, "logits of an untrained network are of the order of 1"


@pytest.mark.parametrize("name", networks.names())
def test_takes_its_smallest_image_and_says_so_below(name: str) -> None:
    least = networks.SMALLEST[name]
    assert networks.create(name, (least, least, 1), 2).output_shape((least, least, 1)) == (2,)
    if least > 1:
        with pytest.raises(
            ValueError, match=rf"{name} needs images of at least {least} x {least} pixels, got {least - 1} x 50"
        ):
            networks.create(name, (least - 1, 50, 1), 2)


@pytest.mark.parametrize(
    ("name", "input_shape", "parameters"),
    [
        # 61,706: with all connections of C3, 1,516 of the paper's become 2,416, and its S2, S4 and RBF units fall away
        ("lenet", (28, 28, 1), 61_706),
        # 0.27 M in table 6 of the paper; the two projections of option B add 2,720 parameters to option A's
        ("resnet20", (32, 32, 3), 269_722 + (16 * 32 + 32 * 64) + 2 * (32 + 64)),
    ],
)
def test_has_the_published_number_of_parameters(name: str, input_shape: tuple[int, int, int], parameters: int) -> None:
    model = networks.create(name, input_shape, 10)
    assert sum(array.size for array in model.params.values()) == parameters


@pytest.mark.parametrize("name", networks.names())
def test_survives_its_own_json(name: str) -> None:
    model = networks.create(name, (28, 28, 1), 5)
    again = from_spec(to_spec(model))
    assert to_spec(again) == to_spec(model)


def test_every_network_is_described_in_one_line() -> None:
    for name in networks.names():
        assert 20 < len(networks.description(name)) < 130


def test_unknown_name_lists_those_that_are() -> None:
    with pytest.raises(ValueError, match=r"no network 'alexnet'; there are: cnn-small, lenet"):
        networks.create("alexnet", (28, 28, 1), 10)


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 0), (1, 28, 28, 1)])
def test_what_is_no_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="input_shape must be"):
        networks.create("lenet", shape, 10)


def test_one_class_is_no_classification() -> None:
    with pytest.raises(ValueError, match="classes must be at least 2, got 1"):
        networks.create("lenet", (28, 28, 1), 1)
