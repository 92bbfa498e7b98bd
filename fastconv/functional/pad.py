"""Padding with a constant, or with the image itself: mirrored, repeated or continued.

Along one axis every mode but "constant" is a list of the inputs that the outputs show, and the backward pass adds up along that
list.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastconv.arguments import are_pairs, check_elements, integer, real_number, shape_tuple
from fastconv.functional._validate import float_array, require_shape

MODES = ("constant", "reflect", "edge", "wrap")

Pairs = tuple[tuple[int, int], ...]


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
    if mode == "constant":
        y = np.full(pad_shape(x.shape, pairs), value, x.dtype)
        inside, kept = _parts(x.shape, pairs)
        y[inside] = x[kept]
        return y
    for axis, pair in enumerate(pairs):
        if pair != (0, 0):
            x = x.take(_shown(x.shape[axis], pair, mode), axis=axis)
    return np.ascontiguousarray(x)


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
    dx = float_array(dy, "dy")
    require_shape(dx, pad_shape(shape, pairs), "dy", "the shape of the output")
    if mode == "constant":
        inside, kept = _parts(shape, pairs)
        cut = dx[inside]
        dx = np.zeros(shape, cut.dtype)
        dx[kept] = cut
        return dx
    for axis, pair in enumerate(pairs):
        if pair != (0, 0):
            summed = np.zeros((shape[axis], *np.moveaxis(dx, axis, 0).shape[1:]), dx.dtype)
            np.add.at(summed, _shown(shape[axis], pair, mode), np.moveaxis(dx, axis, 0))
            dx = np.moveaxis(summed, 0, axis)
    return np.array(dx, order="C")


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
