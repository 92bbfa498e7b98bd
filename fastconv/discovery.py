"""What installed packages provide: their entry points, read from metadata only, once, when first needed.

A package names its layers in its metadata::

    [project.entry-points."fastconv.layers"]
    "acme.Swish" = "acme.layers:Swish"

which every installer writes into ``entry_points.txt``. Reading these files imports nothing. A file that cannot be read or
says nonsense spoils the offers of its own package, which say so in `Offer.problem`, and of no other.

``FASTCONV_DISABLE_PLUGINS=1``: no metadata is read, so no package offers anything. ``FASTCONV_RAISE_PLUGIN_ERRORS=1``: what
would only be noted or warned about is raised, for who is looking for the mistake.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from importlib.metadata import Distribution

#: Group of entry points -> what its members are, in words.
GROUPS = {
    "fastconv.layers": "layer",
    "fastconv.losses": "loss",
    "fastconv.optimizers": "optimizer",
    "fastconv.callbacks": "callback",
    "fastconv.datasets": "data set",
    "fastconv.models": "network",
    "fastconv.onnx_ops": "ONNX operator",
}

DISABLE, RAISE = "FASTCONV_DISABLE_PLUGINS", "FASTCONV_RAISE_PLUGIN_ERRORS"

Read = Callable[[str], bytes]

#: So many letters of a name or a version are shown.
_LONGEST = 80

_PART = r"[^\W\d][\w-]*"
_NAME = re.compile(rf"{_PART}(\.{_PART})*")
_TARGET = re.compile(r"(?P<module>[\w.]+)\s*:\s*(?P<attribute>[\w.]+)\s*(\[.*\])?")


class PluginLoadError(ImportError):
    """An installed package offers what was asked for, and it cannot be had; the exception that it raised is the cause."""


class PluginWarning(UserWarning):
    """A plugin did something that fastconv has put right again."""


class Offer(NamedTuple):
    """One entry point of an installed package; `problem` says why it cannot be loaded, where its metadata shows that."""

    group: str
    name: str
    target: str
    package: str
    version: str
    problem: str | None = None

    @property
    def kind(self) -> str:
        """What it is, in words."""
        return GROUPS.get(self.group, self.group)

    @property
    def source(self) -> str:
        """The package and its version."""
        return f"{self.package} {self.version}"

    @property
    def where(self) -> str:
        """How messages call it."""
        return f"the {self.kind} {self.name!r} of {self.source} ({self.target})"


_offers: list[Offer] | None = None
_path: list[str] = []
_preferred: list[str] = []


def disabled() -> bool:
    """Return whether the environment says that there shall be no plugins."""
    return os.environ.get(DISABLE, "0") not in ("", "0")


def raises() -> bool:
    """Return whether the environment says that errors of plugins shall be raised, all of them and as they are."""
    return os.environ.get(RAISE, "0") not in ("", "0")


def offers(group: str | None = None) -> list[Offer]:
    """Return what installed packages offer, in one group or in all, in the order of ``sys.path``; the broken ones too.

    The metadata is read again after `forget`, and where ``sys.path`` has changed.
    """
    global _offers, _path
    if disabled():
        return []
    found = _offers
    if found is None or _path != sys.path:
        found = [offer for package in _packages() for offer in package]
        broken = next((offer for offer in found if offer.problem), None)
        if broken and raises():
            raise PluginLoadError(f"{broken.where}: {broken.problem}")
        _offers, _path = found, list(sys.path)
    return [offer for offer in found if group in (None, offer.group)]


def forget() -> None:
    """Forget what was read, so that the next question reads the metadata again."""
    global _offers
    _offers = None


def prefer(package: str) -> None:
    """Let the offers of `package` win where others have the same name; the package that was preferred last comes first."""
    if not isinstance(package, str):
        raise TypeError(f"package must be the name of an installed package, got {package!r}")
    known = {offer.package for offer in offers()}
    if not any(_matches(offer, package) for offer in offers()):
        listed = ", ".join(sorted(known)) or "none"
        raise LookupError(f"no installed package {package!r} has plugins for fastconv; those that do: {listed}")
    if package in _preferred:
        _preferred.remove(package)
    _preferred.insert(0, package)


def preferred(found: list[Offer]) -> list[Offer]:
    """Return those of `found` that the preferences leave over: all where nothing was said about them."""
    for package in _preferred:
        by_package = [offer for offer in found if normalized(offer.package) == normalized(package)]
        chosen = by_package or [offer for offer in found if _matches(offer, package)]
        if chosen:
            return chosen
    return found


def _matches(offer: Offer, package: str) -> bool:
    return normalized(package) in (normalized(offer.package), normalized(offer.name.partition(".")[0]))


def normalized(package: str) -> str:
    """Return the name of a package as the index compares them.

    >>> normalized("Acme_Layers")
    'acme-layers'
    """
    return re.sub(r"[-_.]+", "-", package).lower()


def with_article(kind: str) -> str:
    """Return a kind of members with "a" or "an" in front.

    >>> with_article("layer"), with_article("optimizer")
    ('a layer', 'an optimizer')
    """
    return f"{'an' if kind[0] in 'aeioO' else 'a'} {kind}"


def check_words(name: str, kind: str) -> None:
    """Raise `ValueError` for what can be no name: words, of letters, digits, ``_`` and ``-``, joined by dots."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"the name of {with_article(kind)} must be words joined by dots, as in 'acme.Swish', got {name!r}"
        )


