"""A graph of layers: the plan behind `Model`. Symbols become numbered slots, nodes become steps in the order in which they were
described.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from fastconv.fusion import fused
from fastconv.layers.arrange import Transpose
from fastconv.layers.base import Layer
from fastconv.layers.calls import connect, ensure_built, shape_of
from fastconv.layers.symbol import Node, Shape, Symbol
from fastconv.layers.traits import Traits
from fastconv.layers.tree import collect, walk
from fastconv.layers.wrap import Cast
from fastconv.program import Program, Step, store


class Graph:
    """The layers between some input symbols and some output symbols.

    Slots ``0 .. len(inputs) - 1`` hold the inputs; `outputs` are the slots of the outputs. Raises `TypeError` for what is no
    symbol, and `ValueError` for an input named twice, an input that no output needs, and an output that needs another input.
    """

    def __init__(
        self, inputs: Sequence[Symbol], outputs: Sequence[Symbol], output_names: Sequence[str | None] | None = None
    ) -> None:
        _require_symbols(inputs, "inputs")
        _require_symbols(outputs, "outputs")
        if len(set(inputs)) < len(inputs):
            raise ValueError("the same symbol is given twice among the inputs of the model")
        nodes = _needed_nodes(inputs, outputs)
        writes = [node.outputs for node in nodes]
        made = [symbol for some in writes for symbol in some]
        slots = {symbol: slot for slot, symbol in enumerate(dict.fromkeys([*inputs, *made]))}
        _require_used(inputs, nodes, made, outputs)
        self.input_shapes = [symbol.shape for symbol in inputs]
        self.input_names = [symbol.name for symbol in inputs]
        self.free = [symbol.free for symbol in inputs]
        self.dtypes = [symbol.dtype for symbol in inputs]
        if not {None, "int32", "int64", "bool"}.issuperset(self.dtypes):
            raise ValueError(f"inputs that are no floats are int32, int64 or bool, got {self.dtypes!r:.80}")
        self.output_names = list(output_names) if output_names else [None] * len(outputs)
        if len(self.output_names) != len(outputs):
            raise ValueError(f"output_names must be one for each of {len(outputs)} outputs, got {self.output_names}")
        self.outputs = tuple(slots[symbol] for symbol in outputs)
        self.slots = len(slots)
        slot_of = slots.__getitem__
        self.steps = [
            Step(node.layer, tuple(map(slot_of, node.inputs)), tuple(map(slot_of, some)), node.layer)
            for node, some in zip(nodes, writes, strict=True)
        ]
        self.channel_axes = [self._channel_axis(slot) for slot in range(len(inputs))]
        self.layers = _unique(step.layer for step in self.steps)
        self._described = [symbol.shape for symbol in (*inputs, *made)]
        self._symbols: tuple[tuple[Symbol, ...], tuple[Symbol, ...]] | None = tuple(inputs), tuple(outputs)

    def _channel_axis(self, slot: int) -> int:
        """Return which axis of an input's shape is its channels: the last, or the one that is turned there at once."""
        readers = [step.layer for step in self.steps if slot in step.reads]
        if len(readers) == 1 and isinstance(readers[0], Transpose):
            return readers[0].axes[-1] - 1
        return -1

    def __getstate__(self) -> dict[str, Any]:
        # symbols hold each other in one long chain, which copy and pickle would follow recursively
        state = {**self.__dict__, "_symbols": None}
        state.pop("program", None)
        return state

    @cached_property
    def program(self) -> Program:
        """What computes: the steps, some of them as one."""
        return Program(fused(self.steps, self.outputs), self.outputs, inputs=len(self.input_shapes), slots=self.slots)

    @cached_property
    def casts(self) -> list[str | None]:
        """Of each input that a `Cast` alone reads, the dtype that it says comes in; None of others."""
        readers = [[step.layer for step in self.steps if slot in step.reads] for slot in range(len(self.input_shapes))]
        return [
            layers[0].source if len(layers) == 1 and isinstance(layers[0], Cast) and slot not in self.outputs else None
            for slot, layers in enumerate(readers)
        ]

    @cached_property
    def traits(self) -> Traits:
        """What its layers declare, of what matters for a model; every call asks for it."""
        members = [layer.traits for layer in self.layers]
        return Traits(
            integers=any(bool(each.integers) for each in members), counts=any(each.counts for each in members)
        )

    @property
    def symbols(self) -> tuple[tuple[Symbol, ...], tuple[Symbol, ...]]:
        """The symbols of the inputs and of the outputs, to build further models on."""
        if self._symbols is None:
            kinds = zip(self.input_shapes, self.input_names, self.free, self.dtypes, strict=True)
            inputs = [Symbol(shape, name=name, free=free, dtype=dtype) for shape, name, free, dtype in kinds]
            values: list[Any] = [*inputs, *[None] * (self.slots - len(inputs))]
            for step in self.steps:
                made = connect(step.layer, [values[slot] for slot in step.reads])
                store(values, step.writes, made)
            self._symbols = tuple(inputs), tuple(values[slot] for slot in self.outputs)
        return self._symbols

    def config(self) -> dict[str, Any]:
        """Return the graph as JSON values and layers; `from_config` reads it."""
        number = {id(layer): i for i, layer in enumerate(self.layers)}
        return {
            "inputs": [list(shape) for shape in self.input_shapes],
            "input_names": self.input_names,
            **({"free": [list(axes) for axes in self.free]} if any(self.free) else {}),
            **({"dtypes": self.dtypes} if any(self.dtypes) else {}),
            "layers": self.layers,
            "steps": [[number[id(step.layer)], list(step.reads)] for step in self.steps],
            "outputs": list(self.outputs),
            **({"output_names": self.output_names} if any(self.output_names) else {}),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Graph:
        """Return the graph that `config` described; `ValueError` where it describes none."""
        missing = {"inputs", "layers", "steps", "outputs"} - set(config)
        if missing:
            raise ValueError(f"a model is described by inputs, layers, steps and outputs; missing {sorted(missing)}")
        try:
            names = config.get("input_names") or [None] * len(config["inputs"])
            free = config.get("free") or [()] * len(config["inputs"])
            dtypes = config.get("dtypes") or [None] * len(config["inputs"])
            kinds = zip(config["inputs"], names, free, dtypes, strict=True)
            inputs = [Symbol(tuple(shape), name=name, free=axes, dtype=dtype) for shape, name, axes, dtype in kinds]
            symbols = list(inputs)
            for layer, reads in config["steps"]:
                made = connect(_entry(config["layers"], layer), [_entry(symbols, slot) for slot in reads])
                symbols.extend(made if isinstance(made, tuple) else (made,))
            outputs = [_entry(symbols, slot) for slot in config["outputs"]]
            return cls(inputs, outputs, config.get("output_names"))
        except (TypeError, IndexError) as error:
            raise ValueError(f"this describes no model: {error}") from error

    def shapes(self, *input_shapes: Shape) -> list[Any]:
        """Return the shape of every slot for inputs of these shapes, without the batch axis."""
        if list(input_shapes) == self.input_shapes:
            return list(self._described)
        shapes: list[Any] = [*input_shapes, *[None] * (self.slots - len(input_shapes))]
        for step in self.steps:
            store(shapes, step.writes, shape_of(step.layer, [shapes[slot] for slot in step.reads]))
        return shapes

    @property
    def draws(self) -> bool:
        """Whether a layer that is not built yet makes parameters when it is."""
        return any(not step.layer.built and type(step.layer).build is not Layer.build for step in self.steps)

    def build(self, input_shapes: Sequence[Shape], rng: np.random.Generator | None) -> None:
        """Build the layers that are not built yet; a shared layer by its first use, which the others must fit.

        `rng` may be None where nobody `draws`.
        """
        shapes = self.shapes(*input_shapes)
        met: dict[int, list[Shape]] = {}
        for step in self.steps:
            reads = [shapes[slot] for slot in step.reads]
            first = met.setdefault(id(step.layer), reads)
            if first is reads:
                ensure_built(step.layer, reads, rng)
            elif first != reads and step.layer.params:
                _require_shareable(step.layer, first, reads)
        if "program" in vars(self):
            self.program.forget()

    def output_of(self, layer: Layer | str) -> Any:
        """Return the symbol that a layer makes, a tuple of them for several; see `Model.output_of`."""
        nodes = _needed_nodes(*self.symbols)
        found = [node for node in nodes if node.layer is layer or node.layer.name == layer]
        if len(found) != 1:
            names = ", ".join(dict.fromkeys(str(node.layer.name) for node in nodes))
            called = layer.label if isinstance(layer, Layer) else f"layer {layer!r}"
            raise ValueError(f"{called} is used {len(found)} times in the model; its layers are {names}")
        return found[0].outputs if len(found[0].outputs) > 1 else found[0].outputs[0]


def _needed_nodes(inputs: Sequence[Symbol], outputs: Sequence[Symbol]) -> list[Node]:
    """Return the nodes between inputs and outputs, each after those it needs."""
    given = set(inputs)
    nodes: set[Node] = set()
    waiting = list(outputs)
    while waiting:
        symbol = waiting.pop()
        if symbol in given:
            continue
        if symbol.node is None:
            raise ValueError(f"an output of the model needs {symbol!r}, which is not among the inputs of the model")
        if symbol.node not in nodes:
            nodes.add(symbol.node)
            waiting.extend(symbol.node.inputs)
    return sorted(nodes, key=lambda node: node.serial)


def _require_symbols(symbols: Sequence[Any], what: str) -> None:
    if not symbols:
        raise ValueError(f"the {what} of a model must be at least one symbol, got none")
    for symbol in symbols:
        if not isinstance(symbol, Symbol):
            raise TypeError(
                f"the {what} of a model must be symbols, made by Input and by calling layers on them, got {symbol!r:.200}"
            )


def _require_used(
    inputs: Sequence[Symbol], nodes: Sequence[Node], made: Sequence[Symbol], outputs: Sequence[Symbol]
) -> None:
    used = set(outputs).union(*(node.inputs for node in nodes))
    for number, symbol in enumerate(inputs, start=1):
        if symbol not in used:
            raise ValueError(f"input {number} of the model, {symbol!r}, is not connected to any output")
        if symbol in made:
            raise ValueError(f"input {number} of the model, {symbol!r}, is made by a layer that is inside the model")


def _require_shareable(layer: Layer, first: Sequence[Shape], other: Sequence[Shape]) -> None:
    """Raise `ValueError` unless inputs of the `other` shapes need the same parameters as the `first` ones."""
    fresh = copy.deepcopy(layer)
    for _, inner in walk(fresh):
        inner.own("params").clear()
        inner.own("buffers").clear()
        inner._built = False
    ensure_built(fresh, other, np.random.default_rng(0))
    have, need = ({key: a.shape for key, a in collect(each, "params").items()} for each in (layer, fresh))
    for key in have:
        if have[key] != need.get(key):
            raise ValueError(
                f"{layer.label} is shared by inputs of shapes {first} and {other}, which need different parameters: "
                f"{key!r} of shape {have[key]} and of {need.get(key)}"
            )


def _entry(items: Sequence[Any], index: Any) -> Any:
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(items):
        raise ValueError(f"{index!r} is not the number of an earlier one of {len(items)}")
    return items[index]


def _unique(layers: Iterable[Layer]) -> list[Layer]:
    return list({id(layer): layer for layer in layers}.values())
