"""Names to classes: what a saved model, the command line and a plugin mean by ``"Conv2d"`` or ``"acme.Swish"``.

A name comes from one of three places: fastconv itself (names without a dot, which nobody else can have), a decorator in the
running program, or the metadata of an installed package (an entry point). Metadata is read when an unknown name is asked for,
never before, and then one entry point is imported: the one that was asked for. ``"Swish"`` alone finds ``"acme.Swish"`` while
no other name ends so.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any, NamedTuple, TypeVar

from fastconv import discovery, loading
from fastconv.discovery import GROUPS, Offer, PluginLoadError, PluginWarning

__all__ = [
    "AmbiguousNameError",
    "Entry",
    "Origin",
    "PluginLoadError",
    "PluginWarning",
    "Registry",
    "UnknownNameError",
    "layers",
]

Member = TypeVar("Member")


class UnknownNameError(LookupError):
    """Nobody offers the name that was asked for."""


class AmbiguousNameError(LookupError):
    """More than one package offers the name that was asked for."""


class Entry(NamedTuple):
    """One registered name, where it comes from in words, whether its class is imported, and why it cannot be, if so."""

    name: str
    source: str
    loaded: bool
    error: str | None = None


class Origin(NamedTuple):
    """Where a registered member comes from: an installed package, or (where `package` is None) a module of the program."""

    package: str | None
    version: str | None
    module: str

    def __str__(self) -> str:
        return f"{self.package} {self.version}" if self.package else f"module {self.module}"


class Registry:
    """The members of one kind: layers, losses; classes, or functions where `base` is None.

    Parameters
    ----------
    group : str
        The group of entry points that plugins offer, one of `fastconv.discovery.GROUPS`, which also says the kind in words.
    late : dict of str
        Names of fastconv's own that a module above registers -> that module, imported when they are asked for.

    Attributes
    ----------
    base : type or None
        What every member is a subclass of; the module that defines it says so.
    check : callable or None
        Called with every member from elsewhere before it is registered; raises `ValueError` for what must not be.

    >>> shapes = Registry("fastconv.layers")
    >>> @shapes.register("acme.Square")
    ... class Square:
    ...     pass
    >>> shapes.get("acme.Square") is Square, shapes.get("Square") is Square
    (True, True)
    >>> shapes.name_of(Square)
    'acme.Square'
    """

    def __init__(self, group: str, *, late: Mapping[str, str] | None = None) -> None:
        self.kind = GROUPS[group]
        self.a_kind = discovery.with_article(self.kind)
        self.group = group
        self.base: type | None = None
        self.check: Callable[[Any], None] | None = None
        self._late = dict(late or {})
        self._members: dict[str, Any] = {}
        self._names: dict[Any, str] = {}
        self._origins: dict[str, Origin] = {}

    def register(self, name: str) -> Callable[[Member], Member]:
        """Return a decorator that gives a class its `name`: what a saved model calls it.

        The name has a dot: in front stands your package, or for a program of your own any word, ``"my.Scale"``. Names without a
        dot are fastconv's. A class of the same module and qualified name replaces an earlier one (a notebook cell run twice).

        Raises `ValueError` for a name without a dot, one that is taken, and for a class that has another name already;
        `TypeError` for what is not a name, and for what is not a member of this kind.
        """
        if not isinstance(name, str):
            raise TypeError(f"register needs a name, as in @register('acme.Swish'), got {name!r}")
        discovery.check_words(name, self.kind)

        def decorate(member: Member) -> Member:
            importing = loading.importing()
            origin = _origin(importing[-1], member) if importing else None
            self._add(name, member, origin)
            return member

        return decorate

    def _add(self, name: str, member: Any, origin: Origin | None) -> None:
        self._require_member(name, member)
        other = self._names.get(member, name)
        if other != name:
            raise ValueError(f"{_qualified(member)} is registered as {other!r} already; it cannot also be {name!r}")
        holder = self._members.get(name)
        if holder is not None and _is_builtin(holder) and _qualified(holder) != _qualified(member):
            raise ValueError(
                f"{name!r} is {self.a_kind} of fastconv and cannot be replaced: "
                f"choose another name for {_qualified(member)}, with your package in front, as in 'acme.{name}'"
            )
        if not _is_builtin(member):
            discovery.check_foreign(name, self.kind)
            if self.check is not None:
                self.check(member)
        if holder is not None and _qualified(holder) != _qualified(member):
            raise ValueError(
                f"the name {name!r} belongs to {_qualified(holder)}; choose another one for {_qualified(member)}"
            )
        if holder is not None:
            del self._names[holder]
        self._members[name] = member
        self._names[member] = name
        if origin is not None:
            self._origins[name] = origin

    def _require_member(self, name: str, member: Any) -> None:
        if self.base is not None and not (isinstance(member, type) and issubclass(member, self.base)):
            base = f"{self.base.__module__.rpartition('.')[0]}.{self.base.__name__}"
            raise TypeError(
                f"only a subclass of {base} can be registered as {self.a_kind}, got {member!r} for the name {name!r}"
            )
        if not callable(member):
            raise TypeError(
                f"only a class or function can be registered as {self.a_kind}, got {member!r} for the name {name!r}"
            )

    def get(self, name: str, *, plugins: bool = True) -> Any:
        """Return the class called `name`, importing the plugin that offers it where none is known yet.

        With ``plugins=False`` only what fastconv has and what the program itself registered. Raises `LookupError`
        (`UnknownNameError`, `AmbiguousNameError`) where nobody offers the name or several do, and `PluginLoadError` where a
        plugin does but fails.
        """
        if not isinstance(name, str):
            raise TypeError(f"the name of {self.a_kind} must be a string, got {name!r}")
        if name in self._late and name not in self._members:
            import_module(self._late[name])
        if not plugins:
            return self._own(name)
        if name in self._members:
            return self._members[name]
        full = name if "." in name else self._full_name(name)
        if full in self._members:
            return self._members[full]
        found = [offer for offer in discovery.offers(self.group) if offer.name == full]
        if not found:
            raise UnknownNameError(self._unknown(name))
        found = discovery.preferred([offer for offer in found if not offer.problem] or found[:1])
        if len(found) > 1:
            packages = " and ".join(sorted(offer.source for offer in found))
            raise AmbiguousNameError(
                f"the {self.kind} {full!r} is offered by {packages}: uninstall all but one, "
                f"or choose, with fastconv.plugins.prefer({found[0].package!r})"
            )
        return self.load(found[0])

    def _own(self, name: str) -> Any:
        if name in self._members and name not in self._origins:
            return self._members[name]
        origin = self._origins.get(name)
        raise UnknownNameError(
            f"{name!r} is no {self.kind} of fastconv, nor one that this program registered"
            f"{f' (it is from {origin})' if origin else ''}, and plugins are not allowed here"
        )

    def _full_name(self, short: str) -> str:
        """Return the one full name that ends with `short`; `short` itself where there is none."""
        offers = [offer for offer in discovery.offers(self.group) if _last(offer.name) == short and "." in offer.name]
        meanings = {offer.name: offer.source for offer in offers}
        own = {name: str(self.origin(name)) for name in self._members if _last(name) == short and name not in meanings}
        full = {*own, *(offer.name for offer in discovery.preferred(offers))}
        if len(full) > 1:
            listed = " or ".join(f"{name!r} ({(meanings | own)[name]})" for name in sorted(full))
            hint = f", or choose, with fastconv.plugins.prefer({offers[0].package!r})" if not own else ""
            raise AmbiguousNameError(f"the {self.kind} {short!r} may be {listed}: write the whole name{hint}")
        return next(iter(full), short)

    def load(self, offer: Offer) -> Any:
        """Return what one entry point names, imported and registered; raise `PluginLoadError` where it cannot be had."""
        member = loading.load(offer)
        try:
            self._add(offer.name, member, _origin(offer, member))
        except (TypeError, ValueError) as error:
            raise loading.failed(offer, f"could not be registered: {error}") from error
        except Exception as error:  # an attribute or a metaclass of the plugin's that raises
            raise loading.failed(offer, f"could not be registered: {loading.describe(error)}") from error
        return member

    def name_of(self, member: Any) -> str | None:
        """Return the name of a registered class; None for any other, a subclass of a registered one too.

        A class that an installed package offers has the name that the package gave it, however it was imported.
        """
        if member in self._names:
            return self._names[member]
        for offer in [] if _is_builtin(member) else discovery.offers(self.group):
            if not offer.problem and _is_target(offer, member) and offer.name not in self._members:
                self._add(offer.name, member, _origin(offer, member))
                return offer.name
        return None

    def origin(self, name: str) -> Origin:
        """Return where the registered member `name` comes from."""
        member = self._members[name]
        if name not in self._origins and not _is_builtin(member):
            for offer in discovery.offers(self.group):
                if offer.name == name and _is_target(offer, member):
                    return _origin(offer, member)
        return self._origins.get(name) or Origin(None, None, member.__module__)

    def entries(self) -> list[Entry]:
        """Return every name, sorted, and where it comes from; plugins are read from metadata and not imported."""
        for module in set(self._late.values()):
            import_module(module)
        entries = [Entry(name, self._source(name), True) for name in self._members]
        for offer in discovery.offers(self.group):
            if offer.name not in self._members or offer.problem:
                entries.append(Entry(offer.name, offer.source, False, loading.failure(offer)))
        return sorted(entries, key=lambda entry: entry[:2])

    def holder(self, name: str) -> Any:
        """Return the member that has `name` now, without importing anything; None where there is none."""
        return self._members.get(name)

    def _source(self, name: str) -> str:
        return "fastconv" if _is_builtin(self._members[name]) else str(self.origin(name))

    def _unknown(self, name: str) -> str:
        if discovery.disabled():
            elsewhere = f"and {discovery.DISABLE} keeps plugins out"
        else:
            elsewhere = "nor provided by an installed package"
        known = [*self._members, *(offer.name for offer in discovery.offers(self.group))]
        close = closest(name, known)
        hint = f"; did you mean {close!r}?" if close else ""
        return (
            f"there is no {self.kind} named {name!r}{hint} "
            f"(neither in fastconv, nor registered by this program, {elsewhere})"
        )


def closest(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Return which of the `known` names was probably meant by a wrong one; None where none is as similar as `cutoff`.

    >>> closest("adm", ["adam", "sgd"])
    'adam'
    """
    from difflib import get_close_matches

    return next(iter(get_close_matches(name, list(known), n=1, cutoff=cutoff)), None)


def _is_builtin(member: Any) -> bool:
    return str(getattr(member, "__module__", "")).partition(".")[0] == "fastconv"


def _qualified(member: Any) -> str:
    return f"{member.__module__}.{member.__qualname__}" if hasattr(member, "__qualname__") else repr(member)


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _origin(offer: Offer, member: Any) -> Origin:
    return Origin(offer.package, offer.version, str(getattr(member, "__module__", "")))


def _is_target(offer: Offer, member: Any) -> bool:
    """Return whether an entry point names `member`, if its module has been imported."""
    module, attribute = discovery.split_target(offer.target) if not offer.problem else ("", "")
    found: Any = sys.modules.get(module)
    try:
        for part in attribute.split("."):
            found = getattr(found, part, None)
    except Exception:  # a module's own __getattr__ may raise anything, and this question is about another class
        return False
    return found is not None and found is member


_LATE = {
    "Branch": "fastconv.branch",
    "Model": "fastconv.model",
    "Sequential": "fastconv.sequential",
    "Unbatched": "fastconv.unbatched",
}

#: The layers: built in, registered with ``@fastconv.layers.register(name)``, or offered as ``fastconv.layers`` entry points.
layers = Registry("fastconv.layers", late=_LATE)
