"""Layers that sample images between their pixels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fastconv.layers.base import Backward, Layer
from fastconv.layers.checks import require_floats, spatial_shape, with_batch
from fastconv.layers.context import Context
from fastconv.layers.symbol import Shape
from fastconv.layers.traits import Traits
from fastconv.registry import layers

Gradients = tuple[Any, dict[str, np.ndarray]]


class Taps(NamedTuple):
    """Along one axis, for each place: which pixels it sees, with which weights, and how the weights change with the place."""

    pixels: np.ndarray
    weights: np.ndarray
    slopes: np.ndarray


def _taps(place: np.ndarray, size: int, mode: str, padding: str, align: bool) -> Taps:
    """Return the taps of places in pixels, which may lie outside; ``(..., taps)`` each."""
    low, high = (0.0, size - 1.0) if align else (-0.5, size - 0.5)
    turn = np.ones_like(place)
    if padding == "border" and mode != "cubic":  # a curve goes on beyond the outermost pixels, through their copies
        turn = ((place >= 0) & (place <= size - 1)).astype(place.dtype)
        place = np.clip(place, 0, size - 1)
    elif padding == "reflection":
        place, turn = _reflected(place, low, high)
    place = np.clip(place, -3, size + 2)  # further out every pixel is outside
    if mode == "nearest":
        pixels = np.rint(place).astype(np.int64)[..., None]
        weights, slopes = np.ones_like(place)[..., None], np.zeros_like(place)[..., None]
    elif mode == "linear":
        first = np.floor(place)
        part = place - first
        pixels = first.astype(np.int64)[..., None] + np.arange(2)
        weights = np.stack([1 - part, part], axis=-1)
        slopes = np.stack([-np.ones_like(part), np.ones_like(part)], axis=-1)
    else:
        first = np.floor(place)
        pixels = first.astype(np.int64)[..., None] + np.arange(-1, 3)
        offset = place[..., None] - pixels
        weights, slopes = _cubic(offset)
    inside = (pixels >= 0) & (pixels < size)
    if padding == "reflection":
        mirrored, _ = _reflected(pixels.astype(np.float64), low, high)
        pixels = mirrored.astype(np.int64)
    elif padding == "zeros":
        weights, slopes = np.where(inside, weights, 0), np.where(inside, slopes, 0)
    return Taps(np.clip(pixels, 0, size - 1), weights, slopes * turn[..., None])


def _cubic(offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the heights and slopes of the curve of Keys (1981) with a = -0.75 at distances from its middle."""
    a, d, sign = -0.75, np.abs(offset), np.sign(offset)
    near, far = ((a + 2) * d - (a + 3)) * d * d + 1, ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    near_slope, far_slope = (3 * (a + 2) * d - 2 * (a + 3)) * d, (3 * a * d - 10 * a) * d + 8 * a
    inner, outer = d <= 1, d < 2
    return np.where(inner, near, np.where(outer, far, 0)), sign * np.where(
        inner, near_slope, np.where(outer, far_slope, 0)
    )


