"""Plugins: what installed packages add to fastconv, and what to do if they are broken or conflict.

A package that brings layers (losses, optimizers, callbacks, data sets, networks) names them in its metadata and is found by
itself; docs/writing-a-layer.md shows how to make one. Nothing is imported before it is asked for by name, and a plugin that
is broken breaks nothing but itself: it is listed with its error, and `PluginLoadError` is raised by who asks for it.

>>> from fastconv import plugins
>>> all(plugin.package for plugin in plugins.entries())
True

=====================================  =================================================================================
environment variable                   effect where it is 1
=====================================  =================================================================================
``FASTCONV_DISABLE_PLUGINS``           there are no plugins: no metadata is read, nothing is imported
``FASTCONV_RAISE_PLUGIN_ERRORS``       errors of plugins are raised, all of them, as they are: for who debugs one
=====================================  =================================================================================
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from signal import SIGKILL
from typing import Any, NamedTuple

from fastconv import discovery, loading
from fastconv.discovery import GROUPS, Offer, PluginLoadError, PluginWarning, prefer
from fastconv.registry import Registry

__all__ = ["GROUPS", "Plugin", "PluginLoadError", "PluginWarning", "entries", "examine", "prefer", "refresh"]

#: Group -> the name of its registry and the module that says what its members must be.
_REGISTRIES = {
    "fastconv.layers": ("fastconv.layers.base", "registry"),
    "fastconv.losses": ("fastconv.training.losses", "losses"),
    "fastconv.optimizers": ("fastconv.training.optimizers", "optimizers"),
    "fastconv.callbacks": ("fastconv.training.callback", "callbacks"),
    "fastconv.datasets": ("fastconv.data.load", "registry"),
    "fastconv.models": ("fastconv.networks", "registry"),
    "fastconv.onnx_ops": ("fastconv.onnx.table", "operators"),
}

#: What a process of its own runs for `examine`.
_EXAMINER = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from fastconv.plugins import report
report(sys.argv[2], int(sys.argv[3]))
"""

#: Seconds that such a process may take before it begins with the first plugin: Python and NumPy start, on a busy machine.
_START = 60.0

#: What a process says about one plugin: the error and its traceback, or twice None.
Report = tuple[str | None, str | None]


class Plugin(NamedTuple):
    """One thing that an installed package offers.

    `kind` is "layer", "loss" and so on; `target` is what its entry point names, ``"module:name"``; `loaded` is whether it has
    been imported here; `error` says why it cannot be, as far as that is known, and `details` is the traceback, if there is one.
    """

    kind: str
    name: str
    package: str
    version: str
    target: str
    loaded: bool = False
    error: str | None = None
    details: str | None = None


def registry_of(group: str) -> Registry:
    """Return the registry that the entry points of `group` go into.

    >>> registry_of("fastconv.losses").kind
    'loss'
    """
    module, name = _REGISTRIES[group]
    found: Registry = getattr(import_module(module), name)
    return found


def entries() -> list[Plugin]:
    """Return what installed packages offer, sorted by package and name, from their metadata: nothing is imported.

    A plugin whose metadata is wrong, that failed when it was asked for, or whose name belongs to something else has an `error`.
    """
    return sorted((_plugin(offer) for offer in discovery.offers()), key=lambda plugin: (plugin.package, *plugin))


def _plugin(offer: Offer) -> Plugin:
    error, loaded = loading.failure(offer), False
    if offer.group in _REGISTRIES and not error:
        registry = registry_of(offer.group)
        holder = registry.holder(offer.name)
        origin = registry.origin(offer.name) if holder is not None else None
        loaded = origin is not None and (origin.package, origin.version) == (offer.package, offer.version)
        if origin is not None and not loaded:
            error = f"the name {offer.name!r} belongs to {holder.__qualname__} of {origin}"
    return Plugin(offer.kind, offer.name, offer.package, offer.version, offer.target, loaded, error)


def refresh() -> None:
    """Read the metadata of installed packages again, and try again what failed: after installing one in a running session.

    What has been imported stays as it is; a package of which another version was installed needs a new process.
    """
    import importlib

    from fastconv import provenance

    importlib.invalidate_caches()
    discovery.forget()
    loading.forget()
    provenance.forget()


