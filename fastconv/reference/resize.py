"""Upsampling: a larger image, by repeating pixels or by drawing straight lines between them.

Along one axis it is a matrix of interpolation weights; the backward pass is its transpose. Several axes apply one matrix
each.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastconv.arguments import ntuple
from fastconv.reference.sliding import Ints


def upsample(x: np.ndarray, scale: Ints, *, mode: str = "nearest") -> np.ndarray:
    """Make each spatial axis `scale` times longer.

    "nearest" repeats: ``y[p] = x[p // scale]``. "bilinear" interpolates linearly along every axis: output ``p``
    lies at ``q = (p + 0.5) / scale - 0.5`` in the input (the centres of pixels are at halves), between ``floor(q)``
    and the next; beyond the first and the last centre the value stays that of the edge.

    Parameters
    ----------
    x : array, shape (N, *spatial, C)
    scale : int or tuple of int

    Returns
    -------
    array, shape (N, *(spatial * scale), C)

    Examples
    --------
    >>> x = np.array([0.0, 4.0]).reshape(1, 2, 1)
    >>> upsample(x, 2)[0, :, 0], upsample(x, 2, mode="bilinear")[0, :, 0]
    (array([0., 0., 4., 4.]), array([0., 1., 3., 4.]))
    """
    for axis, matrix in _matrices(x.shape, scale, mode, x.dtype):
        x = _along(x, matrix, axis)
    return x


def upsample_backward(dy: np.ndarray, input_shape: Sequence[int], scale: Ints, *, mode: str = "nearest") -> np.ndarray:
    """Return dx of `upsample`.

    Examples
    --------
    >>> dy = np.array([1.0, 10, 100, 1000]).reshape(1, 4, 1)
    >>> upsample_backward(dy, (1, 2, 1), 2)[0, :, 0]
    array([  11., 1100.])
    """
    for axis, matrix in _matrices(input_shape, scale, mode, dy.dtype):
        dy = _along(dy, matrix.T, axis)
    return dy


def _matrices(input_shape: Sequence[int], scale: Ints, mode: str, dtype: np.dtype) -> list[tuple[int, np.ndarray]]:
    """Return for each spatial axis its number and its interpolation weights, shape ``(output, input)``."""
    rank = len(input_shape) - 2
    matrices = []
    for axis, factor in enumerate(ntuple(scale, rank, "scale"), start=1):
        size = input_shape[axis]
        matrix = np.zeros((size * factor, size), dtype)
        for p in range(size * factor):
            if mode == "nearest":
                matrix[p, p // factor] = 1
            else:
                q = min(max((p + 0.5) / factor - 0.5, 0), size - 1)
                left = int(q)
                matrix[p, left] += 1 - (q - left)
                matrix[p, min(left + 1, size - 1)] += q - left
        matrices.append((axis, matrix))
    return matrices


def _along(x: np.ndarray, matrix: np.ndarray, axis: int) -> np.ndarray:
    return np.moveaxis(np.tensordot(matrix, x, axes=(1, axis)), 0, axis)
