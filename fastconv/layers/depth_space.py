"""Layers that turn blocks of pixels into channels, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv.arguments import ntuple
from fastconv.layers.base import Backward, Layer
from fastconv.layers.checks import with_batch
from fastconv.layers.context import Context
from fastconv.layers.symbol import Shape
from fastconv.layers.traits import Traits
from fastconv.registry import layers

Gradients = tuple[Any, dict[str, np.ndarray]]


class _Blocks(Layer):
    traits = Traits(linear=True)

    def __init__(self, block: int, *, order: str = "DCR") -> None:
        self.block = ntuple(block, 1, "block")[0]
        if order not in ("DCR", "CRD"):
            raise ValueError(f'order must be "DCR" or "CRD", got {order!r}')
        self.order = order

    def _axes(self) -> tuple[int, ...]:
        # (N, H, W, block, block, C) -> (N, H, block, W, block, C), the channels read as two offsets and C, or C and two
        return (0, 1, 3, 2, 4, 5) if self.order == "DCR" else (0, 1, 4, 2, 5, 3)

    def _deep(self, shape: Shape) -> tuple[int, ...]:
        """Return the shape (H, W, ...) with the channels of the deep side taken apart."""
        h, w, c = shape
        parts = (self.block, self.block, c // self.block**2)
        return (h, w, *(parts if self.order == "DCR" else parts[-1:] + parts[:2]))


@layers.register("DepthToSpace")
class DepthToSpace(_Blocks):
    """Channels to pixels: ``(N, H, W, C * block**2)`` to ``(N, H * block, W * block, C)``.

    The channels hold the row in the block, the column and then C (`order` "DCR"), or C first ("CRD", as PyTorch shuffles
    pixels). Source: Shi et al., Real-time single image super-resolution, CVPR 2016, section 3.2.

    >>> import numpy as np
    >>> DepthToSpace(2)(np.zeros((1, 3, 4, 8))).shape
    (1, 6, 8, 2)
    """

    @classmethod
    def examples(cls) -> Sequence[Any]:
        return [(cls(2), [(3, 4, 8)])]

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != 3 or shape[-1] % self.block**2:
            raise ValueError(
                f"x must have shape (N, H, W, C), C a multiple of {self.block**2}, got {with_batch(shape)}"
            )
        return (shape[0] * self.block, shape[1] * self.block, shape[2] // self.block**2)

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        out, axes, before = self.output_shape(x.shape[1:]), self._axes(), x.shape
        deep = (len(x), *self._deep(x.shape[1:]))
        wide = tuple(deep[axis] for axis in axes)

        def backward(dy: np.ndarray) -> Gradients:
            return dy.reshape(wide).transpose(np.argsort(axes)).reshape(before), {}

        return np.array(x.reshape(deep).transpose(axes), order="C").reshape(len(x), *out), backward


@layers.register("SpaceToDepth")
class SpaceToDepth(_Blocks):
    """Pixels to channels: ``(N, H * block, W * block, C)`` to ``(N, H, W, C * block**2)``; undoes `DepthToSpace`.

    >>> import numpy as np
    >>> SpaceToDepth(2)(np.zeros((1, 6, 8, 2))).shape
    (1, 3, 4, 8)
    """

    @classmethod
    def examples(cls) -> Sequence[Any]:
        return [(cls(2), [(4, 6, 3)])]

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != 3 or shape[0] % self.block or shape[1] % self.block:
            raise ValueError(
                f"x must have shape (N, H, W, C), H and W multiples of {self.block}, got {with_batch(shape)}"
            )
        return (shape[0] // self.block, shape[1] // self.block, shape[2] * self.block**2)

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        out, axes, before = self.output_shape(x.shape[1:]), self._axes(), x.shape
        deep = (len(x), *self._deep(out))
        wide = tuple(deep[axis] for axis in axes)

        def backward(dy: np.ndarray) -> Gradients:
            return dy.reshape(deep).transpose(axes).reshape(before), {}

        return np.array(x.reshape(wide).transpose(np.argsort(axes)), order="C").reshape(len(x), *out), backward