def examine(*, timeout: float = 30.0) -> list[Plugin]:
    """Return `entries`, each with the error that importing it gives, found out in processes of their own.

    So a plugin that hangs, ends its process or disturbs NumPy harms nobody here. `timeout` is what one may take, in seconds.
    """
    if not timeout > 0:
        raise ValueError(f"timeout must be a number of seconds greater than 0, got {timeout!r}")
    from concurrent.futures import ThreadPoolExecutor

    packages = sorted({offer.package for offer in discovery.offers()})
    examiner = _Examiner(timeout)
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        try:
            reports = list(pool.map(examiner.examine, packages))
        except BaseException:  # Ctrl-C: nobody waits for the processes
            examiner.stop()
            raise
    found = []
    for package, reported in zip(packages, reports, strict=True):
        for offer, (error, details) in zip(_of(package), reported, strict=True):
            plugin = _plugin(offer)
            found.append(plugin._replace(error=plugin.error or error, details=details))
    return found


def _of(package: str) -> list[Offer]:
    return sorted(offer for offer in discovery.offers() if offer.package == package)


class _Examiner:
    """Imports the plugins of a package in other processes, several packages at once."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.stopped = False
        self.running: set[subprocess.Popen[bytes]] = set()

    def examine(self, package: str) -> list[Report]:
        """Return a report on every offer of a package; where a process dies or hangs, another one goes on behind it."""
        reports: list[Report] = []
        while len(reports) < len(_of(package)) and not self.stopped:
            reports += self._reports(package, len(reports))
        return reports

    def stop(self) -> None:
        """End the processes, and begin no others."""
        self.stopped = True
        for process in list(self.running):
            _kill(process)

    def _reports(self, package: str, first: int) -> list[Report]:
        """Return the reports of one process that begins with offer number `first`, the last of them on how it ended."""
        command = [sys.executable, "-c", _EXAMINER, json.dumps(sys.path), package, str(first)]
        # a group of its own, so that what a plugin has started ends with it
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        ) as process:
            self.running.add(process)
            reports: list[Report] = [tuple(json.loads(line)) for line in _lines(process, self.timeout)]
        self.running.discard(process)
        if first + len(reports) < len(_of(package)):
            hung = process.returncode == -SIGKILL
            why = (
                f"was not done after {self.timeout:g} s"
                if hung
                else f"ended its process (exit code {process.returncode})"
            )
            reports.append((f"importing {_of(package)[first + len(reports)].where} {why}", None))
        return reports


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, SIGKILL)


def _lines(process: subprocess.Popen[bytes], timeout: float) -> Iterator[bytes]:
    """Yield what a process prints, line by line; kill it where the next one takes longer than `timeout` seconds."""
    from threading import Timer

    assert process.stdout is not None
    begun = False
    while True:
        timer = Timer(timeout if begun else _START, _kill, [process])
        timer.start()
        try:
            line = process.stdout.readline()
        finally:
            timer.cancel()
        if not line.endswith(b"\n"):
            return
        if begun:
            yield line
        begun = True  # which is what the first line says


def report(package: str, first: int) -> None:
    """Print a `Report` in JSON for every offer of a package from number `first` on: what a process of `examine` does."""
    import traceback

    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a plugin prints is none of ours
    print("begin", file=out, flush=True)
    for offer in _of(package)[first:]:
        error = details = None
        try:
            _load(offer)
        except PluginLoadError as failure:
            error = str(failure)
            cause = failure.__cause__ or failure
            details = "".join(traceback.format_exception(type(cause), cause, cause.__traceback__))
        except BaseException as failure:  # with FASTCONV_RAISE_PLUGIN_ERRORS
            error, details = loading.describe(failure), traceback.format_exc()
        print(json.dumps([error, details]), file=out, flush=True)


def _load(offer: Offer) -> Any:
    if offer.group in _REGISTRIES:
        return registry_of(offer.group).load(offer)
    if offer.problem:
        raise PluginLoadError(f"{offer.where} cannot be loaded: {offer.problem}")
    return None
