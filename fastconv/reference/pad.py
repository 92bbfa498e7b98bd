"""Padding: each output shows one entry of the input, or a number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

Pairs = Sequence[tuple[int, int]]


def pad(x: np.ndarray, padding: Pairs, *, mode: str = "constant", value: float = 0.0) -> np.ndarray:
    """Return ``y[i] = x[i - before]``; where that is outside, `value` or what the mode shows there.

    >>> pad(np.array([1.0, 2, 3]), [(2, 0)], mode="edge")
    array([1., 1., 1., 2., 3.])
    """
    y = np.full(_output(x.shape, padding), value, x.dtype)
    for at, source in _pairs(x.shape, padding, mode):
        y[at] = x[source]
    return y


def pad_backward(dy: np.ndarray, input_shape: Sequence[int], padding: Pairs, *, mode: str = "constant") -> np.ndarray:
    """Return dx: an entry sums dy over all places where it stands.

    >>> pad_backward(np.array([1.0, 10, 100]), (2,), [(1, 0)], mode="wrap")
    array([ 10., 101.])
    """
    dx = np.zeros(tuple(input_shape), dy.dtype)
    for at, source in _pairs(input_shape, padding, mode):
        dx[source] += dy[at]
    return dx


def _output(shape: Sequence[int], padding: Pairs) -> tuple[int, ...]:
    return tuple(n + before + after for n, (before, after) in zip(shape, padding, strict=True))


def _pairs(shape: Sequence[int], padding: Pairs, mode: str) -> Iterator[tuple[Any, Any]]:
    """Yield each place of the output, and the place of the input that stands there."""
    for at in np.ndindex(_output(shape, padding)):
        source = [_source(i - before, n, mode) for i, n, (before, _) in zip(at, shape, padding, strict=True)]
        if None not in source:
            yield at, tuple(source)


def _source(i: int, n: int, mode: str) -> int | None:
    if 0 <= i < n:
        return i
    if mode == "constant":
        return None
    if mode == "wrap":
        return i % n
    if mode == "reflect" and n > 1:
        i = abs(i) % (2 * (n - 1))  # there and back again
        return min(i, 2 * (n - 1) - i)
    return min(max(i, 0), n - 1)
