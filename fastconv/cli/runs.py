"""The folder that a training run writes, and the files in it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from fastconv.saving import write_atomically

#: Where runs go that were given no folder.
RUNS = Path("runs")


class Run:
    """One run's folder.

    Attributes
    ----------
    folder, model, checkpoint, history, options, learning_curves, confusion_matrix, predictions : pathlib.Path
        ``model.safetensors`` is the trained network; ``checkpoint.safetensors`` has what resuming needs beside it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = folder / "model.safetensors"
        self.checkpoint = folder / "checkpoint.safetensors"
        self.history = folder / "history.csv"
        self.options = folder / "options.json"
        self.learning_curves = folder / "learning_curves.png"
        self.confusion_matrix = folder / "confusion_matrix.png"
        self.predictions = folder / "predictions.png"

    def files(self) -> list[tuple[str, Path]]:
        """Return what each file is, and its path, in the order in which a reader wants them."""
        return [
            ("model", self.model),
            ("learning curves", self.learning_curves),
            ("confusion matrix", self.confusion_matrix),
            ("test images", self.predictions),
            ("history", self.history),
            ("options", self.options),
            ("checkpoint", self.checkpoint),
        ]

    def write_options(self, options: dict[str, Any]) -> None:
        """Write the options as JSON."""
        write_atomically(self.options, (json.dumps(options, indent=2) + "\n").encode())

    def read_options(self) -> dict[str, Any]:
        """Return the options; raise `ValueError` where the file holds something else."""
        try:
            options = json.loads(self.options.read_bytes())
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{self.options} is not the JSON that `fastconv train` wrote: {error}") from error
        if not isinstance(options, dict):
            raise ValueError(f"{self.options} is not the JSON that `fastconv train` wrote: it holds no object")
        return options


def new_run(out: str | None, *, force: bool) -> Run:
    """Make the folder of a new run: `out`, or one named after the time under ``runs/``.

    Raises `FileExistsError` for a folder with something in it unless `force` is set, which lets the run write over an earlier
    run's files there; other files stay.
    """
    if out is None:
        return Run(_make_dated(RUNS))
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"--out {folder} is a file, not a folder")
    if folder.is_dir() and any(folder.iterdir()) and not force:
        raise FileExistsError(
            f"--out {folder} is not empty: choose another folder, continue its run with --resume {folder}, "
            "or overwrite its run with --force"
        )
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(folder)
    for _, path in run.files():
        path.unlink(missing_ok=True)
    return run


def find_run(folder: str | None) -> Run:
    """Return the run to continue: that of `folder`, or the newest under ``runs/``; raise `FileNotFoundError` for none."""
    if folder is not None:
        run = Run(Path(folder))
        if not run.options.is_file():
            raise FileNotFoundError(f"{folder} is not the folder of a run: it has no {run.options.name}")
        if not run.checkpoint.is_file():
            raise FileNotFoundError(
                f"{folder} has no {run.checkpoint.name}: its run stopped before the end of an epoch; start again"
            )
        return run
    runs = [Run(path.parent) for path in RUNS.glob("*/checkpoint.safetensors")]
    if not runs:
        raise FileNotFoundError(f"there is no run to continue under {RUNS}/: name its folder, --resume FOLDER")
    return max(runs, key=lambda run: run.checkpoint.stat().st_mtime)


def model_file(path: str) -> Path:
    """Return the model file that `path` means: itself, or that of a run's folder."""
    given = Path(path)
    if given.is_dir():
        given = Run(given).model
    if not given.is_file():
        raise FileNotFoundError(f"there is not a model file {given}")
    if given.suffix.lower() == ".onnx":
        raise ValueError(
            f"{given} is an ONNX file: `fastconv run`, `bench`, `freeze` and `summary` take it, and fastconv.onnx.load makes a "
            "model of it"
        )
    return given


def _make_dated(parent: Path) -> Path:
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
    for suffix in range(1, 1000):
        folder = parent / (stamp if suffix == 1 else f"{stamp}_{suffix}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:  # another run of the same second
            continue
        return folder
    raise FileExistsError(f"{parent} has a thousand runs of this second")
