"""``python -m benchmarks cases``: layers and networks against PyTorch's better memory format, a table for each group.

The alternatives can be fastconv itself: ``--dtype float64`` compares with float32, ``--isa baseline --against avx2`` with
another instruction set. Long runs can be cut into pieces: ``--output NAME --resume --limit SECONDS`` goes on where the last
run stopped.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

from benchmarks import machine, report
from benchmarks.case import Engine
from benchmarks.cases import BATCHES, NETWORKS
from benchmarks.groups import BY_NAME, PASSES, Task, select
from benchmarks.turns import ISA_VARIABLES, PAUSE, SLOW, Timing, Turns
from fastconv.engines.worker import WARM_UP, WARM_UP_SECONDS

QUICK_CASES = 5  # of each group
QUICK_OPERATIONS = 1e10  # of a call, at most

#: For the estimate of a run's time alone: what a core does, and what preparing arrays costs.
SECONDS_PER_OPERATION = 1 / 60e9
SECONDS_PER_BYTE = 1 / 5e9
SECONDS_PER_ELEMENT = 5e-9


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    groups = f"of {', '.join(BY_NAME)}; all unless some are named"
    parser.add_argument("--groups", nargs="+", choices=list(BY_NAME), default=[], metavar="GROUP", help=groups)
    names = [network.name for network in NETWORKS]
    parser.add_argument(
        "--networks", nargs="+", choices=names, default=[], metavar="NAME", help=f"of {', '.join(names)}"
    )
    parser.add_argument(
        "--batches",
        type=int,
        nargs="+",
        default=None,
        metavar="N",
        help=f"images of a call ({' '.join(map(str, BATCHES))})",
    )
    passes = f"of {', '.join(PASSES)}; those with a target unless some are named"
    parser.add_argument("--passes", nargs="+", choices=PASSES, default=[], metavar="PASS", help=passes)
    parser.add_argument("--quick", action="store_true", help="few cases of each group, in about five minutes")
    add_measuring_arguments(parser)
    parser.add_argument("--resume", action="store_true", help="keep what NAME.json has and measure the rest")
    parser.add_argument("--limit", type=float, metavar="SECONDS", help="stop before the run has taken so long")
    parser.add_argument("--dry-run", action="store_true", help="say what would run and how long")


def add_measuring_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how to measure and against what, for every command that compares cases."""
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], metavar="N", help="each in turn (1 2)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="turns of each library, for each case (3)")
    parser.add_argument("--seconds", type=float, default=0.1, metavar="S", help="of a turn, at least one call (0.1)")
    parser.add_argument("--cold", action="store_true", help="empty the caches before each call; the default is warm")
    parser.add_argument("--isa", choices=list(ISA_VARIABLES), help="hold both sides to an instruction set")
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32", help="of all arrays (float32)")
    against = ["torch", "float32", *ISA_VARIABLES]
    parser.add_argument("--against", choices=against, help="PyTorch, or fastconv in another dtype or instruction set")
    parser.add_argument("--statistic", choices=["median", "least"], default="median", help="of a case's calls (median)")
    parser.add_argument("--output", type=Path, metavar="NAME", help="write NAME.json, and what else the command has")


def run(options: argparse.Namespace) -> None:
    """Measure, print, write."""
    start = time.perf_counter()
    selected = selection(options)
    results: list[report.Result] = []
    facts = facts_of(options)
    if options.output and options.resume and options.output.with_suffix(".json").exists():
        results, before = report.load(options.output.with_suffix(".json"))
        if before != facts:
            raise SystemExit(f"{options.output}.json was measured elsewhere ({before}); leave out --resume")
    done = {result.key for result in results}
    for threads in options.threads:
        tasks = [
            (group, task)
            for group, members in selected.items()
            for task in members
            if (group, str(task.case), task.way, threads) not in done
        ]
        expected = sum(estimate(task, options, threads) for _, task in tasks)
        print(f"\n{len(tasks)} cases on {threads} thread(s), about {duration(expected)}", flush=True)
        if tasks and not options.dry_run:
            measure(tasks, threads, options, start, results)
    if options.dry_run or not results:
        return
    report.show(results)
    if options.output:
        report.write(options.output, results, facts)


def selection(options: argparse.Namespace) -> dict[str, list[Task]]:
    """Return the tasks of each group."""
    return select(
        options.groups,
        networks=options.networks,
        batches=options.batches or BATCHES,
        ways=options.passes,
        most=QUICK_CASES if options.quick else None,
        operations=QUICK_OPERATIONS if options.quick else math.inf,
    )


