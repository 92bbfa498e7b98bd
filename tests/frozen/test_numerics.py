"""What NumPy does in a frozen model: constants of any shape, sums along any axes, functions of each number."""

from __future__ import annotations

import numpy as np
import pytest
from frozen_cases import assert_equal_models, trained
from hypothesis import given
from hypothesis import strategies as st

import fastconv
from fastconv import layers as L
from fastconv.frozen.numerics import ConcatWith, Function, Reduce, With
from fastconv.frozen.unweighted import Pair
from fastconv.model import Input, Model

PAIRS = [L.Add, L.Subtract, L.Multiply, L.Divide, L.Maximum, L.Minimum]
REDUCTIONS = [L.ReduceMean, L.ReduceSum, L.ReduceMax, L.ReduceMin, L.ReduceL2]
FUNCTIONS = [L.Abs, L.Exp, L.Log, L.Sqrt, L.Square, L.Reciprocal, L.Sin, L.Cos]


def kinds(model):
    return [step.operation.kind for step in fastconv.freeze(model).program.steps]


def given_layer(inner, at, shape, seed=0):
    layer = L.Partial(inner, [[at, list(shape), "float", False]])
    layer.build(*[shape], rng=np.random.default_rng(0))
    layer.buffers[f"input_{at}"][...] = np.random.default_rng(seed).uniform(0.5, 2, shape)
    layer._built = True
    return layer


@st.composite
def stretched_shapes(draw):
    """Draw two shapes that stretch to each other."""
    whole = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    return tuple(tuple(draw(st.sampled_from([n, n, 1])) for n in whole) for _ in range(2))


@given(stretched_shapes(), st.sampled_from(PAIRS), st.integers(0, 1), st.integers(0, 20), st.sampled_from(["f4", "f8"]))
def test_constants_of_any_shape(shapes, inner, at, batch, dtype):
    x = Input(shapes[0])
    model = Model(x, given_layer(inner(), at, shapes[1])(L.Sigmoid()(x))).build().astype(np.dtype(dtype))
    assert "layer" not in kinds(model)
    assert_equal_models(fastconv.freeze(model), model, batch=batch)


@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=4),
    st.data(),
    st.sampled_from(REDUCTIONS),
    st.booleans(),
    st.booleans(),
)
def test_along_any_axes(shape, data, reduction, keepdims, later):
    axes = data.draw(st.sets(st.integers(1, len(shape)), min_size=1))
    x = Input(tuple(shape))
    y = L.ReLU()(x) if later else x
    model = Model(x, reduction(sorted(axes), keepdims=keepdims)(y)).build()
    assert "layer" not in kinds(model)
    for batch in (0, 1, 3):
        assert_equal_models(fastconv.freeze(model), model, batch=batch)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_functions_of_each_number(function):
    x = Input((3, 4))
    model = Model(x, function()(L.Sigmoid()(x))).build()
    assert "layer" not in kinds(model)
    assert_equal_models(fastconv.freeze(model), model)


@pytest.mark.parametrize("pair", [L.Maximum, L.Minimum, L.Power])
def test_functions_of_two_numbers(pair):
    x, y = Input((3, 4)), Input((3, 1))
    model = Model([x, y], pair()(L.Sigmoid()(x), L.Sigmoid()(y))).build()
    assert "pair" in kinds(model)
    assert_equal_models(fastconv.freeze(model), model)


@pytest.mark.parametrize(("axis", "at"), [(1, 0), (1, 1), (-1, 0), (2, 1)])
def test_constants_are_joined_with(axis, at):
    x = Input((3, 4))
    shape = (2, 4) if axis == 1 else (3, 5)
    model = Model(x, L.ReLU()(given_layer(L.Concat(axis), at, shape)(L.ReLU()(x)))).build()
    assert kinds(model) == ["activate", "concat_with", "activate"]
    for batch in (0, 1, 3):
        assert_equal_models(fastconv.freeze(model), model, batch=batch)


def test_axes_are_stretched():
    x = Input((3, 1, 4))
    model = Model(x, L.Expand((3, 5, 1))(L.ReLU()(x))).build()
    assert kinds(model) == ["activate", "stretch"]
    assert_equal_models(fastconv.freeze(model), model)


def test_a_vision_transformer_has_no_layer_that_is_not_compiled(tmp_path):
    x = Input((8, 8, 3))
    y = L.Reshape((16, 12))(L.Conv2d(12, 2, stride=2)(x))
    y = given_layer(L.Add(), 1, (17, 12))(given_layer(L.Concat(1), 0, (1, 12))(y))
    z = L.LayerNorm()(y)
    q, k, v = (L.Transpose((2, 1, 3))(L.Reshape((17, 3, 4))(L.Linear(12)(z))) for _ in range(3))
    scores = given_layer(L.Add(), 1, (3, 17, 17))(L.MatMul()(q, L.Transpose((1, 3, 2))(k)))
    z = L.Reshape((17, 12))(L.Transpose((2, 1, 3))(L.MatMul()(L.Softmax()(scores), v)))
    y = L.ReduceMean(1)(L.Add()(y, L.Linear(12)(z)))
    model = trained(Model(x, L.Linear(5)(y)))
    frozen = fastconv.freeze(model)
    assert "layer" not in kinds(model)
    assert_equal_models(frozen, model)
    frozen.save(tmp_path / "frozen")
    again = fastconv.load_frozen(tmp_path / "frozen")
    xs = np.random.default_rng(0).standard_normal((2, 8, 8, 3)).astype(np.float32)
    assert again(xs).tobytes() == frozen(xs).tobytes()
    assert again.constant_bytes == frozen.constant_bytes > 17 * 12 * 4


@pytest.mark.parametrize("reduce", REDUCTIONS)
@pytest.mark.parametrize("entries", [1, 2, 8, 9])
def test_few_entries_along_the_last_axis(reduce, entries):
    x = Input((3, 5, 6, entries))
    gate = L.ReduceMean((2, 3), keepdims=True)(x)
    model = trained(Model(x, reduce(-1)(L.Multiply()(gate, x))))
    assert "layer" not in kinds(model)
    assert_equal_models(fastconv.freeze(model), model)
    kept = trained(Model(x, reduce(-1, keepdims=True)(x)))
    assert_equal_models(fastconv.freeze(kept), kept)


def test_what_a_file_may_have_wrong():
    with pytest.raises(ValueError, match="a function is one of abs"):
        Function("other").output_shape((1, 2))
    for operation, shapes in ((Pair("other"), [(1, 2)] * 2), (With("other", np.ones(2)), [(1, 2)])):
        with pytest.raises(ValueError, match="a function of two numbers is one of sum"):
            operation.output_shape(*shapes)
    with pytest.raises(ValueError, match="the constant must be an array, got 3"):
        With("sum", 3).output_shape((1, 2))
    with pytest.raises(ValueError, match="must have one shape"):
        With("sum", np.ones(3)).output_shape((1, 2))
    for reduce in (Reduce("mode", (1,)), Reduce("sum", ()), Reduce("sum", (0,)), Reduce("sum", (2,))):
        with pytest.raises(ValueError, match="there is no"):
            reduce.output_shape((1, 2))
    with pytest.raises(ValueError, match="are not joined along axis 0 with 1 parts"):
        ConcatWith(0, (None,)).output_shape((1, 2))
    with pytest.raises(ValueError, match="must have one shape except along axis 1"):
        ConcatWith(1, (None, np.ones((2, 3)))).output_shape((1, 2, 4))
