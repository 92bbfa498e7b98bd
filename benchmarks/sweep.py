"""``python -m benchmarks sweep``: how the time of a 3x3 convolution grows with the image, the channels and the batch."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from benchmarks import compare, machine, report
from benchmarks.bars import COLORS
from benchmarks.case import Case
from benchmarks.cases import conv
from benchmarks.groups import Task

#: What grows -> its values, and the case for each; odd sizes are what users have too.
SWEEPS: dict[str, list[tuple[int, Case]]] = {
    "pixels of a side": [(n, replace(conv(n, 64, 64), batch=4)) for n in (4, 7, 10, 14, 20, 28, 40, 56, 80, 112)],
    "channels": [(n, replace(conv(28, n, n), batch=4)) for n in (1, 3, 6, 10, 16, 20, 32, 48, 64, 100, 128, 256, 512)],
    "batch": [(n, replace(conv(28, 64, 64), batch=n)) for n in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)],
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument("--passes", nargs="+", choices=["forward", "backward"], default=["forward", "backward"])
    compare.add_measuring_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Measure, print a table, draw lines."""
    results: list[report.Result] = []
    for threads in options.threads:
        with compare.turns_of(options, threads) as turns:
            peak, bandwidth = machine.yardsticks(turns)
            for name, cases in SWEEPS.items():
                rows = []
                for _, case in cases:
                    for way in options.passes:
                        result = compare.measured(turns, name, Task(case, way), options)
                        results.append(result._replace(peak=peak, bandwidth=bandwidth))
                        rows.append(report.row(results[-1]))
                print(f"\n{name}, {threads} thread(s)\n\n{report.table(report.HEADER, rows)}", flush=True)
    if options.output:
        facts = compare.facts_of(options)
        report.save(options.output.with_suffix(".json"), results, facts)
        chart(options.output.with_suffix(".png"), results)


def chart(path: Path, results: list[report.Result]) -> None:
    """Draw times over what grows, a panel for each sweep and pass: whole lines are ours, broken ones the others' best."""
    from matplotlib.figure import Figure

    ways = sorted({result.way for result in results}, reverse=True)
    figure = Figure(figsize=(4 * len(SWEEPS), 3.2 * len(ways)), layout="constrained")
    panels = figure.subplots(len(ways), len(SWEEPS), squeeze=False)
    for line, way in zip(panels, ways, strict=True):
        for axes, (name, cases) in zip(line, SWEEPS.items(), strict=True):
            for i, threads in enumerate(report.counts(results)):
                found = {r.case: r for r in results if (r.group, r.way, r.threads) == (name, way, threads)}
                points = [(n, found[str(case)]) for n, case in cases if str(case) in found]
                at = [n for n, _ in points]
                text = f"{threads} thread{'s' * (threads > 1)}"
                for said, style, seconds in (("fastconv", "-o", "ours"), ("others' best", "--", "theirs")):
                    times = [1e3 * getattr(result, seconds) for _, result in points]
                    axes.loglog(at, times, style, color=COLORS[i], markersize=3, label=f"{said}, {text}")
            axes.set_xlabel(name)
            axes.set_ylabel(f"{way}, ms")
    panels[0][0].legend(fontsize="small")
    figure.savefig(path, dpi=120)
