"""The process of an engine, seen from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from fastconv.engines.engine import Engine

WORKER = Path(__file__).with_name("worker.py")

#: How long an engine may take to end itself when nobody asks any more, in seconds.
PATIENCE = 10


class EngineError(RuntimeError):
    """An engine that cannot run a model, or whose process has died; the message is its own."""


class EngineProcess:
    """The process of one engine, which waits for requests; a context manager that ends it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._printed = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - closed in `close`
        path = [entry or os.getcwd() for entry in sys.path]  # this fastconv, not one that lies in the current folder
        program = f"import runpy, sys; sys.path[:] = {path!r}; runpy.run_path({str(WORKER)!r}, run_name='__main__')"
        self._process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._printed,
            text=True,
            encoding="utf-8",
            env={**os.environ, **thread_variables(engine.threads)},
        )

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def __enter__(self) -> EngineProcess:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:  # nobody waits for what it does
            self._process.kill()
        self.close()

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Send a request and return the answer; raises `EngineError` where it is an error, or none comes."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise EngineError(f"its process ended with code {self._process.wait()}{self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise EngineError(answer["error"])
        return answer

    def close(self) -> None:
        """End the process; one that does not end is killed."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):  # what it never read
                    pipe.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._printed.close()

    def _last_words(self) -> str:
        self._printed.seek(0)
        lines = self._printed.read().splitlines()
        return f": {lines[-1].strip()}" if lines else ""


def thread_variables(threads: int) -> dict[str, str]:
    """Return the environment that holds libraries to a number of threads."""
    return {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
