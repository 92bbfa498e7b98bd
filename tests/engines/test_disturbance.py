"""What other programs do is told from what is measured."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastconv.engines import disturbance
from fastconv.engines.disturbance import Disturbance

BUSY = "import time\nend = time.perf_counter() + 60\nwhile time.perf_counter() < end: pass"

linux = pytest.mark.skipif(not Path("/proc/stat").exists(), reason="only Linux says who works")


def written(monkeypatch: pytest.MonkeyPatch, stat: str, own: float, ticks: int) -> None:
    """Let the machine say something else."""
    monkeypatch.setattr(disturbance.Path, "read_text", lambda path, **_: stat)
    monkeypatch.setattr(disturbance, "_process_ticks", lambda pid: ticks)
    monkeypatch.setattr(disturbance.time, "process_time", lambda: own)
    monkeypatch.setattr(disturbance.os, "sysconf", lambda name: 100)


def test_the_share_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    written(monkeypatch, "cpu  100 0 100 500 100 0 0 100 0 0\ncpu0 1 1", own=1.0, ticks=50)
    watch = Disturbance([7, 8])
    # 10 seconds: 4 idle, 1 waiting, 5 at work, of which 1 is ours, and 1 of each of two processes
    written(monkeypatch, "cpu  400 0 200 900 200 0 0 200 0 0\ncpu0 1 1", own=2.0, ticks=150)
    assert watch.share() == pytest.approx(0.2)
    written(monkeypatch, "cpu  400 0 200 900 200 0 0 200 0 0\ncpu0 1 1", own=9.0, ticks=150)
    assert watch.share() == 0.0


def test_where_nobody_can_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    written(monkeypatch, "something else", own=1.0, ticks=0)
    assert math.isnan(Disturbance([]).share())


@linux
def test_a_process_counts_unless_it_is_ours() -> None:
    with subprocess.Popen([sys.executable, "-c", BUSY]) as process:
        try:
            ours, theirs = Disturbance([process.pid]), Disturbance([])
            time.sleep(0.5)
            mine, others = ours.share(), theirs.share()
        finally:
            process.kill()
    assert mine < others  # however busy the machine is with other things
    assert others > 0
