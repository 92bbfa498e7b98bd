"""Several Python threads in the kernels at once: each gets its own right result."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from operations import OPERATIONS
from programs import run_program

import fastconv


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_python_threads_do_not_disturb_each_other(isa, dtype):
    jobs = [(operation, operation.arrays(dtype)) for operation in OPERATIONS]
    with fastconv.num_threads(1):
        want = [operation.run(arrays) for operation, arrays in jobs]
    start = threading.Barrier(4)

    def worker(first):
        start.wait(timeout=60)
        got = {}
        with fastconv.num_threads(1 + first % 2):
            for i in range(len(jobs)):  # each worker in another order, so that all kinds of kernels meet
                k = (i * (2 * first + 1) + first * 7) % len(jobs)
                operation, arrays = jobs[k]
                got[k] = operation.run(arrays)
        return got

    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(worker, range(4)):
            for k, results in got.items():
                for a, b in zip(results, want[k], strict=True):
                    assert a.tobytes() == b.tobytes(), jobs[k][0].label


def test_two_threads_share_one_weight_and_one_input(isa):
    operation = OPERATIONS[0]
    arrays = operation.arrays(np.float32)
    want = operation.run(arrays)
    with ThreadPoolExecutor(2) as pool:
        for results in pool.map(lambda _: [operation.run(arrays) for _ in range(10)], range(2)):
            for result in results:
                assert all(a.tobytes() == b.tobytes() for a, b in zip(result, want, strict=True))


def test_a_kernel_lets_other_python_threads_run():
    """A kernel runs without the interpreter's lock: another thread goes on while it computes."""
    done = run_program("""
import sys, threading, time
import numpy as np
import fastconv
from fastconv.functional import linear

sys.setswitchinterval(60)  # a thread that does not give up the lock by itself keeps it
fastconv.set_num_threads(1)
a = np.ones((1500, 1500))
begun, ticks, done = threading.Event(), [], []

def tick():
    begun.set()
    while not done:
        ticks.append(time.perf_counter())
        time.sleep(0.001)

thread = threading.Thread(target=tick)
thread.start()
begun.wait()
start = time.perf_counter()
linear(a, a)
end = time.perf_counter()
done.append(True)
thread.join()
print(sum(start < t < end for t in ticks))
""")
    assert int(done.stdout) > 0
