"""Channel shuffles between groups (Zhang et al. 2018, "ShuffleNet") without moving channels.

A convolution in groups after a shuffle takes the channels of its groups from where they lie. A depthwise one between the two,
to which the order of channels is nothing, gets its weight in the order that there was before::

    conv in groups  ->  shuffle  ->  depthwise  ->  conv in groups
    conv in groups  ->               depthwise  ->  conv in groups that takes parts in turn
"""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from fastconv.arguments import ntuple
from fastconv.arrays import owned
from fastconv.frozen.moves import Pick, shuffled_groups
from fastconv.frozen.operation import Array, Operation
from fastconv.frozen.program import Program, Step
from fastconv.frozen.weighted import Conv
from fastconv.functional.frozen_conv import takes_parts


def fold_shuffles(program: Program) -> Program:
    """Drop each shuffle whose channels a convolution of pixels in groups takes in turn, depthwise ones between them or none."""
    if not program.has(Pick):
        return program
    shapes, reads = program.example_shapes(), program.reads()
    readers = {value: at for at, step in enumerate(program.steps) for value in step.reads[:1]}
    steps, changeable = list(program.steps), program.changeable()
    names: dict[int, int] = {}
    for step in program.steps:
        if not isinstance(step.operation, Pick) or step.operation.places.size != shapes[step.reads[0]][-1]:
            continue
        parts = shuffled_groups(step.operation.places)
        path = _to_groups(program, step.writes[0], readers, reads) if parts > 1 else []
        last = steps[path[-1]].operation if path else None
        if not isinstance(last, Conv) or not takes_parts(last.plan(shapes[steps[path[-1]].reads[0]])):
            continue
        for place in path[:-1]:
            steps[place] = steps[place]._replace(
                operation=_depthwise_before(steps[place].operation, step.operation.places)
            )
        in_place = id(last.weight) in changeable and owned(last.weight)
        weight = _as_they_lie(last.weight, last.groups, parts, in_place=in_place)
        layers = step.layers + steps[path[-1]].layers
        steps[path[-1]] = steps[path[-1]]._replace(operation=last.replace(weight=weight, parts=parts), layers=layers)
        names[step.writes[0]] = step.reads[0]
    return program.with_steps([step for step in steps if step.writes[0] not in names]).renamed(names)


def _to_groups(program: Program, value: int, readers: dict[int, int], reads: Counter[int]) -> list[int]:
    """Return the places of the depthwise convolutions after a value, in a row, and of the one in groups at the end; or none."""
    path: list[int] = []
    while reads[value] == 1 and value in readers:
        step = program.steps[readers[value]]
        path.append(readers[value])
        if _is_of_pixels(step.operation):
            return path
        if not _is_depthwise(step):
            break
        value = step.writes[0]
    return []


def _is_of_pixels(operation: Operation) -> bool:
    if (
        not isinstance(operation, Conv)
        or operation.groups == 1
        or operation.parts > 1
        or operation.weight.shape[-2] == 1
    ):
        return False
    rank = operation.weight.ndim - 2
    ones = ntuple(operation.stride, rank, "stride") == (1,) * rank
    return ones and math.prod(operation.weight.shape[:rank]) == 1 and operation.never_padded()


def _is_depthwise(step: Step) -> bool:
    operation = step.operation
    return (
        isinstance(operation, Conv)
        and operation.weight.shape[-2] == 1
        and operation.groups == operation.weight.shape[-1]
        and len(step.reads) == 1
    )


def _depthwise_before(operation: Operation, places: Array) -> Operation:
    """Return what makes the same of channels that are not shuffled yet: channel ``places[i]`` with the weight of channel i."""
    assert isinstance(operation, Conv)
    before = np.argsort(places)
    activation = operation.activation
    if activation is not None and activation.slope is not None:
        activation = activation._replace(slope=np.ascontiguousarray(activation.slope[before]))
    return operation.replace(
        weight=np.ascontiguousarray(operation.weight[..., before]),
        bias=None if operation.bias is None else np.ascontiguousarray(operation.bias[before]),
        activation=activation,
    )


def _as_they_lie(weight: Array, groups: int, parts: int, *, in_place: bool) -> Array:
    """Return the weight with the rows of each group in the order in which parts have its channels."""
    depth, outputs = weight.shape[-2], weight.shape[-1] // groups
    made = weight if in_place else np.empty_like(weight)
    orders = np.argsort(np.arange(groups * depth).reshape(groups, depth) % parts, kind="stable")
    for group, order in enumerate(orders):
        columns = slice(group * outputs, (group + 1) * outputs)
        made[..., columns] = weight[..., order, columns]
    return made
