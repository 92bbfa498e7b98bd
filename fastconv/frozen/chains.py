"""Normalizations of each pixel that are spelled out in several steps, recognized by what they compute.

Before ONNX had operators for them, and where it has none, writers spell them with means, squares and quotients: layer
normalization, the root mean square (Zhang and Sennrich, Root mean square layer normalization, 2019), vectors of length 1.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable
from statistics import median  # NumPy's imports masked arrays
from typing import Any, NamedTuple

import numpy as np

from fastconv import layers as L
from fastconv.frozen.foreign import Foreign
from fastconv.frozen.formulas import alone, is_elementwise, regions, spelling
from fastconv.frozen.moves import Transpose
from fastconv.frozen.normalization import LayerNorm
from fastconv.frozen.program import Program, Step
from fastconv.frozen.unweighted import Pair, Product, Squeeze, Unsqueeze

#: Steps that are one normalization at most.
MOST_STEPS = 16

#: How far they may be from it, in last bits of the largest number of a pixel: means of hundreds of squares round.
TOLERANCE = 256

#: Sizes of the numbers of a pixel that are tried, without and with a mean. The least show what is added to a variance.
SIZES = 10.0 ** np.arange(2, -16, -1)

#: Numbers of an image, or of as many as are tried at once, beyond which trying them takes too long and too much memory.
MOST_PROBES = 2**22

_REDUCTIONS = (L.ReduceMean, L.ReduceSum, L.ReduceL2)


class _Kind(NamedTuple):
    """``factor * d / sqrt(max(mean(d**2) + eps, floor))``, d being x, or what it differs from its mean by."""

    centred: bool
    factor: float
    eps: float
    floor: float


def fuse_chains(program: Program) -> Program:
    """Make one normalization of the steps that spell one, from the mean or the squares to the quotient."""
    if not program.has(Pair, Product):
        return program
    shapes, reads, makers = program.example_shapes(), program.reads(), program.makers()
    steps: dict[int, Step] = dict(enumerate(program.steps))
    known: dict[Hashable, _Kind | None] = {}
    for at in sorted(steps, reverse=True):
        step = steps.get(at)
        if step is None or not isinstance(step.operation, (Pair, Product)):
            continue
        found = _chain(program, steps, at, shapes, reads, makers, known)
        if found is not None:
            operation, x, region = found
            layers = tuple(layer for each in region for layer in steps[each].layers)
            steps[at] = Step(operation, (x,), step.writes, layers)
            for each in region[:-1]:
                del steps[each]
    return program.with_steps([steps[at] for at in sorted(steps)])


def _chain(
    program: Program,
    steps: dict[int, Step],
    last: int,
    shapes: Any,
    reads: Counter[int],
    makers: dict[int, int],
    known: dict[Hashable, _Kind | None],
) -> tuple[LayerNorm, int, list[int]] | None:
    """Return the normalization that most steps up to `last` spell, the value that it is of, and their places; None for none."""
    found = None
    for region, x in regions(steps, last, MOST_STEPS, _allowed, reads, makers):
        shape = shapes[x]
        if shape != shapes[steps[last].writes[0]] or len(shape) < 2 or shape[-1] < 2:
            continue
        if any(_is_layer(steps[at], _REDUCTIONS) for at in region):
            spelled = alone(program, [steps[at] for at in region], x, shape[1:])
            key = spelling(spelled)
            kind = known[key] if key in known else known.setdefault(key, _recognized(spelled))
            if kind is not None and (kind.factor == 1 or program.is_fixed(x, -1)):
                found = _operation(kind, shape[-1], program.dtype), x, region
    return found


def _allowed(step: Step) -> bool:
    moves = isinstance(step.operation, (Transpose, Squeeze, Unsqueeze))
    return moves or is_elementwise(step.operation) or _is_layer(step, (*_REDUCTIONS, L.Expand))


def _is_layer(step: Step, classes: tuple[type, ...]) -> bool:
    return isinstance(step.operation, Foreign) and type(step.operation.layer) in classes


def _recognized(program: Program) -> _Kind | None:
    """Return what normalization of the channels of its input a program computes, None where it is none that is known."""
    from fastconv.frozen.plan import Plan  # which knows all passes' results, and so stands above

    (shape,) = program.input_shapes
    batch = -(-2 * len(SIZES) // math.prod(shape[:-1]))
    pixels = batch * math.prod(shape[:-1])
    if pixels * shape[-1] > MOST_PROBES:
        return None
    rng = np.random.default_rng(0)
    sizes = np.resize(np.repeat(SIZES, 2), pixels)
    means = np.where(np.arange(pixels) % 2, rng.uniform(-2, 2, pixels), 0)
    probes = (sizes[:, None] * (rng.standard_normal((pixels, shape[-1])) + means[:, None])).astype(program.dtype)
    try:
        with np.errstate(all="ignore"):
            plan = Plan(program, [(batch, *shape)])
            y = plan.run([probes.reshape(batch, *shape)])[0].reshape(probes.shape).astype(np.float64)
    except (TypeError, ValueError):  # an expansion to the one batch of a file
        return None
    return _kind(probes.astype(np.float64), y, sizes, TOLERANCE * float(np.finfo(program.dtype).eps))


def _kind(x: np.ndarray, y: np.ndarray, sizes: np.ndarray, tolerance: float) -> _Kind | None:
    large, small = sizes == sizes.max(), sizes == sizes.min()
    for centred in (True, False):
        d = x - x.mean(axis=1, keepdims=True) if centred else x
        squares = (d * d).mean(axis=1)
        with np.errstate(all="ignore"):
            slope = (y * d).sum(axis=1) / (d * d).sum(axis=1)
            near = median(slope[large] * np.sqrt(squares[large]))
            factor = min((1.0, x.shape[1] ** -0.5), key=lambda each: abs(each - near))
            least = median((factor / slope[small]) ** 2)
        if not math.isfinite(least) or abs(factor - near) > 1e-3 * factor:
            continue
        if least <= 2 * median(squares[small]):
            least = 0.0
        least = float(f"{least:.5g}")  # as somebody wrote it
        for eps, floor in ((least, 0.0), (0.0, least)):
            want = factor * d / np.sqrt(np.maximum(squares + eps, floor))[:, None]
            if (abs(y - want) <= tolerance * abs(want).max(axis=1, keepdims=True)).all():
                return _Kind(centred, factor, eps, floor)
    return None


def _operation(kind: _Kind, channels: int, dtype: Any) -> LayerNorm:
    scale, bias = np.full(channels, kind.factor, dtype), np.zeros(channels, dtype)
    return LayerNorm(scale, bias, kind.eps, kind.centred, kind.floor, any_length=kind.factor == 1)