def _reflected(place: np.ndarray, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Return places mirrored at both ends until they are between them, and 1 or -1, how they then move."""
    span = high - low
    if span <= 0:
        return np.zeros_like(place), np.zeros_like(place)
    along = (place - low) % (2 * span)
    back = along > span
    return low + np.where(back, 2 * span - along, along), np.where(back, -1.0, 1.0).astype(place.dtype)


@layers.register("GridSample")
class GridSample(Layer):
    """An image sampled at the points of a grid: ``(N, *spatial, C)`` and ``(N, *output, rank)`` to ``(N, *output, C)``.

    A place has one number for each spatial axis, the last axis first (x, then y), from -1 to 1 over the image. Source:
    Jaderberg et al., Spatial transformer networks, NeurIPS 2015, section 3.3.

    Parameters
    ----------
    mode : "linear", "nearest" or "cubic"
    padding : "zeros", "border" or "reflection"
        What lies outside the image.
    align_corners : bool
        Whether -1 and 1 are the centres of the outermost pixels, else their outer edges.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[[0.0], [4.0]]])
    >>> GridSample(align_corners=True)(x, np.array([[[-1.0], [0.0], [1.0]]]))[0, :, 0]
    array([0., 2., 4.])
    """

    def __init__(self, *, mode: str = "linear", padding: str = "zeros", align_corners: bool = False) -> None:
        if mode not in ("linear", "nearest", "cubic") or padding not in ("zeros", "border", "reflection"):
            raise ValueError(
                f'mode must be "linear", "nearest" or "cubic" and padding "zeros", "border" or "reflection", '
                f"got {mode!r} and {padding!r}"
            )
        self.mode, self.padding, self.align_corners = mode, padding, bool(align_corners)

    @classmethod
    def examples(cls) -> Sequence[Any]:
        return [(cls(), [(4, 3, 2), (2, 3, 2)]), (cls(mode="cubic"), [(5, 2), (3, 1)])]

    @property
    def traits(self) -> Traits:
        return Traits(kinks=self._distance, domain=(-1.3, 1.3))

    def _distance(self, x: np.ndarray, grid: np.ndarray) -> float:
        """Return how far the places are from the nearest border between pixels, or middle of one."""
        nearest = math.inf
        for place in self._places(x.shape[1:-1], grid):
            nearest = min(nearest, float(np.abs(place * 2 - np.rint(place * 2)).min(initial=math.inf)) / 2)
        return nearest

    def output_shape(self, *shapes: Shape) -> Shape:
        if len(shapes) != 2:
            raise ValueError(f"GridSample takes an image and a grid, got {len(shapes)} inputs")
        size, grid = spatial_shape(shapes[0]), shapes[1]
        if len(grid) != len(size) + 1 or grid[-1] != len(size):
            raise ValueError(f"the grid must have shape (N, *output, {len(size)}), got {with_batch(grid)}")
        return (*grid[:-1], shapes[0][-1])

    def _places(self, size: Shape, grid: np.ndarray) -> list[np.ndarray]:
        """Return the places along each axis, in pixels."""
        along = [grid[..., -1 - axis] for axis in range(len(size))]
        if self.align_corners:
            return [(g + 1) / 2 * (n - 1) for g, n in zip(along, size, strict=True)]
        return [((g + 1) * n - 1) / 2 for g, n in zip(along, size, strict=True)]

    def forward(self, ctx: Context, x: np.ndarray, grid: np.ndarray) -> tuple[np.ndarray, Backward]:
        self.output_shape(x.shape[1:], grid.shape[1:])
        require_floats(x, grid)
        if len(x) != len(grid):
            raise ValueError(f"the inputs must have one batch size, got {len(x)} and {len(grid)}")
        size, rank = x.shape[1:-1], x.ndim - 2
        axes = [
            _taps(place, n, self.mode, self.padding, self.align_corners)
            for place, n in zip(self._places(size, grid), size, strict=True)
        ]
        samples = np.arange(len(x)).reshape(-1, *[1] * rank)
        combinations = list(itertools.product(*(range(axis.pixels.shape[-1]) for axis in axes)))

        def seen(taps: Sequence[int]) -> tuple[np.ndarray, ...]:
            return (samples, *(axis.pixels[..., t] for axis, t in zip(axes, taps, strict=True)))

        def weight(taps: Sequence[int], slope_of: int | None = None) -> np.ndarray:
            parts = (
                (axis.slopes if at == slope_of else axis.weights)[..., t]
                for at, (axis, t) in enumerate(zip(axes, taps, strict=True))
            )
            return np.asarray(math.prod(parts, start=np.ones((), x.dtype)))[..., None].astype(x.dtype)

        y = np.zeros((*grid.shape[:-1], x.shape[-1]), x.dtype)
        for taps in combinations:
            y += weight(taps) * x[seen(taps)]

        def backward(dy: np.ndarray) -> Gradients:
            dx, dgrid = np.zeros_like(x), np.zeros_like(grid)
            for taps in combinations:
                np.add.at(dx, seen(taps), weight(taps) * dy)
                for axis in range(rank):
                    pull = (dy * x[seen(taps)] * weight(taps, axis)).sum(axis=-1)
                    dgrid[..., -1 - axis] += pull * ((size[axis] - self.align_corners) / 2)
            return (dx, dgrid), {}

        return y, backward

    def window(self, *shapes: Shape) -> None:
        return None
