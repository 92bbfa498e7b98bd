"""Elementwise step functions, through which no gradient passes."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from fastconv.layers.base import Backward, Layer
from fastconv.layers.context import Context
from fastconv.layers.symbol import Shape
from fastconv.layers.traits import Traits
from fastconv.registry import layers


def _to_integers(x: np.ndarray) -> float:
    return float(np.abs(x - np.rint(x)).min(initial=1.0))


def _to_halves(x: np.ndarray) -> float:
    return _to_integers(x - 0.5)


class _Step(Layer):
    takes_numbers = True
    function: ClassVar[Any]

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        return self.function(x), lambda dy: (np.zeros_like(dy), {})


@layers.register("Sign")
class Sign(_Step):
    """-1, 0 or 1: the sign of ``x``.

    >>> import numpy as np
    >>> Sign()(np.array([[-2.0, 0.0, 3.0]]))
    array([[-1.,  0.,  1.]])
    """

    function, traits = np.sign, Traits(kinks=(0.0,))


@layers.register("Floor")
class Floor(_Step):
    """The largest integer that is not above ``x``, as a float.

    >>> import numpy as np
    >>> Floor()(np.array([[-1.5, 1.5]]))
    array([[-2.,  1.]])
    """

    function, traits = np.floor, Traits(kinks=_to_integers)


@layers.register("Ceil")
class Ceil(_Step):
    """The smallest integer that is not below ``x``, as a float.

    >>> import numpy as np
    >>> Ceil()(np.array([[-1.5, 1.5]]))
    array([[-1.,  2.]])
    """

    function, traits = np.ceil, Traits(kinks=_to_integers)


@layers.register("Round")
class Round(_Step):
    """The integer nearest to ``x``, as a float; of two the even one.

    >>> import numpy as np
    >>> Round()(np.array([[0.5, 1.5, 1.7]]))
    array([[0., 2., 2.]])
    """

    function, traits = np.rint, Traits(kinks=_to_halves)
