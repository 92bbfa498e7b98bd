"""The chart of a report: ratios as bars, one for each row and each series of it, with their targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

# Okabe and Ito's palette, which people with any color vision can tell apart
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
INK, FAINT = "#222222", "#d9d9d9"


class Bar(NamedTuple):
    """How fast something is beside the others, in which row and series it stands, and what it should be."""

    row: str
    series: str
    ratio: float
    target: float | None = None


def draw(path: Path, bars: Sequence[Bar], titles: Mapping[str, str], label: str) -> None:
    """Draw `bars` to a PNG file, rows in the order of `titles`, which has their names; `label` says what a ratio is."""
    from matplotlib.figure import Figure

    rows, series = list(titles), list(dict.fromkeys(bar.series for bar in bars))
    height = 0.8 / max(len(series), 1)
    figure = Figure(figsize=(9, 1.4 + 0.21 * len(rows) * (len(series) + 1)), layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    beside = axes.get_yaxis_transform()  # at the right edge, where no bar and no target is
    for i, name in enumerate(series):
        drawn = [bar for bar in bars if bar.series == name]
        places = [rows.index(bar.row) + (i + 0.5) * height - 0.4 for bar in drawn]
        axes.barh(places, [bar.ratio for bar in drawn], height, color=COLORS[i % len(COLORS)], label=name)
        for at, bar in zip(places, drawn, strict=True):
            axes.text(1, at, f" {bar.ratio:.2f}", transform=beside, va="center", fontsize=7.5, color=INK)
            if bar.target is not None:
                ends = [at - height / 2, at + height / 2]
                axes.plot([bar.target, bar.target], ends, color="white", linewidth=4)
                axes.plot([bar.target, bar.target], ends, color="black", linewidth=2)
    axes.axvline(1, color=INK, linewidth=0.8)
    axes.set_yticks(range(len(rows)), titles.values())
    axes.set_ylim(len(rows) - 0.4, -0.6)  # the first on top
    axes.set_xlim(0, 1.03 * max([1.0, *(max(bar.ratio, bar.target or 0) for bar in bars)]))
    axes.set_xlabel(f"{label}; black: target")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    if series:
        axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(series), borderaxespad=0)
    figure.savefig(path, dpi=120)
