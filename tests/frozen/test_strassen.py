"""Frozen 1x1 convolutions by Strassen's algorithm: their ends, their weights, their place in a concatenation."""

from __future__ import annotations

import numpy as np
import pytest
from frozen_cases import inputs, trained

import fastconv
from fastconv import layers as L
from fastconv.model import Input, Model

SHAPE, BATCH = (14, 14, 512), 6


def assert_frozen_equals(connect, dtype=np.float32):
    """Freeze what `connect` makes of a symbol and compare it, called again and again, with the model."""
    x = Input(SHAPE)
    model = trained(Model(x, connect(x)).astype(dtype))
    frozen = fastconv.freeze(model)
    images = inputs(model, BATCH)
    want = model(*images)
    for _ in range(3):  # the weight is summed at the first call, then once for all
        assert np.abs(frozen(*images) - want).max() <= (2e-5 if dtype == np.float32 else 1e-13) * np.abs(want).max()
    assert "strassen" in str(frozen.explain(*images, repeats=1))


@pytest.mark.parametrize("activation", [L.ReLU, L.SiLU, L.PReLU, L.ReLU6, None])
@pytest.mark.parametrize("adds", [False, True])
def test_outputs_are_finished(isa, threads, adds, activation):
    def connect(x):
        y = L.BatchNorm()(L.Conv2d(512, 1, bias=False)(x))
        y = L.Add()(y, x) if adds else y
        return activation()(y) if activation else y

    assert_frozen_equals(connect)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_outputs_at_their_place(isa, dtype):
    assert_frozen_equals(lambda x: L.Concat()(x, L.ReLU()(L.Conv2d(320, 1)(x))), dtype)


def test_a_weight_is_kept_for_other_shapes():
    """The sums of a weight do not determine it: it is there for what is computed otherwise."""
    x = Input(SHAPE)
    model = trained(Model(x, L.Conv2d(512, 1)(x)))
    frozen = fastconv.freeze(model)
    rng = np.random.default_rng(0)
    for size in (14, 14, 14, 5, 14, 5):
        images = rng.standard_normal((BATCH, size, size, 512)).astype(np.float32)
        want = model(images)
        assert np.abs(frozen(images) - want).max() <= 2e-5 * np.abs(want).max()
