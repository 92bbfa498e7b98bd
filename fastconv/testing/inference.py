"""What to feed a layer that says nothing about it: instances of a class, and shapes that its `output_shape` takes."""

from __future__ import annotations

import copy
import inspect
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from fastconv.layers import Context, Layer
from fastconv.layers.base import ensure_built, run, shape_of
from fastconv.layers.symbol import Shape, input_shape_of, several
from fastconv.testing.cases import Case, Entry

Shapes = tuple[Shape, ...]

_SIZES = (1, 2, 3, 4, 5, 7)
_CHANNELS = (1, 2, 3, 4, 5, 8, 17)
_TYPICAL = (6, 5, 7)

#: More variants than that say nothing new.
_MOST = 80


def entries_of(layer: Any, input_shapes: Any = None, reference: Any = None) -> list[Entry]:
    """Return what to check for a layer or a class of layers; `ValueError` where neither instances nor shapes can be found."""
    if isinstance(layer, type) and issubclass(layer, Layer):
        pairs = [example if isinstance(example, tuple) else (example, None) for example in examples_of(layer)]
    elif isinstance(layer, Layer):
        pairs = [(layer, None)]
    else:
        raise TypeError(f"layer must be a layer or a class of layers, got {layer!r}")
    entries = []
    for example, shapes in pairs:
        typical = _given(input_shapes if shapes is None else shapes)
        found, variants = shapes_for(example, typical)
        working = [shapes for shapes in variants if _works(example, found, shapes)]
        doubtful = [shapes for shapes in variants if shapes not in working]
        entries.append(Entry(example, found, working or [found], doubtful, reference))
    return entries


def examples_of(cls: type[Layer]) -> list[Any]:
    """Return layers of a class: its own `examples`, or one made without arguments, or with small integers for what it asks.

    >>> from fastconv.layers import GroupNorm, ReLU
    >>> examples_of(ReLU), examples_of(GroupNorm)
    ([ReLU()], [GroupNorm(groups=2)])
    """
    given = list(cls.examples())
    if given:
        return given
    init: Any = cls.__init__
    wanted = [
        parameter.name
        for parameter in list(inspect.signature(init).parameters.values())[1:]
        if parameter.default is parameter.empty
    ]
    error: Exception | None = None
    for value in (2, 3, 0.5, [2], "same"):
        try:
            return [cls(**dict.fromkeys(wanted, value))]
        except (TypeError, ValueError) as failure:
            error = failure
    raise ValueError(
        f"nobody knows how to make a {cls.__name__}: write a classmethod examples(cls) that returns layers to test, "
        f"or give check_layer a layer ({error})"
    )


def _given(shapes: Any) -> Shapes | None:
    if shapes is None:
        return None
    if isinstance(shapes, (tuple, list)) and all(isinstance(n, (int, np.integer)) for n in shapes):
        shapes = [shapes]
    if not isinstance(shapes, (tuple, list)):
        raise TypeError(
            f"input_shapes must be a shape without the batch axis, or a list of them, one for each input, got {shapes!r}"
        )
    return tuple(input_shape_of(shape) for shape in shapes)


