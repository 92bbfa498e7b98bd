"""The linear (dense) layer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastconv import functional as F
from fastconv.arguments import boolean
from fastconv.layers.base import Backward, Layer
from fastconv.layers.checks import positive, require_last_axis
from fastconv.layers.context import Context
from fastconv.layers.initializers import checked_initializer, initialize
from fastconv.layers.symbol import Shape
from fastconv.layers.traits import Traits
from fastconv.layers.windowed import Gradients, named_gradients, wanted
from fastconv.registry import layers


@layers.register("Linear")
class Linear(Layer):
    """Multiply the last axis by a matrix: ``(N, ..., C)`` to ``(N, ..., features)``.

    Parameters ``weight`` ``(C, features)`` and ``bias`` ``(features,)``. On an image it is a 1x1 convolution; put `Flatten` in
    front to connect every pixel with every output.

    Parameters
    ----------
    features : int
        Numbers that come out for each that went in along the last axis.
    bias : bool
        Whether a learned number is added to each output.
    initializer, bias_initializer : str, float or dict
        See `fastconv.layers.initializers.initialize`.

    Examples
    --------
    >>> import numpy as np
    >>> Linear(10)(np.zeros((2, 784), np.float32)).shape
    (2, 10)
    """

    traits = Traits(linear=True)

    def __init__(
        self, features: int, *, bias: bool = True, initializer: Any = "he_normal", bias_initializer: Any = "zeros"
    ) -> None:
        self.features = positive(features, "features")
        self.bias = boolean(bias, "bias")
        self.initializer = initializer
        self.bias_initializer = bias_initializer
        checked_initializer(initializer)
        checked_initializer(bias_initializer)

    def build(self, shape: Shape, rng: np.random.Generator) -> None:
        self.output_shape(shape)
        fans = {"fan_in": shape[-1], "fan_out": self.features}
        self.params["weight"] = initialize(self.initializer, (shape[-1], self.features), rng, **fans)
        if self.bias:
            self.params["bias"] = initialize(self.bias_initializer, (self.features,), rng, **fans)

    def output_shape(self, shape: Shape) -> Shape:
        require_last_axis(shape)
        return (*shape[:-1], self.features)

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        self.output_shape(x.shape[1:])
        weight = self.params["weight"]
        y = F.linear(x, weight, self.params.get("bias"))

        def backward(dy: np.ndarray) -> tuple[np.ndarray | None, Gradients]:
            dx, *rest = F.linear_backward(dy, x, weight, wrt=wanted(ctx.input_grad, self.bias))
            return dx, named_gradients(*rest)

        return y, backward

    def multiply_adds(self, *shapes: Shape) -> int:
        return math.prod(shapes[0]) * self.features
