"""Other processes: a new one that loads a model, and a forked one that computes. Both with a time limit."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from fastconv import discovery
from fastconv.layers import to_spec
from fastconv.layers.config import names_in
from fastconv.model import Model
from fastconv.registry import layers as registry
from fastconv.testing.result import CheckFailed, CheckSkipped

#: Seconds that a new process and a forked one may take.
NEW_PROCESS, FORKED_PROCESS = 60.0, 20.0

_LOADER = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
import numpy as np
from fastconv import load_model
model = load_model(sys.argv[2] + "/model.safetensors")
with np.load(sys.argv[2] + "/inputs.npz") as inputs:
    ys = model(*(inputs[f"arr_{i}"] for i in range(len(inputs.files))))
np.savez(sys.argv[2] + "/outputs.npz", *(ys if isinstance(ys, tuple) else (ys,)))
"""


def require_known_elsewhere(model: Model) -> None:
    """Raise `CheckSkipped` where a layer of the model is known to this program alone."""
    offered = {offer.name for offer in discovery.offers(registry.group) if not offer.problem}
    for name in sorted(names_in(to_spec(model))):
        if "." in name and name not in offered:
            raise CheckSkipped(f"{name!r} is registered by this program; no installed package offers it to another one")


def run_elsewhere(folder: Path, xs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the outputs of the model in `folder` for inputs `xs`, computed in a new process that has imported nothing."""
    np.savez(folder / "inputs.npz", *xs)
    command = [sys.executable, "-c", _LOADER, json.dumps(sys.path), str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=NEW_PROCESS)
    except subprocess.TimeoutExpired as error:
        raise CheckFailed(f"a new process did not load and run the model within {NEW_PROCESS:g} s") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise CheckFailed(f"a new process cannot load and run the model: {last}")
    with np.load(folder / "outputs.npz") as outputs:
        return [outputs[f"arr_{i}"] for i in range(len(outputs.files))]


def run_forked(work: Callable[[], bytes]) -> bytes:
    """Return what `work` returns in a child made by ``os.fork()``; `CheckFailed` where that raises, dies or takes too long."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: other threads are the point of the check
        child = os.fork()
    if child == 0:
        _work_and_exit(work, writing)
    os.close(writing)
    try:
        answer = _read(reading, time.monotonic() + FORKED_PROCESS)
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)  # it is done, or will not be
        os.waitpid(child, 0)
    if answer is None:
        raise CheckFailed(
            f"a forked process was not done after {FORKED_PROCESS:g} s: it may wait for threads that stayed here"
        )
    if not answer.startswith(b"+"):
        raise CheckFailed(f"a forked process raised {answer[1:].decode() or 'nothing, and ended'}")
    return answer[1:]


def _work_and_exit(work: Callable[[], bytes], writing: int) -> None:
    try:
        answer = b"+" + work()
    except BaseException as error:
        answer = f"-{type(error).__name__}: {error}".encode()
    try:
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(answer)
    finally:
        os._exit(0)  # no test runner, no exit handlers


def _read(pipe: int, deadline: float) -> bytes | None:
    parts: list[bytes] = []
    while True:
        ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return None
        part = os.read(pipe, 1 << 16)
        if not part:
            return b"".join(parts)
        parts.append(part)
