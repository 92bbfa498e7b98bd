"""Programs in a process of their own, with the fastconv that the tests use, wherever that is installed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import fastconv

#: What decides the number of threads or the instruction set: a program begins without them.
SETTINGS = ("FASTCONV_NUM_THREADS", "OMP_NUM_THREADS", "FASTCONV_ISA")


def run_program(
    code: str, *, check: bool = True, timeout: float = 300, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `code` as a script, from an empty folder, and return what it wrote; fail unless it ends well (with `check`).

    After `timeout` seconds it is ended with all its children, and `subprocess.TimeoutExpired` is raised.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    path = os.pathsep.join([str(Path(fastconv.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "program.py"
        script.write_text(code, encoding="utf-8")
        with subprocess.Popen(
            [sys.executable, str(script)],
            env={**inherited, "PYTHONPATH": path, **environment},
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                out, error = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise
    if check:
        assert process.returncode == 0, error
        assert not error
    return subprocess.CompletedProcess(process.args, process.returncode, out, error)
