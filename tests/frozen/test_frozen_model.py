"""Frozen models from outside: built-in networks, several inputs and outputs, batches, sizes, errors, layers of others."""

from __future__ import annotations

import copy
import pickle
import weakref

import numpy as np
import pytest
from frozen_cases import PUBLISHED, SMALL, assert_equal_models, assert_equal_outputs, inputs, trained

import fastconv
from fastconv import layers as L
from fastconv import networks
from fastconv.model import Input, Model
from fastconv.sequential import Sequential


class Doubled(L.Layer):
    """A layer that the compiler does not know."""

    def output_shape(self, shape):
        return shape

    def forward(self, ctx, x):
        assert ctx.inference and not ctx.training
        return x * 2, lambda dy: (dy * 2, {})


class Argmax(L.Layer):
    """Its output is no float."""

    def output_shape(self, shape):
        return shape[:-1] or (1,)

    def forward(self, ctx, x):
        y = x.argmax(axis=-1)
        return y if x.ndim > 2 else y[:, None], lambda dy: (np.zeros_like(x), {})


class Picked(L.Layer):
    """Its second input is integers."""

    traits = L.Traits(integers=True)

    def output_shape(self, shape, index):
        return (1,)

    def forward(self, ctx, x, index):
        return np.take_along_axis(x, index, axis=1), lambda dy: ((np.zeros_like(x), None), {})


class Same(L.Layer):
    """Its output is its input itself, or a view."""

    def __init__(self, flipped: bool = False):
        self.flipped = flipped

    def output_shape(self, shape):
        return shape

    def forward(self, ctx, x):
        return x[:, ::-1] if self.flipped else x, lambda dy: (dy, {})


