"""Which threads are in a function right now, whatever module started them."""

from __future__ import annotations

import sys

from fastconv.data import prefetch


def workers() -> list[int]:
    """Return the threads that prepare batches."""
    found = []
    for thread, frame in sys._current_frames().items():
        at = frame
        while at is not None and at.f_code is not prefetch._work.__code__:
            at = at.f_back  # type: ignore[assignment]
        if at is not None:
            found.append(thread)
    return found
