"""The order of flattened elements, here and in libraries with channels first.

Flattening ``(H, W, C)`` gives the channels of the first pixel, then those of the next; flattening ``(C, H, W)`` gives all
pixels of the first channel. So a linear layer after a flattened image has the rows of its matrix in another order, and one
before a reshaping to an image its columns. An order is an array of indices: number ``i`` of
ours is number ``order[i]`` of theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from fastconv.layers import Concat, Flatten, Layer, Linear, Reshape
from fastconv.model import Model
from fastconv.weights.match import WeightsError

Shape = tuple[int, ...]
Order = np.ndarray


class Use(NamedTuple):
    """One use of a layer, with numbers for the values that it reads and makes, and their shapes without the batch."""

    layer: Layer
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    shapes: list[Shape]


class Orders(NamedTuple):
    """The orders along the last axis, of what goes into a layer and of what comes out; None where they are the same."""

    inward: Order | None = None
    outward: Order | None = None


def orders(model: Model) -> dict[int, Orders]:
    """Return the orders for each layer inside a model, by its identity, where they are not the same as elsewhere.

    Raises `WeightsError` where numbers in two orders meet, as in the sum of a flattened image and a linear layer's output.
    """
    uses = list(_uses(model))
    found = _forward(uses)
    _backward(uses, found)
    by_layer: dict[int, Orders] = {}
    for use in uses:
        inward, outward = (found.get(slots[0]) if slots else None for slots in (use.reads, use.writes))
        both = Orders(inward, outward)
        known = by_layer.setdefault(id(use.layer), both)
        if not all(_same(a, b) for a, b in zip(known, both, strict=True)):
            raise WeightsError(f"{use.layer.label} is used twice, with its input in two orders")
    return by_layer


def _uses(model: Model) -> Iterator[Use]:
    """Yield the uses of all layers, those in nested models too, as if it were one model."""
    numbers: Iterator[int] = iter(range(2**62))
    shapes: dict[int, Shape] = {}

    def expand(inner: Model, reads: tuple[int, ...]) -> Iterator[Use]:
        graph = inner.graph
        inside = graph.shapes(*(shapes[slot] for slot in reads))
        place: dict[int, int] = dict(enumerate(reads))
        for step in graph.steps:
            at = tuple(place[slot] for slot in step.reads)
            if isinstance(step.layer, Model):
                yield from expand(step.layer, at)
                made = results.pop()
            else:
                made = tuple(next(numbers) for _ in step.writes)
                shapes.update(zip(made, (inside[slot] for slot in step.writes), strict=True))
                yield Use(step.layer, at, made, [shapes[slot] for slot in (*at, *made)])
            place.update(zip(step.writes, made, strict=True))
        results.append(tuple(place[slot] for slot in graph.outputs))

    results: list[tuple[int, ...]] = []
    outermost = tuple(next(numbers) for _ in model.input_shapes)
    shapes.update(zip(outermost, model.input_shapes, strict=True))
    yield from expand(model, outermost)


def _forward(uses: list[Use]) -> dict[int, Order]:
    """Return the orders that flattening makes, carried on to where a linear layer ends them."""
    found: dict[int, Order] = {}
    for use in uses:
        order = _made(use, found)
        if order is not None:
            found[use.writes[0]] = order
    return found


def _made(use: Use, found: dict[int, Order]) -> Order | None:
    before, after = use.shapes[0], use.shapes[-1]
    if isinstance(use.layer, (Flatten, Reshape)) and len(after) == 1:
        return _channels_first(before) if len(before) > 1 else found.get(use.reads[0])
    if isinstance(use.layer, Concat) and len(after) == 1 and any(slot in found for slot in use.reads):
        sizes = [shape[0] for shape in use.shapes[:-1]]
        starts = np.cumsum([0, *sizes[:-1]])
        parts = zip(use.reads, sizes, starts, strict=True)
        return np.concatenate([found.get(slot, np.arange(size)) + start for slot, size, start in parts])
    if not _passes(use):
        return None
    order = found.get(use.reads[0])
    if not all(_same(order, found.get(slot)) for slot in use.reads):
        raise WeightsError(
            f"{use.layer.label} combines numbers in two orders, a flattened image's and another's: "
            "which weights belong to which cannot be told"
        )
    return order


def _backward(uses: list[Use], found: dict[int, Order]) -> None:
    """Add the orders in which a later `Reshape` to an image takes its numbers, carried back to the linear layer before it."""
    for use in reversed(uses):
        if isinstance(use.layer, Reshape) and len(use.shapes[0]) == 1 and len(use.shapes[-1]) > 1:
            order = _channels_first(use.shapes[-1])
        elif _passes(use):
            order = found.get(use.writes[0])
        else:
            continue
        if order is None:
            continue
        for slot in use.reads:
            if not _same(found.setdefault(slot, order), order):
                raise WeightsError(
                    f"{use.layer.label} takes numbers in an order that is not that of the layer before it"
                )


def _passes(use: Use) -> bool:
    """Return whether what comes out stands in the order of what went in: rows of one length, and each number by itself."""
    row = use.shapes[0]
    return len(row) == 1 and all(shape == row for shape in use.shapes) and not isinstance(use.layer, Linear)


def _channels_first(shape: Shape) -> Order | None:
    """Return the order of a flattened image ``(*spatial, C)``; None where it is the same with the channels first."""
    *spatial, channels = shape
    if channels == 1 or int(np.prod(spatial)) == 1:
        return None
    return np.moveaxis(np.arange(int(np.prod(shape))).reshape(channels, *spatial), 0, -1).ravel()


def _same(a: Order | None, b: Order | None) -> bool:
    return a is b or (a is not None and b is not None and np.array_equal(a, b))
