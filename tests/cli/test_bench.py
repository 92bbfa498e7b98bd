"""``fastconv bench``: with ONNX Runtime where it is installed, and with engines that only sleep."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the onnx package is not installed")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

import fastconv.engines  # noqa: E402
from fastconv.cli import main  # noqa: E402
from fastconv.engines import Engine, engine  # noqa: E402

FAKES = str(Path(__file__).parents[1] / "engines" / "fake_openers.py")
FAST = ["--rounds", "1", "--seconds", "0.001", "--starts", "1"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A convolution with ReLU, of images whose size is open and whose batch is 1."""
    weight = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    nodes = [helper.make_node("Conv", ["x", "w"], ["a"]), helper.make_node("Relu", ["a"], ["y"])]
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, "H", "W"])
        for name, channels in (("x", 3), ("y", 4))
    )
    graph = helper.make_graph(nodes, "graph", [x], [y], [numpy_helper.from_array(weight, "w")])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(tmp_path / "net.onnx")
    )
    return tmp_path / "net.onnx"


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    def team(names: Iterable[str], threads: int) -> list[Engine]:
        return [Engine(name, threads, (), FAKES) for name in ("fastconv", *names)]

    monkeypatch.setattr(fastconv.engines, "engines", team)


def test_against_onnxruntime(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    words = ["bench", str(path), "--shape", "x=3x8x9", "--batch", "1,2", "--threads", "1,2", *FAST]
    assert main([*words, "--against", "onnxruntime"]) == 0
    out = capsys.readouterr().out
    for title in ("batch 1, 1 thread", "batch 1, 2 threads", "batch 2, 1 thread", "batch 2, 2 threads"):
        assert f"net.onnx: {title}\n" in out
    assert out.count("\nfastconv ") == 8 and out.count("\nonnxruntime ") == 4  # in the table, and what comes of it
    assert out.count("times as fast as onnxruntime") == 4
    differences = [float(line.split(":")[1].split()[0]) for line in out.splitlines() if line.startswith("largest")]
    assert len(differences) == 4 and max(differences) < 1e-5
    assert "peak memory: of the whole process" in out


def test_a_built_in_network_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    assert main(["bench", "lenet", "--against", "onnxruntime", "--json", *FAST]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["versions"]["fastconv"] == fastconv.__version__ and found["versions"]["onnxruntime"]
    (result,) = found["comparisons"]
    assert (result["network"], result["batch"], result["threads"]) == ("lenet", 1, 1)
    assert [each["engine"] for each in result["engines"]] == ["fastconv", "onnxruntime"]
    assert all(min(each[key] for key in ("seconds", "load", "first", "peak")) > 0 for each in result["engines"])
    assert result["difference"] < 1e-5


def test_markdown(path: Path, fakes: None, capsys: pytest.CaptureFixture[str]) -> None:
    long = [*FAST, "--seconds", "0.05"]  # a median of many calls: one alone may wait for another program
    assert main(["bench", str(path), "--shape", "x=3x8x9", "--against", "slow,wrong", "--markdown", *long]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "### net.onnx: batch 1, 1 thread"
    assert [line.split("|")[1].split()[:1] for line in lines if line.startswith("| ")] == [
        ["engine"],
        ["fastconv"],
        ["slow"],
        ["wrong"],
    ]
    assert any("times as fast as wrong, the fastest of the others; largest difference" in line for line in lines)
    assert "3.3e-01 of the largest output" in "\n".join(lines)
    assert lines[-1].startswith("- peak memory")


def test_an_engine_that_fails_is_said(path: Path, fakes: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(path), "--shape", "x=3x8x9", "--against", "refusing,slow", *FAST]) == 1
    said = capsys.readouterr()
    assert "refusing  " in said.out and "failed" in said.out and "times as fast as slow" in said.out
    assert said.err == "fastconv bench: refusing: ValueError: it does not like this file\n"


def test_engines_that_are_not_installed(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: name if name == "onnx" else None)
    assert main(["bench", str(path), "--against", "openvino"]) == 1
    assert "openvino needs openvino, not installed here: pip install openvino" in capsys.readouterr().err
    assert main(["bench", str(path)]) == 1
    assert "pip install onnxruntime or pip install openvino" in capsys.readouterr().err


def test_what_is_installed_is_compared(
    path: Path, fakes: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fastconv.cli.bench.USUAL", ("slow", "torch"))
    monkeypatch.setattr(engine, "missing_modules", lambda name: ["torch"] if name == "torch" else [])
    assert main(["bench", str(path), "--shape", "x=3x8x9", *FAST]) == 0
    said = capsys.readouterr()
    assert (
        "torch is not installed and is left out: pip install torch" in said.err and "times as fast as slow" in said.out
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["no_such.onnx"], "no_such.onnx: No such file"),
        (["nothing"], "nothing is not a file, and there is no network 'nothing'"),
        (
            ["{path}"],
            "leaves the shape of its input 'x' open, 1 x 3 x any x any: give it, without the batch (--shape x=...)",
        ),
        (["{path}", "--shape", "z=3x8x8"], "has no input 'z'; it has x"),
        (["{path}", "--shape", "x=4x8x8"], "which N x 4 x 8 x 8 does not fit"),
        (
            ["{path}", "--against", "tvm"],
            "there is no engine 'tvm' to compare with; there are: onnxruntime, openvino, torch",
        ),
    ],
)
def test_errors_are_one_line(
    words: list[str], message: str, path: Path, fakes: None, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    if "tvm" in words:
        monkeypatch.undo()
    against = [] if "--against" in words else ["--against", "slow"]
    assert main(["bench", *(word.format(path=path) for word in words), *against, *FAST]) == 1
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1 and err.startswith("fastconv bench: error: ")


def test_a_frozen_model_is_not_for_others(tmp_path: Path, fakes: None, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "frozen.safetensors"
    fastconv.freeze(fastconv.networks.create("lenet", (28, 28, 1), 10)).save(file)
    assert main(["bench", str(file), "--against", "slow", *FAST]) == 1
    assert (
        "is a frozen model, which other engines cannot read: give the model that it was made of"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    "words",
    [["--batch", "0"], ["--threads", "1,two"], ["--shape", "3x8x8"], ["--seconds", "0"], ["--json", "--markdown"]],
)
def test_wrong_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "lenet", *words]) == 2
    assert "usage: fastconv bench" in capsys.readouterr().err
