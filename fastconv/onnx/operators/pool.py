"""Pooling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv import layers as L
from fastconv.onnx.builder import Builder, Operand
from fastconv.onnx.errors import NeedsValueError, NotBatchedError, OnnxImportError
from fastconv.onnx.files import Node
from fastconv.onnx.operators.conv import Window
from fastconv.onnx.table import register
from fastconv.onnx.values import Constant, Value

#: Numbers of an image into which places say where others go.
MOST_NUMBERS = 2**26


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
        layer = L.MaxPoolWithIndices(window.kernel, **arguments, column_major=bool(node.get("storage_order", 0)))
        x = b.value(x)
        values, places = b.image(layer, x, [x.dtype, np.int64])
        if b.readers.get(node.outputs[1], ()) == {"MaxUnpool"}:  # to which the image does not matter
            b.pooled[id(places.symbol)] = b.spatial(x)
            return [values, places]
        if b.batched:
            raise NotBatchedError
        whole, again = b.shapes(x)
        if whole[1:] != again[1:]:
            raise NeedsValueError(f"{node.label}: the places of the largest depend on the sizes of the inputs", ())
        ones = b.elementwise(L.ScaleShift(0, 1), places)
        images = b.along(ones, [0], lambda axes: L.CumSum(axes[0], exclusive=True))
        first = b.elementwise(L.ScaleShift(math.prod(whole[1:]), 0), images)
        return [values, b.combine(L.Add(), places, first)]
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
    if isinstance(x, Constant) or isinstance(places, Constant):
        raise OnnxImportError(f"{node.label}: x and the places must be computed")
    covered, again = (_covered(window, b.spatial(x, other=other)) for other in (False, True))
    if covered != again:
        raise NeedsValueError(f"{node.label}: the size of its image depends on the sizes of the inputs", ())
    size = covered if output_shape is None else tuple(b.integers(output_shape, "output_shape")[2:])
    b.require(len(size) == window.rank, f"output_shape must have one size for each axis, got {size}")
    pooled = b.pooled.get(id(places.symbol))
    if pooled is None:
        return _unpooled_anywhere(b, x, places, covered, size)
    # places count in the image that was pooled, or in the one that the windows cover, whatever the image is in the end
    counted = size if size == pooled else covered
    layer: L.Layer = L.MaxUnpool(size, counted=counted)
    layer = layer if b.batched else L.TimeDistributed(layer)
    x, places = b.channels_last(x), b.channels_last(places)
    return b.emit(layer, [x, places], [x.order], [x.dtype])


def _covered(window: Window, pooled: Sequence[int]) -> tuple[int, ...]:
    """Return the size of the image whose windows make one of size `pooled`."""
    axes = zip(pooled, window.stride, window.kernel, window.pads, strict=True)
    return tuple((n - 1) * s - before - after + k for n, s, k, (before, after) in axes)


def _unpooled_anywhere(
    b: Builder, x: Value, places: Value, covered: tuple[int, ...], size: tuple[int, ...]
) -> list[Value]:
    """Put numbers at places that count through all images and may be of any of them."""
    if b.batched:
        raise NotBatchedError
    whole, again = b.shapes(x)
    if whole != again:
        raise NeedsValueError(f"{b.node.label}: its places depend on the sizes of the inputs", ())
    wide = (*whole[:2], *covered)
    b.require(0 < math.prod(wide) <= MOST_NUMBERS, f"no tensor has shape {wide}")
    flat = [b.reshaped(b.plain(each), (math.prod(whole),), None) for each in (places, x)]
    zeros = Constant(np.zeros(math.prod(wide), x.dtype))
    y = b.reshaped(b.call(L.ScatterElements(1), [zeros, *flat], (0,), [x.dtype])[0], wide, None)
    if size == covered:
        return [y]
    beyond = [(0, 0), (0, 0), *((0, n - m) for n, m in zip(size, covered, strict=True))]
    return [b.one(L.Pad(beyond), y)]
