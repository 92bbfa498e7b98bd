"""Values without memory of their own: parts of a concatenation, which are written directly to their place in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fastconv.frozen.program import Program
from fastconv.frozen.unweighted import Concat
from fastconv.functional.calls import View
from fastconv.layers.symbol import Shape


def parts_in_place(program: Program, shapes: Mapping[int, Shape], read: Sequence[Sequence[Shape]]) -> dict[int, View]:
    """Return, for each value that is written to its place in a concatenation along the channels, the view of that place.

    ::

        conv ------ a (64) -+                  conv -> channels  0 ..  63 of joined
                            concat -> joined
        conv ------ b (64) -+                  conv -> channels 64 .. 127 of joined     and nothing is copied

    Its maker must be able to write with channels in between, and whoever else reads it to read so. A concatenation itself may
    be a part of the next one, as in a dense block, which then is one array for all of its layers. `read` are the shapes of what
    each step reads at a time.
    """
    makers = program.makers()
    readers: dict[int, list[int]] = {}
    for at, step in enumerate(program.steps):
        for value in step.reads:
            readers.setdefault(value, []).append(at)

    def fits(value: int, concat: int) -> bool:
        maker = makers.get(value)
        if maker is None or value in program.outputs:
            return False
        if not program.steps[maker].operation.writes_channels(*read[maker]):
            return False
        others = [at for at in readers[value] if at != concat]
        if len(others) != len(readers[value]) - 1:  # twice in one concatenation
            return False
        return all(program.steps[at].operation.reads_channels(*read[at]) for at in others)

    places: dict[int, View] = {}
    for at, step in reversed(list(enumerate(program.steps))):
        operation = step.operation
        if not isinstance(operation, Concat) or not operation.joins_channels(*read[at]):
            continue
        (joined,) = step.writes
        whole = places.get(joined, View(joined, shapes[joined], 0, shapes[joined][-1]))
        first = whole.first
        for value in step.reads:
            if value not in places and fits(value, at):
                places[value] = View(whole.value, shapes[value], first, whole.width)
            first += shapes[value][-1]
    return places
