"""How long ``import fastconv`` takes on top of ``import numpy``: ``python -m benchmarks.import_time``.

Every import is a fresh interpreter; the variants take turns, and medians are compared.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

VARIANTS = {"numpy": "import numpy", "numpy, then fastconv": "import numpy; import fastconv"}

#: Times the statements from inside, so that the start of the interpreter does not count.
TIMED = "import time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"


def import_seconds(statement: str) -> float:
    """Return how long `statement` takes in a fresh interpreter, in seconds."""
    result = subprocess.run([sys.executable, "-c", TIMED.format(statement)], capture_output=True, text=True, check=True)
    return float(result.stdout)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for statement in VARIANTS.values():  # bytecode is written, files are cached
        import_seconds(statement)
    for _ in range(options.rounds):
        for name, statement in VARIANTS.items():
            times[name].append(import_seconds(statement))
    medians = {name: 1000 * statistics.median(values) for name, values in times.items()}
    for name, milliseconds in medians.items():
        print(f"{name:<24}{milliseconds:8.1f} ms")
    before, after = medians.values()
    print(f"{'fastconv adds':<24}{after - before:8.1f} ms   (median of {options.rounds})")


if __name__ == "__main__":
    main()
