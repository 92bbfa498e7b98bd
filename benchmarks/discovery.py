"""``python -m benchmarks discovery``: how long the first unknown name takes, which reads the metadata of every package.

Beside what is installed there are 300 made-up packages, a tenth of them with layers. Each run is a process of its own, since
metadata is read once; the files are in the operating system's cache, as they are for any program that is started twice.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

MEASURE = """
import sys, time
sys.path.append(sys.argv[1])
import fastconv.layers
start = time.perf_counter()
try:
    fastconv.layers.get("no.such.layer")
except LookupError:
    pass
print(time.perf_counter() - start, len(fastconv.plugins.entries()))
"""


def make_packages(folder: Path, count: int) -> None:
    """Write the metadata of `count` packages: a third have scripts, and every tenth five layers."""
    for i in range(count):
        info = folder / f"package_{i}-1.{i}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: package-{i}\nVersion: 1.{i}\n\n{'text ' * 500}")
        (info / "RECORD").write_text("package/module.py,,\n" * 100)
        points = "[console_scripts]\nscript = package:main\n" if i % 3 == 0 else ""
        if i % 10 == 0:
            points += "[fastconv.layers]\n" + "".join(f"package{i}.L{j} = package:L{j}\n" for j in range(5))
        if points:
            (info / "entry_points.txt").write_text(points)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--packages", type=int, default=300)
    parser.add_argument("--runs", type=int, default=11)


def run(options: argparse.Namespace) -> None:
    """Print the median and the best of several runs, in milliseconds."""
    with tempfile.TemporaryDirectory() as folder:
        make_packages(Path(folder), options.packages)
        outputs = [
            subprocess.run([sys.executable, "-c", MEASURE, folder], capture_output=True, text=True, check=True).stdout
            for _ in range(options.runs)
        ]
    times = sorted(float(output.split()[0]) * 1e3 for output in outputs)
    plugins = outputs[0].split()[1]
    print(f"{options.packages} packages more, {plugins} entry points found")
    print(
        f"first unknown name: median {times[len(times) // 2]:.1f} ms, best {times[0]:.1f} ms of {options.runs} processes"
    )
