"""NumPy operations that write to the arena: arithmetic with constants, reductions, elementwise functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastconv.frozen.operation import Array, Operation, register
from fastconv.frozen.pooling import AdaptivePool
from fastconv.frozen.unweighted import FEW_ENTRIES, PAIRS, combine, concatenate, require_pair, stretched
from fastconv.functional._along import extremes, sums
from fastconv.functional.calls import Call, View, activated_sum
from fastconv.layers.symbol import Shape

#: Functions of one number.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": np.abs,
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "square": np.square,
    "reciprocal": np.reciprocal,
    "sin": np.sin,
    "cos": np.cos,
}

#: More images than that add a constant all at once, by NumPy: each would be a call of its own.
MOST_IMAGES = 16


@register
@dataclass(frozen=True, eq=False)
class Function(Operation):
    """One of `FUNCTIONS` of each number."""

    how: str

    kind = "function"
    in_place = True

    def output_shape(self, *shapes: Shape) -> Shape:
        if self.how not in FUNCTIONS:
            raise ValueError(f"a function is one of {', '.join(FUNCTIONS)}, got {self.how!r:.80}")
        return shapes[0]

    def calls(self, kernels: Any, reads: Sequence[View], writes: Sequence[View]) -> list[Call]:
        return [Call(self.how, _apply, (FUNCTIONS[self.how], reads[0], writes[0]))] if writes[0].size else []


@register
@dataclass(frozen=True, eq=False)
class With(Operation):
    """One of `unweighted.PAIRS` of the input and a constant of each sample, which is the `first` of the two or the second."""

    how: str
    constant: Array
    first: bool = False

    kind = "with"
    in_place = True

    def output_shape(self, *shapes: Shape) -> Shape:
        require_pair(self.how)
        if not isinstance(self.constant, np.ndarray):
            raise ValueError(f"the constant must be an array, got {self.constant!r:.80}")
        (shape,) = shapes
        return (shape[0], *stretched((1, *shape[1:]), (1, *self.constant.shape))[1:])

    def calls(self, kernels: Any, reads: Sequence[View], writes: Sequence[View]) -> list[Call]:
        x, y = reads[0], writes[0]
        if not y.size:
            return []
        if self.how == "sum" and self.constant.shape == x.shape[1:] and x.shape[0] <= MOST_IMAGES:
            images = range(x.shape[0])
            return [
                call
                for at in images
                for call in activated_sum(kernels, None, _image(x, at), self.constant[None], _image(y, at))  # type: ignore[arg-type]
            ]
        pair = (self.constant[None], x) if self.first else (x, self.constant[None])
        return [Call(self.how, combine, (PAIRS[self.how], *pair, y))]


@register
@dataclass(frozen=True, eq=False)
class Reduce(Operation):
    """The "mean", "sum", "max", "min" or "l2" along axes that are not the batch, which disappear unless `keepdims`."""

    how: str
    axes: tuple[int, ...]
    keepdims: bool = False

    kind = "reduce"

    def output_shape(self, *shapes: Shape) -> Shape:
        shape = shapes[0]
        if self.how not in _REDUCTIONS or not self.axes or not all(0 < axis < len(shape) for axis in self.axes):
            raise ValueError(f"there is no {self.how!r:.80} along axes {self.axes} of x of shape {shape}")
        kept = [1 if axis in self.axes else n for axis, n in enumerate(shape)]
        return tuple(n for axis, n in enumerate(kept) if self.keepdims or axis not in self.axes)

    def calls(self, kernels: Any, reads: Sequence[View], writes: Sequence[View]) -> list[Call]:
        x, y = reads[0], writes[0]
        if not y.size:
            return []
        first, end = min(self.axes), max(self.axes) + 1
        together = len(set(self.axes)) == end - first and end < len(x.shape)
        if self.how in ("mean", "max") and together and x.size:  # rows of an image that is one line
            rows, inner = math.prod(x.shape[:first]), math.prod(x.shape[end:])
            pooling = AdaptivePool("avg" if self.how == "mean" else "max", ())
            line = x.reshape(rows, math.prod(x.shape[first:end]), inner)
            return pooling.calls(kernels, [line], [y.reshape(rows, inner)])
        entries = x.shape[-1]
        if set(self.axes) == {len(x.shape) - 1} and self.how in _PAIRS and 0 < entries <= FEW_ENTRIES:
            return [Call(self.how, _of_few, (*_PAIRS[self.how], x, y.reshape(*x.shape[:-1])))]
        return [Call(self.how, _reduced, (_REDUCTIONS[self.how], x, tuple(set(self.axes)), y))]


@register
@dataclass(frozen=True, eq=False)
class Stretch(Operation):
    """Axes of size 1 repeated until a sample has this shape; 1 leaves an axis as it is."""

    shape: tuple[int, ...]

    kind = "stretch"

    def output_shape(self, *shapes: Shape) -> Shape:
        return (shapes[0][0], *stretched((1, *shapes[0][1:]), (1, *self.shape))[1:])

    def is_view(self, *shapes: Shape) -> bool:
        return self.output_shape(*shapes) == shapes[0]

    def calls(self, kernels: Any, reads: Sequence[View], writes: Sequence[View]) -> list[Call]:
        return [Call("stretch", np.copyto, (writes[0], reads[0]))]


@register
@dataclass(frozen=True, eq=False)
class ConcatWith(Operation):
    """The inputs side by side along an axis, with constants, the same for every sample, between them; None are the inputs."""

    axis: int
    parts: tuple[Array | None, ...]

    kind = "concat_with"

    def output_shape(self, *shapes: Shape) -> Shape:
        rank, free = len(shapes[0]), list(shapes)
        if sum(part is None for part in self.parts) != len(shapes) or not 0 < self.axis < rank:
            raise ValueError(f"{len(shapes)} inputs are not joined along axis {self.axis} with {len(self.parts)} parts")
        every = [free.pop(0) if part is None else (shapes[0][0], *part.shape) for part in self.parts]
        if len({(*shape[: self.axis], *shape[self.axis + 1 :], len(shape)) for shape in every}) > 1:
            raise ValueError(f"the inputs must have one shape except along axis {self.axis}, got {every}")
        total = sum(shape[self.axis] for shape in every)
        return (*every[0][: self.axis], total, *every[0][self.axis + 1 :])

    def calls(self, kernels: Any, reads: Sequence[View], writes: Sequence[View]) -> list[Call]:
        y, free = writes[0], list(reads)
        batch = y.shape[:1]
        parts = [free.pop(0) if part is None else np.broadcast_to(part, batch + part.shape) for part in self.parts]
        return [Call("concat", concatenate, (self.axis, y, *parts))] if y.size else []


def _image(x: View, at: int) -> View:
    return x._replace(shape=(1, *x.shape[1:]), start=x.start + at * math.prod(x.shape[1:]))


def _apply(function: Callable[..., Any], x: Array, y: Array) -> None:
    with np.errstate(all="ignore"):
        function(x, out=y)


def _reduced(function: Callable[[Array, tuple[int, ...]], Array], x: Array, axes: tuple[int, ...], y: Array) -> None:
    with np.errstate(all="ignore"):
        y[...] = function(x, axes).reshape(y.shape)


def _of_few(function: np.ufunc, mean: bool, x: Array, y: Array) -> None:
    """Reduce the last axis entry by entry."""
    with np.errstate(all="ignore"):
        np.copyto(y, x[..., 0])
        for entry in range(1, x.shape[-1]):
            function(y, x[..., entry], out=y)
        if mean:
            y /= x.shape[-1]


#: How two numbers become one, and whether what comes of all is divided by how many there are.
_PAIRS: dict[str, tuple[np.ufunc, bool]] = {
    "mean": (np.add, True),
    "sum": (np.add, False),
    "max": (np.maximum, False),
    "min": (np.minimum, False),
}

_REDUCTIONS: dict[str, Callable[[Array, tuple[int, ...]], Array]] = {
    "mean": lambda x, axes: sums(x, axes) / math.prod(x.shape[axis] for axis in axes),
    "sum": sums,
    "max": lambda x, axes: extremes(np.maximum, x, axes, -np.inf),
    "min": lambda x, axes: extremes(np.minimum, x, axes, np.inf),
    "l2": lambda x, axes: np.sqrt(sums(np.square(x), axes)),
}
