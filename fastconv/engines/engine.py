"""The engines that can be compared: what each needs, and the settings of which the best counts."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from fastconv.threads import thread_count

OURS = "fastconv"


class Kind(NamedTuple):
    """What an engine needs: its modules, and how to get them; and a setting of which nobody knows beforehand what is best."""

    modules: tuple[str, ...]
    install: str
    choice: str = ""  # the argument of its opener that is tried both ways


KINDS = {
    OURS: Kind(("onnx",), "pip install 'fastconv[onnx]'"),
    "onnxruntime": Kind(("onnxruntime",), "pip install onnxruntime", "spinning"),
    "openvino": Kind(("openvino",), "pip install openvino"),
    "torch": Kind(("torch", "onnx2torch"), "pip install torch torchvision onnx2torch", "channels_last"),
}


class Engine(NamedTuple):
    """An engine with its settings: the arguments of ``open_<name>`` in a program (see `fastconv.engines.openers`)."""

    name: str
    threads: int = 1
    settings: tuple[tuple[str, Any], ...] = ()
    program: str = str(Path(__file__).with_name("openers.py"))

    def __str__(self) -> str:
        return " ".join([self.name, *(f"{'' if on else 'not '}{key.replace('_', ' ')}" for key, on in self.settings)])


def engines(names: Iterable[str], threads: int) -> list[Engine]:
    """Return fastconv first, then the engines of these names, each with every setting that may be its best.

    Raises
    ------
    ValueError
        For a name that is none, and for more threads than fastconv starts.
    ImportError
        Where packages are not installed; the message says how to get them.
    """
    threads = thread_count(threads)
    found = []
    for name in dict.fromkeys([OURS, *names]):
        require(name)
        choice = KINDS[name].choice
        if not choice or (choice == "spinning" and threads == 1):  # one thread waits for nobody
            found.append(Engine(name, threads))
        else:
            found += [Engine(name, threads, ((choice, on),)) for on in (True, False)]
    return found


def require(name: str) -> None:
    """Raise an error where an engine is unknown or not installed."""
    if name not in KINDS:
        raise ValueError(f"there is no engine {name!r} to compare with; there are: {', '.join(others())}")
    missing = missing_modules(name)
    if missing:
        raise ImportError(f"{name} needs {' and '.join(missing)}, not installed here: {KINDS[name].install}")


def missing_modules(name: str) -> list[str]:
    """Return the modules of an engine that are not installed."""
    return [module for module in KINDS[name].modules if importlib.util.find_spec(module) is None]


def others() -> list[str]:
    """Return the names of the engines to compare with."""
    return [name for name in KINDS if name != OURS]


def version(name: str) -> str:
    """Return the version of an engine, empty where its package does not say."""
    if name == OURS:
        from fastconv.version import __version__

        return __version__
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
