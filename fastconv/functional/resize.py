"""Upsampling: a larger image, by repeating pixels or by drawing straight lines between them.

Along one axis it is a sparse matrix of weights, and the way back is its transpose; several axes take one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastconv import geometry
from fastconv.functional._pool_plan import image_shape
from fastconv.functional._validate import float_array, images, kernels_for, require_shape, unless_long
from fastconv.threads import threads_for

MODES = ("nearest", "bilinear")


def upsample(x: ArrayLike, scale: Any, *, mode: str = "nearest") -> NDArray[Any]:
    """Make each spatial axis `scale` times longer.

    "nearest" repeats pixels: ``y[n, p, q, c] = x[n, p // scale, q // scale, c]``. "bilinear" interpolates linearly
    along every axis: output p lies at ``(p + 0.5) / scale - 0.5`` in the input (pixels have their centres at
    halves), between two pixels whose weights are one minus the distance; beyond the first and the last centre the
    value is that of the edge.

    Parameters
    ----------
    x : array (N, *spatial, C), float32 or float64
        One, two or three spatial axes; any memory order; not changed.
    scale : int or one int for each spatial axis, at least 1
    mode : "nearest" or "bilinear"

    Returns
    -------
    array (N, *(spatial * scale), C), dtype of x

    Raises
    ------
    TypeError
        For dtypes other than float32 and float64; for a scale that is no integer.
    ValueError
        For a wrong rank, a scale below 1, another mode, an output too large to exist.

    See Also
    --------
    upsample_backward : its gradient. fastconv.functional.conv_transpose : upsampling with learned weights.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([0.0, 4.0]).reshape(1, 2, 1)
    >>> upsample(x, 2)[0, :, 0], upsample(x, 2, mode="bilinear")[0, :, 0]
    (array([0., 0., 4., 4.]), array([0., 1., 3., 4.]))
    """
    x = images(x, "x")
    factors, shape = _output_shape(x.shape, scale, mode)
    if x.size == 0:
        return np.zeros(shape, x.dtype)
    # the last axis first: the others then run over longer lines
    for axis in reversed(range(len(factors))):
        x = _resample(x, axis + 1, _weights(x.shape[axis + 1], factors[axis], mode, x.dtype)[0])
    return x


def upsample_backward(dy: ArrayLike, input_shape: Sequence[int], scale: Any, *, mode: str = "nearest") -> NDArray[Any]:
    """Return the gradient of `upsample`: each pixel sums dy over the outputs that it is in, times its weight there.

    Parameters
    ----------
    dy : array (N, *(spatial * scale), C), float32 or float64
    input_shape : shape of x, (N, *spatial, C)
    scale, mode
        As given to `upsample`.

    Returns
    -------
    array of `input_shape`, dtype of dy

    Raises
    ------
    TypeError, ValueError
        As `upsample`, and where dy has not the shape of the output.

    Examples
    --------
    >>> import numpy as np
    >>> upsample_backward(np.array([1.0, 10.0, 100.0, 1000.0]).reshape(1, 4, 1), (1, 2, 1), 2)[0, :, 0]
    array([  11., 1100.])
    """
    shape = image_shape(input_shape)
    factors, output = _output_shape(shape, scale, mode)
    dy = float_array(dy, "dy")
    require_shape(dy, output, "dy", "the shape of the output")
    if dy.size == 0:
        return np.zeros(shape, dy.dtype)
    for axis, factor in enumerate(factors, start=1):
        dy = _resample(dy, axis, _weights(shape[axis], factor, mode, dy.dtype)[1])
    return dy


def _output_shape(shape: tuple[int, ...], scale: Any, mode: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Check the arguments; return the factor of each axis and the shape of the output."""
    if mode not in MODES:
        raise ValueError(f'mode must be "nearest" or "bilinear", got {mode!r}')
    factors = geometry.ntuple(scale, len(shape) - 2, "scale")
    out = (shape[0], *(n * factor for n, factor in zip(shape[1:-1], factors, strict=True)), shape[-1])
    geometry.check_elements(out, "the output")
    return factors, out


class Weights(NamedTuple):
    """A sparse matrix: row p is ``weights[k]`` at column ``lines[k]`` for ``begin[p] <= k < begin[p + 1]``."""

    begin: NDArray[np.int64]
    lines: NDArray[np.int64]
    weights: NDArray[Any]


def _weights(size: int, factor: int, mode: str, dtype: np.dtype[Any]) -> tuple[Weights, Weights]:
    return unless_long(interpolation, size * factor)(size, factor, mode, dtype)


@lru_cache(maxsize=256)
def interpolation(size: int, factor: int, mode: str, dtype: np.dtype[Any]) -> tuple[Weights, Weights]:
    """Return the matrix (size * factor, size) that stretches one axis, and its transpose."""
    outputs = np.arange(size * factor)
    if mode == "nearest":
        left, share = outputs // factor, np.zeros(len(outputs))
    else:
        place = np.clip((outputs + 0.5) / factor - 0.5, 0, size - 1)
        left = place.astype(np.int64)
        share = place - left
    right = share > 0
    rows = np.concatenate((outputs, outputs[right]))
    columns = np.concatenate((left, left[right] + 1))
    values = np.concatenate((1 - share, share[right])).astype(dtype)
    return _sparse(rows, columns, values, len(outputs)), _sparse(columns, rows, values, size)


def _sparse(rows: NDArray[Any], columns: NDArray[Any], values: NDArray[Any], count: int) -> Weights:
    order = np.argsort(rows, kind="stable")
    begin = np.concatenate(([0], np.cumsum(np.bincount(rows, minlength=count))))
    return Weights(begin, columns[order], values[order])


def _resample(x: NDArray[Any], axis: int, weights: Weights) -> NDArray[Any]:
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    y = np.empty((prod(before), len(weights.begin) - 1, prod(after)), x.dtype)
    threads = threads_for(len(weights.lines) * y.shape[0] * y.shape[2])
    kernels_for(x).weighted_lines(x.reshape(y.shape[0], x.shape[axis], y.shape[2]), y, *weights, threads)
    return y.reshape(*before, y.shape[1], *after)
