"""The packages that the layers of a model file come from, recorded so that errors can name a missing one."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from fastconv.layers.config import names_in
from fastconv.registry import layers as registry

if TYPE_CHECKING:
    from importlib.metadata import Distribution


def provenance(spec: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Return for every layer in a description that is not fastconv's own where it comes from.

    Either ``{"package": ..., "version": ...}`` or, for a layer that the program itself registered, ``{"module": ...}``.
    """
    return {name: _record(name) for name in sorted(names_in(spec)) if "." in name}


def _record(name: str) -> dict[str, str]:
    origin = registry.origin(name)
    if origin.package is not None:
        return {"package": origin.package, "version": str(origin.version)}
    package = _package_of(origin.module.partition(".")[0])
    if package is not None:
        return {"package": package, "version": str(_installed(package))}
    return {"module": origin.module}


def advice(spec: Any, records: Any) -> str:
    """Return what to say about the layers of a file that could not be made, given what the file recorded; "" for nothing.

    `records` comes from a file and may be anything.
    """
    said = []
    for name in sorted(names_in(spec)):
        record = records.get(name) if isinstance(records, dict) else None
        if isinstance(record, dict):
            said.append(_advice(name, record))
    return "".join(f"; {text}" for text in dict.fromkeys(said) if text)


def _advice(name: str, record: dict[str, Any]) -> str:
    package, version, module = (_quoted(record.get(key)) for key in ("package", "version", "module"))
    if package:
        installed = _installed(package)
        if installed is None:
            return f"the file was written with the package {package} {version}, which is not installed here"
        if installed != version:
            return f"the file was written with {package} {version}, and here {package} {installed} is installed"
    elif module and registry.holder(name) is None:
        return f"{name!r} was registered by the module {module} of the program that wrote the file: import it first"
    return ""


def _quoted(value: Any) -> str:
    text = str(value)[:80] if isinstance(value, str) else ""
    return text if text.isprintable() else ascii(text)


def _installed(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except (PackageNotFoundError, ValueError):
        return None


def forget() -> None:
    """Look again which packages there are."""
    _package_of.cache_clear()


@lru_cache
def _package_of(module: str) -> str | None:
    """Return the installed package that has a top-level module; reads what every package has, so once for each."""
    from importlib.metadata import distributions

    for found in distributions():
        try:
            if module in _modules_of(found):
                return str(found.metadata["Name"])
        except Exception:  # metadata that is broken is that of another package, as far as anybody can tell
            continue
    return None


def _modules_of(found: Distribution) -> set[str]:
    declared = (found.read_text("top_level.txt") or "").split()
    files = [] if declared else (file.parts[0] for file in found.files or ())
    return {*declared, *(file.removesuffix(".py").partition(".")[0] for file in files)}
