"""Numbers that are copied in a frozen model: padded, repeated, taken at fixed places, chosen by a fixed condition."""

from __future__ import annotations

import numpy as np
import pytest
from frozen_cases import assert_equal_models
from hypothesis import given
from hypothesis import strategies as st

import fastconv
from fastconv import layers as L
from fastconv.frozen.copies import Chosen, Surrounded, Taken, Tiled
from fastconv.model import Input, Model

SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)


def held(inner, arrays):
    """Return a layer that holds these arrays, by the numbers of its inputs."""
    kinds = {at: "float" if array.dtype.kind == "f" else array.dtype.name for at, array in arrays.items()}
    layer = L.Partial(inner, [[at, list(array.shape), kinds[at], False] for at, array in arrays.items()])
    layer.buffers.update({f"input_{at}": array for at, array in arrays.items()})
    layer._built = True
    return layer


def assert_compiled(layer, shape, kind, batch=2, dtype="f4"):
    """Check a layer between activations, of which one reads its output and the other is its input."""
    x = Input(shape)
    model = Model(x, L.Sigmoid()(layer(L.Tanh()(x)))).build().astype(np.dtype(dtype))
    frozen = fastconv.freeze(model)
    assert [step.operation.kind for step in frozen.program.steps][1] == kind
    assert_equal_models(frozen, model, batch=batch)
    return frozen


@given(SHAPES, st.data(), st.sampled_from([0.0, 1.0, -2.5]), st.integers(0, 3), st.sampled_from(["f4", "f8"]))
def test_padding_with_a_number(shape, data, value, batch, dtype):
    pairs = [data.draw(st.tuples(st.integers(0, 2), st.integers(0, 2))) for _ in shape]
    pairs[-1] = (pairs[-1][0], 1)  # of channels too, which no convolution pads
    assert_compiled(L.Pad(pairs, value=value), shape, "surrounded", batch, dtype)


@pytest.mark.parametrize("layer", [L.Pad([(1, 1)], mode="edge"), L.Pad([(-1, 2)]), L.Pad([(0, 1)], value="inf")])
def test_other_padding_stays_a_layer(layer):
    assert_compiled(layer, (4,), "layer")


@given(SHAPES, st.data(), st.integers(0, 3))
def test_repeated(shape, data, batch):
    repeats = [data.draw(st.integers(1, 3)) for _ in shape]
    assert_compiled(L.Tile(repeats), shape, "tiled", batch)


@given(SHAPES, st.data(), st.integers(0, 3), st.sampled_from(["int32", "int64"]))
def test_taken_at_fixed_places(shape, data, batch, dtype):
    axis = data.draw(st.integers(1, len(shape)))
    size = st.integers(-shape[axis - 1], shape[axis - 1] - 1)
    rows = data.draw(st.lists(st.tuples(size, size), min_size=1, max_size=3))
    layer = held(L.Gather(axis), {1: np.array(rows, dtype)})  # two axes: one of channels alone is a picking
    assert_compiled(layer, shape, "taken", batch)


@given(SHAPES, st.data(), st.integers(0, 3), st.sampled_from([(), (1,), (2,)]))
def test_chosen_by_a_fixed_condition(shape, data, batch, constant):
    def array(dtype):
        sizes = [data.draw(st.sampled_from([n, 1])) for n in shape]
        return np.random.default_rng(sum(sizes)).integers(-1, 2, sizes).astype(dtype)

    layer = held(L.Where(), {0: array(bool), **{at: array(np.float32) for at in constant}})
    x = Input(shape)
    values = [L.Tanh()(x) for _ in range(2 - len(constant))]
    model = Model(x, layer(*values)).build()
    frozen = fastconv.freeze(model)
    assert "layer" not in {step.operation.kind for step in frozen.program.steps}
    assert_equal_models(frozen, model, batch=batch)


def test_picked_channels_come_back_from_a_file(tmp_path):
    x = Input((3, 4))
    model = Model(x, held(L.Gather(2), {1: np.array([3, 1])})(x)).build()
    frozen = fastconv.freeze(model)
    assert [step.operation.kind for step in frozen.program.steps] == ["pick"]
    frozen.save(tmp_path / "frozen")
    xs = np.random.default_rng(0).random((3, 3, 4), np.float32)
    np.testing.assert_array_equal(fastconv.load_frozen(tmp_path / "frozen")(xs), model(xs))


def test_they_come_back_from_a_file(tmp_path):
    x = Input((4, 3))
    y = held(L.Gather(1), {1: np.array([[0, -1], [2, 2]])})(L.Tile((1, 2))(L.Pad([(0, 1), (0, 0)], value=1.0)(x)))
    mask = np.array([[[True], [False]], [[False], [True]]])
    model = Model(x, held(L.Where(), {0: mask, 2: np.full((1, 1, 1), -np.inf, np.float32)})(y)).build()
    frozen = fastconv.freeze(model)
    assert [step.operation.kind for step in frozen.program.steps] == ["surrounded", "tiled", "taken", "chosen"]
    frozen.save(tmp_path / "frozen")
    xs = np.random.default_rng(0).random((3, 4, 3), np.float32)
    np.testing.assert_array_equal(frozen(xs), model(xs))
    np.testing.assert_array_equal(fastconv.load_frozen(tmp_path / "frozen")(xs), model(xs))


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (Surrounded(((1, -1),)), "pairs must be two numbers for each axis"),
        (Surrounded(((1, 1), (1, 1))), "pairs must be two numbers for each axis"),
        (Tiled((0,)), "repeats must be at least 1 for each axis"),
        (Tiled((1, 1)), "repeats must be at least 1 for each axis"),
        (Taken(0, np.array([0])), "places must be entries along axis 0"),
        (Taken(1, np.array([4])), "places must be entries along axis 1"),
        (Taken(1, np.array([0.0])), "places must be entries along axis 1"),
        (Chosen(np.ones(4, bool)), "1 inputs and 0 arrays"),
        (Chosen(np.ones(4), np.ones(4)), "a condition chooses from two"),
        (Chosen(np.ones(3, bool), np.ones(4)), "the inputs must have one shape"),
    ],
)
def test_what_a_file_may_have_wrong(operation, message):
    with pytest.raises(ValueError, match=message):
        operation.output_shape((2, 4))
