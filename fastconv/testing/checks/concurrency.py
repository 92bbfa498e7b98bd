"""Concurrency: any number of threads of the kernels, several Python threads, a forked process."""

from __future__ import annotations

import contextlib
import copy
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import fastconv
from fastconv import threads
from fastconv.layers.tree import collect
from fastconv.testing.cases import Case
from fastconv.testing.checks.registry import check
from fastconv.testing.compare import require_all, require_same
from fastconv.testing.processes import run_forked
from fastconv.testing.result import CheckFailed, CheckSkipped

#: Passes that each of two Python threads makes.
PASSES = 10


@contextlib.contextmanager
def _every_loop_is_split() -> Iterator[None]:
    """Let the smallest work be worth a thread."""
    before, threads.WORTH_A_THREAD = threads.WORTH_A_THREAD, 1
    try:
        yield
    finally:
        threads.WORTH_A_THREAD = before


@check("Concurrency")
def thread_count(case: Case) -> None:
    """1, 2 and 4 threads give the same to the last bit.

    Be parallel over independent outputs, or over a number of parts that only shapes decide, summed in a fixed order.
    """
    layer, xs = case.layer(), case.inputs()
    results = []
    with _every_loop_is_split():
        for n in (1, 2, 4):
            with fastconv.num_threads(n):
                results.append((n, case.passed(copy.deepcopy(layer), xs).arrays()))
    _, want = results[0]
    for n, got in results[1:]:
        require_all(got, want, None, f" on {n} threads, compared with 1,")


@check("Concurrency", once=True)
def python_threads(case: Case) -> None:
    """Two Python threads can use one layer in evaluation at the same time, and each gets its own result.

    Nothing may be kept on `self`, in the module or in the class between the lines of `forward`.
    """
    layer = case.layer()
    cases = [case._replace(seed=seed) for seed in range(2)]
    want = [each.forward(copy.deepcopy(layer), each.inputs())[0] for each in cases]
    start = threading.Barrier(2)

    def work(at: int) -> list[tuple[np.ndarray, ...]]:
        xs, made = cases[at].inputs(), []
        for _ in range(PASSES):
            with contextlib.suppress(threading.BrokenBarrierError):  # the other thread has raised
                start.wait(timeout=30)
            try:
                made.append(cases[at].forward(layer, xs)[0])
            except Exception:
                start.abort()
                raise
        return made

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # so that threads meet in the middle of things
    try:
        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(work, range(2)))
    finally:
        sys.setswitchinterval(interval)
    for at, passes in enumerate(results):
        for ys in passes:
            for y, expected in zip(ys, want[at], strict=True):
                require_same(y, expected, "the output, while another thread uses the layer,")


@check("Concurrency", once=True)
def fork(case: Case) -> None:
    """After the layer has been used, a forked process can use it too, and is done within a time limit.

    Threads stay in the parent: a thread pool, a lock that is held or an OpenMP runtime of your own hangs in the child. Make
    them anew after `os.register_at_fork`.
    """
    if not hasattr(os, "fork"):
        raise CheckSkipped("this system has no fork")
    layer, xs = case.layer(), case.inputs()

    def work() -> bytes:
        result = case.passed(copy.deepcopy(layer), xs)
        return b"".join(array.tobytes() for array in result.arrays().values())

    with _every_loop_is_split(), fastconv.num_threads(2):
        want = work()
        if run_forked(work) != want:
            raise CheckFailed(f"a forked process computes something else ({len(collect(layer, 'params'))} parameters)")
