"""How many threads run, where the number comes from, and that the kernels obey it."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest
from operations import OPERATIONS, recorded
from programs import run_program

import fastconv
from fastconv import _kernels, threads

needs_openmp = pytest.mark.skipif(not _kernels.has_openmp, reason="built without OpenMP: always one thread")


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch):
    """Each test begins as a new process does: nothing said, nothing in the environment, nothing remembered."""
    for name in ("FASTCONV_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "_chosen", None)
    monkeypatch.setattr(threads, "_default", None)


def machine(monkeypatch, cores, allowed, quota):
    monkeypatch.setattr(threads, "physical_cores", lambda: cores)
    monkeypatch.setattr(threads, "affinity", lambda: allowed)
    monkeypatch.setattr(threads, "cpu_quota", lambda: quota)


@needs_openmp
@pytest.mark.parametrize(
    ("cores", "allowed", "quota", "want"),
    [
        (8, 16, None, (8, "physical cores: 8")),
        (8, 3, None, (3, "processors this process may run on: 3")),
        (8, 16, 2, (2, "the container's CPU quota: 2")),
        (8, 16, 64, (8, "physical cores: 8")),
    ],
)
def test_the_default_is_the_smallest_limit_of_the_machine(monkeypatch, cores, allowed, quota, want):
    machine(monkeypatch, cores, allowed, quota)
    assert threads.explain_threads() == want
    assert fastconv.get_num_threads() == want[0]


@needs_openmp
def test_what_is_said_closest_to_the_call_wins(monkeypatch):
    machine(monkeypatch, 8, 8, None)
    assert threads.explain_threads() == (8, "physical cores: 8")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setattr(threads, "_default", None)
    assert threads.explain_threads() == (7, "the environment variable OMP_NUM_THREADS")
    monkeypatch.setenv("FASTCONV_NUM_THREADS", "6")
    monkeypatch.setattr(threads, "_default", None)
    assert threads.explain_threads() == (6, "the environment variable FASTCONV_NUM_THREADS")
    fastconv.set_num_threads(5)
    assert threads.explain_threads() == (5, "fastconv.set_num_threads")
    with fastconv.num_threads(4):
        assert threads.explain_threads() == (4, "fastconv.num_threads")
        fastconv.set_num_threads(3)
        assert fastconv.get_num_threads() == 4
        with fastconv.num_threads(2):
            assert fastconv.get_num_threads() == 2
        assert fastconv.get_num_threads() == 4
    assert fastconv.get_num_threads() == 3


@needs_openmp
@pytest.mark.parametrize(
    ("text", "want"), [("3", 3), (" 3 ", 3), ("3,2,1", 3), ("", 8), ("many", 8), ("0", 8), ("-2", 8)]
)
def test_omp_num_threads_as_openmp_reads_it(monkeypatch, text, want):
    machine(monkeypatch, 8, 8, None)
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert fastconv.get_num_threads() == want


@needs_openmp
@pytest.mark.parametrize("text", ["many", "0", "-1", "1.5", "1025", "²"])
def test_a_wrong_fastconv_num_threads_is_named(monkeypatch, text):
    monkeypatch.setenv("FASTCONV_NUM_THREADS", text)
    with pytest.raises(ValueError, match=f"FASTCONV_NUM_THREADS must be an integer from 1 to 1024, got '{text}'"):
        fastconv.get_num_threads()


def test_the_block_ends_with_an_exception():
    before = fastconv.get_num_threads()
    with pytest.raises(KeyError), fastconv.num_threads(before + 1):
        raise KeyError
    assert fastconv.get_num_threads() == before


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (0, ValueError, "the number of threads must be at least 1, got 0"),
        (-3, ValueError, "the number of threads must be at least 1, got -3"),
        (1025, ValueError, "the number of threads must be at most 1024, got 1025"),
        (2**70, ValueError, f"the number of threads must be at most 1024, got {2**70}"),
        (2.0, TypeError, r"the number of threads must be an integer, got 2\.0"),
        (True, TypeError, "the number of threads must be an integer, got True"),
        ("2", TypeError, "the number of threads must be an integer, got '2'"),
        (None, TypeError, "the number of threads must be an integer, got None"),
        ((2,), TypeError, r"the number of threads must be an integer, got \(2,\)"),
        ((2, 3), TypeError, r"the number of threads must be an integer, got \(2, 3\)"),
    ],
)
def test_a_wrong_number_of_threads_is_named(value, error, message):
    with pytest.raises(error, match=message):
        fastconv.set_num_threads(value)
    with pytest.raises(error, match=message), fastconv.num_threads(value):
        pass


def test_any_integer_will_do():
    with fastconv.num_threads(np.int8(1)):
        assert fastconv.get_num_threads() == 1


@needs_openmp
def test_a_scope_is_of_its_own_python_thread():
    fastconv.set_num_threads(3)
    seen = []
    with fastconv.num_threads(2):
        other = threading.Thread(target=lambda: seen.append(fastconv.get_num_threads()))
        other.start()
        other.join()
        assert fastconv.get_num_threads() == 2
    assert seen == [3]


@needs_openmp
def test_work_too_small_to_split_stays_on_one():
    with fastconv.num_threads(4):
        assert [threads.threads_for(work) for work in (0, 1, 99_999, 100_000, 150_000, 10**9, 10**30)] == [
            1,
            1,
            1,
            2,
            3,
            4,
            4,
        ]


def test_the_quota_of_a_container_is_rounded_up(tmp_path):
    for text, want in [
        ("200000 100000", 2), ("150000 100000\n", 2), ("1000 100000", 1), ("max 100000", None), ("-1 100000", None),
        ("", None), ("100000 0", None), ("much 100000", None), ("1 2 3", None),
    ]:  # fmt: skip
        (tmp_path / "cpu.max").write_text(text)
        assert threads.cpu_quota(tmp_path) == want, text


@pytest.mark.parametrize(
    ("quota", "period", "want"),
    [
        ("250000", "100000", 3),
        ("50000\n", "100000\n", 1),
        ("-1", "100000", None),
        ("x", "100000", None),
        ("1", "0", None),
    ],
)
def test_the_quota_of_the_first_generation_of_control_groups(tmp_path, quota, period, want):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text(period)
    assert threads.cpu_quota(tmp_path) == want


def test_no_control_group_is_no_quota(tmp_path):
    assert threads.cpu_quota(tmp_path) is None
    assert threads.cpu_quota(tmp_path / "missing") is None


def test_two_hyper_threads_are_one_core(tmp_path):
    for cpu, siblings in [(0, "0,4"), (1, "1,5"), (4, "0,4"), (5, "1,5")]:
        folder = tmp_path / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{siblings}\n")
    (tmp_path / "cpufreq").mkdir()
    assert threads.physical_cores(tmp_path) == 2
    assert threads.physical_cores(tmp_path / "missing") == os.cpu_count()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot bind a process to processors")
def test_affinity_counts_the_processors_this_process_may_run_on():
    allowed = os.sched_getaffinity(0)
    assert threads.affinity() == len(allowed)
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "import fastconv; print(fastconv.get_num_threads())"
    )
    assert run(code) == "1"


def run(code, **environment):
    """Run a program in a new process and return what it prints."""
    return run_program(code, **environment).stdout.strip()


@needs_openmp
def test_the_environment_is_read_in_a_new_process():
    code = "import fastconv; print(fastconv.get_num_threads())"
    assert run(code, FASTCONV_NUM_THREADS="3", OMP_NUM_THREADS="2") == "3"
    assert run(code, OMP_NUM_THREADS="2") == "2"


@needs_openmp
@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="the system does not list a process's threads")
@pytest.mark.parametrize("n", [1, 3])
def test_a_large_call_starts_the_threads_asked_for(n):
    code = (
        "import os, numpy as np, fastconv\n"
        "from fastconv.functional import conv\n"
        "before = len(os.listdir('/proc/self/task'))\n"
        "conv(np.ones((1, 64, 64, 32)), np.ones((3, 3, 32, 32)))\n"
        "print(len(os.listdir('/proc/self/task')) - before)"
    )
    assert run(code, FASTCONV_NUM_THREADS=str(n)) == str(n - 1)


@needs_openmp
@pytest.mark.skipif(
    not os.path.isdir("/proc/self/task") or threads.affinity() < 2,
    reason="there is one processor, or the system does not list a process's threads",
)
def test_threads_of_a_loop_are_kept_off_the_processor_of_the_calling_one():
    code = """
