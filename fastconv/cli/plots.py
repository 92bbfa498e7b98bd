"""Plots of a training run, as PNG files: learning curves, confusion matrix, a sheet of images with their predictions.

matplotlib is imported when something is drawn, and used without pyplot: no window, no global state. Right and wrong are
told apart by words and frames as well as by color.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which people with any color vision can tell apart
BLUE, ORANGE, VERMILLION, INK, FAINT = "#0072b2", "#e69f00", "#d55e00", "#222222", "#d9d9d9"

#: More classes than this and the numbers in the confusion matrix would not be readable.
MOST_CLASSES_WITH_NUMBERS = 20

#: More classes than this and their names would overlap.
MOST_CLASSES_WITH_NAMES = 60

COLUMNS = 8


def available() -> bool:
    """Return whether matplotlib is installed; it is not imported."""
    return find_spec("matplotlib") is not None


def learning_curves(history: Mapping[str, Sequence[float]], path: str | Path) -> None:
    """Draw loss and accuracy after each epoch to the PNG file `path`.

    `history` maps ``loss``, ``accuracy`` and the same with ``val_`` to one number per epoch; what is missing is left out.
    """
    figure = _figure(9.4, 3.6)
    figure.get_layout_engine().set(wspace=0.08)  # type: ignore[union-attr,call-arg]
    for axes, name, title in zip(figure.subplots(1, 2), ("loss", "accuracy"), ("Loss", "Accuracy"), strict=True):
        scale = 100.0 if name == "accuracy" else 1.0
        unit = " %" if name == "accuracy" else ""
        for key, label, color in ((name, "training", BLUE), (f"val_{name}", "test", ORANGE)):
            values = np.asarray(history.get(key, ()), dtype=float) * scale
            if not values.size:
                continue
            epochs = np.arange(1, values.size + 1)
            digits = 1 if unit else 3
            text = f"{label}  {values[-1]:.{digits}f}{unit}"
            axes.plot(epochs, values, color=color, marker="o", markersize=3.5, linewidth=1.8, label=text)
        _clean(axes)
        axes.set_title(title, loc="left", fontweight="bold")
        axes.set_xlabel("epoch")
        if unit:
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g} %")
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        if axes.lines:
            axes.legend(frameon=False, loc="upper right" if name == "loss" else "lower right")
    _save(figure, path)


def confusion_matrix(counts: np.ndarray, classes: Sequence[str], path: str | Path) -> None:
    """Draw how often each true class (rows) was taken for each class (columns) to the PNG file `path`.

    `counts` is ``(classes, classes)``, integers. Colors are shares of the row; the numbers are images.
    """
    total = counts.sum(axis=1, keepdims=True)
    share = counts / np.maximum(total, 1)
    n = len(classes)
    side = min(4.0 + 0.42 * n, 16.0)
    figure = _figure(side + 1.2, side)
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_xlabel("predicted", labelpad=8)
    axes.set_ylabel("true", labelpad=8)
    accuracy = counts.trace() / max(counts.sum(), 1)
    axes.set_title(f"{accuracy:.1%} of {counts.sum():,} test images correct", loc="left", fontweight="bold", pad=12)
    if n <= MOST_CLASSES_WITH_NAMES:
        small = 9.0 if n <= MOST_CLASSES_WITH_NUMBERS else 6.0
        axes.set_xticks(
            range(n),
            [_short(name) for name in classes],
            rotation=45,
            ha="right",
            rotation_mode="anchor",
            fontsize=small,
        )
        axes.set_yticks(range(n), [_short(name) for name in classes], fontsize=small)
    axes.tick_params(length=0)
    for edge in axes.spines.values():
        edge.set_visible(False)
    if n <= MOST_CLASSES_WITH_NUMBERS:
        axes.set_xticks(np.arange(n + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(n + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=1.5)
        axes.tick_params(which="minor", length=0)
        for (row, column), count in np.ndenumerate(counts):
            if count:
                color = "white" if share[row, column] > 0.55 else INK
                weight = "bold" if row == column else "normal"
                axes.text(column, row, f"{count}", ha="center", va="center", color=color, fontsize=9, fontweight=weight)
        # the share of each class that was recognized, at the end of its row
        for row in range(n):
            text = f"{share[row, row]:.0%}" if total[row, 0] else "none"
            axes.text(n - 0.3, row, text, ha="left", va="center", fontsize=9, color=INK)
        axes.text(n - 0.3, -0.75, "recall", ha="left", va="center", fontsize=9, color=INK)
    _save(figure, path)


def prediction_sheet(
    images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str], path: str | Path
) -> None:
    """Draw test images and their predictions to the PNG file `path`.

    The upper rows are spread evenly over the test set; the lower rows are the mistakes that the network was most confident of.
    A wrong prediction has a frame, and the true class below it.

    `images` ``(N, H, W, 1 or 3)``, floats from 0 to 1; `labels` ``(N,)`` integers; `probabilities` ``(N, classes)``.
    """
    predicted = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][: 2 * COLUMNS]
    count = min(len(labels), (6 if worst.size == 0 else 4) * COLUMNS)
    sample = np.linspace(0, len(labels) - 1, count).round().astype(int)

    blocks = [("Test images, with the prediction and its probability", sample)]
    if worst.size:
        blocks.append(("The most confident mistakes", worst))
    rows = [-(-len(chosen) // COLUMNS) for _, chosen in blocks]
    figure = _figure(1.45 * COLUMNS, 1.85 * sum(rows) + 0.75 * len(blocks) + 0.35)
    halves = np.atleast_1d(np.asarray(figure.subfigures(len(blocks), 1, height_ratios=[1.85 * n + 0.75 for n in rows])))
    for half, (title, chosen), n_rows in zip(halves, blocks, rows, strict=True):
        half.suptitle(title, x=0.012, ha="left", fontweight="bold", fontsize=12)
        grid = half.subplots(n_rows, COLUMNS, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for axes, index in zip(grid.flat, chosen, strict=False):
            right = predicted[index] == labels[index]
            axes.set_axis_on()
            axes.set(xticks=[], yticks=[])
            axes.imshow(_viewable(images[index]), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            for edge in axes.spines.values():
                edge.set(color=FAINT if right else VERMILLION, linewidth=1.0 if right else 2.5)
            said = f"{_short(classes[predicted[index]])} {confidence[index]:.0%}"
            axes.set_title(
                said, fontsize=8.5, color=INK if right else VERMILLION, fontweight="normal" if right else "bold", pad=4
            )
            if not right:
                axes.set_xlabel(f"true: {_short(classes[labels[index]])}", fontsize=8.5, color=INK, labelpad=3)
    _save(figure, path)


def _viewable(image: np.ndarray) -> np.ndarray:
    """Return an image that matplotlib can show: ``(H, W)`` or ``(H, W, 3)``, clipped to 0..1."""
    image = np.clip(np.nan_to_num(np.asarray(image, dtype=np.float64)), 0.0, 1.0)
    return image if image.shape[-1] == 3 else image[..., 0]


def _short(name: str, most: int = 14) -> str:
    # a dollar sign would start matplotlib's mathematics
    return (name if len(name) <= most else name[: most - 1] + "…").replace("$", r"\$")


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'fastconv[plot]'") from error
    return Figure(figsize=(width, height), dpi=130, layout="constrained", facecolor="white")


def _save(figure: Figure, path: str | Path) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # names in letters that the font lacks have boxes in their places
        figure.savefig(path, format="png", bbox_inches="tight", pad_inches=0.2)


def _clean(axes: Axes | Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelcolor=INK)
