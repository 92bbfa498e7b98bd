"""`fastconv run`: files of every kind, on images and arrays; what it prints, what it writes, what it says of bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_problems import CLASSES, shapes, write_model, write_npz

import fastconv
from fastconv import functional as F
from fastconv import layers as L
from fastconv.cli import main
from fastconv.data import read_image
from fastconv.unbatched import Unbatched

Said = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder of one's own."""
    monkeypatch.chdir(tmp_path)


def classifier(*, channels: int = 1, size: int = 12, classes: int = 3) -> fastconv.Sequential:
    """Return a small network with random weights."""
    layers = [L.Conv2d(4, 3, stride=2), L.ReLU(), L.GlobalAvgPool(), L.Linear(classes)]
    return fastconv.Sequential(layers, input_shape=(size, size, channels)).build()


def photograph(name: str = "photo.png", *, size: tuple[int, int] = (40, 30), channels: int = 3) -> str:
    """Write an image of noise, and return its name."""
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (*size, channels), np.uint8)
    Image.fromarray(pixels if channels == 3 else pixels[..., 0]).save(name)
    return name


def onnx_file(name: str, model: Any) -> str:
    """Write a model as an ONNX file."""
    onnx = pytest.importorskip("onnx", reason="the onnx package is not installed")
    from fastconv.onnx.saving import to_proto

    proto = to_proto(model)
    onnx.save(proto, name)
    return name


def channels_first(*, channels: int = 3, size: int = 16, classes: int = 3) -> fastconv.Model:
    """Return a small network that takes ``(N, C, H, W)``, as those from ONNX do."""
    x = fastconv.Input((channels, size, size), name="image")
    return fastconv.Model(x, classifier(channels=channels, size=size, classes=classes)(L.Transpose((2, 3, 1))(x)))


def logits_in(said: str) -> dict[str, float]:
    """Return the printed scores by class."""
    lines = [line.split(None, 2) for line in said.splitlines() if "%" in line]
    return {name: float(score) for _, score, name in lines}


def test_a_trained_run_knows_its_classes(capsys: Said) -> None:
    data, net = write_npz(Path("data.npz")), write_model(Path("net.json"))
    argv = ["train", "--data", str(data), "--model", str(net), "--epochs", "25", "--batch-size", "8", "--quiet"]
    assert main([*argv, "--out", "run"]) == 0
    x, y = shapes(3, seed=9)
    np.save("x.npy", x[list(y).index(1)])
    assert main(["run", "run", "--input", "x.npy", "--top", "1"]) == 0
    assert capsys.readouterr().out.split()[-1] == CLASSES[1]


def test_a_model_and_the_frozen_one_say_the_same_of_an_image(capsys: Said) -> None:
    model = classifier()
    model.save("model.safetensors")
    fastconv.freeze(model).save("frozen.safetensors")
    photograph("gray.png", channels=1)
    x = (read_image("gray.png", mode="L", size=12)[None] / np.float32(255)).astype(np.float32)
    for name in ("model", "frozen"):
        assert main(["run", f"{name}.safetensors", "--input", "gray.png"]) == 0
        said = capsys.readouterr().out
        assert "gray.png: 12 x 12 gray, stretched, white 1, mean 0, std 1" in said
        found = logits_in(said)
        assert [found[f"class {i}"] for i in range(3)] == pytest.approx(model(x)[0].tolist(), rel=1e-3)
        assert float(said.splitlines()[1].split("%")[0]) == pytest.approx(100 * F.softmax(model(x)).max(), abs=0.1)


