"""Blocks of mobile networks: the large arrays between their convolutions are never stored whole.

::

    x (24)  ->  1x1  ->  144 channels  ->  depthwise 3x3  ->  144 channels  ->  1x1  ->  y (24)

Where the gates of squeeze and excitation come in between, they go together with the last of the three.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastconv.frozen.operation import constants
from fastconv.frozen.portions import Portion
from fastconv.frozen.program import Program, Step
from fastconv.frozen.unweighted import Product
from fastconv.frozen.weighted import Conv
from fastconv.functional._conv_plan import ConvPlan
from fastconv.functional.calls import Call, View
from fastconv.functional.frozen_conv import WHOLE, block_calls
from fastconv.geometry import Axis
from fastconv.layers.symbol import Shape
from fastconv.threads import get_num_threads

#: Bytes of an image between two convolutions below which it is near anyway.
SMALL = 1 << 18

#: Bytes of weights, which every thread reads, for each byte of that image, at most.
WEIGHT = 1.0

#: Multiply-adds for each number of that image, at most, on one thread: products in bands lose a twentieth, more than the memory
#: takes beside so many; several threads would have to exchange the image.
WORK = 80

#: Bytes of the lines that one line of a depthwise convolution needs, and of this line, at most: a near cache holds them.
WINDOW = 1 << 20

#: Channels to expand by several taps, fewer than: of more, a product may be done tap by tap.
FEW = 32

#: The share of the lines before a depthwise convolution that is computed twice, where the parts of two threads meet, at most.
TWICE = 0.15


class Block(NamedTuple):
    """Steps ``first .. last`` of a program in one call: a product, a depthwise convolution, a product of each pixel.

    Instead of the first two there may be factors for each channel.
    """

    first: int
    last: int
    expansion: Conv | None
    depthwise: Conv | None
    projection: Conv | None

    def calls(self, kernels: Any, reads: Sequence[Sequence[View]], y: View) -> list[Call]:
        """Return the call for what each of the steps reads."""
        x, gate = reads[0][0], None
        of_convs = iter(reads)
        if self.depthwise is None:
            x, gate = sorted(next(of_convs), key=lambda view: -view.size)
        convs = (self.expansion, self.depthwise, self.projection)
        expansion, depthwise, projection = (
            None if conv is None else conv.part(next(of_convs)[0].shape) for conv in convs
        )
        residual = reads[-1][1] if len(reads[-1]) > 1 else None
        return block_calls(kernels, expansion, depthwise, gate, projection, x, residual, y)


def blocks(
    program: Program, shapes: Mapping[int, Shape], met: Sequence[Portion], itemsize: int, apart: Container[int]
) -> dict[int, Block]:
    """Return the blocks of a program, by their last steps.

    `met` are the portions that the steps belong to, `apart` values that have a place of their own or go over bands.
    """
    reads, steps = program.reads(), program.steps
    found: dict[int, Block] = {}

    def together(at: int) -> bool:
        """Whether two steps may go together: nobody else knows what is between them, which is large beside their weights."""
        if not 0 <= at < len(steps) - 1 or met[at] != met[at + 1] or len(steps[at].writes) != 1:
            return False
        (value,) = steps[at].writes
        size = math.prod(shapes[value][1:]) * itemsize
        weights = sum(array.nbytes for step in steps[at : at + 2] for array in constants(step.operation))
        alone = reads[value] == 1 and steps[at + 1].reads[0] == value and value not in apart
        return alone and size >= SMALL and weights <= WEIGHT * size and (get_num_threads() > 1 or is_light(at))

    def is_light(at: int) -> bool:
        """Whether two steps take few multiply-adds for each number between them."""
        work = sum(
            step.operation.multiply_adds(*(shapes[value] for value in step.reads)) for step in steps[at : at + 2]
        )
        return work <= WORK * math.prod(shapes[steps[at].writes[0]])

    last = -1
    for at, step in enumerate(steps):
        gated = _is_gated(step, shapes)
        if not gated and not _is_depthwise(step, shapes, itemsize):
            continue
        before = not gated and at - 1 > last and together(at - 1) and _expands(steps[at - 1], shapes)
        before = before and _once(step, met[at], shapes)
        after = together(at) and _projects(steps[at + 1], shapes) and (gated or len(step.reads) == 1)
        after = after and steps[at + 1].writes[0] not in apart
        if before or after:
            first, last = at - before, at + after
            expansion = steps[first].operation if before else None
            depthwise = None if gated else step.operation
            projection = steps[last].operation if after else None
            found[last] = Block(first, last, expansion, depthwise, projection)  # type: ignore[arg-type]
    return found


def _is_gated(step: Step, shapes: Mapping[int, Shape]) -> bool:
    """Whether a step multiplies an image by a factor for each channel.

    One thread has the image in its cache, and to write it costs nothing there.
    """
    if not isinstance(step.operation, Product) or len(step.reads) != 2 or get_num_threads() == 1:
        return False
    image = shapes[step.writes[0]]
    if len(image) != 4:
        return False
    factors = (image[0], 1, 1, image[-1])
    return image != factors and {shapes[value] for value in step.reads} == {image, factors}


def _is_depthwise(step: Step, shapes: Mapping[int, Shape], itemsize: int) -> bool:
    """Whether a step is a depthwise convolution of images, of whole vectors and lines that are not too long."""
    conv, plan = _planned(step, shapes)
    if conv is None or plan is None or plan.forward.name != "depthwise" or plan.sizes[1] < WHOLE:
        return False
    window = (_window(plan) * math.prod(plan.x_shape[2:]) + math.prod(plan.y_shape[2:])) * itemsize
    return window <= WINDOW and bool(np.isfinite(conv.weight).all())


def _expands(step: Step, shapes: Mapping[int, Shape]) -> bool:
    """Whether a step is a product of one group, of one tap or few channels, and nothing else."""
    _, plan = _planned(step, shapes)
    if plan is None or plan.forward.name != "product" or plan.sizes[3] > 1 or len(step.reads) > 1:
        return False
    return math.prod(plan.weight_shape[:-2]) == 1 or plan.sizes[1] < FEW


def _projects(step: Step, shapes: Mapping[int, Shape]) -> bool:
    """Whether a step multiplies each pixel by a matrix, to whole vectors; it may add a shortcut."""
    conv, plan = _planned(step, shapes)
    if conv is None or plan is None or plan.forward.name != "product":
        return False
    return conv.is_matrix() and plan.sizes[2] >= WHOLE


def _planned(step: Step, shapes: Mapping[int, Shape]) -> tuple[Conv | None, ConvPlan | None]:
    """Return a convolution of images with its plan; None for other steps, and where there is nothing to multiply."""
    conv = step.operation
    if not isinstance(conv, Conv) or len(shapes[step.reads[0]]) != 4:
        return None, None
    plan = conv.plan(shapes[step.reads[0]])
    return (None, None) if plan.empty else (conv, plan)


def _once(step: Step, portion: Portion, shapes: Mapping[int, Shape]) -> bool:
    """Whether threads, each with its part of an image, read few lines that others read too: who reads one computes it."""
    _, plan = _planned(step, shapes)
    assert plan is not None
    batch, lines, *_ = portion.shape(shapes[step.reads[0]])
    axis = Axis(*plan.axes[1].tolist())
    parts = min(-(-get_num_threads() // batch), axis.rows)
    return (parts - 1) * max(_window(plan) - axis.stride, 0) <= TWICE * lines


def _window(plan: ConvPlan) -> int:
    """Return how many lines of the input a line of the output sees."""
    axis = Axis(*plan.axes[1].tolist())
    return (axis.taps - 1) * axis.dilation + 1