def shapes_for(layer: Layer, typical: Shapes | None = None) -> tuple[Shapes, list[Shapes]]:
    """Return input shapes that suit a layer, and variants of them that it takes, the smallest first.

    A layer that is built keeps its shapes: its parameters may depend on them.

    >>> from fastconv.layers import Add, Conv1d
    >>> shapes_for(Conv1d(4, 3))[0], shapes_for(Add())[0]
    (((6, 4),), ((6, 5, 4), (6, 5, 4)))
    """
    known = getattr(layer, "input_shapes", None)
    ranks: Sequence[int]
    if typical is None and known:
        typical = tuple(tuple(shape) for shape in known)
    if typical is not None:
        ranks, arity = [len(typical[0]) - 1], len(typical)
    else:
        typical, ranks, arity = _found(layer)
    if layer.built:
        return typical, [typical]
    candidates = [shapes for rank in ranks for shapes in _candidates(rank, arity)]
    accepted = [shapes for shapes in candidates if _refusal(layer, shapes) is None]
    accepted = by_size({*accepted, typical})
    if len(accepted) > _MOST:  # the smallest, and others from all sizes
        small = _MOST // 2
        accepted = accepted[:small] + accepted[small :: len(accepted) // small + 1]
    return typical, accepted


def by_size(variants: Iterable[Shapes]) -> list[Shapes]:
    """Return input shapes sorted, those of the smallest arrays first."""
    return sorted(variants, key=lambda shapes: (sum(map(np.prod, shapes)), shapes))


def _found(layer: Layer) -> tuple[Shapes, list[int], int]:
    """Return shapes that a layer computes, all ranks that its `output_shape` takes, and the number of its inputs."""
    taken: dict[int, Shapes] = {}
    refusal: Exception | None = None
    for arity in _arities(layer):
        for rank, channels in itertools.product((2, 1, 3, 0), (4, 6, 12, 3, 2, 1)):
            shapes = ((*_TYPICAL[:rank], channels),) * arity
            if rank not in taken:
                refusal = _refusal(layer, shapes)
                if refusal is None:
                    taken[rank] = shapes
        # where none works it is the layer that is wrong, and the checks say so
        working = [shapes for shapes in taken.values() if _runs(layer, shapes)] or list(taken.values())
        if working:
            return working[0], sorted(taken), arity
    raise ValueError(
        f"no input shapes were found that output_shape of {layer.label} takes: give input_shapes=[(8, 8, 3)], "
        f"without the batch axis (the last one tried: {type(refusal).__name__}: {refusal})"
    ) from refusal


def _arities(layer: Layer) -> list[int]:
    parameters = list(inspect.signature(layer.forward).parameters.values())[1:]
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return [2, 1, 3]
    return [sum(parameter.default is parameter.empty for parameter in parameters)]


def _refusal(layer: Layer, shapes: Shapes) -> Exception | None:
    """Return what `output_shape` raises, or copying the layer; None where it takes the shapes."""
    try:
        shape_of(copy.deepcopy(layer), shapes)
    except Exception as error:  # what it raises is the business of the checks
        return error
    return None


def _works(layer: Layer, typical: Shapes, shapes: Shapes) -> bool:
    case = Case(Entry(layer, typical, [], []), shapes)
    try:
        want = shape_of(copy.deepcopy(layer), shapes)
        result = case.passed(case.layer(), case.inputs())
    except Exception:
        return False
    wanted = want if several(want) else (want,)
    made = tuple(y.shape[1:] for y in result.ys) == tuple(wanted)
    return made and all(dx is None or dx.shape[1:] == shape for dx, shape in zip(result.dxs, shapes, strict=True))


def _runs(layer: Layer, shapes: Shapes) -> bool:
    layer = copy.deepcopy(layer)
    try:
        ensure_built(layer, shapes, np.random.default_rng(0))
        xs = [np.ones((2, *shape), np.int64 if layer.traits.integers else layer.dtype) for shape in shapes]
        run(layer, Context(True, np.random.default_rng(0)), xs)
    except Exception:  # the same
        return False
    return True


def _candidates(rank: int, arity: int) -> Iterator[Shapes]:
    sizes = {(n,) * rank for n in _SIZES} | {tuple(_SIZES[(i + j) % 6] for j in range(rank)) for i in range(6)}
    for size, channels in itertools.product(sorted(sizes), _CHANNELS):
        shape = (*size, channels)
        yield (shape,) * arity
        if arity > 1:  # one that stretches, one with other channels
            yield (*(shape,) * (arity - 1), (*(1 for _ in size), channels))
            yield (*(shape,) * (arity - 1), (*size, channels + 1))
