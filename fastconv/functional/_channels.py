"""Sums over the pixels for each channel, and maps that each channel has its own numbers for: what normalizations
are made of.

Pixels are divided into sets that are normalized apart: the whole batch is one set, or each image is one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastconv.functional._validate import kernels_for
from fastconv.threads import threads_for

#: The kernels take the channels of so many pixels together that they are about this many numbers.
WIDTH = 64

#: The sums of one set are cut into at most so many chunks, of at least so many elements each, that are added in order.
CHUNKS, CHUNK = 64, 16384


class Layout(NamedTuple):
    """How an array (..., C) is cut: into `sets` of `pixels` each, a set into chunks of `chunk` elements."""

    sets: int
    pixels: int
    chunk: int
    channels: int
    repeat: int  # pixels that the kernels take together


def one_set(x: NDArray[Any]) -> Layout:
    """Return the layout in which all pixels are one set."""
    channels = x.shape[-1]
    repeat = max(1, WIDTH // channels)
    lines = max(CHUNK, -(-x.size // CHUNKS)) // (repeat * channels) + 1
    return Layout(1, x.size // channels, lines * repeat * channels, channels, repeat)


def one_set_each(x: NDArray[Any]) -> Layout:
    """Return the layout in which each image of x (N, *spatial, C) is a set, and a single chunk."""
    channels = x.shape[-1]
    size = x.size // len(x) if len(x) else channels
    return Layout(len(x), size // channels, size, channels, max(1, WIDTH // channels))


def moments(x: NDArray[Any], layout: Layout) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return mean and (biased) variance of each set and channel: two float64 arrays (sets, C)."""
    flat = x.reshape(-1)
    origin = flat[: layout.channels] if x.size else np.zeros(layout.channels, x.dtype)
    partial = _partial(x, layout)
    if x.size:
        shift = _tables(x, layout, origin)[0, 0]
        kernels_for(x).channel_moments(flat, shift, partial, layout.chunk, threads_for(2 * x.size))
    first, second = _added(partial, layout) / max(layout.pixels, 1)
    return first + origin, np.maximum(second - first**2, 0)


def products(
    dy: NDArray[Any], x: NDArray[Any], layout: Layout, mean: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the sums of dy and of ``dy * (x - mean)`` of each set and channel: two float64 arrays (sets, C).

    `mean`, (C,) or (sets, C), has the dtype of x.
    """
    partial = _partial(x, layout)
    if x.size:
        table = _tables(x, layout, mean)[:, 0]
        threads = threads_for(2 * x.size)
        kernels_for(x).channel_products(dy.reshape(-1), x.reshape(-1), table, partial, layout.chunk, threads)
    total, product = _added(partial, layout)
    return total, product


def affine(
    x: NDArray[Any], layout: Layout, mean: NDArray[Any], factor: NDArray[Any], shift: NDArray[Any]
) -> NDArray[Any]:
    """Return ``(x - mean) * factor + shift``; the three are (C,) or (sets, C)."""
    y = np.empty_like(x)
    if x.size:
        tables = _tables(x, layout, mean, factor, shift)
        kernels_for(x).channel_affine(x.reshape(-1), tables, y.reshape(-1), layout.chunk, threads_for(2 * x.size))
    return y


def affine_backward(
    dy: NDArray[Any],
    x: NDArray[Any],
    layout: Layout,
    mean: NDArray[Any],
    factor: NDArray[Any],
    shift: NDArray[Any],
    share: NDArray[Any],
) -> NDArray[Any]:
    """Return ``dy * share + (x - mean) * factor + shift``; the four are (C,) or (sets, C)."""
    dx = np.empty_like(x)
    if x.size:
        tables = _tables(x, layout, mean, factor, shift, share)
        kernels_for(x).channel_affine_backward(
            dy.reshape(-1), x.reshape(-1), tables, dx.reshape(-1), layout.chunk, threads_for(2 * x.size)
        )
    return dx


def _partial(x: NDArray[Any], layout: Layout) -> NDArray[np.float64]:
    return np.zeros((-(-x.size // layout.chunk), 2, layout.repeat * layout.channels))


def _added(partial: NDArray[np.float64], layout: Layout) -> NDArray[np.float64]:
    """Return (2, sets, C): the sums of all chunks of a set, and of all pixels that a line holds."""
    chunks = len(partial) // max(layout.sets, 1)
    parts = partial.reshape(layout.sets, chunks, 2, layout.repeat, layout.channels)
    return parts.sum(axis=(1, 3)).swapaxes(0, 1)


def _tables(x: NDArray[Any], layout: Layout, *rows: NDArray[Any]) -> NDArray[Any]:
    """Return (sets, rows, line): each of `rows`, (C,) or (sets, C), once for every pixel of a line, in the dtype of x."""
    table = np.empty((layout.sets, len(rows), layout.repeat, layout.channels), x.dtype)
    for i, row in enumerate(rows):
        table[:, i] = row if row.ndim == 1 else row[:, None]
    return table.reshape(layout.sets, len(rows), -1)
