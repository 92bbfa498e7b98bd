"""Each pass by itself: what it makes of a small program, and that what it must not touch stays."""

from __future__ import annotations

import copy
import tempfile

import numpy as np
import pytest
from frozen_cases import assert_equal_models, trained

import fastconv
from fastconv import layers as L
from fastconv.frozen.lower import lower
from fastconv.frozen.moves import Transpose
from fastconv.frozen.passes import (
    absorb_padding,
    drop_dead,
    fold_scales,
    fold_scales_forward,
    fuse_activations,
    fuse_sums,
    merge_products,
    merge_views,
    optimized,
    put_off_views,
    remove_identities,
)
from fastconv.frozen.picking import _picked
from fastconv.frozen.unweighted import Reshape
from fastconv.model import Input, Model
from fastconv.sequential import Sequential

SHAPE = (6, 6, 4)

ACTIVATIONS = [
    L.ReLU(),
    L.ReLU6(),
    L.LeakyReLU(0.2),
    L.PReLU(),
    L.ELU(0.7),
    L.SELU(),
    L.GELU(),
    L.GELU(approximate=True),
    L.SiLU(),
    L.HardSwish(),
    L.HardSigmoid(),
    L.Sigmoid(),
    L.Tanh(),
    L.Softplus(),
    L.Mish(),
]

WEIGHTED = [
    L.Conv2d(8, 3, padding=1),
    L.Conv2d(8, 3, groups=2, bias=False),
    L.DepthwiseConv2d(3, 2, padding="same"),
    L.SeparableConv2d(5, 3),
    L.ConvTranspose2d(6, 3, stride=2, padding=1),
    L.ConvTranspose2d(6, 2, stride=3, groups=2, bias=False),
    L.Linear(7),
    L.Linear(7, bias=False),
    L.LocallyConnected2d(3, 3),
    L.LocallyConnected2d(3, 3, bias=False),
]


def kinds(program):
    return [step.operation.kind for step in program.steps]


def chain(*layers, shape=SHAPE, dtype=np.float32):
    return trained(Sequential(list(layers), input_shape=shape).astype(dtype))


def after(model, *passes):
    program = lower(model)
    for each in passes:
        program = each(program)
    return program


def from_file(frozen):
    with tempfile.TemporaryDirectory() as folder:
        frozen.save(f"{folder}/frozen.safetensors")
        return fastconv.load_frozen(f"{folder}/frozen.safetensors")


def branches(connect, shape=SHAPE):
    """Return a trained model: `connect` of a symbol."""
    x = Input(shape)
    return trained(Model(x, connect(x)))


def test_what_does_nothing_in_evaluation_is_gone():
    model = chain(L.Dropout(), L.ReLU(), L.StochasticDepth(), L.Add())
    assert kinds(after(model, remove_identities)) == ["activate"]
    assert_equal_models(fastconv.freeze(model), model)


def test_a_model_that_does_nothing_returns_a_copy():
    frozen = fastconv.freeze(chain(L.Dropout()))
    x = np.ones((1, *SHAPE), np.float32)
    y = frozen(x)
    assert kinds(frozen.program) == []
    assert (y == x).all() and not np.may_share_memory(x, y)


class Halves(L.Layer):
    def output_shape(self, shape):
        return (shape, shape)

    def forward(self, ctx, x):
        return (x * 0.5, x * 0.5), lambda dys: (sum(dys) * 0.5, {})


def test_what_nobody_reads_is_dropped():
    def connect(x):
        y = Input(SHAPE)
        inner = Model(y, [L.ReLU()(y), L.Tanh()(L.Sigmoid()(y))])
        return inner(x)[0]

    model = branches(connect)
    assert kinds(lower(model)) == ["activate", "activate", "activate"]
    assert kinds(after(model, drop_dead)) == ["activate"]
    assert_equal_models(fastconv.freeze(model), model)


