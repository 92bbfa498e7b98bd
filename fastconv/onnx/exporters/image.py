"""Layers of images: convolution, pooling, resizing, sampling."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastconv import layers as L
from fastconv.functional.interpolate import taps
from fastconv.geometry import adaptive_axis, conv_transpose_padding, padding_pairs, pool_output
from fastconv.onnx.exporters import exports
from fastconv.onnx.writer import Tensor, Writer

_CONVS = (L.Conv1d, L.Conv2d, L.Conv3d)
_TRANSPOSED = (L.ConvTranspose1d, L.ConvTranspose2d, L.ConvTranspose3d)
_POOLS = {
    "MaxPool": (L.MaxPool1d, L.MaxPool2d, L.MaxPool3d),
    "AveragePool": (L.AvgPool1d, L.AvgPool2d, L.AvgPool3d),
    "LpPool": (L.LpPool1d, L.LpPool2d, L.LpPool3d),
}
_ADAPTIVE_MEAN = (L.AdaptiveAvgPool1d, L.AdaptiveAvgPool2d, L.AdaptiveAvgPool3d)
_ADAPTIVE_MAX = (L.AdaptiveMaxPool1d, L.AdaptiveMaxPool2d, L.AdaptiveMaxPool3d)


def _pads(pairs: Any) -> list[int]:
    return [before for before, _ in pairs] + [after for _, after in pairs]


def window_of(layer: Any, size: tuple[int, ...]) -> dict[str, Any]:
    """Return what a node says about the window of a layer that meets images of `size`."""
    pairs = padding_pairs(layer.padding, size, layer.kernel, layer.stride, layer.dilation)
    return {
        "kernel_shape": list(layer.kernel),
        "strides": list(layer.stride),
        "dilations": list(layer.dilation),
        "pads": _pads(pairs),
    }


def _first(weight: np.ndarray) -> np.ndarray:
    """Return a weight ``(*kernel, a, b)`` as ``(b, a, *kernel)``."""
    return weight.transpose(weight.ndim - 1, weight.ndim - 2, *range(weight.ndim - 2))


def _convolved(w: Writer, x: Tensor, weight: np.ndarray, bias: np.ndarray | None, name: str, **attributes: Any) -> str:
    operands = [x.name, w.constant(_first(weight), name)]
    if bias is not None:
        operands.append(w.constant(bias, "bias"))
    return w.call("Conv", *operands, **attributes)


@exports(*_CONVS, L.DepthwiseConv2d)
def conv(w: Writer, layer: Any, x: Tensor) -> Tensor:
    weight, window = layer.params["weight"], window_of(layer, x.shape[:-1])
    groups = layer.groups if isinstance(layer, _CONVS) else weight.shape[-1] // layer.multiplier
    x = w.channels_first(x)
    name = _convolved(w, x, weight, layer.params.get("bias"), "weight", group=groups, **window)
    return w.like(x, name, w.output_shape(layer, x))


@exports(L.SeparableConv2d)
def separable(w: Writer, layer: Any, x: Tensor) -> Tensor:
    depthwise, window = layer.params["depthwise"], window_of(layer, x.shape[:-1])
    x = w.channels_first(x)
    groups = depthwise.shape[-1] // layer.multiplier
    middle = x._replace(name=_convolved(w, x, depthwise, None, "depthwise", group=groups, **window))
    name = _convolved(w, middle, layer.params["pointwise"], layer.params.get("bias"), "pointwise")
    return w.like(x, name, w.output_shape(layer, x))


@exports(*_TRANSPOSED)
def conv_transpose(w: Writer, layer: Any, x: Tensor) -> Tensor:
    extra = layer.output_padding
    pairs = conv_transpose_padding(layer.padding, layer.kernel, layer.stride, layer.dilation, extra)
    x = w.channels_first(x)
    operands = [x.name, w.constant(_first(layer.params["weight"]), "weight")]
    if layer.bias:
        operands.append(w.constant(layer.params["bias"], "bias"))
    name = w.call(
        "ConvTranspose",
        *operands,
        kernel_shape=list(layer.kernel),
        strides=list(layer.stride),
        dilations=list(layer.dilation),
        pads=_pads(pairs),
        output_padding=list(extra),
        group=layer.groups,
    )
    return w.like(x, name, w.output_shape(layer, x))


@exports(L.LocallyConnected1d, L.LocallyConnected2d)
def locally_connected(w: Writer, layer: Any, x: Tensor) -> Tensor:
    weight = layer.params["weight"]  # (*output, *kernel, C, O)
    output, rank = w.output_shape(layer, x)[:-1], layer.rank
    taps, channels = math.prod(layer.kernel), x.shape[-1]
    # a convolution whose outputs are the numbers of each window: one tap of one channel each
    ones = np.eye(taps * channels).reshape(*layer.kernel, channels, taps * channels)
    x = w.channels_first(x)
    windows = _convolved(w, x, ones, None, "windows", **window_of(layer, x.shape[:-1]))
    flat = w.call("Reshape", windows, w.integers(0, taps * channels, math.prod(output)))
    rows = w.call("Unsqueeze", w.call("Transpose", flat, perm=[0, 2, 1]), w.integers(2))  # (N, P, 1, taps * C)
    matrices = w.constant(weight.reshape(1, math.prod(output), taps * channels, weight.shape[-1]), "weight")
    y = w.call("Squeeze", w.call("MatMul", rows, matrices), w.integers(2))
    y = w.call("Reshape", y, w.integers(0, *output, weight.shape[-1]))
    if layer.bias:
        y = w.call("Add", y, w.constant(layer.params["bias"], "bias"))
    return w.array(y, (*output, weight.shape[2 * rank + 1]))


@exports(*(kind for kinds in _POOLS.values() for kind in kinds))
def pool(w: Writer, layer: Any, x: Tensor) -> Tensor:
    op = next(op for op, kinds in _POOLS.items() if isinstance(layer, kinds))
    window = window_of(layer, x.shape[:-1])
    more: dict[str, Any] = {}
    if op == "AveragePool":
        more["count_include_pad"] = int(layer.count_include_pad)
    if op == "LpPool":
        more["p"] = layer.p
    hangs = layer.ceil_mode and (w.is_open or hangs_over(layer, x.shape[:-1]))
    if hangs:
        more["ceil_mode"] = 1
    if op != "MaxPool":
        needed = 19 if op == "AveragePool" else 18
        if set(layer.dilation) == {1}:
            del window["dilations"]
        if (op == "LpPool" and hangs) or "dilations" in window:
            w.require_opset(needed)
    x = w.channels_first(x)
    return w.like(x, w.call(op, x.name, **window, **more), w.output_shape(layer, x))


def hangs_over(layer: Any, size: tuple[int, ...]) -> bool:
    """Return whether a last window hangs over the end: where none does, older versions would count one that is all padding."""
    pairs = padding_pairs(layer.padding, size, layer.kernel, layer.stride, layer.dilation)
    found = [pool_output(size, layer.kernel, layer.stride, pairs, layer.dilation, ceil) for ceil in (False, True)]
    return found[0] != found[1]


@exports(L.GlobalAvgPool, L.GlobalMaxPool)
def global_pool(w: Writer, layer: Any, x: Tensor) -> Tensor:
    op = "GlobalAveragePool" if isinstance(layer, L.GlobalAvgPool) else "GlobalMaxPool"
    x = w.channels_first(x)
    name = w.call(op, x.name)
    shape = w.output_shape(layer, x)
    return w.like(x, name, shape) if layer.keepdims else w.array(w.call("Flatten", name, axis=1), shape)


@exports(*_ADAPTIVE_MEAN)
def adaptive_mean(w: Writer, layer: Any, x: Tensor) -> Tensor:
    """Multiply by a matrix along each axis whose columns are the shares of a window, where windows are not all alike."""
    out = w.output_shape(layer, x)
    if all(size % cells == 0 for size, cells in zip(x.shape, layer.output_size, strict=False)):
        kernel = [size // cells for size, cells in zip(x.shape, layer.output_size, strict=False)]
        x = w.channels_first(x)
        return w.like(x, w.call("AveragePool", x.name, kernel_shape=kernel, strides=kernel), out)
    for axis, (size, cells) in enumerate(zip(x.shape, layer.output_size, strict=False)):
        windows = adaptive_axis(size, cells).windows()
        matrix = np.zeros((size, cells))
        for cell, (first, many) in enumerate(zip(windows.first, windows.taps, strict=True)):
            matrix[first : first + many, cell] = 1 / many
        x = w.arranged(x, (*(each for each in range(len(x.shape)) if each != axis), axis))
        shape = (*x.shape[:axis], cells, *x.shape[axis + 1 :])
        x = w.like(x, w.call("MatMul", x.name, w.constant(matrix, "shares")), shape)
    return x._replace(shape=out)


@exports(*_ADAPTIVE_MAX)
def adaptive_max(w: Writer, layer: Any, x: Tensor) -> Tensor:
    """Cut every window out along each axis and take its largest."""
    for axis, (size, cells) in enumerate(zip(x.shape, layer.output_size, strict=False)):
        windows = adaptive_axis(size, cells).windows()
        at, found = x.axis(axis + 1), []
        for first, many in zip(windows.first, windows.taps, strict=True):
            ends = [w.integers(int(n)) for n in (first, first + many, at)]
            found.append(w.reduced("ReduceMax", w.call("Slice", x.name, *ends), [at]))
        shape = (*x.shape[:axis], cells, *x.shape[axis + 1 :])
        x = w.like(x, w.call("Concat", *found, axis=at), shape)
    return x


@exports(L.Upsample)
def upsample(w: Writer, layer: Any, x: Tensor) -> Tensor:
    shape = w.output_shape(layer, x)
    scale = [n / m for n, m in zip(shape, x.shape, strict=True)]
    x = w.channels_first(x)
    scales = w.constant([1.0, *(scale[axis] for axis in x.order)], "scales", np.float32)
    attributes = (
        {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        if layer.mode == "nearest"
        else {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    )
    return w.like(x, w.call("Resize", x.name, "", scales, **attributes), shape)


@exports(L.Resize)
def resize(w: Writer, layer: Any, x: Tensor) -> Tensor:
    rule, shape = layer.rule, w.output_shape(layer, x)
    antialias = rule.antialias and rule.mode != "nearest"  # to which it does not matter
    if antialias:
        w.require_opset(18)
    if rule.coordinates == "half_pixel_symmetric":
        w.require_opset(19)
    rank = len(shape) - 1
    both = layer.scale is not None and layer.size is not None
    if both or (rule.mode == "cubic" and rank != 2):  # of which ONNX, or ONNX Runtime, knows nothing
        return _interpolated(w, layer, x)
    x = w.channels_first(x)
    attributes: dict[str, Any] = {
        "mode": rule.mode,
        "coordinate_transformation_mode": rule.coordinates,
        "cubic_coeff_a": rule.cubic,
        "exclude_outside": int(rule.exclude_outside),
        "extrapolation_value": rule.outside,
        "antialias": 1 if antialias else None,
        "nearest_mode": rule.rounding,
    }
    region = ""
    if rule.coordinates == "tf_crop_and_resize":
        pairs = [(0.0, 1.0), (0.0, 1.0), *(layer.region or [(0.0, 1.0)] * rank)]
        region = w.constant([start for start, _ in pairs] + [end for _, end in pairs], "region", np.float32)
    if layer.scale is not None:
        scales = w.constant([1.0, 1.0, *layer.scale], "scales", np.float32)
        return w.like(x, w.call("Resize", x.name, region, scales, **attributes), shape)
    batch = w.call("Slice", w.call("Shape", x.name), w.integers(0), w.integers(1))
    sizes = w.call("Concat", batch, w.integers(x.shape[-1], *layer.size), axis=0)
    return w.like(x, w.call("Resize", x.name, region, "", sizes, **attributes), shape)


@exports(L.ResizeLike)
def resize_like(w: Writer, layer: Any, x: Tensor, like: Tensor) -> Tensor:
    arguments = layer.arguments
    if arguments["mode"] == "cubic" and len(x.shape) != 3:  # of which ONNX Runtime knows nothing
        return _interpolated(w, L.Resize(size=like.shape[:-1], **arguments), x)
    shape = w.output_shape(layer, x, like)
    x, like = w.channels_first(x), w.channels_first(like)
    ends = w.call("Slice", w.call("Shape", x.name), w.integers(0), w.integers(2))
    size = w.call("Slice", w.call("Shape", like.name), w.integers(2), w.integers(len(shape) + 1))
    attributes = {
        "mode": arguments["mode"],
        "coordinate_transformation_mode": arguments["coordinates"],
        "nearest_mode": arguments["rounding"],
        "cubic_coeff_a": arguments["cubic"],
        "exclude_outside": int(arguments["exclude_outside"]),
        "antialias": 1 if arguments["antialias"] else None,
    }
    sizes = w.call("Concat", ends, size, axis=0)
    return w.like(x, w.call("Resize", x.name, "", "", sizes, **attributes), shape)


def _interpolated(w: Writer, layer: Any, x: Tensor) -> Tensor:
    """Multiply by a matrix along each axis whose columns are the taps of an output."""
    for axis, line in enumerate(layer._lines(x.shape)[1:]):
        if line is None:
            continue
        size, found = x.shape[axis], taps(x.shape[axis], line, layer.rule)
        matrix, cells = np.zeros((size, line.size)), np.arange(line.size)[:, None]
        np.add.at(matrix, (found.places, cells), np.where(found.outside[:, None], 0, found.weights))
        x = w.arranged(x, (*(each for each in range(len(x.shape)) if each != axis), axis))
        name = w.call("MatMul", x.name, w.constant(matrix, "taps"))
        if found.outside.any():
            name = w.call("Add", name, w.constant(np.where(found.outside, layer.rule.outside, 0.0), "outside"))
        x = w.like(x, name, (*x.shape[:axis], line.size, *x.shape[axis + 1 :]))
    return x


@exports(L.LocalResponseNorm)
def local_response_norm(w: Writer, layer: Any, x: Tensor) -> Tensor:
    # ONNX Runtime knows nothing of even sizes and other ranks: the sum over channels is a product with a band of ones
    if layer.size % 2 == 0 or len(x.shape) != 3:
        x = w.plain(x)
        apart = np.arange(x.shape[-1])[:, None] - np.arange(x.shape[-1])
        before = (layer.size - 1) // 2
        band = (apart >= -before) & (apart < layer.size - before)
        around = w.call("MatMul", w.call("Mul", x.name, x.name), w.constant(band * (layer.alpha / layer.size), "band"))
        base = w.call("Add", around, w.constant(layer.bias))
        return w.like(x, w.call("Mul", x.name, w.call("Pow", base, w.constant(-layer.beta))))
    x = w.channels_first(x)
    attributes = {"size": layer.size, "alpha": layer.alpha, "beta": layer.beta, "bias": layer.bias}
    return w.like(x, w.call("LRN", x.name, **attributes))
