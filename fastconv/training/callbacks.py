"""Callbacks that decide when to stop, and how fast to learn."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastconv.data.check import whole
from fastconv.training.callback import Callback
from fastconv.training.names import callbacks
from fastconv.training.run import Run
from fastconv.training.schedules import Schedule
from fastconv.training.watch import Watch


@callbacks.register("early_stopping")
class EarlyStopping(Callback):
    """Stop when a result has not improved for `patience` epochs.

    Parameters
    ----------
    monitor : str
        Which result, as in the history: "val_loss", "val_accuracy", "loss", ...
    patience : int
        Epochs without improvement after which training stops, at least 1.
    mode : "min", "max" or None
        Whether less or more is better; None: more is where the name holds "accuracy".
    min_delta : float
        An improvement is a change by more than this.
    restore_best_weights : bool
        Leave the model, when training ends in whatever way but Ctrl-C, with the weights and buffers of its best epoch.
        A checkpoint has those of the last epoch all the same.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        *,
        patience: int = 5,
        mode: str | None = None,
        min_delta: float = 0.0,
        restore_best_weights: bool = False,
    ) -> None:
        self.monitor = monitor
        self.patience = whole(patience, "patience", minimum=1)
        self.mode = mode
        self.min_delta = min_delta
        self.restore_best_weights = restore_best_weights
        self._watch = Watch(monitor, mode, min_delta)
        self._best: dict[str, np.ndarray] = {}

    def on_train_begin(self, run: Run) -> None:
        self._watch.reset()
        self._best = {}

    def on_epoch_end(self, run: Run) -> None:
        if self._watch.see(run.logs):
            if self.restore_best_weights:
                self._best = {name: array.copy() for name, array in _arrays(run).items()}
        elif self._watch.waited >= self.patience:
            run.stop(
                f"{self.monitor} has not improved for {self._watch.waited} epochs, its best is {self._watch.best:.6g}"
            )

    def on_train_end(self, run: Run) -> None:
        if self._best and not run.history.interrupted:
            arrays = _arrays(run)
            for name, array in self._best.items():
                arrays[name][...] = array

    def state_dict(self) -> dict[str, Any]:
        return {**self._watch.state_dict(), "weights": self._best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._watch.load_state_dict(state)
        self._best = dict(state["weights"])


@callbacks.register("terminate_on_nan")
class TerminateOnNaN(Callback):
    """Stop as soon as the loss is NaN or infinite, and put the model back to the end of the last whole epoch."""

    def on_batch_end(self, run: Run) -> None:
        loss = run.logs["loss"]
        if not math.isfinite(loss):
            run.abandon(f"the loss became {loss} in batch {run.step} of epoch {run.epoch}")


class LearningRateScheduler(Callback):
    """Set the learning rate of the optimizer.

    Parameters
    ----------
    schedule : Schedule, or function
        A schedule takes the place of the optimizer's learning rate, as in ``SGD(schedule)``. A function is called
        before every epoch with the number of epochs done (0, 1, ...) and returns the learning rate for the next.
    """

    def __init__(self, schedule: Schedule | Callable[[int], float]) -> None:
        if not callable(schedule):
            raise TypeError(f"schedule must be a Schedule or a function from the epoch to the rate, got {schedule!r}")
        self.schedule = schedule

    def on_train_begin(self, run: Run) -> None:
        if isinstance(self.schedule, Schedule):
            run.optimizer.learning_rate = self.schedule
            run.optimizer.plan(steps_per_epoch=run.steps_per_epoch, epochs=run.epochs)

    def on_epoch_begin(self, run: Run) -> None:
        if not isinstance(self.schedule, Schedule):
            run.optimizer.learning_rate = float(self.schedule(run.epoch - 1))


def _arrays(run: Run) -> dict[str, np.ndarray]:
    return {**run.model.params, **run.model.buffers}