def test_an_onnx_file_gets_an_image_as_publishers_prepare_them(capsys: Said) -> None:
    model = channels_first()
    onnx_file("model.onnx", model)
    Path("labels.txt").write_text("a cat\na dog\n a bird \n\n")
    assert main(["run", "model.onnx", "--input", photograph(), "--labels", "labels.txt", "--output", "y.npy"]) == 0
    pixels = read_image("photo.png", size=16, crop=0.875) / 255
    x = ((pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).transpose(2, 0, 1)[None].astype(np.float32)
    said = capsys.readouterr().out
    assert "16 x 16 RGB, the middle 0.875, white 1, mean 0.485, 0.456, 0.406, std" in said and "wrote y.npy" in said
    assert set(logits_in(said)) == {"a cat", "a dog", "a bird"}
    np.testing.assert_allclose(np.load("y.npy"), model(x), rtol=1e-4, atol=1e-5)


def test_images_are_prepared_as_the_options_say(capsys: Said) -> None:
    model = classifier(channels=3)
    model.save("model")
    options = ["--crop", "0.5", "--white", "255", "--mean", "100,110,120", "--std", "2", "--output", "y.npy"]
    assert main(["run", "model", "--input", photograph(), *options]) == 0
    x = ((read_image("photo.png", size=12, crop=0.5) - np.float32([100, 110, 120])) / 2)[None].astype(np.float32)
    np.testing.assert_allclose(np.load("y.npy"), model(x), rtol=1e-4, atol=1e-4)
    assert main(["run", "model", "--input", "photo.png", "--image-size", "20x24"]) == 0
    assert "photo.png: 20 x 24 RGB, stretched" in capsys.readouterr().out


def test_uint8_arrays_are_pixels_and_floats_are_not(capsys: Said) -> None:
    model = channels_first()
    onnx_file("model.onnx", model)
    pixels = np.random.default_rng(1).integers(0, 256, (2, 3, 16, 16), np.uint8)
    np.save("pixels.npy", pixels)
    np.save("floats.npy", pixels / 7)  # float64
    argv = ["run", "model.onnx", "--output", "y.npy", "--mean", "0.5", "--std", "0.25"]
    for name, x in (("pixels", (pixels / 255 - 0.5) / 0.25), ("floats", pixels / 7)):
        assert main([*argv, "--input", f"{name}.npy"]) == 0
        np.testing.assert_allclose(np.load("y.npy"), model(x.astype(np.float32)), rtol=1e-4, atol=1e-4)
    said = capsys.readouterr().out
    assert "sample 0" in said and "sample 1" in said


def test_arrays_need_not_have_a_batch_and_sizes_may_be_open(capsys: Said) -> None:
    helper = pytest.importorskip("onnx.helper", reason="the onnx package is not installed")
    import onnx

    infos = [helper.make_tensor_value_info(name, 1, ["N", "L", 6]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "graph", infos[:1], infos[1:])
    onnx.save(helper.make_model(graph), "relu.onnx")
    x = np.random.default_rng(0).standard_normal((37, 6)).astype(np.float32)
    np.save("x.npy", x)
    assert main(["run", "relu.onnx", "--input", "x=x.npy", "--output", "y.npz"]) == 0
    np.testing.assert_array_equal(np.load("y.npz")["y"], np.maximum(x, 0)[None])
    assert "y       1 x 37 x 6  float32" in capsys.readouterr().out


def two_inputs() -> fastconv.Model:
    """Return a model of two inputs and two outputs, of which one has a name that NumPy keeps for itself."""
    a, b = fastconv.Input((4,), name="a"), fastconv.Input((4,), name="b")
    return fastconv.Model([a, b], [L.Add()(a, b), L.ReLU()(b)], output_names=["file", "y=2"])


def test_several_inputs_by_name_and_in_order(capsys: Said) -> None:
    two_inputs().save("two")
    a, b = np.float32([[1, 2, 3, 4]]), np.float32([[-1, 0, 1, 2]])
    np.save("a.npy", a)
    np.save("b=1.npy", b)
    for given in (["b=b=1.npy", "a=a.npy"], ["a.npy", "b=1.npy"], ["b=b=1.npy", "a.npy"]):
        argv = [word for each in given for word in ("--input", each)]
        assert main(["run", "two", *argv, "--output", "y.npz"]) == 0
        with np.load("y.npz") as found:
            assert sorted(found) == ["file", "y=2"]
            np.testing.assert_array_equal(found["file"], a + b)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["file", "1", "x", "4", "float32", "0", "6"]


def test_a_model_without_a_batch(capsys: Said) -> None:
    x = fastconv.Input((3, 2))
    body = fastconv.Model(x, L.ReduceSum((1, 2))(x))
    model = Unbatched(body, [{"name": "x", "shape": [3, 2], "used": True}], [{"name": "y", "from": 0}])
    model.build().save("sum")
    np.save("x.npy", np.ones((3, 2), np.float32))
    assert main(["run", "sum", "--input", "x.npy"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["y", "a", "number", "float32", "6", "6"]


def test_integers_that_the_network_does_not_have_are_refused(capsys: Said) -> None:
    onnx = pytest.importorskip("onnx")
    value, kind = onnx.helper.make_tensor_value_info, onnx.TensorProto
    node = onnx.helper.make_node("Cast", ["x"], ["y"], to=kind.FLOAT)
    ends = [value("x", kind.INT32, ["N", 2])], [value("y", kind.FLOAT, ["N", 2])]
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "cast", *ends)), "cast.onnx")
    np.save("small.npy", np.array([[1, 2]], np.int64))
    np.save("large.npy", np.array([[1, 2**40]], np.int64))
    assert main(["run", "cast.onnx", "--input", "small.npy"]) == 0
    assert main(["run", "cast.onnx", "--input", "large.npy"]) == 1
    assert "large.npy holds numbers that int32, which the input 'x'" in capsys.readouterr().err


def test_probabilities_are_printed_as_they_are(capsys: Said) -> None:
    fastconv.Sequential([L.Softmax()], input_shape=(2,)).build().save("softmax")
    np.save("x.npy", np.log(np.float32([0.25, 0.75])))
    assert main(["run", "softmax", "--input", "x.npy"]) == 0
    assert capsys.readouterr().out == "   75.0%  0.75  class 1\n   25.0%  0.25  class 0\n"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--input", "missing.png"], "missing.png"),
        (["--input", "missing.npy"], "missing.npy: No such file or directory"),
        (["--input", "text.npy"], "text.npy is not a .npy file of a plain array"),
        (["--input", "open.npy"], "open.npy is not a .npy file of a plain array"),
        (["--input", "text.png"], "text.png cannot be read as an image"),
        (
            ["--input", "flat.npy"],
            "holds an array of shape (5,), which does not fit the input 'input_1' of shape (any, 12",
        ),
        (["--input", "small.npy", "--labels", "two.txt"], "there are 2 labels, and the network returns 3 scores"),
        (["--input", "small.npy", "--labels", "empty.txt"], "empty.txt has no labels"),
        (["--input", "small.npy", "--labels", "bytes.txt"], "bytes.txt is not UTF-8 text"),
        (["--input", "small.npy", "--labels", "none.txt"], "none.txt: No such file or directory"),
        (["--input", "wide.npy"], "takes input 1 with shape (N, 12, 12, 1)"),
        (["--input", "names.npy"], "names.npy must hold numbers, got <U1"),
        (
            ["--input", "small.npy", "--input", "small.npy"],
            "--input must be given once for each of the network's inputs",
        ),
        (["--input", "other=small.npy"], "the network has no input 'other'; it has 'input_1'"),
        (["--input", "input_1=small.npy", "--input", "input_1=small.npy"], "two files are given for 'input_1'"),
        (["--input", "small.npy", "--output", "y.txt"], "--output y.txt: the file must end in .npy or .npz"),
        (["--input", "small.npy", "--output", "no/y.npy"], "No such file or directory"),
        (["--input", "photo.png", "--mean", "1,2,3"], "--mean must be 1 or 1 numbers, one for each channel, got 3"),
        (["--input", "photo.png", "--std", "1e-60"], "std 1e-60 pixels become numbers that float32 does not hold"),
    ],
)
def test_bad_input_is_one_line(argv: list[str], message: str, capsys: Said) -> None:
    classifier().save("model")
    photograph()
    Path("text.npy").write_text("no array")
    Path("text.png").write_text("no image")
    Path("two.txt").write_text("a\nb\n")
    Path("empty.txt").write_text("\n \n")
    Path("bytes.txt").write_bytes(b"\xff\xfe\x00")
    np.save("flat.npy", np.zeros(5, np.float32))
    Path("open.npy").write_bytes(Path("flat.npy").read_bytes().replace(b")", b" "))
    np.save("small.npy", np.zeros((12, 12, 1), np.float32))
    np.save("wide.npy", np.zeros((12, 12, 2), np.float32))
    np.save("names.npy", np.full((12, 12, 1), "a"))
    assert main(["run", "model", *argv]) == 1
    said = capsys.readouterr().err
    assert said.startswith("fastconv run: error: ") and said.count("\n") == 1 and message in said
    assert not Path("y.npy").exists()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--crop", "1.5"], "expected a share above 0 and at most 1, or none, got '1.5'"),
        (["--crop", "all"], "expected a number above 0, got 'all'"),
        (["--mean", "1,x"], "expected a number, or several separated by commas, got '1,x'"),
        (["--std", "1,0"], "expected a number above 0, got '0'"),
        (["--top", "0"], "expected an integer of at least 1"),
    ],
)
def test_wrong_options_are_usage(option: list[str], message: str, capsys: Said) -> None:
    assert main(["run", "model", "--input", "x.npy", *option]) == 2
    assert message in capsys.readouterr().err