def test_reshapes_become_one_and_none_copies():
    model = chain(L.Reshape((36, 4)), L.Reshape((12, 12)), L.Flatten(), L.Linear(3))
    program = after(model, merge_views)
    assert kinds(program) == ["reshape", "linear"]
    assert len(fastconv.freeze(model).explain(repeats=1).steps) == 1
    assert_equal_models(fastconv.freeze(model), model)


@pytest.mark.parametrize("padding", [0, 1, "same", "valid", ((0, 2), (1, 0))])
@pytest.mark.parametrize("kind", [L.Conv2d, L.DepthwiseConv2d])
def test_padding_becomes_the_convolutions(padding, kind):
    arguments = (5, 3) if kind is L.Conv2d else (3,)
    model = chain(L.ZeroPad(1), L.ZeroPad(((0, 1), (2, 0))), kind(*arguments, stride=2, padding=padding))
    assert kinds(after(model, absorb_padding)) == ["conv"]
    assert_equal_models(fastconv.freeze(model), model)


def test_padding_stays_where_somebody_else_sees_it():
    def connect(x):
        y = L.ZeroPad(1)(x)
        return L.Conv2d(3, 3)(y), y

    x = Input(SHAPE)
    model = trained(Model(x, list(connect(x))))
    assert kinds(after(model, absorb_padding)) == ["pad", "conv"]
    assert_equal_models(fastconv.freeze(model), model)


def test_padding_before_a_pooling_stays():
    model = chain(L.ZeroPad(1), L.MaxPool2d(2))
    assert kinds(after(model, absorb_padding)) == ["pad", "pool"]
    assert_equal_models(fastconv.freeze(model), model)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layer", WEIGHTED, ids=repr)
def test_normalization_after_a_weight_is_folded_into_it(layer, dtype):
    layer = L.from_spec(L.to_spec(layer))
    model = chain(layer, L.BatchNorm(), L.BatchNorm(), dtype=dtype)
    program = after(model, fold_scales)
    assert "scale" not in kinds(program)
    assert program.steps[-1].layers[-2:] == ("batchnorm_1", "batchnorm_2")
    assert_equal_models(fastconv.freeze(model), model)


PARTS = (L.DepthwiseConv2d(3, padding="same"), L.Conv2d(5, 1, bias=False), L.Conv2d(6, 3, padding=1))


def mixed(*after, parts=PARTS):
    x = Input(SHAPE)
    y = L.Concat()(*(copy.deepcopy(part)(x) for part in parts))
    for layer in after:
        y = layer(y)
    return trained(Model(x, L.Conv2d(3, 1)(y)))


@pytest.mark.parametrize("after", [[L.BatchNorm(), L.SiLU()], [L.BatchNorm()], [L.ReLU()], [L.BatchNorm(), L.PReLU()]])
def test_what_follows_a_concatenation_ends_its_parts(after):
    model = mixed(*copy.deepcopy(after))
    frozen = fastconv.freeze(model)
    assert kinds(frozen.program) == ["conv"] * 3 + ["concat"] + ["activate"] * isinstance(after[-1], L.PReLU) + ["conv"]
    assert_equal_models(frozen, model)
    assert_equal_models(from_file(frozen), model)


def test_parts_that_do_not_take_it_in_are_scaled_together():
    pooled = mixed(L.BatchNorm(), L.ReLU(), parts=(L.Conv2d(5, 1), L.MaxPool2d(3, stride=1, padding=1)))
    ended = mixed(L.BatchNorm(), L.ReLU(), parts=(L.Conv2d(5, 1), Sequential([L.Conv2d(5, 1), L.Tanh()])))
    x = Input(SHAPE)
    one, other = L.Conv2d(5, 1)(x), L.Conv2d(6, 1)(x)
    shared = trained(Model(x, [L.ReLU()(L.BatchNorm()(L.Concat()(one, other))), one]))
    for model in (pooled, ended, shared):
        frozen = fastconv.freeze(model)
        assert kinds(frozen.program).count("scale") == 1
        assert_equal_models(frozen, model)


