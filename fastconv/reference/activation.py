"""Activations: the bend between two linear layers, applied to each number by itself.

Without one, two linear layers are one linear layer. Each is given by its formula; the backward pass multiplies ``dy`` by
the derivative at x.

Where a formula multiplies x by something that vanishes, x is first brought within a range outside of which that
something is 0 to the last bit: no power overflows, and an infinite x gives the limit and not NaN.
"""

from __future__ import annotations

import math

import numpy as np

#: The fixed point of the mean 0, variance 1 map (Klambauer et al. 2017, equation 14).
SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946


def relu(x: np.ndarray) -> np.ndarray:
    """Return ``max(x, 0)`` (Nair and Hinton, ICML 2010).

    >>> relu(np.array([-2.0, 0, 3]))
    array([0., 0., 3.])
    """
    return np.maximum(x, 0)


def relu_backward(dy: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return dx of `relu`: dy where x is positive, else 0.

    >>> relu_backward(np.array([1.0, 1, 1]), np.array([-2.0, 0, 3]))
    array([0., 0., 1.])
    """
    return np.where(x > 0, dy, 0).astype(x.dtype)


def relu6(x: np.ndarray) -> np.ndarray:
    """Return ``min(max(x, 0), 6)`` (Sandler et al., MobileNetV2, CVPR 2018, section 4).

    >>> relu6(np.array([-2.0, 3, 8]))
    array([0., 3., 6.])
    """
    return np.clip(x, 0, 6)


def relu6_backward(dy: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return dx of `relu6`: dy where x is between 0 and 6 (both excluded), else 0.

    >>> relu6_backward(np.array([1.0, 1, 1]), np.array([-1.0, 3, 6]))
    array([0., 1., 0.])
    """
    return np.where((x > 0) & (x < 6), dy, 0).astype(x.dtype)


def leaky_relu(x: np.ndarray, *, slope: float = 0.01) -> np.ndarray:
    """Return ``x`` where it is positive, else ``slope * x`` (Maas et al., ICML 2013).

    >>> leaky_relu(np.array([-2.0, 3]), slope=0.5)
    array([-1.,  3.])
    """
    return np.where(x > 0, x, x * slope).astype(x.dtype)


def leaky_relu_backward(dy: np.ndarray, x: np.ndarray, *, slope: float = 0.01) -> np.ndarray:
    """Return dx of `leaky_relu`.

    >>> leaky_relu_backward(np.array([1.0, 1]), np.array([-2.0, 3]), slope=0.5)
    array([0.5, 1. ])
    """
    return np.where(x > 0, dy, dy * slope).astype(x.dtype)


def elu(x: np.ndarray, *, alpha: float = 1.0) -> np.ndarray:
    """Return ``x`` where it is positive, else ``alpha * (exp(x) - 1)`` (Clevert et al., ICLR 2016).

    >>> elu(np.array([-1.0, 3])).round(3)
    array([-0.632,  3.   ])
    """
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))).astype(x.dtype)


def elu_backward(dy: np.ndarray, x: np.ndarray, *, alpha: float = 1.0) -> np.ndarray:
    """Return dx of `elu`: ``dy * alpha * exp(x)`` where x is not positive.

    >>> elu_backward(np.array([1.0, 1]), np.array([0.0, 3]), alpha=0.5)
    array([0.5, 1. ])
    """
    return np.where(x > 0, dy, dy * alpha * np.exp(np.minimum(x, 0))).astype(x.dtype)


def selu(x: np.ndarray) -> np.ndarray:
    """Return ``scale * elu(x, alpha)``, the constants such that mean 0 and variance 1 survive many layers.

    Klambauer et al., Self-normalizing neural networks, NeurIPS 2017.

    >>> selu(np.array([-1.0, 1])).round(3)
    array([-1.111,  1.051])
    """
    return (SELU_SCALE * elu(x, alpha=SELU_ALPHA)).astype(x.dtype)


def selu_backward(dy: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return dx of `selu`.

    >>> selu_backward(np.array([1.0]), np.array([2.0])).round(3)
    array([1.051])
    """
    return (SELU_SCALE * elu_backward(dy, x, alpha=SELU_ALPHA)).astype(x.dtype)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Return ``1 / (1 + exp(-x))``, between 0 and 1.

    The exponential is taken of ``-|x|``, so it never overflows.

    >>> sigmoid(np.array([-1000.0, 0, 1000]))
    array([0. , 0.5, 1. ])
    """
    power = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + power), power / (1 + power)).astype(x.dtype)


