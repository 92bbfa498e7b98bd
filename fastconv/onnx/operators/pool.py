"""Pooling."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastconv import layers as L
from fastconv.onnx.builder import Builder, Operand
from fastconv.onnx.errors import NotBatchedError, OnnxImportError
from fastconv.onnx.files import Node
from fastconv.onnx.operators.conv import Window
from fastconv.onnx.table import register
from fastconv.onnx.values import Constant

#: Images whose places of the largest are counted from the first image on: one number of each is kept.
MOST_IMAGES = 2**20


def _arguments(b: Builder, node: Node, x: Operand) -> tuple[Window, dict[str, Any]]:
    window = Window(b, node, x, node.get("kernel_shape") or ())
    arguments = {
        "stride": window.stride,
        "padding": window.padding(b, b.value(x)),
        "dilation": window.dilation,
        "ceil_mode": bool(node.get("ceil_mode", 0)),
    }
    return window, arguments


@register("MaxPool")
def max_pool(b: Builder, node: Node, x: Operand) -> Any:
    window, arguments = _arguments(b, node, x)
    if len(node.outputs) > 1 and node.outputs[1]:
        layer = L.MaxPoolPlaces(window.kernel, **arguments, column_major=bool(node.get("storage_order", 0)))
        values, places = b.image(layer, x, [b.value(x).dtype, np.int64])
        if b.readers.get(node.outputs[1], ()) == {"MaxUnpool"}:  # to which the image does not matter
            return [values, places]
        if b.batched:
            raise NotBatchedError
        whole, again = b.shapes(b.value(x))
        b.require(whole[0] <= MOST_IMAGES, f"it counts the places of {MOST_IMAGES} images at most, got {whole[0]}")
        first = np.arange(whole[0]).reshape([-1] + [1] * (len(whole) - 1)) * math.prod(whole[1:])
        b.require(whole == again, "the places of the largest depend on the sizes of the inputs")
        return [values, b.combine(L.Add(), places, b.constant(first))]
    kind = (L.MaxPool1d, L.MaxPool2d, L.MaxPool3d)[window.rank - 1]
    return b.image(kind(window.kernel, **arguments), x)


@register("AveragePool")
def average_pool(b: Builder, node: Node, x: Operand) -> Any:
    window, arguments = _arguments(b, node, x)
    kind = (L.AvgPool1d, L.AvgPool2d, L.AvgPool3d)[window.rank - 1]
    return b.image(kind(window.kernel, **arguments, count_include_pad=bool(node.get("count_include_pad", 0))), x)


@register("LpPool")
def lp_pool(b: Builder, node: Node, x: Operand) -> Any:
    window, arguments = _arguments(b, node, x)
    kind = (L.LpPool1d, L.LpPool2d, L.LpPool3d)[window.rank - 1]
    return b.image(kind(window.kernel, p=int(node.get("p", 2)), **arguments), x)


@register("GlobalAveragePool")
def global_average_pool(b: Builder, node: Node, x: Operand) -> Any:
    return b.image(L.GlobalAvgPool(keepdims=True), x)


@register("GlobalMaxPool")
def global_max_pool(b: Builder, node: Node, x: Operand) -> Any:
    return b.image(L.GlobalMaxPool(keepdims=True), x)


@register("GlobalLpPool")
def global_lp_pool(b: Builder, node: Node, x: Operand) -> Any:
    x, p = b.value(x), node.get("p", 2)
    axes = list(range(2, b.rank(x)))
    if p == 2:
        return b.along(x, axes, lambda places: L.ReduceL2(places, keepdims=True))
    powers = [Constant(np.full((1,) * b.rank(x), n, x.dtype)) for n in (p, 1 / p)]
    raised = b.combine(L.Power(), b.elementwise(L.Abs(), x), powers[0])
    return b.combine(L.Power(), b.along(raised, axes, lambda places: L.ReduceSum(places, keepdims=True)), powers[1])


@register("MaxUnpool")
def max_unpool(b: Builder, node: Node, x: Operand, places: Operand, output_shape: Operand | None = None) -> Any:
    window = Window(b, node, x, node.get("kernel_shape") or ())
    size = tuple(
        (n - 1) * s - before - after + k
        for n, s, k, (before, after) in zip(
            b.spatial(b.value(x)), window.stride, window.kernel, window.pads, strict=True
        )
    )
    # the places count in the image that the windows cover, whatever the image is in the end
    counted = size
    if output_shape is not None:
        size = tuple(b.integers(output_shape, "output_shape")[2:])
    if len(size) != window.rank or isinstance(x, b.constant) or isinstance(places, b.constant):
        raise OnnxImportError(
            f"{node.label}: x and the places must be computed, and output_shape have one size for each axis"
        )
    x, places = b.channels_last(x), b.channels_last(places)
    layer: L.Layer = L.MaxUnpool(size, counted=counted)
    layer = layer if b.batched else L.Each(layer)
    return b.emit(layer, [x, places], [x.order], [x.dtype])
