"""NumPy operations that copy values: padding, repetition, selection, and choice between arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastconv.frozen.operation import Array, Operation, register
from fastconv.frozen.unweighted import stretched
from fastconv.functional.calls import Call, View
from fastconv.layers.symbol import Shape


@register
@dataclass(frozen=True, eq=False)
class Surrounded(Operation):
    """A number before and after the entries along each axis but the batch, `pairs` (before, after) of it."""

    pairs: tuple[tuple[int, int], ...]
    value: float = 0.0

    kind = "surrounded"

    def output_shape(self, *shapes: Shape) -> Shape:
        shape = shapes[0]
        if len(self.pairs) != len(shape) - 1 or any(n < 0 for pair in self.pairs for n in pair):
            raise ValueError(f"pairs must be two numbers for each axis of x, of shape {shape}, got {self.pairs}")
        return (shape[0], *(a + n + b for n, (a, b) in zip(shape[1:], self.pairs, strict=True)))

    def calls(self, kernels: Any, reads: Sequence[View], writes: Sequence[View]) -> list[Call]:
        x, y = reads[0], writes[0]
        inner = tuple(slice(a, a + n) for n, (a, _) in zip(x.shape[1:], self.pairs, strict=True))
        return [Call("pad", _surrounded, (x, (slice(None), *inner), self.value, y))] if y.size else []


@register
@dataclass(frozen=True, eq=False)
class Tiled(Operation):
    """The whole of a sample `repeats` times side by side along each axis."""

    repeats: tuple[int, ...]

    kind = "tiled"

    def output_shape(self, *shapes: Shape) -> Shape:
        shape = shapes[0]
        if len(self.repeats) != len(shape) - 1 or any(n < 1 for n in self.repeats):
            raise ValueError(f"repeats must be at least 1 for each axis of x, of shape {shape}, got {self.repeats}")
        return (shape[0], *(n * m for n, m in zip(shape[1:], self.repeats, strict=True)))

    def is_view(self, *shapes: Shape) -> bool:
        return set(self.repeats) <= {1}

    def calls(self, kernels: Any, reads: Sequence[View], writes: Sequence[View]) -> list[Call]:
        x, y = reads[0], writes[0]
        sizes = list(zip(self.repeats, x.shape[1:], strict=True))
        apart = y.reshape(y.shape[0], *(n for pair in sizes for n in pair))
        once = x.reshape(x.shape[0], *(n for _, size in sizes for n in (1, size)))
        return [Call("tile", np.copyto, (apart, once))] if y.size else []


@register
@dataclass(frozen=True, eq=False)
class Taken(Operation):
    """The entries at fixed places along an axis, an array of them of any shape; -1 is the last."""

    axis: int
    places: Array

    kind = "taken"
    index_fields = ("places",)

    def output_shape(self, *shapes: Shape) -> Shape:
        shape, places = shapes[0], self.places
        right = (
            isinstance(places, np.ndarray) and places.dtype == np.int64 and places.size and 0 < self.axis < len(shape)
        )
        if not right or places.min() < -shape[self.axis] or places.max() >= shape[self.axis]:
            raise ValueError(
                f"places must be entries along axis {self.axis} of x, of shape {shape}, got {places!r:.80}"
            )
        return (*shape[: self.axis], *places.shape, *shape[self.axis + 1 :])

    def calls(self, kernels: Any, reads: Sequence[View], writes: Sequence[View]) -> list[Call]:
        x, y = reads[0], writes[0]
        flat = y.reshape(*x.shape[: self.axis], self.places.size, *x.shape[self.axis + 1 :])
        return [Call("take", _taken, (x, self.places.ravel(), self.axis, flat))] if y.size else []


@register
@dataclass(frozen=True, eq=False)
class Chosen(Operation):
    """Where a condition of each sample holds, the numbers of `one`, else those of `other`; an input where one is None."""

    condition: Array
    one: Array | None = None
    other: Array | None = None

    kind = "chosen"
    index_fields = ("condition",)

    def output_shape(self, *shapes: Shape) -> Shape:
        arrays = [part for part in (self.one, self.other) if part is not None]
        if not _is_condition(self.condition) or len(arrays) + len(shapes) != 2 or not shapes:
            raise ValueError(
                f"a condition chooses from two, got {self.condition!r:.80}, {len(shapes)} inputs and {len(arrays)} arrays"
            )
        parts = [self.condition, *arrays]
        return stretched(*shapes, *((shapes[0][0], *part.shape) for part in parts))

    def calls(self, kernels: Any, reads: Sequence[View], writes: Sequence[View]) -> list[Call]:
        free = list(reads)
        one, other = (free.pop(0) if part is None else part[None] for part in (self.one, self.other))
        return [Call("where", _chosen, (self.condition[None], one, other, writes[0]))] if writes[0].size else []


def fits_tiles(repeats: Sequence[int]) -> bool:
    """Return whether `Tiled` can be what repeats so often: something stays, and NumPy has axes enough."""
    return 0 < len(repeats) <= 15 and min(repeats) > 0


def is_surrounded(pairs: Sequence[tuple[int, int]], value: float) -> bool:
    """Return whether `Surrounded` can be what pads so: nothing is cut off, and files have the number."""
    return math.isfinite(value) and all(n >= 0 for pair in pairs for n in pair)


def _is_condition(array: Any) -> bool:
    return isinstance(array, np.ndarray) and array.dtype == bool


def _surrounded(x: Array, inner: tuple[slice, ...], value: float, y: Array) -> None:
    y.fill(value)
    y[inner] = x


def _taken(x: Array, places: Array, axis: int, y: Array) -> None:
    np.take(x, places, axis, out=y, mode="wrap")  # they are inside; to raise, NumPy would write elsewhere first


def _chosen(condition: Array, one: Array, other: Array, y: Array) -> None:
    np.copyto(y, other)
    np.copyto(y, one, where=condition)
