"""Layers that read or write images at positions, grids and boxes."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv import layers as L
from fastconv.onnx.exporters import exports
from fastconv.onnx.exporters.image import hangs_over, window_of
from fastconv.onnx.exporters.scatter import all_samples, by_sample
from fastconv.onnx.writer import Tensor, Writer


@exports(L.MaxPoolWithIndices)
def max_pool_with_indices(w: Writer, layer: Any, x: Tensor) -> list[Tensor]:
    window, shape = window_of(layer, x.shape[:-1]), w.output_shape(layer, x)[0]
    ceil = layer.ceil_mode and (w.is_open or hangs_over(layer, x.shape[:-1]))
    count = math.prod(x.shape)
    x = w.channels_first(x)
    attributes = {"ceil_mode": int(ceil), "storage_order": int(layer.column_major)}
    values, places = w.node("MaxPool", [x.name], outputs=2, **{**window, **attributes})
    own = w.call("Mod", places, w.integers(count))  # they count through the whole batch
    return [w.like(x, values, shape), w.like(x, own, shape, np.int64)]


@exports(L.MaxUnpool)
def max_unpool(w: Writer, layer: Any, x: Tensor, places: Tensor) -> Tensor:
    shape, pixels = w.output_shape(layer, x, places), math.prod(layer.size)
    x, places = w.channels_first(x), w.channels_first(places)
    own = w.call("Mod", places.name, w.integers(math.prod(layer.counted)))
    flat = w.call("Reshape", _recounted(w, own, layer.counted, layer.size), w.integers(0, x.shape[-1], -1))
    values = w.call("Reshape", x.name, w.integers(0, x.shape[-1], -1))
    batch = w.call("Slice", w.call("Shape", x.name), w.integers(0), w.integers(1))
    empty = w.call("Expand", w.constant(0.0), w.call("Concat", batch, w.integers(x.shape[-1], pixels), axis=0))
    filled = w.call("ScatterElements", empty, flat, values, axis=2)
    return w.like(x, w.call("Reshape", filled, w.integers(0, x.shape[-1], *layer.size)), shape)


def _recounted(w: Writer, places: str, counted: Sequence[int], size: Sequence[int]) -> str:
    """Return the places of pixels, counted in images of one size, as they count in those of another."""
    if tuple(counted) == tuple(size):
        return places
    parts = []
    for axis, length in enumerate(counted):
        at = w.call("Mod", w.call("Div", places, w.integers(math.prod(counted[axis + 1 :]))), w.integers(length))
        parts.append(w.call("Mul", at, w.integers(math.prod(size[axis + 1 :]))))
    return functools.reduce(lambda a, b: w.call("Add", a, b), parts)


@exports(L.GridSample)
def grid_sample(w: Writer, layer: Any, x: Tensor, grid: Tensor) -> Tensor:
    rank = len(x.shape) - 1
    w.require_opset(20 if rank == 3 else 16)
    names = {} if w.opset >= 20 else {"linear": "bilinear", "cubic": "bicubic"}
    shape = w.output_shape(layer, x, grid)
    x, grid = all_samples(w, w.channels_first(x), w.plain(grid))
    image, places = x.name, grid.name
    if rank == 1:  # of which ONNX Runtime knows nothing: a line is an image of one row, whose middle is at 0
        image = w.call("Unsqueeze", image, w.integers(2))
        places = w.call("Unsqueeze", w.call("Pad", places, w.integers(0, 0, 0, 0, 0, 1)), w.integers(1))
    attributes = {"mode": names.get(layer.mode, layer.mode), "padding_mode": layer.padding}
    name = w.call("GridSample", image, places, **attributes, align_corners=int(layer.align_corners))
    return w.like(x, w.call("Squeeze", name, w.integers(2)) if rank == 1 else name, shape)


@exports(L.RoiAlign)
def roi_align(w: Writer, layer: Any, x: Tensor, boxes: Tensor, images: Tensor) -> Tensor:
    w.require_opset(16)
    shape = w.output_shape(layer, x, boxes, images)
    x, boxes, images = all_samples(w, w.plain(x), w.plain(boxes), w.plain(images))
    channels = x.shape[-1]
    first = w.call("Transpose", w.merged(x), perm=[0, 3, 1, 2])
    sizes = w.call("Shape", x.name)
    batch, count = (w.call("Slice", sizes, w.integers(axis), w.integers(axis + 1)) for axis in (0, 1))
    zero, one = (w.constant(np.array(n, np.int64)) for n in (0, 1))
    samples = w.call("Range", zero, w.call("Squeeze", batch, w.integers(0)), one)
    offsets = w.call("Mul", w.call("Unsqueeze", samples, w.integers(1)), count)
    positive = w.call("Mod", w.call("Add", w.call("Cast", images.name, to=7), count), count)
    numbers = w.call("Reshape", w.call("Add", positive, offsets), w.integers(-1))
    rows = w.merged(boxes)
    name = w.call(
        "RoiAlign", first, rows, numbers,
        output_height=layer.size[0], output_width=layer.size[1], sampling_ratio=layer.samples,
        spatial_scale=layer.scale, mode="avg" if layer.reduce == "mean" else "max",
        coordinate_transformation_mode="half_pixel" if layer.half_pixel else "output_half_pixel",
    )  # fmt: skip
    apart = w.apart(name, shape[0], channels, *layer.size)
    return Tensor(apart, shape, (0, 3, 1, 2), x.dtype)


@exports(L.NonMaxSuppression)
def non_max_suppression(w: Writer, layer: Any, boxes: Tensor, scores: Tensor) -> Tensor:
    shape, images = w.output_shape(layer, boxes, scores), boxes.shape[0]
    merged = [w.merged(x) for x in all_samples(w, w.plain(boxes), w.plain(scores))]
    operands = [w.integers(layer.most), w.constant(layer.overlap, dtype=np.float32)]
    if layer.threshold is not None:
        operands.append(w.constant(layer.threshold, dtype=np.float32))
    rows = w.call("NonMaxSuppression", *merged, *operands, center_point_box=int(layer.centred))
    if w.single and layer.trimmed:
        return w.array(w.call("Unsqueeze", rows, w.integers(0)), shape, np.int64)
    w.require_opset(16)
    image, rest = w.node("Split", [rows, w.integers(1, 2)], outputs=2, axis=1)
    sample = w.call("Div", image, w.integers(images))
    own = w.call("Concat", w.call("Mod", image, w.integers(images)), rest, axis=1)
    return w.array(by_sample(w, sample, own, scores.name, 3, None if layer.trimmed else shape[0]), shape, np.int64)
