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
