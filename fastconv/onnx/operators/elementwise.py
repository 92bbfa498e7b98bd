"""Elementwise operators of several tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastconv import layers as L
from fastconv.onnx.builder import Builder, Operand
from fastconv.onnx.errors import NotBatchedError, OnnxImportError
from fastconv.onnx.files import DTYPES, Node
from fastconv.onnx.table import register
from fastconv.onnx.values import Constant


def _broadcast(b: Builder, node: Node, x: Operand, y: Operand) -> Operand:
    """Return the second operand with axes behind it, where an old file says which axes of the first it is for."""
    if node.opset >= 7 or not node.get("broadcast", 0) or b.rank(x) == b.rank(y):
        return y
    axis = node.get("axis", b.rank(x) - b.rank(y))
    missing = b.rank(x) - (axis % b.rank(x)) - b.rank(y)
    if missing < 0:
        raise OnnxImportError(f"{node.label}: an operand of {b.rank(y)} axes does not fit from axis {axis} on")
    if isinstance(y, Constant):
        return y._replace(array=y.array.reshape(list(y.array.shape) + [1] * missing))
    if b.batched:
        raise NotBatchedError
    rank = b.rank(y)
    return b.one(L.Unsqueeze([1 + rank + at for at in range(missing)]), b.plain(y), tuple(range(rank + missing)))


def _register(op: str, layer: Callable[[], L.Layer], dtype: Any = None) -> None:
    def convert(b: Builder, node: Node, x: Operand, y: Operand) -> Any:
        y = _broadcast(b, node, x, y)
        if x.dtype != y.dtype:
            y = b.cast(y, x.dtype)
        return b.combine(layer(), x, y, dtype=dtype)

    convert.__qualname__ = convert.__name__ = op
    register(op)(convert)


_register("Add", L.Add)
_register("Sub", L.Subtract)
_register("Mul", L.Multiply)
_register("Div", L.Divide)
_register("Equal", lambda: L.Compare("equal"), np.bool_)
_register("Greater", lambda: L.Compare("greater"), np.bool_)
_register("Less", lambda: L.Compare("less"), np.bool_)
_register("GreaterOrEqual", lambda: L.Compare("greater_or_equal"), np.bool_)
_register("LessOrEqual", lambda: L.Compare("less_or_equal"), np.bool_)


@register("Mod")
def mod(b: Builder, node: Node, x: Operand, y: Operand) -> Any:
    return b.combine(L.Modulo(truncated=bool(node.get("fmod", 0))), x, y)


_register("And", lambda: L.Logic("and"), np.bool_)
_register("Or", lambda: L.Logic("or"), np.bool_)
_register("Xor", lambda: L.Logic("xor"), np.bool_)


@register("Pow")
def power(b: Builder, node: Node, x: Operand, y: Operand) -> Any:
    y = _broadcast(b, node, x, y)
    if isinstance(y, Constant) and y.array.size == 1 and y.array.ndim <= b.rank(x) and x.dtype.kind == "f":
        exponent = float(y.array.ravel()[0])
        if exponent == 2.0:
            return b.elementwise(L.Square(), x)
        if exponent == 0.5:
            return b.elementwise(L.Sqrt(), x)
    if x.dtype == y.dtype:
        return b.combine(L.Power(), x, y)
    floats = [each for each in (x.dtype, y.dtype) if each.kind == "f"]
    both = floats[0] if floats else np.result_type(x.dtype, y.dtype)
    y = b.combine(L.Power(), b.cast(x, both), b.cast(y, both))
    return b.cast(y, x.dtype)


def _variadic(op: str, make: Callable[[], L.Layer], single: float | None = None) -> None:
    def convert(b: Builder, node: Node, *xs: Operand) -> Any:
        y = b.combine(make(), *xs) if len(xs) > 1 else b.elementwise(L.ScaleShift(), xs[0])
        return b.elementwise(L.ScaleShift(1 / len(xs)), y) if op == "Mean" else y

    convert.__qualname__ = convert.__name__ = op
    register(op)(convert)


_variadic("Sum", L.Add)
_variadic("Mean", L.Add)
_variadic("Max", L.Maximum)
_variadic("Min", L.Minimum)


@register("Where")
def where(b: Builder, node: Node, condition: Operand, x: Operand, y: Operand) -> Any:
    return b.combine(L.Where(), condition, x, y, dtype=x.dtype)


@register("Not")
def not_(b: Builder, node: Node, x: Operand) -> Any:
    return b.elementwise(L.Not(), x, dtype=np.bool_)


@register("Identity")
def identity(b: Builder, node: Node, x: Operand) -> Any:
    return x


@register("ai.onnx.ml.ZipMap")
def zip_map(b: Builder, node: Node, x: Operand) -> Any:
    """The numbers of the classes, which elsewhere become a dictionary for each sample, stay an array."""
    return x


@register("Cast")
def cast(b: Builder, node: Node, x: Operand) -> Any:
    from fastconv.onnx.errors import require_onnx

    try:
        dtype = np.dtype(require_onnx().helper.tensor_dtype_to_np_dtype(node.get("to", 0)))
    except (KeyError, TypeError, ValueError):
        dtype = np.dtype(object)
    if dtype not in DTYPES:
        raise OnnxImportError(f"{node.label}: casting to {dtype} (number {node.get('to')}) is not supported")
    return b.cast(x, dtype)


@register("CastLike")
def cast_like(b: Builder, node: Node, x: Operand, like: Operand) -> Any:
    if like.dtype not in DTYPES:
        raise OnnxImportError(f"{node.label}: casting to {like.dtype} is not supported")
    return b.cast(x, like.dtype)
