"""Trigonometric and hyperbolic functions, and their inverses."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv.layers.maths import Function
from fastconv.layers.traits import Traits
from fastconv.registry import layers


@layers.register("Sin")
class Sin(Function):
    """``sin(x)``, of radians.

    >>> import numpy as np
    >>> Sin()(np.array([[0.0, np.pi / 2]]))
    array([[0., 1.]])
    """

    def value(self, x: np.ndarray) -> Any:
        return np.sin(x)

    def slope(self, x: np.ndarray, y: np.ndarray) -> Any:
        return np.cos(x)


@layers.register("Cos")
class Cos(Function):
    """``cos(x)``, of radians.

    >>> import numpy as np
    >>> Cos()(np.array([[0.0, np.pi]]))
    array([[ 1., -1.]])
    """

    def value(self, x: np.ndarray) -> Any:
        return np.cos(x)

    def slope(self, x: np.ndarray, y: np.ndarray) -> Any:
        return -np.sin(x)


@layers.register("Tan")
class Tan(Function):
    """``tan(x)``, of radians.

    >>> import numpy as np
    >>> Tan()(np.array([[0.0, np.pi / 4]])).round(6)
    array([[0., 1.]])
    """

    traits = Traits(domain=(-1.2, 1.2))

    def value(self, x: np.ndarray) -> Any:
        return np.tan(x)

    def slope(self, x: np.ndarray, y: np.ndarray) -> Any:
        return 1 + y * y


@layers.register("Arcsin")
class Arcsin(Function):
    """The angle in radians whose sine is x, from -pi / 2 to pi / 2; beyond -1 and 1 NaN.

    >>> import numpy as np
    >>> Arcsin()(np.array([[0.0, 1.0]])).round(3)
    array([[0.   , 1.571]])
    """

    traits = Traits(domain=(-0.8, 0.8))

    def value(self, x: np.ndarray) -> Any:
        return np.arcsin(x)

    def slope(self, x: np.ndarray, y: np.ndarray) -> Any:
        return 1 / np.sqrt(1 - x * x)


@layers.register("Arccos")
class Arccos(Function):
    """The angle in radians whose cosine is x, from 0 to pi; beyond -1 and 1 NaN.

    >>> import numpy as np
    >>> Arccos()(np.array([[0.0, 1.0]])).round(3)
    array([[1.571, 0.   ]])
    """

    traits = Traits(domain=(-0.8, 0.8))

    def value(self, x: np.ndarray) -> Any:
        return np.arccos(x)

    def slope(self, x: np.ndarray, y: np.ndarray) -> Any:
        return -1 / np.sqrt(1 - x * x)


@layers.register("Arctan")
class Arctan(Function):
    """The angle in radians whose tangent is x, between -pi / 2 and pi / 2.

    >>> import numpy as np
    >>> Arctan()(np.array([[0.0, 1.0]])).round(3)
    array([[0.   , 0.785]])
    """

    def value(self, x: np.ndarray) -> Any:
        return np.arctan(x)

    def slope(self, x: np.ndarray, y: np.ndarray) -> Any:
        return 1 / (1 + x * x)


@layers.register("Sinh")
class Sinh(Function):
    """``(exp(x) - exp(-x)) / 2``.

    >>> import numpy as np
    >>> Sinh()(np.array([[0.0, 1.0]])).round(3)
    array([[0.   , 1.175]])
    """

    def value(self, x: np.ndarray) -> Any:
        return np.sinh(x)

    def slope(self, x: np.ndarray, y: np.ndarray) -> Any:
        return np.cosh(x)


@layers.register("Cosh")
class Cosh(Function):
    """``(exp(x) + exp(-x)) / 2``.

    >>> import numpy as np
    >>> Cosh()(np.array([[0.0, 1.0]])).round(3)
    array([[1.   , 1.543]])
    """

    def value(self, x: np.ndarray) -> Any:
        return np.cosh(x)

    def slope(self, x: np.ndarray, y: np.ndarray) -> Any:
        return np.sinh(x)


@layers.register("Arcsinh")
class Arcsinh(Function):
    """The number whose `Sinh` is x.

    >>> import numpy as np
    >>> Arcsinh()(np.array([[0.0, 1.0]])).round(3)
    array([[0.   , 0.881]])
    """

    def value(self, x: np.ndarray) -> Any:
        return np.arcsinh(x)

    def slope(self, x: np.ndarray, y: np.ndarray) -> Any:
        return 1 / np.sqrt(x * x + 1)


@layers.register("Arccosh")
class Arccosh(Function):
    """The number from 0 on whose `Cosh` is x; below 1 NaN.

    >>> import numpy as np
    >>> Arccosh()(np.array([[1.0, 2.0]])).round(3)
    array([[0.   , 1.317]])
    """

    traits = Traits(domain=(1.2, 4.0))

    def value(self, x: np.ndarray) -> Any:
        return np.arccosh(x)

    def slope(self, x: np.ndarray, y: np.ndarray) -> Any:
        return 1 / np.sqrt(x * x - 1)


@layers.register("Arctanh")
class Arctanh(Function):
    """The number whose hyperbolic tangent is x; beyond -1 and 1 NaN.

    >>> import numpy as np
    >>> Arctanh()(np.array([[0.0, 0.5]])).round(3)
    array([[0.   , 0.549]])
    """

    traits = Traits(domain=(-0.8, 0.8))

    def value(self, x: np.ndarray) -> Any:
        return np.arctanh(x)

    def slope(self, x: np.ndarray, y: np.ndarray) -> Any:
        return 1 / (1 - x * x)
