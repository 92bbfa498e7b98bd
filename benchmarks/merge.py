"""``python -m benchmarks report``: tables and a chart again, from the JSON of one or several runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks import report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument("files", type=Path, nargs="+", help="JSON files; of results for the same case the last counts")
    parser.add_argument("--output", type=Path, metavar="NAME", help="write NAME.json, NAME.md and NAME.png")
    parser.add_argument("--worst", type=int, default=0, metavar="N", help="print the N lowest ratios too")


def run(options: argparse.Namespace) -> None:
    """Print the groups, and write what was asked for."""
    merged: dict[tuple[str, str, str, int], report.Result] = {}
    machines = []
    for path in options.files:
        results, machine = report.load(path)
        merged |= {result.key: result for result in results}
        machines.append(machine)
    if any(machine != machines[0] for machine in machines):
        raise SystemExit(f"these were measured differently: {machines}")
    results = list(merged.values())
    report.show(results, options.worst)
    if options.output:
        report.write(options.output, results, machines[0])
