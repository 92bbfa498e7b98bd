"""Resizing as the kernel takes it: along each axis a matrix with a few neighbors in each row."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastconv._kernels._memory import empty
from fastconv.functional._validate import kernels_for
from fastconv.threads import threads_for

#: Axes that the kernel resizes at once.
MOST_AXES = 3

#: Outputs of an axis whose weights are found at a time.
LONG = 1 << 13

#: Rows of a matrix that is remembered, at most: 32 of them take no more than a few MB.
REMEMBERED = 1 << 11


@dataclass(frozen=True, eq=False)
class Side:
    """A matrix (outputs, inputs): for each output its first input, how many there are, where in `weights` theirs begin."""

    spans: NDArray[np.int64]
    weights: NDArray[np.float64]


class Resizing(NamedTuple):
    """What the kernel takes: both arrays as (N, D, H, W, C), the spans of three axes, all weights."""

    x_shape: tuple[int, ...]
    y_shape: tuple[int, ...]
    spans: NDArray[np.int64]
    weights: NDArray[Any]

    @property
    def work(self) -> int:
        """Multiply-adds."""
        return math.prod(self.y_shape) * int(self.spans[:, 1].max(initial=1))


class Sides(NamedTuple):
    """The matrices of the axes of an array.

    ``rows(axis, first, end)`` returns rows ``first .. end - 1`` of one. Where not near an edge it repeats itself, so that a row
    is that of so many rows before, so many inputs further on, ``period(axis)`` returns both numbers, else None.
    """

    rows: Callable[[int, int, int], Side]
    period: Callable[[int], tuple[int, int] | None]


def side(outputs: NDArray[Any], inputs: NDArray[Any], weights: NDArray[Any], size: int) -> Side:
    """Return the matrix of `size` rows that has these entries; those at one place are added.

    >>> side(np.array([0, 1, 1]), np.array([0, 0, 1]), np.array([1.0, 0.25, 0.75]), 2).spans.tolist()
    [[0, 1, 0], [0, 2, 2]]
    """
    order = np.argsort(outputs, kind="stable")
    outputs, inputs, weights = outputs[order], inputs[order], weights[order]
    starts = np.flatnonzero(np.diff(outputs, prepend=-1))
    spans = np.zeros((size, 3), np.int64)
    if len(starts):
        seen, first = outputs[starts], np.minimum.reduceat(inputs, starts)
        spans[seen, 0], spans[seen, 1] = first, np.maximum.reduceat(inputs, starts) - first + 1
    width = int(spans[:, 1].max(initial=1))
    spans[:, 2] = np.arange(size) * width
    table = np.zeros(size * width)
    table += np.bincount(spans[outputs, 2] + inputs - spans[outputs, 0], weights, size * width)
    return Side(spans, table)


@lru_cache(maxsize=16)
def resizing(shape: tuple[int, ...], sides: tuple[Side | None, ...], dtype: np.dtype[Any]) -> Resizing:
    """Return how an array of `shape` is resized along the axes that have a side, from first to last at most `MOST_AXES`."""
    axes = [axis for axis, each in enumerate(sides) if each is not None]
    first, end = axes[0], axes[-1] + 1
    sizes = (*(1,) * (MOST_AXES - (end - first)), *shape[first:end])
    given: list[Side | None] = [*[None] * (MOST_AXES - (end - first)), *sides[first:end]]
    spans, weights, begin = [], [], 0
    for n, each in zip(sizes, given, strict=True):
        same = each or Side(np.stack([np.arange(n), np.ones(n, int), np.zeros(n, int)], axis=1), np.ones(1))
        spans.append(same.spans + np.array([0, 0, begin]))
        weights.append(same.weights)
        begin += same.weights.size
    outer, inner = math.prod(shape[:first]), math.prod(shape[end:])
    out = (n if each is None else len(each.spans) for n, each in zip(sizes, given, strict=True))
    return Resizing(
        (outer, *sizes, inner),
        (outer, *out, inner),
        np.ascontiguousarray(np.concatenate(spans), np.int64),
        np.concatenate(weights).astype(dtype),
    )


def resized(x: NDArray[Any], sizes: Sequence[int | None], sides: Sides) -> NDArray[Any]:
    """Return a new array, resized along the axes that have a size."""
    axes = [axis for axis, size in enumerate(sizes) if size is not None]
    if not axes:
        return np.array(x, order="C")
    y = empty(tuple(n if size is None else size for n, size in zip(x.shape, sizes, strict=True)), x.dtype)
    if not y.size:
        return y
    x = np.ascontiguousarray(x)
    longest = max(*x.shape[axes[0] : axes[-1] + 1], *y.shape[axes[0] : axes[-1] + 1])
    if len(axes) > 1 and (axes[-1] - axes[0] >= MOST_AXES or longest > LONG):
        for axis in axes:
            x = resized(x, [size if at == axis else None for at, size in enumerate(sizes)], sides)
        return x
    if longest <= LONG:
        whole = tuple(None if size is None else sides.rows(axis, 0, size) for axis, size in enumerate(sizes))
        find = resizing if longest <= REMEMBERED else resizing.__wrapped__
        _resize(x, y, find(x.shape, whole, x.dtype))
    else:
        _in_parts(x, y, axes[0], sides)
    return y


def _in_parts(x: NDArray[Any], y: NDArray[Any], axis: int, sides: Sides) -> None:
    """Write y, x resized along a long axis: some outputs at a time, by the same matrix as long as it repeats itself."""
    outer, inner = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1 :])
    x, y = x.reshape(outer, -1, inner), y.reshape(outer, -1, inner)
    rows, inputs = sides.period(axis) or (1, 0)
    part = max(LONG // rows * rows, rows)
    last, known, repeated = y.shape[1] - 2 * part, 2 * part if inputs else y.shape[1], None
    for first in range(0, y.shape[1], part):
        end = min(first + part, y.shape[1])
        again = known <= first < last
        shift = (first - part) // rows * inputs if again else 0
        if again:
            side = repeated = repeated or sides.rows(axis, part, 2 * part)
        else:
            side = sides.rows(axis, first, end)
        for at in range(outer):
            line = x[at, shift:]
            _resize(line, y[at, first:end], resizing.__wrapped__((1, *line.shape), (None, side, None), x.dtype))


def _resize(x: NDArray[Any], y: NDArray[Any], found: Resizing) -> None:
    arguments = x.reshape(found.x_shape), y.reshape(found.y_shape), found.spans, found.weights
    kernels_for(x).resize(*arguments, threads_for(found.work))
