"""The chart of a frozen model: a bar for the time of each step."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastconv.frozen.explanation import Explanation

# Okabe and Ito's palette, which people with any color vision can tell apart
BLUE, ORANGE, INK, FAINT = "#0072b2", "#e69f00", "#222222", "#d9d9d9"

#: Characters of a label at most.
LONGEST = 60


def draw(explanation: Explanation, path: str | os.PathLike[str]) -> None:
    """Draw `explanation` to the PNG file `path`; matrix products and the rest differ in color."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("a chart needs matplotlib: pip install 'fastconv[plot]'") from error
    steps = explanation.steps[::-1]  # the first on top
    figure = Figure(figsize=(10, 1.4 + 0.26 * len(steps)), dpi=130, layout="constrained", facecolor="white")
    axes = figure.subplots()
    for kind, color, chosen in (
        ("matrix products, with their share of the peak", BLUE, [step.of_peak is not None for step in steps]),
        ("other steps", ORANGE, [step.of_peak is None for step in steps]),
    ):
        places = [at for at, wanted in enumerate(chosen) if wanted]
        if places:
            axes.barh(places, [steps[at].seconds * 1e6 for at in places], color=color, label=kind)
    for at, step in enumerate(steps):
        said = step.algorithm if step.of_peak is None else f"{step.algorithm}, {step.of_peak:.0%}"
        axes.annotate(
            said,
            (step.seconds * 1e6, at),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=7.5,
            color=INK,
        )
    axes.set_yticks(
        range(len(steps)), [_short(" + ".join(step.layers) or step.operation) for step in steps], fontsize=7.5
    )
    axes.set_ylim(-0.7, len(steps) - 0.3)
    axes.margins(x=0.3)
    axes.set_xlabel("microseconds")
    axes.set_title(
        f"{explanation.seconds * 1e6:,.0f} us a call, {explanation.threads} thread{'s' if explanation.threads > 1 else ''}",
        loc="left",
        fontweight="bold",
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    if steps:
        axes.legend(frameon=False, fontsize=8, loc="lower right")
    figure.savefig(path, format="png")


def _short(label: str) -> str:
    # a dollar sign would start matplotlib's mathematics
    return (label if len(label) <= LONGEST else label[: LONGEST - 1] + "…").replace("$", r"\$")
