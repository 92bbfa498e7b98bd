"""Initializers: variance, range, seeds and messages."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastconv.layers import Conv2d, ConvTranspose2d, Linear
from fastconv.layers.initializers import NAMES, checked_initializer, initialize

SHAPE = (400, 300)


def make(initializer: Any, seed: int = 0) -> np.ndarray:
    return initialize(initializer, SHAPE, np.random.default_rng(seed), fan_in=400, fan_out=300)


@pytest.mark.parametrize(
    ("name", "variance"),
    [
        ("he_normal", 2 / 400),
        ("he_uniform", 2 / 400),
        ("glorot_normal", 2 / 700),
        ("glorot_uniform", 2 / 700),
        ("lecun_normal", 1 / 400),
        ("lecun_uniform", 1 / 400),
    ],
)
def test_the_variance_is_that_of_the_paper(name: str, variance: float) -> None:
    values = make(name)
    assert values.dtype == np.float32
    assert abs(values.mean()) < 3 * np.sqrt(variance / values.size)
    assert abs(values.var() / variance - 1) < 0.02
    if name.endswith("uniform"):
        assert np.abs(values).max() <= np.sqrt(3 * variance) * (1 + 1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_one_seed_one_result(name: str) -> None:
    np.testing.assert_array_equal(make(name), make(name))
    if name not in ("zeros", "ones", "constant"):
        assert not np.array_equal(make(name), make(name, seed=1))


def test_constants_and_arguments() -> None:
    assert (make("zeros") == 0).all()
    assert (make("ones") == 1).all()
    assert (make(0.25) == 0.25).all()
    assert (make({"name": "constant", "value": 2}) == 2).all()
    normal = make({"name": "normal", "mean": 3.0, "std": 0.5})
    assert abs(normal.mean() - 3) < 0.01
    assert abs(normal.std() - 0.5) < 0.01
    uniform = make({"name": "uniform", "low": 1.0, "high": 2.0})
    assert uniform.min() >= 1
    assert uniform.max() <= 2


@pytest.mark.parametrize(
    ("initializer", "error", "message"),
    [
        ("he", ValueError, "there is no initializer 'he'; choose one of he_normal, he_uniform"),
        ({"value": 3}, ValueError, "there is no initializer None"),
        ({"name": "he_normal", "std": 3}, ValueError, "initializer 'he_normal' takes no arguments, got 'std'"),
        ({"name": "normal", "sd": 3}, ValueError, r"initializer 'normal' takes \['mean', 'std'\], got 'sd'"),
        ({"name": "normal", "std": "x"}, TypeError, "'std' of initializer 'normal' must be a number, got 'x'"),
        (True, TypeError, "an initializer is a name, a number or a dict, got True"),
        (None, TypeError, "an initializer is a name, a number or a dict, got None"),
    ],
)
def test_what_is_no_initializer(initializer: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        checked_initializer(initializer)


def test_signals_keep_their_variance_through_a_layer() -> None:
    rng = np.random.default_rng(0)
    dense = Linear(256, initializer="lecun_normal")
    assert 0.8 < dense(rng.standard_normal((500, 256)).astype(np.float32)).var() < 1.2
    conv = Conv2d(64, 3, initializer="lecun_normal")
    assert 0.8 < conv(rng.standard_normal((4, 12, 12, 32)).astype(np.float32)).var() < 1.2
    up = ConvTranspose2d(64, 4, stride=2, padding=1, initializer="lecun_normal")
    assert 0.7 < up(rng.standard_normal((4, 12, 12, 32)).astype(np.float32))[:, 2:-2, 2:-2].var() < 1.3


def test_layers_of_one_seed_are_equal() -> None:
    first, second = Conv2d(4, 3), Conv2d(4, 3)
    for layer in (first, second):
        layer.build((8, 8, 2), rng=np.random.default_rng(3))
    np.testing.assert_array_equal(first.params["weight"], second.params["weight"])
