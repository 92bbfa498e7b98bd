"""Operators between blocks of pixels and channels, and between windows and images."""

from __future__ import annotations

from typing import Any

from fastconv import layers as L
from fastconv.onnx.builder import Builder, Operand
from fastconv.onnx.files import Node
from fastconv.onnx.table import register
from fastconv.onnx.values import last_first


@register("DepthToSpace")
def depth_to_space(b: Builder, node: Node, x: Operand) -> Any:
    return b.image(L.DepthToSpace(node.get("blocksize", 1), order=node.get("mode", "DCR")), x)


@register("SpaceToDepth")
def space_to_depth(b: Builder, node: Node, x: Operand) -> Any:
    return b.image(L.SpaceToDepth(node.get("blocksize", 1), order=node.get("mode", "DCR")), x)


@register("Col2Im")
def col_to_im(b: Builder, node: Node, x: Operand, size: Operand, kernel: Operand) -> Any:
    image, block = b.integers(size, "image_shape"), b.integers(kernel, "block_shape")
    rank = len(image)
    ones, pads = [1] * rank, node.get("pads") or [0] * 2 * rank
    b.require(len(pads) == 2 * rank, f"pads must be two for each of {rank} axes, got {pads}")
    layer: L.Layer = L.Fold(
        image,
        block,
        stride=node.get("strides") or ones,
        padding=list(zip(pads[:rank], pads[rank:], strict=True)),
        dilation=node.get("dilations") or ones,
    )
    x = b.channels_last(x)
    b.require(b.rank(x) == 3, f"it takes windows of 3 axes, got {b.rank(x)}")
    order = last_first(rank + 2 - b.offset, 1 - b.offset)
    return b.emit(layer if b.batched else L.TimeDistributed(layer), [x], [order], [x.dtype])
