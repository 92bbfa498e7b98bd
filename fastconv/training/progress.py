"""The progress of `fit` and `evaluate`: a bar on a terminal, one line per epoch elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from typing import Any, TextIO

from fastconv.training.callback import Callback
from fastconv.training.run import Run

#: Seconds between two updates of the numbers beside the bar.
_OFTEN = 0.1

#: Results that are not news beside the bar.
_QUIET = ("seconds", "learning_rate")


class Progress(Callback):
    """Show the training: on a terminal a bar for each epoch with the results so far, the time left in the epoch and in
    all; elsewhere (a file, a pipe, a notebook) one line for each epoch.

    Parameters
    ----------
    file : text stream, optional
        Where to; standard output if left out.
    """

    def __init__(self, file: TextIO | None = None) -> None:
        self.file = sys.stdout if file is None else file
        self._bar: Any = None
        self._shown = 0.0
        self._began = 0.0
        self._first = 0

    def on_train_begin(self, run: Run) -> None:
        self._began = 0.0

    def on_epoch_begin(self, run: Run) -> None:
        if not self._began:
            self._began, self._first = time.perf_counter(), run.epoch
        if _is_terminal(self.file):
            self._bar = _bar(self.file, run.steps_per_epoch, _title(run))

    def on_batch_end(self, run: Run) -> None:
        if self._bar is None:
            return
        self._bar.update()
        now = time.perf_counter()
        if now - self._shown >= _OFTEN:
            self._shown = now
            self._bar.set_postfix_str(f"{_results(run.logs)}{self._left(run, now)}", refresh=False)

    def on_epoch_end(self, run: Run) -> None:
        if self._bar is not None:
            self._bar.set_postfix_str(_results(run.logs), refresh=False)
            self._close()
        else:
            self._say(f"{_title(run)}  {_results(run.logs)}  {run.logs['seconds']:.1f} s")

    def on_train_end(self, run: Run) -> None:
        self._close()
        if run.history.interrupted:
            self._say(f"interrupted: the model is as it was after epoch {len(run.history)}")
        elif run.stopped is not None:
            self._say(f"stopped: {run.stopped}")

    def _left(self, run: Run, now: float) -> str:
        """Return the time left until the last epoch ends, where that is not the one that the bar counts already."""
        if run.epoch == run.epochs:
            return ""
        done = run.epoch - self._first + run.step / run.steps_per_epoch
        return f", all {_clock((now - self._began) / done * (run.epochs - self._first + 1 - done))}"

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _say(self, line: str) -> None:
        print(line, file=self.file, flush=True)


def _bar(file: TextIO, steps: int, title: str) -> Any:
    from tqdm import tqdm  # type: ignore[import-untyped]

    class Bar(tqdm):
        # no thread that watches for slow bars: after a Ctrl-C inside tqdm it would wait for tqdm's lock, and the exit for it
        monitor_interval = 0

    # asked for here, because tqdm shows nothing on a terminal that calls itself 0 rows high (a container's may)
    columns, rows = shutil.get_terminal_size()
    return Bar(
        total=steps,
        miniters=1,
        desc=title,
        file=file,
        ncols=columns,
        nrows=rows,
        bar_format="{desc}: {percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]",
    )


def _is_terminal(file: TextIO) -> bool:
    return hasattr(file, "isatty") and file.isatty()


def _title(run: Run) -> str:
    return f"epoch {run.epoch:{len(str(run.epochs))}d}/{run.epochs}"


def _results(logs: dict[str, float]) -> str:
    return ", ".join(f"{key} {value:.4f}" for key, value in logs.items() if key not in _QUIET)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
