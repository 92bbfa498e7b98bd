"""`fastconv train` end to end on small problems: what it writes, resuming, refusing, stopping."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cli_problems import environment, shapes, write_folder, write_model, write_npz

import fastconv
from fastconv import saving
from fastconv.cli import main

#: Seconds that an epoch, and the end of a run, may take where others keep the processors busy.
PATIENCE = 300

PICTURES = ("learning_curves.png", "confusion_matrix.png", "predictions.png")


@pytest.fixture
def problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Options that train a tiny network on a tiny data set, in a folder of its own; no pictures, which take time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fastconv.cli.plots.available", lambda: False)
    write_npz(tmp_path / "data.npz")
    write_model(tmp_path / "net.json")
    return ["train", "--data", "data.npz", "--model", "net.json", "--batch-size", "8"]


@pytest.fixture
def drawing(problem: list[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The same, with pictures."""
    monkeypatch.setattr("fastconv.cli.plots.available", lambda: True)
    return problem


def history(folder: str) -> list[dict[str, str]]:
    """Return the rows of a run's history.csv."""
    with open(Path(folder) / "history.csv", newline="") as file:
        return list(csv.DictReader(file))


def weights(folder: str) -> dict[str, np.ndarray]:
    """Return all arrays of a run's model."""
    tensors, _ = saving.load(Path(folder) / "model.safetensors")
    return tensors


def assert_same_weights(one: str, other: str) -> None:
    """Compare the models of two runs bit for bit."""
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_writes_everything_and_says_where(drawing: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*drawing, "--epochs", "6", "--out", "run"]) == 0
    said = capsys.readouterr().out
    assert {path.name for path in Path("run").iterdir()} == {
        *PICTURES,
        "model.safetensors",
        "checkpoint.safetensors",
        "history.csv",
        "options.json",
    }
    for path in Path("run").iterdir():
        assert str(path) in said
    assert "60 training and 15 test images, 12 x 12 x 1, 3 classes" in said
    assert "test accuracy" in said
    rows = history("run")
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert float(rows[-1]["val_accuracy"]) > 0.6
    options = json.loads(Path("run/options.json").read_text())
    assert options["epochs"] == 6 and options["batch_size"] == 8 and options["seed"] == 0


@pytest.mark.slow
def test_alone_it_learns_to_tell_clothes_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--quiet"]) == 0
    (folder,) = Path("runs").iterdir()
    assert float(history(str(folder))[-1]["val_accuracy"]) >= 0.83
    assert all((folder / name).is_file() for name in PICTURES)


def test_the_model_it_writes_is_the_one_it_tested(problem: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*problem, "--epochs", "4", "--out", "run"]) == 0
    x, y = shapes(15, seed=1)
    model = fastconv.load_model("run/model.safetensors")
    accuracy = (model(x.astype(np.float32) / 255).argmax(axis=1) == y).mean()
    assert f"{accuracy:.2%} of 15 images" in capsys.readouterr().out
    assert float(history("run")[-1]["val_accuracy"]) == pytest.approx(accuracy, abs=1e-6)


def test_same_seed_same_weights_whatever_the_threads(problem: list[str]) -> None:
    common = [*problem, "--epochs", "2", "--quiet", "--seed", "7"]
    assert main([*common, "--out", "one", "--threads", "1"]) == 0
    assert main([*common, "--out", "three", "--threads", "3"]) == 0
    assert_same_weights("one", "three")
    assert main([*common[:-1], "8", "--out", "other"]) == 0
    assert any(
        not np.array_equal(a, b) for a, b in zip(weights("one").values(), weights("other").values(), strict=True)
    )


def test_threads_are_back_to_what_they_were(problem: list[str]) -> None:
    with fastconv.num_threads(2):
        assert main([*problem, "--epochs", "1", "--quiet", "--threads", "1"]) == 0
        assert fastconv.get_num_threads() == 2


