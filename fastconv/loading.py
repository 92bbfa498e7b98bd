"""Importing an entry point of another package, isolated from everything else.

What the import may do, and what becomes of it:

===============================  =======================================================================================
raises anything, ``sys.exit``    `PluginLoadError` with the exception as its cause; Ctrl-C alone comes through as it is
takes long, or for ever          after some seconds one line on standard error says who is being waited for
asks for itself                  `PluginLoadError` that shows the circle
changes NumPy's global state     it is put back, and a `PluginWarning` says what it was
===============================  =======================================================================================

A plugin that failed is not tried again until `forget`: nobody waits twice.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np

from fastconv.discovery import DISABLE, Offer, PluginLoadError, PluginWarning, raises, split_target

#: Seconds after which a waiting user is told what for.
PATIENCE = 5.0

_failures: dict[Offer, PluginLoadError] = {}
_here = threading.local()


def load(offer: Offer) -> Any:
    """Return what an entry point names, importing its module; raise `PluginLoadError` for whatever goes wrong."""
    chain = importing()
    if offer in chain:
        circle = " -> ".join(repr(each.name) for each in [*chain[chain.index(offer) :], offer])
        raise PluginLoadError(f"{offer.where} asks for itself while it is imported: {circle}")
    if offer in _failures:
        earlier = _failures[offer]
        raise PluginLoadError(str(earlier)) from earlier.__cause__
    if offer.problem:
        raise failed(offer, f"cannot be loaded: {offer.problem}")
    chain.append(offer)
    try:
        with _announced(offer), _numpy_kept() as changes:
            found = resolve(offer)
    except KeyboardInterrupt:  # the user's, who has waited long enough
        raise
    except BaseException as error:
        if raises():
            raise
        raise failed(offer, f"could not be imported: {describe(error)}") from error
    finally:
        chain.pop()
    if changes:
        _complain(offer, changes)
    return found


def importing() -> list[Offer]:
    """Return the entry points whose import this thread is in the middle of, the innermost last."""
    if not hasattr(_here, "chain"):
        _here.chain = []
    chain: list[Offer] = _here.chain
    return chain


def failed(offer: Offer, why: str) -> PluginLoadError:
    """Note that an entry point cannot be had, and return the error to raise."""
    _failures[offer] = PluginLoadError(f"{offer.where} {why}")
    return _failures[offer]


def failure(offer: Offer) -> str | None:
    """Return why an entry point cannot be had, as far as that is known; None where nothing speaks against it."""
    return str(_failures[offer]) if offer in _failures else offer.problem


def forget() -> None:
    """Forget what failed, so that it is tried again."""
    _failures.clear()


def resolve(offer: Offer) -> Any:
    """Import the module of an entry point and return its attribute."""
    module, attribute = split_target(offer.target)
    found: Any = import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part)
    return found


def describe(error: BaseException) -> str:
    """Return an exception in one line, with its type."""
    try:
        said = " ".join(str(error).split())
    except Exception:  # its class is as broken as the rest
        said = "(and has no text)"
    what = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return f"{what} (it calls sys.exit)" if isinstance(error, SystemExit) else what


@contextmanager
def _announced(offer: Offer) -> Iterator[None]:
    timer = threading.Timer(PATIENCE, _say_slow, [offer])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _say_slow(offer: Offer) -> None:
    print(
        f"fastconv: importing {offer.where} has taken {PATIENCE:g} s and is not done; "
        f"Ctrl-C stops it, {DISABLE}=1 leaves all plugins out",
        file=sys.stderr,
        flush=True,
    )


@contextmanager
def _numpy_kept() -> Iterator[list[str]]:
    """Put NumPy's global state back as it was; the list that is yielded names what had changed, afterwards."""
    changes: list[str] = []
    errors, call, options, size = np.geterr(), np.geterrcall(), np.get_printoptions(), np.getbufsize()
    generator = np.random.get_state(legacy=False)  # noqa: NPY002
    try:
        yield changes
    finally:
        if (np.geterr(), np.geterrcall()) != (errors, call):
            np.seterr(**errors)
            np.seterrcall(call)
            changes.append("the handling of floating-point errors (numpy.seterr)")
        if np.getbufsize() != size:
            np.setbufsize(size)
            changes.append("the size of buffers (numpy.setbufsize)")
        if np.get_printoptions() != options:
            np.set_printoptions(**options)
            changes.append("the printing of arrays (numpy.set_printoptions)")
        if not _same(np.random.get_state(legacy=False), generator):  # noqa: NPY002
            np.random.set_state(generator)  # noqa: NPY002
            changes.append("the global random generator (numpy.random.seed, or a draw from it)")


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    return bool(np.array_equal(a, b))


def _complain(offer: Offer, changes: list[str]) -> None:
    import warnings

    text = f"importing {offer.where} changed {', '.join(changes)}; it was put back as it was"
    if raises():
        raise PluginLoadError(text)
    warnings.warn(text, PluginWarning, stacklevel=4)
