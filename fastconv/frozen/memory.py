"""Memory planning: one block for all values, in which space is reused once a value is dead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

#: Values begin at a cache line.
ALIGNMENT = 64


class Life(NamedTuple):
    """A value: its bytes, the step that writes it, and the last step that reads it."""

    size: int
    first: int
    last: int


def arrange(lives: Sequence[Life]) -> tuple[list[int], int]:
    """Return the offset of each value in one block of memory, and the bytes of the block.

    Two values that live at one step do not overlap. The largest come first, each into the smallest gap that holds it
    (Pisarchyk and Lee, Efficient memory management for deep neural net inference, 2020, section 5.2).

    >>> arrange([Life(64, 0, 1), Life(64, 1, 2), Life(64, 2, 3)])
    ([0, 64, 0], 128)
    """
    offsets = [0] * len(lives)
    alive: dict[int, list[tuple[int, int]]] = {}  # at each step: where the values that live then begin and end
    total = 0
    for at in sorted(range(len(lives)), key=lambda i: (-lives[i].size, lives[i].first)):
        life = lives[at]
        size = -(-life.size // ALIGNMENT) * ALIGNMENT
        met = [alive.setdefault(step, []) for step in range(life.first, life.last + 1)]
        taken = sorted(set().union(*met))
        best, smallest, end = None, None, 0
        for start, stop in taken:
            gap = start - end
            if gap >= size and (smallest is None or gap < smallest):
                best, smallest = end, gap
            end = max(end, stop)
        offsets[at] = end if best is None else best
        total = max(total, offsets[at] + size)
        for places in met:
            places.append((offsets[at], offsets[at] + size))
    return offsets, total
