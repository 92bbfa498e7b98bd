"""Graphs that are repeated: written out as often as they run, where that is known when the file is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv.onnx.builder import Builder, Operand
from fastconv.onnx.errors import OnnxImportError
from fastconv.onnx.files import Block, Node
from fastconv.onnx.operators.lists import length_of, part, stack
from fastconv.onnx.repeating import Repetition
from fastconv.onnx.table import register
from fastconv.onnx.values import Constant


@register("Loop")
def loop(b: Builder, node: Node, trips: Operand | None, condition: Operand | None, *more: Operand) -> Any:
    body = _body(node, inputs=2, outputs=1)
    state: list[Operand] = list(more[: len(body.inputs) - 2])
    most = b.number(trips, "the number of iterations")
    goes_on: Operand = Constant(np.array(True)) if condition is None else condition
    found: list[list[Operand]] = []
    repetition = Repetition(b)
    while (most is None or len(found) < most) and b.number(goes_on, "the condition of the loop"):
        made = repetition(body, [Constant(np.array(len(found))), goes_on, *state])
        goes_on, state = made[0], made[1 : 1 + len(state)]
        found.append(made[1 + len(state) :])
    return [*state, *_stacks(b, found, [0] * (len(body.outputs) - 1 - len(state)))]


@register("Scan")
def scan(b: Builder, node: Node, *operands: Operand | None) -> Any:
    if node.opset < 9:
        return _scan_8(b, node, *operands)
    given = [x for x in operands if x is not None]
    b.require(len(given) == len(operands), "it lacks an input")
    return _scanned(b, node, given)


def _scan_8(b: Builder, node: Node, lengths: Operand | None, *operands: Operand | None) -> Any:
    """As it was at first: for each sample of a batch by itself."""
    b.require(lengths is None, "sequence_lens is not supported")
    body, given = _scan_body(node), [x for x in operands if x is not None]
    b.require(len(given) == len(operands), "it lacks an input")
    alone = node._replace(attributes={**node.attributes, "scan_input_directions": node.get("directions")})
    samples = [
        _scanned(b, alone, [part(b, x, 0, n) for x in given[: len(body.inputs)]])
        for n in range(length_of(b, given[0], 0))
    ]
    return _stacks(b, samples, [0] * len(body.outputs))


def _scan_body(node: Node) -> Block:
    count = int(node.get("num_scan_inputs", 0))
    if count < 1:
        raise OnnxImportError(f"{node.label}: num_scan_inputs must be at least 1, got {count}")
    return _body(node, inputs=count, outputs=0)


def _scanned(b: Builder, node: Node, operands: Sequence[Operand]) -> list[Operand]:
    body, count = _scan_body(node), int(node.get("num_scan_inputs", 0))
    operands = operands[: len(body.inputs)]
    state, scanned = list(operands[:-count]), operands[-count:]
    stacked = len(body.outputs) - len(state)
    axes = [b.axis(axis, b.rank(x)) for axis, x in zip(_list(node, "scan_input_axes", count), scanned, strict=True)]
    lengths = {length_of(b, x, axis) for x, axis in zip(scanned, axes, strict=True)}
    b.require(len(lengths) == 1, f"what is scanned must have one length, got {sorted(lengths)}")
    length = lengths.pop()
    backward = _list(node, "scan_input_directions", count)
    found: list[list[Operand]] = []
    repetition = Repetition(b)
    for n in range(length):
        places = [length - 1 - n if back else n for back in backward]
        parts = [part(b, x, axis, at) for x, axis, at in zip(scanned, axes, places, strict=True)]
        made = repetition(body, [*state, *parts])
        state = made[: len(state)]
        found.append(made[len(state) :])
    ways = _list(node, "scan_output_directions", stacked)
    found = [[found[-1 - n if way else n][at] for at, way in enumerate(ways)] for n in range(length)]
    return [*state, *_stacks(b, found, _list(node, "scan_output_axes", stacked))]


def _body(node: Node, *, inputs: int, outputs: int) -> Block:
    """Return the graph of a node; of its inputs and outputs so many, at least, are not handed on to the next repetition."""
    body = node.get("body")
    if not isinstance(body, Block):
        raise OnnxImportError(f"{node.label} has no body")
    if len(node.inputs) < len(body.inputs) or not 0 <= len(body.inputs) - inputs <= len(body.outputs) - outputs:
        what = f"{len(body.inputs)} inputs and {len(body.outputs)} outputs"
        raise OnnxImportError(f"{node.label}: its body has {what}, which do not fit the node")
    return body


def _list(node: Node, name: str, count: int) -> list[int]:
    """Return an argument for each of so many inputs or outputs, zeros where it is left out."""
    found = [int(n) for n in node.get(name) or [0] * count]
    if len(found) != count:
        raise OnnxImportError(f"{node.label}: {name} must have {count} numbers, got {found}")
    return found


def _stacks(b: Builder, found: Sequence[Sequence[Operand]], axes: Sequence[int]) -> list[Operand]:
    """Return what all repetitions made, one behind the other along new axes."""
    b.require(bool(found) or not axes, "of a graph that is not run once, nothing can be returned for each time")
    return [stack(b, [each[at] for each in found], axis) for at, axis in enumerate(axes)]