def test_scales_in_a_row_become_one():
    model = chain(L.BatchNorm(), L.BatchNorm(), L.BatchNorm())
    assert kinds(after(model, fold_scales)) == ["scale"]
    assert_equal_models(fastconv.freeze(model), model)


def test_normalization_of_what_others_read_too_stays():
    def connect(x):
        y = L.Conv2d(4, 1)(x)
        return L.Concat()(y, L.BatchNorm()(y))

    model = branches(connect)
    assert kinds(after(model, fold_scales)) == ["conv", "scale", "concat"]
    assert_equal_models(fastconv.freeze(model), model)


def test_normalization_that_would_overflow_the_weight_stays():
    model = chain(L.Conv2d(4, 1), L.BatchNorm())
    model.params["conv2d_1/weight"][...] = 1e30
    model.params["batchnorm_1/scale"][...] = 1e20
    assert kinds(after(model, fold_scales)) == ["conv", "scale"]


def test_a_dead_variance_gives_what_the_layer_gives():
    model = chain(L.Conv2d(4, 1), L.BatchNorm(eps=0.0))
    model.buffers["batchnorm_1/var"][0] = 0.0
    x = np.random.default_rng(0).standard_normal((1, *SHAPE)).astype(np.float32)
    with np.errstate(all="ignore"):
        want = model(x)
    np.testing.assert_array_equal(np.isfinite(fastconv.freeze(model)(x)), np.isfinite(want))


@pytest.mark.parametrize(
    ("layer", "folded"),
    [
        (L.Conv2d(8, 3), True),
        (L.Conv2d(8, 3, padding="valid", groups=2), True),
        (L.Conv2d(8, 1, padding="same", stride=2), True),
        (L.Conv2d(8, 3, padding=1), False),
        (L.Conv2d(8, 2, padding="same", stride=2), False),  # no zeros around 6 pixels, but around 7
        (L.DepthwiseConv2d(3), True),
        (L.Linear(5), True),
        (L.ConvTranspose2d(5, 3), False),
    ],
    ids=repr,
)
def test_normalization_before_a_weight_is_folded_where_no_zeros_come_between(layer, folded):
    model = chain(L.BatchNorm(), L.from_spec(L.to_spec(layer)))
    assert ("scale" in kinds(after(model, fold_scales_forward))) != folded
    assert_equal_models(fastconv.freeze(model), model)


def test_a_scale_without_a_shift_is_folded_through_padding():
    model = chain(L.BatchNorm(), L.Conv2d(8, 3, padding=1))
    model.params["batchnorm_1/bias"][...] = 0
    model.buffers["batchnorm_1/mean"][...] = 0
    assert kinds(after(model, fold_scales_forward)) == ["conv"]
    assert_equal_models(fastconv.freeze(model), model)


def test_normalization_is_folded_through_flatten():
    model = chain(L.BatchNorm(), L.Flatten(), L.Linear(5))
    assert kinds(after(model, fold_scales_forward)) == ["reshape", "linear"]
    assert_equal_models(fastconv.freeze(model), model)


def test_padding_that_was_absorbed_keeps_a_shift_out():
    model = chain(L.BatchNorm(), L.ZeroPad(1), L.Conv2d(8, 3))
    assert kinds(optimized(lower(model))) == ["scale", "conv"]
    assert_equal_models(fastconv.freeze(model), model)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
@pytest.mark.parametrize("layer", [L.Conv2d(4, 3, padding=1), L.BatchNorm()], ids=repr)
def test_the_end_of_a_residual_block_is_one_step(layer, activation):
    layer, activation = (L.from_spec(L.to_spec(each)) for each in (layer, activation))
    model = branches(lambda x: activation(L.Add()(layer(x), x)))
    program = after(model, fuse_sums, fuse_activations)
    assert len(program.steps) == 1
    assert len(program.steps[0].layers) == 3
    assert_equal_models(fastconv.freeze(model), model)


