"""Losses, optimizers and callbacks by name: registries like that of the layers, and the errors of wrong names."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from fastconv.registry import Registry, UnknownNameError, closest

losses = Registry("fastconv.losses")
optimizers = Registry("fastconv.optimizers")
callbacks = Registry("fastconv.callbacks")


def resolve(registry: Registry, value: Any, base: type) -> Any:
    """Return `value` if it is an object of the class `base`, or the object, with default arguments, that it names.

    Raises `ValueError` for an unknown name, with the names that are known, and for one whose object needs arguments;
    `LookupError` for a name of two packages, `PluginLoadError` for one of a broken package, `TypeError` for anything else.
    """
    if isinstance(value, base):
        return value
    if isinstance(value, str):
        return _default(registry, value, find(registry, value))
    hint = ": call it, to make one" if isinstance(value, type) else ""
    raise TypeError(
        f"{registry.kind} must be a name or an object of fastconv.training.{base.__name__}, got {value!r}{hint}"
    )


def find(registry: Registry, name: str) -> Any:
    """Return the class called `name`; raise `ValueError`, with the names that are known, where there is none."""
    try:
        return registry.get(name)
    except UnknownNameError:
        known = [entry.name for entry in registry.entries() if not entry.error]
        close = closest(name, known)
        hint = f"did you mean {close!r}? There" if close else "there"
        raise ValueError(f"there is no {registry.kind} named {name!r}; {hint} are: {', '.join(known)}") from None


def _default(registry: Registry, name: str, made: Any) -> Any:
    needed = _needed(made)
    if needed:
        raise ValueError(
            f"the {registry.kind} {name!r} cannot be made by its name alone: {made.__name__} needs {', '.join(needed)}; "
            f"make the object, and pass that"
        )
    return made()


@lru_cache(maxsize=64)
def _needed(made: Any) -> tuple[str, ...]:
    """Return the arguments without defaults; remembered, since a step of a small network asks each time."""
    import inspect

    return tuple(
        each.name
        for each in inspect.signature(made).parameters.values()
        if each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    )


class Described:
    """Shows itself as the call that made it; every argument of the constructor is an attribute of its name.

    >>> class Point(Described):
    ...     def __init__(self, x, *, y=0):
    ...         self.x, self.y = x, y
    >>> Point(1)
    Point(x=1, y=0)
    """

    def __repr__(self) -> str:
        import inspect

        init: Any = type(self).__init__
        # a class without a constructor has that of object, with *args
        names = [name for name in list(inspect.signature(init).parameters)[1:] if hasattr(self, name)]
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"


def positive(value: Any, name: str) -> float:
    """Return `value` as a float; raise `ValueError` unless it is a finite number greater than 0."""
    return _number(value, name, 0 < _real(value) < float("inf"), "greater than 0")


def at_least_zero(value: Any, name: str) -> float:
    """Return `value` as a float; raise `ValueError` unless it is a finite number, at least 0."""
    return _number(value, name, 0 <= _real(value) < float("inf"), "at least 0")


def share(value: Any, name: str) -> float:
    """Return `value` as a float; raise `ValueError` unless it is a number from 0 to 1, 1 excluded."""
    return _number(value, name, 0 <= _real(value) < 1, "at least 0 and below 1")


def _real(value: Any) -> float:
    try:
        return float("nan") if isinstance(value, (bool, str)) else float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def _number(value: Any, name: str, good: bool, expected: str) -> float:
    if not good:
        raise ValueError(f"{name} must be a number {expected}, got {value!r}")
    return float(value)
