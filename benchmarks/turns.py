"""Libraries that take turns: each lives in a process of its own and is asked for one block of measurements at a time.

While one measures, the others wait for a message and do nothing: called in one process, the idle threads of one library spin
for milliseconds after a call and slow the next library's by as much as three times.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

#: Given an engine's name, the number of threads and a case, return the call to time.
Prepare = Callable[[str, int, Any], Callable[[], Any]]

PAUSE = 0.02  # seconds between two blocks: the threads of the last library go to sleep
WARM_UP = 3  # calls before each block that do not count
BLOCK_SECONDS = 0.3


def _serve(connection: Any, prepare: Prepare, engine: str, threads: int) -> None:
    for case in iter(connection.recv, None):
        call = prepare(engine, threads, case)
        for _ in range(WARM_UP):
            call()
        seconds: list[float] = []
        while len(seconds) < 5 or (sum(seconds) < BLOCK_SECONDS and len(seconds) < 1000):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
        connection.send(seconds)


def in_turns(
    prepare: Prepare, engines: Iterable[str], threads: int, cases: Iterable[Any], *, rounds: int = 3
) -> Iterable[tuple[Any, dict[str, float]]]:
    """Yield each case with the median seconds of a call for each engine, over `rounds` blocks in turn."""
    context = multiprocessing.get_context("spawn")
    connections, processes = {}, []
    for engine in engines:
        connections[engine], theirs = context.Pipe()
        processes.append(context.Process(target=_serve, args=(theirs, prepare, engine, threads), daemon=True))
        processes[-1].start()
    try:
        for case in cases:
            seconds: dict[str, list[float]] = {engine: [] for engine in connections}
            for _ in range(rounds):
                for engine, connection in connections.items():
                    time.sleep(PAUSE)
                    connection.send(case)
                    seconds[engine] += connection.recv()
            yield case, {engine: statistics.median(values) for engine, values in seconds.items()}
    finally:
        for connection in connections.values():
            connection.send(None)
        for process in processes:
            process.join(timeout=10)
