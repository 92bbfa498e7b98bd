"""Which activation of the kernels a layer corresponds to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastconv import layers as L
from fastconv.functional.activation import SELU_ALPHA, SELU_SCALE
from fastconv.functional.calls import Activation
from fastconv.layers.base import Layer

_PLAIN: dict[type[Layer], str] = {
    L.ReLU: "relu",
    L.ReLU6: "relu6",
    L.SiLU: "silu",
    L.HardSwish: "hard_swish",
    L.HardSigmoid: "hard_sigmoid",
    L.Sigmoid: "sigmoid",
    L.Tanh: "tanh",
    L.Softplus: "softplus",
    L.Mish: "mish",
}

#: What a file may name.
NAMES = {*_PLAIN.values(), "clip", "leaky_relu", "elu", "gelu", "gelu_tanh", "prelu"}

ACTIVATIONS: dict[type[Layer], Callable[[Any], Activation]] = {
    **dict.fromkeys(_PLAIN, lambda layer: Activation(_PLAIN[type(layer)])),
    L.LeakyReLU: lambda layer: Activation("leaky_relu", layer.slope),
    L.ELU: lambda layer: Activation("elu", layer.alpha, 1.0),
    L.SELU: lambda layer: Activation("elu", SELU_ALPHA, SELU_SCALE),
    L.GELU: lambda layer: Activation("gelu_tanh" if layer.approximate else "gelu"),
    L.PReLU: lambda layer: Activation("prelu", slope=np.array(layer.params["slope"], order="C")),
}
