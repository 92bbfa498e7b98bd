"""Activations that are spelled out in several steps, recognized by what they compute.

Whoever writes ONNX files has a way of its own for GELU, Mish or hard swish; there are dozens. So steps that do the same to each
number are tried with some numbers, and where they give what a known activation gives, they are that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from fastconv import functional as F
from fastconv import layers as L
from fastconv.frozen.foreign import Foreign
from fastconv.frozen.operation import Operation
from fastconv.frozen.program import Program, Step
from fastconv.frozen.remaining import compile_remaining
from fastconv.frozen.unweighted import Activate, Pair, Product, Scale, Sum
from fastconv.functional.calls import Activation
from fastconv.layers.base import Layer
from fastconv.layers.symbol import Shape

#: Steps that are one formula at most.
MOST_STEPS = 12

#: How far a formula, as it rounds, may be from the function, in last bits of numbers of size 1; in proportion for larger ones.
TOLERANCE = 32

#: What is tried: bends of all known functions are in between, and numbers so large that a bound would show.
PROBES = np.concatenate([np.linspace(-12, 12, 481) + 1e-3, [-1e6, -1e3, -80, -40, -20, 0, 20, 40, 80, 1e3, 1e6]])

KNOWN: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "sigmoid": F.sigmoid,
    "tanh": F.tanh,
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate=True),
    "hard_sigmoid": F.hard_sigmoid,
    "hard_swish": F.hard_swish,
    "softplus": F.softplus,
    "mish": lambda x: x * np.tanh(F.softplus(x)),
}

#: Layers that do the same to each number, of one or two inputs.
NUMBER_BY_NUMBER: set[type[Layer]] = {
    *(L.Abs, L.Exp, L.Log, L.Sqrt, L.Square, L.Reciprocal, L.Erf, L.Softsign),
    *(L.Subtract, L.Divide, L.Power, L.Maximum, L.Minimum),
}


def fuse_formulas(program: Program) -> Program:
    """Make one activation of the steps that spell one: GELU by an error function, hard swish by a sum, bounds and a product."""
    shapes, reads, makers = program.example_shapes(), program.reads(), program.makers()
    steps: dict[int, Step] = dict(enumerate(program.steps))
    known: dict[Hashable, str | None] = {}
    for at in sorted(steps, reverse=True):
        if at not in steps:
            continue
        found = _formula(program, steps, at, shapes, reads, makers, known)
        if found is not None:
            name, x, region = found
            layers = tuple(layer for each in region for layer in steps[each].layers)
            steps[at] = Step(Activate(Activation(name)), (x,), steps[at].writes, layers)
            for each in region[:-1]:
                del steps[each]
    return program.with_steps([steps[at] for at in sorted(steps)])


def _formula(
    program: Program,
    steps: dict[int, Step],
    last: int,
    shapes: Any,
    reads: Counter[int],
    makers: dict[int, int],
    known: dict[Hashable, str | None],
) -> tuple[str, int, list[int]] | None:
    """Return the activation that the steps up to `last` spell, the value that it is of, and their places; None for none."""
    shape = shapes[steps[last].writes[0]]

    def allowed(step: Step) -> bool:
        return all(shapes[value] == shape for value in step.reads) and is_elementwise(step.operation)

    if not allowed(steps[last]):
        return None
    before = (steps.get(makers.get(value, -1)) for value in steps[last].reads)
    if not any(step is not None and allowed(step) for step in before):
        return None  # a formula has two steps at least
    for region, x in regions(steps, last, MOST_STEPS, allowed, reads, makers):
        if len(region) == 1:
            continue
        name = _recognized(program, [steps[at] for at in region], x, len(shape), known)
        if name is not None:
            return name, x, region
    return None


def regions(
    steps: dict[int, Step],
    last: int,
    most: int,
    allowed: Callable[[Step], bool],
    reads: Counter[int],
    makers: dict[int, int],
) -> Iterator[tuple[list[int], int]]:
    """Yield steps up to `last` that are a function of one value, by their places in order, and that value; ever more of them.

    Nobody else reads what they make on the way.
    """
    region: set[int] = set()
    inner: Counter[int] = Counter()  # how often the steps so far read each value
    outer = steps[last].writes[0]
    while len(region) < most:
        place = makers.get(outer, -1)
        step = steps.get(place)
        if step is None or not allowed(step) or (region and reads[outer] != inner[outer]):
            return
        region.add(place)
        inner.update(step.reads)
        frontier = [value for value in inner if makers.get(value, -1) not in region]
        if len(frontier) == 1:
            yield sorted(region), frontier[0]
        # the value made last: all others of the formula come after the one that it is of
        outer = max(frontier, key=lambda value: makers.get(value, -1))


def alone(program: Program, steps: Sequence[Step], x: int, shape: Shape) -> Program:
    """Return the program of some steps alone, whose input is value `x`, of `shape` without the batch."""
    numbers = {x: 0, **{step.writes[0]: at for at, step in enumerate(steps, 1)}}
    renumbered = [
        Step(step.operation, tuple(numbers[value] for value in step.reads), (at,), step.layers)
        for at, step in enumerate(steps, 1)
    ]
    return Program((shape,), (None,), program.dtype, tuple(renumbered), (len(steps),))


def is_elementwise(operation: Operation) -> bool:
    """Return whether an operation does the same to each number."""
    if isinstance(operation, Scale):
        plain = operation.activation is None and operation.factor.size > 0
        return plain and _is_uniform(operation.factor) and _is_uniform(operation.shift)
    if isinstance(operation, Activate):
        return operation.activation.slope is None
    if isinstance(operation, Sum):
        return operation.activation is None
    if isinstance(operation, Foreign):
        layer: Any = operation.layer
        if type(layer) is L.Partial:
            held = [*layer.params.values(), *layer.buffers.values()]
            return type(layer.inner) in NUMBER_BY_NUMBER and all(array.size == 1 for array in held)
        return type(layer) in NUMBER_BY_NUMBER
    return isinstance(operation, (Pair, Product))


def _is_uniform(array: np.ndarray) -> bool:
    """Return whether all numbers are one; mostly the last one tells that they are not."""
    return bool(array[0] == array[-1]) and bool((array == array[0]).all())


def spelling(program: Program) -> Hashable:
    """Return what two programs have in common that compute the same in the same way."""
    return program.dtype, program.input_shapes, tuple((_spelled(step.operation), step.reads) for step in program.steps)


def _spelled(operation: Operation) -> Hashable:
    values: Iterable[Any] = vars(operation).values()
    if isinstance(operation, Foreign):
        layer = operation.layer
        values = repr(layer), *layer.params.values(), *layer.buffers.values()
    return operation.kind, *(each.tobytes() if isinstance(each, np.ndarray) else each for each in values)


def _recognized(
    program: Program, steps: list[Step], x: int, rank: int, known: dict[Hashable, str | None]
) -> str | None:
    """Return the name of the activation of `x` that steps compute, None where it is none that is known.

    `known` are results of before: a network has the same spelling many times.
    """
    narrow = [step._replace(operation=_of_one_channel(step.operation)) for step in steps]
    spelled = alone(program, narrow, x, (1,) * (rank - 1))
    key = spelling(spelled)
    if key not in known:
        known[key] = _name(spelled)
    return known[key]


def _name(program: Program) -> str | None:
    """Return the name of the activation that a program of one input computes, None where it is none that is known."""
    from fastconv.frozen.plan import Plan  # which knows all passes' results, and so stands above

    probes = PROBES.astype(program.dtype)
    sample = probes.reshape(-1, *program.input_shapes[0])
    with np.errstate(all="ignore"):
        y = Plan(compile_remaining(program, inputs=[0]), [sample.shape]).run([sample])[0].ravel().astype(np.float64)
    wide = probes.astype(np.float64)
    finite = np.isfinite(y)  # a power of a large number may overflow on the way
    allowed = TOLERANCE * np.finfo(program.dtype).eps * np.maximum(1, np.abs(wide))
    for name, known in _known(program.dtype).items():
        if (np.abs(y - known)[finite] <= allowed[finite]).all():
            return name if finite[np.abs(wide) <= 12].all() else None
    return None


@lru_cache(maxsize=2)
def _known(dtype: np.dtype[Any]) -> dict[str, np.ndarray]:
    """Return what the known functions make of the probes, which are of this dtype."""
    wide = PROBES.astype(dtype).astype(np.float64)
    return {name: function(wide) for name, function in KNOWN.items()}


def _of_one_channel(operation: Operation) -> Operation:
    if isinstance(operation, Scale):
        return operation.replace(factor=operation.factor[:1], shift=operation.shift[:1])
    return operation
