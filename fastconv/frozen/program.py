"""Programs: a model as a flat list of steps over numbered values.

Values ``0 .. len(inputs) - 1`` are the inputs. Every other value is written by one step, before any step reads it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np

from fastconv.frozen.operation import Operation, constants
from fastconv.layers.symbol import Shape

#: By how much open sizes grow to see what depends on them: files' own are planned with 224 and 256 pixels.
LARGER = 32


class Step(NamedTuple):
    """One operation: the values that it reads and writes, and the layers whose work it does."""

    operation: Operation
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    layers: tuple[str, ...]

    @property
    def label(self) -> str:
        """How messages call it."""
        return " + ".join(self.layers) or self.operation.kind


_reads, _operation = attrgetter("reads"), attrgetter("operation")


class Program(NamedTuple):
    """Steps from inputs to outputs. Input shapes are without the batch axis; other sizes of the image may do.

    Of each input the axes that are `free`, not counting the batch, may be of any size, channels too; where it is empty, none.
    `known` are the shapes of values for one sample, where they have been found: no pass changes what a value is. Of what is its
    `own` nobody else needs the arrays: a pass may write into those of the program that it gets.
    """

    input_shapes: tuple[Shape, ...]
    input_names: tuple[str | None, ...]
    dtype: np.dtype[Any]
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]
    label: str = "the model"
    known: Mapping[int, Shape] | None = None
    own: bool = False
    free: tuple[tuple[int, ...], ...] = ()

    def with_steps(self, steps: Sequence[Step]) -> Program:
        """Return the program with other steps."""
        return self._replace(steps=tuple(steps))

    def has(self, *kinds: type[Operation]) -> bool:
        """Return whether a step's operation is of one of some kinds."""
        return any(issubclass(each, kinds) for each in set(map(type, map(_operation, self.steps))))

    def reads(self) -> Counter[int]:
        """Return how often each value is read, by a step or as an output."""
        return Counter(chain(self.outputs, *map(_reads, self.steps)))

    def changeable(self) -> set[int]:
        """Return the arrays, by their ids, that a pass may write into: one step alone computes with them."""
        uses = Counter(id(array) for step in self.steps for array in constants(step.operation)) if self.own else {}
        return {each for each, count in uses.items() if count == 1}

    def makers(self) -> dict[int, int]:
        """Return the place of the step that writes each value."""
        return {value: at for at, step in enumerate(self.steps) for value in step.writes}

    def renamed(self, names: Mapping[int, int]) -> Program:
        """Return the program in which whoever read a value of `names` reads another in its place."""
        if not names:
            return self

        def now(value: int) -> int:
            while value in names:
                value = names[value]
            return value

        steps = [
            step if names.keys().isdisjoint(step.reads) else step._replace(reads=tuple(map(now, step.reads)))
            for step in self.steps
        ]
        return self._replace(steps=tuple(steps), outputs=tuple(map(now, self.outputs)))

    def shapes(self, *input_shapes: Shape) -> dict[int, Shape]:
        """Return the shape of every value for inputs of these shapes, with the batch; errors name the layer."""
        shapes, batch = dict(enumerate(input_shapes)), input_shapes[0][0] if input_shapes else 1
        for step in self.steps:
            made = output_shapes(step, [shapes[value] for value in step.reads], batch)
            for value, shape in zip(step.writes, made, strict=True):
                shapes[value] = shape
        return shapes

    def example_shapes(self) -> Mapping[int, Shape]:
        """Return the shapes for one sample of the size that the model was built for."""
        return self.known or self.shapes(*((1, *shape) for shape in self.input_shapes))

    def other_shapes(self) -> Iterator[dict[int, Shape]]:
        """Yield the shapes of values, with a batch of one, where one free axis of an input is longer, for each in turn.

        Values that cannot be computed then, as where that size must be another one's, are left out.
        """
        examples = [(1, *shape) for shape in self.input_shapes]
        free = self.free or ((),) * len(examples)
        for number, (shape, axes) in enumerate(zip(examples, free, strict=True)):
            for axis in axes:  # which are counted without the batch
                larger = *shape[: axis + 1], shape[axis + 1] + LARGER, *shape[axis + 2 :]
                found = dict(enumerate((*examples[:number], larger, *examples[number + 1 :])))
                for step in self.steps:
                    with suppress(KeyError, TypeError, ValueError):
                        made = output_shapes(step, [found[value] for value in step.reads], 1)
                        found.update(zip(step.writes, made, strict=True))
                yield found

    def is_fixed(self, value: int, axis: int) -> bool:
        """Return whether an axis of a value is as long as it is for inputs of any sizes, as far as can be told."""
        if not any(self.free):
            return True
        larger = [
            (1, *(n + LARGER if at in free else n for at, n in enumerate(shape)))
            for shape, free in zip(self.input_shapes, self.free, strict=True)
        ]
        try:
            return self.shapes(*larger)[value][axis] == self.example_shapes()[value][axis]
        except (TypeError, ValueError):
            return False


def output_shapes(step: Step, shapes: Sequence[Shape], batch: int) -> list[Shape]:
    """Return the shapes that a step writes for those that it reads, in a batch of so many; errors name its layers."""
    known = {"batch": batch} if step.operation.knows_batch else {}
    try:
        made = step.operation.output_shape(*shapes, **known)
    except (TypeError, ValueError) as error:
        if len(error.args) == 1 and step.layers and not str(error).startswith("in "):
            raise type(error)(f"in {step.label}: {error}") from error
        raise
    return made if isinstance(made, list) else [made]