def test_files_that_are_no_networks(capsys: Said) -> None:
    pytest.importorskip("onnx", reason="the onnx package is not installed")
    for name in ("text", "text.onnx"):
        Path(name).write_text("no network")
        assert main(["run", name, "--input", "x.npy"]) == 1
        assert capsys.readouterr().err.startswith("fastconv run: error: ")
    for name in ("missing", "missing.onnx"):
        assert main(["run", name, "--input", "x.npy"]) == 1
        assert name in capsys.readouterr().err


def test_what_does_not_suit_the_outputs(capsys: Said) -> None:
    two_inputs().save("two")
    np.save("a.npy", np.zeros(4, np.float32))
    Path("labels.txt").write_text("a\nb\n")
    argv = ["run", "two", "--input", "a.npy", "--input", "b=a.npy"]
    assert main([*argv, "--output", "y.npy"]) == 1
    assert "the network has 2 outputs; write a .npz file" in capsys.readouterr().err
    assert main([*argv, "--labels", "labels.txt"]) == 1
    assert "the network returns no row of scores, but file of shape (1, 4), y=2 of" in capsys.readouterr().err
    assert main(["run", "two", "--input", photograph(), "--input", "a.npy"]) == 1
    assert "takes no images of 1 or 3 channels: give a .npy file" in capsys.readouterr().err


@pytest.mark.parametrize(("package", "extra"), [("onnx", "onnx"), ("PIL", "plot")])
def test_missing_extras_are_named(package: str, extra: str, capsys: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("model.onnx").write_bytes(b"")
    classifier().save("model")
    monkeypatch.setitem(__import__("sys").modules, package, None)
    assert main(["run", "model.onnx" if package == "onnx" else "model", "--input", "photo.png"]) == 1
    assert f"pip install 'fastconv[{extra}]'" in capsys.readouterr().err


def test_other_sizes_are_said_where_the_network_does_not_run(capsys: Said) -> None:
    x = fastconv.Input((8, 8, 3), name="image")
    fastconv.Model(x, L.Linear(2)(L.Flatten()(x))).build().save("model.safetensors")
    np.save("x.npy", np.zeros((2, 6, 6, 3), np.float32))
    assert main(["run", "model.safetensors", "--input", "x.npy"]) == 1
    said = capsys.readouterr().err
    assert "the input 'image' of shape (any, 8, 8, 3) got shape (2, 6, 6, 3): " in said