def check_foreign(name: str, kind: str) -> None:
    """Raise `ValueError` for what only fastconv may call something of its own: names without a dot, or within fastconv."""
    check_words(name, kind)
    if "." not in name or name.startswith("fastconv."):
        last = name.rpartition(".")[2]
        raise ValueError(
            f"{name!r} cannot be the name of {with_article(kind)} of yours: names without a dot, and those that begin with "
            f"fastconv, are the built-ins' alone. Put your package in front, or in a program of your own any word: "
            f"'acme.{last}', 'my.{last}'; {last!r} alone will find it while it is unique"
        )


def split_target(target: str) -> tuple[str, str]:
    """Return module and attribute of ``"acme.layers:Swish"``; raise `ValueError` for anything else."""
    found = _TARGET.fullmatch(target)
    if not found or not all(part.isidentifier() for part in f"{found['module']}.{found['attribute']}".split(".")):
        raise ValueError(f"an entry point must be 'module:name', as in 'acme.layers:Swish', got {target!r}")
    return found["module"], found["attribute"]


def _packages() -> Iterator[list[Offer]]:
    seen: set[str] = set()
    for stem, read in _metadata():
        # of two packages with one name the first on the path counts, as for an import
        key = normalized(stem.partition("-")[0])
        if key not in seen:
            seen.add(key)
            yield _offers_of(stem, read)


def _metadata() -> Iterator[tuple[str, Read]]:
    """Yield for every installed package ``name-version``, as its folder is called, and what reads a file of its metadata.

    Folders on the path are read here and not by importlib.metadata, whose import alone costs more than reading hundreds.
    """
    for entry in sys.path:
        folder = entry or "."
        if os.path.isfile(folder):
            yield from _archived(folder)
            continue
        try:
            with os.scandir(folder) as found:
                # what begins with ~ is what pip left of a package that it could not remove
                names = sorted(
                    item.name
                    for item in found
                    if item.name.endswith((".dist-info", ".egg-info")) and item.name[0] != "~"
                )
        except OSError:
            continue
        for name in names:
            yield name.rpartition(".")[0], partial(_read, os.path.join(folder, name))


def _read(folder: str, name: str) -> bytes:
    try:
        with open(os.path.join(folder, name), "rb", opener=_at_once) as file:
            return file.read() or b""
    except OSError:  # not there, or not for us: then it offers us nothing
        return b""


def _at_once(path: str, flags: int) -> int:
    """Open a file without waiting for anybody, as one would at a pipe that somebody has put there."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _archived(path: str) -> Iterator[tuple[str, Read]]:
    """Yield the same of packages in a zip file on the path."""
    from importlib.metadata import distributions

    for found in distributions(path=[path]):
        name, version = found.metadata["Name"], found.metadata["Version"]
        yield f"{name}-{version}", partial(_read_archived, found)


def _read_archived(found: Distribution, name: str) -> bytes:
    return (found.read_text(name) or "").encode()


def _offers_of(stem: str, read: Read) -> list[Offer]:
    content = read("entry_points.txt")
    if b"fastconv." not in content.replace(b"\0", b""):  # as it would be in UTF-16
        return []
    package, version = _name_and_version(stem, read)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        group = next((group for group in GROUPS if group.encode() in content), "fastconv.layers")
        return [Offer(group, "?", "?", package, version, f"its entry_points.txt is not in UTF-8: {error}")]
    found = list(_parsed(text, package, version))
    names = [(offer.group, offer.name) for offer in found]
    return [
        offer._replace(problem="its package names it twice") if names.count((offer.group, offer.name)) > 1 else offer
        for offer in found
    ]


def _parsed(text: str, package: str, version: str) -> Iterator[Offer]:
    group = ""
    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        if not line or line[0] in "#;":
            continue
        if line.startswith("["):
            group = line.strip("[] ")
            whole = line.endswith("]")
            if group.startswith("fastconv.") and not (whole and group in GROUPS):
                problem = f"the groups are {', '.join(GROUPS)}" if whole else f"line {number} has no ']'"
                yield Offer(group, "?", "?", package, version, f"its entry_points.txt says {line!r}: {problem}")
                group = ""
        elif group in GROUPS:
            name, equals, target = (_printable(part.strip()) for part in line.partition("="))
            why = _problem(GROUPS[group], name, target) if equals else f"line {number} of its metadata has no '='"
            yield Offer(group, name, target, package, version, why)


def _problem(kind: str, name: str, target: str) -> str | None:
    try:
        check_foreign(name, kind)
        split_target(target)
    except ValueError as error:
        return str(error)
    return None


def _name_and_version(stem: str, read: Read) -> tuple[str, str]:
    """Return what METADATA (in an egg-info PKG-INFO) says, or else what the folder is called."""
    name, _, version = stem.partition("-")
    facts = {"version": version or "of unknown version", "name": name}
    for line in (read("METADATA") or read("PKG-INFO")).decode("utf-8", "replace").splitlines():
        key, _, value = line.partition(":")
        if not line.strip():  # here its description begins
            break
        if key.lower() in facts and value.strip():
            facts[key.lower()] = _printable(value.strip())
    return facts["name"], facts["version"]


def _printable(text: str) -> str:
    """Return text as it is, in escapes where printing it would do something to a terminal, cut where nobody would read it."""
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    return text if text.isprintable() else ascii(text)
