"""Normalization."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv import layers as L
from fastconv.onnx.exporters import exports
from fastconv.onnx.writer import Tensor, Writer


@exports(L.BatchNorm)
def batch_norm(w: Writer, layer: Any, x: Tensor) -> Tensor:
    arrays = [layer.params["scale"], layer.params["bias"], layer.buffers["mean"], layer.buffers["var"]]
    x = w.channels_first(x)
    names = [w.constant(array, name) for array, name in zip(arrays, ("scale", "bias", "mean", "var"), strict=True)]
    return w.like(x, w.call("BatchNormalization", x.name, *names, epsilon=layer.eps, momentum=layer.momentum))


@exports(L.LayerNorm)
def layer_norm(w: Writer, layer: Any, x: Tensor) -> Tensor:
    x = w.plain(x)
    scale, bias = w.constant(layer.params["scale"], "scale"), w.constant(layer.params["bias"], "bias")
    if w.opset >= 17:
        return w.like(x, w.call("LayerNormalization", x.name, scale, bias, axis=-1, epsilon=layer.eps))
    moved = w.call("Sub", x.name, w.reduced("ReduceMean", x.name, [-1]))
    var = w.reduced("ReduceMean", w.call("Mul", moved, moved), [-1])
    unit = w.call("Div", moved, w.call("Sqrt", w.call("Add", var, w.constant(layer.eps))))
    return w.like(x, w.call("Add", w.call("Mul", unit, scale), bias))


@exports(L.GroupNorm)
def group_norm(w: Writer, layer: Any, x: Tensor) -> Tensor:
    """Normalize the groups as if they were channels, then scale the channels."""
    scale, bias, channels = layer.params["scale"], layer.params["bias"], x.shape[-1]
    x = w.channels_first(x)
    if layer.groups == channels:
        operands = w.constant(scale, "scale"), w.constant(bias, "bias")
        return w.like(x, w.call("InstanceNormalization", x.name, *operands, epsilon=layer.eps))
    if w.opset >= 21:
        operands = w.constant(scale, "scale"), w.constant(bias, "bias")
        attributes = {"num_groups": layer.groups, "epsilon": layer.eps}
        return w.like(x, w.call("GroupNormalization", x.name, *operands, **attributes))
    flat = w.call("Reshape", x.name, w.integers(0, layer.groups, -1))
    ones = w.constant(np.ones(layer.groups)), w.constant(np.zeros(layer.groups))
    unit = w.call("InstanceNormalization", flat, *ones, epsilon=layer.eps)
    back = w.call("Reshape", unit, w.call("Shape", x.name))
    return w.like(x, w.call("Add", w.call("Mul", back, w.held(x, scale, "scale")), w.held(x, bias, "bias")))
