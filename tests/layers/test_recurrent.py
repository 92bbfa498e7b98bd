"""Recurrent layers: they learn an order, go along nothing, and refuse what is wrong. PyTorch's numbers: `tests/crosscheck`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastconv
from fastconv.layers import GRU, LSTM, RNN, Context, Conv1d, Linear, Slice, Squeeze


@pytest.mark.parametrize("kind", [RNN, GRU, LSTM])
@pytest.mark.parametrize("shape", [(2, 0, 3), (0, 4, 3)])
def test_nothing_to_go_along(kind: Any, shape: tuple[int, ...]) -> None:
    layer = kind(5, direction="both", states=True)
    layer.build(shape[1:], rng=np.random.default_rng(0))
    ys, backward = layer.forward(Context(training=True), np.zeros(shape, np.float32))
    assert ys[0].shape == (*shape[:2], 10)
    dx, gradients = backward(tuple(np.ones_like(y) for y in ys))
    assert dx.shape == shape
    assert {name: array.shape for name, array in gradients.items()} == {n: p.shape for n, p in layer.params.items()}


def test_a_chain_of_convolution_and_recurrence_learns_an_order() -> None:
    """Which of two marks comes first: no pooling could tell."""
    rng = np.random.default_rng(0)
    x = np.zeros((256, 12, 2), np.float32)
    places = np.array([rng.permutation(12)[:2] for _ in range(256)])
    x[np.arange(256), places[:, 0], 0] = 1
    x[np.arange(256), places[:, 1], 1] = 1
    labels = (places[:, 0] > places[:, 1]).astype(np.int64)
    layers = [Conv1d(8, 3, padding="same"), LSTM(16), Slice(1, -1, None), Squeeze(1), Linear(2)]
    model = fastconv.Sequential(layers, input_shape=(12, 2))
    model.build(rng=np.random.default_rng(1))
    model.fit(x, labels, loss="cross_entropy", optimizer=fastconv.Adam(0.02), epochs=15, verbose=False)
    assert (model(x).argmax(axis=1) == labels).mean() > 0.97


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: LSTM(0), ValueError, "features must be at least 1, got 0"),
        (lambda: GRU(3, direction="up"), ValueError, "direction must be one of forward, backward, both, got 'up'"),
        (lambda: RNN(3, activation="gelu"), ValueError, "activation must be"),
        (lambda: LSTM(3)(np.zeros((2, 5))), ValueError, r"LSTM takes \(N, T, C\), and states"),
        (lambda: LSTM(3)(np.zeros((2, 5, 4)), np.zeros((2, 1, 3))), ValueError, "of 2 kinds or none"),
        (
            lambda: GRU(3).astype(float)(np.zeros((2, 5, 4)), np.zeros((1, 1, 3))),
            ValueError,
            "as many samples as x, 2, got",
        ),
    ],
)
def test_wrong_arguments(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


MAKERS = {
    "RNN": lambda **arguments: RNN(3, states=True, **arguments),
    "GRU": lambda **arguments: GRU(3, states=True, **arguments),
    "GRU, reset before": lambda **arguments: GRU(3, states=True, reset_after=False, **arguments),
    "LSTM": lambda **arguments: LSTM(3, states=True, peepholes=True, **arguments),
}


@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
@pytest.mark.parametrize("name", MAKERS)
def test_each_sequence_as_if_alone(name: str, direction: str) -> None:
    rng = np.random.default_rng(0)
    told: Any = MAKERS[name](direction=direction, lengths=True)
    whole: Any = MAKERS[name](direction=direction)
    x, lengths = rng.standard_normal((4, 5, 2)), np.array([5, 2, 0, 3])
    start = [rng.standard_normal((4, len(told.ways), 3)) for _ in range(told.kinds)]
    told.build((5, 2), (), rng=rng)
    whole.build((5, 2), rng=rng)
    whole.params.update(told.params)
    told.astype(np.float64)
    whole.astype(np.float64)
    (y, *ends), backward = told.forward(Context(), x, lengths, *start)
    dys = [rng.standard_normal(each.shape) for each in (y, *ends)]
    (dx, nothing, *dstarts), gradients = backward(tuple(dys))
    assert nothing is None
    sums = {key: np.zeros_like(each) for key, each in gradients.items()}
    for at, count in enumerate(lengths):
        one = slice(at, at + 1)
        assert not y[at, count:].any() and not dx[at, count:].any()
        if not count:
            for given, end in zip(start, ends, strict=True):
                np.testing.assert_array_equal(end[at], given[at])
            for dend, dstart in zip(dys[1:], dstarts, strict=True):
                np.testing.assert_array_equal(dend[at], dstart[at])
            continue
        made, back = whole.forward(Context(), x[one, :count], *(each[one] for each in start))
        (dx_alone, *dstarts_alone), alone = back((dys[0][one, :count], *(each[one] for each in dys[1:])))
        pairs = [(y[one, :count], made[0]), *zip((each[one] for each in ends), made[1:], strict=True)]
        pairs += [(dx[one, :count], dx_alone), *zip((each[one] for each in dstarts), dstarts_alone, strict=True)]
        for got, wanted in pairs:
            np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-12)
        sums = {key: each + alone[key] for key, each in sums.items()}
    for key, each in gradients.items():
        np.testing.assert_allclose(each, sums[key], rtol=1e-10, atol=1e-12)


def test_lengths_must_be_of_the_sequences() -> None:
    layer = GRU(2, lengths=True)
    x = np.zeros((3, 4, 2), np.float32)
    assert layer(x, np.array([4, 0, 1])).shape == (3, 4, 2)
    with pytest.raises(ValueError, match="lengths must be from 0 to the 4 steps"):
        layer(x, np.array([5, 1, 1]))
    with pytest.raises(TypeError, match="lengths must be integers, one for each of 3 sequences"):
        layer(x, np.array([1, 2]))
