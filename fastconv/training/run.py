"""What a callback sees and can do: the state of a call of `fit`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastconv.model import Model
    from fastconv.training.history import History
    from fastconv.training.losses import Loss
    from fastconv.training.optimizer import Optimizer


class Run:
    """The state of one call of `fit`.

    Attributes
    ----------
    model, optimizer, loss
        What is trained, and how. Changing the learning rate, ``run.optimizer.learning_rate = 0.01``, has an effect at
        once.
    epochs : int
        How many there shall be.
    steps_per_epoch : int
    epoch : int
        Number of the current epoch, from 1; before the first, 0.
    step : int
        Number of batches done in the current epoch.
    logs : dict of float
        Results: within an epoch the means so far (loss, accuracy, ...), at its end also val_loss and so on,
        learning_rate, seconds.
    history : History
        The results of the whole epochs so far.
    first_rate : float or Schedule
        The learning rate that the run began with, resumed or not.
    snapshot : dict
        Everything that is needed to go on from the end of the last whole epoch; see `fastconv.training.checkpoint`.
    """

    def __init__(
        self, model: Model, optimizer: Optimizer, loss: Loss, *, epochs: int, steps_per_epoch: int, history: History
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.loss = loss
        self.epochs = epochs
        self.steps_per_epoch = steps_per_epoch
        self.history = history
        self.epoch = 0
        self.step = 0
        self.first_rate = optimizer.learning_rate
        self.logs: dict[str, float] = {}
        self.snapshot: dict[str, Any] = {}
        self.stopped: str | None = None
        self.abandoned = False
        self.published = True

    def stop(self, reason: str) -> None:
        """End training after this epoch; the history will say why."""
        self.stopped = reason

    def abandon(self, reason: str) -> None:
        """End training at once, and put model and optimizer back to the end of the last whole epoch."""
        self.stopped = reason
        self.abandoned = True
