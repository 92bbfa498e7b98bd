"""Layers: parameters, and what they do to arrays.

A `Layer` infers the shape of its input when it first meets one, computes on arrays ``(N, ..., C)``, and returns with every
output the function that takes the gradient back. `register` gives a layer of your own a name under which a model can be
saved, `get` finds a layer by its name, in installed packages too.

>>> from fastconv import layers
>>> layers.get("Conv2d") is layers.Conv2d
True
"""

from fastconv.layers.activation import (
    ELU,
    GELU,
    SELU,
    HardSigmoid,
    HardSwish,
    LeakyReLU,
    PReLU,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from fastconv.layers.base import API_VERSION, Layer
from fastconv.layers.borrowed import Prototype, TorchLayer
from fastconv.layers.config import from_spec, to_spec
from fastconv.layers.context import Context
from fastconv.layers.conv import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from fastconv.layers.dropout import Dropout, StochasticDepth
from fastconv.layers.linear import Linear
from fastconv.layers.local import LocallyConnected1d, LocallyConnected2d
from fastconv.layers.merge import Add, Concat, Multiply
from fastconv.layers.norm import BatchNorm, GroupNorm, LayerNorm
from fastconv.layers.pool import (
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    AdaptiveAvgPool3d,
    AdaptiveMaxPool1d,
    AdaptiveMaxPool2d,
    AdaptiveMaxPool3d,
    AvgPool1d,
    AvgPool2d,
    AvgPool3d,
    GlobalAvgPool,
    GlobalMaxPool,
    MaxPool1d,
    MaxPool2d,
    MaxPool3d,
)
from fastconv.layers.separable import DepthwiseConv2d, SeparableConv2d
from fastconv.layers.shape import AddCoords, Flatten, Reshape, Upsample, ZeroPad
from fastconv.layers.traits import Traits
from fastconv.registry import Entry, PluginLoadError
from fastconv.registry import layers as _registry

register = _registry.register
get = _registry.get
entries = _registry.entries

__all__ = [
    "API_VERSION",
    "ELU",
    "GELU",
    "SELU",
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "Add",
    "AddCoords",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "BatchNorm",
    "Concat",
    "Context",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "DepthwiseConv2d",
    "Dropout",
    "Entry",
    "Flatten",
    "GlobalAvgPool",
    "GlobalMaxPool",
    "GroupNorm",
    "HardSigmoid",
    "HardSwish",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LocallyConnected1d",
    "LocallyConnected2d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "Multiply",
    "PReLU",
    "PluginLoadError",
    "Prototype",
    "ReLU",
    "ReLU6",
    "Reshape",
    "SeparableConv2d",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "StochasticDepth",
    "Tanh",
    "TorchLayer",
    "Traits",
    "Upsample",
    "ZeroPad",
    "entries",
    "from_spec",
    "get",
    "register",
    "to_spec",
]
