"""A forked child never hangs: it inherits an OpenMP runtime whose threads stayed in the parent, and runs on one thread.

Each test is a program of its own with a timeout; a hang is what would happen without the fallback.
"""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest
from programs import run_program

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

PRELUDE = """
import os, sys
import numpy as np
import fastconv
from fastconv import functional

rng = np.random.default_rng(0)
x, weight = rng.standard_normal((2, 40, 40, 24)), rng.standard_normal((3, 3, 24, 40))
depthwise = rng.standard_normal((3, 3, 1, 24))

def work(_=None):
    y = functional.conv(x, weight, padding=1)
    dx, dweight, dbias = functional.conv_backward(y, x, weight, padding=1)
    z = functional.conv(x, depthwise, groups=24)
    return b"".join(a.tobytes() for a in (y, dx, dweight, dbias, z))

fastconv.set_num_threads(4)
want = work()

def in_child(function):
    # the child's exit status is what `function` returns; an exception is 1
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = int(function() or 0)
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)
"""


def run(program, before=""):
    run_program(before + PRELUDE + program, PYTHONWARNINGS="ignore::DeprecationWarning")


def test_the_child_computes_the_same_on_one_thread():
    run("""
def child():
    assert fastconv.get_num_threads() == 1
    assert work() == want

assert in_child(child) == 0
assert fastconv.get_num_threads() == 4
assert work() == want
""")


def test_the_child_stays_on_one_thread_whatever_it_asks_for():
    run("""
from fastconv.threads import explain_threads

def child():
    fastconv.set_num_threads(3)
    with fastconv.num_threads(2):
        assert explain_threads() == (1, "this process was forked: OpenMP's threads stayed in the parent")
        assert work() == want

with fastconv.num_threads(4):
    assert in_child(child) == 0
""")


def test_a_child_of_the_child():
    run("""
def child():
    assert work() == want
    assert in_child(lambda: work() != want) == 0
    assert work() == want

assert in_child(child) == 0
""")


def test_many_children_while_the_parent_works():
    run("""
pids = []
for _ in range(5):
    pid = os.fork()
    if pid == 0:
        os._exit(work() != want)
    pids.append(pid)
    assert work() == want
assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0] * 5
""")


def test_a_fork_while_another_python_thread_is_in_a_kernel():
    run("""
import threading

done = []
def busy():
    while not done:
        assert work() == want

thread = threading.Thread(target=busy)
thread.start()
assert [in_child(lambda: work() != want) for _ in range(5)] == [0] * 5
done.append(True)
thread.join()
""")


def test_a_pool_of_forked_processes():
    run("""
import multiprocessing

with multiprocessing.get_context("fork").Pool(3) as pool:
    assert pool.map(work, range(6), chunksize=1) == [want] * 6
assert work() == want
""")


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_the_other_ways_to_start_a_process(method):
    done = run_program(f"""
import multiprocessing
import numpy as np
import fastconv
from fastconv.functional import linear

def work(_):
    fastconv.set_num_threads(2)
    assert (linear(np.ones((512, 512)), np.ones((512, 512))) == 512).all()
    return fastconv.get_num_threads()

if __name__ == "__main__":
    with multiprocessing.get_context("{method}").Pool(1) as pool:
        print(work(0), *pool.map(work, range(2)))
""")
    ours, *theirs = done.stdout.split()
    # a spawned process is a new one with all its threads; the workers of a fork server may be forked after an import
    assert theirs == [ours] * 2 if method == "spawn" else set(theirs) <= {"1", ours}


@pytest.mark.parametrize(
    ("module", "use"),
    [
        ("torch", "import torch; torch.set_num_threads(2); torch.ones(300, 300) @ torch.ones(300, 300)"),
        ("sklearn", "from sklearn.cluster import KMeans; KMeans(2, n_init=1).fit([[0.0], [1.0], [9.0]])"),
        ("scipy", "import scipy.linalg; scipy.linalg.inv([[2.0]])"),
    ],
)
@pytest.mark.parametrize("order", ["before", "after"])
def test_beside_another_user_of_threads(module, use, order):
    if find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    program = """
assert in_child(lambda: work() != want) == 0
assert work() == want
import multiprocessing
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(work, range(2)) == [want] * 2
"""
    run(program, before=use) if order == "before" else run(f"{use}\n{program}")
