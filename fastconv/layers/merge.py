"""Layers with several inputs: where the branches of a model come together."""

from __future__ import annotations

import numpy as np

from fastconv.functional._channels import is_gate, joined, multiplied, pixel_sums
from fastconv.functional._sum import added
from fastconv.layers.base import Backward, Layer
from fastconv.layers.checks import with_batch
from fastconv.layers.context import Context
from fastconv.layers.symbol import Shape
from fastconv.layers.traits import Traits
from fastconv.registry import layers


class Broadcast(Layer):
    """Arrays of equal rank, combined elementwise; axes of size 1 are broadcast, except the batch."""

    takes_numbers = True

    def output_shape(self, *shapes: Shape) -> Shape:
        _require_inputs(shapes)
        ranks = {len(shape) for shape in shapes}
        sizes = [{n for n in axis if n != 1} for axis in zip(*shapes, strict=len(ranks) == 1)]
        if len(ranks) > 1 or any(len(axis) > 1 for axis in sizes):
            raise ValueError(f"the inputs must have one shape (an axis of size 1 stretches), got {_listed(shapes)}")
        return tuple(axis.pop() if axis else 1 for axis in sizes)

    def check(self, xs: tuple[np.ndarray, ...]) -> None:
        """Raise `ValueError` or `TypeError` unless the inputs fit, and have one dtype."""
        Broadcast.output_shape(self, *(x.shape[1:] for x in xs))
        _require_alike(xs)


@layers.register("Add")
class Add(Broadcast):
    """The sum of the inputs, the end of a residual block: ``Add()(x, y)``.

    Every input is ``(N, ..., C)``; axes of size 1 (not the batch) are broadcast.

    >>> import numpy as np
    >>> Add()(np.array([[1.0, 2.0]]), np.array([[10.0, 20.0]]))
    array([[11., 22.]])
    """

    traits = Traits(linear=True)

    def forward(self, ctx: Context, *xs: np.ndarray) -> tuple[np.ndarray, Backward]:
        self.check(xs)
        y = added(xs[0], xs[1]) if len(xs) > 1 else xs[0].copy()
        for x in xs[2:]:
            y = added(y, x)
        shapes = [x.shape for x in xs]
        return y, lambda dy: (per_input([unstretched(dy, shape) for shape in shapes]), {})


@layers.register("Multiply")
class Multiply(Broadcast):
    """The product of the inputs, as where a gate ``(N, 1, 1, C)`` weighs the channels of an image ``(N, H, W, C)``.

    Every input is ``(N, ..., C)``; axes of size 1 (not the batch) are broadcast.

    >>> import numpy as np
    >>> Multiply()(np.ones((1, 2, 2, 3)), np.full((1, 1, 1, 3), 5.0)).sum()
    np.float64(60.0)
    """

    def forward(self, ctx: Context, *xs: np.ndarray) -> tuple[np.ndarray, Backward]:
        self.check(xs)
        y = multiplied(xs[0], xs[1]) if len(xs) > 1 else xs[0].copy()
        for x in xs[2:]:
            y = multiplied(y, x)

        def backward(dy: np.ndarray) -> tuple[np.ndarray | tuple[np.ndarray, ...], dict[str, np.ndarray]]:
            gradients = []
            for i, x in enumerate(xs):
                gradient = dy
                for other in (*xs[:i], *xs[i + 1 :]):  # no division by x, which may be 0
                    gradient = multiplied(gradient, other)
                gradients.append(unstretched(gradient, x.shape))
            return per_input(gradients), {}

        return y, backward


@layers.register("Concat")
class Concat(Layer):
    """The inputs side by side along one axis, by default the channels.

    ``(N, ..., C1)`` and ``(N, ..., C2)`` become ``(N, ..., C1 + C2)``. `axis` counts as in the arrays, where
    0 is the batch and cannot be joined.

    >>> import numpy as np
    >>> Concat()(np.zeros((1, 8, 8, 3)), np.zeros((1, 8, 8, 5))).shape
    (1, 8, 8, 8)
    """

    traits = Traits(linear=True)

    def __init__(self, axis: int = -1) -> None:
        if isinstance(axis, bool) or not isinstance(axis, (int, np.integer)):
            raise TypeError(f"axis must be an integer, got {axis!r}")
        if axis == 0:
            raise ValueError("axis must not be 0, the batch")
        self.axis = int(axis)

    def output_shape(self, *shapes: Shape) -> Shape:
        _require_inputs(shapes)
        rank = len(shapes[0]) + 1
        axis = self.axis % rank if -rank <= self.axis < rank else 0
        if axis == 0:
            raise ValueError(f"axis {self.axis} is not one of the inputs' after the batch: they have {rank} axes")
        at = axis - 1  # in shapes without the batch
        if len({(len(shape), shape[:at], shape[at + 1 :]) for shape in shapes}) > 1:
            raise ValueError(f"the inputs must have one shape except along axis {self.axis}, got {_listed(shapes)}")
        return (*shapes[0][:at], sum(shape[at] for shape in shapes), *shapes[0][at + 1 :])

    def forward(self, ctx: Context, *xs: np.ndarray) -> tuple[np.ndarray, Backward]:
        self.output_shape(*(x.shape[1:] for x in xs))
        _require_alike(xs)
        borders = np.cumsum([x.shape[self.axis] for x in xs])[:-1]
        return (
            joined(xs) if self.axis in (-1, xs[0].ndim - 1) else np.concatenate(xs, axis=self.axis),
            lambda dy: (per_input(np.split(dy, borders, axis=self.axis)), {}),
        )


def _require_inputs(shapes: tuple[Shape, ...]) -> None:
    if not shapes:
        raise ValueError("there must be at least one input, as in Add()(a, b); got none")


def _require_alike(xs: tuple[np.ndarray, ...]) -> None:
    if len({len(x) for x in xs}) > 1:
        raise ValueError(f"the inputs must have one batch size, got shapes {', '.join(str(x.shape) for x in xs)}")
    if len({x.dtype for x in xs}) > 1:
        raise TypeError(f"the inputs must have one dtype, got {' and '.join(str(x.dtype) for x in xs)}")


def unstretched(dy: np.ndarray, shape: Shape) -> np.ndarray:
    """Return the gradient of an array of `shape` that was stretched to that of `dy`: the sum over stretched axes."""
    if is_gate(shape, dy.shape) and shape[-1] == dy.shape[-1] > 1:
        return pixel_sums(dy)
    axes = tuple(axis for axis, (n, wanted) in enumerate(zip(dy.shape, shape, strict=True)) if n != wanted)
    return dy.sum(axis=axes, keepdims=True) if axes else dy


def per_input(gradients: list[np.ndarray]) -> np.ndarray | tuple[np.ndarray, ...]:
    """Return the gradients of several inputs as a backward pass does: one by itself, else a tuple."""
    return tuple(gradients) if len(gradients) > 1 else gradients[0]


def _listed(shapes: tuple[Shape, ...]) -> str:
    return " and ".join(map(with_batch, shapes))