def test_quiet_says_nothing(problem: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main([*problem, "--epochs", "1", "--quiet"]) == 0
    assert capfd.readouterr() == ("", "")


def test_runs_are_named_after_the_time_and_never_share_a_folder(problem: list[str]) -> None:
    for _ in range(3):
        assert main([*problem, "--epochs", "1", "--quiet"]) == 0
    assert len(list(Path("runs").iterdir())) == 3


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
@pytest.mark.parametrize("schedule", ["one-cycle", "cosine", "constant"])
def test_every_optimizer_with_every_schedule(problem: list[str], optimizer: str, schedule: str) -> None:
    argv = ["--epochs", "2", "--optimizer", optimizer, "--schedule", schedule, "--out", "run", "--quiet"]
    assert main([*problem, *argv]) == 0
    assert np.isfinite(float(history("run")[-1]["loss"]))


def test_augmentations(problem: list[str]) -> None:
    names = ["flip", "shift", "rotate", "erase", "mixup"]
    assert main([*problem, "--epochs", "2", "--augment", *names, "--out", "run", "--quiet"]) == 0
    assert json.loads(Path("run/options.json").read_text())["augment"] == names


def test_a_folder_of_images(problem: list[str]) -> None:
    write_folder(Path("photos"), 18)
    assert main(["train", "--data", "photos", "--model", "net.json", "--epochs", "1", "--out", "run", "--quiet"]) == 0
    assert fastconv.load_model("run/model.safetensors").input_shapes == ((12, 12, 3),)


def test_a_folder_of_images_in_gray_and_smaller(problem: list[str]) -> None:
    write_folder(Path("photos/train"), 18)
    write_folder(Path("photos/test"), 6)
    argv = ["train", "--data", "photos", "--model", "net.json", "--epochs", "1", "--out", "run", "--quiet"]
    assert main([*argv, "--gray", "--image-size", "10x8"]) == 0
    assert fastconv.load_model("run/model.safetensors").input_shapes == ((10, 8, 1),)


@pytest.mark.parametrize("option", [["--gray"], ["--image-size", "10x8"]])
def test_arrays_are_neither_resized_nor_made_gray(
    problem: list[str], option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*problem, "--epochs", "1", "--out", "run", *option]) == 2
    assert "--image-size and --gray are for a folder of image files, not for" in capsys.readouterr().err
    assert not Path("run").exists()


def test_large_photographs_are_made_smaller(problem: list[str]) -> None:
    write_folder(Path("photos"), 12, size=200)
    assert main(["train", "--data", "photos", "--model", "net.json", "--epochs", "1", "--out", "run", "--quiet"]) == 0
    assert fastconv.load_model("run/model.safetensors").input_shapes == ((64, 64, 3),)


