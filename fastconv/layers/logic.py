"""Layers of booleans: numbers count as true if they are not 0, and no gradient passes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastconv.layers.base import Backward, Layer
from fastconv.layers.checks import require_numbers
from fastconv.layers.context import Context
from fastconv.layers.merge import Broadcast
from fastconv.layers.symbol import Shape
from fastconv.layers.traits import Traits
from fastconv.registry import layers

_LOGIC = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}


@layers.register("Not")
class Not(Layer):
    """The opposite of booleans; numbers count as true where they are not 0, and no gradient passes.

    >>> import numpy as np
    >>> Not()(np.array([[True, False]]))
    array([[False,  True]])
    """

    takes_numbers = True

    traits = Traits(integers=True, discrete=True)

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        require_numbers(x)
        return x == 0, lambda dy: (np.zeros_like(x) if x.dtype.kind == "f" else None, {})


@layers.register("Logic")
class Logic(Broadcast):
    """``a`` "and", "or" or "xor" ``b``, as booleans; axes of size 1 (not the batch) are broadcast.

    >>> import numpy as np
    >>> Logic("and")(np.array([[True, True]]), np.array([[True, False]]))
    array([[ True, False]])
    """

    traits = Traits(integers=True, discrete=True, kinks=(0.0,))

    def __init__(self, relation: str) -> None:
        if not isinstance(relation, str) or relation not in _LOGIC:
            raise ValueError(f"relation must be one of {', '.join(_LOGIC)}, got {relation!r}")
        self.relation = relation

    @classmethod
    def examples(cls) -> Sequence[Layer]:
        return [cls(relation) for relation in _LOGIC]

    def output_shape(self, *shapes: Shape) -> Shape:
        if len(shapes) != 2:
            raise ValueError(f"Logic takes two inputs, got {len(shapes)}")
        return super().output_shape(*shapes)

    def forward(self, ctx: Context, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, Backward]:
        self.output_shape(a.shape[1:], b.shape[1:])
        require_numbers(a, b)
        if len(a) != len(b):
            raise ValueError(f"the inputs must have one batch size, got {len(a)} and {len(b)}")
        nothing = tuple(np.zeros_like(x) if x.dtype.kind == "f" else None for x in (a, b))
        return _LOGIC[self.relation](a != 0, b != 0), lambda dy: (nothing, {})
