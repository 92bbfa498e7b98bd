"""Operations that put numbers elsewhere, and small ones of two inputs: what the layers compute, and none runs as a layer."""

from __future__ import annotations

import numpy as np
import pytest
from frozen_cases import assert_equal_models, trained

import fastconv
from fastconv import layers as L
from fastconv.frozen.moves import Slice
from fastconv.frozen.plan import Plan
from fastconv.frozen.unweighted import Pair, Squeeze, Unsqueeze
from fastconv.model import Input, Model

SHAPE = (6, 5, 20)


def frozen_kinds(connect, shape=SHAPE, dtype=np.float32):
    """Return the kinds of the frozen steps of what `connect` makes of a symbol, after comparing it with the model."""
    x = Input(shape)
    model = trained(Model(x, connect(x)).astype(dtype))
    frozen = fastconv.freeze(model)
    for batch in (0, 1, 3):
        assert_equal_models(frozen, model, batch=batch)
    return [step.operation.kind for step in frozen.program.steps]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sizes", [(4, 16), (1, 2, 17), (10, 10)])
def test_channels_are_split(isa, threads, dtype, sizes):
    def connect(x):
        return L.Concat()(*(L.Tanh()(part) for part in L.Split(sizes)(x)))

    kinds = frozen_kinds(connect, dtype=dtype)
    assert kinds.count("slice") == len(sizes)
    assert "layer" not in kinds


def test_rows_are_split(threads):
    def connect(x):
        first, second = L.Split((2, 4), 1)(x)
        return L.Concat(1)(second, L.ReLU()(first))

    assert "layer" not in frozen_kinds(connect)


@pytest.mark.parametrize(
    "arguments",
    [
        (-1, 3, 9),
        (3, -5, None),
        (1, 1, None, 2),
        ((1, 3), (None, 2), (4, None)),
        (2, None, None, -1),
        (3, None, None, -3),
    ],
)
def test_slices_are_those_of_the_layer(isa, arguments):
    assert frozen_kinds(lambda x: L.ReLU()(L.Slice(*arguments)(x))) == ["slice", "activate"]


def test_channels_go_to_their_place_at_once():
    def connect(x):
        first, second = L.Split((16, 4))(x)
        return L.Concat()(L.Conv2d(32, 1)(first), second)

    x = Input(SHAPE)
    frozen = fastconv.freeze(trained(Model(x, connect(x))))
    plan = Plan(frozen.program, [(1, *SHAPE)])
    assert [len(each.calls) for each in plan.steps if each.step.operation.kind == "concat"] == [0]


@pytest.mark.parametrize(("layer", "how"), [(L.ReduceMean, "avg"), (L.ReduceMax, "max")])
@pytest.mark.parametrize("keepdims", [True, False])
@pytest.mark.parametrize("shape", [(6, 5, 20), (9, 3), (2, 3, 4, 5)])
def test_what_is_left_of_all_pixels_is_a_pooling(layer, how, keepdims, shape):
    axes = tuple(range(1, len(shape)))[::-1]
    assert frozen_kinds(lambda x: layer(axes, keepdims=keepdims)(x), shape) == ["adaptive_pool"]


def test_what_is_left_of_some_pixels_is_no_pooling():
    assert frozen_kinds(lambda x: L.ReduceMean(1)(x)) == ["reduce"]
    assert frozen_kinds(lambda x: L.ReduceMean((1, 2, 3))(x)) == ["reduce"]


@pytest.mark.parametrize("layer", [L.Subtract, L.Divide])
def test_pairs(threads, layer):
    def stretched(x):
        return layer()(L.Softplus()(x), L.GlobalAvgPool(keepdims=True)(L.Softplus()(x)))

    assert "layer" not in frozen_kinds(stretched)
    assert "layer" not in frozen_kinds(lambda x: layer()(L.Conv2d(20, 1)(x), L.Softplus()(x)))


def test_a_quotient_by_zero_is_infinite_and_silent():
    x, y = Input((3,)), Input((3,))
    frozen = fastconv.freeze(Model([x, y], L.Divide()(x, y)).build())
    np.testing.assert_array_equal(
        frozen(np.array([[1.0, 0, 2]], np.float32), np.array([[0.0, 0, 4]], np.float32)), [[np.inf, np.nan, 0.5]]
    )


def test_axes_of_one_move_nothing():
    def connect(x):
        return L.Squeeze(1)(L.ReLU()(L.Unsqueeze((1, 4))(x)))

    x = Input(SHAPE)
    model = trained(Model(x, connect(x)))
    frozen = fastconv.freeze(model)
    assert_equal_models(frozen, model)
    assert len(frozen.explain(repeats=1).steps) == 1


def test_zeros_around_are_part_of_the_convolution():
    kinds = frozen_kinds(lambda x: L.Conv2d(4, 3)(L.Pad([(0, 1), (1, 2), (0, 0)])(x)))
    assert kinds == ["conv"]
    kinds = frozen_kinds(lambda x: L.Conv2d(4, 3)(L.Pad([(0, 1), (1, 2), (0, 1)])(x)))
    assert kinds == ["surrounded", "conv"]
    kinds = frozen_kinds(lambda x: L.Conv2d(4, 3)(L.Pad([(0, 1), (1, 2), (0, 0)], value=1.0)(x)))
    assert kinds == ["surrounded", "conv"]


@pytest.mark.parametrize(
    ("operation", "shape", "message"),
    [
        (Slice(((0, 1, None, None),)), (2, 3), "parts must name axes of x"),
        (Slice(((1, 1, None, 0),)), (2, 3), "parts must name axes of x"),
        (Slice(((1, 3, None, None),)), (2, 3), "nothing is left"),
        (Squeeze((1,)), (2, 3), "only axes of size 1"),
        (Squeeze((0,)), (1, 3), "only axes of size 1"),
        (Unsqueeze((0,)), (1, 3), "axes must be different places"),
        (Unsqueeze((1, 1)), (1, 3), "axes must be different places"),
        (Pair("other"), (1, 3), "a function of two numbers is one of"),
        (Pair("quotient"), (1, 3), "takes two inputs"),
    ],
)
def test_errors(operation, shape, message):
    with pytest.raises(ValueError, match=message):
        operation.output_shape(shape)
