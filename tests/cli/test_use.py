"""`fastconv predict`, `evaluate`, `summary`, `layers`, `info`; and what they say about files that are no model or no image."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli_problems import CLASSES, shapes, write_folder, write_model, write_npz

import fastconv
from fastconv import layers as L
from fastconv.cli import main


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that has learned the shapes."""
    folder = tmp_path_factory.mktemp("trained")
    data, net = write_npz(folder / "data.npz"), write_model(folder / "net.json")
    argv = ["train", "--data", str(data), "--model", str(net), "--epochs", "25", "--batch-size", "8", "--quiet"]
    assert main([*argv, "--out", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder of one's own."""
    monkeypatch.chdir(tmp_path)


def image_of(label: int, *, channels: int = 1, size: int = 12) -> np.ndarray:
    """Return a clean image ``(size, size)`` or ``(size, size, 3)`` of a bar, a cross or a dot."""
    x, y = shapes(3, seed=9, size=size, channels=channels)
    image = np.where(x[list(y).index(label)] > 100, 220, 20).astype(np.uint8)
    return image if channels == 3 else image[..., 0]


def save(name: str, array: np.ndarray, **options: object) -> str:
    """Write an image file."""
    from PIL import Image

    Image.fromarray(array).save(name, **options)
    return name


def firsts(said: str) -> list[str]:
    """Return the most probable class of each image in the output of `fastconv predict`."""
    lines = said.splitlines()
    return [lines[i + 1].split()[-1] for i, line in enumerate(lines) if not line.startswith(" ")]


def test_predict_takes_what_cameras_and_screens_make(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cross = image_of(1)
    transparent = np.dstack([image_of(1, channels=3), np.full((12, 12), 255, np.uint8)])
    files = [
        save("gray.png", cross),
        save("color.png", image_of(1, channels=3)),
        save("color.jpg", image_of(1, channels=3), quality=95),
        save("large.png", np.kron(cross, np.ones((8, 8), np.uint8))),
        save("deep.png", cross.astype(np.uint16) * 257),
        save("opaque.png", transparent),
    ]
    np.save("array.npy", cross)
    np.save("floats.npy", (cross / 255).astype(np.float32)[..., np.newaxis])
    assert main(["predict", str(trained), *files, "array.npy", "floats.npy"]) == 0
    said = capsys.readouterr().out
    assert firsts(said) == ["cross"] * 8, said


def test_predict_each_class_from_the_model_file(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [save(f"{name}.png", image_of(label)) for label, name in enumerate(CLASSES)]
    assert main(["predict", str(trained / "model.safetensors"), *files, "--top", "1"]) == 0
    said = capsys.readouterr().out
    assert firsts(said) == list(CLASSES)
    assert len(said.splitlines()) == 6
    assert main(["predict", str(trained), files[0], "--top", "99"]) == 0
    probabilities = [float(line.split("%")[0]) for line in capsys.readouterr().out.splitlines()[1:]]
    assert len(probabilities) == 3 and sum(probabilities) == pytest.approx(100, abs=0.2)


def test_predict_inverted(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dark_on_white = save("dark.png", 255 - image_of(2))
    assert main(["predict", str(trained), dark_on_white, "--invert"]) == 0
    assert firsts(capsys.readouterr().out) == ["dot"]


def test_predict_goes_on_after_a_bad_image(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = save("good.png", image_of(0))
    Path("text.png").write_text("this is no image")
    Path("cut.png").write_bytes(Path(good).read_bytes()[:60])
    Path("empty.jpg").write_bytes(b"")
    bad = ["text.png", "missing.png", "cut.png", "empty.jpg", "."]
    assert main(["predict", str(trained), *bad, good]) == 1
    said = capsys.readouterr()
    assert firsts(said.out) == ["bar"]
    lines = said.err.splitlines()
    assert len(lines) == len(bad)
    for name, line in zip(bad, lines, strict=True):
        assert line.startswith("fastconv predict: error: ") and name in line


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((5, 5), np.uint8), r"holds an array of shape (5, 5, 1), and the model takes (12, 12, 1)"),
        (np.zeros((12, 12), np.int64), "must hold one array of uint8 or floats, got int64"),
        (np.full((12, 12), np.nan), "array[0] holds nan at position (0, 0); every value must be finite"),
        (np.full((12, 12), 1e300), "array[0] holds 1e+300 at position (0, 0); every value must be finite in float32"),
        (np.array([None]), "not a .npy file of a plain array"),
    ],
)
def test_predict_arrays_that_do_not_fit(
    trained: Path, array: np.ndarray, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save("bad.npy", array, allow_pickle=True)
    assert main(["predict", str(trained), "bad.npy"]) == 1
    said = capsys.readouterr().err
    assert message in said and "bad.npy" in said


def damaged(name: str, trained: Path) -> str:
    """Write a file that is no model, and return its name."""
    whole = (trained / "model.safetensors").read_bytes()
    content = {
        "empty": b"",
        "text": b"hello, this is text and no model",
        "cut": whole[: len(whole) // 2],
        "header": whole[:50],
        "long": whole + b"more",
        "huge": b"\xff" * 8 + whole[8:],
    }[name]
    Path(name).write_bytes(content)
    return name


@pytest.mark.parametrize("name", ["empty", "text", "cut", "header", "long", "huge"])
@pytest.mark.parametrize("command", ["predict", "evaluate", "summary"])
def test_damaged_models_are_one_line(
    command: str, name: str, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [command, damaged(name, trained)]
    if command == "predict":
        argv.append(save("good.png", image_of(0)))
    assert main(argv) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"fastconv {command}: error: ") and said.err.count("\n") == 1
    assert name in said.err


@pytest.mark.parametrize("command", [["predict", "nowhere", "x.png"], ["evaluate", "nowhere"]])
def test_missing_models(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command) == 1
    assert "there is not a model file nowhere" in capsys.readouterr().err
    Path("net.ONNX").write_bytes(b"")
    assert main(["evaluate", "net.ONNX"]) == 1
    assert (
        "net.ONNX is an ONNX file: `fastconv run`, `bench`, `freeze` and `summary` take it" in capsys.readouterr().err
    )


def test_a_model_that_is_no_classifier(capsys: pytest.CaptureFixture[str]) -> None:
    fastconv.Sequential([L.Conv2d(2, 3)], input_shape=(12, 12, 1)).build().save("map.safetensors")
    fastconv.Sequential([L.Linear(2)], input_shape=(4,)).build().save("vector.safetensors")
    for name, message in (("map", "not one number for each class"), ("vector", "not one image")):
        assert main(["predict", f"{name}.safetensors", save("x.png", image_of(0))]) == 1
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("facts", [3, ["a"], {}, {"classes": 3}, {"classes": ["a"], "white": "x"}])
def test_a_model_whose_classes_cannot_be_read(facts: object, capsys: pytest.CaptureFixture[str]) -> None:
    fastconv.Sequential([L.Flatten(), L.Linear(1)], input_shape=(4, 4, 1)).build().save(
        "m", extra={"fastconv.cli": facts}
    )
    assert main(["predict", "m", "image.png"]) == 1
    assert "m should name its classes under 'fastconv.cli' in its extra" in capsys.readouterr().err


def test_a_model_from_python_has_numbered_classes(capsys: pytest.CaptureFixture[str]) -> None:
    fastconv.Sequential([L.Flatten(), L.Linear(4)], input_shape=(12, 12, 1)).build().save("own.safetensors")
    assert main(["predict", "own.safetensors", save("x.png", image_of(0)), "--top", "4"]) == 0
    assert sorted(line.split()[-1] for line in capsys.readouterr().out.splitlines()[1:]) == ["0", "1", "2", "3"]


def test_evaluate(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = str(trained.parent / "data.npz")
    assert main(["evaluate", str(trained), "--data", data, "--confusion-matrix", "matrix.png"]) == 0
    said = capsys.readouterr().out
    assert "15 images" in said and Path("matrix.png").is_file()
    x, y = shapes(15, seed=1)
    model = fastconv.load_model(trained / "model.safetensors")
    measured = model.evaluate(x, y)
    assert f"accuracy  {measured['accuracy']:.2%}" in said
    assert f"loss      {measured['loss']:.4f}" in said
    for name in CLASSES:
        assert f"\n{name} " in said


@pytest.mark.parametrize(("part", "count"), [("train", 60), ("test", 15), ("all", 75)])
def test_evaluate_parts(trained: Path, part: str, count: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(trained), "--data", str(trained.parent / "data.npz"), "--part", part]) == 0
    assert f"{count} images" in capsys.readouterr().out


def test_evaluate_reads_checkpoints_and_models_that_name_no_classes(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(trained.parent / "data.npz")
    model = fastconv.load_model(trained / "model.safetensors")
    model.save("bare.safetensors")
    said = []
    for file in (str(trained), str(trained / "checkpoint.safetensors"), "bare.safetensors"):
        assert main(["evaluate", file, "--data", data]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] == said[2]
    fastconv.Sequential([L.Flatten(), L.Linear(4)], input_shape=(12, 12, 1)).save("four.safetensors")
    assert main(["evaluate", "four.safetensors", "--data", data]) == 1
    assert "the model has 4 outputs, the data has 3 classes" in capsys.readouterr().err


def test_evaluate_on_a_folder_of_other_images(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(Path("photos"), 30, size=24)
    assert main(["evaluate", str(trained), "--data", "photos", "--part", "all"]) == 0
    assert "30 images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"classes": np.array(["a", "b", "c"])}, "the model knows the classes bar, cross, dot, the data has a, b, c"),
        (
            {"x_train": np.zeros((60, 9, 9), np.uint8), "x_test": np.zeros((15, 9, 9), np.uint8)},
            "images of shape (9, 9, 1), and the model takes (12, 12, 1)",
        ),
    ],
)
def test_evaluate_on_data_that_does_not_fit(
    trained: Path, changed: dict[str, np.ndarray], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_npz(Path("other.npz"), **changed)
    assert main(["evaluate", str(trained), "--data", "other.npz"]) == 1
    assert message in capsys.readouterr().err


def test_floats_up_to_255_meet_image_files_on_the_same_scale(capsys: pytest.CaptureFixture[str]) -> None:
    write_model(Path("net.json"))
    x_train, x_test = (shapes(count, seed=seed)[0].astype(np.float32) for count, seed in ((60, 0), (15, 1)))
    write_npz(Path("data.npz"), x_train=x_train, x_test=x_test)
    argv = ["train", "--data", "data.npz", "--model", "net.json", "--epochs", "25", "--batch-size", "8", "--quiet"]
    assert main([*argv, "--out", "run"]) == 0
    files = [save(f"{name}.png", image_of(label)) for label, name in enumerate(CLASSES)]
    assert main(["predict", "run", *files]) == 0
    assert firsts(capsys.readouterr().out) == list(CLASSES)


def test_summary_of_a_model_a_name_and_a_json_file(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_model(Path("net.json"))
    for what in (str(trained), "lenet", "net.json"):
        assert main(["summary", what]) == 0
        said = capsys.readouterr().out
        assert "Conv2d" in said and "Linear" in said


def test_summary_as_json_is_what_train_reads(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", "lenet", "--input-shape", "12x12x1", "--classes", "3", "--json"]) == 0
    Path("mine.json").write_text(capsys.readouterr().out)
    assert json.loads(Path("mine.json").read_text())["layer"] == "Sequential"
    data = str(trained.parent / "data.npz")
    assert main(["train", "--data", data, "--model", "mine.json", "--epochs", "1", "--quiet", "--out", "run"]) == 0


def test_summary_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", "alexnet"]) == 1
    assert "is not a file, and there is no network" in capsys.readouterr().err


def test_layers_lists_every_layer_and_its_source(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["layers"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for entry in L.entries():
        assert any(line.split()[:1] == [entry.name] for line in lines), entry.name
    conv = next(line for line in lines if line.startswith("Conv2d "))
    assert conv.split()[1] == "fastconv" and len(conv.split()) > 5


def test_info_says_what_runs_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    from fastconv import _kernels

    with fastconv.num_threads(3):
        assert main(["info"]) == 0
    said = capsys.readouterr().out
    for fact in (fastconv.__version__, _kernels.isa, "OpenMP", "3", "fastconv.num_threads", np.__version__):
        assert fact in said, fact
