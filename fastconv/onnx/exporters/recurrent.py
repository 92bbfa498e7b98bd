"""Recurrent layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv import layers as L
from fastconv.onnx.exporters import exports
from fastconv.onnx.operators.recurrent import GATES
from fastconv.onnx.writer import Tensor, Writer

_DIRECTIONS = {"forward": "forward", "backward": "reverse", "both": "bidirectional"}


@exports(L.RNN, L.GRU, L.LSTM)
def recurrent(w: Writer, layer: Any, x: Tensor, *more: Tensor) -> list[Tensor]:
    states = more[int(layer.lengths) :]
    op = next(name for name in GATES if isinstance(layer, getattr(L, name)))
    features, ways = layer.features, layer.ways
    back = np.argsort(GATES[op])  # the file's gates in their order
    place = np.concatenate([np.arange(gate * features, (gate + 1) * features) for gate in back])

    def stacked(name: str, *further: str) -> np.ndarray:
        rows = [np.concatenate([layer.params[each + way][..., place].T for each in (name, *further)]) for way in ways]
        return np.stack(rows)

    weights = [
        w.constant(stacked("weight"), "weight"),
        w.constant(stacked("recurrent"), "recurrent"),
        w.constant(stacked("bias", "recurrent_bias"), "bias"),
    ]
    shapes = w.output_shape(layer, x, *more)
    shapes = shapes if layer.states else (shapes,)
    lead = x
    sequences = w.call("Transpose", w.plain(x).name, perm=[1, 0, 2])
    initial = [w.call("Transpose", w.for_each_sample(w.plain(each), lead).name, perm=[1, 0, 2]) for each in states]
    initial += [""] * (layer.kinds - len(initial))
    if getattr(layer, "peepholes", False):
        gates = np.stack([layer.params["peephole" + way].reshape(3, features)[[0, 2, 1]].ravel() for way in ways])
        initial.append(w.constant(gates, "peephole"))
    lengths = (
        w.call("Cast", w.for_each_sample(more[0], lead).name, to=w.onnx.TensorProto.INT32) if layer.lengths else ""
    )
    names = w.node(
        op, [sequences, *weights, lengths, *initial], len(shapes),
        hidden_size=features, direction=_DIRECTIONS[layer.direction],
        activations=["Relu"] * len(ways) if getattr(layer, "activation", "") == "relu" else None,
        linear_before_reset=int(layer.reset_after) if op == "GRU" else None,
    )  # fmt: skip
    apart = w.call("Transpose", names[0], perm=[2, 0, 1, 3])
    y = w.array(w.call("Reshape", apart, w.integers(0, 0, len(ways) * features)), shapes[0], x.dtype)
    ends = [w.call("Transpose", name, perm=[1, 0, 2]) for name in names[1:]]
    return [y, *(w.array(name, shape, x.dtype) for name, shape in zip(ends, shapes[1:], strict=False))]
