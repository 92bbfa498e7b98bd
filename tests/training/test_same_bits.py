"""The same seed gives the same bits: with any number of threads, after a stop, after Ctrl-C."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import workers
from small_training import fingerprint, network, stripes

import fastconv
from fastconv.data import Erase, Flip, Mixup, Rotate, Shift
from fastconv.saving import ModelFileError, load_checkpoint, save_model
from fastconv.training import (
    SGD,
    Adam,
    Callback,
    Cosine,
    CSVLogger,
    EarlyStopping,
    History,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceOnPlateau,
    RMSprop,
    Run,
    fit,
)

X, Y = stripes()
VALIDATION = stripes(40, seed=1)


def train(model: Any = None, **options: Any) -> tuple[Any, History]:
    """Train with everything that draws random numbers or has a memory."""
    model = network() if model is None else model
    given = {
        "epochs": 4,
        "batch_size": 20,
        "optimizer": Adam(Cosine(0.01, warmup=1)),
        "augment": [Flip(), Shift(1), Rotate(10), Erase(), Mixup(classes=2)],
        "validation_data": VALIDATION,
        "seed": 7,
        "verbose": False,
        **options,
    }
    return model, fit(model, X, Y, **given)


def results(history: History) -> list[dict[str, float]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history.rows]


def test_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastconv.threads.WORTH_A_THREAD", 1)
    prints = set()
    for threads in (1, 2, 3, 4):
        with fastconv.num_threads(threads):
            prints.add(fingerprint(train(epochs=2)[0]))
    assert len(prints) == 1


def test_the_seed_decides() -> None:
    first, again, other = (fingerprint(train(epochs=1, seed=seed)[0]) for seed in (7, 7, 8))
    assert first == again != other


class StopAfter(Callback):
    """Stop the run from outside: not a decision that a resumed run should repeat."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_epoch_begin(self, run: Run) -> None:
        if run.epoch > self.epoch:
            raise KeyboardInterrupt


