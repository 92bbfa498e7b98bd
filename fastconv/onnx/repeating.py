"""Graphs in nodes that run several times: each time is converted by itself, with the same layers where weights are the same."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from hashlib import sha256

import numpy as np

from fastconv.layers.base import Layer
from fastconv.layers.config import to_spec
from fastconv.layers.symbol import Node
from fastconv.layers.tree import collect
from fastconv.onnx.builder import Builder, Operand
from fastconv.onnx.files import Block

#: Nodes of all repetitions of a file together, of which a small file could ask for any number.
MOST_REPEATED = 10_000


class Repetition:
    """The repetitions of one graph: called with its inputs, it returns its outputs.

    A layer that comes again has the weights of the first one, as in the file, so that training changes them together.
    """

    def __init__(self, b: Builder) -> None:
        self._b = b
        self._known: dict[str, list[Layer]] = {}

    def __call__(self, body: Block, given: Sequence[Operand]) -> list[Operand]:
        b, start = self._b, len(self._b.made)
        b.repeated += 1 + len(body.nodes)
        b.require(b.repeated <= MOST_REPEATED, f"its repetitions have more than {MOST_REPEATED} nodes")
        outputs = b.block(body, dict(zip(body.inputs, given, strict=True)))
        self._tie({id(x.symbol.node): x.symbol.node for x in b.made[start:]}.values())
        return outputs

    def _tie(self, nodes: Iterable[Node | None]) -> None:
        """Give nodes the layers of earlier repetitions; of several with the same weights each the one in its place."""
        now: dict[str, list[Layer]] = {}
        for node in nodes:
            arrays = {} if node is None else _arrays(node.layer)
            if node is None or not arrays:
                continue
            key = _description(node.layer, arrays)
            place, known = len(now.setdefault(key, [])), self._known.get(key, [])
            if place < len(known):
                self._b.give_back(node.layer)
                node.layer = known[place]
            now[key].append(node.layer)
        for key, layers in now.items():
            if len(layers) > len(self._known.get(key, [])):
                self._known[key] = layers


def _arrays(layer: Layer) -> dict[str, np.ndarray]:
    return {f"{kind}/{name}": array for kind in ("params", "buffers") for name, array in collect(layer, kind).items()}


def _description(layer: Layer, arrays: dict[str, np.ndarray]) -> str:
    """Return what tells layers apart that compute something else: all but their names."""
    numbers = sha256()
    for name, array in arrays.items():
        numbers.update(f"{name} {array.dtype} {array.shape}".encode())
        numbers.update(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
    return json.dumps([{**to_spec(layer), "name": None}, numbers.hexdigest()])
