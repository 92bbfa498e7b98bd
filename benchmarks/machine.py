"""What the figures were measured on: the processor, the versions, the yardsticks."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

from benchmarks import ours
from benchmarks.case import Case
from benchmarks.turns import Turns

MULTIPLY_ADD = Case("multiply_add", (1, 1), 1)
COPY = Case("copy", (1, 1), 1)


def processor() -> str:
    """Return the name of the processor, as the operating system knows it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def instruction_set(isa: str | None) -> str:
    """Return the instruction set that both sides are held to, or the best that the processor offers."""
    from fastconv import _kernels

    return isa or _kernels.usable_isas()[-1]


def describe(isa: str | None, dtype: str, against: str) -> dict[str, str]:
    """Return the machine and the versions in words."""
    versions = [f"{name} {version(name)}" for name in ("fastconv", "numpy", "torch")]
    return {
        "processor": f"{processor()}, {os.cpu_count()} cores",
        "instruction set": instruction_set(isa),
        "dtype": dtype,
        "against": "PyTorch, the better of contiguous and channels_last"
        if against == "torch"
        else f"fastconv, {against}",
        "versions": ", ".join([*versions, f"Python {platform.python_version()}"]),
    }


def version(package: str) -> str:
    """Return the version of an installed package."""
    if package == "fastconv":
        from fastconv.version import __version__

        return __version__
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def yardsticks(turns: Turns) -> tuple[float, float]:
    """Return the peak in operations a second and the bandwidth of a copy in bytes a second, each the best of many calls.

    The copy reads and writes: an array of 128 MB counts twice.
    """
    engine = turns.engines[0]
    peak = turns.measure(MULTIPLY_ADD, "forward", only=engine)[engine].least
    copy = turns.measure(COPY, "forward", only=engine)[engine].least
    return ours.peak_operations(engine) / peak, 8 * ours.COPIED / copy
