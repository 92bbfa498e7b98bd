"""The base of all callbacks, and the moments of `fit` at which they are called."""

from __future__ import annotations

from typing import Any

from fastconv.training.names import Described, callbacks
from fastconv.training.run import Run


class Callback(Described):
    """Base of all callbacks: every method does nothing, override what you need.

    All get the `Run`. They are called in the order in which the callbacks were given to `fit`. An exception ends the
    training: `on_train_end` is still called, and the exception goes to the caller of `fit`; ``KeyboardInterrupt``
    counts as Ctrl-C.

    With ``@fastconv.training.register_callback("acme.Shout")`` it can be asked for by name.

    A callback with a memory of its own defines `state_dict` and `load_state_dict`: then a run that is resumed from a
    checkpoint does what it would have done without the stop.

    >>> class Shout(Callback):
    ...     def on_epoch_end(self, run):
    ...         print(f"EPOCH {run.epoch}: LOSS {run.logs['loss']:.3f}!")
    """

    def on_train_begin(self, run: Run) -> None:
        """Before the first epoch; ahead of `load_state_dict` where the run is resumed."""

    def on_epoch_begin(self, run: Run) -> None:
        """Before an epoch; `run.epoch` is its number, from 1."""

    def on_batch_end(self, run: Run) -> None:
        """After the step of a batch; `run.logs` holds the means of the epoch so far."""

    def on_epoch_end(self, run: Run) -> None:
        """After an epoch and its validation; `run.logs` holds its results and may be added to."""

    def on_snapshot(self, run: Run) -> None:
        """After every callback has seen the end of an epoch: the place to write files; `run.snapshot` is what to resume
        from.

        Where Ctrl-C interrupts this, it is called once more for the same epoch.
        """

    def on_train_end(self, run: Run) -> None:
        """After the last epoch, and also after an interruption or an exception."""

    def state_dict(self) -> dict[str, Any]:
        """Return the memory of the callback, as JSON values and arrays."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""


callbacks.base = Callback
