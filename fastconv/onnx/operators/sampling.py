"""Operators that sample images at grids and boxes."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv import layers as L
from fastconv.onnx.builder import Builder, Operand
from fastconv.onnx.counting import COUNT, counted
from fastconv.onnx.errors import NotBatchedError, OnnxImportError
from fastconv.onnx.files import Node
from fastconv.onnx.table import register
from fastconv.onnx.values import Value


@register("GridSample")
def grid_sample(b: Builder, node: Node, x: Operand, grid: Operand) -> Any:
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(node.get("mode", "linear"), node.get("mode", "linear"))
    layer: L.Layer = L.GridSample(
        mode=mode, padding=node.get("padding_mode", "zeros"), align_corners=bool(node.get("align_corners", 0))
    )
    x, places = b.channels_last(x), b.plain(grid) if isinstance(grid, Value) else b.per_sample(grid, grid.rank)
    return b.call(layer if b.batched else L.TimeDistributed(layer), [x, places], x.order, [x.dtype])


@register("RoiAlign")
def roi_align(b: Builder, node: Node, x: Operand, boxes: Operand, images: Operand) -> Any:
    if b.batched:
        raise NotBatchedError
    half_pixel = node.get("coordinate_transformation_mode", "half_pixel" if node.opset >= 16 else "output_half_pixel")
    layer = L.RoiAlign(
        [node.get("output_height", 1), node.get("output_width", 1)],
        samples=node.get("sampling_ratio", 0),
        scale=node.get("spatial_scale", 1.0),
        reduce="max" if node.get("mode", "avg") == "max" else "mean",
        half_pixel=half_pixel == "half_pixel",
    )
    operands = [
        b.channels_last(x),
        *(each if isinstance(each, b.constant) else b.plain(each) for each in (boxes, images)),
    ]
    return b.call(layer, operands, (0, 2, 3, 1), [x.dtype])


@register("NonMaxSuppression")
def non_max_suppression(
    b: Builder,
    node: Node,
    boxes: Operand,
    scores: Operand,
    most: Operand | None = None,
    overlap: Operand | None = None,
    threshold: Operand | None = None,
) -> Any:
    if b.batched:
        raise NotBatchedError
    count = int(b.number(most, "max_output_boxes_per_class", 0))
    limit = b.number(threshold, "score_threshold")
    if count < 1:
        return b.constant(np.zeros((0, 3), np.int64))
    if isinstance(scores, b.constant):
        raise OnnxImportError(f"{node.label}: the scores must be computed")
    layer = L.NonMaxSuppression(
        min(count, 2**31 - 1),
        overlap=float(b.number(overlap, "iou_threshold", 0.0)),
        threshold=None if limit is None else float(limit),
        centred=bool(node.get("center_point_box", 0)),
        trimmed=True,
        expected=COUNT[0],
    )
    operands = [boxes if isinstance(boxes, b.constant) else b.plain(boxes), b.plain(scores)]
    return counted(b, layer, operands, [np.int64])
