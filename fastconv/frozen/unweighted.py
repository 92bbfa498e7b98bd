"""Operations without weights: elementwise arithmetic, concatenation, reshapes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastconv.frozen.moves import MOVE
from fastconv.frozen.operation import Array, Operation, of_channels, register, require_channels, require_slope
from fastconv.functional._norm_arguments import COST
from fastconv.functional.calls import Activation, Call, View, activate, activated_sum
from fastconv.layers.symbol import Shape

#: Functions of two numbers.
PAIRS: dict[str, np.ufunc] = {
    "sum": np.add,
    "difference": np.subtract,
    "product": np.multiply,
    "quotient": np.divide,
    "power": np.power,
    "larger": np.maximum,
    "smaller": np.minimum,
}

#: Along a last axis of so few entries arrays are combined entry by entry: for each of many rows of few NumPy would take longer.
FEW_ENTRIES = 8


@register
@dataclass(frozen=True, eq=False)
class Identity(Operation):
    """The input itself."""

    kind = "identity"

    def is_view(self, *shapes: Shape) -> bool:
        return True

    def output_shape(self, *shapes: Shape) -> Shape:
        return shapes[0]


@register
@dataclass(frozen=True, eq=False)
class Reshape(Operation):
    """The same numbers of a sample in another shape; one entry may be -1."""

    shape: tuple[int, ...]

    kind = "reshape"

    def is_view(self, *shapes: Shape) -> bool:
        return True

    def output_shape(self, *shapes: Shape) -> Shape:
        batch, *rest = shapes[0]
        total, known = math.prod(rest), math.prod(n for n in self.shape if n != -1)
        if known < 1 or self.shape.count(-1) > 1 or total % known or (-1 not in self.shape and total != known):
            raise ValueError(f"an input of shape {shapes[0]} cannot be reshaped to (N, {self.shape})")
        return (batch, *(total // known if n == -1 else n for n in self.shape))


@register
@dataclass(frozen=True, eq=False)
class Squeeze(Operation):
    """The same numbers without axes of one."""

    axes: tuple[int, ...]

    kind = "squeeze"

    def is_view(self, *shapes: Shape) -> bool:
        return True

    def output_shape(self, *shapes: Shape) -> Shape:
        shape = shapes[0]
        if not all(0 < axis < len(shape) and shape[axis] == 1 for axis in self.axes):
            raise ValueError(f"only axes of size 1 can go, and not the batch, got shape {shape} with axes {self.axes}")
        return tuple(n for axis, n in enumerate(shape) if axis not in self.axes)


@register
@dataclass(frozen=True, eq=False)
class Unsqueeze(Operation):
    """The same numbers with new axes of one at these places of the output."""

    axes: tuple[int, ...]

    kind = "unsqueeze"

    def is_view(self, *shapes: Shape) -> bool:
        return True

    def output_shape(self, *shapes: Shape) -> Shape:
        rank, sizes = len(shapes[0]) + len(self.axes), iter(shapes[0])
        if len(set(self.axes)) < len(self.axes) or not all(0 < axis < rank for axis in self.axes):
            raise ValueError(f"axes must be different places after the batch, got {self.axes} for shape {shapes[0]}")
        return tuple(1 if axis in self.axes else next(sizes) for axis in range(rank))


@register
@dataclass(frozen=True, eq=False)
class Activate(Operation):
    """A function of each number."""

    activation: Activation

    kind = "activate"
    in_place = True

    def output_shape(self, *shapes: Shape) -> Shape:
        require_slope(self.activation, shapes[0][-1])
        return shapes[0]

    def calls(self, kernels: Any, reads: Sequence[View], writes: Sequence[View]) -> list[Call]:
        return activate(kernels, self.activation, reads[0], writes[0])


@register
@dataclass(frozen=True, eq=False)
class Scale(Operation):
    """``f(x * factor + shift + shortcut)``, a factor and a shift for each channel; the shortcut is a second input.

    Where all channels have the same, there may be any number of them: the last axis of an array may be of any length.
    """

    factor: Array
    shift: Array
    activation: Activation | None = None

    kind = "scale"

    def output_shape(self, *shapes: Shape) -> Shape:
        factor, shift = of_channels(shapes[0][-1], self.factor, self.shift)
        require_channels(factor, shapes[0][-1], "factor")
        require_channels(shift, shapes[0][-1], "shift")
        require_slope(self.activation, shapes[0][-1])
        if len(shapes) > 2 or (len(shapes) == 2 and shapes[1] != shapes[0]):
            raise ValueError(f"a shortcut must have the shape of x, {shapes[0]}, got {shapes[1:]}")
        return shapes[0]

    def reads_channels(self, *shapes: Shape) -> bool:
        return len(shapes) == 1

    def calls(self, kernels: Any, reads: Sequence[View], writes: Sequence[View]) -> list[Call]:
        x, y = reads[0], writes[0]
        if not y.size:
            return []
        factor, shift = of_channels(y.shape[-1], self.factor, self.shift)
        residual = reads[1] if len(reads) > 1 else None
        relu = self.activation is not None and self.activation.name == "relu"
        end = [] if self.activation is None or relu else activate(kernels, self.activation, y, y)
        if x.width:
            arguments: tuple[Any, ...] = (x, x.first, factor, shift, y, y.shape[-1], relu)
            return [Call("scale", kernels.scale_columns, arguments, MOVE * y.size), *end]
        # what normalizes by mean 0 and variance 1
        statistics = np.zeros_like(factor), np.ones_like(factor)
        arguments = (x, factor, shift, residual, y, *statistics, True, relu, 1, x.shape[-1], 0.0)
        return [Call("scale", kernels.norm_forward, arguments, COST * y.size), *end]


@register
@dataclass(frozen=True, eq=False)
class Sum(Operation):
    """``f(a + b)``; an axis of size 1 stretches."""

    activation: Activation | None = None

    kind = "sum"
    in_place = True

    def output_shape(self, *shapes: Shape) -> Shape:
        if len(shapes) != 2:
            raise ValueError(f"a sum takes two inputs, got {len(shapes)}")
        shape = stretched(*shapes)
        require_slope(self.activation, shape[-1])
        return shape

    def calls(self, kernels: Any, reads: Sequence[View], writes: Sequence[View]) -> list[Call]:
        a, b, y = *reads, writes[0]
        if a.shape == b.shape:
            return activated_sum(kernels, self.activation, a, b, y)
        calls = [Call("add", np.add, (a, b, y))] if y.size else []
        return calls if self.activation is None else calls + activate(kernels, self.activation, y, y)


@register
@dataclass(frozen=True, eq=False)
class Product(Operation):
    """The product of the inputs; an axis of size 1 stretches."""

    kind = "product"
    in_place = True

    def output_shape(self, *shapes: Shape) -> Shape:
        return stretched(*shapes)

    def calls(self, kernels: Any, reads: Sequence[View], writes: Sequence[View]) -> list[Call]:
        y = writes[0]
        if not y.size:
            return []
        calls = [_multiplied(kernels, reads[0], reads[1], y)]
        return calls + [Call("multiply", np.multiply, (y, other, y)) for other in reads[2:]]


@register
@dataclass(frozen=True, eq=False)
class Pair(Operation):
    """One of `PAIRS` of two inputs; an axis of size 1 stretches."""

    how: str

    kind = "pair"
    in_place = True

    def output_shape(self, *shapes: Shape) -> Shape:
        require_pair(self.how)
        if len(shapes) != 2:
            raise ValueError(f"a pair takes two inputs, got {len(shapes)}")
        return stretched(*shapes)

    def calls(self, kernels: Any, reads: Sequence[View], writes: Sequence[View]) -> list[Call]:
        return [Call(self.how, combine, (PAIRS[self.how], *reads, writes[0]))] if writes[0].size else []


@register
@dataclass(frozen=True, eq=False)
class Concat(Operation):
    """The inputs side by side along an axis, which counts the batch and is not it."""

    axis: int

    kind = "concat"

    def output_shape(self, *shapes: Shape) -> Shape:
        rank = len(shapes[0])
        axis = self.axis % rank
        rest = {(len(shape), shape[:axis], shape[axis + 1 :]) for shape in shapes}
        if axis == 0 or len(rest) > 1:
            raise ValueError(f"the inputs must have one shape except along axis {self.axis}, got {_listed(shapes)}")
        return (*shapes[0][:axis], sum(shape[axis] for shape in shapes), *shapes[0][axis + 1 :])

    def joins_channels(self, *shapes: Shape) -> bool:
        """Return whether it is along the channels."""
        return self.axis % len(shapes[0]) == len(shapes[0]) - 1

    def writes_channels(self, *shapes: Shape) -> bool:
        return self.joins_channels(*shapes)

    def calls(self, kernels: Any, reads: Sequence[View], writes: Sequence[View]) -> list[Call]:
        y = writes[0]
        if not y.size:
            return []
        if not self.joins_channels(y.shape):
            return [Call("concat", concatenate, (self.axis, y, *reads))]
        firsts = itertools.accumulate((x.shape[-1] for x in reads), initial=y.first)
        rows = y.size // y.shape[-1]
        # what has a width is there already: whoever made it wrote it to its place
        parts = [(x, first) for x, first in zip(reads, firsts, strict=False) if x.size and not x.width]
        return [
            Call("concat", kernels.copy_columns, (x, 0, y, first, rows, x.shape[-1]), MOVE * x.size)
            for x, first in parts
        ]


@register
@dataclass(frozen=True, eq=False)
class Pad(Operation):
    """Zeros around the image, pairs (before, after) for each spatial axis."""

    pairs: tuple[tuple[int, int], ...]

    kind = "pad"

    def output_shape(self, *shapes: Shape) -> Shape:
        shape = shapes[0]
        if len(self.pairs) != len(shape) - 2 or any(n < 0 for pair in self.pairs for n in pair):
            raise ValueError(f"padding {self.pairs} does not fit x of shape {shape}")
        sizes = (n + before + after for n, (before, after) in zip(shape[1:-1], self.pairs, strict=True))
        return (shape[0], *sizes, shape[-1])

    def calls(self, kernels: Any, reads: Sequence[View], writes: Sequence[View]) -> list[Call]:
        x, y = reads[0], writes[0]
        inside = (slice(None), *(slice(a, a + n) for n, (a, _) in zip(x.shape[1:-1], self.pairs, strict=True)))
        return [Call("pad", _pad, (x, y, inside))]


def require_pair(how: str) -> None:
    """Raise `ValueError` for what is not a function of two numbers."""
    if how not in PAIRS:
        raise ValueError(f"a function of two numbers is one of {', '.join(PAIRS)}, got {how!r:.80}")


def stretched(*shapes: Shape) -> Shape:
    """Return the shape of arrays combined elementwise, where axes of size 1 (not the batch) are broadcast."""
    alike = len({len(shape) for shape in shapes}) == 1 and len({shape[0] for shape in shapes}) == 1
    sizes = [{n for n in axis if n != 1} for axis in zip(*shapes, strict=False)]
    if not alike or any(len(axis) > 1 for axis in sizes):
        raise ValueError(f"the inputs must have one shape (an axis of size 1 stretches), got {_listed(shapes)}")
    return tuple(axis.pop() if axis else 1 for axis in sizes)


def _multiplied(kernels: Any, a: View, b: View, y: View) -> Call:
    """Return the call for ``y = a * b``; by all threads where one of them has a factor for each channel of each image."""
    for x, gate in ((a, b), (b, a)):
        # factors of one shape are multiplied number by number: y may lie in either of them
        per_channel = gate.shape == (y.shape[0], *(1,) * (len(y.shape) - 2), y.shape[-1])
        if x.shape == y.shape != gate.shape and per_channel:
            return Call("scale", kernels.scale_columns, (x, 0, gate, None, y, y.shape[-1], False), MOVE * y.size)
    few = a.shape != b.shape and 1 < y.shape[-1] <= FEW_ENTRIES
    return Call("multiply", _multiply_few if few else np.multiply, (a, b, y))


def _multiply_few(a: Array, b: Array, y: Array) -> None:
    for entry in range(y.shape[-1]):
        of_a, of_b = (x[..., min(entry, x.shape[-1] - 1)] for x in (a, b))
        np.multiply(of_a, of_b, out=y[..., entry])


def combine(function: np.ufunc, a: Array, b: Array, y: Array) -> None:
    """Write a function of two arrays to y."""
    with np.errstate(all="ignore"):
        function(a, b, out=y)


def concatenate(axis: int, y: Array, *parts: Array) -> None:
    """Write arrays side by side along an axis to y."""
    np.concatenate(parts, axis=axis, out=y)


def _pad(x: Array, y: Array, inside: tuple[slice, ...]) -> None:
    y[...] = 0
    y[inside] = x


def _listed(shapes: Sequence[Shape]) -> str:
    return " and ".join(map(str, shapes))