def test_resumed_it_ends_like_a_run_that_never_stopped(problem: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    common = [*problem, "--epochs", "5", "--augment", "shift", "--seed", "3", "--quiet"]
    assert main([*common, "--out", "whole"]) == 0
    with monkeypatch.context() as patch:
        stop_after(patch, epochs=2)
        assert main([*common, "--out", "halves"]) == 130
    assert len(history("halves")) == 2
    assert main(["train", "--resume", "halves", "--quiet"]) == 0
    assert_same_weights("whole", "halves")
    whole, halves = history("whole"), history("halves")
    assert [row["epoch"] for row in halves] == ["1", "2", "3", "4", "5"]
    for one, other in zip(whole, halves, strict=True):
        for column in ("loss", "accuracy", "val_loss", "val_accuracy"):
            assert one[column] == other[column]


def stop_after(patch: pytest.MonkeyPatch, *, epochs: int) -> None:
    """Press Ctrl-C in the first step after some epochs."""
    from fastconv.model import Model

    steps_per_epoch = -(-60 // 8)
    forward = Model.forward
    steps = 0

    def counted(self: Model, ctx: object, *xs: np.ndarray) -> object:
        nonlocal steps
        if ctx.training:  # type: ignore[attr-defined]
            steps += 1
            if steps > epochs * steps_per_epoch:
                raise KeyboardInterrupt
        return forward(self, ctx, *xs)  # type: ignore[arg-type]

    patch.setattr(Model, "forward", counted)


def test_control_c_keeps_the_last_whole_epoch_and_its_pictures(
    drawing: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, epochs=1)
        assert main([*drawing, "--epochs", "3", "--out", "run"]) == 130
    said = capsys.readouterr()
    assert "continue with: fastconv train --resume run" in said.err
    assert all((Path("run") / name).is_file() for name in (*PICTURES, "model.safetensors", "checkpoint.safetensors"))
    assert main([*drawing, "--epochs", "3", "--out", "same", "--quiet"]) == 0
    # one epoch of three: the same weights as in the other run at that time, not those of the step that was broken off
    accuracy = history("same")[0]["val_accuracy"]
    assert history("run")[0]["val_accuracy"] == accuracy
    x, y = shapes(15, seed=1)
    predicted = fastconv.load_model("run/model.safetensors")(x.astype(np.float32) / 255).argmax(axis=1)
    assert (predicted == y).mean() == pytest.approx(float(accuracy), abs=1e-6)


def test_control_c_in_the_first_epoch(
    problem: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, epochs=0)
        assert main([*problem, "--epochs", "3", "--out", "run"]) == 130
    assert "before the end of the first epoch" in capsys.readouterr().err
    assert main(["train", "--resume", "run"]) == 1
    assert "stopped before the end of an epoch" in capsys.readouterr().err


@pytest.mark.slow
def test_a_real_interrupt_and_a_real_resume(problem: list[str]) -> None:
    command = [sys.executable, "-m", "fastconv", *problem, "--epochs", "2000", "--out", "run"]
    process = subprocess.Popen(
        command,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # a program that is started in the background of a script ignores Ctrl-C, and so do those that it starts
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + PATIENCE
    while not Path("run/checkpoint.safetensors").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    done = len(history("run"))
    assert done >= 1
    assert main(["train", "--resume", "run", "--epochs", str(done + 1), "--quiet"]) == 0
    assert len(history("run")) == done + 1


def test_resume_finds_the_newest_run(problem: list[str]) -> None:
    assert main([*problem, "--epochs", "1", "--quiet"]) == 0
    assert main([*problem, "--epochs", "1", "--quiet"]) == 0
    old, new = sorted(Path("runs").iterdir(), key=lambda path: path.name)
    os.utime(old / "checkpoint.safetensors", (1, 1))
    assert main(["train", "--resume", "--epochs", "2", "--quiet"]) == 0
    assert (len(history(str(old))), len(history(str(new)))) == (1, 2)
    assert main(["train", "--out", str(old), "--resume", "--epochs", "3", "--quiet"]) == 0
    assert len(history(str(old))) == 3


def test_a_run_that_spoke_may_go_on_quietly_and_the_other_way_round(problem: list[str]) -> None:
    assert main([*problem, "--epochs", "1", "--out", "run"]) == 0
    assert main(["train", "--resume", "run", "--epochs", "2", "--quiet"]) == 0
    assert main(["train", "--resume", "run", "--epochs", "3"]) == 0
    assert len(history("run")) == 3


def test_resume_from_another_folder(problem: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main([*problem, "--epochs", "1", "--out", "run", "--quiet"]) == 0
    run = Path("run").absolute()
    monkeypatch.chdir("/")
    assert main(["train", "--resume", str(run), "--epochs", "2", "--quiet"]) == 0
    assert len(history(str(run))) == 2


def test_resuming_a_finished_run_changes_nothing(problem: list[str]) -> None:
    assert main([*problem, "--epochs", "2", "--out", "run", "--quiet"]) == 0
    before = Path("run/model.safetensors").read_bytes()
    assert main(["train", "--resume", "run", "--quiet"]) == 0
    assert Path("run/model.safetensors").read_bytes() == before
    assert len(history("run")) == 2


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--resume", "run", "--out", "elsewhere"], "name two folders"),
        (["--resume", "run", "--force"], "choose one"),
        (["--resume", "run", "--seed", "1", "--batch-size", "4"], "--batch-size, --seed cannot be given"),
    ],
)
def test_resume_with_other_options_is_wrong_usage(
    problem: list[str], argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*problem, "--epochs", "1", "--out", "run", "--quiet"]) == 0
    assert main(["train", *argv]) == 2
    assert message in capsys.readouterr().err


def test_resume_refuses_other_data(problem: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*problem, "--epochs", "1", "--out", "run", "--quiet"]) == 0
    x, y = shapes(60, seed=5)
    write_npz(Path("data.npz"), x_train=x, y_train=y)
    assert main(["train", "--resume", "run", "--epochs", "2"]) == 1
    assert "has changed since the run began" in capsys.readouterr().err