import os, time
import numpy as np
import fastconv
from fastconv import threads

first, second = sorted(os.sched_getaffinity(0))[:2]
os.sched_setaffinity(0, {first, second})
fastconv.set_num_threads(2)
before = set(os.listdir("/proc/self/task"))
fastconv.functional.conv(np.ones((1, 64, 64, 32)), np.ones((3, 3, 32, 32)))
(other,) = (int(name) for name in set(os.listdir("/proc/self/task")) - before)

def processor(thread):
    return int(open(f"/proc/self/task/{thread}/stat").read().rpartition(")")[2].split()[36])

def look():
    time.sleep(0.02)  # a pause long enough for the next call to look
    assert threads.threads_for(10**9) == 2

for here, there in ((first, second), (second, first)):
    os.sched_setaffinity(0, {here})
    os.sched_setaffinity(other, {here, there})
    look()
    assert processor(other) == there
    assert os.sched_getaffinity(other) == {there} and os.sched_getaffinity(0) == {here}

os.sched_setaffinity(0, {first, second})  # the calling thread may use both again, and so the other may
look()
assert os.sched_getaffinity(0) == {first, second}
assert os.sched_getaffinity(other) < {first, second}

for thread in (0, other):  # no choice
    os.sched_setaffinity(thread, {first})
look()
assert os.sched_getaffinity(other) == os.sched_getaffinity(0) == {first}
"""
    run(code)


@needs_openmp
@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="the system does not list a process's threads")
def test_threads_that_openmp_binds_stay_where_they_are():
    code = """
import os, time
import numpy as np
import fastconv
from fastconv import threads

fastconv.set_num_threads(2)
fastconv.functional.conv(np.ones((1, 64, 64, 32)), np.ones((3, 3, 32, 32)))
bound = [os.sched_getaffinity(int(name)) for name in os.listdir("/proc/self/task")]
time.sleep(0.02)
assert threads.threads_for(10**9) == 2
assert [os.sched_getaffinity(int(name)) for name in os.listdir("/proc/self/task")] == bound
"""
    run(code, OMP_PROC_BIND="true")


@needs_openmp
def test_every_kernel_is_told_the_number_of_threads():
    """Over the whole table each kernel gets all four at least once, and none is ever given more."""
    most = {}
    with fastconv.num_threads(4):
        for operation in OPERATIONS:
            arrays = operation.arrays(np.float32)
            with recorded() as calls:
                operation.run(arrays)
            for name, n in calls:
                if n is not None:
                    most[name] = max(most.get(name, 0), n)
    assert most == dict.fromkeys(most, 4)
