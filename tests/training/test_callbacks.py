"""Callbacks: when they are called, what they decide, what they write."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_training import fingerprint, network, stripes

import fastconv
from fastconv.training import (
    SGD,
    Callback,
    Cosine,
    CSVLogger,
    EarlyStopping,
    History,
    LearningRateScheduler,
    ModelCheckpoint,
    Run,
    StepDecay,
    TerminateOnNaN,
    fit,
)

X, Y = stripes()


def train(*callbacks: Callback, epochs: int = 4, **options: Any) -> tuple[Any, History]:
    model = network()
    options = {"epochs": epochs, "batch_size": 32, "verbose": False, "callbacks": callbacks, **options}
    return model, fit(model, X, Y, **options)


class Score(Callback):
    """Put given numbers into the logs, as the result "score"."""

    def __init__(self, *values: float) -> None:
        self.values = values

    def on_epoch_end(self, run: Run) -> None:
        run.logs["score"] = self.values[run.epoch - 1]


def test_when_they_are_called() -> None:
    calls: list[Any] = []

    class Spy(Callback):
        def __init__(self, name: str) -> None:
            self.name = name

        def on_train_begin(self, run: Run) -> None:
            calls.append((self.name, "train begins", run.epoch, run.epochs, run.steps_per_epoch))

        def on_epoch_begin(self, run: Run) -> None:
            calls.append((self.name, "epoch begins", run.epoch))

        def on_batch_end(self, run: Run) -> None:
            assert set(run.logs) == {"loss", "accuracy"}
            calls.append((self.name, "batch", run.step))

        def on_epoch_end(self, run: Run) -> None:
            assert {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds"} <= set(run.logs)
            calls.append((self.name, "epoch ends", run.epoch))

        def on_snapshot(self, run: Run) -> None:
            assert run.snapshot["training"]["epoch"] == run.epoch == len(run.history)
            calls.append((self.name, "snapshot", run.epoch))

        def on_train_end(self, run: Run) -> None:
            calls.append((self.name, "train ends", run.epoch))

    train(Spy("a"), Spy("b"), epochs=1, batch_size=50, validation_data=(X, Y))
    events = [
        ("train begins", 0, 1, 2),
        ("epoch begins", 1),
        ("batch", 1),
        ("batch", 2),
        ("epoch ends", 1),
        ("snapshot", 1),
        ("train ends", 1),
    ]
    assert calls == [(name, *event) for event in events for name in "ab"]


def test_only_objects_are_callbacks() -> None:
    with pytest.raises(
        TypeError,
        match=r"callback must be a name or an object of fastconv.training.Callback, got <class .*TerminateOnNaN'>: call it",
    ):
        train(TerminateOnNaN)  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"there is no callback named 'early'; there are: early_stopping, terminate_on_nan"
    ):
        train("early")
    assert repr(EarlyStopping("loss", patience=2)) == (
        "EarlyStopping(monitor='loss', patience=2, mode=None, min_delta=0.0, restore_best_weights=False)"
    )


def test_history() -> None:
    _, history = train(Score(1.0, 3.0, 2.0), epochs=3)
    assert len(history) == 3 and history["score"] == [1, 3, 2] and "score" in history
    assert history.keys() == ["loss", "accuracy", "learning_rate", "seconds", "score"]
    assert history.best("score") == (1, 1.0) and history.best("score", mode="max") == (2, 3.0)
    assert not history.interrupted and history.stopped is None
    assert repr(history).startswith("<History of 3 epochs; last: loss=")
    with pytest.raises(KeyError, match="'val_loss'; the history has 'loss', 'accuracy'"):
        history["val_loss"]
    assert repr(History()) == "<History of no epoch>"
    with pytest.raises(KeyError, match="no epoch yet"):
        History()["loss"]
    history.rows[0]["rare"] = 5.0
    assert history["rare"][0] == 5 and np.isnan(history["rare"][1:]).all()
    history.rows = [{"loss": float("nan")}]
    with pytest.raises(ValueError, match="no epoch has a value of 'loss' that is a number"):
        history.best("loss")


def test_csv_logger(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "history.csv"
    _, history = train(CSVLogger(path), Score(0.5, float("nan")), epochs=2)
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert [float(row["loss"]) for row in rows] == history["loss"]
    assert rows[1]["score"] == "nan"


def test_early_stopping_stops_and_restores() -> None:
    prints: list[str] = []

    class Note(Callback):
        def on_epoch_end(self, run: Run) -> None:
            prints.append(fingerprint(run.model))

    scores = (3.0, 1.0, 2.0, 2.0, 0.0)
    stop = EarlyStopping("score", patience=2, restore_best_weights=True)
    model, history = train(Score(*scores), stop, Note(), epochs=5)
    assert len(history) == 4
    assert history.stopped == "score has not improved for 2 epochs, its best is 1"
    assert fingerprint(model) == prints[1]
    model, history = train(Score(*scores), EarlyStopping("score", patience=2), epochs=5)
    assert len(history) == 4 and fingerprint(model) == prints[3]
    assert "stopped: score has not" in repr(history)


def test_early_stopping_modes() -> None:
    _, history = train(Score(0.1, 0.2, 0.15, 0.1), EarlyStopping("score", mode="max", patience=1))
    assert len(history) == 3
    _, history = train(Score(1.0, 0.95, 0.9, 0.85), EarlyStopping("score", min_delta=0.2, patience=2))
    assert len(history) == 3
    with pytest.raises(ValueError, match="there is no result 'val_loss' to monitor"):
        train(EarlyStopping())
    with pytest.raises(ValueError, match="patience must be at least 1"):
        EarlyStopping(patience=0)
    with pytest.raises(ValueError, match="mode must be"):
        EarlyStopping(mode="best")


@pytest.mark.filterwarnings("ignore:.*(overflow|invalid value):RuntimeWarning")
def test_terminate_on_nan_goes_back_to_the_last_whole_epoch() -> None:
    prints: list[str] = []

    class Explode(Callback):
        def on_epoch_begin(self, run: Run) -> None:
            prints.append(fingerprint(run.model))
            if run.epoch == 3:
                run.optimizer.learning_rate = 1e30

    model, history = train(TerminateOnNaN(), Explode(), epochs=9, optimizer=SGD(0.01))
    assert len(history) == 2
    assert history.stopped is not None and "in batch" in history.stopped and "of epoch 3" in history.stopped
    assert fingerprint(model) == prints[2]
    assert all(np.isfinite(history["loss"]))


def test_learning_rate_scheduler() -> None:
    _, history = train(LearningRateScheduler(lambda epoch: 0.1 / (epoch + 1)), optimizer="sgd")
    assert history["learning_rate"] == pytest.approx([0.1, 0.05, 0.1 / 3, 0.025])
    by_callback, history = train(LearningRateScheduler(StepDecay(0.1, every=2)), optimizer=SGD(0.7))
    assert history["learning_rate"] == pytest.approx([0.1, 0.1, 0.01, 0.01])
    by_optimizer, _ = train(optimizer=SGD(StepDecay(0.1, every=2)))
    assert fingerprint(by_callback) == fingerprint(by_optimizer)
    with pytest.raises(TypeError, match=r"schedule must be a Schedule or a function .* got 0.1"):
        LearningRateScheduler(0.1)  # type: ignore[arg-type]


def test_a_schedules_time_is_in_epochs_and_its_length_that_of_fit() -> None:
    _, history = train(optimizer=SGD(Cosine(1e-3)), epochs=4, batch_size=48)
    assert history["learning_rate"] == pytest.approx([Cosine(1e-3, length=4)(time) for time in (0.5, 1.5, 2.5, 3.5)])


def test_model_checkpoint_writes_models_that_can_be_loaded(tmp_path: Path) -> None:
    path = str(tmp_path / "{of}-{epoch:02d}.safetensors")
    model, _ = train(ModelCheckpoint(path), epochs=2)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["{of}-01.safetensors", "{of}-02.safetensors"]
    loaded = fastconv.load_model(tmp_path / "{of}-02.safetensors")
    assert fingerprint(loaded) == fingerprint(model)
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


def test_model_checkpoint_keeps_what_it_is_given(tmp_path: Path) -> None:
    from fastconv.saving import read_extra

    path = tmp_path / "model.safetensors"
    train(ModelCheckpoint(path, extra={"classes": ["a", "b"]}), epochs=1)
    extra = read_extra(path)
    assert extra["classes"] == ["a", "b"] and extra["training"]["epoch"] == 1
    with pytest.raises(TypeError, match="extra must be a dict, got list"):
        ModelCheckpoint(path, extra=[1])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="extra must not have the key 'training'"):
        ModelCheckpoint(path, extra={"training": 1})


def test_model_checkpoint_of_the_best(tmp_path: Path) -> None:
    epochs: list[int] = []
    path = tmp_path / "best.safetensors"

    class Note(Callback):
        def on_train_end(self, run: Run) -> None:
            from fastconv.saving import read_extra

            epochs.append(read_extra(path)["training"]["epoch"])

    best = ModelCheckpoint(path, save_best_only=True, monitor="score")
    train(Score(3.0, 1.0, 2.0, 1.5), best, Note())
    assert epochs == [2]
