"""How many threads a call runs on, and why.

The number is, in this order: what `set_num_threads` or ``with num_threads(n):`` said, the environment variable
``FASTCONV_NUM_THREADS``, ``OMP_NUM_THREADS``, or else the smallest of the physical cores, the processors that this process
may run on, and the container's CPU quota. No result depends on it.

A process made by ``os.fork()`` after its parent has run kernels inherits an OpenMP runtime whose threads are gone and waits
for them for ever; the child therefore runs everything on one thread.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from fastconv import _kernels
from fastconv.arguments import positive

#: Multiply-adds (or elements moved, times some) below which starting threads costs more than it saves.
WORTH_A_THREAD = 50_000

#: More than this is a mistake of the caller, not a wish.
MOST_THREADS = 1024

_CGROUP = Path("/sys/fs/cgroup")

_forked = False
_chosen: int | None = None
_scoped: ContextVar[int | None] = ContextVar("fastconv_num_threads", default=None)
_default: tuple[int, str] | None = None


def _after_fork_in_child() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def thread_count(n: object) -> int:
    """Return a number of threads as an int; raise `TypeError` or `ValueError` for what is none, or too many."""
    count = positive(n, "the number of threads")
    if count > MOST_THREADS:
        raise ValueError(f"the number of threads must be at most {MOST_THREADS}, got {n!r}")
    return count


def set_num_threads(n: int) -> None:
    """Run every later call on up to `n` threads (an integer, at least 1), in all Python threads.

    Raises `TypeError` or `ValueError` for anything else. In a process made by ``os.fork()`` one thread remains in force.

    >>> import fastconv
    >>> before = fastconv.get_num_threads()
    >>> fastconv.set_num_threads(1)
    >>> fastconv.get_num_threads()
    1
    >>> fastconv.set_num_threads(before)
    """
    global _chosen
    _chosen = thread_count(n)


def get_num_threads() -> int:
    """Return how many threads a large enough call runs on now."""
    return explain_threads()[0]


@contextmanager
def num_threads(n: int) -> Iterator[None]:
    """Run the calls of a ``with`` block on up to `n` threads; other Python threads keep their own number.

    >>> import fastconv
    >>> with fastconv.num_threads(1):
    ...     fastconv.get_num_threads()
    1
    """
    token = _scoped.set(thread_count(n))
    try:
        yield
    finally:
        _scoped.reset(token)


def threads_for(work: int) -> int:
    """Return the threads for a call of `work` multiply-adds: work too small to split stays on one.

    Those that the system has put on one processor part here: they are the threads of the loops to come.
    """
    if work < 2 * WORTH_A_THREAD:
        return 1
    threads = min(get_num_threads(), work // WORTH_A_THREAD)
    if threads > 1:
        _kernels.keep_apart(threads)
    return threads


def explain_threads() -> tuple[int, str]:
    """Return the number of threads in force and where it comes from, in words."""
    if not _kernels.has_openmp:
        return 1, "the kernels were built without OpenMP"
    if _forked:
        return 1, "this process was forked: OpenMP's threads stayed in the parent"
    scoped = _scoped.get()
    if scoped is not None:
        return scoped, "fastconv.num_threads"
    if _chosen is not None:
        return _chosen, "fastconv.set_num_threads"
    global _default
    if _default is None:
        _default = _environment_threads() or _machine_threads()
    return _default


def _environment_threads() -> tuple[int, str] | None:
    for name in ("FASTCONV_NUM_THREADS", "OMP_NUM_THREADS"):
        # OMP_NUM_THREADS may be a list, one number for each nesting level: the first is ours
        text = os.environ.get(name, "").split(",")[0].strip()
        if not text:
            continue
        if text.isdecimal() and 1 <= int(text) <= MOST_THREADS:
            return int(text), f"the environment variable {name}"
        if name == "FASTCONV_NUM_THREADS":
            raise ValueError(f"FASTCONV_NUM_THREADS must be an integer from 1 to {MOST_THREADS}, got {text!r}")
    return None


def _machine_threads() -> tuple[int, str]:
    limits = {"physical cores": physical_cores(), "processors this process may run on": affinity()}
    quota = cpu_quota()
    if quota is not None:
        limits["the container's CPU quota"] = quota
    why = min(limits, key=lambda name: limits[name])
    return limits[why], f"{why}: {limits[why]}"


def affinity() -> int:
    """Return how many logical processors this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def physical_cores(root: Path = Path("/sys/devices/system/cpu")) -> int:
    """Return how many physical cores there are: hyper-threads share the arithmetic units, so a second one does not help."""
    cores = set()
    for siblings in root.glob("cpu[0-9]*/topology/thread_siblings_list"):
        try:
            cores.add(siblings.read_text())
        except OSError:  # a processor that was taken offline meanwhile
            continue
    return len(cores) or os.cpu_count() or 1


def cpu_quota(root: Path = _CGROUP) -> int | None:
    """Return the container's CPU quota in whole processors, rounded up, or None where there is none.

    Both generations of Linux control groups are read: ``cpu.max``, and ``cpu.cfs_quota_us`` with its period.
    """
    try:
        if (root / "cpu.max").exists():
            quota, period = (root / "cpu.max").read_text().split()
        else:
            quota = (root / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (root / "cpu" / "cpu.cfs_period_us").read_text().strip()
        if quota in ("max", "-1"):
            return None
        return max(1, -(-int(quota) // int(period)))
    except (OSError, ValueError, ZeroDivisionError):  # no such file, or another format: no quota that we know of
        return None
