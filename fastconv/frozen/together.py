"""Axes that are merged into the batch and split off again, so that layers for images see images.

A layer for every entry along an axis, as windows or frames, meets ``N * T`` samples. Between two such layers nothing moves::

    together  ->  conv  ->  apart  ->  add  ->  together  ->  conv  ->  apart
    together  ->  conv  ->             add  ->                conv  ->  apart
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastconv.frozen.normalization import LayerNorm, Softmax
from fastconv.frozen.operation import Operation, register
from fastconv.frozen.program import Program, Step
from fastconv.frozen.unweighted import Activate, Pair, Product, Scale, Sum
from fastconv.frozen.weighted import Linear
from fastconv.layers.symbol import Shape

#: What does the same wherever the axes before the last one lie.
_ALIKE = (Activate, Scale, LayerNorm, Softmax, Linear, Sum, Product, Pair)


@register
@dataclass(frozen=True, eq=False)
class Together(Operation):
    """``(N, T, ...)`` as a batch of ``N * T``."""

    kind = "together"

    def is_view(self, *shapes: Shape) -> bool:
        return True

    def output_shape(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        if len(shape) < 2:
            raise ValueError(f"x must have shape (N, T, ...), got {shape}")
        return (shape[0] * shape[1], *shape[2:])


@register
@dataclass(frozen=True, eq=False)
class Apart(Operation):
    """A batch of ``N * T`` as ``(N, T, ...)``, N being the batch of the model; of no samples `count` is T."""

    count: int

    kind = "apart"
    knows_batch = True

    def is_view(self, *shapes: Shape) -> bool:
        return True

    def output_shape(self, *shapes: Shape, batch: int = 1) -> Shape:
        (shape,) = shapes
        if not shape or (shape[0] % batch if batch else shape[0]):
            raise ValueError(f"a batch of {shape[:1]} cannot be parted into {batch} samples")
        return (batch, shape[0] // batch if batch else self.count, *shape[1:])


def keep_together(program: Program) -> Program:
    """Let steps that do the same wherever the batch ends meet what is together, and drop what puts it together again."""
    if not program.has(Apart):
        return program
    shapes = dict(program.example_shapes())
    whole: dict[int, int] = {}  # value: the one that is the same numbers together
    steps: list[Step] = []
    names: dict[int, int] = {}
    new = max([*shapes, *program.outputs], default=0) + 1
    for step in program.steps:
        read = [whole.get(value) for value in step.reads]
        if isinstance(step.operation, Apart):
            whole[step.writes[0]] = step.reads[0]
        elif isinstance(step.operation, Together) and read[0] is not None:
            names[step.writes[0]] = read[0]
            continue
        elif isinstance(step.operation, _ALIKE) and None not in read and _alike([shapes[v] for v in step.reads]):
            (made,) = step.writes
            shape = shapes[made]
            shapes[new], whole[made] = (shape[0] * shape[1], *shape[2:]), new
            steps.append(step._replace(reads=tuple(value for value in read if value is not None), writes=(new,)))
            steps.append(Step(Apart(shape[1]), (new,), (made,), ()))
            new += 1
            continue
        steps.append(step)
    return program.with_steps(steps)._replace(known=shapes).renamed(names)


def _alike(shapes: Sequence[Shape]) -> bool:
    return len({shape[:2] for shape in shapes}) == 1 and all(len(shape) > 2 for shape in shapes)
