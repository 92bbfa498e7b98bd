"""How long ``import fastconv`` takes on top of ``import numpy``: ``python -m benchmarks.import_time``.

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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    import_seconds()  # bytecode is written, files are cached
    measured = [import_seconds() for _ in range(rounds)]
    for name, values in zip(("numpy", "fastconv"), zip(*measured, strict=True), strict=True):
        print(f"import {name:<9}{1000 * statistics.median(values):8.1f} ms   (median of {rounds})")


if __name__ == "__main__":
    main()
