"""Models: names, shapes, dtypes, random numbers, copies, and every message."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from fastconv.layers import (
    Add,
    BatchNorm,
    Concat,
    Context,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool,
    Layer,
    Linear,
    ReLU,
    Tanh,
    from_spec,
    register,
    to_spec,
)
from fastconv.model import Input, Model
from fastconv.sequential import Sequential

RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((2, 6, 6, 3)).astype(np.float32)


class Split(Layer):
    """One input, two outputs: its halves."""

    def output_shape(self, shape):
        half = (*shape[:-1], shape[-1] // 2)
        return half, half

    def forward(self, ctx, x):
        half = x.shape[-1] // 2
        return (x[..., :half], x[..., half:]), lambda dy: (np.concatenate(dy, axis=-1), {})


def test_names() -> None:
    x = Input((3,))
    y = Linear(3).named("linear_1")(Linear(3)(x))
    model = Model(x, Linear(2)(y))
    assert [layer.name for layer in model.layers] == ["linear_2", "linear_1", "linear_3"]
    model.layers[0].name = "first"
    assert next(iter(model.params)) == "first/weight"
    again = from_spec(to_spec(model))
    assert [layer.name for layer in again.layers] == ["first", "linear_1", "linear_3"]
    with pytest.raises(ValueError, match="two layers of a model are called 'same'"):
        Sequential([ReLU().named("same"), Tanh().named("same")])
    model.layers[0].name = "linear_1"
    with pytest.raises(ValueError, match="two layers of the model are called 'linear_1': give one another name"):
        model.params  # noqa: B018


def test_a_model_is_a_start_for_another() -> None:
    base = Sequential([Conv2d(4, 3), ReLU(), GlobalAvgPool()], input_shape=(6, 6, 3))
    base(IMAGES)
    weight = base.params["conv2d_1/weight"].copy()
    head = Model(base.inputs, Linear(2)(base.outputs[0]))
    assert head(IMAGES).shape == (2, 2)
    np.testing.assert_array_equal(head.params["conv2d_1/weight"], weight)
    middle = Input((6, 6, 3))
    feature = Conv2d(4, 3)(middle)
    tail = Model(feature, GlobalAvgPool()(feature))
    assert tail(np.ones((1, 4, 4, 4), np.float32)).shape == (1, 4)
    assert [layer.name for layer in tail.layers] == ["globalavgpool_1"]


def test_another_size_of_image() -> None:
    model = Sequential([Conv2d(4, 3), GlobalAvgPool(), Linear(2)], input_shape=(6, 6, 3))
    assert model(np.ones((1, 9, 7, 3), np.float32)).shape == (1, 2)
    assert model.output_shape((9, 7, 3)) == (2,)
    fixed = Sequential([Conv2d(4, 3), Flatten(), Linear(2)], input_shape=(6, 6, 3))
    fixed(IMAGES)
    with pytest.raises(ValueError, match=r"in layer 'linear_1' \(Linear\): .*64"):
        fixed(np.ones((1, 9, 7, 3), np.float32))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda x: Model(x, 3), TypeError, "the outputs of a model must be symbols, made by Input and .* got 3"),
        (
            lambda x: Model(Linear(2), x),
            TypeError,
            r"the inputs of a model must be symbols, .* got Linear\(features=2\)",
        ),
        (lambda x: Model([], x), ValueError, "the inputs of a model must be at least one symbol, got none"),
        (lambda x: Model(x, []), ValueError, "the outputs of a model must be at least one symbol, got none"),
        (lambda x: Model([x, x], x), ValueError, "the same symbol is given twice among the inputs"),
        (
            lambda x: Model([x, Input((2,), name="spare")], ReLU()(x)),
            ValueError,
            "input 2 of the model, <symbol of shape .2,., input 'spare'>, is not connected to any output",
        ),
        (
            lambda x: Model(x, Add()(x, Input((3,), name="lost"))),
            ValueError,
            "an output of the model needs <symbol of shape .3,., input 'lost'>, which is not among the inputs",
        ),
        (
            lambda x: (lambda parts: Model([x, parts[0]], [Add()(*parts)]))(Split()(Linear(4)(x))),
            ValueError,
            r"input 2 of the model, <symbol of shape \(2,\), made by Split\(\)>, is made by a layer that is inside the model",
        ),
        (lambda x: Sequential([ReLU()], input_shape=3), TypeError, r"an input's shape must be a tuple .* got 3"),
        (lambda x: Input((0, 3)), ValueError, r"an input's shape must be at least 1, got \(0, 3\)"),
        (lambda x: Input((None, 3)), TypeError, "an input's shape must be an integer"),
        (lambda x: Input((3,), name=3), TypeError, "name must be a string, got 3"),
        (lambda x: Conv2d(2, 3)(x), ValueError, r"in layer Conv2d: x must have shape \(N, H, W, C\), got \(N, 3\)"),
        (
            lambda x: Sequential([Flatten(), Conv2d(2, 3).named("c")], input_shape=(6, 6, 3)),
            ValueError,
            r"in layer 'c' \(Conv2d\): x must have shape \(N, H, W, C\), got \(N, 108\)",
        ),
        (
            lambda x: Model(x, Linear(2)(x))(Input((4,))),
            ValueError,
            r"^the model takes input 1 with shape \(N, 3\) .* got \(N, 4\)",
        ),
    ],
)
def test_what_is_no_model(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make(Input((3,)))


def test_inputs_that_do_not_fit() -> None:
    x = Input((6, 6, 3), name="image")
    model = Model(x, Conv2d(2, 3)(x))
    with pytest.raises(ValueError, match=r"the model takes input 'image' with shape \(N, 6, 6, 3\) .* got \(6, 6, 3\)"):
        model(IMAGES[0])
    with pytest.raises(ValueError, match=r"got \(2, 6, 6, 2\)"):
        model(IMAGES[..., :2])
    with pytest.raises(ValueError, match="the model takes 1 inputs, got 2"):
        model(IMAGES, IMAGES)
    with pytest.raises(
        TypeError, match=r"the model is float32 and got an input of float64: cast one of them, with x.astype"
    ):
        model(IMAGES.astype(np.float64))
    with pytest.raises(TypeError, match=r"in layer 'conv2d_1' \(Conv2d\): x must be .* got uint8"):
        model(IMAGES.astype(np.uint8))
    with pytest.raises(TypeError, match="the model takes arrays with a batch axis, or symbols made by Input, got list"):
        model(IMAGES.tolist())
    with pytest.raises(ValueError, match=r"build\(\(28, 28, 1\)\), or input_shape="):
        Sequential([ReLU()]).build()
    with pytest.raises(ValueError, match="takes 1 inputs, got 2"):
        model.build((6, 6, 3), (6, 6, 3))
    with pytest.raises(TypeError, match=r"rng must be a numpy.random.Generator.* got 0"):
        model.build(rng=0)  # type: ignore[arg-type]
    for attribute in ("inputs", "outputs", "graph"):
        with pytest.raises(ValueError, match="the model does not know its input yet"):
            getattr(Sequential([ReLU()]), attribute)


def test_dtypes() -> None:
    model = Sequential([Linear(2), BatchNorm()])
    assert model.dtype == np.float32
    assert model.astype(np.float64) is model
    assert model.dtype == np.float64
    assert model(np.ones((1, 3))).dtype == np.float64
    assert {array.dtype for array in (*model.params.values(), *model.buffers.values())} == {np.dtype(np.float64)}
    model.astype(np.float32)
    assert model(np.ones((1, 3), np.float32)).dtype == np.float32
    model.layers[0].astype(np.float64)
    with pytest.raises(TypeError, match=r"layer 'batchnorm_1' \(BatchNorm\) is float32 and got an input of float64"):
        model(np.ones((1, 3)))


def test_the_seed_decides_the_parameters() -> None:
    def weights(seed: int | None) -> np.ndarray:
        model = Sequential([Linear(4), Tanh(), Linear(2)], input_shape=(3,))
        if seed is not None:
            model.build(rng=np.random.default_rng(seed))
        return np.concatenate([array.ravel() for array in model.params.values()])

    np.testing.assert_array_equal(weights(None), weights(0))
    np.testing.assert_array_equal(weights(7), weights(7))
    assert not np.array_equal(weights(0), weights(7))


def test_building_again_keeps_what_is_there() -> None:
    model = Sequential([Linear(4)], input_shape=(3,)).build()
    before = model.params["linear_1/weight"].copy()
    model.build(rng=np.random.default_rng(9))
    np.testing.assert_array_equal(model.params["linear_1/weight"], before)


def test_the_model_lends_its_generator() -> None:
    def outputs(model: Sequential, passes: int) -> list[np.ndarray]:
        return [model.forward(model.context(training=True), np.ones((2, 50), np.float32))[0] for _ in range(passes)]

    model = Sequential([Dropout(), Sequential([Dropout(0.2)])], input_shape=(50,)).build()
    state = model.rng_state
    first = outputs(model, 3)
    assert not np.array_equal(first[0], first[1])
    model.rng_state = state
    again = outputs(model, 2)
    np.testing.assert_array_equal(first[:2], again)
    np.testing.assert_array_equal(first[2], model.forward(Context(True), np.ones((2, 50), np.float32))[0])
    with pytest.raises(ValueError, match=r"rng_state must be what model.rng_state returned, got {'state': 3}"):
        model.rng_state = {"state": 3}
    with pytest.raises(ValueError, match=r"rng_state must be what model.rng_state returned"):
        model.rng_state = None  # type: ignore[assignment]


def test_a_deep_model_can_be_copied_pickled_and_described() -> None:
    x = y = Input((3,))
    for _ in range(600):
        y = ReLU()(y)
    model = Model(x, Linear(2)(y))
    values = np.ones((1, 3), np.float32)
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), from_spec(to_spec(model))):
        np.testing.assert_array_equal(again(values), model(values))
        assert len(again.inputs) == 1
        assert again.outputs[0].shape == (2,)


@register("testmodel.Tower")
class Tower(Sequential):
    """A model with a constructor of its own: its config is what it was made with."""

    def __init__(self, width, *, depth=2):
        super().__init__([Linear(width) for _ in range(depth)])


@register("testmodel.Branches")
class Branches(Model):
    """A graph with a constructor of its own."""

    def __init__(self, size, width):
        x = Input((size,))
        super().__init__(x, Concat()(Linear(width)(x), x))


def test_a_graph_with_a_constructor_of_its_own() -> None:
    model = Branches(3, 2)
    assert model.config == {"size": 3, "width": 2}
    again = from_spec(to_spec(model))
    assert again.params.keys() == model.params.keys()


def test_training_is_called_with_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    from types import SimpleNamespace

    import fastconv

    def record(name: str) -> Any:
        return lambda *args, **options: (name, args, options)

    names = ("fit", "evaluate", "predict", "value_and_grad")
    fake = SimpleNamespace(**{name: record(name) for name in names})
    monkeypatch.setattr(fastconv, "training", fake, raising=False)
    monkeypatch.setitem(sys.modules, "fastconv.training", fake)
    model = Sequential([ReLU()])
    assert model.fit("x", "y", epochs=2) == ("fit", (model, "x", "y"), {"epochs": 2})
    assert model.fit("x") == ("fit", (model, "x", None), {})
    assert model.evaluate("x", "y", batch_size=3) == ("evaluate", (model, "x", "y"), {"batch_size": 3})
    assert model.predict("x", batch_size=3) == ("predict", (model, "x"), {"batch_size": 3})
    assert model.value_and_grad("loss", "x", "y") == ("value_and_grad", (model, "loss", "x", "y"), {})


def test_a_subclass_is_described_by_its_own_arguments() -> None:
    tower = Tower(4, depth=3)
    assert tower.config == {"width": 4, "depth": 3}
    tower(np.ones((1, 2), np.float32))
    spec = to_spec(Sequential([tower, Linear(1)]))
    assert spec["config"]["layers"][0] == {
        "layer": "testmodel.Tower",
        "name": "tower_1",
        "config": {"width": 4, "depth": 3},
    }
    assert [layer.name for layer in from_spec(spec).layers[0].layers] == ["linear_1", "linear_2", "linear_3"]
    assert copy.deepcopy(tower).config == tower.config


def test_two_threads_may_use_one_model() -> None:
    from concurrent.futures import ThreadPoolExecutor

    model = Sequential([Conv2d(4, 3), BatchNorm(), ReLU(), Dropout(), Flatten(), Linear(2)])
    expected = model(IMAGES)
    with ThreadPoolExecutor(4) as pool:
        for y in pool.map(lambda _: model(IMAGES), range(16)):
            np.testing.assert_array_equal(y, expected)


def test_a_symbol_says_what_it_is() -> None:
    assert repr(Input((3,))) == "<symbol of shape (3,), input>"
    assert repr(ReLU()(Input((3,), name="x"))) == "<symbol of shape (3,), made by ReLU()>"
