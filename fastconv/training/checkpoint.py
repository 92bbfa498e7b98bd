"""Snapshots and checkpoints: all that a run needs to go on, at the end of an epoch.

A snapshot is that state in memory, a copy. It is what `fit` returns to when it is interrupted, and what a checkpoint
file holds. A checkpoint is a model file (`fastconv.load_model` reads it) with the optimizer's state, and under
``extra["training"]``:

=============  ================================================================================
epoch          how many are whole
stopped        why a callback ended the run, or None
first_rate     the learning rate that the run began with, or None where that is a schedule
settings       what must be the same for the same result: seed, batch size, loss, ...
callbacks      class and state of each callback that has a state, the history first
=============  ================================================================================

No generator of random numbers needs saving: the order of the samples, augmentation and dropout draw from generators
made from the seed and the number of the epoch.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastconv.arguments import file_path
from fastconv.saving import Checkpoint, ModelFileError, load_checkpoint, save_model
from fastconv.training.callback import Callback
from fastconv.training.run import Run
from fastconv.training.watch import Watch

#: What is under ``extra["training"]``, as it comes out of a file.
_KINDS: dict[str, Any] = {"epoch": int, "stopped": (str, type(None)), "settings": dict, "callbacks": list}


class ModelCheckpoint(Callback):
    """Write a checkpoint after every epoch, or after the best ones: a model file that ``fit(resume=path)`` can go on
    from.

    Parameters
    ----------
    path : path
        ``{epoch}`` in it becomes the number of the epoch: ``"model-{epoch:03d}.safetensors"``. A file that is there is
        replaced, in one step: it is never half written.
    save_best_only : bool
        Write only where `monitor` is better than ever before.
    monitor, mode
        As for `EarlyStopping`.
    extra : dict, optional
        JSON values and arrays that go into the file too, as those of ``model.save(extra=...)`` do; any key but ``"training"``.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        save_best_only: bool = False,
        monitor: str = "val_loss",
        mode: str | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        if extra is not None and not isinstance(extra, dict):
            raise TypeError(f"extra must be a dict, got {type(extra).__name__}")
        if extra and "training" in extra:
            raise ValueError("extra must not have the key 'training', under which the state of the run is saved")
        self.path = Path(file_path(path))
        self.save_best_only = save_best_only
        self.monitor = monitor
        self.mode = mode
        self.extra = dict(extra or {})
        self._watch = Watch(monitor, mode)
        self._better = True

    def on_train_begin(self, run: Run) -> None:
        self._watch.reset()

    def on_epoch_end(self, run: Run) -> None:
        self._better = self._watch.see(run.logs) if self.save_best_only else True

    def on_snapshot(self, run: Run) -> None:
        if self._better:
            numbered = re.sub(r"\{epoch[^{}]*\}", lambda found: found[0].format(epoch=run.epoch), str(self.path))
            Path(numbered).parent.mkdir(parents=True, exist_ok=True)
            save_checkpoint(run, numbered, self.extra)

    def state_dict(self) -> dict[str, Any]:
        return self._watch.state_dict() if self.save_best_only else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._watch.load_state_dict(state)


