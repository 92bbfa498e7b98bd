"""Layers whose backward pass is borrowed, from central differences or from PyTorch: right as the suite of every layer says."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from registrations import forget_afterwards

import fastconv
from fastconv import layers as L
from fastconv.layers import Context, Layer, Prototype, TorchLayer, Traits
from fastconv.testing import check_layer

pytest.importorskip("hypothesis")


class Bent:
    """What both kinds share: y = tanh(x * scale), one factor for each channel."""

    def build(self, shape: Any, rng: np.random.Generator) -> None:
        self.params["scale"] = rng.uniform(0.5, 1.5, shape[-1]).astype(np.float32)  # type: ignore[attr-defined]

    def output_shape(self, shape: Any) -> Any:
        return shape

    def matching(self, x: Any, scale: Any) -> None:
        if x.shape[-1] != len(scale):
            raise ValueError(f"x must have {len(scale)} channels, got shape {tuple(x.shape)}")


class BentPrototype(Bent, Prototype):
    def compute(self, params: Any, x: Any) -> Any:
        self.matching(x, params["scale"])
        return np.tanh(x * params["scale"])


class BentTorch(Bent, TorchLayer):
    def compute(self, params: Any, x: Any) -> Any:
        self.matching(x, params["scale"])
        return (x * params["scale"]).tanh()


class BentByHand(Bent, Layer):
    def forward(self, ctx: Context, x: Any) -> Any:
        scale = self.params["scale"]
        self.matching(x, scale)
        y = np.tanh(x * scale)

        def backward(dy: Any) -> Any:
            inner = dy * (1 - y * y)
            return inner * scale, {"scale": (inner * x).sum(axis=tuple(range(x.ndim - 1)))}

        return y, backward


KINDS = [BentPrototype, BentTorch, BentByHand]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    if request.param is BentTorch:
        pytest.importorskip("torch")
    forget_afterwards(monkeypatch)
    return L.register(f"borrowed.{request.param.__name__}")(request.param)


def test_passes_the_conformance_suite(kind: type[Layer]) -> None:
    check_layer(kind(), max_examples=5, input_shapes=[(2, 3)])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_gradients_are_those_of_the_formula(kind: type[Layer], dtype: Any) -> None:
    x = np.random.default_rng(0).normal(size=(3, 2, 4)).astype(dtype)
    dy = np.random.default_rng(1).normal(size=(3, 2, 4)).astype(dtype)
    layer, hand = kind().astype(dtype), BentByHand().astype(dtype)
    np.testing.assert_allclose(layer(x), hand(x), rtol=1e-6)
    results = [each.forward(Context(), x)[1](dy) for each in (layer, hand)]
    (dx, gradients), (dx_hand, gradients_hand) = results
    assert dx.dtype == gradients["scale"].dtype == dtype
    limit = {"rtol": 1e-5, "atol": 1e-6} if dtype == np.float32 else {"rtol": 1e-8, "atol": 1e-9}
    np.testing.assert_allclose(dx, dx_hand, **limit)
    np.testing.assert_allclose(gradients["scale"], gradients_hand["scale"], **limit)


def test_trains_saves_and_loads(kind: type[Layer], tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    model = fastconv.Sequential([kind(), L.Linear(2)])
    history = model.fit(x, (x[:, 0] > 0).astype(int), epochs=8, optimizer=fastconv.Adam(0.05), verbose=False)
    assert history["loss"][-1] < history["loss"][0]
    model.save(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(fastconv.load_model(tmp_path / "model.safetensors")(x), model(x))


class Pair(Prototype):
    """Two inputs, two outputs."""

    def output_shape(self, a: Any, b: Any) -> Any:
        return a, b

    def compute(self, params: Any, a: Any, b: Any) -> Any:
        return a * b, a + b * b


class PairTorch(TorchLayer):
    def output_shape(self, a: Any, b: Any) -> Any:
        return a, b

    def compute(self, params: Any, a: Any, b: Any) -> Any:
        return a * b, a + b * b


class Centered(Prototype):
    """A layer in which each sample sees the others."""

    traits = Traits(mixes_samples=True)

    def output_shape(self, shape: Any) -> Any:
        return shape

    def compute(self, params: Any, x: Any) -> Any:
        return x - x.mean(axis=0, keepdims=True) ** 2


@pytest.mark.parametrize("pair", [Pair, PairTorch])
def test_several_inputs_and_outputs(pair: Any) -> None:
    if pair is PairTorch:
        pytest.importorskip("torch")
    a, b, da, db = np.random.default_rng(0).normal(size=(4, 2, 3))
    (first, second), backward = pair().forward(Context(), a, b)
    np.testing.assert_array_equal(first, a * b)
    np.testing.assert_array_equal(second, a + b * b)
    (dx_a, dx_b), gradients = backward((da, db))
    np.testing.assert_allclose(dx_a, da * b + db, atol=1e-9)
    np.testing.assert_allclose(dx_b, da * a + 2 * db * b, atol=1e-9)
    assert gradients == {}


def test_samples_that_depend_on_each_other() -> None:
    x, dy = np.random.default_rng(0).normal(size=(2, 4, 3))
    dx, _ = Centered().forward(Context(), x)[1](dy)
    np.testing.assert_allclose(dx, dy - 2 * x.mean(axis=0) * dy.sum(axis=0) / 4, atol=1e-9)


def test_the_gradient_of_the_first_layers_input_is_not_computed() -> None:
    pytest.importorskip("torch")
    layer = BentTorch()
    x = np.ones((2, 3), np.float32)
    layer(x)
    dx, gradients = layer.forward(Context(input_grad=False), x)[1](x)
    assert dx is None
    assert gradients["scale"].shape == (3,)


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nothing(Prototype):
        def output_shape(self, shape: Any) -> Any:
            return shape

    with pytest.raises(NotImplementedError, match=r"Nothing must define compute\(self, params, x\)"):
        Nothing()(np.ones((1, 2), np.float32))
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(
        ImportError, match=r"computes with PyTorch, which is not installed: pip install 'fastconv\[torch\]'"
    ):
        PairTorch().forward(Context(), np.ones((1, 2)), np.ones((1, 2)))
