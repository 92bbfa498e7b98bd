"""Which engines there are, and what is said where their packages are missing."""

from __future__ import annotations

import pytest

pytest.importorskip("onnx", reason="the onnx package is not installed")

from fastconv.engines import engine, engines


@pytest.fixture(autouse=True)
def everything_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: name)


def test_ours_comes_first_and_once() -> None:
    assert [each.name for each in engines(["openvino", "fastconv", "openvino"], 1)] == ["fastconv", "openvino"]


def test_settings_of_which_the_best_counts() -> None:
    assert [str(each) for each in engines(["onnxruntime"], 1)] == ["fastconv", "onnxruntime"]
    assert [str(each) for each in engines(["onnxruntime"], 2)] == [
        "fastconv",
        "onnxruntime spinning",
        "onnxruntime not spinning",
    ]
    assert [dict(each.settings) for each in engines(["torch"], 1)[1:]] == [
        {"channels_last": True},
        {"channels_last": False},
    ]
    assert {each.threads for each in engines(["torch"], 2)} == {2}


def test_a_name_that_is_none() -> None:
    with pytest.raises(ValueError, match="no engine 'tvm' to compare with; there are: onnxruntime, openvino, torch"):
        engines(["tvm"], 1)


def test_more_threads_than_any_machine_has() -> None:
    with pytest.raises(ValueError, match="the number of threads must be at most 1024, got 1000000"):
        engines(["onnxruntime"], 1_000_000)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("onnxruntime", "onnxruntime needs onnxruntime, not installed here: pip install onnxruntime"),
        ("openvino", "pip install openvino"),
        ("torch", "torch needs torch and onnx2torch, not installed here: pip install torch torchvision onnx2torch"),
    ],
)
def test_a_package_that_is_missing(name: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: name if name == "onnx" else None)
    with pytest.raises(ImportError, match=message):
        engines([name], 1)


def test_versions() -> None:
    import fastconv

    assert engine.version("fastconv") == fastconv.__version__
    assert engine.version("no_such_package") == ""