def sigmoid_backward(dy: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return dx of `sigmoid`: ``dy * y * (1 - y)``.

    >>> sigmoid_backward(np.array([1.0]), np.array([0.0]))
    array([0.25])
    """
    return dy * sigmoid(x) * sigmoid(-x)


def tanh(x: np.ndarray) -> np.ndarray:
    """Return the hyperbolic tangent, between -1 and 1.

    >>> tanh(np.array([-1000.0, 0, 1000]))
    array([-1.,  0.,  1.])
    """
    return np.tanh(x)


def tanh_backward(dy: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return dx of `tanh`: ``dy * (1 - y**2)``.

    ``1 - tanh(x)**2`` is ``4 * sigmoid(2 x) * sigmoid(-2 x)``, which keeps its digits where the tangent is almost 1.

    >>> tanh_backward(np.array([1.0]), np.array([0.0]))
    array([1.])
    """
    twice = 2 * _within(x, 1000)
    return dy * 4 * sigmoid(twice) * sigmoid(-twice)


def softplus(x: np.ndarray) -> np.ndarray:
    """Return ``log(1 + exp(x))``, a smooth `relu`, as ``max(x, 0) + log(1 + exp(-|x|))``.

    >>> softplus(np.array([-1000.0, 0, 1000])).round(4)
    array([0.000e+00, 6.931e-01, 1.000e+03])
    """
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def softplus_backward(dy: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return dx of `softplus`: ``dy * sigmoid(x)``.

    >>> softplus_backward(np.array([1.0]), np.array([0.0]))
    array([0.5])
    """
    return dy * sigmoid(x)


def silu(x: np.ndarray) -> np.ndarray:
    """Return ``x * sigmoid(x)``, also called swish (Elfwing et al., Neural Networks 2018).

    >>> silu(np.array([-1.0, 1])).round(3)
    array([-0.269,  0.731])
    """
    return np.maximum(x, -1000) * sigmoid(x)


def silu_backward(dy: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return dx of `silu`: ``dy * s * (1 + x * (1 - s))`` with ``s = sigmoid(x)``.

    >>> silu_backward(np.array([1.0]), np.array([0.0]))
    array([0.5])
    """
    return dy * sigmoid(x) * (1 + _within(x, 1000) * sigmoid(-x))


def gelu(x: np.ndarray, *, approximate: bool = False) -> np.ndarray:
    """Return ``x * Phi(x)``, where Phi is the distribution function of the standard normal distribution.

    ``Phi(x) = (1 + erf(x / sqrt(2))) / 2``; with `approximate`, ``(1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))
    / 2``. Hendrycks and Gimpel, Gaussian error linear units, 2016, section 2.

    >>> gelu(np.array([-1.0, 1])).round(4), gelu(np.array([-1.0, 1]), approximate=True).round(4)
    (array([-0.1587,  0.8413]), array([-0.1588,  0.8412]))
    """
    return np.maximum(x, -100) * (sigmoid(2 * _gelu_inner(x)) if approximate else _normal_cdf(x))


def gelu_backward(dy: np.ndarray, x: np.ndarray, *, approximate: bool = False) -> np.ndarray:
    """Return dx of `gelu`: ``dy * (Phi(x) + x * Phi'(x))``.

    >>> gelu_backward(np.array([1.0]), np.array([0.0]))
    array([0.5])
    """
    x = _within(x, 100)
    if approximate:
        inner = _gelu_inner(x)
        slope = 2 * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x**2)
        return dy * (sigmoid(2 * inner) + x * slope * sigmoid(2 * inner) * sigmoid(-2 * inner))
    density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    return dy * (_normal_cdf(x) + x * density)


def hard_sigmoid(x: np.ndarray) -> np.ndarray:
    """Return ``min(max(x + 3, 0), 6) / 6``, a sigmoid of straight lines.

    Howard et al., Searching for MobileNetV3, ICCV 2019, section 5.2.

    >>> hard_sigmoid(np.array([-4.0, 0, 1.5, 4]))
    array([0.  , 0.5 , 0.75, 1.  ])
    """
    return np.clip(x + 3, 0, 6) / 6


def hard_sigmoid_backward(dy: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return dx of `hard_sigmoid`: ``dy / 6`` between -3 and 3 (both excluded), else 0.

    >>> hard_sigmoid_backward(np.array([6.0, 6]), np.array([-4.0, 0]))
    array([0., 1.])
    """
    return np.where(np.abs(x) < 3, dy / 6, 0).astype(x.dtype)


def hard_swish(x: np.ndarray) -> np.ndarray:
    """Return ``x * hard_sigmoid(x)`` (Howard et al., ICCV 2019, section 5.2).

    >>> hard_swish(np.array([-4.0, 1.5, 4]))
    array([-0.   ,  1.125,  4.   ])
    """
    return np.maximum(x, -3) * hard_sigmoid(x)


def hard_swish_backward(dy: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return dx of `hard_swish`: ``dy * (x / 3 + 1 / 2)`` between -3 and 3 (both excluded), 0 below and dy above.

    >>> hard_swish_backward(np.array([1.0, 1, 1]), np.array([-4.0, 0, 4]))
    array([0. , 0.5, 1. ])
    """
    slope = np.where(x > -3, np.where(x < 3, x / 3 + 0.5, 1), 0)
    return (dy * slope).astype(x.dtype)


def _normal_cdf(x: np.ndarray) -> np.ndarray:
    erfc = np.vectorize(math.erfc, otypes=[np.float64])
    # the complement keeps its digits where Phi is almost 0
    return (0.5 * erfc(-x / math.sqrt(2))).astype(x.dtype)


def _gelu_inner(x: np.ndarray) -> np.ndarray:
    x = _within(x, 100)
    return math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)


def _within(x: np.ndarray, limit: float) -> np.ndarray:
    return np.clip(x, -limit, limit)
