"""Packaging: the metadata of the package that a layer comes from."""

from __future__ import annotations

import sys
from importlib import import_module, metadata

import fastconv
from fastconv import discovery
from fastconv.discovery import Offer
from fastconv.layers import Layer
from fastconv.layers.base import check_api_version
from fastconv.registry import PluginLoadError
from fastconv.registry import layers as registry
from fastconv.testing.cases import Case
from fastconv.testing.checks.registry import check
from fastconv.testing.result import CheckFailed, CheckSkipped


def _offer(layer: Layer) -> Offer:
    """Return the entry point that offers a layer's class under its name; `CheckSkipped` where there is none to check."""
    cls = type(layer)
    if cls.__module__.partition(".")[0] == "fastconv":
        raise CheckSkipped("it is a layer of fastconv itself")
    name = registry.name_of(cls)
    if name is None:
        raise CheckSkipped(f"{cls.__name__} has no registered name, and no installed package offers it")
    for offer in discovery.offers(registry.group):
        if offer.name == name:
            return offer
    raise CheckSkipped(f"{name!r} is registered by this program; no installed package offers it")


@check("Packaging", once=True)
def entry_point(case: Case) -> None:
    """The entry point of the package, in the group `fastconv.layers`, leads to the class of the layer.

    `"acme.Swish" = "acme.layers:Swish"`: the name that models save, then the module and the class.
    """
    cls, offer = type(case.entry.layer), _offer(case.entry.layer)
    if offer.problem:
        raise CheckFailed(f"the entry point {offer.name!r} of {offer.source} is malformed: {offer.problem}")
    try:
        module, attribute = discovery.split_target(offer.target)
        found = import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, PluginLoadError) as error:
        raise CheckFailed(f"the entry point {offer.name!r} = {offer.target!r} leads nowhere: {error}") from error
    if found is not cls:
        raise CheckFailed(f"the entry point {offer.name!r} = {offer.target!r} leads to {found!r}, expected {cls!r}")


def _requirements(offer: Offer) -> list[str]:
    found = metadata.requires(offer.package) or []
    return [text for text in found if _project(text) == "fastconv" and "extra ==" not in text]


def _project(requirement: str) -> str:
    name = requirement.strip()
    for at, letter in enumerate(name):
        if not (letter.isalnum() or letter in "-_."):
            return name[:at].lower().replace("_", "-")
    return name.lower()


@check("Packaging", once=True)
def requires_fastconv(case: Case) -> None:
    """The package declares that it depends on fastconv.

    `dependencies = ["fastconv>=0.1"]` in its pyproject.toml; an extra does not count.
    """
    offer = _offer(case.entry.layer)
    if not _requirements(offer):
        raise CheckFailed(f"{offer.source} does not require fastconv")


@check("Packaging", once=True)
def versions_match(case: Case) -> None:
    """The package admits this version of fastconv, was written for a layer API that it has, and knows its own version.

    What the metadata calls the version and what the package calls `__version__` must be the same.
    """
    layer, offer = case.entry.layer, _offer(case.entry.layer)
    try:
        check_api_version(type(layer))
    except ValueError as error:
        raise CheckFailed(str(error)) from error
    package = sys.modules.get(type(layer).__module__.partition(".")[0])
    claimed = getattr(package, "__version__", None)
    if isinstance(claimed, str) and claimed != offer.version:
        raise CheckFailed(f"the metadata of {offer.package} has version {offer.version}, its __version__ is {claimed}")
    _require_admitted(offer)


def _require_admitted(offer: Offer) -> None:
    try:
        from packaging.requirements import Requirement
    except ImportError:  # pip and pytest bring it; without them the installer has looked already
        return
    for text in _requirements(offer):
        wanted = Requirement(text)
        applies = wanted.marker is None or wanted.marker.evaluate()
        if applies and not wanted.specifier.contains(fastconv.__version__, prereleases=True):
            raise CheckFailed(f"{offer.source} requires {text}, and this is fastconv {fastconv.__version__}")
