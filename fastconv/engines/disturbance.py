"""How much of the processors other programs use while something is measured."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable
from pathlib import Path


class Disturbance:
    """The work of other programs since it was made, where Linux says.

    Parameters
    ----------
    pids : processes whose work is part of the measurement, beside this one
    """

    def __init__(self, pids: Iterable[int]) -> None:
        self.pids = list(pids)
        self._before = self._times()

    def share(self) -> float:
        """Return the share of all processors' time that others had, from 0 to 1; not a number where nobody can tell.

        What a hypervisor takes away counts too. Times come in hundredths of a second, so a short while says little.
        """
        after = self._times()
        if self._before is None or after is None:
            return math.nan
        total, busy, own = (now - then for now, then in zip(after, self._before, strict=True))
        return min(max(busy - own, 0.0) / total, 1.0) if total > 0 else 0.0

    def _times(self) -> tuple[float, float, float] | None:
        """Return seconds of all processors: altogether, at work, at work for us."""
        try:
            tick = os.sysconf("SC_CLK_TCK")
            words = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()
            ticks = [
                int(word) for word in words[1:9]
            ]  # user, nice, system, idle, waiting for disks, interrupts, stolen
            own = time.process_time() + sum(map(_process_ticks, self.pids)) / tick
        except (OSError, ValueError, AttributeError):
            return None
        return sum(ticks) / tick, (sum(ticks) - ticks[3] - ticks[4]) / tick, own


def _process_ticks(pid: int) -> int:
    """Return the ticks that a process worked, with all its threads; raises `OSError` where there is none."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
