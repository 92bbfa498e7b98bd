"""Sequences: lists of tensors, whose lengths are known when the file is read; and tensors cut into parts and joined again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv.onnx.builder import Builder, Operand
from fastconv.onnx.errors import NeedsValueError, OnnxImportError
from fastconv.onnx.files import Block, Node
from fastconv.onnx.table import register
from fastconv.onnx.values import Constant, Parts, Value


@register("SequenceEmpty")
def sequence_empty(b: Builder, node: Node) -> Any:
    return Parts(())


@register("SequenceConstruct")
def sequence_construct(b: Builder, node: Node, *xs: Operand) -> Any:
    return Parts(tuple(xs))


@register("SequenceInsert")
def sequence_insert(b: Builder, node: Node, sequence: Any, x: Operand, place: Operand | None = None) -> Any:
    items = _items(b, sequence)
    at = len(items) if place is None else _place(b, place, len(items) + 1, len(items))
    return Parts((*items[:at], x, *items[at:]))


@register("SequenceErase")
def sequence_erase(b: Builder, node: Node, sequence: Any, place: Operand | None = None) -> Any:
    items = _items(b, sequence)
    at = _place(b, Constant(np.array(-1)) if place is None else place, len(items), len(items))
    return Parts(items[:at] + items[at + 1 :])


@register("SequenceAt")
def sequence_at(b: Builder, node: Node, sequence: Any, place: Operand) -> Any:
    items = _items(b, sequence)
    return items[_place(b, place, len(items), len(items))]


@register("SequenceLength")
def sequence_length(b: Builder, node: Node, sequence: Any) -> Any:
    return Constant(np.array(len(_items(b, sequence)), np.int64))


@register("ConcatFromSequence")
def concat_from_sequence(b: Builder, node: Node, sequence: Any) -> Any:
    items = _items(b, sequence)
    b.require(items, "an empty sequence cannot be joined")
    b.require("axis" in node.attributes, "it lacks its axis")
    return (stack if node.get("new_axis", 0) else concat)(b, items, node.get("axis"))


@register("SplitToSequence")
def split_to_sequence(b: Builder, node: Node, x: Operand, split: Operand | None = None) -> Any:
    axis = b.axis(node.get("axis", 0), b.rank(x))
    given = [1] if split is None else b.integers(split, "split")
    length = length_of(b, x, axis)
    if split is None or b.rank(split) == 0:
        b.require(given[0] > 0, f"parts must have at least one entry, got {given[0]}")
        given = [min(given[0], length - at) for at in range(0, length, given[0])]
    b.require(sum(given) == length and min(given, default=0) >= 0, f"{given} do not add up to {length}")
    if split is None and not node.get("keepdims", 1):
        return Parts(tuple(part(b, x, axis, n) for n in range(length)))
    outputs = tuple(f"y{n}" for n in range(len(given)))
    cut = Node("Split", "", node.name, ("x",), outputs, {"axis": axis, "split": given}, 11)
    return Parts(tuple(b.block(Block([cut], ["x"], [], list(outputs), {}), {"x": x})))


def _items(b: Builder, sequence: Any) -> tuple[Operand, ...]:
    if not isinstance(sequence, Parts):
        raise OnnxImportError(f"{b.node.label} takes a sequence")
    return sequence.items


def _place(b: Builder, place: Operand, count: int, length: int) -> int:
    """Return a place in a sequence, one of `count`; negative ones count from its end."""
    at = b.number(place, "the place in the sequence")
    at = at + length if at < 0 else at
    b.require(0 <= at < count, f"there is no place {at} in a sequence of {length}")
    return int(at)


def length_of(b: Builder, x: Operand, axis: int) -> int:
    """Return how long an axis is, for inputs of any sizes."""
    shapes = [each.shape for each in x.both] if isinstance(x, Constant) else b.shapes(x)
    first, second = (shape[axis] for shape in shapes)
    if first != second or (isinstance(x, Value) and x.counted):
        raise NeedsValueError(f"{b.node.label}: the number of parts depends on the sizes of the inputs", ())
    return first


def part(b: Builder, x: Operand, axis: int, n: int) -> Operand:
    """Return one entry along an axis, which disappears."""
    node = Node("Gather", "", b.node.name, ("x", "n"), ("y",), {"axis": axis}, 13)
    return b.block(Block([node], ["x", "n"], [], ["y"], {}), {"x": x, "n": Constant(np.array(n))})[0]


def stack(b: Builder, parts: Sequence[Operand], axis: int) -> Operand:
    """Return tensors one behind the other along a new axis."""
    place = b.axis(axis, b.rank(parts[0]) + 1)
    node = Node("Unsqueeze", "", b.node.name, ("x",), ("y",), {"axes": [place]}, 11)
    block = Block([node], ["x"], [], ["y"], {})
    return concat(b, [b.block(block, {"x": x})[0] for x in parts], place)


def concat(b: Builder, parts: Sequence[Operand], axis: int) -> Operand:
    """Return tensors one behind the other along an axis."""
    names = [f"x{n}" for n in range(len(parts))]
    node = Node("Concat", "", b.node.name, tuple(names), ("y",), {"axis": b.axis(axis, b.rank(parts[0]))}, 11)
    return b.block(Block([node], names, [], ["y"], {}), dict(zip(names, parts, strict=True)))[0]
