"""A layer that the compiler does not know: it runs as it is."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv.frozen.operation import Array, Operation
from fastconv.layers.base import Layer
from fastconv.layers.calls import run, shape_of
from fastconv.layers.context import Context
from fastconv.layers.symbol import Shape, several


class Foreign(Operation):
    """A layer in evaluation. It makes its outputs itself, of whatever dtype; `shapes` are what it was built for, no batch."""

    kind = "layer"

    def __init__(self, layer: Layer, shapes: Sequence[Shape]) -> None:
        self.layer = layer
        self.shapes = [tuple(shape) for shape in shapes]
        self._context: Context | None = None  # not sooner: importing numpy.random takes time, and most are compiled

    def output_shape(self, *shapes: Shape) -> Any:
        batch = shapes[0][:1] if shapes else ()
        made = shape_of(self.layer, [shape[1:] for shape in shapes])
        return [(*batch, *shape) for shape in made] if several(made) else (*batch, *made)

    def multiply_adds(self, *shapes: Shape) -> int:
        batch = shapes[0][0] if shapes else 1
        return batch * self.layer.multiply_adds(*(shape[1:] for shape in shapes))

    def run(self, *xs: Array) -> tuple[Array, ...]:
        """Return the outputs for the inputs `xs`."""
        if self._context is None:
            self._context = Context(False, np.random.default_rng(0), input_grad=False, inference=True)
        y = run(self.layer, self._context, xs)[0]
        return y if isinstance(y, tuple) else (y,)


def snapshot(layer: Layer) -> Layer:
    """Return a copy that further training of the model does not change; the layer itself where it cannot be copied."""
    try:
        return copy.deepcopy(layer)
    except Exception:  # a layer of somebody else may hold what has no copy, a lock or a handle
        return layer
