"""Operators that contain graphs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastconv import layers as L
from fastconv.branch import Branch
from fastconv.layers.symbol import Symbol
from fastconv.model import Model
from fastconv.onnx.builder import Builder, Operand
from fastconv.onnx.errors import NeedsValueError, NotBatchedError
from fastconv.onnx.files import Block, Node
from fastconv.onnx.table import register
from fastconv.onnx.values import Constant, Value
from fastconv.unbatched import Unbatched


@register("If")
def if_(b: Builder, node: Node, condition: Operand, *around: Operand) -> Any:
    branches = [node.get(name) for name in ("then_branch", "else_branch")]
    b.require(all(isinstance(each, Block) for each in branches), "it must have two branches")
    if isinstance(condition, Constant):
        return b.block(branches[0 if b.number(condition, "condition") else 1], {})
    if b.batched:
        raise NotBatchedError
    read = dict.fromkeys(name for each in branches for name in each.reads)
    known = {name: x for name, x in zip(node.inputs[1:], around, strict=True) if name in read}
    known.setdefault(node.inputs[0], condition)
    outer = {name: b.settled(x) for name, x in known.items() if name in read and isinstance(x, Value)}
    models = [_model(b, each, outer) for each in branches]
    if b.rank(condition):  # one number all the same
        condition = b.along(condition, range(b.rank(condition)), L.Squeeze, drop=True)
    return _branch(b, condition, list(outer.values()), models)


def _model(b: Builder, block: Block, outer: Mapping[str, Value]) -> tuple[Unbatched, list[Operand]]:
    """Return a model of the graph in a node, whose inputs are what it reads around it, and what that graph returns."""
    own = {name: x._replace(symbol=_inner(x)) for name, x in outer.items()}
    outputs = [x if isinstance(x, Constant) else b.plain(x) for x in b.block(block, own)]
    made = [x for x in outputs if isinstance(x, Value)]
    used = [name for name in own if _reaches(made, own[name].symbol)]
    body = Model([own[name].symbol for name in used], [x.symbol for x in made]) if made else None
    inputs = [{"name": name, "shape": list(x.symbol.shape), "used": name in used} for name, x in own.items()]
    numbers = iter(range(len(made)))
    named: list[dict[str, Any]] = []
    for name, x in zip(block.outputs, outputs, strict=True):
        known = {"shape": list(x.array.shape), "dtype": x.dtype.name} if isinstance(x, Constant) else {}
        named.append({"name": name, **(known or {"from": next(numbers)})})
    model = Unbatched(body, inputs, named)
    for at, x in enumerate(outputs):
        if isinstance(x, Constant):
            model.own("buffers")[f"output_{at}"][...] = b.array(x, "output")
    return model, outputs


def _inner(x: Value) -> Symbol:
    """Return an input for a value from outside, with the sizes that are open there open."""
    return Symbol(x.symbol.shape, free=x.free, dtype=None if x.dtype.kind == "f" else x.dtype.name)


def _reaches(made: list[Value], symbol: Symbol) -> bool:
    """Return whether a symbol is needed to make values."""
    waiting, seen = [x.symbol for x in made], set[int]()
    while waiting:
        each = waiting.pop()
        if each is symbol:
            return True
        if each.node is not None and id(each.node) not in seen:
            seen.add(id(each.node))
            waiting.extend(each.node.inputs)
    return False


def _branch(b: Builder, condition: Value, outer: list[Value], models: list[tuple[Unbatched, list[Operand]]]) -> Any:
    layer = Branch(*(model for model, _ in models))
    orders, dtypes, others = [], [], []
    for pair in zip(*(outputs for _, outputs in models), strict=True):
        ranks, kinds = {b.rank(x) for x in pair}, {x.dtype for x in pair}
        if len(ranks) > 1 or len(kinds) > 1:
            what = f"{b.node.label}: its branches return tensors of different ranks or dtypes, so the condition must be known"
            raise NeedsValueError(what, () if condition.counted else condition.origins)
        shapes = [x.both[1].shape if isinstance(x, Constant) else x.other for x in pair]
        orders.append(tuple(range(ranks.pop())))
        dtypes.append(np.dtype(kinds.pop()))
        others.append(shapes[1] if 0 in shapes[0] else shapes[0])
    return b.emit(layer, [b.plain(condition), *outer], orders, dtypes, others)
