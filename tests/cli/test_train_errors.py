"""What `fastconv train` says about data, networks and folders that it cannot use: one line, exit code 1, nothing lost."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_problems import TINY, shapes, write_folder, write_model, write_npz

from fastconv.cli import main


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder of one's own."""
    monkeypatch.chdir(tmp_path)
    write_model(Path("net.json"))


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Run `fastconv train`, which must fail in one line and leave no folder; return the line."""
    assert main(["train", "--epochs", "1", "--out", "run", "--quiet", *argv]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("fastconv train: error: ") and said.err.count("\n") == 1, said.err
    assert not Path("run").exists()
    return said.err


BAD_NPZ: list[tuple[dict[str, Any], str]] = [
    ({"x_train": None}, r"must hold x_train and y_train"),
    ({"x_train": np.full((60, 12, 12, 1), np.nan, np.float32)}, r"x_train\[0\] holds nan"),
    ({"x_train": np.zeros((60, 12, 12, 1), np.complex64)}, "x_train must be uint8 or floats, got complex64"),
    ({"x_train": np.zeros((60, 12), np.uint8)}, "x_train must be images"),
    ({"y_train": np.zeros(59, np.int64)}, "y_train must be one integer for each of the 60 images"),
    ({"y_train": np.zeros(60)}, "y_train must be one integer"),
    ({"y_train": -np.ones(60, np.int64)}, r"y_train\[0\] is -1; labels start at 0"),
    ({"y_test": np.full(15, 9)}, "classes must be at least 10 strings"),
    ({"x_test": np.zeros((15, 10, 12, 1), np.uint8)}, "x_test"),
    ({"classes": np.array([["a"]])}, "classes must be at least 3 strings"),
    ({"x_train": np.array([{}], dtype=object)}, "not an .npz file of plain arrays"),
]


@pytest.mark.parametrize(("changed", "message"), BAD_NPZ)
def test_bad_arrays(changed: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    import re

    write_npz(Path("data.npz"), **changed)
    said = refused(capsys, "--data", "data.npz", "--model", "net.json")
    assert "data.npz" in said and re.search(message, said), said


def test_one_class(capsys: pytest.CaptureFixture[str]) -> None:
    write_npz(Path("data.npz"), y_train=np.zeros(60, np.int64), y_test=np.zeros(15, np.int64), classes=None)
    assert "has one class, 0" in refused(capsys, "--data", "data.npz")


def test_a_single_array(capsys: pytest.CaptureFixture[str]) -> None:
    np.save("data.npy", np.zeros(3))
    assert "data.npy holds a single array" in refused(capsys, "--data", "data.npy")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"no archive"])
def test_damaged_archives(content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    Path("data.npz").write_bytes(content)
    assert "data.npz" in refused(capsys, "--data", "data.npz")


def test_missing_data(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "--data", "nowhere")
    assert "there is no file or folder" in said and "nowhere" in said


def test_a_folder_without_classes(capsys: pytest.CaptureFixture[str]) -> None:
    Path("photos").mkdir()
    assert "no sub-folders" in refused(capsys, "--data", "photos")


def test_a_class_without_images(capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(Path("photos"))
    Path("photos/empty").mkdir()
    assert "empty has no images" in refused(capsys, "--data", "photos")


@pytest.mark.parametrize("keep", [0, 20, 60])
def test_a_damaged_image_is_named(keep: int, capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(Path("photos"))
    victim = Path("photos/cross/7.png")
    victim.write_bytes(victim.read_bytes()[:keep])
    assert "7.png" in refused(capsys, "--data", "photos", "--model", "net.json")


def test_idx_files_that_are_cut_short(capsys: pytest.CaptureFixture[str]) -> None:
    from fastconv.data import write_idx

    Path("idx").mkdir()
    for part in ("train", "t10k"):
        x, y = shapes(30)
        write_idx(f"idx/{part}-images-idx3-ubyte", x[..., 0])
        write_idx(f"idx/{part}-labels-idx1-ubyte", y.astype(np.uint8))
    assert main(["train", "--data", "idx", "--model", "net.json", "--epochs", "1", "--quiet"]) == 0
    images = Path("idx/t10k-images-idx3-ubyte")
    images.write_bytes(images.read_bytes()[:100])
    assert "t10k-images-idx3-ubyte" in refused(capsys, "--data", "idx", "--model", "net.json")


def without(layers: list[dict[str, Any]], last: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the tiny network with another last layer."""
    return [*layers[:-1], last]


