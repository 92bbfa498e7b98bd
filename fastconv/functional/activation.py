"""Activations: elementwise functions, forward and backward.

All of them take arrays of any shape, float32 or float64 (`TypeError` for any other dtype), which they do not
change, and return an array of the shape and dtype of x. Every ``_backward(dy, x)`` returns dy times the derivative
at x; dy has the shape and the dtype of x (`ValueError`, `TypeError` where it has not). However large x is, nothing
overflows on the way; NaN stays NaN, but a derivative of straight lines takes it for -inf.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, NDArray

from fastconv._kernels._memory import empty
from fastconv.arguments import boolean, real_number
from fastconv.functional._validate import float_array, kernels_for, require_shape
from fastconv.threads import threads_for

#: What a number counts in multiply-adds where threads share them: a comparison waits for memory, a dozen terms of a series do
#: not. Counted by their arithmetic, arrays would be split whose end comes before a second thread has begun.
CHEAP, DEAR = 1, 4

#: The constants for which mean 0 and variance 1 are a fixed point (Klambauer et al. 2017, equation 14).
SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946


def relu(x: ArrayLike) -> NDArray[Any]:
    """Return ``max(x, 0)`` (Nair and Hinton, ICML 2010).

    See Also
    --------
    relu_backward : its gradient.

    Examples
    --------
    >>> import numpy as np
    >>> relu(np.array([-2.0, 0.0, 3.0]))
    array([0., 0., 3.])
    """
    return _forward("relu", x, CHEAP)


def relu_backward(dy: ArrayLike, x: ArrayLike | None = None, *, y: ArrayLike | None = None) -> NDArray[Any]:
    """Return the gradient of `relu`: dy where x, or its output y, is positive, else 0. Give one of the two.

    Examples
    --------
    >>> import numpy as np
    >>> relu_backward(np.ones(3), np.array([-2.0, 0.0, 3.0]))
    array([0., 0., 1.])
    """
    return _backward_from_either("relu", "relu", dy, x, y, CHEAP)


def relu6(x: ArrayLike) -> NDArray[Any]:
    """Return ``min(max(x, 0), 6)`` (Howard et al., MobileNets, 2017; Sandler et al., MobileNetV2, CVPR 2018, section 4).

    See Also
    --------
    relu6_backward : its gradient.

    Examples
    --------
    >>> import numpy as np
    >>> relu6(np.array([-2.0, 3.0, 8.0]))
    array([0., 3., 6.])
    """
    return _forward("relu6", x, CHEAP)


def relu6_backward(dy: ArrayLike, x: ArrayLike | None = None, *, y: ArrayLike | None = None) -> NDArray[Any]:
    """Return the gradient of `relu6`: dy where x, or its output y, is between 0 and 6 (both excluded), else 0.

    Give one of the two.

    Examples
    --------
    >>> import numpy as np
    >>> relu6_backward(np.ones(4), np.array([-2.0, 0.0, 3.0, 8.0]))
    array([0., 0., 1., 0.])
    """
    return _backward_from_either("relu6", "relu6", dy, x, y, CHEAP)


def leaky_relu(x: ArrayLike, *, slope: float = 0.01) -> NDArray[Any]:
    """Return x where it is positive, else ``slope * x`` (Maas et al., ICML 2013).

    See Also
    --------
    leaky_relu_backward : its gradient.

    Examples
    --------
    >>> import numpy as np
    >>> leaky_relu(np.array([-2.0, 3.0]), slope=0.5)
    array([-1.,  3.])
    """
    return _forward("leaky_relu", x, CHEAP, real_number(slope, "slope"))


def leaky_relu_backward(dy: ArrayLike, x: ArrayLike, *, slope: float = 0.01) -> NDArray[Any]:
    """Return the gradient of `leaky_relu`: dy where x is positive, else ``slope * dy``.

    Examples
    --------
    >>> import numpy as np
    >>> leaky_relu_backward(np.ones(2), np.array([-2.0, 3.0]), slope=0.5)
    array([0.5, 1. ])
    """
    return _backward("leaky_relu", dy, x, CHEAP, real_number(slope, "slope"))


def elu(x: ArrayLike, *, alpha: float = 1.0) -> NDArray[Any]:
    """Return x where it is positive, else ``alpha * (exp(x) - 1)`` (Clevert et al., ICLR 2016).

    See Also
    --------
    elu_backward : its gradient.

    Examples
    --------
    >>> import numpy as np
    >>> elu(np.array([-1.0, 3.0])).round(3)
    array([-0.632,  3.   ])
    """
    return _forward("elu", x, DEAR, real_number(alpha, "alpha"), 1.0)


def elu_backward(dy: ArrayLike, x: ArrayLike, *, alpha: float = 1.0) -> NDArray[Any]:
    """Return the gradient of `elu`: dy where x is positive, else ``dy * alpha * exp(x)``.

    Examples
    --------
    >>> import numpy as np
    >>> elu_backward(np.ones(2), np.array([0.0, 3.0]), alpha=0.5)
    array([0.5, 1. ])
    """
    return _backward("elu", dy, x, DEAR, real_number(alpha, "alpha"), 1.0)


def selu(x: ArrayLike) -> NDArray[Any]:
    """Return ``scale * elu(x, alpha)`` with the two constants for which mean 0 and variance 1 survive many layers.

    Klambauer et al., Self-normalizing neural networks, NeurIPS 2017.

    See Also
    --------
    selu_backward : its gradient.

    Examples
    --------
    >>> import numpy as np
    >>> selu(np.array([-1.0, 1.0])).round(3)
    array([-1.111,  1.051])
    """
    return _forward("elu", x, DEAR, SELU_ALPHA, SELU_SCALE)


def selu_backward(dy: ArrayLike, x: ArrayLike) -> NDArray[Any]:
    """Return the gradient of `selu`: ``scale * dy`` where x is positive, else ``scale * dy * alpha * exp(x)``.

    Examples
    --------
    >>> import numpy as np
    >>> selu_backward(np.ones(1), np.array([2.0])).round(3)
    array([1.051])
    """
    return _backward("elu", dy, x, DEAR, SELU_ALPHA, SELU_SCALE)


def gelu(x: ArrayLike, *, approximate: bool = False) -> NDArray[Any]:
    """Return ``x * Phi(x)``, Phi being the distribution function of the standard normal distribution.

    ``Phi(x) = (1 + erf(x / sqrt(2))) / 2``, to the last digits of the dtype; with `approximate`, ``(1 + tanh(sqrt(2
    / pi) * (x + 0.044715 * x**3))) / 2`` (Hendrycks and Gimpel, Gaussian error linear units, 2016, section 2).

    See Also
    --------
    gelu_backward : its gradient.

    Examples
    --------
    >>> import numpy as np
    >>> gelu(np.array([-1.0, 1.0])).round(4), gelu(np.array([-1.0, 1.0]), approximate=True).round(4)
    (array([-0.1587,  0.8413]), array([-0.1588,  0.8412]))
    """
    return _forward("gelu_tanh" if boolean(approximate, "approximate") else "gelu", x, DEAR)


def gelu_backward(dy: ArrayLike, x: ArrayLike, *, approximate: bool = False) -> NDArray[Any]:
    """Return the gradient of `gelu`: ``dy * (Phi(x) + x * Phi'(x))``.

    Examples
    --------
    >>> import numpy as np
    >>> gelu_backward(np.ones(1), np.zeros(1))
    array([0.5])
    """
    return _backward("gelu_tanh" if boolean(approximate, "approximate") else "gelu", dy, x, DEAR)


def silu(x: ArrayLike) -> NDArray[Any]:
    """Return ``x * sigmoid(x)``, also called swish (Elfwing et al., Neural Networks 2018).

    See Also
    --------
    silu_backward : its gradient.

    Examples
    --------
    >>> import numpy as np
    >>> silu(np.array([-1.0, 1.0])).round(3)
    array([-0.269,  0.731])
    """
    return _forward("silu", x, DEAR)


def silu_backward(dy: ArrayLike, x: ArrayLike) -> NDArray[Any]:
    """Return the gradient of `silu`: ``dy * s * (1 + x * (1 - s))`` with ``s = sigmoid(x)``.

    Examples
    --------
    >>> import numpy as np
    >>> silu_backward(np.ones(1), np.zeros(1))
    array([0.5])
    """
    return _backward("silu", dy, x, DEAR)


def hard_swish(x: ArrayLike) -> NDArray[Any]:
    """Return ``x * hard_sigmoid(x)`` (Howard et al., Searching for MobileNetV3, ICCV 2019, section 5.2).

    See Also
    --------
    hard_swish_backward : its gradient.

    Examples
    --------
    >>> import numpy as np
    >>> hard_swish(np.array([-3.0, 1.5, 4.0]))
    array([-0.   ,  1.125,  4.   ])
    """
    return _forward("hard_swish", x, CHEAP)


def hard_swish_backward(dy: ArrayLike, x: ArrayLike) -> NDArray[Any]:
    """Return the gradient of `hard_swish`: 0 up to -3, ``dy * (x / 3 + 1 / 2)`` up to 3, dy from 3 on.

    Examples
    --------
    >>> import numpy as np
    >>> hard_swish_backward(np.ones(3), np.array([-4.0, 0.0, 4.0]))
    array([0. , 0.5, 1. ])
    """
    return _backward("hard_swish", dy, x, CHEAP)


def hard_sigmoid(x: ArrayLike) -> NDArray[Any]:
    """Return ``min(max(x + 3, 0), 6) / 6``, a sigmoid of straight lines (Howard et al., ICCV 2019, section 5.2).

    See Also
    --------
    hard_sigmoid_backward : its gradient.

    Examples
    --------
    >>> import numpy as np
    >>> hard_sigmoid(np.array([-4.0, 0.0, 1.5, 4.0]))
    array([0.  , 0.5 , 0.75, 1.  ])
    """
    return _forward("hard_sigmoid", x, CHEAP)


def hard_sigmoid_backward(dy: ArrayLike, x: ArrayLike) -> NDArray[Any]:
    """Return the gradient of `hard_sigmoid`: ``dy / 6`` between -3 and 3 (both excluded), else 0.

    Examples
    --------
    >>> import numpy as np
    >>> hard_sigmoid_backward(np.array([6.0, 6.0]), np.array([-4.0, 0.0]))
    array([0., 1.])
    """
    return _backward("hard_sigmoid", dy, x, CHEAP)


def sigmoid(x: ArrayLike) -> NDArray[Any]:
    """Return ``1 / (1 + exp(-x))``, between 0 and 1.

    See Also
    --------
    sigmoid_backward : its gradient.

    Examples
    --------
    >>> import numpy as np
    >>> sigmoid(np.array([-1000.0, 0.0, 1000.0]))
    array([0. , 0.5, 1. ])
    """
    return _forward("sigmoid", x, DEAR)


def sigmoid_backward(dy: ArrayLike, x: ArrayLike | None = None, *, y: ArrayLike | None = None) -> NDArray[Any]:
    """Return the gradient of `sigmoid`: ``dy * y * (1 - y)`` with ``y = sigmoid(x)``.

    Give x, or the output y: that takes a third of the time, and of digits near 1 it has those that are left in y.

    Examples
    --------
    >>> import numpy as np
    >>> sigmoid_backward(np.ones(1), np.zeros(1))
    array([0.25])
    """
    return _backward_from_either("sigmoid", "sigmoid_from_output", dy, x, y, DEAR)


def tanh(x: ArrayLike) -> NDArray[Any]:
    """Return the hyperbolic tangent, between -1 and 1.

    See Also
    --------
    tanh_backward : its gradient.

    Examples
    --------
    >>> import numpy as np
    >>> tanh(np.array([-1000.0, 0.0, 1000.0]))
    array([-1.,  0.,  1.])
    """
    return _forward("tanh", x, DEAR)


def tanh_backward(dy: ArrayLike, x: ArrayLike | None = None, *, y: ArrayLike | None = None) -> NDArray[Any]:
    """Return the gradient of `tanh`: ``dy * (1 - tanh(x)**2)``.

    Give x, or the output y: that takes a third of the time, and of digits near 1 it has those that are left in y.

    Examples
    --------
    >>> import numpy as np
    >>> tanh_backward(np.ones(1), np.zeros(1))
    array([1.])
    """
    return _backward_from_either("tanh", "tanh_from_output", dy, x, y, DEAR)


def softplus(x: ArrayLike) -> NDArray[Any]:
    """Return ``log(1 + exp(x))``, a smooth `relu` (Dugas et al., NeurIPS 2000).

    See Also
    --------
    softplus_backward : its gradient.

    Examples
    --------
    >>> import numpy as np
    >>> softplus(np.array([-1000.0, 0.0, 1000.0])).round(4)
    array([0.000e+00, 6.931e-01, 1.000e+03])
    """
    return _forward("softplus", x, DEAR)


def softplus_backward(dy: ArrayLike, x: ArrayLike) -> NDArray[Any]:
    """Return the gradient of `softplus`: ``dy * sigmoid(x)``.

    Examples
    --------
    >>> import numpy as np
    >>> softplus_backward(np.ones(1), np.zeros(1))
    array([0.5])
    """
    return _backward("softplus", dy, x, DEAR)


def clip(x: ArrayLike, low: float, high: float) -> NDArray[Any]:
    """Return ``min(max(x, low), high)``.

    >>> import numpy as np
    >>> clip(np.array([-2.0, 3.0, 7.0]), 0.0, 6.0)
    array([0., 3., 6.])
    """
    return _forward("clip", x, CHEAP, low, high)


def mish(x: ArrayLike) -> NDArray[Any]:
    """Return ``x * tanh(softplus(x))`` (Misra, BMVC 2020).

    >>> import numpy as np
    >>> mish(np.array([-1.0, 1.0])).round(3)
    array([-0.303,  0.865])
    """
    return _forward("mish", x, DEAR)


def prelu(x: ArrayLike, slope: ArrayLike) -> NDArray[Any]:
    """Return x where it is positive, else ``slope * x``, x being (..., C) and `slope` (C,) (He et al., ICCV 2015).

    >>> import numpy as np
    >>> prelu(np.array([[-2.0, 3.0]]), np.array([0.5, 0.5]))
    array([[-1.,  3.]])
    """
    array = float_array(x, "x")
    slopes = float_array(slope, "slope", like=array)
    require_shape(slopes, array.shape[-1:], "slope", "the channels of x")
    y = empty(array.shape, array.dtype)
    if array.size:
        kernels_for(array).prelu_forward(array, slopes, y, threads_for(CHEAP * array.size))
    return y


def _forward(name: str, x: ArrayLike, cost: int, a: float = 0.0, b: float = 0.0) -> NDArray[Any]:
    """Return the activation that the kernels know by `name`, with parameters a and b."""
    array = float_array(x, "x")
    y = empty(array.shape, array.dtype)
    if array.size:
        kernels_for(array).activation_forward(array, y, name, a, b, threads_for(cost * array.size))
    return y


def _backward(
    name: str, dy: ArrayLike, x: ArrayLike, cost: int, a: float = 0.0, b: float = 0.0, *, called: str = "x"
) -> NDArray[Any]:
    """Return the gradient that the kernels know by `name`, at an argument that is `called` x, or y if it is the output."""
    array = float_array(x, called)
    gradient = float_array(dy, "dy", like=array, like_name=called)
    require_shape(gradient, array.shape, "dy", f"the shape of {called}")
    dx = empty(array.shape, array.dtype)
    if array.size:
        kernels_for(array).activation_backward(gradient, array, dx, name, a, b, threads_for(cost * array.size))
    return dx


def _backward_from_either(
    name: str, name_from_output: str, dy: ArrayLike, x: ArrayLike | None, y: ArrayLike | None, cost: int
) -> NDArray[Any]:
    if (x is None) == (y is None):
        raise ValueError(f"{name}_backward takes either x or y, got {'neither' if x is None else 'both'}")
    if x is not None:
        return _backward(name, dy, x, cost)
    return _backward(name_from_output, dy, y, CHEAP, called="y")  # type: ignore[arg-type]
