"""``fastconv plugins`` and what plugins add to the other commands: networks, data sets, optimizers."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest
from plugin_folders import TWICE, Folder, folder

from fastconv import saving
from fastconv.cli import main

__all__ = ["folder"]  # a fixture

NETWORK = """
    from fastconv import layers as L
    from fastconv.sequential import Sequential

    def tiny(input_shape, classes):
        return Sequential([L.Flatten(), L.Linear(classes)], input_shape=input_shape)

    def short(input_shape, classes):
        return Sequential([L.Flatten(), L.Linear(classes + 1)], input_shape=input_shape)

    def nothing(input_shape, classes):
        return None
"""

FLOWERS = """
    import numpy as np
    from fastconv.data import Dataset

    def flowers():
        rng = np.random.default_rng(0)
        y = np.arange(12) % 2
        x = (rng.random((12, 6, 6, 1)) + y[:, None, None, None]).astype(np.float32) / 2
        return Dataset((x, y), (x[:4], y[:4]), ("daisy", "rose"))

    def weeds():
        return 3

    def unequal():
        return Dataset((np.zeros((2, 4, 4, 1)), np.arange(1)), (np.zeros((2, 4, 4, 1)), np.arange(2)), ("a", "b"))

    def odd_label():
        return Dataset((np.zeros((2, 4, 4, 1)), np.array([0, 2])), (np.zeros((2, 4, 4, 1)), np.arange(2)), ("a", "b"))

    def no_pair():
        return Dataset(3, 4, ("a", "b"))

    def rows():
        return Dataset((np.zeros((2, 4)), np.arange(2)), (np.zeros((2, 4)), np.arange(2)), ("a", "b"))
"""


def test_no_plugins(folder: Folder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastconv.discovery._packages", lambda: iter([]))
    assert main(["plugins"]) == 0
    assert "no installed package has plugins for fastconv" in capsys.readouterr().out
    assert main(["plugins", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    monkeypatch.setenv("FASTCONV_DISABLE_PLUGINS", "1")
    assert main(["plugins"]) == 0
    assert capsys.readouterr().out == "FASTCONV_DISABLE_PLUGINS is set: there are no plugins\n"


def test_good_and_broken_ones_are_listed(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    points = {"acme.Twice": "acme_a:Twice", "acme.Broken": "acme_b:Twice"}
    folder.install("acme-layers", "1.2", points, {"acme_a": TWICE, "acme_b": "1 / 0"})
    assert main(["plugins"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["kind", "name", "package", "version", "state"]
    assert ["layer", "acme.Twice", "acme-layers", "1.2", "good"] in [line.split() for line in lines]
    assert ["layer", "acme.Broken", "acme-layers", "1.2", "broken"] in [line.split() for line in lines]
    assert lines[-1].startswith(
        "acme.Broken of acme-layers 1.2: the layer 'acme.Broken' of acme-layers 1.2 (acme_b:Twice) could"
    )
    assert lines[-1].endswith("could not be imported: ZeroDivisionError: division by zero")
    assert main(["plugins", "--verbose"]) == 1
    assert "acme_b.py" in capsys.readouterr().out
    assert main(["plugins", "--json"]) == 1
    listed = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert listed["acme.Twice"] == {
        "kind": "layer",
        "name": "acme.Twice",
        "package": "acme-layers",
        "version": "1.2",
        "target": "acme_a:Twice",
        "error": None,
    }
    assert "ZeroDivisionError" in listed["acme.Broken"]["error"]


def test_layers_shows_where_each_comes_from(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.install("acme-layers", "1.2", {"acme.Twice": "acme_a:Twice", "Conv2d": "acme_a:Twice"}, {"acme_a": TWICE})
    assert main(["layers"]) == 0
    out = capsys.readouterr().out
    rows = [" ".join(line.split()) for line in out.splitlines()]
    assert "acme.Twice acme-layers 1.2 (not imported yet)" in rows
    assert "Conv2d acme-layers 1.2 (broken: see `fastconv plugins`)" in rows
    assert any(row.startswith("Sequential fastconv ") for row in rows)
    assert "imported" not in out.replace("not imported", "")


def test_train_with_the_network_and_the_data_of_plugins(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.install("acme-nets", "1", {"acme.tiny": "acme_nets:tiny"}, {"acme_nets": NETWORK}, group="fastconv.models")
    folder.install(
        "acme-data", "1", {"acme.flowers": "acme_data:flowers"}, {"acme_data": FLOWERS}, group="fastconv.datasets"
    )
    monkeypatch.chdir(tmp_path)
    train = ["train", "--data", "acme.flowers", "--epochs", "1", "--quiet"]
    assert main([*train, "--model", "acme.tiny", "--out", "run"]) == 0
    assert saving.load_model("run/model.safetensors").output_shape((6, 6, 1)) == (2,)
    assert main(["train", "--resume", "run", "--epochs", "2", "--quiet"]) == 0
    assert main(["evaluate", "run", "--data", "acme.flowers"]) == 0
    assert "daisy" in capsys.readouterr().out
    assert main(["summary", "acme.tiny"]) == 0
    assert main([*train, "--model", "tiny", "--out", "short"]) == 0


def test_networks_and_data_that_are_none(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    points = {f"acme.{name}": f"acme_nets:{name}" for name in ("short", "nothing", "missing")}
    folder.install("acme-nets", "1", points, {"acme_nets": NETWORK}, group="fastconv.models")
    points = {f"acme.{name}": f"acme_data:{name}" for name in ("weeds", "unequal", "odd_label", "no_pair", "rows")}
    folder.install("acme-data", "1", points, {"acme_data": FLOWERS}, group="fastconv.datasets")
    monkeypatch.chdir(tmp_path)

    def refused(*options: str) -> str:
        assert main(["train", "--epochs", "1", *options]) == 1
        return capsys.readouterr().err

    assert "acme.short returns (11,) for an image, and the data has 10 classes" in refused("--model", "acme.short")
    assert "the network 'acme.nothing' must be a function that returns a model, got None" in refused(
        "--model", "acme.nothing"
    )
    assert "the network 'acme.missing' of acme-nets 1 (acme_nets:missing) could not be" in refused(
        "--model", "acme.missing"
    )
    assert "there is no network 'acme.huge'; there are: cnn-small, " in refused("--model", "acme.huge")
    assert "must be a function that returns a fastconv.data.Dataset, got 3" in refused("--data", "acme.weeds")
    assert "no file or folder acme.trees; data sets of installed packages: acme.no_pair, " in refused(
        "--data", "acme.trees"
    )
    assert "the training part of the data set 'acme.unequal' has 2 samples and 1 labels" in refused(
        "--data", "acme.unequal"
    )
    assert "training labels[1] is label 2; with 2 classes the labels are 0 to 1" in refused("--data", "acme.odd_label")
    assert "the training part of the data set 'acme.no_pair' must be a pair of" in refused("--data", "acme.no_pair")
    assert "the training images of acme.rows must be one array (N, height, width" in refused("--data", "acme.rows")


def test_a_folder_goes_before_a_data_set_of_its_name(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.install(
        "acme-data", "1", {"acme.flowers": "acme_data:flowers"}, {"acme_data": FLOWERS}, group="fastconv.datasets"
    )
    (tmp_path / "acme.flowers").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--data", "acme.flowers"]) == 1
    assert "has no" in capsys.readouterr().err


LION = """
    import numpy as np
    from fastconv import training

    class Lion(training.Optimizer):
        def __init__(self, learning_rate=1e-3):
            super().__init__(learning_rate)

        def update(self, param, grad, state, rate, scratch):
            param -= rate * np.sign(grad)

    class Count(training.Callback):
        def on_epoch_end(self, run):
            print("epoch", run.epoch)

    class Absolute(training.Loss):
        def __call__(self, prediction, target):
            return abs(prediction - target).mean(), lambda dvalue=1.0: np.sign(prediction - target) * dvalue / target.size
