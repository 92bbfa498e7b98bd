"""The results of every epoch: in memory, and in a CSV file."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import Any

from fastconv.saving import write_atomically
from fastconv.training.callback import Callback
from fastconv.training.run import Run
from fastconv.training.watch import Watch


class History(Callback):
    """The results of the whole epochs of a run, which `fit` returns.

    ``history["val_loss"]`` is a list with one number for each epoch. The names are ``loss`` and the loss's metrics
    (``accuracy``), the same with ``val_`` where there is validation data, ``learning_rate`` (of the last step), and
    ``seconds``.

    Attributes
    ----------
    rows : list of dict
        One dict of results for each epoch.
    interrupted : bool
        Whether Ctrl-C ended the run; then model, optimizer and history are those of the last whole epoch.
    stopped : str or None
        Why the run ended before its last epoch, where a callback ended it.

    Examples
    --------
    >>> history = History()
    >>> history.rows += [{"loss": 0.5, "accuracy": 0.8}, {"loss": 0.4, "accuracy": 0.7}]
    >>> history["loss"], len(history), history.best("accuracy")
    ([0.5, 0.4], 2, (1, 0.8))
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.interrupted = False
        self.stopped: str | None = None

    def __len__(self) -> int:
        """Return the number of whole epochs."""
        return len(self.rows)

    def keys(self) -> list[str]:
        """Return the names of the results, in the order in which they appeared."""
        return list(dict.fromkeys(key for row in self.rows for key in row))

    def __contains__(self, key: object) -> bool:
        return key in self.keys()

    def __getitem__(self, key: str) -> list[float]:
        if key not in self:
            raise KeyError(f"{key!r}; the history has {', '.join(map(repr, self.keys())) or 'no epoch yet'}")
        return [row.get(key, float("nan")) for row in self.rows]

    def best(self, key: str, *, mode: str | None = None) -> tuple[int, float]:
        """Return the epoch (from 1) with the best value, and the value; `mode` is as for `EarlyStopping`."""
        watch, found = Watch(key, mode), 0
        for epoch, value in enumerate(self[key], start=1):
            if watch.see({key: value}):
                found = epoch
        if watch.best is None:
            raise ValueError(f"no epoch has a value of {key!r} that is a number")
        return found, watch.best

    def on_epoch_end(self, run: Run) -> None:
        # the very dict: what another callback adds to the logs of this epoch is in the history as well
        self.rows.append(run.logs)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": [dict(row) for row in self.rows]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows = [dict(row) for row in state["rows"]]

    def __repr__(self) -> str:
        last = ", ".join(f"{key}={value:.4g}" for key, value in (self.rows[-1] if self.rows else {}).items())
        end = " interrupted" if self.interrupted else f" stopped: {self.stopped}" if self.stopped else ""
        return f"<History of {len(self)} epochs{end}; last: {last}>" if self.rows else f"<History of no epoch{end}>"


class CSVLogger(Callback):
    """Write the history to a CSV file after every epoch: a column ``epoch`` from 1, and one for each result.

    The file is written as a whole each time, so it says the same as the history after a resumption or an interruption
    too.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def on_snapshot(self, run: Run) -> None:
        self._write(run.history)

    def on_train_end(self, run: Run) -> None:
        if len(run.history):
            self._write(run.history)

    def _write(self, history: History) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, ["epoch", *history.keys()], restval="", lineterminator="\n")
        writer.writeheader()
        for epoch, row in enumerate(history.rows, start=1):
            writer.writerow({"epoch": epoch, **row})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, text.getvalue().encode())
