"""Padding with a constant, or with the image itself: mirrored, repeated or continued.

Along one axis every mode but "constant" is a list of the inputs that the outputs show, and the backward pass adds up along that
list.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastconv._kernels._memory import empty
from fastconv.arguments import are_pairs, check_elements, integer, real_number, shape_tuple
from fastconv.functional._validate import FLOATS, float_array, require_shape

MODES = ("constant", "reflect", "edge", "wrap")

Pairs = tuple[tuple[int, int], ...]

#: Of an array: slices, and places where these do not follow each other.
Index = tuple[Any, ...]


def pad(x: ArrayLike, padding: Sequence[Any], *, mode: str = "constant", value: float = 0.0) -> NDArray[Any]:
    """Return an array with more entries, or fewer, before and after those along each axis.

    "constant" puts `value` there, "edge" the outermost entry, "reflect" the entries mirrored at the outermost one, which is not
    repeated (``abc`` becomes ``cbabcba``), "wrap" those of the other end (``abcabcabc``). Negative padding cuts off.

    Parameters
    ----------
    x : array, float32 or float64
    padding : pair (before, after) for each axis
    mode : "constant", "reflect", "edge" or "wrap"
    value : float

    Returns
    -------
    array, dtype of x

    Raises
    ------
    TypeError
        For dtypes other than float32 and float64, padding that is not an integer, a value that is not a real number.
    ValueError
        For another mode, pairs that are not one for each axis, and where an axis of no entries is padded with them.

    See Also
    --------
    pad_backward : its gradient.

    Examples
    --------
    >>> import numpy as np
    >>> pad(np.array([1.0, 2.0, 3.0]), [(2, -1)], mode="reflect")
    array([3., 2., 1., 2.])
    """
    array = float_array(x, "x")
    return padded(array, pad_pairs(array.shape, padding, mode), mode, real_number(value, "value"))


def padded(x: np.ndarray, pairs: Pairs, mode: str, value: Any) -> np.ndarray:
    """Return `pad` of an array of any dtype, for pairs that are checked."""
    y = (empty if x.dtype in FLOATS else np.empty)(pad_shape(x.shape, pairs), x.dtype)
    if mode != "constant":
        for axis, pair in enumerate(pairs):
            if min(pair) < 0:  # what is cut off may be shown on the other side
                x = x.take(_shown(x.shape[axis], pair, mode), axis=axis)
        pairs = tuple(pair if min(pair) >= 0 else (0, 0) for pair in pairs)
    inside, kept, borders = _copies(x.shape, pairs, mode)
    y[inside] = x[kept]
    for border, shown in borders:
        y[border] = value if shown is None else y[shown]
    return y


@lru_cache(maxsize=256)
def _copies(shape: tuple[int, ...], pairs: Pairs, mode: str) -> tuple[Index, Index, list[tuple[Index, Index | None]]]:
    """Return where the input lies in the output, which part of it, and the borders in turn, with what each shows of the output.

    Those of an axis reach as far as the axes before it reach by then.
    """
    inside, kept = _parts(shape, pairs)
    borders: list[tuple[Index, Index | None]] = []
    for axis, (part, n) in enumerate(zip(inside, pad_shape(shape, pairs), strict=True)):
        behind = inside[axis + 1 :]
        for border in (slice(0, part.start), slice(part.stop, n)):
            if border.start == border.stop:
                continue
            shown = None
            if mode != "constant":
                places = part.start + _shown(part.stop - part.start, (part.start, n - part.stop), mode)
                shown = _at(axis, _run(places[border]), *behind)
            borders.append((_at(axis, border, *behind), shown))
    return inside, kept, borders


def pad_backward(
    dy: ArrayLike, input_shape: Sequence[int], padding: Sequence[Any], *, mode: str = "constant"
) -> NDArray[Any]:
    """Return the gradient of `pad`: each entry sums dy over the places where it stands; what was cut off gets 0.

    Parameters
    ----------
    dy : array, float32 or float64, the shape of the output
    input_shape : shape of x
    padding, mode
        As given to `pad`.

    Examples
    --------
    >>> import numpy as np
    >>> pad_backward(np.array([1.0, 10.0, 100.0]), (2,), [(1, 0)], mode="edge")
    array([ 11., 100.])
    """
    shape = shape_tuple(input_shape, "input_shape")
    pairs = pad_pairs(shape, padding, mode)
    gradient = float_array(dy, "dy")
    require_shape(gradient, pad_shape(shape, pairs), "dy", "the shape of the output")
    if mode == "constant":
        inside, kept = _parts(shape, pairs)
        dx = np.zeros(shape, gradient.dtype)
        dx[kept] = gradient[inside]
        return dx
    dx = np.zeros(shape, gradient.dtype) if min(map(min, pairs), default=0) < 0 else empty(shape, gradient.dtype)
    _fold(gradient, dx, pairs, mode, 0, first=True)
    return dx


def _fold(dy: np.ndarray, dx: np.ndarray, pairs: Pairs, mode: str, axis: int, *, first: bool) -> None:
    """Add to dx what its entries sum over the axes from `axis` on; the `first` time write what lies inside."""
    if axis == dx.ndim:
        if first:
            dx[...] = dy
        else:
            dx += dy
        return
    (inside,), (kept,) = _parts(dx.shape[axis : axis + 1], (pairs[axis],))
    _fold(dy[_at(axis, inside)], dx[_at(axis, kept)], pairs, mode, axis + 1, first=first)
    shown = _shown(dx.shape[axis], pairs[axis], mode)
    for border in (slice(0, inside.start), slice(inside.stop, None)):  # a few entries: these are folded by themselves
        places = shown[border]
        if len(places):
            folded = np.zeros((*dx.shape[:axis], len(places), *dx.shape[axis + 1 :]), dx.dtype)
            _fold(dy[_at(axis, border)], folded, pairs, mode, axis + 1, first=False)
            for i, place in enumerate(places):
                dx[_at(axis, place)] += folded[_at(axis, i)]


def pad_pairs(shape: Sequence[int], padding: Sequence[Any], mode: str) -> Pairs:
    """Return the padding of each axis as pairs of integers, checked."""
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
    if not are_pairs(padding) or len(padding) != len(shape):
        raise ValueError(f"padding must be a pair for each of {len(shape)} axes, got {padding!r}")
    pairs = tuple((integer(before, "padding"), integer(after, "padding")) for before, after in padding)
    for n, (before, after) in zip(shape, pairs, strict=True):
        if n + before + after < 0 or (n == 0 and mode != "constant" and before + after > 0):
            raise ValueError(f"an axis of {n} cannot be padded by {(before, after)} with mode {mode!r}")
    check_elements(pad_shape(shape, pairs), "the output")
    return pairs


def pad_shape(shape: Sequence[int], pairs: Pairs) -> tuple[int, ...]:
    """Return the shape of the output."""
    return tuple(n + before + after for n, (before, after) in zip(shape, pairs, strict=True))


def _parts(shape: Sequence[int], pairs: Pairs) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return where the input lies in the output, and which part of it."""
    inside, kept = [], []
    for n, (before, after) in zip(shape, pairs, strict=True):
        first, last = max(0, -before), n - max(0, -after)
        last = max(first, last)
        inside.append(slice(max(0, before), max(0, before) + last - first))
        kept.append(slice(first, last))
    return tuple(inside), tuple(kept)


def _at(axis: int, *index: Any) -> tuple[Any, ...]:
    """Return the index of an array that has `index` from `axis` on."""
    return (*(slice(None),) * axis, *index)


def _run(places: np.ndarray) -> Any:
    """Return places that follow each other, or are one, as a slice, which NumPy copies faster; others as they are.

    >>> _run(np.array([3, 2])), _run(np.array([4, 4, 4])), _run(np.array([1, 0, 1]))
    (slice(3, 1, -1), slice(4, 5, 1), array([1, 0, 1]))
    """
    first, last = int(places[0]), int(places[-1])
    step = int(places[1]) - first if len(places) > 1 else 1
    if step not in (-1, 0, 1) or (np.diff(places) != step).any():
        return places
    step = step or 1
    return slice(first, last + step if last + step >= 0 else None, step)


def _shown(size: int, pair: tuple[int, int], mode: str) -> np.ndarray:
    """Return which input each output along one axis shows."""
    before, after = pair
    places = np.arange(-before, size + after)
    if mode == "wrap":
        return places % size
    if mode == "reflect" and size > 1:
        period = 2 * (size - 1)
        places = places % period
        return np.minimum(places, period - places)
    return np.clip(places, 0, size - 1)
