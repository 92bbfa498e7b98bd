"""Programs: the steps of a graph, computed one after the other, forward and backward.

A pass keeps one array for each slot and frees it as soon as the last step that reads it has run; what the backward pass needs
lives in the closures of the layers, and each of those is dropped as soon as it was used.
"""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastconv.functional._sum import added
from fastconv.layers.base import Backward, Layer
from fastconv.layers.calls import run, run_backward
from fastconv.layers.context import Context
from fastconv.layers.symbol import Shape
from fastconv.layers.tree import walk

#: The gradients of parameters, by the identity of their layer.
Gradients = dict[int, dict[str, np.ndarray]]
ProgramBackward = Callable[[Sequence[Any]], tuple[list[Any], Gradients]]


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


class Program:
    """Steps between the first `inputs` of `slots`, which hold the inputs, and those of the outputs."""

    def __init__(self, steps: Sequence[Step], outputs: Sequence[int], *, inputs: int, slots: int) -> None:
        self.steps = _freeing(steps, outputs)
        self.outputs = tuple(outputs)
        self.inputs, self.slots = inputs, slots
        self._flows: dict[Any, Flow] = {}
        self._inner: list[Layer] = []  # of all steps, with those inside them

    def forget(self) -> None:
        """Look again at where gradients go, at the next pass: parameters were made."""
        self._flows, self._inner = {}, []

    def forward(self, ctx: Context, xs: Sequence[np.ndarray]) -> tuple[list[Any], ProgramBackward]:
        """Return the outputs, and the backward pass: from the gradients of the outputs to those of inputs and parameters.

        It returns a list with the gradient of each input (None where ``ctx.input_grad`` is false) and the gradients of the
        parameters as ``{id of the layer: {name: array}}``. It can be used once.
        """
        if ctx.inference:
            return self._inferred(ctx, xs), _no_backward
        flow = self._flow(ctx)
        contexts = [role.context(ctx) for role in flow.roles]
        values: list[Any] = [*xs, *[None] * (self.slots - len(xs))]
        closures: list[Backward | None] = []
        shapes: list[Any] = [getattr(value, "shape", None) for value in values]  # kept when the arrays are gone
        for step, at in zip(self.steps, flow.steps, strict=True):
            y, backward = run(step.runs, contexts[at], [values[slot] for slot in step.reads])
            _store(values, step, y)
            # nothing goes back through a step before which there is nothing to learn
            closures.append(backward if flow.roles[at].out_of else None)
            for slot in step.writes:
                shapes[slot] = values[slot].shape
            del y, backward  # else the last layer's memory stays while the next one computes
            for slot in step.frees:
                values[slot] = None
        outputs = [values[slot] for slot in self.outputs]

        def program_backward(dys: Sequence[Any]) -> tuple[list[Any], Gradients]:
            if len(closures) != len(self.steps):
                raise RuntimeError("the backward pass was used already and its memory is free: run forward again")
            _require_gradients(dys, [shapes[slot] for slot in self.outputs])
            return self._backward(flow.slots, closures, shapes, dys)

        return outputs, program_backward

    def _inferred(self, ctx: Context, xs: Sequence[np.ndarray]) -> list[Any]:
        """Return the outputs of a pass without a backward pass."""
        values: list[Any] = [*xs, *[None] * (self.slots - len(xs))]
        for step in self.steps:
            _store(values, step, run(step.runs, ctx, [values[slot] for slot in step.reads])[0])
            for slot in step.frees:
                values[slot] = None
        return [values[slot] for slot in self.outputs]

    def _backward(
        self, flows: list[bool], closures: list[Backward | None], shapes: list[Any], dys: Sequence[Any]
    ) -> tuple[list[Any], Gradients]:
        slots, params = _Sum(), _Sum()
        for slot, dy in zip(self.outputs, dys, strict=True):
            if dy is not None:
                slots.add(slot, dy)
        for step in reversed(self.steps):
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
                elif slot >= self.inputs and not step.layer.traits.takes_integers(at):
                    raise ValueError(
                        f"backward of {step.layer.label} returned no gradient for its input, which is needed"
                    )
        by_layer: Gradients = {}
        for (layer, name), gradient in params.items():
            by_layer.setdefault(layer, {})[name] = gradient
        return [slots.take(slot) if flows[slot] else None for slot in range(self.inputs)], by_layer

    def _flow(self, ctx: Context) -> Flow:
        """Return where gradients go: to parameters that are trained, and to the inputs if the caller wants them."""
        if not self._inner:
            self._inner = [inner for step in self.steps for _, inner in walk(step.layer)]
        key = ctx.input_grad, None if ctx.inference else tuple([inner._trainable for inner in self._inner])
        if key not in self._flows:
            slots = [ctx.input_grad] * self.inputs + [False] * (self.slots - self.inputs)
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
                for step in self.steps
            ]
            kinds = list(dict.fromkeys(roles))
            self._flows[key] = Flow(slots, kinds, [kinds.index(role) for role in roles])
        return self._flows[key]


class _Sum:
    """Gradients that add up where a value is used several times, without changing an array that somebody else holds."""

    def __init__(self) -> None:
        self._arrays: dict[Any, Any] = {}
        self._ours: set[Any] = set()

    def add(self, key: Any, gradient: Any) -> None:
        if key not in self._arrays:
            self._arrays[key] = gradient
        elif key in self._ours:
            added(self._arrays[key], gradient, into=self._arrays[key])
        else:  # the layer that made this array may have given it to others too
            self._arrays[key] = added(self._arrays[key], gradient)
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


def store(values: list[Any], slots: tuple[int, ...], made: Any) -> None:
    """Put what a step has made, a tuple for several outputs, into its slots."""
    if len(slots) == 1:
        values[slots[0]] = made
    else:
        for slot, value in zip(slots, made, strict=True):
            values[slot] = value


def _store(values: list[Any], step: Step, made: Any) -> None:
    """Do so; raise `ValueError` where a layer has made something else than it has outputs."""
    many = len(step.writes)
    if many > 1 and not (isinstance(made, tuple) and len(made) == many):
        raise ValueError(f"forward of {step.layer.label} must return a tuple of its {many} outputs first")
    store(values, step.writes, made)


def _no_backward(dys: Sequence[Any]) -> tuple[list[Any], Gradients]:
    raise RuntimeError("this pass was for inference, which keeps nothing for the backward pass")


def _require_shape(layer: Layer, gradient: np.ndarray, shape: Shape) -> None:
    if getattr(gradient, "shape", None) != shape:
        got = getattr(gradient, "shape", type(gradient).__name__)
        raise ValueError(f"backward of {layer.label} must return a gradient of shape {shape}, its input's, got {got}")


def _require_gradients(dys: Sequence[Any], expected: Sequence[Shape]) -> None:
    if len(dys) != len(expected):
        raise ValueError(
            f"the backward pass takes one gradient for each of the {len(expected)} outputs, got {len(dys)}"
        )
    for number, (dy, shape) in enumerate(zip(dys, expected, strict=True), start=1):
        if dy is not None and getattr(dy, "shape", None) != shape:
            got = getattr(dy, "shape", type(dy).__name__)
            raise ValueError(f"the gradient of output {number} must have the shape of the output, {shape}, got {got}")
