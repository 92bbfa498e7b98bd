"""Upsampling: a larger image, by repeating pixels or by drawing straight lines between them.

Along one axis it is a sparse matrix of weights, and the way back is its transpose; the kernel computes the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastconv._kernels._memory import empty
from fastconv.arguments import check_elements, ntuple
from fastconv.functional._conv_plan import spatial3
from fastconv.functional._pool_plan import image_shape
from fastconv.functional._validate import float_array, images, kernels_for, require_shape
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
    factors, shape = output_shape(x.shape, scale, mode)
    y = empty(shape, x.dtype)
    if y.size:
        axes, linear = upsample_axes(x.shape, factors), mode == "bilinear"
        kernels_for(x).upsample_forward(spatial3(x), spatial3(y), axes, linear, threads_for(y.size))
    return y


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
    factors, output = output_shape(shape, scale, mode)
    dy = float_array(dy, "dy")
    require_shape(dy, output, "dy", "the shape of the output")
    dx = empty(shape, dy.dtype)
    if dx.size:
        axes, linear = upsample_axes(shape, factors), mode == "bilinear"
        kernels_for(dy).upsample_backward(spatial3(dy), spatial3(dx), axes, linear, threads_for(dy.size))
    return dx


def output_shape(shape: tuple[int, ...], scale: Any, mode: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Check the arguments; return the factor of each axis and the shape of the output."""
    if not isinstance(mode, str) or mode not in MODES:
        raise ValueError(f'mode must be "nearest" or "bilinear", got {mode!r}')
    factors = ntuple(scale, len(shape) - 2, "scale")
    out = (shape[0], *(n * factor for n, factor in zip(shape[1:-1], factors, strict=True)), shape[-1])
    check_elements(out, "the output")
    return factors, out


def upsample_axes(shape: tuple[int, ...], factors: tuple[int, ...]) -> NDArray[np.int64]:
    """Return pixels and factor of each of three axes, as the kernels take them."""
    axes = np.ones((3, 2), np.int64)
    axes[3 - len(factors) :] = list(zip(shape[1:-1], factors, strict=True))
    return axes