def take_snapshot(run: Run, callbacks: Sequence[Callback], settings: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of everything that the run needs to go on from here."""
    return {
        "arrays": _copied({**run.model.params, **run.model.buffers}),
        "optimizer": _copied(run.optimizer.state_dict()),
        "training": {
            "epoch": run.epoch,
            "stopped": run.stopped,
            "first_rate": run.first_rate if isinstance(run.first_rate, float) else None,
            "settings": settings,
            "callbacks": [[type(callback).__name__, _copied(state)] for callback, state in _with_memory(callbacks)],
        },
    }


def return_to(snapshot: dict[str, Any], run: Run, callbacks: Sequence[Callback]) -> None:
    """Put model, optimizer and callbacks back to where a snapshot was taken."""
    training = snapshot["training"]
    for (callback, _), (_, state) in zip(_with_memory(callbacks), training["callbacks"], strict=True):
        callback.load_state_dict(state)
    run.optimizer.load_state_dict(snapshot["optimizer"])
    run.epoch = training["epoch"]
    arrays = {**run.model.params, **run.model.buffers}
    for name, array in snapshot["arrays"].items():
        arrays[name][...] = array


def save_checkpoint(run: Run, path: str | os.PathLike[str], extra: dict[str, Any]) -> None:
    """Write the run's snapshot to a file, with the model as it is now: at the end of an epoch they are the same."""
    everything = {**extra, "training": run.snapshot["training"]}
    save_model(run.model, path, optimizer=run.snapshot["optimizer"], extra=everything)


def resume_from(
    path: str | os.PathLike[str], run: Run, callbacks: Sequence[Callback], settings: dict[str, Any]
) -> None:
    """Go on from the checkpoint in a file; raise what `read_checkpoint` does, and then nothing has changed."""
    run.snapshot = read_checkpoint(path, run, callbacks, settings)
    try:
        return_to(run.snapshot, run, callbacks)
    except (AttributeError, LookupError, TypeError) as error:
        raise ModelFileError(
            f"{os.fspath(path)}: holds a state that does not fit: {type(error).__name__}: {error}"
        ) from error
    run.stopped = run.snapshot["training"]["stopped"]


def read_checkpoint(
    path: str | os.PathLike[str], run: Run, callbacks: Sequence[Callback], settings: dict[str, Any]
) -> dict[str, Any]:
    """Return the snapshot in a checkpoint file, checked to fit the run that it is to go on as.

    Raises `ModelFileError` for a file that holds no checkpoint, and `ValueError` for one of another model, of other
    callbacks or of other settings, saying what it is in the file and what it is here.
    """
    checkpoint = load_checkpoint(path)
    training = checkpoint.extra.get("training")
    if checkpoint.optimizer is None or not isinstance(training, dict):
        raise ModelFileError(f"{os.fspath(path)}: is a model, but no checkpoint of a training run")
    for name, kind in _KINDS.items():
        if not isinstance(training.get(name), kind):
            raise ModelFileError(
                f"{os.fspath(path)}: is damaged: the {name!r} of its run is {training.get(name)!r:.80}"
            )
    for name in {**training["settings"], **settings}:
        there, here = training["settings"].get(name), settings.get(name)
        if there != here:
            raise ValueError(
                f"{os.fspath(path)}: was written by a run with {name} = {there}, and here it is {here}: "
                "resume with the same, or begin a new run from the weights in the file with fastconv.load_model"
            )
    _require_rate(path, run, training.get("first_rate"), checkpoint.optimizer.get("learning_rate"))
    there = [saved[0] if isinstance(saved, list) and saved else saved for saved in training["callbacks"]]
    here = [type(callback).__name__ for callback, _ in _with_memory(callbacks)]
    if there != here:
        raise ValueError(
            f"{os.fspath(path)}: was written by a run whose callbacks with a memory are {there}, "
            f"and here they are {here}"
        )
    return {"arrays": _matching(checkpoint, run, path), "optimizer": checkpoint.optimizer, "training": training}


def _require_rate(path: str | os.PathLike[str], run: Run, began: float | None, ended: Any) -> None:
    """Raise `ValueError` for a learning rate that resuming would not use: it goes on with that of the checkpoint."""
    rate = run.first_rate
    if isinstance(rate, float) and isinstance(ended, float) and rate not in (began, ended):
        raise ValueError(
            f"{os.fspath(path)}: was written by a run with learning_rate = {ended if began is None else began}, and here it is "
            f"{rate}: resume with the same (a LearningRateScheduler can change it), or begin a new run from the weights in the "
            "file with fastconv.load_model"
        )
    run.first_rate = rate if began is None else began


def _matching(checkpoint: Checkpoint, run: Run, path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    theirs = {**checkpoint.model.params, **checkpoint.model.buffers}
    mine = {**run.model.params, **run.model.buffers}
    for name in {**theirs, **mine}:
        there, here = (
            f"{arrays[name].dtype} {arrays[name].shape}" if name in arrays else "not there" for arrays in (theirs, mine)
        )
        if there != here:
            raise ValueError(f"{os.fspath(path)}: is of another model: {name!r} is {there} in the file and {here} here")
    return theirs


def _with_memory(callbacks: Sequence[Callback]) -> list[tuple[Callback, dict[str, Any]]]:
    states = [(callback, callback.state_dict()) for callback in callbacks]
    return [(callback, state) for callback, state in states if state]


def _copied(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_copied(item) for item in value]
    return value
