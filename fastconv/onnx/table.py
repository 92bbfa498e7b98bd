"""The table of operators: ONNX names to the functions that convert them, ours and those of installed packages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastconv.onnx.files import Node
from fastconv.registry import PluginLoadError, Registry

#: Names are those of ONNX; with a dot they are ``domain.Operator``, and so are those of entry points in ``fastconv.onnx_ops``.
operators = Registry("fastconv.onnx_ops")

register = operators.register

#: What else there is to say of operators that files have and models of layers cannot be made of.
_WHY = {
    **dict.fromkeys(
        ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"),
        "it draws random numbers, and models compute the same each time",
    ),
}


def lookup(node: Node) -> tuple[Callable[..., Any] | None, str | None]:
    """Return the function for a node's operator, or None and why there is none, if there is more to say.

    Of our own those that are imported: `fastconv.onnx.operators` fills the table.
    """
    name = node.key
    try:
        return operators.get(name, plugins="." in name), None
    except PluginLoadError as error:
        return None, str(error)
    except LookupError:
        return None, _WHY.get(name)


def supported() -> frozenset[str]:
    """Return the names of all operators that are known here; those of plugins only if they are imported."""
    import fastconv.onnx.operators  # noqa: F401 - which fills the table
    from fastconv.onnx.folding import ALWAYS

    return frozenset(entry.name for entry in operators.entries() if entry.loaded) | ALWAYS
