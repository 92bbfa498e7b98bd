"""The example programs run as they are, and the layer among them has the right gradients."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from fastconv.layers import Context
from fastconv.testing import check_layer

EXAMPLES = sorted((Path(__file__).resolve().parents[1] / "examples").glob("*.py"))


@cache
def load(stem: str) -> ModuleType:
    """Import an example program, once: a layer's name can be registered by one class only."""
    (path,) = (path for path in EXAMPLES if path.stem == stem)
    spec = importlib.util.spec_from_file_location(f"example_{stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("stem", [path.stem for path in EXAMPLES])
def test_runs(stem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [stem, "--epochs", "1"])
    load(stem).main()
    said = capsys.readouterr().out
    assert "accuracy" in said
    assert "the same after loading: False" not in said


def test_the_custom_layer_goes_back_as_it_came() -> None:
    layer = load("custom_layer").SqueezeExcite(3)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 4, 5, 6))
    layer.astype(np.float64)(x)
    ctx = Context(training=True, rng=rng)
    y, backward = layer.forward(ctx, x)
    dy = rng.standard_normal(y.shape)
    dx, gradients = backward(dy)
    h = 1e-6
    for array, gradient in ((x, dx), *((layer.params[name], gradient) for name, gradient in gradients.items())):
        direction = rng.standard_normal(array.shape)
        array += h * direction
        above = (layer.forward(ctx, x)[0] * dy).sum()
        array -= 2 * h * direction
        below = (layer.forward(ctx, x)[0] * dy).sum()
        array += h * direction
        assert (gradient * direction).sum() == pytest.approx((above - below) / (2 * h), rel=1e-6)


def test_the_custom_layer_passes_the_conformance_suite() -> None:
    check_layer(load("custom_layer").SqueezeExcite(3), max_examples=5)
