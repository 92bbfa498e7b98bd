"""Parts of concatenations: which are written to their place, and that what is computed stays the same."""

from __future__ import annotations

import numpy as np
import pytest
from frozen_cases import assert_equal_models, inputs, trained

import fastconv
from fastconv import layers as L
from fastconv.frozen.places import parts_in_place
from fastconv.model import Input, Model

SHAPE = (9, 7, 20)


def frozen_of(connect, shape=SHAPE, dtype=np.float32):
    """Return the frozen model of what `connect` makes of a symbol, which computes what the model computes."""
    x = Input(shape)
    model = trained(Model(x, connect(x)).astype(dtype))
    frozen = fastconv.freeze(model)
    for x in (inputs(model, batch) for batch in (1, 3)):
        want = model(*x)
        tolerance = 1e-4 if dtype == np.float32 else 1e-12  # Winograd's algorithm is chosen elsewhere than in the model
        np.testing.assert_allclose(frozen(*x), want, rtol=0, atol=tolerance * abs(want).max())
    return frozen


def places(frozen):
    """Return, for the first layer of each step whose output is channels of another value, (first, width)."""
    program = frozen.program
    shapes = program.example_shapes()
    found = parts_in_place(program, shapes, [[shapes[value] for value in step.reads] for step in program.steps])
    return {
        step.layers[0]: (found[value].first, found[value].width)
        for step in program.steps
        for value in step.writes
        if value in found
    }


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_convolutions_write_to_their_place(isa, threads, dtype):
    def connect(x):
        parts = (
            L.Conv2d(16, 1),
            L.Conv2d(48, 3, padding=1),
            L.Conv2d(32, 5, padding=2),
            L.Conv2d(64, (1, 3), padding=(0, 1)),
        )
        return L.Conv2d(5, 1)(L.Concat()(*(L.ReLU()(part(x)) for part in parts)))

    found = places(frozen_of(connect, dtype=dtype))
    assert found == {"conv2d_1": (0, 160), "conv2d_2": (16, 160), "conv2d_3": (64, 160), "conv2d_4": (96, 160)}


@pytest.mark.parametrize("activation", [L.Tanh, L.PReLU, L.ReLU6])
def test_activations_at_their_place(isa, threads, activation):
    frozen = frozen_of(lambda x: L.Concat()(x, activation()(L.Conv2d(32, 3, padding=1)(x))))
    assert places(frozen) == {"conv2d_1": (20, 52)}


@pytest.mark.parametrize("channels", [64, 24, 10])
def test_winograd_at_its_place(channels, isa, threads):
    frozen = frozen_of(lambda x: L.Concat()(x, L.ReLU()(L.Conv2d(channels, 3, padding=1)(x))), shape=(24, 25, 64))
    assert places(frozen) == {"conv2d_1": (64, 64 + channels)}
    assert "winograd" in str(frozen.explain(repeats=1))


