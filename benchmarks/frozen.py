"""``python -m benchmarks frozen``: built-in networks as they are, and frozen: microseconds of a call, bytes between steps."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks import report

#: Name, image, batches.
NETWORKS = (
    ("lenet", (28, 28, 1), (1,)),
    ("cnn-small", (28, 28, 1), (1,)),
    ("resnet20", (32, 32, 3), (1, 8)),
    ("mobilenet-small", (32, 32, 3), (1, 8)),
    ("vgg-small", (32, 32, 3), (1, 8)),
)

#: Rounds of either, in turn; the best median counts, since other work only ever adds.
ROUNDS = 3

HEADER = (
    "network",
    "image, batch",
    "threads",
    "model, us",
    "frozen, us",
    "faster",
    "not kernels, us",
    "arena, KB",
    "apart, KB",
)


class Measured(NamedTuple):
    """Microseconds of a call, of one that is frozen, of that outside of kernels; bytes of the arena, and without one."""

    model: float
    frozen: float
    overhead: float
    arena: int
    apart: int


def median_of(function: Callable[[], Any], seconds: float) -> float:
    """Return the median microseconds of a call, of as many as fit into `seconds`, at least three."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 3:
        begun = time.perf_counter()
        function()
        times.append(time.perf_counter() - begun)
    return 1e6 * statistics.median(times)


def measure(name: str, shape: tuple[int, ...], batch: int, seconds: float) -> Measured:
    """Return what one network takes; `seconds` for each of the two."""
    import fastconv
    from fastconv import networks

    model = networks.create(name, shape, 10).build()
    frozen = fastconv.freeze(model)
    x = np.random.default_rng(0).standard_normal((batch, *shape)).astype(np.float32)
    rounds = [
        (median_of(lambda: model(x), seconds / ROUNDS), median_of(lambda: frozen(x), seconds / ROUNDS))
        for _ in range(ROUNDS)
    ]
    explained = frozen.explain(batch=batch, repeats=50)
    ours, theirs = (min(each) for each in zip(*rounds, strict=True))
    return Measured(ours, theirs, 1e6 * explained.overhead, explained.arena_bytes, explained.separate_bytes)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], metavar="N", help="each in turn (1 2)")
    parser.add_argument("--seconds", type=float, default=0.5, help="for each network, as it is and frozen (0.5)")


def run(options: argparse.Namespace) -> None:
    """Measure and print."""
    import fastconv

    rows = []
    for threads in options.threads:
        with fastconv.num_threads(threads):
            for name, shape, batches in NETWORKS:
                for batch in batches:
                    m = measure(name, shape, batch, options.seconds)
                    rows.append(
                        (
                            name,
                            f"{'x'.join(map(str, shape))}, {batch}",
                            str(threads),
                            f"{m.model:,.0f}",
                            f"{m.frozen:,.0f}",
                            f"{m.model / m.frozen:.2f}",
                            f"{m.overhead:.1f}",
                            f"{m.arena / 1000:,.0f}",
                            f"{m.apart / 1000:,.0f}",
                        )
                    )
    print(report.table(HEADER, rows))
