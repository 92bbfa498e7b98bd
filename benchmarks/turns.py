"""Libraries that take turns: each lives in a process of its own and is asked for one block of measurements at a time.

While one measures, the others wait for a message and do nothing: called in one process, the idle threads of one library spin
for milliseconds after a call and slow the next library's by as much as three times.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from benchmarks.case import Case, Engine
from fastconv.engines.process import thread_variables
from fastconv.engines.worker import WARM_UP, block

PAUSE = 0.01  # seconds between two blocks: the threads of the last library go to sleep
CACHED = 2**26  # bytes that take the place of everything in the caches
SLOW = 0.3  # seconds of a call that needs no such calls before its second and later blocks, and two blocks at most

#: What holds a library to an instruction set.
ISA_VARIABLES = {
    "avx512": {"FASTCONV_ISA": "avx512"},
    "avx2": {
        "FASTCONV_ISA": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    },
    "baseline": {
        "FASTCONV_ISA": "baseline",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "ATEN_CPU_CAPABILITY": "default",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    },
}


class Timing(NamedTuple):
    """Seconds of a call: the median and the least of so many calls."""

    median: float
    least: float
    calls: int


def prepare(engine: Engine, case: Case, way: str) -> Callable[[], Any] | None:
    """Return the call to time, or None where the library has no such layout."""
    if engine.library == "fastconv":
        from benchmarks import ours

        return ours.prepare(engine, case, way)
    from benchmarks import theirs

    return theirs.prepare(engine, case, way)


def cold_caches() -> Callable[[], Any]:
    """Return a function that fills the caches of the core that it runs on, and those that all share, with something else."""
    other = np.zeros(CACHED // 8)
    return lambda: np.add(other, 1, out=other)


def _serve(connection: Any, engine: Engine, cold: bool) -> None:
    before = cold_caches() if cold else lambda: None
    current, call, took = None, None, [0.0]
    for case, way, seconds in iter(connection.recv, None):
        try:
            if current != (case, way):
                current, call, took = None, None, [0.0]  # the last case's arrays go before the next come
                call, current = prepare(engine, case, way), (case, way)
            if call is not None:
                took = block(call, seconds, warm_up=0 if took[-1] > SLOW else WARM_UP, before=before)
            connection.send(took if call is not None else None)
        except Exception as error:
            connection.send(f"{engine} failed at {case}, {way}: {type(error).__name__}: {error}")


class Turns:
    """Processes that measure in turn, one for each engine; a context manager that ends them.

    >>> with Turns([Engine("fastconv")], rounds=1, seconds=0.0) as turns:  # doctest: +SKIP
    ...     turns.measure(case, "forward")
    {Engine(library='fastconv', ...): Timing(median=..., least=..., calls=5)}
    """

    def __init__(self, engines: Sequence[Engine], *, rounds: int, seconds: float, cold: bool = False) -> None:
        self.engines, self.rounds, self.seconds, self.cold = list(engines), rounds, seconds, cold
        self._connections: dict[Engine, Any] = {}
        self._processes: list[Any] = []

    def __enter__(self) -> Turns:
        context = multiprocessing.get_context("spawn")
        for engine in self.engines:
            self._connections[engine], theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, engine, self.cold), daemon=True)
            with environment(variables(engine)):
                process.start()
            self._processes.append(process)
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._connections.values():
            connection.send(None)
        for process in self._processes:
            process.join(timeout=10)

    def measure(self, case: Case, way: str, *, only: Engine | None = None) -> dict[Engine, Timing]:
        """Return the timing of each engine that has this case, or of one alone."""
        took: dict[Engine, list[float]] = {engine: [] for engine in ([only] if only else self.engines)}
        for number in range(self.rounds):
            if number >= 2 and max(calls[-1] for calls in took.values() if calls) > SLOW:
                break
            for engine in took:
                connection = self._connections[engine]
                time.sleep(PAUSE)
                connection.send((case, way, self.seconds))
                answer = connection.recv()
                if isinstance(answer, str):
                    raise RuntimeError(answer)
                took[engine] += answer or []
        return {
            engine: Timing(statistics.median(calls), min(calls), len(calls)) for engine, calls in took.items() if calls
        }


def variables(engine: Engine) -> dict[str, str]:
    """Return the environment that an engine's process starts in."""
    return thread_variables(engine.threads) | (ISA_VARIABLES[engine.isa] if engine.isa else {})


@contextmanager
def environment(changes: dict[str, str]) -> Iterator[None]:
    """Set environment variables for a while: a process started meanwhile has them."""
    before = dict(os.environ)
    os.environ.update(changes)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
