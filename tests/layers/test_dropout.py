"""Dropout by a key: the same bits on any number of threads, in any dtype, on any instruction set, and no pattern."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv.functional._dropout import dropped
from fastconv.layers import AlphaDropout, Context, Dropout, SpatialDropout, StochasticDepth


def test_the_key_alone_decides(isa, threads):
    x = np.arange(1, 30_012, dtype=np.float32)
    kept = dropped(x, 0.3, 12345) != 0
    for dtype in (np.float32, np.float64):
        np.testing.assert_array_equal(
            dropped(x.astype(dtype), 0.3, 12345), np.where(kept, x.astype(dtype) * dtype(1 / 0.7), 0)
        )
    # the first numbers by the formula, in Python
    assert kept[:50].tolist() == [_mixed(_mixed(i + 12345) ^ _mixed(0)) >= 0.3 * 2**32 for i in range(50)]
    assert dropped(x[:0], 0.3, 1).shape == (0,)


def _mixed(bits):
    bits = (bits ^ bits >> 16) * 0x85EBCA6B & 0xFFFFFFFF
    bits = (bits ^ bits >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
    return bits ^ bits >> 16


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_places_and_keys_are_independent(rate):
    masks = np.stack([dropped(np.ones(200_000, np.float32), rate, key) == 0 for key in (0, 1, 2**32, 2**63 - 1)])
    np.testing.assert_allclose(masks.mean(axis=1), rate, atol=0.004)  # 6 standard deviations at most
    centred = masks - rate
    for lag in (1, 2, 3, 64, 4096):
        assert abs((centred[:, lag:] * centred[:, :-lag]).mean(axis=1)).max() < 0.004
    assert abs(np.corrcoef(masks) - np.eye(4)).max() < 0.02


def test_the_backward_pass_drops_the_same():
    x = np.random.default_rng(1).standard_normal((3, 8, 8, 5)).astype(np.float32)
    y, backward = Dropout(0.4).forward(Context(True, np.random.default_rng(0)), x)
    dx, gradients = backward(np.ones_like(x))
    np.testing.assert_array_equal(dx != 0, y != 0)
    np.testing.assert_allclose(y, x * dx)
    assert gradients == {}


def test_stochastic_depth_leaves_whole_samples_out():
    x = np.random.default_rng(1).random((4000, 3, 2), np.float32) + 1
    layer = StochasticDepth(0.3)
    y, backward = layer.forward(Context(True, np.random.default_rng(0)), x)
    gone = (y == 0).all(axis=(1, 2))
    np.testing.assert_allclose(y[~gone], x[~gone] / 0.7, rtol=1e-6)
    assert abs(gone.mean() - 0.3) < 0.03  # 4 standard deviations
    np.testing.assert_array_equal((backward(np.ones_like(x))[0] == 0).all(axis=(1, 2)), gone)
    assert layer(x) is x
    assert StochasticDepth(0.0).forward(Context(True), x)[0] is x
    with pytest.raises(ValueError, match="rate must be below 1, because something must be left, got 1"):
        StochasticDepth(1)


def test_spatial_dropout_leaves_whole_channels_out():
    x = np.random.default_rng(1).random((500, 3, 2, 8), np.float32) + 1
    layer = SpatialDropout(0.3)
    y, backward = layer.forward(Context(True, np.random.default_rng(0)), x)
    gone = (y == 0).all(axis=(1, 2))
    np.testing.assert_array_equal((y == 0).any(axis=(1, 2)), gone)
    np.testing.assert_allclose(y, np.where(gone[:, None, None], 0, x / np.float32(0.7)), rtol=1e-6)
    assert abs(gone.mean() - 0.3) < 0.03  # 4 standard deviations
    np.testing.assert_array_equal((backward(np.ones_like(x))[0] == 0).all(axis=(1, 2)), gone)
    assert layer(x) is x


def test_alpha_dropout_keeps_mean_and_variance():
    x = np.random.default_rng(1).standard_normal((200, 500))
    y, backward = AlphaDropout(0.25).forward(Context(True, np.random.default_rng(0)), x)
    assert abs(y.mean()) < 0.015 and abs(y.std() - 1) < 0.015
    dx, _ = backward(np.ones_like(x))
    dropped = dx == 0
    assert abs(dropped.mean() - 0.25) < 0.006
    assert len(np.unique(y[dropped])) == 1 and y[dropped][0] < -1
    assert AlphaDropout(0.25)(x) is x
