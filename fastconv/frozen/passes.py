"""The passes of the compiler: functions from a program to one that computes the same with less work.

The order matters: what is folded into a weight is gone before sums and activations are drawn into the steps before them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastconv.frozen.branches import merge_branches
from fastconv.frozen.chains import fuse_chains
from fastconv.frozen.formulas import fuse_formulas
from fastconv.frozen.moves import Transpose
from fastconv.frozen.normalization import LayerNorm
from fastconv.frozen.operation import Operation
from fastconv.frozen.parted import part_joined
from fastconv.frozen.picking import pick_channels
from fastconv.frozen.program import Program, Step
from fastconv.frozen.remaining import compile_remaining
from fastconv.frozen.shuffles import fold_shuffles
from fastconv.frozen.together import keep_together
from fastconv.frozen.unweighted import Activate, Identity, Pad, Product, Reshape, Scale, Sum
from fastconv.frozen.weighted import Conv, Linear, Weighted
from fastconv.functional.calls import Activation
from fastconv.layers.symbol import Shape

#: What an activation becomes that weighs its own input.
GATED = {"sigmoid": "silu", "hard_sigmoid": "hard_swish"}


def remove_identities(program: Program) -> Program:
    """Let whoever reads a copy read the original: dropout, a sum of one."""
    if not program.has(Identity):
        return program
    names = {step.writes[0]: step.reads[0] for step in program.steps if isinstance(step.operation, Identity)}
    left = [step for step in program.steps if not isinstance(step.operation, Identity)]
    return program.with_steps(left).renamed(names)


def drop_dead(program: Program) -> Program:
    """Drop the steps whose outputs nobody reads, as where one output of several of a nested model is used."""
    needed = set(program.outputs)
    kept = []
    for step in reversed(program.steps):
        if not needed.isdisjoint(step.writes):
            kept.append(step)
            needed.update(step.reads)
    return program.with_steps(kept[::-1])


def put_off_views(program: Program) -> Program:
    """Let a reshape wait until the channels that it keeps are scaled and activated, which the step before it can do then."""
    if not program.has(Reshape):
        return program
    shapes, reads, makers, steps = (
        dict(program.example_shapes()),
        program.reads(),
        program.makers(),
        list(program.steps),
    )
    sizes: list[Mapping[int, Shape]] = []

    def keeps_channels(view: Step) -> bool:
        if not sizes:
            sizes.extend([program.example_shapes(), *program.other_shapes()])
        x, y = *view.reads, *view.writes
        return all(each[x][-1] == each[y][-1] for each in sizes if x in each and y in each)

    for last in range(len(steps)):
        at = last
        while isinstance(steps[at].operation, (Scale, Activate)) and len(steps[at].reads) == 1:
            view = _reshape_before(steps, makers, reads, steps[at].reads[0])
            if view is None or not keeps_channels(view):
                break
            before, new = makers[view.writes[0]], max(shapes) + 1
            shapes[new], makers[new], reads[new] = shapes[view.reads[0]], before, 1
            steps[before] = steps[at]._replace(reads=view.reads, writes=(new,))
            steps[at] = view._replace(reads=(new,), writes=steps[at].writes)
            at = before
    return program.with_steps(steps)._replace(known=shapes)


def merge_views(program: Program) -> Program:
    """Make one reshape of two in a row, and one transposition."""

    def merge(first: Operation, second: Operation) -> Operation | None:
        if isinstance(first, Transpose) and isinstance(second, Transpose):
            axes = tuple(first.axes[axis] for axis in second.axes)
            return Transpose(axes) if axes != tuple(sorted(axes)) else Identity()
        return second if isinstance(first, Reshape) and isinstance(second, Reshape) else None

    return remove_identities(_merged(program, merge, (Transpose, Reshape)))


def fuse_gates(program: Program) -> Program:
    """Make one activation of ``x * sigmoid(x)`` and ``x * hard_sigmoid(x)``, which files have as two steps."""
    if not program.has(Product):
        return program
    reads, makers, steps = program.reads(), program.makers(), list(program.steps)
    gone: set[int] = set()
    for at, step in enumerate(steps):
        if not isinstance(step.operation, Product) or len(step.reads) != 2:
            continue
        for x, gate in (step.reads, step.reads[::-1]):
            place = makers.get(gate, -1)
            maker = steps[place]
            if place < 0 or reads[gate] > 1 or not isinstance(maker.operation, Activate) or maker.reads != (x,):
                continue
            name = GATED.get(maker.operation.activation.name)
            if name is not None:
                steps[at] = Step(Activate(Activation(name)), (x,), step.writes, maker.layers + step.layers)
                gone.add(place)
                break
    return program.with_steps([step for at, step in enumerate(steps) if at not in gone])


def absorb_padding(program: Program) -> Program:
    """Let a convolution add the zeros that a layer put around its image, without an image in between."""

    def merge(first: Operation, second: Operation) -> Operation | None:
        if not isinstance(first, Pad):
            return None
        if isinstance(second, Pad):
            return Pad(_added(first.pairs, second.pairs))
        if isinstance(second, Conv):
            return second.replace(extra=_added(first.pairs, second.extra) if second.extra else first.pairs)
        return None

    return _merged(program, merge, (Pad, Conv)) if program.has(Pad) else program


def fold_scales(program: Program) -> Program:
    """Multiply constants once instead of at every call: batch normalization into the weight before it, or into another one."""

    def of_scales(first: Operation, second: Operation) -> Operation | None:
        if not isinstance(first, Scale) or not isinstance(second, Scale) or first.activation or second.activation:
            return None
        wide = second.factor.astype(np.float64)
        return _scale(first.factor * wide, first.shift * wide + second.shift, first.factor.dtype)

    def of_weights(first: Operation, second: Operation) -> Operation | None:
        if not isinstance(second, Scale) or second.activation is not None:
            return None
        if isinstance(first, Weighted) and first.activation is None:
            return first.scaled(second.factor, second.shift, in_place=id(first.weight) in changeable)
        return first.scaled(second.factor, second.shift) if isinstance(first, LayerNorm) else None

    if not program.has(Scale):
        return program
    program = _merged(program, of_scales, (Scale,), unless_shortcut=True)  # so that a weight is multiplied once
    changeable = program.changeable()
    return _merged(program, of_weights, (Scale,), unless_shortcut=True)


def fold_scales_forward(program: Program) -> Program:
    """Fold a scale into the weight after it, where that is exact.

    Zeros around the image come after the scale: a shift does not reach them, so with a shift there must be none. Between the
    scale and a linear map the pixels may be flattened.
    """
    if not program.has(Scale):
        return program
    reads, makers, steps = program.reads(), program.makers(), list(program.steps)
    names: dict[int, int] = {}
    for at, step in enumerate(steps):
        operation, value = step.operation, step.reads[0] if step.reads else -1
        if not isinstance(operation, (Conv, Linear)):
            continue
        between = _reshape_before(steps, makers, reads, value) if isinstance(operation, Linear) else None
        value = value if between is None else between.reads[0]
        scale = steps[makers[value]] if value in makers and reads[value] == 1 else None
        if (
            scale is None
            or not isinstance(scale.operation, Scale)
            or scale.operation.activation
            or len(scale.reads) > 1
        ):
            continue
        factor, shift = scale.operation.factor, scale.operation.shift
        if isinstance(operation, Conv) and shift.any() and not operation.never_padded():
            continue
        if isinstance(operation, Linear) and between is not None:
            inputs = operation.weight.shape[0]
            if inputs % len(factor):
                continue
            factor, shift = (np.tile(array, inputs // len(factor)) for array in (factor, shift))
        folded = operation.scaled_input(factor, shift)
        if folded is not None:
            steps[at] = step._replace(operation=folded, layers=scale.layers + step.layers)
            names[value] = scale.reads[0]
    return program.with_steps([step for step in steps if step.writes[0] not in names]).renamed(names)


def merge_products(program: Program) -> Program:
    """Multiply two weights once where one linear map follows another and together they are no more work than apart.

    The second or the first is a matrix for each pixel: a 1x1 convolution, a linear layer.
    """

    def merge(first: Operation, second: Operation) -> Operation | None:
        linear = isinstance(first, (Conv, Linear)) and isinstance(second, (Conv, Linear)) and first.activation is None
        if not linear or any(isinstance(each, Conv) and each.groups > 1 for each in (first, second)):
            return None
        one: Any = first
        other: Any = second
        inner, outputs, weight = one.weight.shape[-1], other.weight.shape[-1], one.weight.size
        made = None
        if other.matrix() is not None and weight // inner * outputs <= weight + inner * outputs:
            made = one.times(other.matrix(), other.bias)
        elif isinstance(other, Conv) and one.matrix() is not None and one.weight.shape[-2] <= inner:
            constant = (
                one.bias if one.bias is not None and one.bias.any() else None
            )  # zeros around the image come after it
            made = other.of_product(one.matrix(), constant) if constant is None or other.never_padded() else None
        return None if made is None else made.replace(activation=other.activation)

    return _merged(program, merge, (Conv, Linear), unless_shortcut=True)


def fuse_sums(program: Program) -> Program:
    """Let the step that made one of two summands add the other one: the end of a residual block.

    Not where one summand might stretch to the other's size: where an image is one pixel wide, or where sizes that are open need
    not be the same for both.
    """
    if not program.has(Sum):
        return program
    shapes = program.example_shapes()
    reads, makers, steps = program.reads(), program.makers(), list(program.steps)
    others = list(program.other_shapes())
    gone: set[int] = set()
    for at, step in enumerate(steps):
        if not isinstance(step.operation, Sum):
            continue
        one, other = (shapes[value] for value in step.reads)
        if one != other or 1 in one[1:-1]:
            continue
        a, b = step.reads
        if any(each[a] != each[b] for each in others if a in each and b in each):
            continue
        # the later one of the two: what it reads need not live longer
        places = sorted((makers[value], value) for value in step.reads if value in makers and reads[value] == 1)
        for place, value in reversed(places):
            maker = steps[place]
            if _ends_open(maker) and place not in gone:
                (shortcut,) = (each for each in step.reads if each != value)
                steps[at] = Step(maker.operation, (*maker.reads, shortcut), step.writes, maker.layers + step.layers)
                gone.add(place)
                break
    return program.with_steps([step for at, step in enumerate(steps) if at not in gone])


def fuse_activations(program: Program) -> Program:
    """Let a step end with the activation that alone reads what it made."""

    def merge(first: Operation, second: Operation) -> Operation | None:
        if isinstance(second, Activate) and isinstance(first, (Weighted, Scale, Sum)) and first.activation is None:
            return first.replace(activation=second.activation)
        return None

    return _merged(program, merge, (Activate,))


#: In this order.
PASSES: tuple[Callable[[Program], Program], ...] = (
    remove_identities,
    drop_dead,
    fuse_gates,
    fuse_formulas,
    keep_together,  # which knows activations, and not the formulas that spell them
    drop_dead,
    pick_channels,
    put_off_views,
    merge_views,
    fuse_chains,
    absorb_padding,
    part_joined,
    fold_scales,
    merge_branches,
    fold_scales,  # those of the sums that are one convolution now
    fold_scales_forward,
    merge_products,
    fuse_sums,
    fuse_activations,
    fold_shuffles,
    compile_remaining,
)


def optimized(program: Program, *, own: bool = False) -> Program:
    """Return the program after all passes; they may write into its arrays where these are its `own`."""
    program = program._replace(known=program.example_shapes(), own=own)
    for each in PASSES:
        program = each(program)
    return program._replace(own=False)


def _merged(
    program: Program,
    merge: Callable[[Operation, Operation], Operation | None],
    kinds: tuple[type[Operation], ...],
    *,
    unless_shortcut: bool = False,
) -> Program:
    """Return the program in which `merge` made one operation of two that follow each other, wherever it could.

    The second is of one of some `kinds` and takes one input, which nobody else reads. With `unless_shortcut` the first must
    have no second input either.
    """
    if not program.has(*kinds):
        return program
    steps: dict[int, Step] = dict(enumerate(program.steps))
    reads, makers = program.reads(), program.makers()
    for at, second in enumerate(program.steps):
        if (
            not isinstance(second.operation, kinds)
            or len(second.reads) != 1
            or reads[second.reads[0]] != 1
            or second.reads[0] not in makers
        ):
            continue
        place = makers[second.reads[0]]
        first = steps[place]
        operation = None
        if not (unless_shortcut and len(first.reads) > 1):
            operation = merge(first.operation, second.operation)
        if operation is not None:
            del steps[place]
            steps[at] = Step(operation, first.reads, second.writes, first.layers + second.layers)
            makers[second.writes[0]] = at
    return program.with_steps([steps[at] for at in sorted(steps)]) if len(steps) < len(program.steps) else program


def _ends_open(step: Step) -> bool:
    """Whether a step can add a second input to its output."""
    operation: Any = step.operation
    return isinstance(operation, (Weighted, Scale)) and operation.activation is None and len(step.reads) == 1


def _reshape_before(steps: list[Step], makers: dict[int, int], reads: Any, value: int) -> Step | None:
    step = steps[makers[value]] if value in makers and reads[value] == 1 else None
    return step if step is not None and isinstance(step.operation, Reshape) else None


def _scale(factor: Any, shift: Any, dtype: Any) -> Scale | None:
    with np.errstate(over="ignore"):
        factor, shift = (np.ascontiguousarray(array, dtype) for array in (factor, shift))
    return Scale(factor, shift) if np.isfinite(factor).all() and np.isfinite(shift).all() else None


def _added(first: Any, second: Any) -> tuple[tuple[int, int], ...]:
    return tuple((a + c, b + d) for (a, b), (c, d) in zip(first, second, strict=True))
