"""Linear branches with one input whose sum is one convolution, as in networks that are reparametrized for inference.

A kernel of 3 x 3 taps, one of a single tap and a normalization of the input beside each other are a kernel of 3 x 3 taps
(Ding et al., RepVGG: Making VGG-style ConvNets great again, 2021, section 3.3). So are a depthwise convolution and its input,
which is one more tap; with the products of other convolutions a shortcut takes no time to speak of, and rounds less.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastconv.arguments import ntuple
from fastconv.frozen.operation import Operation
from fastconv.frozen.program import Program, Step
from fastconv.frozen.unweighted import Scale, Sum
from fastconv.frozen.weighted import Conv
from fastconv.layers.symbol import Shape


class _Axis(NamedTuple):
    """The taps along an axis: tap ``r`` of output ``p`` meets pixel ``p * stride - before + r * dilation``."""

    taps: int
    dilation: int
    before: int
    after: int

    def place_of(self, other: _Axis) -> slice | None:
        """Return which taps are those of another kernel, None unless all are, for images of any size."""
        first, rest = divmod(self.before - other.before, self.dilation)
        if rest or self.surplus != other.surplus:
            return None
        if other.taps > 1 and other.dilation != self.dilation:
            return None
        return slice(first, first + other.taps) if 0 <= first <= self.taps - other.taps else None

    @property
    def surplus(self) -> int:
        """How many more outputs there are than pixels, with stride 1."""
        return self.before + self.after - (self.taps - 1) * self.dilation


def merge_branches(program: Program) -> Program:
    """Make one convolution of two of one input that are added, of one and a scale, or of a depthwise one and its input."""
    if not program.has(Sum):
        return program
    shapes, reads, makers = program.example_shapes(), program.reads(), program.makers()
    steps: dict[int, Step] = dict(enumerate(program.steps))
    for at, step in enumerate(program.steps):
        if not isinstance(step.operation, Sum) or step.operation.activation is not None or len(set(step.reads)) != 2:
            continue
        places = [makers[value] for value in step.reads if value in makers and reads[value] == 1]
        made = [steps[place] for place in places]
        if not made or {each.reads for each in made} != {made[0].reads[:1]}:
            continue
        x, operations = made[0].reads[0], [each.operation for each in made]
        if len(made) == 1 and x in step.reads and _is_depthwise(operations[0], shapes[x]):
            operations.append(_unchanged(shapes[x], program.dtype))
        if len(operations) != 2 or len({shapes[value] for value in step.reads}) != 1:
            continue
        merged = _merged(operations[0], operations[1], shapes[x])
        if merged is not None:
            steps[at] = Step(
                merged, (x,), step.writes, (*(layer for each in made for layer in each.layers), *step.layers)
            )
            for place in places:
                del steps[place]
    return program.with_steps([steps[at] for at in sorted(steps)])


def _is_depthwise(operation: Operation, shape: Shape) -> bool:
    return isinstance(operation, Conv) and operation.groups == operation.weight.shape[-1] == shape[-1]


def _unchanged(shape: Shape, dtype: np.dtype[Any]) -> Scale:
    return Scale(np.ones(shape[-1], dtype), np.zeros(shape[-1], dtype))


def _merged(one: Operation, other: Operation, shape: Shape) -> Conv | None:
    """Return the convolution that is the sum of both for an image of `shape`, None where there is none."""
    if not isinstance(one, Conv) or (isinstance(other, Conv) and other.weight.size > one.weight.size):
        one, other = other, one
    if not isinstance(one, Conv) or one.activation is not None or one.parts != 1:
        return None
    second = _as_convolution(other, one, shape) if isinstance(other, Scale) else other
    return _sum(one, second, shape) if isinstance(second, Conv) else None


def _as_convolution(scale: Scale, like: Conv, shape: Shape) -> Conv | None:
    """Return a scale of each channel as a convolution of one tap, in the groups of another one."""
    channels = shape[-1]
    if scale.activation is not None or len(scale.factor) != channels or like.weight.shape[-1] != channels:
        return None
    group = channels // like.groups
    weight = np.zeros((*(1,) * (len(shape) - 2), group, channels), like.weight.dtype)
    weight[..., np.arange(channels) % group, np.arange(channels)] = scale.factor
    return Conv(weight, scale.shift, groups=like.groups)


def _sum(one: Conv, other: Conv, shape: Shape) -> Conv | None:
    rank = len(shape) - 2
    strides = [ntuple(each.stride, rank, "stride") for each in (one, other)]
    if strides[0] != strides[1] or one.groups != other.groups or other.activation is not None or other.parts != 1:
        return None
    if max(strides[0]) > 1 and "same" in (one.padding, other.padding):  # then the padding depends on the size
        return None
    taps = [large.place_of(small) for large, small in zip(_axes(one, shape), _axes(other, shape), strict=True)]
    if None in taps:
        return None
    weight = one.weight.astype(np.float64)
    weight[tuple(taps)] += other.weight
    biases = [np.float64(0) if each.bias is None else each.bias.astype(np.float64) for each in (one, other)]
    return one._of(weight, np.zeros(weight.shape[-1]) + biases[0] + biases[1])


def _axes(conv: Conv, shape: Shape) -> list[_Axis]:
    rank = len(shape) - 2
    dilation = ntuple(conv.dilation, rank, "dilation")
    pairs = conv.pairs(shape)
    return [_Axis(conv.weight.shape[i], dilation[i], *pairs[i]) for i in range(rank)]
