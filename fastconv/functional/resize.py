"""Upsampling by whole factors, by repeated pixels or linear interpolation.

It is `fastconv.functional.interpolate` by whole factors, of images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike, NDArray

from fastconv.arguments import check_elements, ntuple
from fastconv.functional._pool_plan import image_shape
from fastconv.functional._spans import resized
from fastconv.functional._validate import float_array, images, require_shape
from fastconv.functional.interpolate import Line, Rule, sides

MODES = ("nearest", "bilinear")

RULES = {"nearest": Rule("nearest", "asymmetric", "floor"), "bilinear": Rule("linear")}


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
        For dtypes other than float32 and float64; for a scale that is not an integer.
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
    factors, _ = output_shape(x.shape, scale, mode)
    return _upsampled(x, x.shape, factors, mode, False)


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
    return _upsampled(dy, shape, factors, mode, True)


def output_shape(shape: tuple[int, ...], scale: Any, mode: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Check the arguments; return the factor of each axis and the shape of the output."""
    if not isinstance(mode, str) or mode not in MODES:
        raise ValueError(f'mode must be "nearest" or "bilinear", got {mode!r}')
    factors = ntuple(scale, len(shape) - 2, "scale")
    out = (shape[0], *(n * factor for n, factor in zip(shape[1:-1], factors, strict=True)), shape[-1])
    check_elements(out, "the output")
    return factors, out


def _upsampled(
    x: NDArray[Any], shape: tuple[int, ...], factors: tuple[int, ...], mode: str, adjoint: bool
) -> NDArray[Any]:
    spatial = shape[1:-1]
    lines = [None, *(Line(n * factor, float(factor)) for n, factor in zip(spatial, factors, strict=True)), None]
    sizes = [line and (n if adjoint else line.size) for n, line in zip(shape, lines, strict=True)]
    return resized(x, sizes, sides(shape, lines, RULES[mode], adjoint=adjoint))
