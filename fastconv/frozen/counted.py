"""Steps after a count, whose arrays have data-dependent sizes: they run as the layers that they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastconv.graph import Graph
from fastconv.layers.symbol import Shape
from fastconv.model import Model
from fastconv.program import Step


def counted(graph: Graph) -> list[Step]:
    """Return the steps of a graph that count, and all after them."""
    found, slots = list[Step](), set[int]()
    for step in graph.steps:
        if step.layer.traits.counts or not slots.isdisjoint(step.reads):
            found.append(step)
            slots.update(step.writes)
    return found


def model_of(
    steps: Sequence[Step], graph: Graph, sizes: Sequence[Any], dtype: Any
) -> tuple[Model, list[int], list[int]]:
    """Return a model of the last steps of a graph, whose slots have these shapes, and which slots it reads and writes."""
    made = [slot for step in steps for slot in step.writes]
    reads = list(dict.fromkeys(slot for step in steps for slot in step.reads if slot not in set(made)))
    writes = [slot for slot in made if slot in graph.outputs]
    number = {slot: at for at, slot in enumerate((*reads, *made))}
    layers = list({id(step.layer): step.layer for step in steps}.values())
    shapes: list[Shape] = [tuple(sizes[slot]) for slot in reads]
    config = {
        "inputs": [list(shape) for shape in shapes],
        "free": [list(range(len(shape))) for shape in shapes],
        "layers": layers,
        "steps": [[_place(layers, step.layer), [number[slot] for slot in step.reads]] for step in steps],
        "outputs": [number[slot] for slot in writes],
    }
    model = Model.from_config(config).named("counted")
    return model.astype(dtype).build(), reads, writes


def _place(layers: Sequence[Any], layer: Any) -> int:
    return next(at for at, each in enumerate(layers) if each is layer)
