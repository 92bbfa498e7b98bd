"""ONNX import and export: other people's networks as models that train, and models that run anywhere.

``load(path)`` returns a model, ``save(model, path)`` writes one, ``from_torch(module, example)`` returns that of a PyTorch
module, `Backend` is fastconv behind the interface of the ONNX project. They need the onnx package:
``pip install 'fastconv[onnx]'``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastconv.onnx.errors import OnnxExportError, OnnxImportError
from fastconv.onnx.loading import load
from fastconv.onnx.pytorch import from_torch
from fastconv.onnx.saving import save
from fastconv.onnx.table import register

if TYPE_CHECKING:
    from fastconv.onnx.backend import Backend

__all__ = ["Backend", "OnnxExportError", "OnnxImportError", "from_torch", "load", "register", "save"]


def __getattr__(name: str) -> Any:
    if name == "Backend":  # whose base is in the onnx package
        from fastconv.onnx.errors import require_onnx

        require_onnx()
        from fastconv.onnx.backend import Backend

        return Backend
    raise AttributeError(f"module 'fastconv.onnx' has no attribute {name!r}")
