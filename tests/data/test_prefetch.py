"""The thread that works ahead: Ctrl-C at any moment neither hangs nor leaves the thread behind."""

from __future__ import annotations

from programs import run_program

#: Interrupts a loop over a Prefetch before each bytecode of its file and of `threading`, one in each round, as a signal could.
#: A lock left behind makes the program wait for ever.
PROGRAM = """
import itertools, sys, threading, time
from fastconv.data import prefetch

def interrupted(before):
    # Whether a KeyboardInterrupt came, before the bytecode of that number.
    left = [before]

    def trace(frame, event, argument):
        if frame.f_code.co_filename not in (prefetch.__file__, threading.__file__):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left[0] -= 1
            if left[0] < 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    try:
        sys.settrace(trace)
        with prefetch.Prefetch(iter(range(3)), depth=1) as numbers:
            found = list(numbers) if before % 2 else [number for number in numbers]
        sys.settrace(None)
        assert found == [0, 1, 2]
        return False
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)

for before in itertools.count():
    if not interrupted(before):
        break
    deadline = time.monotonic() + 30
    while len(sys._current_frames()) > 1:
        assert time.monotonic() < deadline, f"the thread is left after an interruption before bytecode {before}"
        time.sleep(0.0002)
print(before)
"""


def test_ctrl_c_at_any_moment_leaves_nothing_that_waits() -> None:
    rounds = int(run_program(PROGRAM, timeout=120).stdout)
    assert rounds > 50
