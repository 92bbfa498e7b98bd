"""Chains of layers: what they make, how they learn their input, and every message."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastconv.layers import Conv2d, Flatten, Linear, ReLU
from fastconv.model import Input
from fastconv.sequential import Sequential

IMAGES = np.random.default_rng(0).standard_normal((2, 6, 6, 3)).astype(np.float32)


def test_a_chain() -> None:
    layers = [Conv2d(4, 3), ReLU(), Flatten(), Linear(5)]
    model = Sequential(layers)
    assert not model.built
    assert model.input_shapes == ()
    y = model(IMAGES)
    assert model.built
    assert y.shape == (2, 5)
    value = IMAGES
    for layer in layers:
        value = layer(value)
    np.testing.assert_array_equal(y, value)
    assert [layer.name for layer in model.layers] == ["conv2d_1", "relu_1", "flatten_1", "linear_1"]
    assert list(model.params) == ["conv2d_1/weight", "conv2d_1/bias", "linear_1/weight", "linear_1/bias"]
    assert model.params["conv2d_1/weight"] is layers[0].params["weight"]
    assert repr(model) == "Sequential(conv2d_1, relu_1, flatten_1, linear_1)"


def test_three_ways_to_give_the_shape() -> None:
    for model in (
        Sequential([Linear(2)], input_shape=(3,)),
        Sequential([Input((3,)), Linear(2)]),
        Sequential([Linear(2)]).build((3,)),
    ):
        assert model.input_shapes == ((3,),)
        assert model.params["linear_1/weight"].shape == (3, 2)
        assert [symbol.shape for symbol in model.outputs] == [(2,)]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda x: Sequential(ReLU()), TypeError, "layers must be a list of layers, got ReLU"),
        (lambda x: Sequential([]), ValueError, "layers must be at least one layer, got none"),
        (lambda x: Sequential([x]), ValueError, "layers must be at least one layer, got none"),
        (lambda x: Sequential([ReLU(), x]), TypeError, r"layers\[1\] must be a layer, got <symbol"),
        (lambda x: Sequential([ReLU]), TypeError, r"layers\[0\] must be a layer, got <class .*: call it, to make one"),
        (
            lambda x: Sequential([x, ReLU()], input_shape=(3,)),
            ValueError,
            "may be an Input where input_shape is not given",
        ),
        (lambda x: Sequential([ReLU()(x), ReLU()]), ValueError, "the first of layers may be an Input"),
        (lambda x: Sequential([ReLU()])(x, x), ValueError, "takes 1 input, got 2"),
    ],
)
def test_what_is_no_chain(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make(Input((3,)))
