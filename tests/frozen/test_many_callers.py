"""One frozen model, many callers: Python threads, numbers of OpenMP threads, forked children. The bits are the same."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from frozen_cases import SMALL, inputs, trained
from programs import run_program

import fastconv
from fastconv import networks


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_bits_do_not_depend_on_the_number_of_threads(isa, threads, name, dtype):
    frozen = fastconv.freeze(trained(networks.create(name, (20, 20, 3), 10).astype(dtype)))
    (x,) = inputs(frozen, 3)
    got = frozen(x)
    with fastconv.num_threads(1):
        assert got.tobytes() == frozen(x).tobytes()


def test_many_python_threads_call_one_frozen_model():
    frozen = fastconv.freeze(trained(networks.create("resnet20", (16, 16, 3), 10)))
    batches = [1, 2, 3]
    xs = [inputs(frozen, batch, seed)[0] for batch in batches for seed in range(4)]
    want = [frozen(x).tobytes() for x in xs]
    start = threading.Barrier(8)

    def worker(first):
        start.wait(timeout=60)
        with fastconv.num_threads(1 + first % 2):
            return [(k, frozen(xs[k]).tobytes()) for k in ((i * (2 * first + 1) + first) % len(xs) for i in range(24))]

    with ThreadPoolExecutor(8) as pool:
        for got in pool.map(worker, range(8)):
            for k, bits in got:
                assert bits == want[k]
    assert all(len(plan._pool) <= 8 for plan in frozen._plans.values())


def test_callers_at_once_have_memory_of_their_own():
    frozen = fastconv.freeze(networks.create("lenet", (28, 28, 1), 10))
    (x,) = inputs(frozen)
    plan = frozen._plan([x.shape])
    first, second = plan.workspace(), plan.workspace()
    assert not np.may_share_memory(first.arena, second.arena)
    a, b = first.run([x])[0], second.run([-x])[0]
    assert a.tobytes() == frozen(x).tobytes() and b.tobytes() == frozen(-x).tobytes()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_computes_the_same():
    run_program(
        """
import os
import numpy as np
import fastconv
from fastconv import networks

fastconv.set_num_threads(4)
frozen = fastconv.freeze(networks.create("vgg-small", (32, 32, 3), 10))
x = np.random.default_rng(0).standard_normal((4, 32, 32, 3)).astype(np.float32)
want = frozen(x).tobytes()
pid = os.fork()
if pid == 0:
    status = 1
    try:
        same = frozen(x).tobytes() == want and frozen(x[:1]).tobytes() == fastconv.freeze(
            networks.create("vgg-small", (32, 32, 3), 10))(x[:1]).tobytes()
        status = int(not same or fastconv.get_num_threads() != 1)
    finally:
        os._exit(status)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert frozen(x).tobytes() == want
""",
        PYTHONWARNINGS="ignore::DeprecationWarning",
    )
