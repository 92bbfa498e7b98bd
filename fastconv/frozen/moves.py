"""Operations that move values: permuted axes, permuted channels, parts of an array."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastconv.frozen.operation import Array, Operation, register
from fastconv.functional.calls import Call, View
from fastconv.layers.symbol import Shape

#: What a number that moves counts in multiply-adds where threads share them: it comes from where it was computed.
MOVE = 2


@register
@dataclass(frozen=True, eq=False)
class Transpose(Operation):
    """The axes in another order: axis i of the output is axis ``axes[i]`` of the input; the batch stays the first."""

    axes: tuple[int, ...]

    kind = "transpose"

    def output_shape(self, *shapes: Shape) -> Shape:
        shape = shapes[0]
        if sorted(self.axes) != list(range(len(shape))) or self.axes[0] != 0:
            raise ValueError(
                f"axes must be those of x, of shape {shape}, in some order, the batch first, got {self.axes}"
            )
        return tuple(shape[axis] for axis in self.axes)

    def is_view(self, *shapes: Shape) -> bool:
        """Return whether only axes of one number change places."""
        moved = [axis for axis in self.axes if shapes[0][axis] != 1]
        return moved == sorted(moved)

    def calls(self, kernels: Any, reads: Sequence[View], writes: Sequence[View]) -> list[Call]:
        x, y = reads[0], writes[0]
        if not y.size:
            return []
        matrices = as_matrices(x.shape, self.axes)
        if matrices is None:
            return [Call("transpose", _transposed, (x, y, self.axes))]
        return [Call("transpose", kernels.transpose, (x, y, *matrices), MOVE * y.size)]


@register
@dataclass(frozen=True, eq=False)
class Pick(Operation):
    """The channels in another order, or some of them: channel i of the output is ``places[i]`` of the input; -1 is the last."""

    places: Array

    kind = "pick"
    index_fields = ("places",)

    def output_shape(self, *shapes: Shape) -> Shape:
        shape, places = shapes[0], self.places
        right = isinstance(places, np.ndarray) and places.dtype == np.int64 and places.ndim == 1 and places.size
        if not right or places.min() < -shape[-1] or places.max() >= shape[-1]:
            raise ValueError(f"places must be channels of x, of shape {shape}, got {places!r:.80}")
        return (*shape[:-1], len(places))

    def calls(self, kernels: Any, reads: Sequence[View], writes: Sequence[View]) -> list[Call]:
        x, y = reads[0], writes[0]
        if not y.size:
            return []
        channels = x.shape[-1]
        places = np.where(self.places < 0, self.places + channels, self.places)
        groups = shuffled_groups(places)
        if len(places) == channels and groups > 1:
            shape = x.size // channels, groups, channels // groups
            return [Call("shuffle", kernels.transpose, (x, y, *shape), MOVE * y.size)]
        return [Call("pick", kernels.pick_channels, (x, places, y, channels), MOVE * y.size)]


@register
@dataclass(frozen=True, eq=False)
class Slice(Operation):
    """Some of the entries along axes that are not the batch: ``(axis, start, stop, step)`` for each, as Python slices."""

    parts: tuple[tuple[int, int | None, int | None, int | None], ...]

    kind = "slice"

    def index(self, shape: Shape) -> tuple[slice, ...]:
        """Return what ``x[index]`` takes of an array of `shape`."""
        index = [slice(None)] * len(shape)
        for axis, *part in self.parts:
            index[axis] = slice(*part)
        return tuple(index)

    def output_shape(self, *shapes: Shape) -> Shape:
        shape = shapes[0]
        if not all(0 < part[0] < len(shape) and part[3] != 0 for part in self.parts):
            raise ValueError(f"parts must name axes of x, of shape {shape}, but not the batch, got {self.parts}")
        out = tuple(len(range(*part.indices(n))) for part, n in zip(self.index(shape), shape, strict=True))
        if 0 in out and 0 not in shape:
            raise ValueError(f"nothing is left of an input of shape {shape}: {self.parts}")
        return out

    def first_channel(self, shape: Shape) -> int | None:
        """Return the first of the channels where it takes neighboring ones of every pixel, else None."""
        ranges = [range(*part.indices(n)) for part, n in zip(self.index(shape), shape, strict=True)]
        whole = all(taken == range(n) for taken, n in zip(ranges[:-1], shape[:-1], strict=True))
        return ranges[-1].start if whole and ranges[-1].step == 1 else None

    def writes_channels(self, *shapes: Shape) -> bool:
        return self.first_channel(shapes[0]) is not None

    def calls(self, kernels: Any, reads: Sequence[View], writes: Sequence[View]) -> list[Call]:
        x, y = reads[0], writes[0]
        if not y.size:
            return []
        first = self.first_channel(x.shape)
        if first is None:
            return [Call("slice", _sliced, (x, y, self.index(x.shape)))]
        rows = y.size // y.shape[-1]
        return [Call("slice", kernels.copy_columns, (x, first, y, y.first, rows, y.shape[-1]), MOVE * y.size)]


def shuffled_groups(places: Array) -> int:
    """Return the number of groups whose channels `places` takes in turn, all of them; 1 for any other order.

    >>> shuffled_groups(np.array([0, 3, 1, 4, 2, 5])), shuffled_groups(np.array([0, 2, 1]))
    (2, 1)
    """
    each = int(places[1]) if len(places) > 1 and places[0] == 0 else 0
    if each < 2 or len(places) % each:
        return 1
    shuffled = np.arange(len(places)).reshape(-1, each).T.ravel()
    return len(places) // each if np.array_equal(places, shuffled) else 1


def as_matrices(shape: Shape, axes: Sequence[int]) -> tuple[int, int, int] | None:
    """Return (many, rows, columns) where the axes in their new order are those of many transposed matrices, else None.

    >>> as_matrices((2, 3, 8, 9), (0, 2, 3, 1)), as_matrices((2, 3, 4, 5), (0, 3, 2, 1))
    ((2, 3, 72), None)
    """
    order = [axis for axis in axes if shape[axis] != 1]
    kept = 0
    while kept < len(order) and order[kept] == sorted(order)[kept]:
        kept += 1
    rest = order[kept:]
    cut = rest.index(min(rest)) if rest else 0
    if rest[cut:] + rest[:cut] != sorted(rest):
        return None
    sizes = [math.prod(shape[axis] for axis in part) for part in (order[:kept], rest[cut:], rest[:cut])]
    return sizes[0], sizes[1], sizes[2]


def _transposed(x: Array, y: Array, axes: tuple[int, ...]) -> None:
    np.copyto(y, x.transpose(axes))


def _sliced(x: Array, y: Array, index: tuple[slice, ...]) -> None:
    np.copyto(y, x[index])