OPTIMIZERS = {
    "adam with a schedule": lambda: Adam(Cosine(0.01, warmup=1), clip_norm=1.0),
    "momentum that waits for a plateau": lambda: SGD(
        ReduceOnPlateau(0.5, patience=0, threshold=0.5, factor=0.3), momentum=0.9, nesterov=True, weight_decay=1e-3
    ),
    "rmsprop": lambda: RMSprop(0.01, momentum=0.5),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("stop", [1, 3])
def test_stopped_and_resumed_is_never_stopped(tmp_path: Path, name: str, stop: int) -> None:
    def callbacks() -> list[Callback]:
        return [EarlyStopping("val_loss", patience=3, restore_best_weights=True), CSVLogger(tmp_path / "history.csv")]

    whole, history = train(optimizer=OPTIMIZERS[name](), callbacks=callbacks())
    path = tmp_path / "checkpoint.safetensors"
    _, first = train(optimizer=OPTIMIZERS[name](), callbacks=[*callbacks(), StopAfter(stop)], checkpoint=path)
    assert first.interrupted and len(first) == stop
    resumed, second = train(optimizer=OPTIMIZERS[name](), callbacks=callbacks(), checkpoint=path, resume=path)
    assert fingerprint(resumed) == fingerprint(whole)
    assert results(second) == results(history)
    assert len((tmp_path / "history.csv").read_text().splitlines()) == 1 + len(history)


def test_resuming_a_run_that_a_callback_stopped_or_that_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    model, history = train(callbacks=[EarlyStopping("learning_rate", patience=1)], checkpoint=path, epochs=6)
    assert history.stopped is not None
    again, resumed = train(
        callbacks=[EarlyStopping("learning_rate", patience=1)], checkpoint=path, epochs=6, resume=path
    )
    assert results(resumed) == results(history) and resumed.stopped == history.stopped
    assert fingerprint(again) == fingerprint(model)
    complete, _ = train(epochs=2, checkpoint=path)
    again, resumed = train(epochs=2, resume=path)
    assert len(resumed) == 2 and fingerprint(again) == fingerprint(complete)


def test_more_epochs_than_the_first_run_had(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    train(epochs=2, optimizer="adam", checkpoint=path)
    resumed, history = train(epochs=4, optimizer="adam", resume=path)
    whole, _ = train(epochs=4, optimizer="adam")
    assert fingerprint(resumed) == fingerprint(whole) and len(history) == 4


def test_a_learning_rate_that_a_callback_set_is_resumed(tmp_path: Path) -> None:
    class Halve(Callback):
        def on_epoch_end(self, run: Run) -> None:
            assert isinstance(run.optimizer.learning_rate, float)
            run.optimizer.learning_rate /= 2

    path = tmp_path / "checkpoint.safetensors"
    whole, history = train(optimizer=SGD(0.1), callbacks=[Halve()])
    train(optimizer=SGD(0.1), callbacks=[Halve(), StopAfter(2)], checkpoint=path)
    resumed, second = train(optimizer=SGD(0.1), callbacks=[Halve()], resume=path)
    assert fingerprint(resumed) == fingerprint(whole)
    assert second["learning_rate"] == history["learning_rate"] == [0.1, 0.05, 0.025, 0.0125]


def test_a_learning_rate_that_resuming_would_not_use_is_refused(tmp_path: Path) -> None:
    class Halve(Callback):
        def on_epoch_end(self, run: Run) -> None:
            run.optimizer.learning_rate /= 2  # type: ignore[operator]

    path, optimizer = tmp_path / "checkpoint.safetensors", SGD(0.1)
    train(epochs=2, optimizer=optimizer, callbacks=[Halve()], checkpoint=path)
    message = r"checkpoint.* by a run with learning_rate = 0\.1, and here it is 0\.5: resume with the same \(a LearningRateSch"
    with pytest.raises(ValueError, match=message):
        train(optimizer=SGD(0.5), callbacks=[Halve()], resume=path)
    assert optimizer.learning_rate == 0.025  # what the checkpoint has, so the same object may go on
    _, history = train(epochs=3, optimizer=optimizer, callbacks=[Halve()], checkpoint=path, resume=path)
    assert history["learning_rate"] == [0.1, 0.05, 0.025]
    train(optimizer=SGD(0.1), callbacks=[Halve()], resume=path)  # that of the first run, still


class InterruptAt(Callback):
    def __init__(self, epoch: int, step: int) -> None:
        self.epoch, self.step = epoch, step

    def on_batch_end(self, run: Run) -> None:
        if (run.epoch, run.step) == (self.epoch, self.step):
            raise KeyboardInterrupt


def test_ctrl_c_in_the_middle_of_an_epoch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "checkpoint.safetensors"
    optimizer = Adam()
    model, history = train(
        optimizer=optimizer,
        callbacks=[InterruptAt(3, 2), CSVLogger(tmp_path / "log.csv")],
        checkpoint=path,
        verbose=True,
    )
    assert history.interrupted and history.stopped is None and len(history) == 2
    assert "interrupted" in repr(history)
    assert capsys.readouterr().out.splitlines()[-1] == "interrupted: the model is as it was after epoch 2"
    two_epochs, _ = train(optimizer="adam", epochs=2)
    assert fingerprint(model) == fingerprint(two_epochs) == fingerprint(fastconv.load_model(path))
    assert optimizer.steps == 10
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 3
    assert not workers()
    whole, _ = train(optimizer="adam")
    resumed, _ = train(optimizer="adam", resume=path)
    assert fingerprint(resumed) == fingerprint(whole)


def test_ctrl_c_in_the_first_epoch_leaves_the_first_weights() -> None:
    model, history = train(callbacks=[InterruptAt(1, 2)])
    assert history.interrupted and len(history) == 0
    untouched = network()
    untouched.build((8, 8, 1), rng=np.random.default_rng([7, 0, 1]))
    assert fingerprint(model) == fingerprint(untouched)


def test_ctrl_c_while_the_checkpoint_is_written(tmp_path: Path) -> None:
    class InterruptOnce(Callback):
        def __init__(self) -> None:
            self.done = False

        def on_snapshot(self, run: Run) -> None:
            if run.epoch == 2 and not self.done:
                self.done = True
                raise KeyboardInterrupt

    path = tmp_path / "new folder" / "checkpoint.safetensors"
    model, history = train(callbacks=[InterruptOnce()], checkpoint=path)
    assert history.interrupted and len(history) == 2
    assert fingerprint(fastconv.load_model(path)) == fingerprint(model)


@pytest.fixture
def attended() -> Iterator[None]:
    """Take Ctrl-C, which a program ignores that is started in the background of a script."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(not hasattr(signal, "SIGINT"), reason="there is no Ctrl-C here")
@pytest.mark.usefixtures("attended")
def test_a_real_signal() -> None:
    class Signal(Callback):
        def on_batch_end(self, run: Run) -> None:
            if run.epoch == 2:
                os.kill(os.getpid(), signal.SIGINT)

    _, history = train(callbacks=[Signal()])
    assert history.interrupted and len(history) == 1


def test_a_checkpoint_is_refused_where_the_run_is_another(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    train(epochs=1, checkpoint=path)
    for options, message in (
        ({"seed": 8}, "with seed = 7, and here it is 8: resume with the same, or begin a new run"),
        ({"batch_size": 32}, "with batch_size = 20, and here it is 32"),
        ({"augment": []}, r"with augment = Compose\(\[Flip.*and here it is Compose\(\[\]\)"),
        ({"shuffle": False}, "with shuffle = True, and here it is False"),
        ({"loss": "mse"}, "y must be numbers|with loss = "),
        ({"optimizer": "sgd"}, "state of the optimizer 'adam', and here it is 'sgd'"),
        ({"optimizer": "adam"}, "state of the schedule 'Cosine', and here it is None"),
        (
            {"callbacks": [EarlyStopping()]},
            r"whose callbacks with a memory are \['History'\], and here .*EarlyStopping",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            train(resume=path, **options)
    other = fastconv.Sequential([fastconv.layers.Flatten(), fastconv.layers.Linear(2)])
    with pytest.raises(ValueError, match=r"is of another model: 'conv2d_1/weight' is float32 .* and not there here"):
        train(other, resume=path)


def test_files_that_are_no_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    model, _ = train(epochs=1)
    model.save(path)
    with pytest.raises(ModelFileError, match=r"model\.safetensors: is a model, but no checkpoint of a training run"):
        train(resume=path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ModelFileError, match=r"is cut short"):
        train(resume=path)
    with pytest.raises(FileNotFoundError):
        train(resume=tmp_path / "absent")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epoch": "one"}, "is damaged: the 'epoch' of its run is 'one'"),
        ({"settings": None}, "is damaged: the 'settings' of its run is None"),
        ({"callbacks": {}}, r"is damaged: the 'callbacks' of its run is \{\}"),
        ({"callbacks": [["History", {}]]}, "holds a state that does not fit: KeyError: 'rows'"),
        ({"callbacks": [["History", 3]]}, "holds a state that does not fit: TypeError"),
    ],
)
def test_damaged_checkpoints(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "checkpoint.safetensors"
    train(epochs=1, checkpoint=path)
    model, optimizer, extra = load_checkpoint(path)
    extra["training"].update(change)
    save_model(model, path, optimizer=optimizer, extra=extra)
    fresh = network()
    fresh.build((8, 8, 1), rng=np.random.default_rng(0))
    before = fingerprint(fresh)
    with pytest.raises(ModelFileError, match=rf"checkpoint\.safetensors: {message}"):
        train(fresh, resume=path)
    assert fingerprint(fresh) == before


def test_a_failed_resumption_leaves_the_log_alone(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    train(epochs=2, checkpoint=path, callbacks=[CSVLogger(tmp_path / "log.csv")])
    before = (tmp_path / "log.csv").read_text()
    with pytest.raises(ValueError, match="seed"):
        train(resume=path, seed=1, callbacks=[CSVLogger(tmp_path / "log.csv")])
    assert (tmp_path / "log.csv").read_text() == before


def test_model_checkpoints_are_resumed_too(tmp_path: Path) -> None:
    def callbacks() -> list[Callback]:
        return [ModelCheckpoint(tmp_path / "best.safetensors", save_best_only=True, monitor="loss")]

    whole, history = train(callbacks=callbacks())
    checkpoint = tmp_path / "last.safetensors"
    train(callbacks=[*callbacks(), StopAfter(2)], checkpoint=checkpoint)
    resumed, second = train(callbacks=callbacks(), resume=checkpoint)
    assert fingerprint(resumed) == fingerprint(whole) and results(second) == results(history)


def test_a_scheduler_as_a_callback_is_resumed(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"

    def callbacks() -> list[Callback]:
        return [LearningRateScheduler(ReduceOnPlateau(0.1, patience=0, threshold=0.5))]

    whole, _ = train(optimizer=SGD(), callbacks=callbacks())
    train(optimizer=SGD(), callbacks=[*callbacks(), StopAfter(2)], checkpoint=path)
    resumed, _ = train(optimizer=SGD(), callbacks=callbacks(), resume=path)
    assert fingerprint(resumed) == fingerprint(whole)
