"""Operators on sizes and with sizes: shapes, arrays of a given size, and slices known only at run time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv import layers as L
from fastconv.onnx.builder import Builder, Operand
from fastconv.onnx.counting import guessed, open_sizes, with_arguments
from fastconv.onnx.errors import OnnxImportError
from fastconv.onnx.files import DTYPES, Node
from fastconv.onnx.table import register
from fastconv.onnx.values import Constant, Value, with_rank


@register("Shape")
def shape(b: Builder, node: Node, x: Operand) -> Any:
    both = b.shapes(x) if isinstance(x, Value) else (x.array.shape,) * 2
    part = slice(node.get("start", 0), node.get("end"))
    first, second = (np.array(each[part], np.int64) for each in both)
    sizes = Constant(first, None if np.array_equal(first, second) else second)
    return open_sizes(x, node, sizes) if isinstance(x, Value) else sizes


@register("Size")
def size(b: Builder, node: Node, x: Operand) -> Any:
    sizes = shape(b, node._replace(op="Shape", attributes={}), x)
    product = Node("ReduceProd", "", node.name, ("shape",), ("size",), {"keepdims": 0}, 13)
    first, second = (np.asarray(np.prod(each), np.int64) for each in sizes.both)
    opened = None if sizes.open is None else np.asarray(sizes.open.any())
    return Constant(first, None if first == second else second, False, opened, (product, (sizes,), 0))


def dynamic_slice(b: Builder, node: Node, operands: Sequence[Any], numbers: dict[str, Value]) -> Value:
    """Return a part of a value between ends that are known when the model runs."""
    x, starts, ends, axes, steps = operands
    x = b.settled(b.value(x))
    first, last = guessed(starts), guessed(ends)
    named = list(range(len(first[0]))) if axes is None else b.integers(axes, "axes")
    step = [1] * len(named) if steps is None else b.integers(steps, "steps")
    places = [b.stored(x, axis) for axis in named]
    planned = []
    for which, shape in enumerate((x.symbol.shape, x.other)):
        part = list(first[which]), list(last[which])
        for at, place in enumerate(places):
            if not range(shape[place - 1])[
                part[0][at] : part[1][at] : step[at]
            ]:  # none would be left: all are planned with
                part[0][at], part[1][at] = (
                    (0, shape[place - 1]) if step[at] > 0 else (shape[place - 1], -shape[place - 1] - 1)
                )
        planned.append(L.Slice(places, *part, step, empty=True))
    return with_arguments(b, x, (planned[0], planned[1]), numbers, [x.dtype])[0]


def dynamic_expand(b: Builder, x: Operand, target: Value) -> Value:
    """Return an operand stretched to a shape that is known when the model runs."""
    first, second = guessed(target)
    b.require(len(first) >= b.rank(x), "it cannot be stretched to fewer axes")
    if isinstance(x, Constant):
        x = x._replace(array=with_rank(b.array(x, "operand"), len(first)))
    else:
        x = b.plain(b.widened(x, len(first)))
    return with_arguments(b, x, (L.Expand(first), L.Expand(second)), {"shape": target}, [x.dtype])[0]


@register("ConstantOfShape")
def constant_of_shape(b: Builder, node: Node, shape: Operand) -> Any:
    value = np.asarray(node.get("value", np.zeros(1, np.float32))).reshape(-1)[0]
    b.require(value.dtype in DTYPES, f"value must be of a supported dtype, got {value.dtype}")
    if isinstance(shape, Value) and shape.counted:
        return dynamic_expand(b, Constant(np.asarray(value)), shape)
    b.array(shape, "shape")
    raise OnnxImportError(f"{node.label} cannot be computed")


@register("Range")
def range_(b: Builder, node: Node, start: Operand, limit: Operand, delta: Operand) -> Any:
    for what, x in (("start", start), ("limit", limit), ("delta", delta)):
        if not (isinstance(x, Value) and x.counted and x.dtype.kind == "i" and what == "limit"):
            b.array(x, what)
    first, step = (int(b.number(x, "start and delta")) for x in (start, delta))
    b.require(isinstance(limit, Value) and step != 0, "it cannot be computed")
    # how many there are, and a row of as many
    far = b.elementwise(L.ScaleShift(1, step - (1 if step > 0 else -1) - first), limit)
    count = b.combine(L.Divide(), far, Constant(np.asarray(step, limit.dtype)), dtype=limit.dtype)
    a, c = (np.array([max(1, len(range(first, each[0], step)))]) for each in guessed(limit))
    length = b.one(L.Unsqueeze([1]), count, (0,))._replace(guess=(a, c))
    ones = dynamic_expand(b, Constant(np.asarray(step, limit.dtype)), length)
    return b.combine(L.Add(), b.one(L.CumSum(1, exclusive=True), ones), Constant(np.asarray(first, limit.dtype)))
