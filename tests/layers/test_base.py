"""The base class: config, names, dtypes, building, and the errors that name the layer."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from fastconv import functional as F
from fastconv.layers import Add, Context, Conv2d, Flatten, Layer, Linear, ReLU, from_spec, get, register, to_spec
from fastconv.layers.tree import collect, walk
from fastconv.model import Input, Model
from fastconv.sequential import Sequential


class Scale(Layer):
    """y = x * scale: one learned factor per channel."""

    def __init__(self, *, start=1.0):
        self.start = start  # constructor arguments are the config: JSON values, or layers

    def build(self, shape, rng):  # shape: (*spatial, C), no batch axis
        self.params["scale"] = np.full(shape[-1], self.start, np.float32)

    def output_shape(self, shape):
        return shape

    def forward(self, ctx, x):  # several inputs: forward(self, ctx, a, b)
        scale = self.params["scale"]

        def backward(dy):
            axes = tuple(range(x.ndim - 1))
            return dy * scale, {"scale": (dy * x).sum(axis=axes)}

        return x * scale, backward


class Residual(Layer):
    """A layer that holds a layer: y = x + inner(x)."""

    def __init__(self, inner, *, names=("a", "b")):
        super().__init__()
        self.inner = inner

    def build(self, shape, rng):
        self.inner.build(shape, rng=rng)

    def output_shape(self, shape):
        return shape

    def forward(self, ctx, x):
        y, inner_backward = self.inner.forward(ctx, x)

        def backward(dy):
            dx, gradients = inner_backward(dy)
            return dy + dx, {f"inner/{name}": gradient for name, gradient in gradients.items()}

        return x + y, backward


X = np.arange(12, dtype=np.float32).reshape(2, 2, 3)


def test_the_design_example_works_as_it_stands() -> None:
    layer = Scale(start=2.0)
    assert layer.config == {"start": 2.0}
    assert (layer.params, layer.buffers, layer.name, layer.built) == ({}, {}, None, False)
    np.testing.assert_array_equal(layer(X), X * 2)
    assert layer.built
    y, backward = layer.forward(Context(training=True), X)
    dx, gradients = backward(np.ones_like(y))
    np.testing.assert_array_equal(dx, np.full_like(X, 2))
    np.testing.assert_array_equal(gradients["scale"], X.sum(axis=(0, 1)))


def test_a_dataclass_may_be_a_layer() -> None:
    @dataclass
    class Gain(Scale):
        start: float = 3.0

    layer = Gain()
    assert layer.config == {"start": 3.0}
    np.testing.assert_array_equal(Sequential([layer, Gain(1.0)])(X), X * 3)


def test_a_built_layer_keeps_its_parameters() -> None:
    layer = Scale()
    layer.build((2, 3), np.random.default_rng(0))
    layer.params["scale"][...] = 5
    np.testing.assert_array_equal(layer(X), X * 5)


def test_config_has_the_defaults_and_positions_by_name() -> None:
    config = Conv2d(8, (3, 5), stride=np.int64(2)).config
    assert config["channels"] == 8
    assert config["kernel_size"] == [3, 5]
    assert type(config["stride"]) is int
    assert (config["padding"], config["bias"]) == (0, True)
    assert json.loads(json.dumps(config)) == config
    assert Scale().config == {"start": 1.0}
    assert ReLU().config == {}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (len, r"Scale: argument 'start' must be made of JSON values .* got builtin_function_or_method"),
        (np.ones(2), r"argument 'start' .* got ndarray .*pass array.tolist\(\)"),
        ({1: 2}, r"argument 'start' has the key 1: keys are strings"),
        ({"layer": 2}, r"argument 'start' has the key 'layer'"),
        ([1.0, float("nan")], r"argument 'start' must be finite, because JSON has no nan"),
        ({"deep": [object()]}, r"argument 'start' .* got object"),
        (b"bytes", r"argument 'start' .* got bytes b'bytes'"),
    ],
)
def test_an_argument_that_is_no_json_is_named(value: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Scale(start=value)


def test_a_constructor_with_nameless_arguments_is_refused() -> None:
    class Loose(Layer):
        def __init__(self, *sizes):
            self.sizes = sizes

    with pytest.raises(TypeError, match=r"constructor of Loose takes '\*sizes': spell its arguments out by name"):
        Loose(1, 2)


def test_wrong_arguments_are_named_with_the_class_and_what_it_takes() -> None:
    with pytest.raises(
        TypeError, match=r"^Conv2d: missing a required .*'channels'; it takes \(channels, kernel_size, \*"
    ):
        Conv2d()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"^ReLU: too many positional arguments; it takes \(\)"):
        ReLU(3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"^Scale: got an unexpected keyword argument 'size'; it takes \(\*, start="):
        Scale(size=3)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_copies_have_weights_of_their_own(protocol: int) -> None:
    layer = Conv2d(8, 3)
    layer.build((8, 8, 2), rng=np.random.default_rng(0))
    for copied in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer, protocol))):
        assert copied.config == layer.config
        assert copied.params["weight"].tobytes() == layer.params["weight"].tobytes()
        copied.params["weight"][...] = 0
        assert layer.params["weight"].any()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Conv2d(8, 3, bias="no"),  # type: ignore[arg-type]
        lambda: get("MaxPool2d")(2, ceil_mode=2),
        lambda: get("AvgPool2d")(2, count_include_pad=None),
        lambda: get("GlobalAvgPool")(keepdims=1.0),
        lambda: get("GELU")(approximate="tanh"),
    ],
)
def test_yes_or_no_is_a_boolean(make: Any) -> None:
    with pytest.raises(
        TypeError, match=r"(bias|ceil_mode|count_include_pad|keepdims|approximate) must be True or False, got "
    ):
        make()


def test_defaulted_arguments_are_keyword_only_but_the_first_two() -> None:
    with pytest.raises(TypeError, match="positional"):
        Conv2d(8, 3, 2)  # type: ignore[misc]
    with pytest.raises(TypeError, match="positional"):
        get("MaxPool2d")(2, 2, 1)


@pytest.mark.parametrize("name", ["a", "conv2d_1", "stem.0", "b-2", "_x"])
def test_names_that_are_allowed(name: str) -> None:
    assert ReLU().named(name).name == name


@pytest.mark.parametrize("name", ["", "a/b", ".a", "-a", "1a", "a b", "@optimizer"])
def test_names_that_are_not(name: str) -> None:
    with pytest.raises(ValueError, match="the name of a layer must be letters, digits"):
        ReLU().named(name)


def test_a_name_is_a_string() -> None:
    with pytest.raises(TypeError, match="the name of a layer must be a string, got 3"):
        ReLU().name = 3  # type: ignore[assignment]


def test_astype_before_and_after_building() -> None:
    for layer in (Linear(2).astype(np.float64), Scale().astype("float64")):
        assert layer.dtype == np.float64
        assert layer(X.astype(np.float64)).dtype == np.float64
    layer = Linear(2)
    layer(X)
    before = layer.params["weight"].copy()
    layer.astype(np.float64)
    assert layer.dtype == np.float64
    np.testing.assert_array_equal(layer.params["weight"], before)
    with pytest.raises(TypeError, match="computes in float32 or float64, got dtype int32"):
        layer.astype(np.int32)


def test_integer_buffers_are_not_cast() -> None:
    layer = Scale()
    layer.buffers["count"] = np.zeros(1, np.int64)
    layer.astype(np.float64)
    assert layer.buffers["count"].dtype == np.int64


def test_a_layer_that_meets_another_dtype_says_so() -> None:
    layer = Scale().named("gain")
    with pytest.raises(TypeError, match=r"layer 'gain' \(Scale\) is float32 and got an input of float64: cast one"):
        layer(X.astype(np.float64))


def test_what_is_neither_array_nor_symbol() -> None:
    with pytest.raises(
        TypeError, match="layer ReLU takes arrays with a batch axis, or symbols made by Input, got list"
    ):
        ReLU()([1.0, 2.0])
    with pytest.raises(TypeError, match="got Symbol, ndarray"):
        Add()(Input((3,)), X)
    with pytest.raises(TypeError, match="has no values: call a layer on it"):
        np.asarray(Input((3,)))
    with pytest.raises(TypeError, match="unsupported operand"):
        Input((3,)) + 1  # type: ignore[operator]
    with pytest.raises(TypeError, match=r"not implemented|unsupported"):
        np.ones(3) + Input((3,))


def test_errors_name_the_layer_and_keep_their_type() -> None:
    class Mine(Exception):
        pass

    class Broken(Scale):
        def forward(self, ctx, x):
            raise Mine("oh no")

    with pytest.raises(Mine, match=r"in layer 'b' .Broken.: oh no"):
        Broken().named("b")(X)
    with pytest.raises(ValueError, match=r"in layer Conv2d: x must have shape \(N, H, W, C\), got \(N, 2, 3\)"):
        Conv2d(3, 3)(X)


def test_an_error_without_a_message_of_its_own_passes_through() -> None:
    class Broken(Scale):
        def forward(self, ctx, x):
            raise OSError(2, "gone")

    with pytest.raises(OSError, match=r"\[Errno 2\] gone"):
        Broken()(X)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (X, r"forward of layer Odd must return \(y, backward\), got ndarray"),
        ((X, X, X), r"got a tuple of 3: \(ndarray, ndarray, ndarray\)"),
        ((X, X), r"got a tuple of 2"),
        ((1.0, len), r"forward of layer Odd must return an array first, or a tuple of arrays, got float"),
        (((X, 1), len), r"must return an array first, or a tuple of arrays, got a tuple of 2: \(ndarray, int\)"),
    ],
)
def test_forward_must_return_a_pair(result: Any, message: str) -> None:
    class Odd(Scale):
        def forward(self, ctx, x):
            return result

    with pytest.raises(TypeError, match=message):
        Odd()(X)


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        (X, TypeError, "backward of layer 'odd' .Odd. must return the gradient of its input and a dict .* got ndarray"),
        ((X, None), TypeError, "got a tuple of 2: .ndarray, NoneType."),
        ((X, {}), ValueError, r"one gradient for each parameter: missing \['scale'\], unknown \[\]"),
        ((X, {"scale": X, "sclae": X}), ValueError, r"missing \[\], unknown \['sclae'\]"),
        ((X, {"scale": X}), ValueError, r"gradient of shape \(3,\) for its parameter 'scale', got \(2, 2, 3\)"),
    ],
)
def test_backward_must_return_what_it_promised(result: Any, error: type[Exception], message: str) -> None:
    class Odd(Scale):
        def forward(self, ctx, x):
            return x, lambda dy: result

    model = Sequential([Odd().named("odd")])
    y, backward = model.forward(Context(training=True), X)
    with pytest.raises(error, match=message):
        backward(y)


def test_an_error_in_the_backward_pass_names_the_layer() -> None:
    class Broken(Scale):
        def forward(self, ctx, x):
            return x, lambda dy: 1 / 0

    y, backward = Sequential([Broken()]).forward(Context(), X)
    with pytest.raises(ZeroDivisionError, match=r"in layer 'broken_1' \(Broken\): division by zero"):
        backward(y)


def test_a_base_method_that_is_missing_says_which() -> None:
    class Empty(Layer):
        pass

    with pytest.raises(NotImplementedError, match=r"Empty must define forward\(self, ctx, x\)"):
        Empty()(X)
    with pytest.raises(NotImplementedError, match=r"Empty must define output_shape\(self, shape\)"):
        Empty()(Input((3,)))


@pytest.mark.parametrize("shape", [3, (0, 2), (2.0,), "ab", None])
def test_an_output_shape_that_is_none_is_refused(shape: Any) -> None:
    class Odd(Scale):
        def output_shape(self, input_shape):
            return shape

    with pytest.raises(ValueError, match="in layer Odd: output_shape must return a tuple of integers, each at least 1"):
        Odd()(Input((3,)))


def test_a_layer_may_hold_a_layer() -> None:
    register("testbase.Residual")(Residual)
    layer = Residual(Linear(3).named("core"))
    assert [path for path, _ in walk(layer)] == ["", "inner"]
    model = Sequential([layer, Linear(2)], input_shape=(3,)).astype(np.float64)
    assert [*model.params] == [
        "residual_1/inner/weight",
        "residual_1/inner/bias",
        "linear_1/weight",
        "linear_1/bias",
    ]
    assert all(array.dtype == np.float64 for array in model.params.values())
    x = np.ones((2, 3))
    y, backward = model.forward(Context(training=True), x)
    _, gradients = backward(np.ones_like(y))
    assert gradients.keys() == model.params.keys()
    again = from_spec(json.loads(json.dumps(to_spec(model))))
    assert to_spec(again) == to_spec(model)
    assert collect(again.build(), "params").keys() == model.params.keys()


def test_unregistered_layers_cannot_be_described() -> None:
    class Hidden(Scale):
        pass

    with pytest.raises(
        ValueError, match=r"layer Hidden cannot be saved, because its class .*Hidden is not registered: decorate"
    ):
        to_spec(Hidden())


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ([], ValueError, 'a layer is described by {"layer": name'),
        ({"config": {}}, ValueError, 'a layer is described by {"layer": name'),
        ({"layer": "Conv2D"}, LookupError, "there is no layer named 'Conv2D'; did you mean 'Conv2d'?"),
        ({"layer": 3}, TypeError, "the name of a layer must be a string, got 3"),
        ({"layer": "ReLU", "weights": 1}, ValueError, r"got also \['weights'\]"),
        ({"layer": "ReLU", "config": []}, ValueError, r'the "config" of a layer must be an object'),
        (
            {"layer": "ReLU", "name": "r", "config": {"slope": 1}},
            TypeError,
            r"layer 'r' \(ReLU\) cannot be made from its config: .*unexpected keyword argument 'slope'",
        ),
        (
            {"layer": "Linear", "config": {"features": 0}},
            ValueError,
            r"layer \(Linear\) .* features must be at least 1, got 0",
        ),
        ({"layer": "ReLU", "name": "a/b"}, ValueError, "the name of a layer must be letters"),
        ({"layer": "ReLU", "name": 5}, TypeError, "the name of a layer must be a string, got 5"),
        (
            {"layer": "Sequential", "config": {"layers": [{"same_as": 0}]}},
            ValueError,
            '"same_as" must be the number of an earlier layer, got 0',
        ),
        (
            {"layer": "Sequential", "config": {"layers": [{"same_as": "x"}]}},
            ValueError,
            '"same_as" must be the number of an earlier layer',
        ),
        ({"layer": "Model", "config": {"inputs": []}}, ValueError, r"missing \['layers', 'outputs', 'steps'\]"),
        (
            {"layer": "Model", "config": {"inputs": [[3]], "layers": [], "steps": [[0, [0]]], "outputs": [0]}},
            ValueError,
            "0 is not the number of an earlier one of 0",
        ),
        (
            {"layer": "Model", "config": {"inputs": [[3]], "layers": [], "steps": [3], "outputs": [0]}},
            ValueError,
            "this describes no model",
        ),
    ],
)
def test_a_wrong_description_says_what_is_wrong(spec: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        from_spec(spec)


def test_context() -> None:
    ctx = Context()
    assert (ctx.training, ctx.input_grad, ctx.inference, ctx.has_rng) == (False, True, False, False)
    with pytest.raises(RuntimeError, match="draws random numbers but has no generator: give it one with Context"):
        ctx.rng  # noqa: B018
    rng = np.random.default_rng(0)
    changed = Context(True, rng).replace(input_grad=False)
    assert (changed.training, changed.rng, changed.input_grad) == (True, rng, False)
    assert repr(changed).startswith("Context(training=True")
    with pytest.raises(TypeError, match=r"rng must be a numpy.random.Generator, .* got 0"):
        Context(True, 0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="either for inference or for training"):
        Context(True, inference=True)


def test_backward_asks_only_for_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    original = F.conv_backward

    def spy(*args: Any, **kwargs: Any) -> Any:
        asked.append(kwargs["wrt"])
        return original(*args, **kwargs)

    monkeypatch.setattr(F, "conv_backward", spy)
    x = Input((6, 6, 1))
    model = Model(x, Flatten()(Conv2d(2, 3, bias=False)(Conv2d(2, 3)(x))))
    images = np.ones((1, 6, 6, 1), np.float32)
    y, backward = model.forward(Context(True, input_grad=False), images)
    assert backward(y)[0] is None
    assert asked == [("x", "weight"), ("weight", "bias")]
    asked.clear()
    y, backward = model.forward(Context(True, input_grad=True), images)
    assert backward(y)[0].shape == images.shape
    assert asked == [("x", "weight"), ("x", "weight", "bias")]
