"""The example programs run as they are, and the layer among them has the right gradients."""

from __future__ import annotations

import importlib.util
import re
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import fastconv
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


def require_extras() -> None:
    """Skip what needs the example with an ONNX file and image files, where those cannot be read."""
    pytest.importorskip("onnx", reason="the onnx package is not installed")
    pytest.importorskip("PIL", reason="Pillow is not installed")


@pytest.mark.parametrize("stem", [path.stem for path in EXAMPLES])
def test_runs(stem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    if stem == "finetune_onnx":
        require_extras()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [stem, "--epochs", "1"])
    load(stem).main()
    said = capsys.readouterr().out
    assert "accuracy" in said
    assert "the same after loading: False" not in said


def test_a_network_learns_other_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    require_extras()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["finetune_onnx"])
    example = load("finetune_onnx")
    example.main()
    said = capsys.readouterr().out
    before, head, after = (float(number) for number in re.findall(r"accuracy .* ([\d.]+)%", said))
    assert before < 50 < head < after
    tuned = fastconv.onnx.load("finetuned.onnx")
    assert tuned.output_shape((1, 28, 28)) == (len(example.NEW),)
    # what was made first can be given, too
    given = ["--network", "clothes.onnx", "--images", "shoes", "--epochs", "1"]
    monkeypatch.setattr(sys, "argv", ["finetune_onnx", *given])
    example.main()
    assert "60 images of Ankle boot, Bag, Sandal, Sneaker" in capsys.readouterr().out


def test_onnx_runtime_agrees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    require_extras()
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["finetune_onnx", "--epochs", "1"])
    load("finetune_onnx").main()
    (away,) = re.findall(r"ONNX Runtime is at most (\S+) away", capsys.readouterr().out)
    assert float(away) < 1e-3


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
