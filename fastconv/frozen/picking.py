"""Transpositions and reshapes in a row that reorder channels alone, as files spell a shuffle.

Of an array that is only turned and cut each axis is made of parts of the axes that it had: how long they are, and how far apart
their entries were, tell where every number comes from::

    (H, W, C)  ->  (H, W, g, C / g)  ->  (H, W, C / g, g)  ->  (H, W, C)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fastconv.frozen.moves import Pick, Transpose
from fastconv.frozen.operation import Array, Operation
from fastconv.frozen.program import Program, Step
from fastconv.frozen.unweighted import Reshape
from fastconv.layers.symbol import Shape

#: An axis as the parts of axes that it is made of, the outermost first: how long each is, and how far apart its entries were.
_Parts = list[tuple[int, int]]


def pick_channels(program: Program) -> Program:
    """Make one picking of channels of transpositions and reshapes in a row that do no more: a shuffle, as files have it."""
    if not program.has(Transpose, Reshape):
        return program
    shapes, reads, makers = program.example_shapes(), program.reads(), program.makers()
    steps: dict[int, Step] = dict(enumerate(program.steps))
    for at, last in enumerate(program.steps):
        if not isinstance(last.operation, (Transpose, Reshape)):
            continue
        chain = [at]
        while reads[value := steps[chain[0]].reads[0]] == 1 and value in makers:
            if not isinstance(steps[makers[value]].operation, (Transpose, Reshape)):
                break
            chain.insert(0, makers[value])
        if len(chain) < 3 or shapes[steps[chain[0]].reads[0]] != shapes[last.writes[0]]:
            continue
        first, x = steps[chain[0]], shapes[last.writes[0]]
        places = _picked([steps[place].operation for place in chain], x)
        if places is not None:
            layers = tuple(layer for place in chain for layer in steps[place].layers)
            steps[at] = Step(Pick(places), first.reads, last.writes, layers)
            for place in chain[:-1]:
                del steps[place]
    return program.with_steps([steps[at] for at in sorted(steps)])


def _picked(moves: Sequence[Operation], x: Shape) -> Array | None:
    """Return which channel of `x` each channel is after transpositions and reshapes; None where they do more than that."""
    before: list[_Parts] = [[(n, math.prod(x[axis + 1 :]))] for axis, n in enumerate(x)]
    shape, axes = x, before
    for each in moves:
        shape = each.output_shape(shape)
        parted = [axes[axis] for axis in each.axes] if isinstance(each, Transpose) else _parted(axes, shape)
        if parted is None:
            return None
        axes = parted
    if list(map(_as_one, axes[:-1])) != list(map(_as_one, before[:-1])):
        return None
    places = np.zeros(1, np.int64)
    for n, stride in axes[-1]:
        places = (places[:, None] + np.arange(n) * stride).ravel()
    return places


def _parted(axes: list[_Parts], shape: Shape) -> list[_Parts] | None:
    """Return the axes of an array in another shape; None where one begins or ends within a part of another."""
    rest = [part for parts in reversed(axes) for part in reversed(parts) if part[0] != 1]
    made: list[_Parts] = []
    for n in shape:
        parts: _Parts = []
        while n > 1:
            size, stride = rest.pop()
            if size > n:  # the outer entries of a part, whose inner ones are of the next axis
                if size % n:
                    return None
                rest.append((size // n, stride))
                size, stride = n, stride * (size // n)
            elif n % size:
                return None
            parts.append((size, stride))
            n //= size
        made.append(parts)
    return made


def _as_one(parts: _Parts) -> tuple[int, int] | None:
    """Return parts that lie behind each other as one, None for others."""
    size, step = 1, 1
    for n, stride in reversed([part for part in parts if part[0] != 1]):
        if size > 1 and stride != size * step:
            return None
        size, step = size * n, stride if size == 1 else step
    return size, step