def change(run: Path, **options: object) -> None:
    """Write other options into a run's folder."""
    path = run / "options.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | options))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: (run / "options.json").write_text("{"), "options.json is not the JSON"),
        (lambda run: (run / "options.json").write_text("[1]"), "it holds no object"),
        (lambda run: (run / "options.json").write_text("{}"), "options.json lacks augment, batch_size"),
        (lambda run: (run / "options.json").write_text("[" * 100_000), "options.json is not the JSON"),
        (lambda run: change(run, epochs="x"), "options.json: epochs cannot be 'x'"),
        (lambda run: change(run, batch_size=0), "options.json: batch_size cannot be 0"),
        (lambda run: change(run, learning_rate=-1.0), "options.json: learning_rate cannot be -1.0"),
        (lambda run: change(run, augment="flip"), "options.json: augment cannot be 'flip'"),
        (lambda run: change(run, schedule=["cosine"]), r"options.json: schedule cannot be ['cosine']"),
        (lambda run: change(run, model=None), "options.json: model cannot be None"),
        (lambda run: change(run, image_size=[3]), "options.json: image_size cannot be [3]"),
        (lambda run: change(run, seed=True), "options.json: seed cannot be True"),
        (lambda run: (run / "options.json").unlink(), "is not the folder of a run"),
        (lambda run: (run / "checkpoint.safetensors").unlink(), "stopped before the end of an epoch"),
        (lambda run: (run / "checkpoint.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}"), "checkpoint.safetensors"),
    ],
)
def test_resume_of_a_damaged_run(
    problem: list[str], damage: object, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*problem, "--epochs", "1", "--out", "run", "--quiet"]) == 0
    damage(Path("run"))  # type: ignore[operator]
    assert main(["train", "--resume", "run", "--quiet"]) == 1
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_resume_without_any_run(problem: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--resume"]) == 1
    assert "there is no run to continue under runs" in capsys.readouterr().err


def test_a_folder_with_something_in_it_is_left_alone(problem: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("out").mkdir()
    Path("out/thesis.txt").write_text("years of work")
    assert main([*problem, "--epochs", "1", "--out", "out"]) == 1
    assert "out is not empty" in capsys.readouterr().err
    assert [path.name for path in Path("out").iterdir()] == ["thesis.txt"]
    assert main([*problem, "--epochs", "1", "--out", "out", "--force", "--quiet"]) == 0
    assert Path("out/thesis.txt").read_text() == "years of work"
    assert Path("out/model.safetensors").is_file()


def test_without_matplotlib_it_says_so_first_and_trains(problem: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*problem, "--epochs", "1", "--out", "run"]) == 0
    said = capsys.readouterr().out
    assert "pip install 'fastconv[plot]'" in said.splitlines()[0]
    assert not list(Path("run").glob("*.png"))
    assert Path("run/model.safetensors").is_file()