"""


def test_train_with_the_optimizer_of_a_plugin(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.install("acme-o", "1", {"acme.lion": "acme_o:Lion"}, {"acme_o": LION}, group="fastconv.optimizers")
    folder.install(
        "acme-data", "1", {"acme.flowers": "acme_data:flowers"}, {"acme_data": FLOWERS}, group="fastconv.datasets"
    )
    monkeypatch.chdir(tmp_path)
    train = [
        "train",
        "--data",
        "acme.flowers",
        "--epochs",
        "1",
        "--quiet",
        "--model",
        "cnn-small",
        "--out",
        "run",
        "--force",
    ]
    assert main([*train, "--optimizer", "acme.lion", "--learning-rate", "0.01"]) == 0
    assert main([*train, "--optimizer", "acme.lion"]) == 2
    assert "--optimizer acme.lion needs a --learning-rate: only the built-in ones have" in capsys.readouterr().err
    assert main([*train, "--optimizer", "acme.tiger", "--learning-rate", "0.01"]) == 2
    assert "there is no optimizer named 'acme.tiger'" in capsys.readouterr().err


def test_losses_optimizers_and_callbacks_by_name(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np

    import fastconv

    source = textwrap.dedent(LION)
    folder.install("acme-o", "1", {"acme.lion": "acme_o:Lion"}, {"acme_o": source}, group="fastconv.optimizers")
    folder.install("acme-l", "1", {"acme.absolute": "acme_o:Absolute"}, group="fastconv.losses")
    folder.install("acme-c", "1", {"acme.count": "acme_o:Count"}, group="fastconv.callbacks")
    model = fastconv.Sequential([fastconv.layers.Linear(1)])
    x = np.ones((4, 2), np.float32)
    model.fit(x, x[:, :1], epochs=2, loss="acme.absolute", optimizer="lion", callbacks=["acme.count"], verbose=False)
    assert capsys.readouterr().out == "epoch 1\nepoch 2\n"
    with pytest.raises(TypeError, match=r"only a subclass of fastconv.training.Loss can be registered as a loss"):
        fastconv.training.register_loss("acme.lion")(model.__class__)


WRONG = """
    from fastconv.layers import Layer

    class Half(Layer):
        def output_shape(self, shape):
            return shape

        def forward(self, ctx, x):
            return x[:1], lambda dy: (dy, {})
"""


def test_check_proves_a_layer_or_finds_what_is_wrong(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("hypothesis")
    folder.install("wrong-layers", "1", {"wrong.Half": "wrong_mod:Half"}, {"wrong_mod": WRONG})
    check = ["plugins", "check", "--max-examples", "2"]
    assert main([*check, "Linear", "--config", '{"features": 3}', "--input-shape", "1x1x4"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Linear: ")
    assert "none failed" in said
    assert main([*check, "Flatten", "--verbose"]) == 0
    assert "passed" in capsys.readouterr().out.partition("\n")[2]
    assert main([*check, "wrong_layers"]) == 1
    said = capsys.readouterr().out
    assert said.startswith("wrong.Half: ")
    assert "failed" in said.partition("\n")[2]
    assert main([*check, "acme.Nothing"]) == 1
    assert "there is no layer named 'acme.Nothing'" in capsys.readouterr().err
    assert main([*check, "Linear", "--config", "3"]) == 2
    assert "expected a JSON object" in capsys.readouterr().err
