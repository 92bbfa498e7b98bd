"""Operators that gather and scatter elements, and find them."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv import layers as L
from fastconv.onnx.builder import Builder, Operand
from fastconv.onnx.counting import COUNT, counted
from fastconv.onnx.errors import NotBatchedError, OnnxImportError
from fastconv.onnx.files import Node
from fastconv.onnx.table import register
from fastconv.onnx.values import Constant, Value


@register("NonZero")
def non_zero(b: Builder, node: Node, x: Operand) -> Any:
    if b.batched:
        raise NotBatchedError
    return counted(b, L.NonZero(expected=COUNT[0]), [b.plain(x)], [np.int64])[0]


@register("Compress")
def compress(b: Builder, node: Node, x: Operand, condition: Operand) -> Any:
    if b.batched:
        raise NotBatchedError
    axis, x = node.get("axis"), b.value(x)
    if axis is None:
        x, axis = b.reshaped(b.plain(x), *(_flat(shape) for shape in (x.shape, x.other_shape))), 0
    inner = b.inner(x, axis)
    order = tuple(range(len(x.order)))
    if isinstance(condition, Constant):
        places = np.flatnonzero(b.array(condition, "condition"))
        b.require(
            places.max(initial=-1) < x.shape[inner],
            f"the condition is longer than the axis, which has {x.shape[inner]}",
        )
        if not places.size:
            return b.empty(x, {inner: 0})
        return b.call(L.Gather(1 + inner), [b.plain(x), Constant(places)], order, [x.dtype])
    row = b.along(non_zero(b, node, condition), [0], L.Squeeze, drop=True)
    return b.call(L.Gather(1 + inner), [b.plain(x), row], order, [x.dtype])


def _flat(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (int(np.prod(shape)),)


def _operands(b: Builder, *xs: Operand) -> list[Operand]:
    """Return operands as the file has them; places and numbers that are known are the same for each sample."""
    if b.batched and any(b.rank(x) < 1 or (isinstance(x, Constant) and len(x.array) != b.batch[0]) for x in xs):
        raise NotBatchedError
    return [x._replace(array=b.per_sample(x, x.rank)) if isinstance(x, Constant) else b.plain(x) for x in xs]


def _along(b: Builder, node: Node, x: Operand) -> int:
    axis, rank = node.get("axis", 0), b.rank(x)
    b.require(-rank <= axis < rank, f"there is no axis {axis} in a tensor of {rank}")
    if axis % rank < b.offset:
        raise NotBatchedError
    return axis % rank + 1 - b.offset


@register("GatherElements")
def gather_elements(b: Builder, node: Node, x: Operand, indices: Operand) -> Any:
    operands = _operands(b, x, indices)
    return b.call(L.GatherElements(_along(b, node, x)), operands, tuple(range(b.rank(x) - b.offset)), [x.dtype])


@register("ScatterElements")
def scatter_elements(b: Builder, node: Node, x: Operand, indices: Operand, updates: Operand) -> Any:
    layer = L.ScatterElements(_along(b, node, x), reduce=node.get("reduction", "none"))
    return b.call(layer, _operands(b, x, indices, updates), tuple(range(b.rank(x) - b.offset)), [x.dtype])


@register("Scatter")
def scatter(b: Builder, node: Node, x: Operand, indices: Operand, updates: Operand) -> Any:
    """As it was called before version 11."""
    return scatter_elements(b, node, x, indices, updates)


@register("GatherND")
def gather_nd(b: Builder, node: Node, x: Operand, indices: Operand) -> Any:
    shared = node.get("batch_dims", 0) - b.offset
    b.require(shared >= -b.offset, f"batch_dims must be at least 0, got {node.get('batch_dims')}")
    if shared < 0:
        raise NotBatchedError
    rank = b.rank(x) + b.rank(indices) - node.get("batch_dims", 0) - 1 - _last(b, indices)
    return b.call(L.GatherND(shared=shared), _operands(b, x, indices), tuple(range(rank - b.offset)), [x.dtype])


def _last(b: Builder, indices: Operand) -> int:
    """Return how many numbers say a place together."""
    shape = indices.array.shape if isinstance(indices, Constant) else indices.shape
    if not shape or (isinstance(indices, Value) and indices.other_shape[-1] != shape[-1]):
        raise OnnxImportError(
            f"{b.node.label}: how many numbers say a place must be known, got indices of shape {shape}"
        )
    return int(shape[-1])


@register("ScatterND")
def scatter_nd(b: Builder, node: Node, x: Operand, indices: Operand, updates: Operand) -> Any:
    if b.batched:
        raise NotBatchedError  # the first of the numbers says the sample
    layer = L.ScatterND(reduce=node.get("reduction", "none"))
    return b.call(layer, _operands(b, x, indices, updates), tuple(range(b.rank(x))), [x.dtype])
