"""Layers that no pass has absorbed become NumPy operations, which write to the arena and allocate nothing.

It is the last pass, so that those before see layers, which say more: an activation in many steps, a normalization.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from fastconv import layers as L
from fastconv.arrays import contiguous
from fastconv.frozen.copies import Chosen, Surrounded, Taken, Tiled, fits_tiles, is_surrounded
from fastconv.frozen.foreign import Foreign
from fastconv.frozen.numerics import ConcatWith, Function, Reduce, Stretch, With
from fastconv.frozen.operation import Operation
from fastconv.frozen.program import Program, Step
from fastconv.frozen.unweighted import Pair
from fastconv.functional.pad import pad_pairs
from fastconv.layers.base import Layer
from fastconv.layers.checks import inner_axes, inner_axis
from fastconv.layers.symbol import Shape

#: What two numbers become.
_PAIRS: dict[type[Layer], str] = {
    L.Add: "sum",
    L.Subtract: "difference",
    L.Multiply: "product",
    L.Divide: "quotient",
    L.Power: "power",
    L.Maximum: "larger",
    L.Minimum: "smaller",
}

#: A layer, the shape of its first input without the batch, how many inputs it has: an operation, or None.
_Rule = Callable[[Any, Shape, int], Operation | None]


def compile_remaining(program: Program, *, inputs: Iterable[int] = ()) -> Program:
    """Make operations of the layers that write what NumPy can write in its place; `inputs` are those that are surely floats."""
    floats = {value for step in program.steps if not isinstance(step.operation, Foreign) for value in step.writes}
    floats.update(inputs)
    steps = []
    for step in program.steps:
        made = _operation(step, floats)
        if made is not None:
            step = step._replace(operation=made)
            floats.update(step.writes)
        steps.append(step)
    return program.with_steps(steps)


def _operation(step: Step, floats: set[int]) -> Operation | None:
    if not isinstance(step.operation, Foreign):
        return None
    layer = step.operation.layer
    rule = _RULES.get(type(layer))
    # an input of the model, or what another layer makes, may be integers where the layer takes them
    known = all(value in floats or not layer.traits.takes_integers(at) for at, value in enumerate(step.reads))
    if rule is None or not known or not step.reads or () in step.operation.shapes:
        return None
    return rule(layer, step.operation.shapes[0], len(step.reads))


def _partial(layer: Any, shape: Shape, inputs: int) -> Operation | None:
    held = {**layer.params, **layer.buffers}
    arrays = {at: contiguous(held[f"input_{at}"]) for at in layer.held}
    if type(layer.inner) in _CHOICES:
        return _CHOICES[type(layer.inner)](layer, shape, arrays)
    if any(array.dtype != layer.dtype for array in arrays.values()):
        return None
    kind = type(layer.inner)
    if kind is L.Concat:
        axis = layer.inner.axis % (1 + len(shape))
        return ConcatWith(axis, tuple(arrays.get(at) for at in range(inputs + len(arrays))))
    if kind not in _PAIRS or inputs + len(arrays) != 2:
        return None
    ((at, array),) = arrays.items()
    return With(_PAIRS[kind], array, at == 0) if array.ndim == len(shape) else None


def _taken(layer: Any, shape: Shape, arrays: dict[int, Any]) -> Operation | None:
    if list(arrays) != [1]:
        return None
    places, axis = arrays[1].astype(np.int64), inner_axis(layer.inner.axis, 1 + len(shape))
    inside = places.size and -shape[axis - 1] <= places.min() and places.max() < shape[axis - 1]
    return Taken(axis, places) if inside else None


def _chosen(layer: Any, shape: Shape, arrays: dict[int, Any]) -> Operation | None:
    floats = [array for at, array in arrays.items() if at]
    alike = all(array.dtype == layer.dtype for array in floats) and {array.ndim for array in arrays.values()} == {
        len(shape)
    }
    return Chosen(arrays[0] != 0, arrays.get(1), arrays.get(2)) if 0 in arrays and len(arrays) < 3 and alike else None


#: Layers that copy what constants choose.
_CHOICES: dict[type[Layer], Callable[..., Operation | None]] = {L.Gather: _taken, L.Where: _chosen}


def _padded(layer: Any, shape: Shape, inputs: int) -> Operation | None:
    pairs = pad_pairs(shape, layer.padding, layer.mode)
    return (
        Surrounded(tuple(pairs), layer.value)
        if layer.mode == "constant" and is_surrounded(pairs, layer.value)
        else None
    )


def _tiled(layer: Any, shape: Shape, inputs: int) -> Operation | None:
    return Tiled(layer.repeats) if fits_tiles(layer.repeats) else None


def _pair(layer: Any, shape: Shape, inputs: int) -> Operation | None:
    return Pair(_PAIRS[type(layer)]) if inputs == 2 else None


def _reduce(how: str) -> _Rule:
    return lambda layer, shape, inputs: Reduce(how, tuple(inner_axes(layer.axes, 1 + len(shape))), layer.keepdims)


def _function(name: str) -> _Rule:
    return lambda layer, shape, inputs: Function(name)


_RULES: dict[type[Layer], _Rule] = {
    L.Partial: _partial,
    **dict.fromkeys((L.Power, L.Maximum, L.Minimum), _pair),
    L.ReduceMean: _reduce("mean"),
    L.ReduceSum: _reduce("sum"),
    L.ReduceMax: _reduce("max"),
    L.ReduceMin: _reduce("min"),
    L.ReduceL2: _reduce("l2"),
    L.Pad: _padded,
    L.Tile: _tiled,
    L.Expand: lambda layer, shape, inputs: Stretch(layer.shape),
    L.Abs: _function("abs"),
    L.Exp: _function("exp"),
    L.Log: _function("log"),
    L.Sqrt: _function("sqrt"),
    L.Square: _function("square"),
    L.Reciprocal: _function("reciprocal"),
    L.Sin: _function("sin"),
    L.Cos: _function("cos"),
}