def engines(options: argparse.Namespace, threads: int) -> list[Engine]:
    """Return fastconv first, then what it is compared with."""
    ours = Engine("fastconv", dtype=options.dtype, isa=options.isa, threads=threads)
    against = rival(options)
    if against == "torch":
        return [ours, *(ours._replace(library="torch", layout=layout) for layout in ("contiguous", "channels_last"))]
    return [ours, ours._replace(dtype="float32") if against == "float32" else ours._replace(isa=against)]


def rival(options: argparse.Namespace) -> str:
    """Return what fastconv is compared with: PyTorch, unless float64 is asked for or something else is named."""
    return options.against or ("torch" if options.dtype == "float32" else "float32")


def facts_of(options: argparse.Namespace) -> dict[str, str]:
    """Return the machine and what is compared on it."""
    facts = machine.describe(options.isa, options.dtype, rival(options))
    return facts | {"caches": "emptied before each call"} if options.cold else facts


def turns_of(options: argparse.Namespace, threads: int) -> Turns:
    """Return the processes that measure as these options say."""
    return Turns(engines(options, threads), rounds=options.rounds, seconds=options.seconds, cold=options.cold)


def measure(
    tasks: list[tuple[str, Task]],
    threads: int,
    options: argparse.Namespace,
    start: float,
    results: list[report.Result],
) -> None:
    """Measure tasks until the time is over, and append to the results."""
    with turns_of(options, threads) as turns:
        peak, bandwidth = machine.yardsticks(turns)
        print(f"peak {peak / 1e9:.0f} GFLOP/s on registers alone, copy {bandwidth / 1e9:.1f} GB/s")
        last = ""
        for group, task in tasks:
            if (
                options.limit is not None
                and time.perf_counter() - start + estimate(task, options, threads) > options.limit
            ):
                print("the time is over: run again with --resume for the rest")
                break
            if group != last:
                print(f"\n{BY_NAME[group].title}", flush=True)
                last = group
            result = measured(turns, group, task, options)._replace(peak=peak, bandwidth=bandwidth)
            results.append(result)
            case, way, mine, theirs, rate, share, ratio = report.row(result)
            print(f"{case:<48} {way:<15} {mine:>7} {theirs:>10} {rate:>12} {share:>6} {ratio:>7}", flush=True)
            if options.output:
                report.save(options.output.with_suffix(".json"), results, facts_of(options))


def measured(turns: Turns, group: str, task: Task, options: argparse.Namespace) -> report.Result:
    """Return what the libraries take for a task; the first is ours."""
    timings = turns.measure(task.case, task.way)
    ours, *others = turns.engines
    return report.Result(
        *(group, str(task.case), task.way, ours.threads, task.case.networks),
        seconds(timings[ours], options),
        {label(engine): seconds(timings[engine], options) for engine in others if engine in timings},
        *(task.case.operations(task.way), task.case.bytes(task.way, 4 if ours.dtype == "float32" else 8)),
        dtype=ours.dtype,
        isa=machine.instruction_set(ours.isa),
        against=rival(options),
    )


def seconds(timing: Timing, options: argparse.Namespace) -> float:
    """Return what counts of a timing."""
    return timing.median if options.statistic == "median" else timing.least


def label(engine: Engine) -> str:
    """Return how a table names an alternative."""
    return engine.layout if engine.library == "torch" else f"{engine.dtype} {engine.isa or ''}".strip()


def estimate(task: Task, options: argparse.Namespace, threads: int) -> float:
    """Return the seconds that a task may take, roughly."""
    case, way = task
    call = case.operations(way) * SECONDS_PER_OPERATION / threads + case.bytes(way) * SECONDS_PER_BYTE
    elements = case.batch * (case.channels + case.outputs)
    for n in case.size:
        elements *= n
    if call > SLOW:
        took = call * (1 + min(2, options.rounds))
    else:
        took = options.rounds * (max(options.seconds, call) + max(call, min(WARM_UP * call, WARM_UP_SECONDS)) + PAUSE)
    return len(engines(options, threads)) * (took + 2 * elements * SECONDS_PER_ELEMENT)


def duration(seconds: float) -> str:
    """Write seconds as minutes and seconds.

    >>> duration(75.2)
    '1:15 min'
    """
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"
