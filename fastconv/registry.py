"""Names to classes: what a saved model, the command line and a plugin mean by ``"Conv2d"`` or ``"acme.Swish"``.

A name comes from one of three places: fastconv itself, a decorator in the running program, or the metadata of an installed
package (an entry point). Metadata is read when an unknown name is asked for, never before, and then one entry point is
imported: the one that was asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

Class = TypeVar("Class", bound=type)


class PluginLoadError(ImportError):
    """An installed package offers the name that was asked for, but its entry point could not be imported."""


class Entry(NamedTuple):
    """One registered name, where it comes from in words, and whether its class is imported."""

    name: str
    source: str
    loaded: bool


class Registry:
    """The classes of one kind: `kind` in words (for messages), `group` the entry points that plugins offer.

    >>> shapes = Registry("shape", "example.shapes")
    >>> @shapes.register("acme.Square")
    ... class Square:
    ...     pass
    >>> shapes.get("acme.Square") is Square
    True
    >>> shapes.name_of(Square)
    'acme.Square'
    """

    def __init__(self, kind: str, group: str) -> None:
        self.kind = kind
        self.group = group
        self._classes: dict[str, type] = {}
        self._names: dict[type, str] = {}
        self._packages: dict[str, str] = {}

    def register(self, name: str) -> Callable[[Class], Class]:
        """Return a decorator that gives a class its `name`: what a saved model calls it.

        A layer that others will use carries the name of its package, ``"acme.Swish"``: names without a dot may one day be
        fastconv's. A class of the same module and qualified name replaces an earlier one (a notebook cell run twice).

        Raises `ValueError` for a name that is taken, by fastconv above all, and for a class that has another name
        already; `TypeError` for what is no name or no class.
        """
        if not isinstance(name, str):
            raise TypeError(f"register needs a name, as in @register('acme.Swish'), got {name!r}")
        if not name or not all(part.isidentifier() for part in name.split(".")):
            raise ValueError(
                f"the name of a {self.kind} must be identifiers joined by dots, as in 'acme.Swish', got {name!r}"
            )

        def decorate(cls: Class) -> Class:
            self._add(name, cls)
            return cls

        return decorate

    def _add(self, name: str, cls: type) -> None:
        if not isinstance(cls, type):
            raise TypeError(f"only a class can be registered as a {self.kind}, got {cls!r} for the name {name!r}")
        other = self._names.get(cls, name)
        if other != name:
            raise ValueError(f"{_qualified(cls)} is registered as {other!r} already; it cannot also be {name!r}")
        holder = self._classes.get(name)
        if holder is not None and _qualified(holder) != _qualified(cls):
            if _is_builtin(holder):
                raise ValueError(
                    f"{name!r} is a {self.kind} of fastconv and cannot be replaced: "
                    f"choose another name for {_qualified(cls)}, with your package in front, as in 'acme.{name}'"
                )
            raise ValueError(
                f"the name {name!r} belongs to {_qualified(holder)}; choose another one for {_qualified(cls)}"
            )
        if holder is not None:
            del self._names[holder]
        self._classes[name] = cls
        self._names[cls] = name

    def get(self, name: str) -> type:
        """Return the class called `name`, importing the plugin that offers it where none is known yet.

        Raises `LookupError` where nobody offers the name, `PluginLoadError` where a plugin does but fails.
        """
        if not isinstance(name, str):
            raise TypeError(f"the name of a {self.kind} must be a string, got {name!r}")
        if name in self._classes:
            return self._classes[name]
        offers = self._entry_points()
        found = offers.get(name, [])
        if not found:
            raise LookupError(self._unknown(name, [*self._classes, *offers]))
        if len(found) > 1:
            packages = " and ".join(sorted(_package(point) for point in found))
            raise LookupError(f"the {self.kind} {name!r} is offered by {packages}: uninstall all but one")
        return self._import(found[0])

    def name_of(self, cls: type) -> str | None:
        """Return the name of a registered class; None for any other, a subclass of a registered one too."""
        return self._names.get(cls)

    def entries(self) -> list[Entry]:
        """Return every name, sorted, and where it comes from; plugins are read from metadata and not imported."""
        entries = [Entry(name, self._source(name, cls), True) for name, cls in self._classes.items()]
        for name, points in self._entry_points().items():
            if name not in self._classes:
                entries.extend(Entry(name, _package(point), False) for point in points)
        return sorted(entries)

    def _source(self, name: str, cls: type) -> str:
        return "fastconv" if _is_builtin(cls) else self._packages.get(name, f"module {cls.__module__}")

    def _entry_points(self) -> dict[str, list[EntryPoint]]:
        # importing importlib.metadata costs more than the rest of this floor: only who asks for a plugin pays
        from importlib.metadata import entry_points

        offers: dict[str, list[EntryPoint]] = {}
        for point in entry_points(group=self.group):
            same = offers.setdefault(point.name, [])
            # a package that is found twice on sys.path is one package
            if all((_package(point), point.value) != (_package(other), other.value) for other in same):
                same.append(point)
        return offers

    def _import(self, point: EntryPoint) -> type:
        where = f"the {self.kind} {point.name!r} of {_package(point)} ({point.value})"
        try:
            cls = point.load()
        except Exception as error:
            raise PluginLoadError(f"{where} could not be imported: {type(error).__name__}: {error}") from error
        try:
            self._add(point.name, cls)
        except (TypeError, ValueError) as error:
            raise PluginLoadError(f"{where} could not be registered: {error}") from error
        self._packages[point.name] = _package(point)
        return cls

    def _unknown(self, name: str, known: list[str]) -> str:
        from difflib import get_close_matches

        close = get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        return (
            f"there is no {self.kind} named {name!r}{hint} "
            f"(neither in fastconv, nor registered by this program, nor offered by an installed package)"
        )


def _is_builtin(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == "fastconv"


def _qualified(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown package"


#: The layers: built in, registered with ``@fastconv.layers.register(name)``, or offered as ``fastconv.layers`` entry points.
layers = Registry("layer", "fastconv.layers")
