"""Operators made of a few layers: booleans, masks, one-hot classes, and a norm."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastconv import layers as L
from fastconv.onnx.builder import Builder, Operand
from fastconv.onnx.errors import NotBatchedError, require_onnx
from fastconv.onnx.files import Node
from fastconv.onnx.operators.shape import flattened_from
from fastconv.onnx.table import register
from fastconv.onnx.values import Constant, Value


@register("IsNaN")
def is_nan(b: Builder, node: Node, x: Operand) -> Any:
    same = b.combine(L.Compare("equal"), x, x, dtype=np.bool_)
    return b.elementwise(L.Not(), same, dtype=np.bool_)


@register("IsInf")
def is_inf(b: Builder, node: Node, x: Operand) -> Any:
    x = b.value(x)
    above, below = bool(node.get("detect_positive", 1)), bool(node.get("detect_negative", 1))
    far = Constant(np.full((1,) * b.rank(x), np.inf, x.dtype))
    if not above and not below:
        return b.combine(L.Compare("less"), b.elementwise(L.Abs(), x), far._replace(array=-far.array), dtype=np.bool_)
    if not below:
        return b.combine(L.Compare("equal"), x, far, dtype=np.bool_)
    x = b.elementwise(L.Abs(), x) if above else b.elementwise(L.ScaleShift(-1.0), x)
    return b.combine(L.Compare("equal"), x, far, dtype=np.bool_)


@register("Shrink")
def shrink(b: Builder, node: Node, x: Operand) -> Any:
    bias, lambd = node.get("bias", 0.0), node.get("lambd", 0.5)
    x = b.value(x)
    near, far = (Constant(np.full((1,) * b.rank(x), n, x.dtype)) for n in (-lambd, lambd))
    below, above = (b.combine(L.Compare(how), x, n, dtype=np.bool_) for how, n in (("less", near), ("greater", far)))
    zeros = Constant(np.zeros((1,) * b.rank(x), x.dtype))
    y = b.combine(L.Where(), above, b.elementwise(L.ScaleShift(1.0, -bias), x), zeros, dtype=x.dtype)
    return b.combine(L.Where(), below, b.elementwise(L.ScaleShift(1.0, bias), x), y, dtype=x.dtype)


@register("Hardmax")
def hardmax(b: Builder, node: Node, x: Operand) -> Any:
    x = b.value(x)
    if node.opset < 13:
        axis = node.get("axis", 1)
        return flattened_from(b, x, axis, lambda flat: _of_largest(b, flat, b.rank(flat) - 1))
    return _of_largest(b, x, node.get("axis", -1))


def _of_largest(b: Builder, x: Value, axis: int) -> Value:
    """Return 1 where the first of the largest numbers along an axis is, else 0."""
    size = x.shape[b.inner(x, axis)]
    b.require(x.other_shape[b.inner(x, axis)] == size, "the size of its axis must be known")
    b.room.take(b.node, size)
    first = b.along(x, [axis], lambda places: L.ArgMax(places[0], keepdims=True))._replace(dtype=np.dtype(np.int64))
    places = np.arange(size).reshape([size if at == axis % b.rank(x) else 1 for at in range(b.rank(x))])
    return b.cast(b.combine(L.Compare("equal"), first, Constant(places), dtype=np.bool_), x.dtype)


@register("Trilu")
def trilu(b: Builder, node: Node, x: Operand, k: Operand | None = None) -> Any:
    x, rank = b.value(x), b.rank(x)
    b.require(rank >= 2, f"it takes matrices, got {rank} axes")
    if b.batched and rank == 2:
        raise NotBatchedError
    b.room.take(node, sum(math.prod(shape[-2:]) for shape in b.shapes(x)))
    both = [np.ones((*(1,) * (rank - 2), *shape[-2:]), bool) for shape in b.shapes(x)]
    cut, diagonal = np.triu if node.get("upper", 1) else np.tril, int(b.number(k, "k", 0))
    first, second = (np.asarray(cut(each, diagonal)) for each in both)
    mask = Constant(first, None if np.array_equal(first, second) else second)
    return b.combine(L.Where(), mask, x, Constant(np.zeros((1,) * rank, x.dtype)), dtype=x.dtype)


@register("EyeLike")
def eye_like(b: Builder, node: Node, x: Operand) -> Any:
    if b.batched:
        raise NotBatchedError
    dtype = require_onnx().helper.tensor_dtype_to_np_dtype(node.get("dtype")) if node.get("dtype") else x.dtype
    shapes = b.shapes(x) if isinstance(x, Value) else (x.array.shape,) * 2
    b.require(len(shapes[0]) == 2, f"it takes a matrix, got {len(shapes[0])} axes")
    b.room.take(node, sum(map(math.prod, shapes)))
    first, second = (np.eye(shape[0], shape[1], node.get("k", 0)).astype(dtype) for shape in shapes)
    return Constant(first, None if first.shape == second.shape else second)


@register("OneHot")
def one_hot(b: Builder, node: Node, x: Operand, depth: Operand, values: Operand) -> Any:
    x, count = b.value(x), int(b.number(depth, "depth"))
    axis, rank = node.get("axis", -1), b.rank(x) + 1
    b.require(
        count > 0 and -rank <= axis < rank, f"depth {count} and axis {axis} do not fit a tensor of {rank - 1} axes"
    )
    axis %= rank
    if b.batched and axis == 0:
        raise NotBatchedError
    b.room.take(node, count)
    x = x if x.dtype.kind == "i" else b.elementwise(L.Cast("int64"), x, dtype=np.int64)
    x = b.one(L.Unsqueeze([1 + axis - b.offset]), b.plain(x), tuple(range(rank - b.offset)))
    places = np.arange(count, dtype=x.dtype).reshape([count if at == axis else 1 for at in range(rank)])
    here, behind = (
        b.combine(L.Compare("equal"), x, Constant(each), dtype=np.bool_) for each in (places, places - count)
    )
    found = b.combine(L.Logic("or"), here, behind, dtype=np.bool_)
    off, on = (Constant(n.reshape((1,) * rank)) for n in b.array(values, "values"))
    return b.combine(L.Where(), found, on, off, dtype=on.dtype)


@register("LpNormalization")
def lp_normalization(b: Builder, node: Node, x: Operand) -> Any:
    x, p, axis = b.value(x), node.get("p", 2), node.get("axis", -1)
    b.require(p in (1, 2), f"p must be 1 or 2, got {p}")
    if p == 1:
        length = b.along(b.elementwise(L.Abs(), x), [axis], lambda places: L.ReduceSum(places, keepdims=True))
    else:
        length = b.along(x, [axis], lambda places: L.ReduceL2(places, keepdims=True))
    tiny = np.full((1,) * b.rank(x), np.finfo(x.dtype).tiny, x.dtype)  # of nothing but zeros zeros are made
    return b.combine(L.Divide(), x, b.combine(L.Maximum(), length, Constant(tiny)))
