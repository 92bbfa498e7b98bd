"""``python -m benchmarks import``: how long ``import fastconv`` takes on top of ``import numpy``.

Every measurement is a fresh interpreter that imports first the one and then the other; medians are printed.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

#: The start of the interpreter does not count, and fastconv meets a NumPy that is there already.
PROGRAM = """
import time
start = time.perf_counter()
import numpy
middle = time.perf_counter()
import fastconv
print(middle - start, time.perf_counter() - middle)
"""


def import_seconds() -> tuple[float, float]:
    """Return the seconds for NumPy, and for fastconv after it, in a fresh interpreter."""
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    numpy, fastconv = map(float, result.stdout.split())
    return numpy, fastconv


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="fresh processes (20)")


def run(options: argparse.Namespace) -> None:
    """Measure and print."""
    import_seconds()  # bytecode is written, files are cached
    measured = [import_seconds() for _ in range(options.rounds)]
    for name, values in zip(("numpy", "fastconv"), zip(*measured, strict=True), strict=True):
        print(f"import {name:<9}{1000 * statistics.median(values):8.1f} ms   (median of {options.rounds})")
