"""Which values need no memory of their own: channels of a concatenation, which their makers write to their place."""

from __future__ import annotations

from collections.abc import Mapping

from fastconv.frozen.program import Program, Step
from fastconv.frozen.unweighted import Concat
from fastconv.functional.calls import View
from fastconv.layers.symbol import Shape


def parts_in_place(program: Program, shapes: Mapping[int, Shape]) -> dict[int, View]:
    """Return, for each value that is written to its place in a concatenation along the channels, the view of that place.

    ::

        conv ------ a (64) -+                  conv -> channels  0 ..  63 of joined
                            concat -> joined
        conv ------ b (64) -+                  conv -> channels 64 .. 127 of joined     and nothing is copied

    Its maker must be able to write with channels in between, and whoever else reads it to read so. A concatenation itself may
    be a part of the next one, as in a dense block, which then is one array for all of its layers.
    """
    makers = program.makers()
    readers: dict[int, list[Step]] = {}
    for step in program.steps:
        for value in step.reads:
            readers.setdefault(value, []).append(step)

    def fits(value: int, concat: Step) -> bool:
        maker = program.steps[makers[value]] if value in makers else None
        if maker is None or value in program.outputs or not maker.operation.writes_channels(*_read(maker, shapes)):
            return False
        others = [step for step in readers[value] if step is not concat]
        if len(others) != len(readers[value]) - 1:  # twice in one concatenation
            return False
        return all(step.operation.reads_channels(*_read(step, shapes)) for step in others)

    places: dict[int, View] = {}
    for step in reversed(program.steps):
        operation = step.operation
        if not isinstance(operation, Concat) or not operation.joins_channels(*_read(step, shapes)):
            continue
        (joined,) = step.writes
        whole = places.get(joined, View(joined, shapes[joined], 0, shapes[joined][-1]))
        first = whole.first
        for value in step.reads:
            if value not in places and fits(value, step):
                places[value] = View(whole.value, shapes[value], first, whole.width)
            first += shapes[value][-1]
    return places


def _read(step: Step, shapes: Mapping[int, Shape]) -> list[Shape]:
    return [shapes[value] for value in step.reads]
