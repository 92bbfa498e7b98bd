"""How to test a layer that declares nothing: instances of its class, and shapes that its `output_shape` accepts."""

from __future__ import annotations

import copy
import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from fastconv.layers import Context, Layer
from fastconv.layers.calls import ensure_built, run, shape_of
from fastconv.layers.symbol import Shape, input_shape_of, several
from fastconv.loading import describe
from fastconv.testing.cases import Case, Entry

Shapes = tuple[Shape, ...]

_SIZES = (1, 2, 3, 4, 5, 7)
_CHANNELS = (1, 2, 3, 4, 5, 8, 17)

#: One axis as long as this: beyond the vectors and blocks that somebody's loop may take.
_LONG = (9, 17, 33)

#: Sizes of the image and numbers of channels that are tried one after another until a layer takes one.
_TYPICAL = ((6, 5, 7), (8, 4, 12), (12, 12, 12), (16, 16, 16), (28, 28, 28), (32, 32, 32), (64, 64, 64))
_TYPICAL_CHANNELS = (4, 6, 12, 3, 2, 1), (8, 16, 5, 10, 32, 64)

#: Beyond so many numbers an image is not tried.
_LARGEST = 1 << 18

#: More variants than that say nothing new.
_MOST = 80

#: Nor do more layers of a class that were thought up.
_MOST_LAYERS = 4


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
    """Return layers of a class: its own `examples`, or one made with as few arguments as possible, and others near it.

    What it asks for is a small integer. In the others an integer is one larger, or a switch is turned: they are left out where
    they cannot be made or take no inputs.

    >>> from fastconv.layers import GroupNorm, ReLU
    >>> examples_of(ReLU), examples_of(GroupNorm)
    ([ReLU()], [GroupNorm(groups=2), GroupNorm(groups=3)])
    """
    try:
        given = list(cls.examples())
    except (Exception, SystemExit) as failure:  # a stranger's, for which nobody else shall suffer
        raise ValueError(f"examples of {cls.__name__} cannot be had: {describe(failure)}") from failure
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
            layer = cls(**dict.fromkeys(wanted, value))
            return [layer, *_others(layer)]
        except (TypeError, ValueError) as failure:
            error = failure
    raise ValueError(
        f"nobody knows how to make a {cls.__name__}: write a classmethod examples(cls) that returns layers to test, "
        f"or give check_layer a layer ({error})"
    )


def _others(layer: Layer) -> list[Layer]:
    """Return layers of the same class, each with one argument changed a little."""
    found: list[Layer] = []
    for name, value in layer.config.items():
        try:
            other = type(layer)(**{**layer.config, name: _changed(value)})
            if _changed(value) is not value and any(_runs(other, shapes) for shapes in shapes_for(other)[1][:5]):
                found.append(other)
        except Exception:  # an argument that must be what it is
            continue
    return found[:_MOST_LAYERS]


def _changed(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int) and value > 0:
        return value + 1
    if isinstance(value, list) and value and all(type(item) is int and item > 0 for item in value):
        return [item + 1 for item in value]
    return value


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
    candidates = {*(shapes for rank in ranks for shapes in _candidates(rank, arity)), *_relatives(typical)}
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
    refusal: BaseException | None = None
    wrong: tuple[Shapes, list[int], int] | None = None
    for arity in _arities(layer):
        for guesses in _guesses(arity):
            taken: dict[int, Shapes] = {}
            for shapes in guesses:
                rank = len(shapes[0]) - 1
                if rank not in taken:
                    refused = _refusal(layer, shapes)
                    if refused is None:
                        taken[rank] = shapes
                    else:
                        refusal = refusal or refused
            working = [shapes for shapes in taken.values() if _runs(layer, shapes)]
            if working:
                return working[0], sorted(taken), arity
            if taken and wrong is None:
                wrong = next(iter(taken.values())), sorted(taken), arity
    if wrong is not None:  # where none works it is the layer that is wrong, and the checks say so
        return wrong
    raise ValueError(
        f"no input shapes were found that output_shape of {layer.label} takes: give input_shapes=[(8, 8, 3)], one for each "
        f"input, without the batch axis (the first one tried: {type(refusal).__name__}: {refusal})"
    ) from refusal


def _arities(layer: Layer) -> list[int]:
    parameters = list(inspect.signature(layer.forward).parameters.values())[1:]
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return [2, 1, 3]
    return [sum(parameter.default is parameter.empty for parameter in parameters)]


