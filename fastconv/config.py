"""What this installation runs on: version, instruction set, OpenMP, threads, and why."""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import TextIO

import numpy as np

from fastconv import _kernels
from fastconv.threads import explain_threads
from fastconv.version import __version__


def config() -> dict[str, str]:
    """Return the configuration in force as words, in the order in which `show_config` prints it.

    >>> config()["numpy"] == np.__version__
    True
    """
    threads, why = explain_threads()
    tile = _kernels.modules[np.dtype(np.float32)].describe()
    rows, columns = tile["tile"]
    return {
        "fastconv": __version__,
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "numpy": np.__version__,
        "instruction set": f"{_kernels.isa} ({8 * tile['vector_bytes']}-bit vectors, float32 tile {rows} x {columns})",
        "kernels built for": ", ".join(_kernels.built_isas()),
        "processor offers": ", ".join(_kernels.offered_isas()),
        "OpenMP": "yes" if _kernels.has_openmp else "no: this build's compiler has none, every call runs on one thread",
        "threads": f"{threads} ({why})",
    }


def show_config(file: TextIO | None = None) -> None:
    """Print `config` to `file` (standard output by default), a line each.

    >>> import fastconv
    >>> fastconv.show_config()  # doctest: +ELLIPSIS
    fastconv           ...
    """
    for name, value in config().items():
        print(f"{name:<18} {value}", file=file or sys.stdout)


def get_include() -> str:
    """Return the folder of the headers that code which calls `fastconv.cython_api` is compiled with.

    >>> import os, fastconv
    >>> sorted(os.listdir(os.path.join(fastconv.get_include(), "fastconv")))
    ['api.h', 'simd.h']
    """
    return str(Path(__file__).parent / "include")
