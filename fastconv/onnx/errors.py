"""Errors of files, and exceptions within the conversion."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class OnnxImportError(ValueError):
    """A file that is not an ONNX model, is broken or hostile, or not supported; the message says which and where.

    Attributes
    ----------
    unsupported : list of (str, str)
        The operators that are missing and the names of the nodes that ask for them, where that is the reason.
    """

    def __init__(self, message: str, unsupported: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.unsupported = list(unsupported)


class OnnxExportError(ValueError):
    """A model that cannot be written as ONNX; the message names the layer."""


class NotBatchedError(Exception):
    """The first axis is not the batch throughout: the graph is converted again without one."""


class NeedsValueError(Exception):
    """An operand must be known when the model is made, and comes from inputs of the file: `names`, empty where from none."""

    def __init__(self, what: str, names: Iterable[str]) -> None:
        super().__init__(what)
        self.names = sorted(names)


def require_onnx() -> Any:
    """Return the onnx package; `ImportError` says how to get it."""
    try:
        import onnx
    except ImportError as error:
        raise ImportError("ONNX files need the onnx package: pip install 'fastconv[onnx]'") from error
    return onnx