BAD_MODELS: list[tuple[Any, str]] = [
    ("{", "net.json is not JSON"),
    ("[" * 100_000, "net.json is not JSON"),
    ([], "net.json: layer (Sequential) cannot be made from its config: layers must be at least one layer, got none"),
    ([1], "net.json"),
    ({"layer": "Flatten"}, "describes a single Flatten"),
    ({"layers": []}, "a layer is described by"),
    ([{"layer": "Conv2D"}], "there is no layer named 'Conv2D'; did you mean 'Conv2d'?"),
    ([{"layer": "Linear", "config": {"features": 0}}], "features"),
    ([{"layer": "Linear", "config": {"unknown": 0}}], "unknown"),
    (
        without(TINY, {"layer": "Linear", "config": {"features": 5}}),
        "returns (5,) for an image, and the data has 3 classes",
    ),
    (TINY[:3], "and the data has 3 classes"),
    ([{"layer": "Conv2d", "config": {"channels": 4, "kernel_size": 99}}, *TINY], "kernel"),
]


@pytest.mark.parametrize(("layers", "message"), BAD_MODELS)
def test_bad_networks(layers: Any, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_npz(Path("data.npz"))
    Path("net.json").write_text(layers if isinstance(layers, str) else json.dumps(layers))
    said = refused(capsys, "--data", "data.npz", "--model", "net.json")
    assert message in said, said


def test_a_network_for_other_images_or_another_task(capsys: pytest.CaptureFixture[str]) -> None:
    assert "densenet121 needs images of at least 29 x 29 pixels, got 28 x 28" in refused(
        capsys, "--model", "densenet121"
    )
    assert "multiples of 16 pixels, got 28 x 28" in refused(capsys, "--model", "unet")


def test_unknown_network(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no network 'alexnet'; there are: cnn-small, densenet121" in refused(capsys, "--model", "alexnet")


def test_missing_network_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert "missing.json: No such file or directory" in refused(capsys, "--model", "missing.json")


def test_images_too_small_for_the_network(capsys: pytest.CaptureFixture[str]) -> None:
    x, y = shapes(30, size=6)
    np.savez("data.npz", x=x, y=y)
    said = refused(capsys, "--data", "data.npz", "--model", "lenet")
    assert "lenet needs images of at least 12 x 12 pixels, got 6 x 6" in said


def test_diverging_training_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    write_npz(Path("data.npz"))
    argv = ["train", "--data", "data.npz", "--model", "net.json", "--epochs", "3", "--out", "run", "--quiet"]
    assert main([*argv, "--optimizer", "sgd", "--learning-rate", "1e30", "--schedule", "constant"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "the loss became" in said and "a lower --learning-rate may help" in said, said


def test_threads_that_are_no_number(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FASTCONV_NUM_THREADS", "many")
    monkeypatch.setattr("fastconv.threads._default", None)
    monkeypatch.setattr("fastconv.threads._chosen", None)
    write_npz(Path("data.npz"))
    said = refused(capsys, "--data", "data.npz", "--model", "net.json")
    assert "FASTCONV_NUM_THREADS must be an integer" in said


def test_out_is_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    write_npz(Path("data.npz"))
    Path("out").write_text("")
    assert main(["train", "--data", "data.npz", "--model", "net.json", "--out", "out"]) == 1
    assert "--out out is a file, not a folder" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_out_cannot_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    Path("locked").mkdir(mode=0o500)
    assert "Permission denied" in refused(capsys, "--out", "locked/run")


def test_a_full_disk_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    write_npz(Path("data.npz"))
    monkeypatch.setattr(os, "fsync", full)  # what is imported in here must not keep what is put in its place
    assert main(["train", "--data", "data.npz", "--model", "net.json", "--epochs", "2", "--out", "run", "--quiet"]) == 1
    said = capsys.readouterr().err
    assert said == f"fastconv train: error: {Path('run', 'options.json')}: No space left on device\n"
