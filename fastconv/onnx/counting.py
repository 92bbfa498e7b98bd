"""Sizes that are known only while a model runs, because they depend on a count: of nonzero elements, of boxes.

The conversion plans with `COUNT` of them, for two sizes of the inputs, as it does with sizes that the file leaves open. What is
computed of such sizes stays a constant as long as it can, one that says which of its numbers are `open`; who needs it while the
model runs gets it from layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv import layers as L
from fastconv.layers.calls import shape_of
from fastconv.layers.symbol import Shape, several
from fastconv.onnx.builder import Builder, Operand
from fastconv.onnx.errors import NeedsValueError, NotBatchedError, OnnxImportError
from fastconv.onnx.files import Node
from fastconv.onnx.folding import BROADCAST, Room, fold
from fastconv.onnx.table import lookup
from fastconv.onnx.values import Constant, Value

#: How many are planned with. Few, so that what is cut to a number at most stays as open as it is.
COUNT = (3, 5)

#: Operators that move numbers of their first input (`Concat` of all) and change none.
_MOVES = {"Cast", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Tile", "Transpose", "Unsqueeze"}

#: More open numbers than that are not a shape.
MOST = 2**16


def open_sizes(x: Value, node: Node, sizes: Constant) -> Constant:
    """Return sizes of a value, with which of them are open where it is counted."""
    if not x.counted or sizes.other is None:
        return sizes
    return sizes._replace(open=np.asarray(sizes.array != sizes.other), source=(node, (x,), 0))


def folded_open(node: Node, operands: Sequence[Constant | None], room: Room) -> list[Constant]:
    """Return what a node makes of constants with open numbers: constants, open where such a number has reached."""
    given = [None if x is None else x.both for x in operands]
    first = fold(node, [None if x is None else x[0] for x in given], room)
    second = fold(node, [None if x is None else x[1] for x in given], room)
    opened = _opened(node, operands, first)
    made = []
    for at, (a, b) in enumerate(zip(first, second, strict=True)):
        other = None if a.shape == b.shape and np.array_equal(a, b) else b
        is_open = opened[at].any() or (other is not None and other.shape != a.shape)
        made.append(Constant(a, other, False, opened[at], (node, operands, at)) if is_open else Constant(a, other))
    return made


def _opened(node: Node, operands: Sequence[Constant | None], outputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    marks = [None if x is None else np.zeros(x.array.shape, bool) if x.open is None else x.open for x in operands]
    moved = marks if node.op == "Concat" else marks[:1]
    others = any(mark is not None and mark.any() for mark in marks[len(moved) :])
    if (node.op in _MOVES or node.op == "Concat") and not others:
        given = [None if mark is None else mark.astype(np.int64) for mark in moved]
        rest = [None if x is None else x.array for x in operands[len(moved) :]]
        node = node._replace(op="Identity", attributes={}) if node.op == "Cast" else node
        return [mark != 0 for mark in fold(node, [*given, *rest])]
    if node.op in BROADCAST and len(outputs) == 1:
        wide = np.zeros(outputs[0].shape, bool)
        for mark in marks:
            if mark is not None:
                wide = wide | mark
        return [wide]
    return [np.ones(each.shape, bool) for each in outputs]


def running(b: Builder, x: Any) -> Any:
    """Return an operand for layers: a constant with open numbers is computed by layers, once."""
    if not isinstance(x, Constant) or x.open is None or x.source is None:
        return x
    known = b.computed.get(id(x.array))
    if known is None:
        before = b.node, b.operands
        try:
            value = _made(b, *x.source)
        except (OnnxImportError, NotBatchedError, NeedsValueError):
            raise
        except Exception as error:  # as where nodes are converted
            raise OnnxImportError(f"{b.node.label} cannot be converted: {type(error).__name__}: {error}") from error
        finally:
            b.node, b.operands = before
        known = b.computed[id(x.array)] = value._replace(guess=x.both), x.array  # which keeps its id
    return known[0]


def _made(b: Builder, node: Node, operands: Sequence[Any], at: int) -> Value:
    """Return an output of a node, some of whose operands are open constants, as layers make it."""
    given = [running(b, each) for each in operands]
    b.node, b.operands = node, given
    if node.op == "Shape":
        return _shape_of(b, node, given[0])
    function, _ = lookup(node)
    b.require(function is not None, "what is counted while the model runs cannot come here")
    made: Any = function(b, node, *given)  # type: ignore[misc]
    value: Value = made[at] if isinstance(made, list) else made
    b.require(isinstance(value, Value), "what is counted while the model runs cannot come here")
    return value


def _shape_of(b: Builder, node: Node, x: Value) -> Value:
    axes = range(b.rank(x))[slice(node.get("start", 0), node.get("end"))]
    x = b.settled(x)
    return b.emit(L.ShapeOf([b.stored(x, axis) for axis in axes]), [x], [(0,)], [np.int64])[0]


def counted(b: Builder, layer: L.Layer, operands: Sequence[Operand], dtypes: Sequence[Any]) -> list[Value]:
    """Call a layer that counts, planned with `COUNT[0]`, and return its outputs, which lie as the file has them."""
    if b.batched:
        raise NotBatchedError
    shapes = [x.array.shape if isinstance(x, Constant) else x.symbol.shape for x in operands]
    made = shape_of(layer, shapes)
    others = [tuple(COUNT[1] if n == COUNT[0] else n for n in shape) for shape in (made if several(made) else (made,))]
    return b.call(layer, operands, tuple(range(len(others[0]))), dtypes, others)


def with_arguments(
    b: Builder, x: Operand, layers: tuple[L.Layer, L.Layer], numbers: dict[str, Value], dtypes: Sequence[Any]
) -> list[Value]:
    """Call a layer on a value as it lies, some of whose arguments are `numbers` that are known when it runs.

    `layers` is the layer with what is planned for them, for two sizes of the inputs.
    """
    if b.batched:
        raise NotBatchedError
    other = x.array.shape if isinstance(x, Constant) else x.other
    found: Any = shape_of(layers[1], [other])
    others: Sequence[Shape] = found if several(found) else (found,)
    order = x.order if isinstance(x, Value) and len(x.order) == len(others[0]) else tuple(range(len(others[0])))
    return b.call(
        L.DynamicArguments(layers[0], list(numbers)), [x, *map(b.plain, numbers.values())], order, dtypes, others
    )


def guessed(x: Operand) -> tuple[list[int], list[int]]:
    """Return the integers in an operand that are planned with, for two sizes of the inputs."""
    if isinstance(x, Constant):
        pair = x.both
    else:
        pair = x.guess or (np.full(x.shape, COUNT[0]), np.full(x.shape, COUNT[1]))
    first, second = ([int(n) for n in np.ravel(each)] for each in pair)
    return first, second
