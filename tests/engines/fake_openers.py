"""Engines that need no package: what the worker runs instead of ``fastconv/engines/openers.py``."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

Call = Callable[[], list[Any]]


def _engine(factor: float, pause: float, log: str = "") -> Callable[..., Call]:
    def load(path: str, inputs: dict[str, Any], sizes: dict[str, int]) -> Call:
        print("what an engine prints is no answer")
        (x,) = inputs.values()

        def call() -> list[Any]:
            begin = time.perf_counter()
            time.sleep(pause)
            if log:
                with open(log, "a", encoding="utf-8") as file:
                    print(os.getpid(), begin, time.perf_counter(), file=file)
            return [factor * x]

        return call

    return load


def open_fastconv(threads: int, *, log: str = "") -> Callable[..., Call]:
    return _engine(2.0, 0.002, log)


def open_slow(threads: int, *, spinning: bool = True, log: str = "") -> Callable[..., Call]:
    return _engine(2.0, 0.004 if spinning else 0.008, log)


def open_sleepy(threads: int) -> Callable[..., Call]:
    """So much slower than the others that no load of the machine makes it the faster one."""
    return _engine(2.0, 0.1)


def open_wrong(threads: int) -> Callable[..., Call]:
    return _engine(3.0, 0.001)


def open_silent(threads: int) -> Callable[..., Call]:
    """Do not import fastconv, nor anything that the engine does not need."""
    assert not {"fastconv", "onnx", "onnxruntime"}.intersection(sys.modules)
    assert os.environ["OMP_NUM_THREADS"] == str(threads)
    return _engine(2.0, 0.0)


def open_refusing(threads: int) -> Callable[..., Call]:
    def load(path: str, inputs: dict[str, Any], sizes: dict[str, int]) -> Call:
        raise ValueError("it does not like this file")

    return load


def open_choosy(threads: int, *, spinning: bool) -> Callable[..., Call]:
    """Load with one setting only."""
    return _engine(2.0, 0.001) if spinning else open_refusing(threads)


def open_dying(threads: int) -> Callable[..., Call]:
    load = _engine(2.0, 0.0)

    def dies(path: str, inputs: dict[str, Any], sizes: dict[str, int]) -> Call:
        call = load(path, inputs, sizes)
        calls = []

        def fragile() -> list[Any]:
            calls.append(1)
            if len(calls) > 2:
                print("out of luck", file=sys.stderr, flush=True)
                os._exit(3)
            return call()

        return fragile

    return dies
