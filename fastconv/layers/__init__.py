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
    LogSoftmax,
    PReLU,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from fastconv.layers.angles import (
    Arccos,
    Arccosh,
    Arcsin,
    Arcsinh,
    Arctan,
    Arctanh,
    Cos,
    Cosh,
    Sin,
    Sinh,
    Tan,
)
from fastconv.layers.arithmetic import Compare, Divide, Maximum, Minimum, Modulo, Power, Subtract, Where
from fastconv.layers.arrange import (
    Expand,
    Gather,
    Slice,
    Split,
    Squeeze,
    Tile,
    Transpose,
    Unsqueeze,
)
from fastconv.layers.base import API_VERSION, Layer
from fastconv.layers.borrowed import Prototype, TorchLayer
from fastconv.layers.boxes import NonMaxSuppression, RoiAlign
from fastconv.layers.config import from_spec, to_spec
from fastconv.layers.context import Context
from fastconv.layers.conv import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from fastconv.layers.depth_space import DepthToSpace, SpaceToDepth
from fastconv.layers.dropout import AlphaDropout, Dropout, FixedDropout, SpatialDropout, StochasticDepth
from fastconv.layers.dynamic import DynamicArguments, ShapeOf
from fastconv.layers.fold import Fold
from fastconv.layers.linear import Linear
from fastconv.layers.local import LocallyConnected1d, LocallyConnected2d
from fastconv.layers.logic import Logic, Not
from fastconv.layers.maths import (
    CELU,
    Abs,
    Clip,
    Erf,
    Exp,
    Log,
    Mish,
    Reciprocal,
    ScaleShift,
    Softsign,
    Sqrt,
    Square,
    ThresholdedReLU,
)
from fastconv.layers.matrix import Einsum, MatMul
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
from fastconv.layers.recurrent import GRU, LSTM, RNN
from fastconv.layers.reduce import (
    ArgMax,
    CumSum,
    ReduceL2,
    ReduceMax,
    ReduceMean,
    ReduceMin,
    ReduceProd,
    ReduceSum,
    TopK,
)
from fastconv.layers.sampling import GridSample
from fastconv.layers.scatter import GatherElements, GatherND, NonZero, ScatterElements, ScatterND
from fastconv.layers.separable import DepthwiseConv2d, SeparableConv2d
from fastconv.layers.shape import AddCoords, Flatten, Reshape, ReshapeLike, Upsample, ZeroPad
from fastconv.layers.space import LocalResponseNorm, LpPool1d, LpPool2d, LpPool3d, Pad, Resize, ResizeLike
from fastconv.layers.steps import Ceil, Floor, Round, Sign
from fastconv.layers.traits import Traits
from fastconv.layers.unpool import MaxPoolWithIndices, MaxUnpool
from fastconv.layers.wrap import Cast, Discrete, Partial, TimeDistributed
from fastconv.registry import Entry, PluginLoadError
from fastconv.registry import layers as _registry

register = _registry.register
get = _registry.get
entries = _registry.entries

__all__ = [
    "API_VERSION",
    "CELU",
    "ELU",
    "GELU",
    "GRU",
    "LSTM",
    "RNN",
    "SELU",
    "Abs",
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "Add",
    "AddCoords",
    "AlphaDropout",
    "Arccos",
    "Arccosh",
    "Arcsin",
    "Arcsinh",
    "Arctan",
    "Arctanh",
    "ArgMax",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "BatchNorm",
    "Cast",
    "Ceil",
    "Clip",
    "Compare",
    "Concat",
    "Context",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "Cos",
    "Cosh",
    "CumSum",
    "DepthToSpace",
    "DepthwiseConv2d",
    "Discrete",
    "Divide",
    "Dropout",
    "DynamicArguments",
    "Einsum",
    "Entry",
    "Erf",
    "Exp",
    "Expand",
    "FixedDropout",
    "Flatten",
    "Floor",
    "Fold",
    "Gather",
    "GatherElements",
    "GatherND",
    "GlobalAvgPool",
    "GlobalMaxPool",
    "GridSample",
    "GroupNorm",
    "HardSigmoid",
    "HardSwish",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LocalResponseNorm",
    "LocallyConnected1d",
    "LocallyConnected2d",
    "Log",
    "LogSoftmax",
    "Logic",
    "LpPool1d",
    "LpPool2d",
    "LpPool3d",
    "MatMul",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MaxPoolWithIndices",
    "MaxUnpool",
    "Maximum",
    "Minimum",
    "Mish",
    "Modulo",
    "Multiply",
    "NonMaxSuppression",
    "NonZero",
    "Not",
    "PReLU",
    "Pad",
    "Partial",
    "PluginLoadError",
    "Power",
    "Prototype",
    "ReLU",
    "ReLU6",
    "Reciprocal",
    "ReduceL2",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "Reshape",
    "ReshapeLike",
    "Resize",
    "ResizeLike",
    "RoiAlign",
    "Round",
    "ScaleShift",
    "ScatterElements",
    "ScatterND",
    "SeparableConv2d",
    "ShapeOf",
    "SiLU",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Slice",
    "Softmax",
    "Softplus",
    "Softsign",
    "SpaceToDepth",
    "SpatialDropout",
    "Split",
    "Sqrt",
    "Square",
    "Squeeze",
    "StochasticDepth",
    "Subtract",
    "Tan",
    "Tanh",
    "ThresholdedReLU",
    "Tile",
    "TimeDistributed",
    "TopK",
    "TorchLayer",
    "Traits",
    "Transpose",
    "Unsqueeze",
    "Upsample",
    "Where",
    "ZeroPad",
    "entries",
    "from_spec",
    "get",
    "register",
    "to_spec",
]
