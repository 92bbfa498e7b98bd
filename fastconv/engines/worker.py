"""The program that runs in an engine's process: it reads requests and writes answers, one line of JSON each.

It is run by its path, not as a module, and imports nothing but what its engine needs: the memory that it takes is that
engine's. While it waits for a request it stands still.

==========  =================================================================  =============================================
request     what it does                                                       answer
==========  =================================================================  =============================================
``start``   import the engine, load a model, call it once, write the outputs   seconds of each; bytes before the model came
``block``   call it for some seconds                                           seconds of each call
``memory``  nothing                                                            bytes at most
==========  =================================================================  =============================================
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

WARM_UP = 3  # calls before each block that do not count, or as many as `WARM_UP_SECONDS` take, at least one
WARM_UP_SECONDS = 0.1
MOST_CALLS = 1000  # of a block


def block(
    call: Callable[[], Any], seconds: float, *, warm_up: int = WARM_UP, before: Callable[[], Any] = lambda: None
) -> list[float]:
    """Return the seconds of each call of one block, at least one, after `warm_up` that do not count.

    `before` is called ahead of each; its time does not count.
    """
    start = time.perf_counter()
    for _ in range(warm_up):
        call()
        if time.perf_counter() - start > WARM_UP_SECONDS:
            break
    took: list[float] = []
    begin = time.perf_counter()
    while not took or (time.perf_counter() - begin < seconds and len(took) < MOST_CALLS):
        before()
        start = time.perf_counter()
        call()
        took.append(time.perf_counter() - start)
    return took


def resident(which: str) -> int:
    """Return the bytes that this process has in memory now (``"VmRSS"``), or had at most (``"VmHWM"``).

    Unlike `getrusage`, this does not count what the parent had; where there is no ``/proc``, it must do.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(which)) * 1024
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


class Worker:
    """One engine with one model."""

    def __init__(self) -> None:
        self.call: Callable[[], Any] | None = None

    def start(self, request: dict[str, Any]) -> dict[str, Any]:
        """Import, load and call once, and write what came out."""
        import numpy as np

        begin = time.perf_counter()
        opener = runpy.run_path(request["program"])[request["function"]]
        load = opener(request["threads"], **request["settings"])
        imported, before = time.perf_counter(), resident("VmRSS")
        with np.load(request["inputs"]) as arrays:
            inputs = dict(arrays)
        loading = time.perf_counter()
        self.call = load(request["model"], inputs, request["sizes"])
        loaded = time.perf_counter()
        outputs = self.call()
        called = time.perf_counter()
        np.savez(request["outputs"], *outputs)
        return {"import": imported - begin, "load": loaded - loading, "first": called - loaded, "before": before}

    def block(self, request: dict[str, Any]) -> dict[str, Any]:
        """Time calls."""
        assert self.call is not None
        return {"took": block(self.call, request["seconds"])}

    def memory(self, request: dict[str, Any]) -> dict[str, Any]:
        """Say how much memory there was at most."""
        return {"peak": resident("VmHWM")}


def serve(requests: Iterable[str], answer: Callable[[dict[str, Any]], None]) -> None:
    """Answer each request; an exception is an answer too."""
    worker = Worker()
    for line in requests:
        request = json.loads(line)
        try:
            answer(getattr(worker, request["do"])(request))
        except Exception as error:
            answer({"error": f"{type(error).__name__}: {error}"})


def main() -> None:
    """Read from standard input, answer on standard output; what an engine prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(sys.stdin, lambda content: print(json.dumps(content), file=answers, flush=True))


if __name__ == "__main__":
    main()
