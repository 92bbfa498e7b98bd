"""The layer: `GatedConv2d`."""

from __future__ import annotations

import numpy as np

from fastconv import functional as F
from fastconv.layers import Layer
from gated import _gate


class GatedConv2d(Layer):
    """A convolution whose outputs are let through by a second one: ``y = a * sigmoid(b)``, ``(a, b) = conv(x, weight) + bias``.

    x is ``(N, H, W, C)``, y ``(N, P, Q, channels)``, the weight ``(kernel, kernel, C, 2 * channels)``: the first half of its
    outputs are the values a, the second the gates b. Source: Y. Dauphin, A. Fan, M. Auli, D. Grangier, "Language modeling with
    gated convolutional networks", ICML 2017, section 2.

    Parameters
    ----------
    channels, kernel_size, stride : int, at least 1
    padding : int, at least 0
    """

    api_version = 1

    def __init__(self, channels: int, kernel_size: int = 3, *, stride: int = 1, padding: int = 0):
        for name, value, least in (
            ("channels", channels, 1),
            ("kernel_size", kernel_size, 1),
            ("stride", stride, 1),
            ("padding", padding, 0),
        ):
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
        self.channels, self.kernel_size, self.stride, self.padding = channels, kernel_size, stride, padding

    def build(self, shape, rng):
        fan_in = self.kernel_size**2 * shape[-1]
        weight = rng.standard_normal((self.kernel_size, self.kernel_size, shape[-1], 2 * self.channels)) / np.sqrt(
            fan_in
        )
        self.params["weight"] = weight.astype(np.float32)
        self.params["bias"] = np.zeros(2 * self.channels, np.float32)

    def output_shape(self, shape):
        if len(shape) != 3:
            raise ValueError(f"x must have shape (N, H, W, C), got {len(shape)} axes without N")
        sizes = [(size + 2 * self.padding - self.kernel_size) // self.stride + 1 for size in shape[:2]]
        if min(sizes) < 1:
            raise ValueError(
                f"kernel_size {self.kernel_size} is larger than images of {shape[0]} x {shape[1]} with their padding"
            )
        return (*sizes, self.channels)

    def forward(self, ctx, x):
        weight, bias = self.params["weight"], self.params["bias"]
        y_shape = (len(x), *self.output_shape(x.shape[1:]))
        if x.shape[-1] != weight.shape[2]:
            raise ValueError(
                f"x must have {weight.shape[2]} channels, for which this layer was built, got shape {x.shape}"
            )
        x = np.ascontiguousarray(x)
        z = np.empty((*y_shape[:-1], 2 * self.channels), x.dtype)
        y = np.empty(y_shape, x.dtype)
        if y.size:
            _gate.convolve(x, weight, bias, z, self.stride, self.padding)
            _gate.gate(z, y)

        def backward(dy):
            dz = np.empty_like(z)
            if dz.size:
                _gate.gate_backward(np.ascontiguousarray(dy), z, dz)
            wrt = ("x", "weight", "bias") if ctx.input_grad else ("weight", "bias")
            dx, dweight, dbias = F.conv_backward(dz, x, weight, stride=self.stride, padding=self.padding, wrt=wrt)
            return dx, {"weight": dweight, "bias": dbias}

        return y, backward
