"""Reductions along axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastconv import layers as L
from fastconv.onnx.builder import Builder, Operand
from fastconv.onnx.counting import guessed, with_arguments
from fastconv.onnx.errors import NotBatchedError
from fastconv.onnx.files import Node
from fastconv.onnx.table import register
from fastconv.onnx.values import Constant, Value


def _along(b: Builder, node: Node, x: Operand, axes: Operand | None) -> tuple[Value, list[int], bool]:
    """Return what a node reduces, the axes that it goes along, and whether they stay.

    Over no axes each number is reduced by itself: it is alone along an axis of its own.
    """
    x = b.value(x)
    named = b.integers(axes, "axes") if axes is not None else node.get("axes")
    if not named:
        named = [] if node.get("noop_with_empty_axes", 0) else list(range(b.rank(x)))
    if b.batched and any(axis % b.rank(x) == 0 for axis in named):
        raise NotBatchedError
    if named:
        return x, list(named), bool(node.get("keepdims", 1))
    inner = len(x.order)
    alone = b.one(L.Unsqueeze([1 + inner]), b.settled(x), (*x.order, inner))
    return alone, [b.rank(alone) - 1], False


def _register(op: str, layer: Callable[..., L.Layer], before: Any = None, after: Any = None) -> None:
    """Add an operator that is a layer, or one with functions of each number by itself before and after it."""

    def convert(b: Builder, node: Node, x: Operand, axes: Operand | None = None) -> Any:
        x, named, keep = _along(b, node, x, axes)
        x = b.elementwise(before(), x) if before else x
        y = b.along(x, named, lambda places: layer(places, keepdims=keep), drop=not keep)
        return b.elementwise(after(), y) if after else y

    convert.__qualname__ = convert.__name__ = op
    register(op)(convert)


_register("ReduceSum", L.ReduceSum)
_register("ReduceMean", L.ReduceMean)
_register("ReduceMax", L.ReduceMax)
_register("ReduceMin", L.ReduceMin)
_register("ReduceProd", L.ReduceProd)
_register("ReduceL2", L.ReduceL2)
_register("ReduceL1", L.ReduceSum, L.Abs)
_register("ReduceSumSquare", L.ReduceSum, L.Square)
_register("ReduceLogSum", L.ReduceSum, None, L.Log)


@register("ReduceLogSumExp")
def reduce_log_sum_exp(b: Builder, node: Node, x: Operand, axes: Operand | None = None) -> Any:
    x, named, keep = _along(b, node, x, axes)
    largest = b.along(x, named, lambda places: L.ReduceMax(places, keepdims=True))
    parts = b.elementwise(L.Exp(), b.combine(L.Subtract(), x, largest))
    total = b.along(parts, named, lambda places: L.ReduceSum(places, keepdims=True))
    y = b.combine(L.Add(), b.elementwise(L.Log(), total), largest)
    return y if keep else b.along(y, named, L.Squeeze, drop=True)


@register("CumSum")
def cum_sum(b: Builder, node: Node, x: Operand, axis: Operand) -> Any:
    arguments = {name: bool(node.get(name, 0)) for name in ("exclusive", "reverse")}
    return b.along(x, [int(b.number(axis, "axis"))], lambda places: L.CumSum(places[0], **arguments))


@register("ArgMax")
def arg_max(b: Builder, node: Node, x: Operand) -> Any:
    keep, last = bool(node.get("keepdims", 1)), bool(node.get("select_last_index", 0))
    axis = node.get("axis", 0)
    y = b.along(x, [axis], lambda places: L.ArgMax(places[0], keepdims=keep, last=last), drop=not keep)
    return y._replace(dtype=np.dtype(np.int64))


@register("ArgMin")
def arg_min(b: Builder, node: Node, x: Operand) -> Any:
    return arg_max(b, node, b.elementwise(L.ScaleShift(-1.0), x))


@register("TopK")
def top_k(b: Builder, node: Node, x: Operand, k: Operand | None = None) -> Any:
    x = b.settled(b.value(x))
    inner = b.inner(x, node.get("axis", -1))
    if isinstance(k, Value) and k.counted:
        return _dynamic_top_k(b, node, x, inner, k)
    whole = isinstance(k, Constant) and k.other is not None and _both(k) == (x.shape[inner], x.other_shape[inner])
    count = None if whole else b.integers(k, "K")[0] if k is not None else node.get("k")
    layer: L.Layer = L.TopK(count, 1 + x.order.index(inner), largest=bool(node.get("largest", 1)))
    layer = L.Discrete(layer) if x.dtype.kind != "f" else layer
    return b.emit(layer, [x], [x.order] * 2, [x.dtype, np.int64])


def _both(k: Constant) -> tuple[int, ...]:
    return tuple(int(each.ravel()[0]) for each in k.both if each.size == 1)


def _dynamic_top_k(b: Builder, node: Node, x: Value, inner: int, k: Value) -> Any:
    """Return as many of the largest as is known when the model runs."""
    largest, axis = bool(node.get("largest", 1)), 1 + x.order.index(inner)
    planned = [
        L.TopK(max(1, min(count[0], size)), axis, largest=largest)
        for count, size in zip(guessed(k), (x.shape[inner], x.other_shape[inner]), strict=True)
    ]
    k = b.along(k, [0], L.Squeeze, drop=True) if b.rank(k) else k
    return with_arguments(b, x, (planned[0], planned[1]), {"k": k}, [x.dtype, np.int64])
