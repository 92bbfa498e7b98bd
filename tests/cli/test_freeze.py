"""`fastconv freeze`: the steps as a table, a file that loads, a chart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fastconv
from fastconv import networks
from fastconv.cli import main


def test_it_shows_the_steps(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["freeze", "lenet", "--batch", "2"]) == 0
    said = capsys.readouterr().out
    assert "conv2d_1 + tanh_1" in said and "(N, 28, 28, 6)" in said and "total:" in said


def test_it_writes_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = networks.create("lenet", (12, 12, 1), 3)
    model.build(rng=np.random.default_rng(5)).save(tmp_path / "model.safetensors")
    out = tmp_path / "frozen.safetensors"
    assert main(["freeze", str(tmp_path / "model.safetensors"), "--out", str(out)]) == 0
    size = sum(param.nbytes for param in model.params.values())
    assert capsys.readouterr().out == f"{out}: 8 steps, {size:,} bytes of constants\n"
    x = np.random.default_rng(0).standard_normal((2, 12, 12, 1)).astype(np.float32)
    assert (fastconv.load_frozen(out)(x) == fastconv.freeze(model)(x)).all()


def test_an_onnx_file_is_a_model_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = networks.create("lenet", (12, 12, 1), 3).build(rng=np.random.default_rng(5))
    file, out = tmp_path / "net.onnx", tmp_path / "frozen.safetensors"
    fastconv.onnx.save(model, file)
    assert main(["freeze", str(file), "--out", str(out)]) == 0
    x = np.random.default_rng(0).standard_normal((2, 12, 12, 1)).astype(np.float32)
    np.testing.assert_allclose(fastconv.load_frozen(out)(x), model(x), rtol=0, atol=1e-5)
    capsys.readouterr()
    assert main(["summary", str(file)]) == 0
    assert "total: 15,031 parameters" in capsys.readouterr().out
    file.write_bytes(file.read_bytes()[:100])
    assert main(["freeze", str(file)]) == 1
    assert f"fastconv freeze: error: {file}: this is not an ONNX file, or it is truncated" in capsys.readouterr().err


def test_it_draws_a_chart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chart = tmp_path / "chart.png"
    assert main(["freeze", "lenet", "--chart", str(chart)]) == 0
    assert chart.read_bytes().startswith(b"\x89PNG") and capsys.readouterr().out == f"wrote {chart}\n"
    assert main(["freeze", "lenet", "--chart", str(chart), "--explain"]) == 0
    assert "total:" in capsys.readouterr().out


def test_what_is_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["freeze", "nothing"]) == 1
    assert "fastconv freeze: error: nothing is not a file, and" in capsys.readouterr().err
    frozen = tmp_path / "frozen"
    fastconv.freeze(networks.create("lenet", (12, 12, 1), 3)).save(frozen)
    assert main(["freeze", str(frozen)]) == 1
    assert "holds a frozen model: read it with fastconv.load_frozen" in capsys.readouterr().err
    assert main(["freeze", "lenet", "--out", str(tmp_path / "no" / "folder")]) == 1
    assert "No such file or directory" in capsys.readouterr().err
