"""Normalization."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastconv import layers as L
from fastconv.onnx.builder import Builder, Operand
from fastconv.onnx.errors import NotBatchedError, OnnxImportError
from fastconv.onnx.files import Node
from fastconv.onnx.table import register
from fastconv.onnx.values import Constant, Value


@register("BatchNormalization")
def batch_normalization(
    b: Builder, node: Node, x: Operand, scale: Operand, bias: Operand, mean: Operand, var: Operand
) -> Any:
    if not node.get("spatial", 1):
        raise OnnxImportError(f"{node.label}: spatial=0 is not supported")
    x = b.value(x)
    arrays = [b.weight(each, name, 1) for each, name in ((scale, "scale"), (bias, "B"), (mean, "mean"), (var, "var"))]
    channels = b.channels(x) if b.rank(x) > 1 else 1
    if {array.shape for array in arrays} != {(channels,)}:
        raise OnnxImportError(f"{node.label}: scale, B, mean and var must have {channels} numbers")
    if node.get("training_mode", 0):
        return _of_batch(b, node, x, arrays)
    layer = L.BatchNorm(momentum=node.get("momentum", 0.9), eps=node.get("epsilon", 1e-5))
    weights = {"scale": arrays[0], "bias": arrays[1]}
    b.layer(layer, weights, {"mean": arrays[2], "var": arrays[3]})
    x = b.channels_last(x) if b.rank(x) > 1 else x
    return b.one(layer, x)


def _of_batch(b: Builder, node: Node, x: Value, arrays: list[np.ndarray]) -> list[Value]:
    """Normalize with the statistics of the batch, whatever the mode, and return the moved statistics too."""
    if b.batched:
        raise NotBatchedError
    axes = [axis for axis in range(b.rank(x)) if axis != 1]
    shape = (-1, *(1 for _ in axes[1:]))
    scale, bias, mean, var = arrays
    centre = b.along(x, axes, lambda places: L.ReduceMean(places, keepdims=True))
    moved = b.combine(L.Subtract(), x, centre)
    spread = b.along(b.elementwise(L.Square(), moved), axes, lambda places: L.ReduceMean(places, keepdims=True))
    root = b.elementwise(L.Sqrt(), b.elementwise(L.ScaleShift(1.0, node.get("epsilon", 1e-5)), spread))
    y = b.combine(L.Multiply(), b.combine(L.Divide(), moved, root), Constant(scale.reshape(shape), None, True))
    y = b.combine(L.Add(), y, Constant(bias.reshape(shape), None, True))
    momentum, outputs = node.get("momentum", 0.9), [y]
    for found, before in ((centre, mean), (spread, var)):
        flat = b.one(L.Squeeze([1 + axis for axis in axes]), b.plain(found), (0,))
        part = b.elementwise(L.ScaleShift(1 - momentum, 0.0), flat)
        outputs.append(b.combine(L.Add(), part, Constant(before * np.asarray(momentum, before.dtype))))
    return outputs


@register("InstanceNormalization")
def instance_normalization(b: Builder, node: Node, x: Operand, scale: Operand, bias: Operand) -> Any:
    x = b.value(x)
    weights = {"scale": b.weight(scale, "scale", 1), "bias": b.weight(bias, "B", 1)}
    channels = b.channels(x)
    b.require(all(each.shape == (channels,) for each in weights.values()), f"scale and B must have {channels} numbers")
    layer = L.GroupNorm(channels, eps=node.get("epsilon", 1e-5))
    return b.image(b.layer(layer, weights), x)


@register("GroupNormalization")
def group_normalization(b: Builder, node: Node, x: Operand, scale: Operand, bias: Operand) -> Any:
    x, groups = b.value(x), int(node.get("num_groups", 1))
    b.require(b.rank(x) == node.get("rank", b.rank(x)), "scale and bias must be for channels")
    weights = {"scale": b.weight(scale, "scale", 1), "bias": b.weight(bias, "bias", 1)}
    channels = b.channels(x)
    if node.opset < 21 and groups > 0 and channels % groups == 0:  # one number for each group
        weights = {name: np.repeat(array, channels // groups) for name, array in weights.items()}
    b.require(
        all(array.shape == (channels,) for array in weights.values()), f"scale and bias must fit {channels} channels"
    )
    return b.image(b.layer(L.GroupNorm(groups, eps=node.get("epsilon", 1e-5)), weights), x)


@register("LayerNormalization")
def layer_normalization(b: Builder, node: Node, x: Operand, scale: Operand, bias: Operand | None = None) -> Any:
    x = b.plain(x)
    first = b.inner(x, node.get("axis", -1))  # an inner axis; all from there on are normalized together
    sizes, eps = x.shape[first:], node.get("epsilon", 1e-5)
    weights = [b.weight(scale, "scale")] + ([] if bias is None else [b.weight(bias, "B")])
    if sizes == x.other_shape[first:]:
        weight, *shift = (np.broadcast_to(each, sizes).reshape(-1) for each in weights)
        arrays = {"scale": weight, "bias": shift[0] if shift else np.zeros_like(weight)}
        y = _flattened(b, x, first, b.layer(L.LayerNorm(eps=eps), arrays))
        if len(node.outputs) < 2:
            return y
    axes = list(range(first + b.offset, b.rank(x)))
    moved, mean, root = _standard(b, x, axes, eps)
    if sizes != x.other_shape[first:]:  # no layer of as many weights
        y = b.combine(L.Multiply(), b.combine(L.Divide(), moved, root), Constant(weights[0], None, True))
        y = b.combine(L.Add(), y, Constant(weights[1], None, True)) if bias is not None else y
    # float32 whatever x is
    return [y, b.cast(mean, np.float32), b.cast(b.elementwise(L.Reciprocal(), root), np.float32)]


def _standard(b: Builder, x: Value, axes: list[int], eps: float) -> tuple[Value, Value, Value]:
    """Return a value less its mean along axes, that mean, and the root of the variance and `eps`."""
    mean = b.along(x, axes, lambda places: L.ReduceMean(places, keepdims=True))
    moved = b.combine(L.Subtract(), x, mean)
    var = b.along(b.elementwise(L.Square(), moved), axes, lambda places: L.ReduceMean(places, keepdims=True))
    return moved, mean, b.elementwise(L.Sqrt(), b.elementwise(L.ScaleShift(1.0, eps), var))


@register("RMSNormalization")
def rms_normalization(b: Builder, node: Node, x: Operand, scale: Operand) -> Any:
    x = b.value(x)
    axes = list(range(b.inner(x, node.get("axis", -1)) + b.offset, b.rank(x)))
    mean = b.along(b.elementwise(L.Square(), x), axes, lambda places: L.ReduceMean(places, keepdims=True))
    root = b.elementwise(L.Sqrt(), b.elementwise(L.ScaleShift(1.0, node.get("epsilon", 1e-5)), mean))
    return b.combine(L.Multiply(), b.combine(L.Divide(), x, root), scale)


@register("MeanVarianceNormalization")
def mean_variance_normalization(b: Builder, node: Node, x: Operand) -> Any:
    x, axes = b.value(x), node.get("axes") or [0, 2, 3]
    if b.batched and any(axis % b.rank(x) == 0 for axis in axes):
        raise NotBatchedError
    # the operator adds 1e-9 to the root, whose gradient would be NaN where the variance is 0
    moved, _, root = _standard(b, x, axes, 1e-18)
    return b.combine(L.Divide(), moved, root)


def _flattened(b: Builder, x: Value, first: int, layer: L.Layer) -> Value:
    """Call a layer that works along the last axis along all inner axes from `first` on."""
    if first == len(x.shape) - 1:
        return b.one(layer, x)
    flat = b.reshaped(
        x, (*x.shape[:first], math.prod(x.shape[first:])), (*x.other_shape[:first], math.prod(x.other_shape[first:]))
    )
    return b.reshaped(b.one(layer, flat), x.shape, x.other_shape)


@register("LRN")
def lrn(b: Builder, node: Node, x: Operand) -> Any:
    layer = L.LocalResponseNorm(
        int(node.get("size", 1)), alpha=node.get("alpha", 1e-4), beta=node.get("beta", 0.75), bias=node.get("bias", 1.0)
    )
    return b.one(layer, b.channels_last(x))
