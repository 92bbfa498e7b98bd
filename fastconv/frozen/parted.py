"""Batch normalization and activations after a concatenation of channels, moved to the steps that make its parts.

The kernels of several sizes of a mixed convolution (MixNet) are joined before they are normalized::

    conv 3x3 --+                            conv 3x3, normalized, silu --+
    conv 5x5 --+-- concat -- scale -- silu    ->    conv 5x5, normalized, silu --+-- concat
"""

from __future__ import annotations

from itertools import accumulate, pairwise

from fastconv.frozen.operation import Operation
from fastconv.frozen.program import Program, Step
from fastconv.frozen.unweighted import Activate, Concat, Scale
from fastconv.frozen.weighted import Weighted
from fastconv.layers.symbol import Shape


def part_joined(program: Program) -> Program:
    """Let the parts of a concatenation be scaled and activated by themselves, where the steps that make them take that in."""
    if not program.has(Concat):
        return program
    shapes, reads = dict(program.example_shapes()), program.reads()
    steps: list[Step] = []
    makers: dict[int, Step] = {}
    for step in program.steps:
        joined = makers.get(step.reads[0]) if len(step.reads) == 1 else None
        parts: list[int] = []
        if joined is not None and isinstance(joined.operation, Concat) and reads[step.reads[0]] == 1:
            of = [shapes[value] for value in joined.reads]
            ends_open = all(reads[value] == 1 and _ends_open(makers.get(value)) for value in joined.reads)
            parted = _parted(step.operation, of) if ends_open and joined.operation.joins_channels(*of) else None
            if parted is not None:
                steps.remove(joined)
                for value, operation in zip(joined.reads, parted, strict=True):
                    parts.append(max(shapes) + 1)
                    shapes[parts[-1]] = shapes[value]
                    steps.append(Step(operation, (value,), (parts[-1],), step.layers))
                    makers[parts[-1]] = steps[-1]
                    reads[parts[-1]] = 1
                step = Step(joined.operation, tuple(parts), step.writes, joined.layers)
        steps.append(step)
        makers.update((value, step) for value in step.writes)
    return program.with_steps(steps)._replace(known=shapes)


def _ends_open(step: Step | None) -> bool:
    """Whether a step takes in a scale or an activation that follows: it is one with a weight, or waits for one itself."""
    if step is None or len(step.reads) > 1:
        return False
    return isinstance(step.operation, (Weighted, Scale)) and step.operation.activation is None


def _parted(operation: Operation, shapes: list[Shape]) -> list[Operation] | None:
    """Return what a step does to each part of its channels; None where it is more than to scale or to activate them."""
    ends = list(accumulate((shape[-1] for shape in shapes), initial=0))
    if isinstance(operation, Activate) and operation.activation.slope is None:
        return [operation for _ in shapes]
    if isinstance(operation, Scale) and operation.activation is None and len(operation.factor) == ends[-1]:
        return [Scale(operation.factor[at:end].copy(), operation.shift[at:end].copy()) for at, end in pairwise(ends)]
    return None
