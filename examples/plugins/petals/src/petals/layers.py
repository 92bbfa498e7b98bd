"""The layer: `Swish`."""

from __future__ import annotations

import numpy as np

from fastconv import functional as F
from fastconv.layers import Layer


class Swish(Layer):
    """y = x * sigmoid(beta * x), with one learned `beta` for each channel.

    With ``beta = 1`` it is SiLU, towards 0 half the identity, towards infinity ReLU. Source: P. Ramachandran, B. Zoph,
    Q. Le, "Searching for activation functions", 2017, section 2.

    Parameters
    ----------
    start : float
        The `beta` that training begins with.
    """

    api_version = 1

    def __init__(self, *, start: float = 1.0):
        self.start = start

    def build(self, shape, rng):
        self.params["beta"] = np.full(shape[-1], self.start, np.float32)

    def output_shape(self, shape):
        return shape

    def forward(self, ctx, x):
        beta = self.params["beta"]
        if x.shape[-1] != len(beta):
            raise ValueError(f"x must have {len(beta)} channels, for which this layer was built, got shape {x.shape}")
        gate = F.sigmoid(beta * x)

        def backward(dy):
            # d(beta * x): what the gate does to both of its factors
            inner = dy * x * gate * (1 - gate)
            channels_only = tuple(range(x.ndim - 1))
            return dy * gate + beta * inner, {"beta": (inner * x).sum(axis=channels_only)}

        return x * gate, backward