def test_of_two_convolutions_the_later_adds():
    def connect(x):
        return L.ReLU()(L.Add()(L.Conv2d(4, 1)(x), L.Conv2d(4, 3, padding=1)(x)))

    program = after(branches(connect), fuse_sums, fuse_activations)
    assert kinds(program) == ["conv", "conv"]
    assert program.steps[1].layers == ("conv2d_2", "add_1", "relu_1")
    assert_equal_models(fastconv.freeze(branches(connect)), branches(connect))


def test_a_sum_of_many_is_drawn_in_as_far_as_it_goes():
    def connect(x):
        return L.Add()(L.Conv2d(4, 1)(x), L.Conv2d(4, 1)(x), x, x)

    model = branches(connect)
    assert kinds(after(model, fuse_sums)) == ["conv", "conv", "sum", "sum"]
    assert_equal_models(fastconv.freeze(model), model)


def test_a_sum_with_itself_and_a_sum_that_stretches_stay():
    def connect(x):
        y = L.Conv2d(4, 1)(x)
        z = L.Add()(y, y)
        gate = L.Conv2d(4, 1)(L.GlobalAvgPool(keepdims=True)(x))
        return L.Multiply()(L.Sigmoid()(L.Add()(z, gate)), gate, x)

    model = branches(connect)
    assert kinds(after(model, fuse_sums)).count("sum") == 2
    assert_equal_models(fastconv.freeze(model), model)


