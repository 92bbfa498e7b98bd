"""``fastconv onnx``: what is in a file, and files written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the onnx package is not installed")

from onnx import TensorProto, helper  # noqa: E402

from fastconv import networks  # noqa: E402
from fastconv.cli import main  # noqa: E402
from fastconv.onnx import load, save  # noqa: E402


def test_info(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(networks.create("lenet", (28, 28, 1), 10), tmp_path / "lenet.onnx")
    assert main(["onnx", "info", str(tmp_path / "lenet.onnx")]) == 0
    out = capsys.readouterr().out
    assert "opset 20" in out and "written by fastconv" in out
    assert "input   input_1   any x 28 x 28 x 1  float32" in out
    assert "Conv" in out and "61,706 parameters" in out


def test_info_lists_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Abracadabra", ["a"], ["y"], name="spell", domain="acme"),
    ]
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4]) for name in "xy"]
    onnx.save(helper.make_model(helper.make_graph(nodes, "graph", infos[:1], infos[1:])), tmp_path / "model.onnx")
    assert main(["onnx", "info", str(tmp_path / "model.onnx")]) == 1
    out = capsys.readouterr().out
    assert "acme.Abracadabra      1  not supported" in out
    assert "not supported: node 'spell' (acme.Abracadabra)" in out


@pytest.mark.parametrize("command", [["export"], ["onnx", "export"]])
def test_export(command: list[str], tmp_path: Path) -> None:
    model = networks.create("cnn-small", (28, 28, 1), 10).build()
    model.save(tmp_path / "model.safetensors")
    assert main([*command, str(tmp_path / "model.safetensors"), str(tmp_path / "model.onnx")]) == 0
    x = np.random.default_rng(0).standard_normal((2, 28, 28, 1)).astype(np.float32)
    np.testing.assert_allclose(load(tmp_path / "model.onnx")(x), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("content", [None, b"nonsense"])
def test_bad_files_are_one_line(content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if content is not None:
        (tmp_path / "model.onnx").write_bytes(content)
    assert main(["onnx", "info", str(tmp_path / "model.onnx")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("fastconv onnx: error: ") and "model.onnx: " in said and said.count("\n") == 1
