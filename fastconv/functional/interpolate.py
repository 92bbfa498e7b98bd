"""Interpolation: images of any other size, by the nearest pixel, linear or cubic interpolation.

Along each axis an output is a sum of a few inputs, its taps; how they are found is the geometry of the mode, and what is done
with them is the same for all (`_spans`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastconv.arguments import check_elements, integer, is_list, real_number, shape_tuple
from fastconv.functional._spans import REMEMBERED, Side, Sides, resized, side
from fastconv.functional._validate import float_array, require_shape

MODES = ("nearest", "linear", "cubic")
COORDINATES = (
    "half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric",
    "tf_half_pixel_for_nn", "tf_crop_and_resize",
)  # fmt: skip
ROUNDING = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


class Rule(NamedTuple):
    """How the taps of an output are found.

    Parameters
    ----------
    mode : "nearest", "linear" or "cubic"
    coordinates : str
        Where output ``i`` of n lies in the input of m pixels, with ``s = n / m`` unless a scale is given. "half_pixel": at
        ``(i + 0.5) / s - 0.5``; "asymmetric": at ``i / s``; "align_corners": at ``i * (m - 1) / (s * m - 1)``;
        "pytorch_half_pixel": half pixels, and 0 where n is 1; "half_pixel_symmetric": half pixels, the rest of a size that the
        scale does not give shared by both ends; "tf_half_pixel_for_nn": at ``(i + 0.5) / s``; "tf_crop_and_resize": from
        ``start * (m - 1)`` to ``end * (m - 1)`` of a region, and `outside` where that leaves the image.
    rounding : "round_prefer_floor", "round_prefer_ceil", "floor" or "ceil"
        Which pixel is the nearest.
    cubic : float
        The coefficient a of the curve (Keys 1981): -0.75 or -0.5.
    exclude_outside : bool
        Whether taps outside the image count 0 and the others more, instead of those of the edge.
    antialias : bool
        Whether the window grows with the step where the image shrinks.
    outside : float
        What lies outside for "tf_crop_and_resize".
    """

    mode: str = "nearest"
    coordinates: str = "half_pixel"
    rounding: str = "round_prefer_floor"
    cubic: float = -0.75
    exclude_outside: bool = False
    antialias: bool = False
    outside: float = 0.0


class Line(NamedTuple):
    """One axis: how many pixels come out, by which scale (None: the quotient of sizes), and of which region."""

    size: int
    scale: float | None = None
    region: tuple[float, float] = (0.0, 1.0)


class Taps(NamedTuple):
    """The taps of each output along one axis, ``(n, taps)``: which input, with which weight; and who is outside altogether."""

    places: np.ndarray
    weights: np.ndarray
    outside: np.ndarray


def interpolate(x: ArrayLike, lines: Sequence[Line | None], rule: Rule) -> NDArray[Any]:
    """Return the array with each axis that has a line made as long as it says; None leaves an axis as it is.

    ``y[.., i, ..] = sum_t weight[i, t] * x[.., place[i, t], ..]``, axis by axis.

    Parameters
    ----------
    x : array, float32 or float64
    lines : `Line` or None for each axis
    rule : `Rule`

    Raises
    ------
    TypeError, ValueError
        For other dtypes, lines that are not one for each axis, sizes below 1, and what `Rule` does not know.

    See Also
    --------
    interpolate_backward : its gradient. fastconv.functional.upsample : whole factors, faster.

    Examples
    --------
    >>> import numpy as np
    >>> interpolate(np.array([[0.0, 4.0]]), [None, Line(4)], Rule("linear"))
    array([[0., 1., 3., 4.]])
    """
    x = float_array(x, "x")
    check_lines(x.shape, lines, rule)
    y = resized(x, [None if line is None else line.size for line in lines], sides(x.shape, lines, rule))
    for axis, line in enumerate(lines):
        outside = taps(x.shape[axis], line, rule).outside if line is not None and may_be_outside(rule) else None
        if outside is not None and outside.any():
            np.moveaxis(y, axis, 0)[outside] = rule.outside
    return y


def interpolate_backward(
    dy: ArrayLike, input_shape: Sequence[int], lines: Sequence[Line | None], rule: Rule
) -> NDArray[Any]:
    """Return the gradient of `interpolate`: each pixel sums dy over the outputs that it is in, times its weight there.

    Examples
    --------
    >>> import numpy as np
    >>> interpolate_backward(np.array([[1.0, 10.0, 100.0, 1000.0]]), (1, 2), [None, Line(4)], Rule("nearest"))
    array([[  11., 1100.]])
    """
    shape = shape_tuple(input_shape, "input_shape")
    check_lines(shape, lines, rule)
    dx = float_array(dy, "dy")
    out = tuple(n if line is None else line.size for n, line in zip(shape, lines, strict=True))
    require_shape(dx, out, "dy", "the shape of the output")
    sizes = [None if line is None else n for n, line in zip(shape, lines, strict=True)]
    return resized(dx, sizes, sides(shape, lines, rule, adjoint=True))


def image_lines(
    shape: Sequence[int],
    scale: Sequence[float] | None,
    size: Sequence[int] | None,
    region: Sequence[tuple[float, float]] | None,
    rule: Rule,
) -> list[Line | None]:
    """Return the line of every axis of an image ``(N, *spatial, C)``, by `scale` or to `size`, one for each spatial axis.

    With both, `size` says how many pixels come out, and `scale` how far apart they are. `region` is that of
    "tf_crop_and_resize". Raises `ValueError` for what cannot be.
    """
    spatial = shape[1:-1]
    factors: Sequence[float | None] = [None] * len(spatial) if scale is None else scale
    # of a region too: the scale is that of the image; in float32, in which 10 times 0.7 is 7
    sizes = (
        [int(np.float32(n) * np.float32(item or 0)) for n, item in zip(spatial, factors, strict=False)]
        if size is None
        else size
    )
    regions = region or [(0.0, 1.0)] * len(spatial)
    if not len(factors) == len(sizes) == len(regions) == len(spatial):
        raise ValueError(
            f"scale, size and region must be one for each spatial axis of {tuple(shape[1:])}, got {scale} and {size}"
        )
    lines: list[Line | None] = [None]
    for n, factor, out, ends in zip(spatial, factors, sizes, regions, strict=True):
        same = out == n and factor in (None, 1.0) and not may_be_outside(rule)
        lines.append(None if same else Line(out, factor, ends))
    lines.append(None)
    check_lines((1, *shape[1:]), lines, rule)
    return lines


def check_lines(shape: Sequence[int], lines: Sequence[Line | None], rule: Rule) -> None:
    """Raise `ValueError` for what cannot be interpolated, `TypeError` for what is not a `Line` or a `Rule`."""
    if not isinstance(rule, Rule):
        raise TypeError(f"rule must be a Rule, got {rule!r}")
    if rule.mode not in MODES or rule.coordinates not in COORDINATES or rule.rounding not in ROUNDING:
        raise ValueError(
            f"mode must be one of {MODES}, coordinates of {COORDINATES} and rounding of {ROUNDING}, got {rule}"
        )
    if not is_list(lines) or not all(line is None or isinstance(line, Line) for line in lines):
        raise TypeError(f"lines must be a Line or None for each axis, got {lines!r}")
    if len(lines) != len(shape):
        raise ValueError(f"lines must be one for each of {len(shape)} axes, got {len(lines)}")
    for n, line in zip(shape, lines, strict=True):
        if line is None:
            continue
        integer(line.size, "the size of a line", "an integer")
        if line.scale is not None:
            real_number(line.scale, "the scale of a line")
        if line.size < 1 or n < 1 or (line.scale is not None and not 0 < line.scale < math.inf):
            raise ValueError(f"an axis of {n} cannot be made {line.size} long with scale {line.scale}")
    check_elements([n if line is None else line.size for n, line in zip(shape, lines, strict=True)], "the output")


def sides(shape: Sequence[int], lines: Sequence[Line | None], rule: Rule, *, adjoint: bool = False) -> Sides:
    """Return the matrices of the axes of an array of `shape` that have a line; `adjoint`: transposed, for the backward pass."""

    def line_of(axis: int) -> Line:
        line = lines[axis]
        assert line is not None
        return line

    def rows(axis: int, first: int, end: int) -> Side:
        find = _side if end - first <= REMEMBERED else _side.__wrapped__
        return find(shape[axis], line_of(axis), rule, adjoint, first, end)

    def period(axis: int) -> tuple[int, int] | None:
        size, scale = line_of(axis)[:2]
        if scale is None or scale != size // shape[axis] or rule.coordinates not in ("asymmetric", "half_pixel"):
            return None
        return (1, int(scale)) if adjoint else (int(scale), 1)

    return Sides(rows, period)


@lru_cache(maxsize=32)
def _side(size: int, line: Line, rule: Rule, adjoint: bool, first: int, end: int) -> Side:
    """Return rows ``first .. end - 1`` of the matrix of an axis of `size` pixels, or of its transpose."""
    start, stop = _reached(size, line, rule, first, end) if adjoint else (first, end)
    found = taps(size, line, rule, start, stop)
    weights = np.where(found.outside[:, None], 0, found.weights)
    outputs, place = np.nonzero(weights)
    inputs, weights = found.places[outputs, place], weights[outputs, place]
    if not adjoint:
        return side(outputs, inputs, weights, end - first)
    here = (inputs >= first) & (inputs < end)
    return side(inputs[here] - first, outputs[here] + start, weights[here], end - first)


def _reached(size: int, line: Line, rule: Rule, first: int, end: int) -> tuple[int, int]:
    """Return outputs among which are all that see pixels ``first .. end - 1``."""
    if may_be_outside(rule):
        return 0, line.size
    scale = line.scale or line.size / size
    margin = 4 * (scale + 1) + 4  # a curve sees two pixels, or where the image shrinks two outputs
    start = 0 if first == 0 else max(math.floor(first * scale - margin), 0)
    stop = line.size if end == size else min(math.ceil(end * scale + margin), line.size)
    return start, max(stop, start)


def may_be_outside(rule: Rule) -> bool:
    """Whether outputs may lie outside of the image."""
    return rule.coordinates == "tf_crop_and_resize"


def taps(size: int, line: Line, rule: Rule, start: int = 0, stop: int | None = None) -> Taps:
    """Return the taps of every output along an axis of `size` pixels, or of those from `start` on, to `stop`."""
    i = np.arange(start, line.size if stop is None else stop, dtype=np.float64)
    x, scale = _places(size, line, rule, i), line.scale or line.size / size
    outside = np.zeros(len(i), bool)
    if rule.coordinates == "tf_crop_and_resize":
        outside = (x < 0) | (x > size - 1)
    if rule.mode == "nearest":
        places, weights = _rounded(x, rule.rounding)[:, None], np.ones((len(i), 1))
    else:
        places, weights = _curve(x, min(scale, 1.0) if rule.antialias else 1.0, rule)
    inside = (places >= 0) & (places < size)
    if rule.exclude_outside and rule.mode != "nearest":
        weights = np.where(inside, weights, 0)
        total = weights.sum(axis=1, keepdims=True)
        weights = weights / np.where(total == 0, 1, total)  # an output that sees nothing is 0
    return Taps(np.clip(places, 0, size - 1), weights, outside)


def _places(size: int, line: Line, rule: Rule, i: np.ndarray) -> np.ndarray:
    """Return where outputs number `i` lie in the input: exactly, for the nearest pixel, where no scale is given."""
    out, kind, scale = line.size, rule.coordinates, line.scale
    wide = out if scale is None else scale * size  # what `out` would be if pixels came in parts

    def scaled(x: np.ndarray) -> np.ndarray:
        return x * size / out if scale is None else _steadied(x / scale)

    if kind == "align_corners":
        return i * (size - 1) / (wide - 1) if wide != 1 else np.zeros(len(i))
    if kind == "asymmetric":
        return scaled(i)
    if kind == "tf_half_pixel_for_nn":
        return scaled(i + 0.5)
    if kind == "tf_crop_and_resize":
        start, end = line.region
        if out == 1:
            return np.full(len(i), 0.5 * (start + end) * (size - 1))
        return _steadied(start * (size - 1) + i * (end - start) * (size - 1) / (out - 1))
    if kind == "pytorch_half_pixel" and out == 1:
        return np.zeros(len(i))
    shift = 0.0
    if kind == "half_pixel_symmetric":
        shift = size / 2 * (1 - out / wide)
    return shift + scaled(i + 0.5) - 0.5


def _steadied(x: np.ndarray) -> np.ndarray:
    """Return places on pixels, and on borders between them, where they are as near as float32 can tell: scales are float32.

    >>> _steadied(np.array([12 / float(np.float32(2.4)), 1.25]))
    array([5.  , 1.25])
    """
    border = np.rint(2 * x) / 2
    return np.where(np.abs(x - border) <= 2.0**-23 * np.maximum(np.abs(x), 1), border, x)


def _rounded(x: np.ndarray, rounding: str) -> np.ndarray:
    if rounding == "floor":
        return np.floor(x).astype(np.int64)
    if rounding == "ceil":
        return np.ceil(x).astype(np.int64)
    if rounding == "round_prefer_ceil":
        return np.floor(x + 0.5).astype(np.int64)
    return np.ceil(x - 0.5).astype(np.int64)


def _curve(x: np.ndarray, shrink: float, rule: Rule) -> tuple[np.ndarray, np.ndarray]:
    """Return places and weights of the inputs around `x`, the window stretched by ``1 / shrink``."""
    reach = (1 if rule.mode == "linear" else 2) / shrink
    first = np.floor(x).astype(np.int64) - math.ceil(reach) + 1
    places = first[:, None] + np.arange(2 * math.ceil(reach))
    distance = np.abs(places - x[:, None]) * shrink
    if rule.mode == "linear":
        weights = np.maximum(1 - distance, 0)
    else:
        a, d = rule.cubic, distance
        near = ((a + 2) * d - (a + 3)) * d * d + 1
        far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        weights = np.where(d <= 1, near, np.where(d < 2, far, 0))
    return places, weights / weights.sum(axis=1, keepdims=True)