class Halves(L.Layer):
    def output_shape(self, shape):
        return (*shape[:-1], shape[-1] // 2), (*shape[:-1], shape[-1] - shape[-1] // 2)

    def forward(self, ctx, x):
        half = x.shape[-1] // 2
        return (x[..., :half], x[..., half:]), lambda dys: (np.concatenate(dys, axis=-1), {})


class MyConv(L.Conv2d):
    """A subclass may compute something else."""

    def forward(self, ctx, x):
        y, backward = super().forward(ctx, x)
        return y + 1, backward


class Noise(L.Layer):
    def output_shape(self, shape):
        return shape

    def forward(self, ctx, x):
        return x + ctx.rng.standard_normal(x.shape, x.dtype), lambda dy: (dy, {})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", SMALL)
def test_built_in_networks(isa, name, dtype):
    model = trained(networks.create(name, (28, 28, 3), 10).astype(dtype))
    frozen = fastconv.freeze(model)
    assert len(frozen.program.steps) < len(model.graph.steps)
    for batch in (0, 1, 5):
        assert_equal_models(frozen, model, batch=batch)


@pytest.mark.parametrize(("name", "size"), PUBLISHED.items())
def test_published_networks(name, size):
    model = trained(networks.create(name, (size, size, 3), 7))
    frozen = fastconv.freeze(model)
    kinds = {step.operation.kind for step in frozen.program.steps}
    assert "layer" not in kinds and (name == "densenet121") == ("scale" in kinds)
    assert_equal_models(frozen, model)


def test_other_precision(isa):
    model = trained(networks.create("vgg-small", (28, 28, 1), 10))
    frozen, (x,) = fastconv.freeze(model), inputs(model)
    with fastconv.precision("exact"):
        assert "winograd" not in str(frozen.explain(repeats=1))
        assert_equal_outputs(frozen(x), model(x))
    assert "winograd" in str(frozen.explain(repeats=1))


def test_images_of_other_sizes():
    model = trained(networks.create("resnet20", (32, 32, 3), 10))
    frozen = fastconv.freeze(model)
    for shape in ((1, 40, 24, 3), (3, 7, 33, 3), (2, 1, 1, 3)):
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        assert_equal_outputs(frozen(x), model(x))


def two_inputs():
    a, b = Input((8, 8, 3), name="image"), Input((4,), name="facts")
    y = L.GlobalAvgPool()(L.Conv2d(5, 3)(a))
    z = L.Concat()(y, L.Linear(6)(b))
    return trained(Model([a, b], [L.Linear(2)(z), z, y, z]))


def test_several_inputs_and_outputs():
    model = two_inputs()
    frozen = fastconv.freeze(model)
    assert_equal_models(frozen, model)
    outputs = frozen(*inputs(frozen))
    assert not any(np.may_share_memory(a, b) for i, a in enumerate(outputs) for b in outputs[:i])


def test_nested_and_shared_models():
    x = Input((8, 8, 4))
    block = Sequential([L.Conv2d(4, 3, padding=1), L.BatchNorm(), L.ReLU()])
    inner = Model(x, L.Add()(block(x), x))
    y = Input((8, 8, 4))
    model = trained(Model(y, L.Flatten()(inner(inner(block(y))))))
    frozen = fastconv.freeze(model)
    assert len(frozen.program.steps) == 6  # block; twice block and sum; flatten
    assert frozen.program.steps[0].layers == (
        "sequential_1/conv2d_1",
        "sequential_1/batchnorm_1",
        "sequential_1/relu_1",
    )
    assert_equal_models(frozen, model)


def test_outputs_that_are_views_or_inputs():
    x = Input((4, 4, 2))
    y = L.ReLU()(x)
    flat = L.Flatten()(y)
    model = trained(Model(x, [flat, y, L.Flatten()(x), x, L.Tanh()(flat)]))
    assert_equal_models(fastconv.freeze(model), model)


@pytest.mark.parametrize(
    "layer", [Doubled(), MyConv(3, 3), Same(), Same(True), L.AddCoords(radius=True), Noise()], ids=repr
)
def test_layers_that_the_compiler_does_not_know_run_as_they_are(layer):
    model = trained(Sequential([L.Conv2d(4, 3), layer, L.ReLU(), L.Conv2d(3, 1)], input_shape=(8, 8, 2)))
    frozen = fastconv.freeze(model)
    assert [step.operation.kind for step in frozen.program.steps].count("layer") == 1
    if not isinstance(layer, Noise):
        assert_equal_models(frozen, model)
        assert_equal_models(frozen, model, batch=0)
    assert frozen(*inputs(frozen)).shape == model(*inputs(model)).shape


def test_a_layer_of_others_at_either_end():
    for layers in ([Same(), L.ReLU()], [L.Tanh(), Same(True)], [Same(True)], [Same(), Same()], [Doubled(), Doubled()]):
        model = trained(Sequential(layers, input_shape=(4, 4, 2)))
        assert_equal_models(fastconv.freeze(model), model)


def test_a_result_does_not_change_with_the_next_call():
    model = trained(Sequential([L.Conv2d(4, 3), Same(), Same(True)], input_shape=(8, 8, 2)))
    frozen = fastconv.freeze(model)
    x = inputs(model)[0]
    first = frozen(x)
    kept = first.copy()
    frozen(x * 2)
    assert (first == kept).all()


def test_outputs_that_are_no_floats():
    x = Input((6,))
    y = L.Linear(5)(x)
    index = Argmax()(y)
    model = trained(Model(x, [Picked()(y, index), index]))
    frozen = fastconv.freeze(model)
    assert_equal_models(frozen, model)
    assert frozen(*inputs(frozen))[1].dtype == np.int64


def test_integers_where_a_kernel_takes_floats():
    model = trained(Sequential([Argmax(), L.Linear(3)], input_shape=(4, 6)))
    x = inputs(model)
    with pytest.raises(TypeError, match="must be a float32 or float64 array, got int64"):
        model(*x)
    with pytest.raises(TypeError, match=r"takes a float32 or float64 array, and argmax_1 returned int64"):
        fastconv.freeze(model)(*x)


def test_several_outputs_of_a_layer_of_others():
    x = Input((4, 4, 5))
    a, b = Halves()(L.Conv2d(5, 1)(x))
    model = trained(Model(x, [L.Concat()(b, a), L.ReLU()(a)]))
    assert_equal_models(fastconv.freeze(model), model)


class Liar(L.Layer):
    def output_shape(self, shape):
        return (*shape[:-1], shape[-1] + 1)

    def forward(self, ctx, x):
        return x, lambda dy: (dy, {})


def test_a_layer_of_others_that_says_another_shape_is_named():
    model = Sequential([Liar()], input_shape=(4,)).build()
    with pytest.raises(ValueError, match=r"in liar_1: .* shape \(2, 4\), and output_shape says \(2, 5\)"):
        fastconv.freeze(model)(*inputs(model))


class Broken(L.Layer):
    def output_shape(self, shape):
        return shape

    def forward(self, ctx, x):
        if x[0, 0] > 0:
            raise RuntimeError("no")
        return x, lambda dy: (dy, {})


def test_as_many_rows_as_are_found():
    boxes, scores = Input((1, 3, 4)), Input((1, 1, 3))
    suppression = L.NonMaxSuppression(3, overlap=0.5, trimmed=True)
    model = Model([boxes, scores], suppression(boxes, scores)).build()
    corners = np.array([[0, 0, 1, 1], [0, 0.1, 1, 1.1], [0, 5, 1, 6]], np.float32).reshape(1, 1, 3, 4)
    frozen = fastconv.freeze(model)
    for rates in ([0.9, 0.8, 0.7], [0.1, 0.2, 0.3]):
        x = corners, np.array(rates, np.float32).reshape(1, 1, 1, 3)
        assert frozen(*x).shape == (1, 2, 3)
        np.testing.assert_array_equal(frozen(*x), model(*x))
    after = Model([boxes, scores], L.Cast("float32")(suppression(boxes, scores))).build()
    np.testing.assert_array_equal(fastconv.freeze(after)(*x), after(*x))


def test_a_call_after_one_that_failed():
    model = Sequential([L.Tanh(), Broken(), L.Tanh()], input_shape=(4,)).build()
    frozen = fastconv.freeze(model)
    with pytest.raises(RuntimeError, match=r"in layer 'broken_1' \(Broken\): no"):
        frozen(np.ones((1, 4), np.float32))
    x = -np.ones((1, 4), np.float32)
    assert (frozen(x) == model(x)).all()


def test_training_further_does_not_change_what_is_frozen():
    model = trained(Sequential([L.Conv2d(4, 3), Doubled(), L.PReLU(), MyConv(2, 1)], input_shape=(8, 8, 2)))
    frozen, x = fastconv.freeze(model), inputs(model)[0]
    before = frozen(x)
    for param in model.params.values():
        param += 1
    assert (frozen(x) == before).all()


def test_inputs_in_any_memory_order():
    model = trained(networks.create("lenet", (12, 12, 2), 3))
    frozen = fastconv.freeze(model)
    x = np.asfortranarray(inputs(model)[0])
    assert_equal_outputs(frozen(x), model(x))
    assert_equal_outputs(frozen(x[::-1, ::-1]), model(x[::-1, ::-1]))


@pytest.mark.parametrize("batch_size", [2, 64])
def test_predict_is_that_of_the_model(batch_size):
    model = trained(networks.create("lenet", (12, 12, 1), 3))
    images = np.random.default_rng(0).integers(0, 256, (5, 12, 12, 1)).astype(np.uint8)
    frozen = fastconv.freeze(model)
    for x in (images, images[:0]):
        assert_equal_outputs(frozen.predict(x, batch_size=batch_size), model.predict(x, batch_size=batch_size))
    model = two_inputs()
    xs = tuple(inputs(model, 5))
    assert_equal_outputs(fastconv.freeze(model).predict(xs, batch_size=2), model.predict(xs, batch_size=2))


@pytest.mark.parametrize(
    ("xs", "error", "said"),
    [
        ([[[1.0]]], TypeError, r"the frozen model takes arrays with a batch axis, got list"),
        (
            [np.zeros((1, 8, 8, 3))],
            TypeError,
            r"is float32 and got an input of float64: cast it",
        ),
        ([np.zeros((1, 8, 8, 3), np.uint8)], TypeError, "x must be a float32 array, got uint8"),
        ([np.zeros((1, 8, 8, 4), np.float32)], ValueError, r"takes input 1 with shape \(N, 8, 8, 3\)"),
        ([np.zeros((8, 8, 3), np.float32)], ValueError, r"takes input 1 with shape \(N, 8, 8, 3\)"),
        ([np.zeros((), np.float32)], ValueError, r"takes input 1 with shape .*, got \(\)"),
        ([np.zeros((1, 8, 8, 3), np.float32)] * 2, ValueError, "takes 1 inputs, got 2"),
        ([], ValueError, "takes 1 inputs, got 0"),
        ([np.zeros((1, 2, 8, 3), np.float32)], ValueError, "in conv2d_1: .*kernel"),
    ],
)
def test_errors_say_what_is_wrong(xs, error, said):
    frozen = fastconv.freeze(trained(Sequential([L.Conv2d(4, 3)], input_shape=(8, 8, 3))))
    with pytest.raises(error, match=said):
        frozen(*xs)


def test_inputs_of_different_batches():
    with pytest.raises(ValueError, match="must have one batch size"):
        fastconv.freeze(two_inputs())(np.zeros((2, 8, 8, 3), np.float32), np.zeros((3, 4), np.float32))
    with pytest.raises(ValueError, match="takes input 'facts' with shape"):
        fastconv.freeze(two_inputs())(np.zeros((2, 8, 8, 3), np.float32), np.zeros((2, 5), np.float32))


def test_what_cannot_be_frozen():
    with pytest.raises(TypeError, match="only a model can be frozen, got ReLU"):
        fastconv.freeze(L.ReLU())
    with pytest.raises(ValueError, match="is not built yet"):
        fastconv.freeze(Sequential([L.Conv2d(4, 3)]))


def test_copies_and_pickles():
    frozen = fastconv.freeze(trained(Sequential([L.Conv2d(4, 3), L.PReLU(), L.AddCoords()], input_shape=(8, 8, 3))))
    (x,) = inputs(frozen)
    want = frozen(x)
    for again in (copy.deepcopy(frozen), pickle.loads(pickle.dumps(frozen))):
        assert again(x).tobytes() == want.tobytes()


def test_one_sample_is_prepared_and_others_may_be() -> None:
    frozen = fastconv.freeze(networks.create("lenet", (28, 28, 1), 10))
    (first,) = frozen._plans.values()
    frozen(np.zeros((1, 28, 28, 1), np.float32))
    assert list(frozen._plans.values()) == [first] and len(first._pool) == 1
    frozen.prepare((28, 28, 1), batch=3)
    second = list(frozen._plans.values())[1]
    assert second.batch == 3 and len(second._pool) == 1
    with pytest.raises(ValueError, match="takes input 1 with shape"):
        frozen.prepare((28, 28, 3))


def test_nothing_large_is_made_before_a_call() -> None:
    layers = [L.Conv2d(8, 3, padding=1), L.ReLU(), L.Conv2d(8, 3, padding=1)]
    frozen = fastconv.freeze(trained(Sequential(layers, input_shape=(2048, 2048, 1))))
    (plan,) = frozen._plans.values()
    assert plan.arena_bytes > 100_000_000 and not plan._pool


def test_calls_like_one_before_are_not_checked_again_and_others_are():
    frozen = fastconv.freeze(trained(Sequential([L.Conv2d(4, 3), L.ReLU()], input_shape=(8, 8, 3))))
    (x,) = inputs(frozen)
    want = frozen(x)
    assert len(frozen._calls) == 1
    for again in (x.copy(), np.asfortranarray(x), np.repeat(x, 2, axis=0)[::2]):
        assert frozen(again).tobytes() == want.tobytes()
    assert len(frozen._calls) == 1
    with pytest.raises(TypeError, match="got an input of float64"):
        frozen(x.astype(np.float64))
    with fastconv.precision("exact"):
        assert_equal_outputs(frozen(x), want)
    assert len(frozen._calls) == 2


def test_plans_are_forgotten_some_time():
    frozen = fastconv.freeze(Sequential([L.ReLU()], input_shape=(3,)).build())
    for batch in range(1, 30):
        assert frozen(np.ones((batch, 3), np.float32)).shape == (batch, 3)
    assert len(frozen._plans) <= 9
    assert set(frozen._calls.values()) <= set(frozen._plans.values())


def test_it_says_what_it_is():
    frozen = fastconv.freeze(networks.create("lenet", (28, 28, 1), 10))
    assert repr(frozen) == "FrozenModel(8 steps, inputs (N, 28, 28, 1), float32)"


def test_weights_may_stay_with_the_model():
    model = trained(Sequential([L.Conv2d(4, 3), L.ReLU(), L.Flatten(), L.Linear(5)], input_shape=(6, 6, 2)))
    frozen, apart = fastconv.freeze(model, copy=False), fastconv.freeze(model)
    held = [step.operation.weight for step in frozen.program.steps if hasattr(step.operation, "weight")]
    assert all(
        np.shares_memory(weight.array(), param)
        for weight, param in zip(held, list(model.params.values())[::2], strict=True)
    )
    assert_equal_models(frozen, model)
    x = np.ones((2, 6, 6, 2), np.float32)
    before = apart(x)
    for param in model.params.values():
        param *= 2
    np.testing.assert_array_equal(apart(x), before)
    assert (frozen(x) != before).any()


def test_images_that_come_channels_first_may_have_any_size():
    x = Input((3, 8, 9))
    y = L.GlobalAvgPool()(L.Conv2d(4, 3)(L.Transpose((2, 3, 1))(x)))
    model = trained(Model(x, y))
    frozen = fastconv.freeze(model)
    for shape in ((2, 3, 8, 9), (1, 3, 12, 7)):
        x = np.random.default_rng(0).random(shape).astype(np.float32)
        np.testing.assert_allclose(frozen(x), model(x), atol=1e-5)
    with pytest.raises(ValueError, match="other axes or channels do not"):
        frozen(np.zeros((1, 4, 8, 9), np.float32))


@pytest.mark.parametrize("copy", [False, True])
def test_a_model_that_nobody_keeps_gives_its_weights(copy):
    def made():
        x = Input((6, 6, 2))
        shared = L.Conv2d(2, 3, padding=1)
        y = L.BatchNorm()(L.Conv2d(4, 3)(L.ReLU()(L.BatchNorm()(shared(shared(x))))))
        return trained(Model(x, y))

    model = made()
    given = model.params["conv2d_2/weight"]
    frozen, wanted = fastconv.freeze(model, copy=copy, keep=False), fastconv.freeze(made(), copy=False)
    x = np.random.default_rng(0).random((2, 6, 6, 2)).astype(np.float32)
    np.testing.assert_array_equal(frozen(x), wanted(x))
    first, last = (step.operation.weight.array() for step in (frozen.program.steps[0], frozen.program.steps[-1]))
    assert np.shares_memory(last, given)  # folded where it lies
    np.testing.assert_array_equal(first, made().params["conv2d_1/weight"])  # used twice, so not
    assert model.params["conv2d_2/weight"].strides == (0, 0, 0, 0)  # nothing is left of it


def test_plain_weights_go_once_they_are_packed(tmp_path):
    layers = [L.Conv2d(48, 1), L.ReLU(), L.Conv2d(64, 3, stride=2), L.ReLU(), L.Flatten(), L.Linear(10)]
    model = trained(Sequential(layers, input_shape=(12, 12, 40)))
    frozen, apart = fastconv.freeze(model), fastconv.freeze(model)
    weights = [step.operation.weight for step in frozen.program.steps if hasattr(step.operation, "weight")]
    held = [weakref.ref(weight.array()) for weight in weights]
    assert [ref() is None for ref in held] == [True, True, False]  # one image meets a linear map as it is
    x = np.random.default_rng(0).random((3, 12, 12, 40)).astype(np.float32)
    want = [apart(x[:n]) for n in (1, 2, 3)]
    np.testing.assert_array_equal(frozen(x[:1]), want[0])
    for _ in range(3):
        np.testing.assert_array_equal(frozen(x), want[2])
    frozen.save(tmp_path / "frozen.safetensors")
    for again in (fastconv.load_frozen(tmp_path / "frozen.safetensors"), pickle.loads(pickle.dumps(frozen))):
        np.testing.assert_array_equal(again(x[:2]), want[1])
    assert_equal_models(fastconv.freeze(model), model)
    assert frozen.constant_bytes == apart.constant_bytes


def test_folding_where_a_weight_lies_never_overflows():
    def made():
        model = Sequential([L.Conv2d(2, 1, bias=False), L.BatchNorm()], input_shape=(2, 2, 1)).build()
        model.params["conv2d_1/weight"][:] = 1e30
        model.params["batchnorm_1/scale"][:] = 1e30
        return model

    x = np.full((1, 2, 2, 1), 1e-35, np.float32)
    np.testing.assert_allclose(fastconv.freeze(made(), keep=False)(x), made()(x), rtol=1e-5)
