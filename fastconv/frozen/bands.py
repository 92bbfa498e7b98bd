"""A convolution and the pooling after it, computed in bands of lines: the array in between is never stored whole.

::

    conv  ->  56 lines of a buffer  ->  max pooling 3 x 3, stride 2, 27 lines of the output
                 the last line, which the next windows need too, goes to the front
    conv  ->  the next 56 lines     ->  28 lines
    ...
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Container, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastconv.frozen.pooling import Pooling
from fastconv.frozen.portions import Portion
from fastconv.frozen.program import Program
from fastconv.frozen.weighted import Conv
from fastconv.functional._pool_plan import PoolPlan
from fastconv.functional.calls import Call, View
from fastconv.layers.symbol import Shape

#: Bytes of the lines that a convolution makes at a time, about: so few that they are still near, so many that it is not slower.
BAND = 2 << 20

#: Bytes of an image below which an image is no band of its own.
SMALL = 1 << 20

#: Bytes of weights that all bands of an image read, one after the other, for each byte that they make, at most.
WEIGHT = 1.0

#: The share of a convolution's output that the buffer takes at most: more would save nothing.
SHARE = 0.75


class Band(NamedTuple):
    """Lines ``first .. end - 1`` of a convolution, and those of the pooling that can be computed then.

    `oldest` is the first line of the convolution that these windows need.
    """

    first: int
    end: int
    pooled_first: int
    pooled_end: int
    oldest: int


class Banded(NamedTuple):
    """A convolution that goes over bands with the step after it, one image after the other."""

    conv: Conv
    pooling: Pooling
    bands: tuple[Band, ...]
    lines: int  # of the buffer that is all there is of the convolution's output

    @property
    def said(self) -> str:
        """What `explain` says of it."""
        return f"in {len(self.bands)} bands" if len(self.bands) > 1 else "image by image"

    def calls(
        self, kernels: Any, reads: Sequence[View], made: View, pooled: View
    ) -> tuple[list[tuple[Call, ...]], list[tuple[Call, ...]]]:
        """Return the calls of both steps for each band of an image; views are of one image."""
        of_conv, of_pooling = [], []
        following = (*self.bands[1:], None)
        for band, then in zip(self.bands, following, strict=True):
            lines = made.lines(band.first - band.oldest, band.end - band.oldest)
            shortcut = [view.lines(band.first, band.end) for view in reads[1:]]
            of_conv.append(tuple(self.conv.line_calls(kernels, [reads[0], *shortcut], lines, band.first, band.end)))
            window = made.lines(0, band.end - band.oldest)
            y = pooled.lines(band.pooled_first, band.pooled_end)
            calls = self.pooling.line_calls(kernels, window, y, made.shape, band.oldest, band.pooled_first)
            if then is not None and then.oldest < band.end:
                kept = made.lines(then.oldest - band.oldest, band.end - band.oldest)
                calls.append(Call("keep", np.copyto, (made.lines(0, band.end - then.oldest), kept)))
            of_pooling.append(tuple(calls))
        return of_conv, of_pooling


def banded(
    program: Program, shapes: Mapping[int, Shape], met: Sequence[Portion], itemsize: int, places: Container[int]
) -> dict[int, Banded]:
    """Return the convolutions that go over bands with the step after them, by their place in the program.

    `met` are the portions that the steps belong to, `places` the values that are channels of others.
    """
    reads = program.reads()
    found: dict[int, Banded] = {}
    for at, (first, second) in enumerate(itertools.pairwise(program.steps)):
        conv, pooling, (value, *_) = first.operation, second.operation, first.writes
        if not isinstance(conv, Conv) or not isinstance(pooling, Pooling) or second.reads != first.writes:
            continue
        unit = conv.lines_together((1, *shapes[first.reads[0]][1:]))
        alone = reads[value] == 1 and value not in places
        if unit is None or not alone or met[at] != met[at + 1] or len(shapes[second.writes[0]]) != 4:
            continue
        batch, height, *line = shapes[value]
        size = height * math.prod(line) * itemsize
        if size < SMALL or batch * size <= BAND or met[at].images is not None:  # what is there of parts is near anyway
            continue
        bands = cut(pooling.plan(shapes[value]), math.lcm(unit, 2), -(-size // BAND))
        lines = max(band.end - band.oldest for band in bands)
        if conv.weight.nbytes * len(bands) <= WEIGHT * size and lines <= SHARE * batch * height:
            found[at] = Banded(conv, pooling, bands, lines)
    return found


def cut(pooling: PoolPlan, unit: int, count: int) -> tuple[Band, ...]:
    """Return about `count` bands of whole units of lines, for what a plan of a pooling of images pools."""
    lines = pooling.lines.size
    windows = pooling.lines.windows()
    there = windows.taps > 0
    ends = np.maximum.accumulate(np.where(there, windows.first + (windows.taps - 1) * windows.step + 1, 0))
    firsts = np.minimum.accumulate(np.where(there, windows.first, lines)[::-1])[::-1]
    units = -(-lines // unit)
    count = min(count, units)
    found, first, pooled = [], 0, 0
    for i in range(1, count + 1):
        end = min(units * i // count * unit, lines)
        pooled_end = int(np.searchsorted(ends, end, "right"))
        oldest = int(min(firsts[pooled], first)) if pooled < len(firsts) else first
        found.append(Band(first, end, pooled, pooled_end, oldest))
        first, pooled = end, pooled_end
    return tuple(found)
