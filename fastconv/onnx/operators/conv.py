"""Convolution and its transpose."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv import layers as L
from fastconv.geometry import effective_kernel, padding_pairs
from fastconv.onnx.builder import Builder, Operand
from fastconv.onnx.errors import NeedsValueError, OnnxImportError
from fastconv.onnx.files import Node
from fastconv.onnx.table import register
from fastconv.onnx.values import Value


class Window:
    """The arguments that convolutions and pools share, one for each spatial axis."""

    def __init__(self, b: Builder, node: Node, x: Operand, kernel: Any) -> None:
        self.rank = b.rank(x) - 2
        if not 1 <= self.rank <= 3:
            raise OnnxImportError(f"{node.label} takes images of 1 to 3 spatial axes, got a tensor of {b.rank(x)} axes")
        self.kernel = tuple(kernel)
        self.stride = tuple(node.get("strides") or (1,) * self.rank)
        self.dilation = tuple(node.get("dilations") or (1,) * self.rank)
        self.auto_pad = node.get("auto_pad") or "NOTSET"
        pads = node.get("pads") or [0] * (2 * self.rank)
        if len(self.kernel) != self.rank or len(pads) != 2 * self.rank:
            raise OnnxImportError(
                f"{node.label}: kernel {self.kernel} and pads {pads} must fit {self.rank} spatial axes"
            )
        self.pads = tuple(zip(pads[: self.rank], pads[self.rank :], strict=True))

    def padding(self, b: Builder, x: Value) -> Any:
        """Return the padding as layers take it."""
        if self.auto_pad in ("NOTSET", ""):
            return self.pads
        if self.auto_pad == "VALID":
            return "valid"
        if self.auto_pad == "SAME_UPPER":
            return "same"
        if self.auto_pad != "SAME_LOWER":
            raise OnnxImportError(f"{b.node.label}: auto_pad {self.auto_pad!r} is unknown")
        pairs = [
            padding_pairs("same", spatial, self.kernel, self.stride, self.dilation)
            for spatial in (b.spatial(x), b.spatial(x, other=True))
        ]
        if pairs[0] != pairs[1]:
            raise NeedsValueError(f"{b.node.label}: its padding depends on the sizes of the inputs", ())
        return tuple((after, before) for before, after in pairs[0])


@register("Conv")
def conv(b: Builder, node: Node, x: Operand, weight: Operand, bias: Operand | None = None) -> Any:
    x = b.value(x)
    w = b.weight(weight, "weight")  # (O, C / groups, *kernel)
    if w.ndim < 3:
        raise OnnxImportError(f"{node.label}: the weight must have shape (O, C, *kernel), got {w.shape}")
    window = Window(b, node, x, w.shape[2:])
    groups, channels = node.get("group", 1), b.channels(x)
    if w.shape[1] * groups != channels:
        raise OnnxImportError(f"{node.label}: weight {w.shape} does not fit {channels} channels")
    weights = _weights(b, w, bias, w.shape[0])
    kind = (L.Conv1d, L.Conv2d, L.Conv3d)[window.rank - 1]
    layer = kind(
        w.shape[0],
        window.kernel,
        stride=window.stride,
        padding=window.padding(b, x),
        dilation=window.dilation,
        groups=groups,
        bias=bias is not None,
        initializer="zeros",
    )
    return b.image(b.layer(layer, weights), x)


@register("ConvTranspose")
def conv_transpose(b: Builder, node: Node, x: Operand, weight: Operand, bias: Operand | None = None) -> Any:
    x = b.value(x)
    w = b.weight(weight, "weight")  # (C, O / groups, *kernel)
    if w.ndim < 3:
        raise OnnxImportError(f"{node.label}: the weight must have shape (C, O, *kernel), got {w.shape}")
    groups = node.get("group", 1)
    window = Window(b, node, x, w.shape[2:])
    b.require(w.shape[0] == b.channels(x), f"weight {w.shape} does not fit {b.channels(x)} channels")
    weights = _weights(b, w, bias, w.shape[1] * groups)
    extra = list(node.get("output_padding") or (0,) * window.rank)
    pads, extra = _transposed_padding(b, node, x, window, extra)
    kind = (L.ConvTranspose1d, L.ConvTranspose2d, L.ConvTranspose3d)[window.rank - 1]
    layer = kind(
        w.shape[1] * groups,
        window.kernel,
        stride=window.stride,
        padding=pads,
        output_padding=extra,
        dilation=window.dilation,
        groups=groups,
        bias=bias is not None,
        initializer="zeros",
    )
    return b.image(b.layer(layer, weights), x)


def _weights(b: Builder, w: np.ndarray, bias: Operand | None, outputs: int) -> dict[str, np.ndarray]:
    """Return a weight ``(O, C, *kernel)``, or ``(C, O, *kernel)`` of a transpose, as layers have it, and the bias."""
    kernel = b.node.get("kernel_shape")
    if kernel is not None and tuple(kernel) != w.shape[2:]:
        raise OnnxImportError(f"{b.node.label}: kernel_shape {kernel} is not that of weight {w.shape}")
    weights = {"weight": w.transpose(*range(2, w.ndim), 1, 0)}
    if bias is not None:
        weights["bias"] = b.weight(bias, "bias", 1)
        got = weights["bias"].shape
        b.require(got == (outputs,), f"the bias must have one number for each of {outputs} output channels, got {got}")
    return weights


def _transposed_padding(b: Builder, node: Node, x: Value, window: Window, extra: list[int]) -> tuple[Any, list[int]]:
    wanted, same = node.get("output_shape"), window.auto_pad.startswith("SAME")
    if not wanted and not same:
        return (window.pads if window.auto_pad in ("NOTSET", "") else ((0, 0),) * window.rank), extra
    if wanted:
        wanted = wanted[-window.rank :]
        b.require(len(wanted) == window.rank, f"output_shape must have one size for each spatial axis, got {wanted}")
    if wanted and b.spatial(x) != b.spatial(x, other=True):
        raise NeedsValueError(f"{node.label}: its padding depends on the sizes of the inputs", ())
    pads = []
    for axis, n in enumerate(b.spatial(x)):
        span = effective_kernel(window.kernel[axis], window.dilation[axis])
        out = wanted[axis] if wanted else n * window.stride[axis]
        total = window.stride[axis] * (n - 1) + extra[axis] + span - out
        if total < 0:  # the kernel does not reach the end, which is where it ends unless a size is asked for
            extra[axis], total = extra[axis] - (total if wanted else 0), 0
        less, more = total // 2, total - total // 2
        pads.append((less, more) if window.auto_pad == "SAME_UPPER" else (more, less))
    return tuple(pads), extra
