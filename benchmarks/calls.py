"""``python -m benchmarks calls``: what a call costs before it computes: every operation on an input of a few numbers."""

from __future__ import annotations

import argparse

from benchmarks import compare, report
from benchmarks.cases import activation, average, conv, linear, norm, pool, up
from benchmarks.groups import Task, ways_of

#: One image of 4x4 pixels with 4 channels: at most a few thousand multiply-adds, less than a microsecond's work.
TINY = (
    conv(4, 4, 4),
    conv(4, 4, 4, 1),
    conv(4, 4, 4, groups=4),
    up(4, 4, 4, 2),
    linear(4, 4),
    pool(4, 4),
    pool(4, 4, op="avg_pool"),
    average(4, 4),
    norm(4, 4),
    activation("relu", 4, 4),
    activation("gelu", 4, 4),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    compare.add_measuring_arguments(parser)
    parser.set_defaults(threads=[1])


def run(options: argparse.Namespace) -> None:
    """Measure and print microseconds of a call."""
    results = []
    for threads in options.threads:
        with compare.turns_of(options, threads) as turns:
            for case in TINY:
                for way in ways_of(case):
                    results.append(compare.measured(turns, "calls", Task(case, way), options))
        rows = [
            (r.case, r.way, f"{1e6 * r.ours:.1f}", f"{1e6 * r.theirs:.1f}", f"{1e6 * (r.ours - r.theirs):+.1f}")
            for r in results
            if r.threads == threads
        ]
        print(f"\n{threads} thread(s), microseconds of a call\n")
        print(report.table(("case", "pass", "ours", "others' best", "difference"), rows))
    if options.output:
        report.save(options.output.with_suffix(".json"), results, compare.facts_of(options))
