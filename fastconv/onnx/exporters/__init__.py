"""How each layer is written: one function per class, one family per file.

A function gets the writer, the layer, and a `fastconv.onnx.writer.Tensor` for each input, and returns that of its output or a
list of several. A layer of another package says it with a method, ``to_onnx(self, writer, *inputs)``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastconv.layers import Layer
from fastconv.onnx.writer import Writer

TABLE: dict[type[Layer], Callable[..., Any]] = {}


def exports(*classes: type[Layer]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that puts a function into the table for some classes."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        TABLE.update(dict.fromkeys(classes, function))
        return function

    return decorate


def function_of(writer: Writer, layer: Layer) -> Callable[..., Any]:
    """Return the function that writes a layer; `OnnxExportError` where there is none."""
    from fastconv.onnx.exporters import arrange, elementwise, image, norm, recurrent, sampling, scatter, wrap  # noqa: F401 - which fill the table

    if hasattr(layer, "to_onnx"):
        return lambda writer, layer, *inputs: layer.to_onnx(writer, *inputs)
    for kind in type(layer).__mro__:
        if kind in TABLE:
            return TABLE[kind]
    raise writer.error(f"{type(layer).__name__} does not say how: give it a method to_onnx(self, writer, *inputs)")
