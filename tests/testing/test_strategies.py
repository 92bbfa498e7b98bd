"""The public strategies: what they draw is what they say, and everything they draw is taken by the layers."""

from __future__ import annotations

import numpy as np
from hypothesis import find, given, settings
from hypothesis import strategies as st

import fastconv.layers as L
from fastconv.geometry import conv_output
from fastconv.layers import Context
from fastconv.layers.tree import walk
from fastconv.testing import strategies


@given(st.data(), st.integers(0, 3))
def test_shapes_have_the_rank_asked_for(data, rank):
    shape = data.draw(strategies.shapes(rank=rank))
    assert len(shape) == rank + 2
    assert min(shape) >= 1


@given(strategies.shapes(rank=1, batch=st.just(0), sizes=st.just(9), channels=st.just(6)))
def test_shapes_take_their_parts_from_strategies(shape):
    assert shape == (0, 9, 6)


@given(strategies.arrays(strategies.shapes(), dtype=np.float64, low=1.0, high=2.0, distinct=True))
def test_arrays_lie_in_their_range_and_are_distinct(x):
    assert x.dtype == np.float64
    assert np.unique(x).size == x.size
    assert (x == x.astype(np.float32)).all()
    assert ((x >= 1) & (x <= 2)).all()


def test_arrays_shrink_to_one_number():
    assert find(strategies.arrays(strategies.shapes()), lambda x: True).size == 1


@given(st.data(), st.integers(1, 3))
def test_the_windows_of_a_geometry_fit(data, rank):
    geometry = data.draw(strategies.geometries(rank=rank))
    assert (
        min(conv_output(geometry.size, geometry.kernel_size, geometry.stride, geometry.padding, geometry.dilation)) >= 1
    )
    layer = (L.Conv1d, L.Conv2d, L.Conv3d)[rank - 1](2, geometry.kernel_size, **geometry.keywords)
    assert layer(np.zeros((1, *geometry.size, 3), np.float32)).shape[-1] == 2


@given(strategies.geometries(padded=False, dilated=False))
def test_a_geometry_may_be_plain(geometry):
    assert set(geometry.dilation) == {1}
    assert set(geometry.padding) == {(0, 0)}


@settings(max_examples=100)
@given(st.data(), strategies.shapes(rank=None, sizes=st.integers(2, 5)))
def test_a_layer_takes_the_shape_that_it_was_drawn_for(data, shape):
    layer = data.draw(strategies.layers(shape[1:]))
    y = layer(np.ones(shape, np.float32))
    assert y.shape == (shape[0], *layer.output_shape(shape[1:]))


#: Layers that are not drawn: models; those of several inputs, of sequences and of sizes, of integers and truth values, of
#: numbers of some sizes alone (a logarithm), and those that move axes and entries, which a network is not made of by chance.
NOT_DRAWN = {
    *("Model", "Sequential", "Unbatched", "Branch", "TimeDistributed", "Partial", "Discrete", "DynamicArguments"),
    *("RNN", "GRU", "LSTM", "NonZero", "ShapeOf"),
    *("GatherElements", "GatherND", "ScatterElements", "ScatterND", "Modulo", "ReduceProd"),
    *("Add", "Multiply", "Concat", "Subtract", "Divide", "Power", "Maximum", "Minimum", "MatMul", "Einsum", "Where"),
    *(
        "ArgMax",
        "Cast",
        "Compare",
        "Gather",
        "Logic",
        "MaxPoolWithIndices",
        "MaxUnpool",
        "NonMaxSuppression",
        "Not",
        "TopK",
    ),
    *("Sign", "Floor", "Ceil", "Round", "Sin", "Cos"),
    *("Tan", "Arcsin", "Arccos", "Arctan", "Sinh", "Cosh", "Arcsinh", "Arccosh", "Arctanh"),
    *("Exp", "Log", "Reciprocal", "Sqrt", "Square", "FixedDropout"),
    *("Reshape", "ReshapeLike", "Expand", "Pad", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
    *("DepthToSpace", "SpaceToDepth", "Fold", "Resize", "ResizeLike", "GridSample", "RoiAlign"),
    *("CumSum", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"),
}


def test_all_other_layers_are_drawn():
    wanted = {entry.name for entry in L.entries() if entry.source == "fastconv"} - NOT_DRAWN
    drawn = set()

    @settings(max_examples=3000, database=None, derandomize=True)
    @given(st.data(), st.integers(1, 3))
    def draw(data, rank):
        drawn.add(type(data.draw(strategies.layers((3,) * rank + (4,)))).__name__)

    draw()
    assert drawn == wanted


@settings(max_examples=50)
@given(strategies.models(), st.integers(0, 3))
def test_models_train_forth_and_back(model, batch):
    x = np.random.default_rng(0).standard_normal((batch, *model.input_shapes[0])).astype(np.float32)
    y, backward = model.forward(Context(True, np.random.default_rng(0)), x)
    dx, gradients = backward(np.ones_like(y))
    assert dx.shape == x.shape
    assert gradients.keys() == model.params.keys()


def test_models_branch():
    merges = find(strategies.models(), lambda model: any(isinstance(each, L.Add) for _, each in walk(model)))
    assert len(merges.layers) == 2  # the smallest: a layer and the sum with its input