def _guesses(arity: int) -> Iterator[list[Shapes]]:
    """Yield lists of shapes of all ranks to try, the most usual first."""
    for size, channels, related in itertools.product(_TYPICAL, _TYPICAL_CHANNELS, _relations(arity)):
        shapes = [(*size[:rank], c) for rank in (2, 1, 3, 0) for c in channels]
        yield [related(shape) for shape in shapes if np.prod(shape) <= _LARGEST]


def _relations(arity: int) -> list[Callable[[Shape], Shapes]]:
    """Return how the other inputs of a layer may be shaped, given the first."""
    same: Callable[[Shape], Shapes] = lambda shape: (shape,) * arity  # noqa: E731
    if arity < 2:
        return [same]
    lasts: list[Callable[[Shape], Shape]] = [
        lambda shape: (*shape[:-1], 1),  # a map of one channel
        lambda shape: shape[-1:],  # one number for each channel
        lambda shape: (2 * shape[-1],),  # two numbers for each channel
        lambda shape: (*(1 for _ in shape[:-1]), shape[-1]),  # one pixel
        lambda shape: (*(n + 1 for n in shape[:-1]), shape[-1]),  # another size
    ]
    return [same, *(lambda shape, last=last: (*(shape,) * (arity - 1), last(shape)) for last in lasts)]


def _refusal(layer: Layer, shapes: Shapes) -> BaseException | None:
    """Return what `output_shape` raises, or copying the layer; None where it takes the shapes."""
    try:
        shape_of(copy.deepcopy(layer), shapes)
    except (Exception, SystemExit) as error:  # what it raises is the business of the checks
        return error
    return None


def _works(layer: Layer, typical: Shapes, shapes: Shapes) -> bool:
    case = Case(Entry(layer, typical, [], []), shapes)
    try:
        want = shape_of(copy.deepcopy(layer), shapes)
        result = case.passed(case.layer(), case.inputs())
    except (Exception, SystemExit):
        return False
    wanted = want if several(want) else (want,)
    made = tuple(y.shape[1:] for y in result.ys) == tuple(wanted)
    return made and all(dx is None or dx.shape[1:] == shape for dx, shape in zip(result.dxs, shapes, strict=True))


def _runs(layer: Layer, shapes: Shapes) -> bool:
    layer = copy.deepcopy(layer)
    try:
        ensure_built(layer, shapes, np.random.default_rng(0))
        xs = [
            np.ones((2, *shape), np.int64 if layer.traits.takes_integers(at) else layer.dtype)
            for at, shape in enumerate(shapes)
        ]
        run(layer, Context(True, np.random.default_rng(0)), xs)
    except (Exception, SystemExit):  # the same
        return False
    return True


def _candidates(rank: int, arity: int) -> Iterator[Shapes]:
    sizes = {(n,) * rank for n in _SIZES} | {tuple(_SIZES[(i + j) % 6] for j in range(rank)) for i in range(6)}
    shapes = [(*size, channels) for size, channels in itertools.product(sorted(sizes), _CHANNELS)]
    for axis, n, other in itertools.product(range(rank), _LONG, (1, 4)):
        shapes += [(*(n if at == axis else other for at in range(rank)), channels) for channels in (1, 3, 4)]
    for shape in shapes:
        for related in _relations(arity):
            yield related(shape)
        if arity > 1:
            yield (*(shape,) * (arity - 1), (*shape[:-1], shape[-1] + 1))


def _relatives(typical: Shapes) -> Iterator[Shapes]:
    """Yield shapes like those that are known to suit: numbers that are equal stay so, and channels a multiple of others."""
    if () in typical:  # a single number for each sample
        return
    first, channels = typical[0], typical[0][-1]
    sizes = list(dict.fromkeys(n for shape in typical for n in shape[:-1]))
    longer: list[Callable[[int], int]] = [lambda n: n, lambda n: n + 1, lambda n: n + 3, lambda n: 2 * n]
    changed = [dict(zip(sizes, map(change, sizes), strict=True)) for change in longer]
    changed += [dict(zip(sizes, itertools.islice(itertools.cycle(_SIZES), at, None), strict=False)) for at in range(6)]
    for size, c in itertools.product(changed, (*_CHANNELS, channels, 2 * channels, 3 * channels)):
        scaled = tuple(
            (*(size[n] for n in shape[:-1]), c * (shape[-1] // channels) if shape[-1] % channels == 0 else shape[-1])
            for shape in typical
        )
        if max(int(np.prod(shape)) for shape in scaled) <= max(_LARGEST // 16, int(np.prod(first))):
            yield scaled
