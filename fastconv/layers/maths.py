"""Elementwise functions that are not classic activations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastconv import functional as F
from fastconv.functional._validate import FLOATS
from fastconv.functional.activation import clip, mish
from fastconv.layers.base import Backward, Layer
from fastconv.layers.checks import number
from fastconv.layers.context import Context
from fastconv.layers.symbol import Shape
from fastconv.layers.traits import Traits
from fastconv.registry import layers


class Function(Layer):
    """y = value(x) for each number; `slope` is the derivative, from x and y."""

    takes_numbers = True

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def value(self, x: np.ndarray) -> Any:
        raise NotImplementedError

    def slope(self, x: np.ndarray, y: np.ndarray) -> Any:
        raise NotImplementedError

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        with np.errstate(all="ignore"):  # a logarithm of 0 is -inf, as in NumPy, and no warning
            y = np.asarray(self.value(x), x.dtype)

        def backward(dy: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
            with np.errstate(all="ignore"):
                return np.asarray(dy * self.slope(x, y), x.dtype), {}

        return y, backward


@layers.register("Abs")
class Abs(Function):
    """``|x|``.

    >>> import numpy as np
    >>> Abs()(np.array([[-2.0, 3.0]]))
    array([[2., 3.]])
    """

    traits = Traits(kinks=(0.0,))

    def value(self, x: np.ndarray) -> Any:
        return np.abs(x)

    def slope(self, x: np.ndarray, y: np.ndarray) -> Any:
        return np.sign(x)


@layers.register("Exp")
class Exp(Function):
    """``exp(x)``.

    >>> import numpy as np
    >>> Exp()(np.zeros((1, 2)))
    array([[1., 1.]])
    """

    def value(self, x: np.ndarray) -> Any:
        return np.exp(x)

    def slope(self, x: np.ndarray, y: np.ndarray) -> Any:
        return y


@layers.register("Log")
class Log(Function):
    """The natural logarithm; of 0 it is -inf, of negative numbers NaN.

    >>> import numpy as np
    >>> Log()(np.ones((1, 2)))
    array([[0., 0.]])
    """

    traits = Traits(domain=(0.2, 4.0))

    def value(self, x: np.ndarray) -> Any:
        return np.log(x)

    def slope(self, x: np.ndarray, y: np.ndarray) -> Any:
        return 1 / x


@layers.register("Sqrt")
class Sqrt(Function):
    """The square root; of negative numbers NaN.

    >>> import numpy as np
    >>> Sqrt()(np.array([[4.0, 9.0]]))
    array([[2., 3.]])
    """

    traits = Traits(domain=(0.2, 4.0))

    def value(self, x: np.ndarray) -> Any:
        return np.sqrt(x)

    def slope(self, x: np.ndarray, y: np.ndarray) -> Any:
        return 0.5 / y


@layers.register("Square")
class Square(Function):
    """``x * x``.

    >>> import numpy as np
    >>> Square()(np.array([[2.0, -3.0]]))
    array([[4., 9.]])
    """

    def value(self, x: np.ndarray) -> Any:
        return x * x

    def slope(self, x: np.ndarray, y: np.ndarray) -> Any:
        return 2 * x


@layers.register("Reciprocal")
class Reciprocal(Function):
    """``1 / x``; of 0 it is infinite.

    >>> import numpy as np
    >>> Reciprocal()(np.array([[4.0, -0.5]]))
    array([[ 0.25, -2.  ]])
    """

    traits = Traits(domain=(0.2, 4.0))

    def value(self, x: np.ndarray) -> Any:
        return 1 / x

    def slope(self, x: np.ndarray, y: np.ndarray) -> Any:
        return -y * y


@layers.register("Erf")
class Erf(Function):
    """The error function, ``2 / sqrt(pi)`` times the integral of ``exp(-t**2)`` from 0 to x.

    >>> import numpy as np
    >>> Erf()(np.array([[0.0, 1.0]])).round(3)
    array([[0.   , 0.843]])
    """

    def value(self, x: np.ndarray) -> Any:
        z = np.clip(x, -9, 9).astype(np.float64) * math.sqrt(2)  # gelu(z) = z * (1 + erf(x)) / 2
        return np.where(z == 0, 0, 2 * F.gelu(z) / np.where(z == 0, 1, z) - 1)

    def slope(self, x: np.ndarray, y: np.ndarray) -> Any:
        return (2 / math.sqrt(math.pi)) * np.exp(-np.square(x))


@layers.register("Softsign")
class Softsign(Function):
    """``x / (1 + |x|)``, between -1 and 1.

    >>> import numpy as np
    >>> Softsign()(np.array([[-1.0, 3.0]]))
    array([[-0.5 ,  0.75]])
    """

    def value(self, x: np.ndarray) -> Any:
        return x / (1 + np.abs(x))

    def slope(self, x: np.ndarray, y: np.ndarray) -> Any:
        return 1 / np.square(1 + np.abs(x))


@layers.register("Mish")
class Mish(Function):
    """``x * tanh(log(1 + exp(x)))``. Source: Misra, Mish, BMVC 2020.

    >>> import numpy as np
    >>> Mish()(np.array([[-1.0, 1.0]])).round(3)
    array([[-0.303,  0.865]])
    """

    def value(self, x: np.ndarray) -> Any:
        return mish(x)

    def slope(self, x: np.ndarray, y: np.ndarray) -> Any:
        bent = np.tanh(F.softplus(x))
        return bent + x * (1 - bent * bent) * F.sigmoid(x)


@layers.register("CELU")
class CELU(Function):
    """``x`` where it is positive, else ``alpha * (exp(x / alpha) - 1)``. Source: Barron, 2017.

    >>> import numpy as np
    >>> CELU(2.0)(np.array([[-2.0, 3.0]])).round(3)
    array([[-1.264,  3.   ]])
    """

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = number(alpha, "alpha")
        if self.alpha == 0:
            raise ValueError("alpha must not be 0")

    def value(self, x: np.ndarray) -> Any:
        return np.maximum(x, 0) + np.minimum(0, self.alpha * np.expm1(np.minimum(x / self.alpha, 80.0)))

    def slope(self, x: np.ndarray, y: np.ndarray) -> Any:
        return np.where(x > 0, 1, np.exp(np.minimum(x / self.alpha, 80.0)))


@layers.register("ThresholdedReLU")
class ThresholdedReLU(Function):
    """``x`` where it is above `threshold`, else 0. Source: Konda et al., Zero-bias autoencoders, ICLR 2015.

    >>> import numpy as np
    >>> ThresholdedReLU(1.0)(np.array([[0.5, 3.0]]))
    array([[0., 3.]])
    """

    def __init__(self, threshold: float = 1.0) -> None:
        self.threshold = number(threshold, "threshold")

    @property
    def traits(self) -> Traits:
        return Traits(kinks=(self.threshold,))

    def value(self, x: np.ndarray) -> Any:
        return F.relu_backward(x, x - x.dtype.type(self.threshold))  # NumPy guesses for each number which it will be

    def slope(self, x: np.ndarray, y: np.ndarray) -> Any:
        return x > self.threshold


@layers.register("Clip")
class Clip(Function):
    """``x``, but at least `low` and at most `high` (None: no bound); the gradient is 0 outside.

    >>> import numpy as np
    >>> Clip(0.0, 6.0)(np.array([[-2.0, 3.0, 7.0]]))
    array([[0., 3., 6.]])
    """

    def __init__(self, low: float | None = None, high: float | None = None) -> None:
        self.low = None if low is None else number(low, "low")
        self.high = None if high is None else number(high, "high")

    @property
    def traits(self) -> Traits:
        return Traits(kinks=tuple(bound for bound in (self.low, self.high) if bound is not None))

    def value(self, x: np.ndarray) -> Any:
        if x.dtype in FLOATS:
            return clip(x, -math.inf if self.low is None else self.low, math.inf if self.high is None else self.high)
        y = x if self.low is None else np.maximum(x, np.asarray(self.low, x.dtype))
        return y.copy() if self.high is None else np.minimum(y, np.asarray(self.high, x.dtype))

    def slope(self, x: np.ndarray, y: np.ndarray) -> Any:
        inside = np.ones(x.shape, bool) if self.low is None else x > self.low
        return inside if self.high is None else inside & (x < self.high)


@layers.register("ScaleShift")
class ScaleShift(Function):
    """``scale * x + shift`` with two fixed numbers.

    >>> import numpy as np
    >>> ScaleShift(2.0, 1.0)(np.array([[1.0, 3.0]]))
    array([[3., 7.]])
    """

    traits = Traits(linear=True)

    def __init__(self, scale: float = 1.0, shift: float = 0.0) -> None:
        self.scale = number(scale, "scale")
        self.shift = number(shift, "shift")

    def value(self, x: np.ndarray) -> Any:
        return x * self.scale + self.shift

    def slope(self, x: np.ndarray, y: np.ndarray) -> Any:
        return self.scale
