"""Activations: elementwise functions, and softmax."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from fastconv import functional as F
from fastconv.arguments import boolean
from fastconv.functional.activation import prelu
from fastconv.layers.base import Backward, Layer
from fastconv.layers.checks import number, require_channels, require_floats, require_last_axis
from fastconv.layers.context import Context
from fastconv.layers.initializers import checked_initializer, initialize
from fastconv.layers.symbol import Shape
from fastconv.layers.traits import Traits
from fastconv.registry import layers


class _Elementwise(Layer):
    """A function of `fastconv.functional` by its name; the arguments of the layer are its keywords."""

    takes_numbers = True

    function: ClassVar[str]

    #: What the gradient takes besides dy: the input x, or the output y. The next layer keeps y anyway, and x is free then.
    gradient_takes: ClassVar[str] = "x"

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        backward = getattr(F, f"{self.function}_backward")
        y = getattr(F, self.function)(x, **self.config)
        if self.gradient_takes == "y":
            return y, lambda dy: (backward(dy, y=y), {})
        return y, lambda dy: (backward(dy, x, **self.config), {})


@layers.register("ReLU")
class ReLU(_Elementwise):
    """``max(x, 0)``. Source: Nair and Hinton, ICML 2010.

    >>> import numpy as np
    >>> ReLU()(np.array([[-2.0, 0.0, 3.0]]))
    array([[0., 0., 3.]])
    """

    traits = Traits(kinks=(0.0,))

    function = "relu"
    gradient_takes = "y"


@layers.register("ReLU6")
class ReLU6(_Elementwise):
    """``min(max(x, 0), 6)``. Source: Sandler et al., MobileNetV2, CVPR 2018, section 4.

    >>> import numpy as np
    >>> ReLU6()(np.array([[-2.0, 3.0, 8.0]]))
    array([[0., 3., 6.]])
    """

    traits = Traits(kinks=(0.0, 6.0))

    function = "relu6"
    gradient_takes = "y"


@layers.register("LeakyReLU")
class LeakyReLU(_Elementwise):
    """``x`` where it is positive, else ``slope * x``. Source: Maas et al., ICML 2013.

    >>> import numpy as np
    >>> LeakyReLU(0.5)(np.array([[-2.0, 3.0]]))
    array([[-1.,  3.]])
    """

    traits = Traits(kinks=(0.0,))

    function = "leaky_relu"

    def __init__(self, slope: float = 0.01) -> None:
        self.slope = number(slope, "slope")


@layers.register("PReLU")
class PReLU(Layer):
    """``x`` where it is positive, else ``slope * x`` with a learned slope for each channel.

    Parameter ``slope`` ``(C,)``. Source: He et al., Delving deep into rectifiers, ICCV 2015, section 2.1.

    >>> import numpy as np
    >>> PReLU(initializer=0.5)(np.array([[-2.0, 3.0]], np.float32))
    array([[-1.,  3.]], dtype=float32)
    """

    traits = Traits(kinks=(0.0,))

    def __init__(self, *, initializer: Any = 0.25) -> None:
        self.initializer = initializer
        checked_initializer(initializer)

    def build(self, shape: Shape, rng: np.random.Generator) -> None:
        self.output_shape(shape)
        self.params["slope"] = initialize(self.initializer, shape[-1:], rng)

    def output_shape(self, shape: Shape) -> Shape:
        require_last_axis(shape)
        return shape

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        slope = self.params["slope"]
        require_floats(x)
        require_channels(x, len(slope))

        def backward(dy: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
            dslope = (dy * np.minimum(x, 0)).sum(axis=tuple(range(x.ndim - 1)))
            return np.where(x > 0, dy, dy * slope), {"slope": dslope}

        return prelu(x, slope), backward


@layers.register("ELU")
class ELU(_Elementwise):
    """``x`` where it is positive, else ``alpha * (exp(x) - 1)``. Source: Clevert et al., ICLR 2016.

    >>> import numpy as np
    >>> ELU()(np.array([[-1.0, 3.0]])).round(3)
    array([[-0.632,  3.   ]])
    """

    traits = Traits(kinks=(0.0,))

    function = "elu"

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = number(alpha, "alpha")


@layers.register("SELU")
class SELU(_Elementwise):
    """``scale * elu(x, alpha)`` with constants that keep mean 0 and variance 1. Source: Klambauer et al., NeurIPS 2017.

    >>> import numpy as np
    >>> SELU()(np.array([[-1.0, 1.0]])).round(3)
    array([[-1.111,  1.051]])
    """

    traits = Traits(kinks=(0.0,))

    function = "selu"


@layers.register("GELU")
class GELU(_Elementwise):
    """``x * Phi(x)``, Phi the normal distribution function, or its tanh approximation. Source: Hendrycks and Gimpel, 2016.

    >>> import numpy as np
    >>> GELU()(np.array([[-1.0, 1.0]])).round(3)
    array([[-0.159,  0.841]])
    """

    function = "gelu"

    def __init__(self, *, approximate: bool = False) -> None:
        self.approximate = boolean(approximate, "approximate")


@layers.register("SiLU")
class SiLU(_Elementwise):
    """``x * sigmoid(x)``, also called swish. Source: Elfwing et al., Neural Networks 2018.

    >>> import numpy as np
    >>> SiLU()(np.array([[-1.0, 1.0]])).round(3)
    array([[-0.269,  0.731]])
    """

    function = "silu"


@layers.register("HardSwish")
class HardSwish(_Elementwise):
    """``x * min(max(x + 3, 0), 6) / 6``. Source: Howard et al., Searching for MobileNetV3, ICCV 2019, section 5.2.

    >>> import numpy as np
    >>> HardSwish()(np.array([[0.0, 1.5, 4.0]]))
    array([[0.   , 1.125, 4.   ]])
    """

    traits = Traits(kinks=(-3.0, 3.0))

    function = "hard_swish"


@layers.register("HardSigmoid")
class HardSigmoid(_Elementwise):
    """``min(max(x + 3, 0), 6) / 6``. Source: Howard et al., Searching for MobileNetV3, ICCV 2019, section 5.2.

    >>> import numpy as np
    >>> HardSigmoid()(np.array([[-4.0, 0.0, 1.5, 4.0]]))
    array([[0.  , 0.5 , 0.75, 1.  ]])
    """

    traits = Traits(kinks=(-3.0, 3.0))

    function = "hard_sigmoid"


@layers.register("Sigmoid")
class Sigmoid(_Elementwise):
    """``1 / (1 + exp(-x))``, between 0 and 1.

    >>> import numpy as np
    >>> Sigmoid()(np.array([[-1000.0, 0.0, 1000.0]]))
    array([[0. , 0.5, 1. ]])
    """

    function = "sigmoid"
    gradient_takes = "y"


@layers.register("Tanh")
class Tanh(_Elementwise):
    """The hyperbolic tangent, between -1 and 1.

    >>> import numpy as np
    >>> Tanh()(np.array([[-1000.0, 0.0, 1000.0]]))
    array([[-1.,  0.,  1.]])
    """

    function = "tanh"
    gradient_takes = "y"


@layers.register("Softplus")
class Softplus(_Elementwise):
    """``log(1 + exp(x))``, a smooth `ReLU`.

    >>> import numpy as np
    >>> Softplus()(np.array([[0.0, 1000.0]])).round(3)
    array([[6.93e-01, 1.00e+03]])
    """

    function = "softplus"


class _AlongLastAxis(Layer):
    """A function of `fastconv.functional` that normalizes the last axis; its gradient takes the output."""

    function: ClassVar[str]

    def output_shape(self, shape: Shape) -> Shape:
        require_last_axis(shape)
        return shape

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        self.output_shape(x.shape[1:])
        y, backward = getattr(F, self.function)(x), getattr(F, f"{self.function}_backward")
        return y, lambda dy: (backward(dy, y), {})


@layers.register("Softmax")
class Softmax(_AlongLastAxis):
    """Probabilities along the last axis: ``exp(x[i]) / sum over j of exp(x[j])``.

    For training leave it out: the loss ``"cross_entropy"`` takes what comes before it.

    >>> import numpy as np
    >>> Softmax()(np.array([[0.0, np.log(3.0)]]))
    array([[0.25, 0.75]])
    """

    function = "softmax"


@layers.register("LogSoftmax")
class LogSoftmax(_AlongLastAxis):
    """The logarithm of the probabilities along the last axis: ``x[i] - log(sum over j of exp(x[j]))``.

    >>> import numpy as np
    >>> LogSoftmax()(np.array([[0.0, np.log(3.0)]])).round(3)
    array([[-1.386, -0.288]])
    """

    function = "log_softmax"
