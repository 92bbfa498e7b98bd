"""``python -m benchmarks memory``: the peak memory of a training step, each library and network in a fresh process."""

from __future__ import annotations

import argparse
import resource
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from benchmarks import report
from benchmarks.case import Case, Engine
from benchmarks.cases import NETWORKS
from benchmarks.turns import environment, prepare, variables

STEPS = 3  # from the second on the optimizer has its state, and an allocator its pools


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument("--batch", type=int, default=64, metavar="N", help="images of a step (64)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of a process (1)")
    parser.add_argument("--size", type=int, help="pixels of a side, instead of what the network was made for")


def run(options: argparse.Namespace) -> None:
    """Measure and print MB: the process when the model stands, its peak after the steps, and what the steps added."""
    engines = [Engine("fastconv"), Engine("torch", "contiguous"), Engine("torch", "channels_last")]
    rows = []
    for case in networks(options.batch, options.size):
        for engine in engines:
            before, peak = alone(engine._replace(threads=options.threads), case)
            rows.append(
                (str(case), f"{engine.library} {engine.layout}", *(f"{v:.0f}" for v in (before, peak, peak - before)))
            )
    print(f"peak resident memory of {STEPS} training steps, MB\n")
    print(report.table(("network", "library", "before", "peak", "added"), rows))


def networks(batch: int, size: int | None) -> list[Case]:
    """Return the whole networks of the table of cases."""
    layers = [layer for network in NETWORKS for layer in network.layers if layer.op == "network"]
    return [
        Case(**{**vars(layer), "batch": batch, "size": (size, size) if size else layer.size})  # the rest is the table's
        for layer in layers
    ]


def alone(engine: Engine, case: Case) -> tuple[float, float]:
    """Return `step_memory` of a fresh process."""
    with environment(variables(engine)), ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(step_memory, engine, case).result()


def step_memory(engine: Engine, case: Case) -> tuple[float, float]:
    """Return the MB of this process before the first step, and its peak after `STEPS`."""
    call = prepare(engine, case, "step")
    assert call is not None
    before = resident()
    for _ in range(STEPS):
        call()
    return before, max(resident(), peak())


def resident() -> float:
    """Return the MB that this process has in memory now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 1e6


def peak() -> float:
    """Return the MB that this process had in memory at most; unlike `getrusage` it does not count the parent's."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6
