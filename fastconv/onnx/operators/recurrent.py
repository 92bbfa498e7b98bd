"""Recurrent operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastconv import layers as L
from fastconv.layers.recurrence import Recurrent
from fastconv.onnx.builder import Builder, Operand
from fastconv.onnx.errors import NotBatchedError, OnnxImportError
from fastconv.onnx.files import Node
from fastconv.onnx.table import register
from fastconv.onnx.values import Constant, Value

_DIRECTIONS = {"forward": "forward", "reverse": "backward", "bidirectional": "both"}

#: Which of the file's blocks of columns are those of the layers, in their order.
GATES = {"RNN": (0,), "GRU": (1, 0, 2), "LSTM": (0, 2, 3, 1)}


@register("RNN")
def rnn(b: Builder, node: Node, x: Operand, w: Operand, r: Operand, *rest: Operand | None) -> Any:
    found = _activations(node, 1, "tanh", "relu")[0]

    def make(features: int, **arguments: Any) -> Recurrent:
        return L.RNN(features, activation=found, **arguments)

    return _recurrent(b, node, make, (x, w, r, *rest))


@register("GRU")
def gru(b: Builder, node: Node, x: Operand, w: Operand, r: Operand, *rest: Operand | None) -> Any:
    _require_usual(node, ("sigmoid", "tanh"))

    def make(features: int, **arguments: Any) -> Recurrent:
        return L.GRU(features, reset_after=bool(node.get("linear_before_reset", 0)), **arguments)

    return _recurrent(b, node, make, (x, w, r, *rest))


@register("LSTM")
def lstm(b: Builder, node: Node, x: Operand, w: Operand, r: Operand, *rest: Operand | None) -> Any:
    _require_usual(node, ("sigmoid", "tanh", "tanh"))
    b.require(not node.get("input_forget", 0), "input_forget is not supported")
    peepholes = b.array(rest[4], "P") if len(rest) > 4 and rest[4] is not None else np.zeros((1, 1), np.float32)

    def make(features: int, **arguments: Any) -> Recurrent:
        return L.LSTM(features, peepholes=bool(peepholes.any()), **arguments)

    return _recurrent(b, node, make, (x, w, r, *rest[:4]), peepholes)


def _activations(node: Node, count: int, *known: str) -> list[str]:
    """Return the activations of a node, the same in both directions."""
    named = [str(name).lower() for name in node.get("activations") or known[:count]]
    if any(name not in known for name in named) or named[:count] * (len(named) // count) != named:
        raise OnnxImportError(f"{node.label}: activations must be {' or '.join(known)} both ways, got {named}")
    if node.get("clip") or node.get("activation_alpha") or node.get("activation_beta"):
        raise OnnxImportError(f"{node.label}: clip, activation_alpha and activation_beta are not supported")
    return named


def _require_usual(node: Node, usual: tuple[str, ...]) -> None:
    named = [str(name).lower() for name in node.get("activations") or usual]
    if named not in (list(usual), list(usual) * 2):
        raise OnnxImportError(f"{node.label}: activations must be {', '.join(usual)}, got {named}")
    _activations(node._replace(attributes={**node.attributes, "activations": None}), 1, "tanh")


def _recurrent(
    b: Builder, node: Node, make: Callable[..., Recurrent], operands: Sequence[Any], peepholes: Any = None
) -> list[Value]:
    x, w, r, bias, lengths, *initial = list(operands) + [None] * (7 - len(operands))
    rows = bool(node.get("layout", 0))  # the batch is axis 0, else the steps are
    if b.batched and not rows:
        raise NotBatchedError
    direction = _DIRECTIONS.get(node.get("direction", "forward"))
    b.require(direction is not None, f"direction must be one of {', '.join(_DIRECTIONS)}")
    features = node.get("hidden_size") or b.weight(r, "R", 3).shape[-1]
    x = b.value(x)
    lengths = None if _are_whole(lengths, b.shapes(x), int(rows)) else lengths
    layer = make(features, direction=direction, states=any(node.outputs[1:]), lengths=lengths is not None)
    b.require(b.rank(x) == 3, f"it takes sequences of 3 axes, got {b.rank(x)}")
    weights = _weights(b, node, layer, [w, r, bias], peepholes)
    inputs = len(weights["weight"])
    b.require(b.shapes(x)[0][2] == inputs, f"W for sequences of {inputs} features does not fit {b.shapes(x)[0]}")
    b.layer(layer, weights)
    x = b.plain(x) if rows else b.arranged(x, (1, 0, 2))
    states = _states(b, layer, initial[: layer.kinds], rows=rows)
    if lengths is not None:
        states.insert(0, _lengths(b, lengths))
    outer: L.Layer = layer if b.batched else L.TimeDistributed(layer)
    count = 1 + (layer.kinds if layer.states else 0)
    plain = tuple(range(3 - b.offset))
    made = b.call(outer, [x, *states], plain, [x.dtype] * count)
    apart = len(layer.ways), features
    y = b.reshaped(made[0], (*made[0].shape[:-1], *apart), (*made[0].other_shape[:-1], *apart))
    if not rows:  # (N, T, directions, features) is (T, directions, N, features) there
        return [y._replace(order=(2, 0, 1, 3)), *(each._replace(order=(1, 0, 2)) for each in made[1:])]
    return [y, *made[1:]]


def _weights(b: Builder, node: Node, layer: Recurrent, arrays: Sequence[Any], peepholes: Any) -> dict[str, np.ndarray]:
    """Return the parameters of a layer: columns instead of rows, the gates in its order."""
    w, r = (b.weight(array, name, 3) for array, name in zip(arrays, "WR", strict=False))
    features, ways, order = layer.features, layer.ways, GATES[node.op]
    columns = len(order) * features
    b.require(
        w.shape[:2] == (len(ways), columns) and r.shape == (len(ways), columns, features),
        f"W and R of shapes {w.shape} and {r.shape} do not fit {features} features and {len(ways)} directions",
    )
    both = np.zeros((len(ways), 2 * columns), w.dtype) if arrays[2] is None else b.weight(arrays[2], "B", 2)
    b.require(both.shape == (len(ways), 2 * columns), f"B must have shape {(len(ways), 2 * columns)}, got {both.shape}")
    place = np.concatenate([np.arange(gate * features, (gate + 1) * features) for gate in order])
    found: dict[str, np.ndarray] = {}
    for at, way in enumerate(ways):
        found["weight" + way], found["recurrent" + way] = w[at][place].T, r[at][place].T
        found["bias" + way], found["recurrent_bias" + way] = both[at, :columns][place], both[at, columns:][place]
        if getattr(layer, "peepholes", False):
            gates = peepholes[at].reshape(3, features)  # input, output, forget
            found["peephole" + way] = gates[[0, 2, 1]].ravel()
    return found


def _are_whole(lengths: Operand | None, shapes: Sequence[Sequence[int]], axis: int) -> bool:
    """Return whether all sequences are as long as the array."""
    if isinstance(lengths, Constant) and lengths.open is None:
        return all(bool((each == shape[axis]).all()) for each, shape in zip(lengths.both, shapes, strict=True))
    return lengths is None


def _lengths(b: Builder, lengths: Operand) -> Operand:
    """Return how long each sequence is as the layer takes it."""
    b.require(b.rank(lengths) == 1 and lengths.dtype.kind == "i", "sequence_lens must be a row of integers")
    if isinstance(lengths, Value):
        return b.plain(lengths)
    b.array(lengths, "sequence_lens")
    if b.batched:
        raise NotBatchedError
    return lengths


def _states(b: Builder, layer: Recurrent, given: Sequence[Operand | None], *, rows: bool) -> list[Operand]:
    """Return the states at the beginning as the layer takes them, none where they are all zeros."""
    zeros = [x is None or (isinstance(x, Constant) and not any(each.any() for each in x.both)) for x in given]
    if all(zeros):
        return []
    found: list[Operand] = []
    like = next(x for x, zero in zip(given, zeros, strict=True) if not zero and x is not None)
    for x in given:
        if x is None:
            shape = like.array.shape if isinstance(like, Constant) else like.shape
            x = Constant(np.zeros(shape, like.dtype))
        if isinstance(x, Value):
            found.append(b.plain(x) if rows else b.arranged(x, (1, 0, 2)))
        else:
            array = b.array(x, "the initial state")
            if b.batched:
                raise NotBatchedError
            found.append(Constant(array if rows else array.swapaxes(0, 1), None, x.learned))
    return found
