"""A graph of layers that computes: the plan behind `Model`, forward and back.

Symbols become numbered slots, nodes become steps in the order in which they were described. A pass keeps one array for each
slot and lets go of it as soon as the last step that reads it has run; what the way back needs lives in the closures of the
layers, and each of those is dropped as soon as it was used.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, ItemsView, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastconv.fusion import fused
from fastconv.layers.arrange import Transpose
from fastconv.layers.base import Backward, Layer
from fastconv.layers.calls import connect, ensure_built, run, run_backward, shape_of
from fastconv.layers.context import Context
from fastconv.layers.symbol import Node, Shape, Symbol
from fastconv.layers.tree import collect, walk

#: The gradients of parameters, by the identity of their layer.
Gradients = dict[int, dict[str, np.ndarray]]
WayBack = Callable[[Sequence[Any]], tuple[list[Any], Gradients]]


class Step(NamedTuple):
    """One use of a layer: the slots it reads and writes; in a program also those that nobody reads after it.

    `runs` is what computes: the layer itself, or one that does the work of several and has its parameters.
    """

    layer: Layer
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    runs: Layer
    frees: tuple[int, ...] = ()


class Role(NamedTuple):
    """What a step does in training: whether somebody needs the gradients of its inputs, and of its outputs, and whether it
    stays as it is, which means that it evaluates.
    """

    into: bool
    out_of: bool
    still: bool

    def context(self, ctx: Context) -> Context:
        """Return what the step is run with."""
        if not self.still:
            return ctx.replace(input_grad=self.into)
        if self.out_of:
            return ctx.replace(input_grad=self.into, training=False)
        return ctx.replace(input_grad=False, training=False, inference=True)  # nobody comes back


class Flow(NamedTuple):
    """Where gradients go: which slots somebody needs them of, and which of the roles that makes each step play."""

    slots: list[bool]
    roles: list[Role]
    steps: list[int]


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
        if len({id(symbol) for symbol in inputs}) < len(inputs):
            raise ValueError("the same symbol is given twice among the inputs of the model")
        nodes = _needed_nodes(inputs, outputs)
        slots = {id(symbol): slot for slot, symbol in enumerate(inputs)}
        for node in nodes:
            for symbol in node.outputs:
                slots.setdefault(id(symbol), len(slots))
        _require_used(inputs, nodes, outputs)
        self.input_shapes = [symbol.shape for symbol in inputs]
        self.input_names = [symbol.name for symbol in inputs]
        self.output_names = list(output_names) if output_names else [None] * len(outputs)
        if len(self.output_names) != len(outputs):
            raise ValueError(f"output_names must be one for each of {len(outputs)} outputs, got {self.output_names}")
        self.outputs = tuple(slots[id(symbol)] for symbol in outputs)
        self.slots = len(slots)
        self.steps = [self._step(node, slots) for node in nodes]
        self.channel_axes = [self._channel_axis(slot) for slot in range(len(inputs))]
        self._program = _freeing(fused(self.steps, self.outputs), self.outputs)
        self.layers = _unique(step.layer for step in self.steps)
        self._symbols: tuple[tuple[Symbol, ...], tuple[Symbol, ...]] | None = tuple(inputs), tuple(outputs)
        self._plans: dict[Any, Flow] = {}
        self._inner: list[Layer] = []  # of all steps, with those inside them

    def _step(self, node: Node, slots: dict[int, int]) -> Step:
        reads, writes = (tuple(slots[id(symbol)] for symbol in some) for some in (node.inputs, node.outputs))
        return Step(node.layer, reads, writes, node.layer)

    def _channel_axis(self, slot: int) -> int:
        """Return which axis of an input's shape is its channels: the last, or the one that is turned there at once."""
        readers = [step.layer for step in self.steps if slot in step.reads]
        if len(readers) == 1 and isinstance(readers[0], Transpose):
            return readers[0].axes[-1] - 1
        return -1

    def __getstate__(self) -> dict[str, Any]:
        # symbols hold each other in one long chain, which copy and pickle would follow recursively
        return {**self.__dict__, "_symbols": None}

    @property
    def symbols(self) -> tuple[tuple[Symbol, ...], tuple[Symbol, ...]]:
        """The symbols of the inputs and of the outputs, to build further models on."""
        if self._symbols is None:
            inputs = [Symbol(shape, name=name) for shape, name in zip(self.input_shapes, self.input_names, strict=True)]
            values: list[Any] = [*inputs, *[None] * (self.slots - len(inputs))]
            for step in self.steps:
                made = connect(step.layer, [values[slot] for slot in step.reads])
                _store(values, step.writes, made)
            self._symbols = tuple(inputs), tuple(values[slot] for slot in self.outputs)
        return self._symbols

    def config(self) -> dict[str, Any]:
        """Return the graph as JSON values and layers; `from_config` reads it."""
        number = {id(layer): i for i, layer in enumerate(self.layers)}
        return {
            "inputs": [list(shape) for shape in self.input_shapes],
            "input_names": self.input_names,
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
            pairs = zip(config["inputs"], names, strict=True)
            inputs = [Symbol(tuple(shape), name=name) for shape, name in pairs]
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
        shapes: list[Any] = [*input_shapes, *[None] * (self.slots - len(input_shapes))]
        for step in self.steps:
            _store(shapes, step.writes, shape_of(step.layer, [shapes[slot] for slot in step.reads]))
        return shapes

    def build(self, input_shapes: Sequence[Shape], rng: np.random.Generator) -> None:
        """Build the layers that are not built yet; a shared layer by its first use, which the others must fit."""
        shapes = self.shapes(*input_shapes)
        met: dict[int, list[Shape]] = {}
        for step in self.steps:
            reads = [shapes[slot] for slot in step.reads]
            if id(step.layer) not in met:
                met[id(step.layer)] = reads
                ensure_built(step.layer, reads, rng)
            elif met[id(step.layer)] != reads and step.layer.params:
                _require_shareable(step.layer, met[id(step.layer)], reads)
        self._plans, self._inner = {}, []

    def forward(self, ctx: Context, xs: Sequence[np.ndarray]) -> tuple[list[Any], WayBack]:
        """Return the outputs, and the way back: from the gradients of the outputs to those of inputs and parameters.

        It returns a list with the gradient of each input (None where ``ctx.input_grad`` is false) and the gradients of the
        parameters as ``{id of the layer: {name: array}}``. It can be used once.
        """
        flow = self._flow(ctx)
        contexts = [ctx if ctx.inference else role.context(ctx) for role in flow.roles]
        values: list[Any] = [*xs, *[None] * (self.slots - len(xs))]
        closures: list[Backward | None] = []
        shapes: list[Any] = [getattr(value, "shape", None) for value in values]  # kept when the arrays are gone
        for step, at in zip(self._program, flow.steps, strict=True):
            y, backward = run(step.runs, contexts[at], [values[slot] for slot in step.reads])
            if len(step.writes) > 1 and not (isinstance(y, tuple) and len(y) == len(step.writes)):
                raise ValueError(
                    f"forward of {step.layer.label} must return a tuple of its {len(step.writes)} outputs first"
                )
            _store(values, step.writes, y)
            # nothing goes back through a step before which there is nothing to learn
            closures.append(backward if flow.roles[at].out_of and not ctx.inference else None)
            for slot in step.writes:
                shapes[slot] = values[slot].shape
            del y, backward  # else the last layer's memory stays while the next one computes
            for slot in step.frees:
                values[slot] = None
        outputs = [values[slot] for slot in self.outputs]

        def way_back(dys: Sequence[Any]) -> tuple[list[Any], Gradients]:
            if ctx.inference:
                raise RuntimeError("this pass was for inference, which keeps nothing for the way back")
            if len(closures) != len(self._program):
                raise RuntimeError("the way back was used already and its memory is free: run forward again")
            _require_gradients(dys, [shapes[slot] for slot in self.outputs])
            return self._backward(flow.slots, closures, shapes, dys)

        return outputs, way_back

    def _backward(
        self, flows: list[bool], closures: list[Backward | None], shapes: list[Any], dys: Sequence[Any]
    ) -> tuple[list[Any], Gradients]:
        slots, params = _Sum(), _Sum()
        for slot, dy in zip(self.outputs, dys, strict=True):
            if dy is not None:
                slots.add(slot, dy)
        for step in reversed(self._program):
            backward = closures.pop()
            dy = [slots.take(slot) for slot in step.writes]
            if backward is None or all(part is None for part in dy):
                continue
            if len(dy) > 1:
                dtype = next(part.dtype for part in dy if part is not None)
                dy = [
                    np.zeros(shapes[at], dtype) if part is None else part
                    for part, at in zip(dy, step.writes, strict=True)
                ]
            dx, gradients = run_backward(step.runs, backward, tuple(dy) if len(dy) > 1 else dy[0])
            del backward, dy
            for name, gradient in gradients.items():
                params.add((id(step.layer), name), gradient)
            for at, (slot, part) in enumerate(zip(step.reads, _per_input(step, dx), strict=True)):
                if not flows[slot]:
                    continue
                if part is not None:
                    _require_shape(step.layer, part, shapes[slot])
                    slots.add(slot, part)
                elif slot >= len(self.input_shapes) and not step.layer.traits.takes_integers(at):
                    raise ValueError(
                        f"backward of {step.layer.label} returned no gradient for its input, which is needed"
                    )
        by_layer: Gradients = {}
        for (layer, name), gradient in params.items():
            by_layer.setdefault(layer, {})[name] = gradient
        return [slots.take(slot) if flows[slot] else None for slot in range(len(self.input_shapes))], by_layer

    def _flow(self, ctx: Context) -> Flow:
        """Return where gradients go: to parameters that are trained, and to the inputs if the caller wants them."""
        if not self._inner:
            self._inner = [inner for step in self.steps for _, inner in walk(step.layer)]
        key = ctx.input_grad, None if ctx.inference else tuple([inner._trainable for inner in self._inner])
        if key not in self._plans:
            slots = [ctx.input_grad] * len(self.input_shapes) + [False] * (self.slots - len(self.input_shapes))
            for step in self.steps:
                learns = step.layer.trainable and any(inner.own("params") for _, inner in walk(step.layer))
                if learns or any(slots[slot] for slot in step.reads):
                    for slot in step.writes:
                        slots[slot] = True
            roles = [
                Role(
                    any(slots[slot] for slot in step.reads),
                    any(slots[slot] for slot in step.writes),
                    not step.layer.trainable,
                )
                for step in self._program
            ]
            kinds = list(dict.fromkeys(roles))
            self._plans[key] = Flow(slots, kinds, [kinds.index(role) for role in roles])
        return self._plans[key]

    def output_of(self, layer: Layer | str) -> Any:
        """Return the symbol that a layer makes, a tuple of them for several; see `Model.output_of`."""
        nodes = _needed_nodes(*self.symbols)
        found = [node for node in nodes if node.layer is layer or node.layer.name == layer]
        if len(found) != 1:
            names = ", ".join(dict.fromkeys(str(node.layer.name) for node in nodes))
            called = layer.label if isinstance(layer, Layer) else f"layer {layer!r}"
            raise ValueError(f"{called} is used {len(found)} times in the model; its layers are {names}")
        return found[0].outputs if len(found[0].outputs) > 1 else found[0].outputs[0]


class _Sum:
    """Gradients that add up where a value is used several times, without changing an array that somebody else holds."""

    def __init__(self) -> None:
        self._arrays: dict[Any, Any] = {}
        self._ours: set[Any] = set()

    def add(self, key: Any, gradient: Any) -> None:
        if key not in self._arrays:
            self._arrays[key] = gradient
        elif key in self._ours:
            self._arrays[key] += gradient
        else:  # the layer that made this array may have given it to others too
            self._arrays[key] = self._arrays[key] + gradient
            self._ours.add(key)

    def take(self, key: Any) -> Any:
        return self._arrays.pop(key, None)

    def items(self) -> ItemsView[Any, Any]:
        return self._arrays.items()


def _freeing(steps: Sequence[Step], outputs: Sequence[int]) -> list[Step]:
    """Return the steps, each with the slots that nobody reads after it."""
    last: dict[int, int] = {}
    for at, step in enumerate(steps):
        # a slot that nobody reads is free once it is written
        last.update((slot, at) for slot in (*step.writes, *step.reads))
    return [
        step._replace(
            frees=tuple(s for s in dict.fromkeys((*step.reads, *step.writes)) if last[s] == at and s not in outputs)
        )
        for at, step in enumerate(steps)
    ]


def _per_input(step: Step, dx: Any) -> tuple[Any, ...]:
    if len(step.reads) == 1:
        return (dx,)
    if not isinstance(dx, tuple) or len(dx) != len(step.reads):
        raise ValueError(
            f"backward of {step.layer.label} must return one gradient for each of its {len(step.reads)} inputs, "
            f"got {f'a tuple of {len(dx)}' if isinstance(dx, tuple) else type(dx).__name__}"
        )
    return dx


def _store(values: list[Any], slots: tuple[int, ...], made: Any) -> None:
    if len(slots) == 1:
        values[slots[0]] = made
    else:
        for slot, value in zip(slots, made, strict=True):
            values[slot] = value


def _needed_nodes(inputs: Sequence[Symbol], outputs: Sequence[Symbol]) -> list[Node]:
    """Return the nodes between inputs and outputs, each after those it needs."""
    given = {id(symbol) for symbol in inputs}
    nodes: dict[int, Node] = {}
    waiting = list(outputs)
    while waiting:
        symbol = waiting.pop()
        if id(symbol) in given:
            continue
        if symbol.node is None:
            raise ValueError(f"an output of the model needs {symbol!r}, which is not among the inputs of the model")
        if id(symbol.node) not in nodes:
            nodes[id(symbol.node)] = symbol.node
            waiting.extend(symbol.node.inputs)
    return sorted(nodes.values(), key=lambda node: node.serial)


def _require_symbols(symbols: Sequence[Any], what: str) -> None:
    if not symbols:
        raise ValueError(f"the {what} of a model must be at least one symbol, got none")
    for symbol in symbols:
        if not isinstance(symbol, Symbol):
            raise TypeError(
                f"the {what} of a model must be symbols, made by Input and by calling layers on them, got {symbol!r:.200}"
            )


def _require_used(inputs: Sequence[Symbol], nodes: Sequence[Node], outputs: Sequence[Symbol]) -> None:
    used = {id(symbol) for symbol in outputs}
    used.update(id(symbol) for node in nodes for symbol in node.inputs)
    made = {id(symbol) for node in nodes for symbol in node.outputs}
    for number, symbol in enumerate(inputs, start=1):
        if id(symbol) not in used:
            raise ValueError(f"input {number} of the model, {symbol!r}, is not connected to any output")
        if id(symbol) in made:
            raise ValueError(f"input {number} of the model, {symbol!r}, is made by a layer that is inside the model")


def _require_shape(layer: Layer, gradient: np.ndarray, shape: Shape) -> None:
    if getattr(gradient, "shape", None) != shape:
        got = getattr(gradient, "shape", type(gradient).__name__)
        raise ValueError(f"backward of {layer.label} must return a gradient of shape {shape}, its input's, got {got}")


def _require_gradients(dys: Sequence[Any], expected: Sequence[Shape]) -> None:
    if len(dys) != len(expected):
        raise ValueError(f"the way back takes one gradient for each of the {len(expected)} outputs, got {len(dys)}")
    for number, (dy, shape) in enumerate(zip(dys, expected, strict=True), start=1):
        if dy is not None and getattr(dy, "shape", None) != shape:
            got = getattr(dy, "shape", type(dy).__name__)
            raise ValueError(f"the gradient of output {number} must have the shape of the output, {shape}, got {got}")


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
        raise ValueError(f"{index!r} is no number of an earlier one of {len(items)}")
    return items[index]


def _unique(layers: Iterable[Layer]) -> list[Layer]:
    return list({id(layer): layer for layer in layers}.values())
