"""Graphs: gradients through shared, nested and branching layers, the memory of a pass, and any graph that is drawn."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
from gradients import assert_gradient
from hypothesis import given
from hypothesis import strategies as st

from fastconv.layers import (
    Add,
    BatchNorm,
    Concat,
    Context,
    Conv2d,
    Flatten,
    GlobalAvgPool,
    Layer,
    LayerNorm,
    Linear,
    Multiply,
    ReLU,
    Tanh,
    ZeroPad,
    from_spec,
    to_spec,
)
from fastconv.layers.symbol import Symbol
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


def gradients_of(model: Model, *xs: np.ndarray, seed: int = 1) -> tuple[Any, dict[str, np.ndarray], Any]:
    ys, backward = model.forward(Context(True), *xs)
    rng = np.random.default_rng(seed)
    several = isinstance(ys, tuple)
    dys = tuple(rng.standard_normal(y.shape) for y in (ys if several else (ys,)))
    dx, gradients = backward(dys if several else dys[0])
    return dx, gradients, dys


def check_gradients(model: Model, *xs: np.ndarray) -> None:
    """Compare every gradient of a float64 model with finite differences."""
    dx, gradients, dys = gradients_of(model, *xs)
    dy = np.concatenate([part.ravel() for part in dys])

    def value(*xs: np.ndarray) -> np.ndarray:
        ys, _ = model.forward(Context(True), *xs)
        return np.concatenate([y.ravel() for y in (ys if isinstance(ys, tuple) else (ys,))])

    for at, part in enumerate(dx if isinstance(dx, tuple) else (dx,)):
        assert_gradient(part, lambda x, at=at: value(*xs[:at], x, *xs[at + 1 :]), xs[at], dy)
    for name, array in model.params.items():

        def of_param(changed: np.ndarray, array: np.ndarray = array) -> np.ndarray:
            kept = array.copy()
            array[...] = changed
            result = value(*xs)
            array[...] = kept
            return result

        assert_gradient(gradients[name], of_param, array.copy(), dy)


def test_a_residual_block_needs_no_hand_written_gradient() -> None:
    x = Input((4, 4, 2))
    y = Conv2d(2, 3, padding=1)(x)
    y = Add()(x, Conv2d(2, 3, padding=1)(Tanh()(y)))
    model = Model(x, y).astype(np.float64)
    check_gradients(model, RNG.standard_normal((2, 4, 4, 2)))


def test_a_shared_layer_adds_up_its_gradients() -> None:
    a, b = Input((3,)), Input((3,))
    shared = Linear(2)
    model = Model([a, b], Multiply()(shared(a), Tanh()(shared(b)))).astype(np.float64)
    assert list(model.params) == ["linear_1/weight", "linear_1/bias"]
    check_gradients(model, RNG.standard_normal((4, 3)), RNG.standard_normal((4, 3)))


def test_a_layer_used_twice_in_a_chain() -> None:
    shared = Linear(3)
    model = Sequential([shared, Tanh(), shared], input_shape=(3,)).astype(np.float64)
    assert len(model.layers) == 3
    assert len(model.params) == 2
    check_gradients(model, RNG.standard_normal((4, 3)))
    again = from_spec(to_spec(model))
    assert again.layers[0] is again.layers[2]


def test_one_symbol_read_twice_by_one_layer() -> None:
    x = Input((3,))
    model = Model(x, Multiply()(x, x)).astype(np.float64)
    values = RNG.standard_normal((2, 3))
    np.testing.assert_allclose(gradients_of(model, values)[0], 2 * values * gradients_of(model, values)[2][0])


def test_a_nested_model_shares_and_nests() -> None:
    x = Input((4,))
    encoder = Model(x, Tanh()(Linear(3)(x)))
    a, b = Input((4,)), Input((4,))
    outer = Model([a, b], Concat()(encoder(a), encoder(b), Sequential([Linear(2), Tanh()])(b))).astype(np.float64)
    assert list(outer.params) == [
        "model_1/linear_1/weight",
        "model_1/linear_1/bias",
        "sequential_1/linear_1/weight",
        "sequential_1/linear_1/bias",
    ]
    check_gradients(outer, RNG.standard_normal((2, 4)), RNG.standard_normal((2, 4)))


def test_a_layer_shared_by_two_nested_models_has_one_gradient() -> None:
    shared = Linear(3)
    first, second = Sequential([shared, Tanh()]), Sequential([Linear(3), shared])
    x = Input((3,))
    model = Model(x, Add()(first(x), second(x), shared(x))).astype(np.float64)
    assert list(model.params) == [
        "sequential_1/linear_1/weight",
        "sequential_1/linear_1/bias",
        "sequential_2/linear_2/weight",
        "sequential_2/linear_2/bias",
    ]
    check_gradients(model, RNG.standard_normal((2, 3)))
    again = from_spec(to_spec(model))
    assert again.params.keys() == model.params.keys()


def test_several_outputs_and_outputs_without_a_gradient() -> None:
    x = Input((3,))
    hidden = Linear(4)(x)
    model = Model(x, [Tanh()(hidden), Linear(2)(hidden), x]).astype(np.float64)
    check_gradients(model, RNG.standard_normal((2, 3)))
    ys, backward = model.forward(Context(True), RNG.standard_normal((2, 3)))
    _, gradients = backward((None, np.ones_like(ys[1]), None))
    assert gradients.keys() == model.params.keys()
    ys, backward = model.forward(Context(True), RNG.standard_normal((2, 3)))
    dx, gradients = backward((np.ones_like(ys[0]), None, None))
    assert (gradients["linear_2/weight"] == 0).all()
    assert gradients["linear_1/weight"].any()
    ys, backward = model.forward(Context(True), RNG.standard_normal((2, 3)))
    dx, gradients = backward((None, None, None))
    assert dx is None
    assert all((gradient == 0).all() for gradient in gradients.values())


def test_one_symbol_as_two_outputs() -> None:
    x = Input((3,))
    y = Tanh()(x)
    check_gradients(Model(x, [y, y]).astype(np.float64), RNG.standard_normal((2, 3)))


def test_a_layer_with_several_outputs() -> None:
    x = Input((6,))
    left, right = Split()(Linear(4)(x))
    both = Model(x, Concat()(Tanh()(right), left)).astype(np.float64)
    check_gradients(both, RNG.standard_normal((2, 6)))
    half = Model(x, Tanh()(left)).astype(np.float64)
    check_gradients(half, RNG.standard_normal((2, 6)))
    inner = Model(x, [left, right])
    outer = Model(x, Multiply()(*inner(x))).astype(np.float64)
    check_gradients(outer, RNG.standard_normal((2, 6)))
    with pytest.raises(
        ValueError, match=r"layer 'split_1' \(Split\) has several outputs; in a chain every layer has one"
    ):
        Sequential([Split()], input_shape=(4,))


def test_a_layer_that_breaks_its_word_about_several_outputs() -> None:
    class Odd(Split):
        def forward(self, ctx, x):
            return x, lambda dy: (dy, {})

    x = Input((6,))
    with pytest.raises(ValueError, match=r"forward of layer 'odd_1' .Odd. must return a tuple of its 2 outputs first"):
        Model(x, Odd()(x)[0])(np.ones((1, 6), np.float32))


def test_gradients_do_not_overwrite_what_a_layer_handed_to_two() -> None:
    # Add gives one array to both of its inputs, and each of them meets other gradients
    x = Input((3,))
    a, b = Linear(3)(x), Linear(3)(x)
    model = Model(x, Concat()(Add()(a, b), Add()(a, b), Tanh()(a), Tanh()(b))).astype(np.float64)
    check_gradients(model, RNG.standard_normal((2, 3)))


def test_batch_norm_inside() -> None:
    model = Sequential([Linear(4), BatchNorm(), Tanh(), BatchNorm()], input_shape=(3,)).astype(np.float64)
    check_gradients(model, RNG.standard_normal((5, 3)))
    assert list(model.buffers) == ["batchnorm_1/mean", "batchnorm_1/var", "batchnorm_2/mean", "batchnorm_2/var"]


def test_forward_twice_then_both_backward() -> None:
    model = Sequential([Conv2d(2, 3), Tanh(), Flatten(), Linear(2)])
    (y1, back1), (y2, back2) = (model.forward(Context(True), x) for x in (IMAGES, IMAGES * 2))
    second = back2(y2)[1]
    first = back1(y1)[1]
    y, backward = model.forward(Context(True), IMAGES)
    for name, gradient in backward(y)[1].items():
        np.testing.assert_array_equal(gradient, first[name])
        assert not np.array_equal(gradient, second[name])


def test_a_backward_pass_can_be_used_once() -> None:
    model = Sequential([Linear(2)])
    y, backward = model.forward(Context(True), np.ones((1, 3), np.float32))
    backward(y)
    with pytest.raises(
        RuntimeError, match="the backward pass was used already and its memory is free: run forward again"
    ):
        backward(y)
    y, backward = model.forward(Context(inference=True), np.ones((1, 3), np.float32))
    with pytest.raises(RuntimeError, match="this pass was for inference, which keeps nothing for the backward pass"):
        backward(y)


class Spy(Layer):
    """Passes on a copy, and keeps a weak reference to every output and to every closure."""

    def __init__(self):
        self.seen = []

    def output_shape(self, shape):
        return shape

    def forward(self, ctx, x):
        self.alive = sum(reference() is not None for reference in self.seen)
        y = x.copy()

        def backward(dy):
            return dy + 0 * x, {}

        self.seen += [weakref.ref(y), weakref.ref(backward)]
        return y, backward


def test_inference_lets_go_of_what_it_no_longer_needs() -> None:
    spy = Spy()
    chain = Sequential([spy] * 10, input_shape=(3,))
    chain(np.ones((1, 3), np.float32))
    assert spy.alive <= 1  # the input of the last use, and no closure
    spy.seen.clear()
    x = Input((3,))
    skip = y = spy(x)
    for _ in range(8):
        y = spy(y)
    Model(x, Add()(skip, y))(np.ones((1, 3), np.float32))
    assert spy.alive <= 2  # the skipped branch too


def test_the_backward_pass_lets_go_of_every_closure_it_has_used() -> None:
    spy = Spy()
    first = Sequential([Linear(3), *[spy] * 10])
    y, backward = first.forward(Context(True), np.ones((1, 3), np.float32))
    closures = spy.seen[1::2]
    assert all(closure() is not None for closure in closures)
    alive = []

    class Probe(Spy):
        def forward(self, ctx, x):
            return x, lambda dy: (alive.append(sum(closure() is not None for closure in closures)) or dy, {})

    spy.seen.clear()
    model = Sequential([Linear(3), Probe(), *[spy] * 10])
    y, backward = model.forward(Context(True), np.ones((1, 3), np.float32))
    closures = spy.seen[1::2]
    backward(y)
    assert alive == [0]
    gc.collect()


def test_nothing_goes_back_through_what_learns_nothing() -> None:
    class Fixed(Spy):
        def forward(self, ctx, x):
            def backward(dy):
                raise AssertionError("nobody needs this gradient")

            return x, backward

    model = Sequential([ZeroPad(), Fixed(), Conv2d(2, 3), Flatten()])
    y, backward = model.forward(Context(True, input_grad=False), IMAGES)
    assert backward(y)[0] is None


def test_a_missing_gradient_of_an_input_is_an_error_where_it_is_needed() -> None:
    class Mute(Spy):
        def forward(self, ctx, x):
            return x, lambda dy: (None, {})

    x = np.ones((1, 3), np.float32)
    y, backward = Sequential([Mute(), Linear(2)]).forward(Context(True), x)
    assert backward(y)[0] is None  # as from integers: the caller sees that there is none
    y, backward = Sequential([Linear(2), Mute().named("mute")]).forward(Context(True), x)
    with pytest.raises(ValueError, match=r"backward of layer 'mute' \(Mute\) returned no gradient for its input"):
        backward(y)


@pytest.mark.parametrize("result", [np.ones(3), np.ones((1, 2)), 1.0])
def test_the_gradient_of_an_input_has_its_shape(result: Any) -> None:
    class Odd(Spy):
        def forward(self, ctx, x):
            return x, lambda dy: (result, {})

    y, backward = Sequential([Linear(3), Odd().named("odd")]).forward(Context(True), np.ones((1, 3), np.float32))
    got = r"\(" if isinstance(result, np.ndarray) else "float"
    with pytest.raises(
        ValueError, match=rf"backward of layer 'odd' \(Odd\) .* of shape \(1, 3\), its input's, got {got}"
    ):
        backward(y)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ((1, 2, 3), r"must return one gradient for each of its 2 inputs, got a tuple of 3"),
        (np.ones((1, 3)), "must return one gradient for each of its 2 inputs, got ndarray"),
    ],
)
def test_a_layer_with_two_inputs_returns_two_gradients(result: Any, message: str) -> None:
    class Odd(Add):
        def forward(self, ctx, *xs):
            return xs[0] + xs[1], lambda dy: (result, {})

    x = Input((3,))
    model = Model(x, Odd()(Linear(3)(x), x))
    y, backward = model.forward(Context(True), np.ones((1, 3), np.float32))
    with pytest.raises(ValueError, match=message):
        backward(y)


def test_gradients_that_do_not_fit() -> None:
    model = Sequential([Linear(2)])
    x = np.ones((4, 3), np.float32)
    y, backward = model.forward(Context(True), x)
    with pytest.raises(
        ValueError, match=r"the gradient of output 1 must have the shape of the output, \(4, 2\), got \(2,\)"
    ):
        backward(y[0])
    with pytest.raises(ValueError, match="got float"):
        backward(1.0)
    symbol = Input((3,))
    several = Model(symbol, [ReLU()(symbol), Tanh()(symbol)])
    ys, backward = several.forward(Context(True), x)
    with pytest.raises(ValueError, match="one gradient for each of the 2 outputs, got 1"):
        backward((ys[0],))


def test_a_shared_layer_whose_uses_need_different_parameters() -> None:
    shared = Linear(2)
    a, b = Input((3,)), Input((4,))
    model = Model([a, b], Add()(shared(a), shared(b)))
    with pytest.raises(
        ValueError,
        match=r"layer 'linear_1' \(Linear\) is shared by inputs of shapes .*different parameters: 'weight' of shape",
    ):
        model.build()
    kernel = Conv2d(2, 3)
    big, small = Input((9, 9, 1)), Input((5, 5, 1))
    both = Model([big, small], Add()(GlobalAvgPool()(kernel(big)), GlobalAvgPool()(kernel(small)))).build()
    assert both.params["conv2d_1/weight"].shape == (3, 3, 1, 2)


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[Symbol], list[Symbol]]:
    """Draw a directed acyclic graph over vectors of 3: shared layers, several inputs and outputs, skips, a nested model."""
    symbols: list[Symbol] = [Input((3,)) for _ in range(draw(st.integers(1, 2)))]
    inputs = list(symbols)
    nested = Sequential([Linear(3), Tanh()])
    pool: list[Layer] = [Linear(3), Tanh(), LayerNorm(), nested]
    for _ in range(draw(st.integers(1, 7))):
        kind = draw(st.sampled_from(["one", "shared", "two", "three"]))
        pick = st.sampled_from(symbols)
        if kind == "one":
            symbols.append(draw(st.sampled_from([Linear(3), Tanh()]))(draw(pick)))
        elif kind == "shared":
            symbols.append(draw(st.sampled_from(pool))(draw(pick)))
        elif kind == "two":
            symbols.append(draw(st.sampled_from([Add(), Multiply()]))(draw(pick), draw(pick)))
        else:
            symbols.append(Linear(3)(Concat()(draw(pick), draw(pick), draw(pick))))
    return inputs, symbols


def reachable(outputs: list[Symbol]) -> set[int]:
    found: set[int] = set()
    waiting = list(outputs)
    while waiting:
        symbol = waiting.pop()
        found.add(id(symbol))
        if symbol.node:
            waiting.extend(symbol.node.inputs)
    return found


@given(graphs(), st.data())
def test_any_graph_computes_and_goes_back(drawn: tuple[list[Symbol], list[Symbol]], data: st.DataObject) -> None:
    inputs, symbols = drawn
    outputs = data.draw(st.lists(st.sampled_from(symbols), min_size=1, max_size=3))
    used = reachable(outputs)
    inputs = [symbol for symbol in inputs if id(symbol) in used]
    model = Model(inputs, outputs).astype(np.float64).build(rng=np.random.default_rng(4))
    xs = [np.random.default_rng(at).standard_normal((2, 3)) for at in range(len(inputs))]

    values = {id(symbol): x for symbol, x in zip(inputs, xs, strict=True)}

    def value(symbol: Symbol) -> np.ndarray:
        if id(symbol) not in values:
            assert symbol.node is not None
            values[id(symbol)] = symbol.node.layer(*[value(each) for each in symbol.node.inputs])
        return values[id(symbol)]

    ys = model(*xs)
    for y, symbol in zip(ys if isinstance(ys, tuple) else (ys,), outputs, strict=True):
        np.testing.assert_array_equal(y, value(symbol))
    again = from_spec(to_spec(model)).astype(np.float64).build(rng=np.random.default_rng(4))
    zs = again(*xs)
    for y, z in zip(ys if isinstance(ys, tuple) else (ys,), zs if isinstance(zs, tuple) else (zs,), strict=True):
        np.testing.assert_array_equal(y, z)
    check_gradients(model, *xs)