def test_one_pixel_that_stretches_for_larger_images():
    def connect(x):
        return L.Add()(L.Conv2d(4, 1)(x), L.GlobalAvgPool(keepdims=True)(x))

    model = branches(connect, shape=(1, 1, 4))
    frozen = fastconv.freeze(model)
    x = np.random.default_rng(0).standard_normal((2, 5, 3, 4)).astype(np.float32)
    np.testing.assert_allclose(frozen(x), model(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
@pytest.mark.parametrize("layer", WEIGHTED, ids=repr)
def test_every_activation_is_drawn_into_every_weight(layer, activation):
    layer, activation = (L.from_spec(L.to_spec(each)) for each in (layer, activation))
    model = chain(layer, activation)
    program = after(model, fuse_activations)
    assert "activate" not in kinds(program)
    assert_equal_models(fastconv.freeze(model), model)


def test_a_second_activation_and_one_that_is_not_alone_stay():
    model = chain(L.Conv2d(4, 1), L.Tanh(), L.Sigmoid())
    assert kinds(after(model, fuse_activations)) == ["conv", "activate"]
    x = Input(SHAPE)
    y = L.Conv2d(4, 1)(x)
    model = trained(Model(x, [L.ReLU()(y), y]))
    assert kinds(after(model, fuse_activations)) == ["conv", "activate"]
    assert_equal_models(fastconv.freeze(model), model)


def test_softmax_is_no_activation_of_a_number():
    model = chain(L.Linear(5), L.Softmax())
    assert kinds(optimized(lower(model))) == ["linear", "softmax"]
    assert_equal_models(fastconv.freeze(model), model)


def test_a_shared_layer_is_a_step_for_each_use_and_one_array():
    def connect(x):
        layer = L.Conv2d(4, 1)
        return layer(L.ReLU()(layer(x)))

    frozen = fastconv.freeze(branches(connect))
    first, second = frozen.program.steps
    assert first.operation.weight is second.operation.weight
    assert frozen.constant_bytes == 4 * (4 * 4 + 4)


def test_transpositions_become_one_or_none():
    model = chain(L.Transpose((3, 1, 2)), L.Transpose((2, 3, 1)), L.ReLU())
    assert kinds(after(model, merge_views)) == ["activate"]
    assert_equal_models(fastconv.freeze(model), model)
    model = chain(L.Transpose((3, 1, 2)), L.Transpose((3, 2, 1)), L.ReLU())
    assert kinds(after(model, merge_views)) == ["transpose", "activate"]
    assert_equal_models(fastconv.freeze(model), model)


@pytest.mark.parametrize("axes", [(1, 2, 3), (3, 1, 2), (2, 3, 1), (3, 2, 1), (2, 1, 3), (1, 3, 2)])
def test_transpositions_are_those_of_the_layer(isa, axes):
    model = chain(L.Transpose(axes), L.ReLU(), shape=(5, 6, 7))
    for batch in (0, 1, 3):
        assert_equal_models(fastconv.freeze(model), model, batch=batch)


def test_what_moves_only_an_axis_of_one_moves_nothing():
    model = chain(L.Transpose((2, 3, 1)), L.Conv2d(4, 3), shape=(1, 8, 9))
    assert len(fastconv.freeze(model).explain(repeats=1).steps) == 1
    assert_equal_models(fastconv.freeze(model), model)


@pytest.mark.parametrize(("gate", "kind"), [(L.Sigmoid, "silu"), (L.HardSigmoid, "hard_swish")])
def test_a_gate_of_what_it_weighs_is_one_activation(gate, kind):
    model = branches(lambda x: (lambda y: L.Multiply()(y, gate()(y)))(L.Conv2d(5, 3)(x)))
    program = fastconv.freeze(model).program
    assert kinds(program) == ["conv"]
    assert program.steps[0].operation.activation.name == kind
    assert_equal_models(fastconv.freeze(model), model)


def test_a_gate_that_somebody_else_reads_or_that_weighs_another_stays():
    def read_twice(x):
        gate = L.Sigmoid()(x)
        return L.Add()(L.Multiply()(x, gate), gate)

    for connect in (read_twice, lambda x: L.Multiply()(L.Tanh()(x), L.Sigmoid()(x))):
        model = branches(connect)
        assert "product" in kinds(fastconv.freeze(model).program)
        assert_equal_models(fastconv.freeze(model), model)


GIVEN = [
    (L.Add(), 1, (1, 1, 5)),
    (L.Add(), 0, (1, 1, 1)),
    (L.Multiply(), 1, (1, 1, 5)),
    (L.Subtract(), 0, (1, 1, 5)),
    (L.Subtract(), 1, (1, 1, 5)),
    (L.Divide(), 1, (1, 1, 5)),
]


@pytest.mark.parametrize(("inner", "at", "shape"), GIVEN)
def test_numbers_for_each_channel_go_into_the_weight(inner, at, shape):
    layer = L.Partial(inner, [[at, list(shape), "float", True]])
    model = chain(L.Conv2d(5, 3), layer, L.ReLU())
    layer.params[f"input_{at}"][...] = np.random.default_rng(1).uniform(0.5, 2, shape)
    assert kinds(fastconv.freeze(model).program) == ["conv"]
    assert_equal_models(fastconv.freeze(model), model)


@pytest.mark.parametrize(
    ("inner", "at", "shape", "value"),
    [
        (L.Divide(), 0, (1, 1, 4), 2.0),
        (L.Divide(), 1, (1, 1, 4), 0.0),
        (L.Multiply(), 1, (1, 6, 1), 2.0),
        (L.Maximum(), 1, (1, 1, 4), 0.5),
    ],
)
def test_what_is_no_finite_factor_for_each_channel_is_no_scale(inner, at, shape, value):
    layer = L.Partial(inner, [[at, list(shape), "float", True]])
    model = chain(layer)
    layer.params[f"input_{at}"][...] = value
    assert kinds(fastconv.freeze(model).program) == ["with"]
    with np.errstate(all="ignore"):
        assert_equal_models(fastconv.freeze(model), model)


def test_picked_channels():
    layer = L.Partial(L.Gather(-1), [[1, [6], "int64", False]])
    model = chain(layer, L.ReLU())
    layer.buffers["input_1"][:] = [3, 0, -1, 1, 1, 2]
    assert kinds(fastconv.freeze(model).program) == ["pick", "activate"]
    assert_equal_models(fastconv.freeze(model), model)


@pytest.mark.parametrize("bounds", [(0.0, None), (0.0, 6.0), (-0.5, 0.75), (None, 0.1), (None, None)])
def test_clips_are_activations(bounds):
    model = chain(L.Conv2d(3, 3), L.Clip(*bounds), L.ScaleShift(2.0, 1.0), L.LocalResponseNorm(3))
    assert kinds(fastconv.freeze(model).program) == ["conv", "scale", "local_response_norm"]
    assert_equal_models(fastconv.freeze(model), model)
    assert_equal_models(from_file(fastconv.freeze(model)), model)


@pytest.mark.parametrize("seed", range(40))
def test_which_channels_moves_pick_is_what_they_do_to_numbers(seed):
    rng = np.random.default_rng(seed)
    x = (1, *map(int, rng.choice([1, 2, 3, 4], 2)), 12)
    cut = [x, (*x[:3], 2, 6), (*x[:3], 3, 2, 2)][seed % 3]
    kept = rng.integers(1, 4) if seed % 4 == 0 else 3  # mostly only channels
    perm = (*range(kept), *kept + rng.permutation(len(cut) - kept))
    moves = [Reshape(cut[1:]), Transpose(tuple(map(int, perm))), Reshape(x[1:])]
    numbers = np.arange(np.prod(x)).reshape(x)
    moved = numbers.reshape(cut).transpose(perm).reshape(x)
    places = moved[0, 0, 0]
    picks = places.max() < 12 and np.array_equal(moved, numbers[..., places % 12])
    found = _picked(moves, x)
    assert (found is not None) == picks
    if picks:
        np.testing.assert_array_equal(found, places)


def test_a_size_that_goes_across_parts_is_no_picking():
    moves = [Reshape((4, 3)), Transpose((0, 2, 1)), Reshape((2, 6)), Transpose((0, 2, 1)), Reshape((12,))]
    assert _picked(moves, (1, 12)) is None


@pytest.mark.parametrize("groups", [2, 3, 4])
def test_a_shuffle_of_channels_is_one_step(groups):
    def shuffled(*layers):
        return chain(
            L.Conv2d(12, 1),
            L.Transpose((3, 1, 2)),
            L.Reshape((groups, 12 // groups, 6, 6)),
            L.Transpose((2, 1, 3, 4)),
            *layers,
            L.Reshape((12, 6, 6)),
            L.Transpose((2, 3, 1)),
            L.ReLU(),
        )

    model = shuffled()
    assert kinds(fastconv.freeze(model).program) == ["conv", "pick", "activate"]
    assert_equal_models(fastconv.freeze(model), model)
    model = shuffled(L.Transpose((1, 2, 4, 3)))  # pixels too
    assert "pick" not in kinds(fastconv.freeze(model).program)
    assert_equal_models(fastconv.freeze(model), model)


@pytest.mark.parametrize("times", [3, 4, 5, 6, 7])
def test_rotations_in_a_row(times):
    model = chain(*(L.Transpose((2, 3, 1)) for _ in range(times)), L.ReLU(), shape=(3, 4, 5))
    assert_equal_models(fastconv.freeze(model), model)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("layers", "weights"),
    [
        ((L.Conv2d(24, 3, padding=1, stride=2), L.Conv2d(8, 1)), [(3, 3, 4, 8)]),
        ((L.Conv2d(24, (1, 2), dilation=2, bias=False), L.Conv2d(8, 1, bias=False)), [(1, 2, 4, 8)]),
        ((L.ZeroPad(1), L.Conv2d(24, 3), L.BatchNorm(), L.Conv2d(8, 1), L.BatchNorm()), [(3, 3, 4, 8)]),
        ((L.Conv2d(24, 1), L.Conv2d(24, 1), L.Conv2d(3, 1)), [(1, 1, 4, 3)]),
        ((L.Conv2d(4, 3), L.Conv2d(24, 1)), [(3, 3, 4, 4), (1, 1, 4, 24)]),  # apart they are less work
        ((L.Conv2d(24, 1), L.Conv2d(8, 3)), [(3, 3, 4, 8)]),
        ((L.Conv2d(24, 1, bias=False), L.Conv2d(8, 3, padding=1, stride=2)), [(3, 3, 4, 8)]),
        ((L.Conv2d(24, 1), L.Conv2d(8, 3, padding=1)), [(1, 1, 4, 24), (3, 3, 24, 8)]),  # the bias, not the padding
        ((L.Conv2d(2, 1), L.Conv2d(8, 3)), [(1, 1, 4, 2), (3, 3, 2, 8)]),
        ((L.Conv2d(24, 3), L.Conv2d(8, 1, stride=2)), [(3, 3, 4, 24), (1, 1, 24, 8)]),
        ((L.Conv2d(24, 3), L.Conv2d(8, 1, padding=1)), [(3, 3, 4, 24), (1, 1, 24, 8)]),
        ((L.Conv2d(24, 3, groups=2), L.Conv2d(8, 1)), [(3, 3, 2, 24), (1, 1, 24, 8)]),
        ((L.Conv2d(24, 3), L.ReLU(), L.Conv2d(8, 1)), [(3, 3, 4, 24), (1, 1, 24, 8)]),
        ((L.Conv2d(24, 3), L.Conv2d(8, 1), L.ReLU()), [(3, 3, 4, 8)]),
        ((L.Flatten(), L.Linear(50), L.Linear(7, bias=False), L.Linear(5)), [(144, 5)]),
        ((L.Flatten(), L.Linear(5), L.Linear(50)), [(144, 5), (5, 50)]),
        ((L.Conv2d(24, 3), L.Linear(8)), [(3, 3, 4, 8)]),
        ((L.Linear(9), L.Conv2d(8, 3)), [(3, 3, 4, 8)]),
    ],
    ids=repr,
)
def test_two_linear_maps_become_one_where_that_is_less_work(layers, weights, dtype):
    model = chain(*(L.from_spec(L.to_spec(layer)) for layer in layers), dtype=dtype)
    program = optimized(lower(model))
    assert [step.operation.weight.shape for step in program.steps if hasattr(step.operation, "weight")] == weights
    assert sum(len(step.layers) for step in program.steps) >= len(layers) - 1
    assert_equal_models(fastconv.freeze(model), model)


def test_a_linear_map_that_others_read_and_one_that_would_overflow_stay():
    def connect(x):
        y = L.Conv2d(24, 3)(x)
        return L.Concat()(y, L.Conv2d(8, 1)(y))

    assert kinds(after(branches(connect), merge_products)) == ["conv", "conv", "concat"]
    model = chain(L.Conv2d(24, 1), L.Conv2d(8, 1))
    for name in ("conv2d_1/weight", "conv2d_2/weight"):
        model.params[name][...] = 1e30
    assert kinds(after(model, merge_products)) == ["conv", "conv"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_comes_after_a_reshape_that_keeps_the_channels_joins_the_step_before(dtype):
    """As in LeViT, whose linear layers are normalized by batches of all pixels."""
    layers = [L.Linear(8), L.Reshape((36, 8)), L.BatchNorm(), L.Reshape((6, 6, 8)), L.HardSwish()]
    model = chain(*layers, dtype=dtype)
    frozen = fastconv.freeze(model)
    assert kinds(frozen.program) == ["linear", "reshape"]
    assert_equal_models(frozen, model)


def test_a_reshape_does_not_wait_where_it_makes_other_channels_or_others_read_it():
    x = Input((6, 6, 4))
    flat = L.Reshape((36, 4))(L.Linear(4)(x))
    for model in (Model(x, L.BatchNorm()(L.Reshape((72, 2))(L.Linear(4)(x)))), Model(x, [L.BatchNorm()(flat), flat])):
        program = after(trained(model), put_off_views)
        assert kinds(program).index("reshape") < kinds(program).index("scale")
        assert_equal_models(fastconv.freeze(model), model)