@pytest.mark.parametrize(
    ("part", "name", "channels"),
    [
        (lambda x: L.Conv2d(40, 1)(x), "conv2d_1", 40),
        (lambda x: L.DepthwiseConv2d(3, 4, padding="same")(x), "depthwiseconv2d_1", 80),
        (lambda x: L.Conv2d(32, 3, padding=1, groups=4)(x), "conv2d_1", 32),
        (lambda x: L.PReLU()(L.Conv2d(60, 1, groups=20)(x)), "conv2d_1", 60),
        (lambda x: L.ConvTranspose2d(32, 3, padding=1)(x), "convtranspose2d_1", 32),
        (lambda x: L.MaxPool2d(3, 1, padding=1)(x), "maxpool2d_1", 20),
        (lambda x: L.AvgPool2d(3, 1, padding=1)(x), "avgpool2d_1", 20),
        (lambda x: L.AdaptiveMaxPool2d((9, 7))(x), "adaptivemaxpool2d_1", 20),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_others_write_to_their_place(part, name, channels, isa, threads, dtype):
    for first in (0, 20):
        order = (lambda x, y: L.Concat()(x, y)) if first else (lambda x, y: L.Concat()(y, x))
        found = places(frozen_of(lambda x, order=order: order(x, part(x)), dtype=dtype))
        assert found == {name: (first, 20 + channels)}


@pytest.mark.parametrize("channels", [3, 20, 33])
def test_few_channels_are_pooled_to_and_from_their_place(channels, isa, threads):
    def connect(x):
        y = L.MaxPool2d(3, 1, padding=1)(L.Conv2d(channels, 1)(x))
        z = L.AvgPool2d(3, 1, padding=1)(y)
        return L.Concat()(x, y, z), L.GlobalMaxPool()(y)

    x = Input(SHAPE)
    model = trained(Model(x, list(connect(x))))
    frozen = fastconv.freeze(model)
    width = 20 + 2 * channels
    assert places(frozen) == {"maxpool2d_1": (20, width), "avgpool2d_1": (20 + channels, width)}
    for batch in (1, 3):
        assert_equal_models(frozen, model, batch=batch)


def test_pooled_vectors_are_joined_in_place(isa, threads):
    frozen = frozen_of(lambda x: L.Concat()(L.GlobalAvgPool()(x), L.GlobalMaxPool()(x)))
    assert places(frozen) == {"globalavgpool_1": (0, 40), "globalmaxpool_1": (20, 40)}


def test_the_way_over_a_u_is_not_copied(isa, threads):
    def connect(x):
        over = L.ReLU()(L.Conv2d(32, 3, padding=1)(x))
        deep = L.Conv2d(48, 3, padding=1)(L.MaxPool2d(2)(over))
        return L.Conv2d(4, 1)(L.Concat()(over, L.ConvTranspose2d(16, 2, stride=2)(deep)))

    assert places(frozen_of(connect, (12, 10, 20))) == {"conv2d_1": (0, 48), "convtranspose2d_1": (32, 48)}


def test_a_dense_block_is_one_array(isa, threads):
    def connect(x):
        for _ in range(4):
            y = L.Conv2d(32, 3, padding=1)(L.Conv2d(24, 1)(L.ReLU()(L.BatchNorm()(x))))
            x = L.Concat()(x, y)
        return L.GlobalAvgPool()(L.Tanh()(L.BatchNorm()(x)))

    found = places(frozen_of(connect))
    assert found == {
        **{f"concat_{i}": (0, 148) for i in (1, 2, 3)},
        **{f"conv2d_{2 * i + 2}": (20 + 32 * i, 148) for i in range(4)},
    }


@pytest.mark.parametrize(
    "part",
    [
        lambda x: L.Conv2d(20, 1)(x),  # columns that fill no vector
        lambda x: L.ConvTranspose2d(20, 3, padding=1)(x),
        lambda x: L.ReLU()(L.ConvTranspose2d(32, 3, padding=1)(x)),
        lambda x: L.Conv2d(6, 3, padding=1)(x),  # lines as a whole
        lambda x: L.DepthwiseConv2d(3, padding="same")(x),
        lambda x: L.ReLU()(x),
        lambda x: L.Add()(L.Conv2d(32, 1)(x), L.Conv2d(32, 3, padding=1)(L.ReLU()(x))),
    ],
)
def test_others_are_copied(part):
    assert places(frozen_of(lambda x: L.Concat()(part(x), x))) == {}


def test_what_others_read_stays_together():
    def connect(x):
        y = L.Conv2d(32, 1)(x)
        return L.Concat()(y, x), L.Softmax()(y)

    x = Input(SHAPE)
    model = trained(Model(x, list(connect(x))))
    assert places(fastconv.freeze(model)) == {}
    assert_equal_models(fastconv.freeze(model), model)


def test_an_output_and_a_part_that_comes_twice_stay_together():
    x = Input(SHAPE)
    y = L.Conv2d(32, 1)(x)
    model = trained(Model(x, [L.Concat()(y, x), y]))
    assert places(fastconv.freeze(model)) == {}
    assert_equal_models(fastconv.freeze(model), model)
    assert places(frozen_of(lambda x: (lambda y: L.Concat()(y, y))(L.Conv2d(32, 1)(x)))) == {}


def test_a_part_of_two_concatenations_is_in_neither():
    def connect(x):
        y = L.Conv2d(32, 1)(x)
        return L.Multiply()(L.Concat()(y, x), L.Concat()(x, y))

    assert "conv2d_1" not in places(frozen_of(connect))


def test_other_axes_are_copied():
    frozen = frozen_of(lambda x: L.Concat(1)(L.Conv2d(32, 1)(x), L.Conv2d(32, 1)(x)))
    assert places(frozen) == {}


def test_no_image_at_all():
    frozen = frozen_of(lambda x: L.Concat()(L.Conv2d(32, 1)(x), L.ReLU()(L.Conv2d(16, 3, padding=1)(x))))
    assert frozen(np.zeros((0, *SHAPE), np.float32)).shape == (0, 9, 7, 48)


def test_the_table_says_in_place():
    frozen = frozen_of(lambda x: L.Concat()(L.Conv2d(32, 1)(x), L.Conv2d(16, 1)(x)))
    (step,) = (step for step in frozen.explain(repeats=1).steps if step.operation == "concat")
    assert step.algorithm == "in place"
