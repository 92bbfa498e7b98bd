"""Large batches, a few images at a time: what a step writes is still in a cache when the next one reads it.

Early in a network images are large and weights small. There a run of steps goes over some images, then over the next. Later the
weights are what takes room, and a step meets the whole batch while it has them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fastconv.frozen.foreign import Foreign
from fastconv.frozen.operation import constants
from fastconv.frozen.program import Step
from fastconv.functional.calls import View
from fastconv.layers.symbol import Shape

#: Bytes of all images that a step reads and writes, beyond which they come from far when the next step reads them.
FAR = 8 << 20

#: Multiply-adds for each of these bytes, beyond which arithmetic takes so long that it does not matter where they are.
MUCH = 12

#: Bytes of some images that a step reads and writes that a near cache serves.
SERVED = 4 << 20

#: Bytes of a step, its weights included, that cost little wherever they are.
SMALL = 1 << 18

#: Steps of a run that are worth it: two save one array's way to memory and back, and cost as many calls.
SHORTEST = 3

#: A step with so many times fewer bytes an image than another takes more images at a time, and goes with others of its size.
ALIKE = 4


class Portion(NamedTuple):
    """Steps ``first .. end - 1``, which go over so many images at a time; None is the whole batch at once."""

    first: int
    end: int
    images: int | None = None

    def shape(self, shape: Shape) -> Shape:
        """Return the shape that it meets at a time of a value of `shape`."""
        return shape if self.images is None else (self.images, *shape[1:])

    def view(self, view: View) -> View:
        """Return the view of so many images of what `view` is of all of them."""
        return view if self.images is None else view._replace(shape=self.shape(view.shape))

    def parts(self, batch: int) -> list[slice] | list[None]:
        """Return the images of each part; None for all of them."""
        if self.images is None:
            return [None]
        return [slice(start, start + self.images) for start in range(0, batch, self.images)]


def portions(steps: Sequence[Step], shapes: Mapping[int, Shape], batch: int, itemsize: int) -> list[Portion]:
    """Return the portions of a program, one after the other; `shapes` are those of all values.

    The parts of a batch are equal; where it has no divisor near the number that would do, it is not parted.
    """
    sizes = [_bytes_of_an_image(step, shapes, batch, itemsize) for step in steps]
    found: list[Portion] = []
    first = 0
    while first < len(steps):
        end, most = _run(sizes, first)
        images = _images_at_a_time(batch, most) if end - first >= SHORTEST else None
        if found and found[-1].images == images:
            first = found.pop().first
        found.append(Portion(first, end, images))
        first = end
    return found


def _run(sizes: Sequence[int | None], first: int) -> tuple[int, int]:
    """Return the end of the run of steps from `first` on that take parts of one size, and the most bytes of an image in it.

    Small steps go along where the run goes on after them.
    """
    end, most, least = first + 1, 0, math.inf
    for at in range(first, len(sizes)):
        size = sizes[at]
        if size is None and at > first:
            continue
        if not size or max(most, size) > ALIKE * min(least, size):
            break
        end, most, least = at + 1, max(most, size), min(least, size)
    return end, most


def _images_at_a_time(batch: int, size: int) -> int | None:
    """Return how many images of `size` bytes go together, None for all."""
    wanted = max(SERVED // size, 1)
    images = max(n for n in range(1, min(wanted, batch) + 1) if batch % n == 0)
    return images if images < batch and 2 * images > wanted else None


def _bytes_of_an_image(step: Step, shapes: Mapping[int, Shape], batch: int, itemsize: int) -> int | None:
    """Return the bytes that a step reads and writes for each image; 0: it should meet all; None: that is all the same."""
    read = [shapes[value] for value in step.reads]
    values = [*read, *(shapes[value] for value in step.writes)]
    if isinstance(step.operation, Foreign) or any(shape[:1] != (batch,) for shape in values):
        return 0
    moved = sum(map(math.prod, values)) * itemsize
    weights = sum(array.nbytes for array in constants(step.operation))
    if moved + weights < SMALL:
        return None
    waits = moved > FAR and step.operation.multiply_adds(*read) < MUCH * moved
    return moved // batch if waits and 2 * weights < moved // batch else 0
