"""Pooling: each output summarizes its window, channel by channel, by the largest value or by the mean.

Padding adds no values: a window that hangs over the edge holds only the inputs that exist. So the largest value of
a window is always a pixel, and the mean divides by the number of pixels (`count_include_pad` divides by the padded
ones too).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fastconv import geometry
from fastconv.arguments import ntuple
from fastconv.reference.sliding import Index, Ints

Axes = list[geometry.Windows]


def max_pool(
    x: np.ndarray,
    kernel_size: Ints,
    *,
    stride: Ints | None = None,
    padding: Any = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
) -> np.ndarray:
    """Return the largest value of each window.

    ``y[n, p, c] = max over r of x[n, p * stride - before + r * dilation, c]``. A NaN in the window makes the result
    NaN; a window without a pixel (possible with `dilation`) is -inf. `stride` is the kernel's size where it is not
    given. With `ceil_mode` a last window may hang over the end.

    Parameters
    ----------
    x : array, shape (N, *spatial, C)

    Returns
    -------
    array, shape (N, *output, C)

    Examples
    --------
    >>> max_pool(np.array([1.0, 5, 2, 3, 4]).reshape(1, 5, 1), 2)[0, :, 0]
    array([5., 3.])
    """
    axes = _windows(x.shape[1:-1], kernel_size, stride, padding, dilation, ceil_mode)
    return _max(x, axes)


def max_pool_backward(
    dy: np.ndarray,
    x: np.ndarray,
    kernel_size: Ints,
    *,
    stride: Ints | None = None,
    padding: Any = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
) -> np.ndarray:
    """Return dx of `max_pool`: each window hands its gradient to its largest pixel.

    Of equal pixels the first in row-major order takes all of it; of several NaN the first.

    Examples
    --------
    >>> x = np.array([1.0, 5, 3, 3]).reshape(1, 4, 1)
    >>> max_pool_backward(np.array([10.0, 20]).reshape(1, 2, 1), x, 2)[0, :, 0]
    array([ 0., 10., 20.,  0.])
    """
    axes = _windows(x.shape[1:-1], kernel_size, stride, padding, dilation, ceil_mode)
    return _max_backward(dy, x, axes)


def avg_pool(
    x: np.ndarray,
    kernel_size: Ints,
    *,
    stride: Ints | None = None,
    padding: Any = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = False,
) -> np.ndarray:
    """Return the mean of each window: ``y[n, p, c] = 1 / count[p] * sum over r of x[n, p * stride - before + r, c]``.

    ``count[p]`` is the number of pixels in the window, or, with `count_include_pad`, of pixels and padding.

    Parameters
    ----------
    x : array, shape (N, *spatial, C)

    Returns
    -------
    array, shape (N, *output, C)

    Examples
    --------
    >>> x = np.array([2.0, 4, 6]).reshape(1, 3, 1)
    >>> avg_pool(x, 2, padding=(1,), stride=1)[0, :, 0]
    array([2., 3., 5., 6.])
    >>> avg_pool(x, 2, padding=(1,), stride=1, count_include_pad=True)[0, :, 0]
    array([1., 3., 5., 3.])
    """
    return _mean(x, _windows(x.shape[1:-1], kernel_size, stride, padding, dilation, ceil_mode, count_include_pad))


def avg_pool_backward(
    dy: np.ndarray,
    input_shape: Sequence[int],
    kernel_size: Ints,
    *,
    stride: Ints | None = None,
    padding: Any = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = False,
) -> np.ndarray:
    """Return dx of `avg_pool`: each window hands every one of its pixels the same share.

    Examples
    --------
    >>> avg_pool_backward(np.array([10.0, 20]).reshape(1, 2, 1), (1, 4, 1), 2)[0, :, 0]
    array([ 5.,  5., 10., 10.])
    """
    axes = _windows(input_shape[1:-1], kernel_size, stride, padding, dilation, ceil_mode, count_include_pad)
    return _mean_backward(dy, input_shape, axes)


def adaptive_avg_pool(x: np.ndarray, output_size: Ints) -> np.ndarray:
    """Return means over `output_size` windows that cover the image, whatever its size.

    Window ``i`` of ``P`` over ``H`` inputs runs from ``floor(i * H / P)`` up to ``ceil((i + 1) * H / P)``, so
    windows may overlap by one pixel. One output is global pooling.

    Examples
    --------
    >>> adaptive_avg_pool(np.arange(5.0).reshape(1, 5, 1), 2)[0, :, 0]
    array([1., 3.])
    """
    return _mean(x, _adaptive(x.shape[1:-1], output_size))


def adaptive_avg_pool_backward(dy: np.ndarray, input_shape: Sequence[int], output_size: Ints) -> np.ndarray:
    """Return dx of `adaptive_avg_pool`.

    Examples
    --------
    >>> adaptive_avg_pool_backward(np.array([3.0, 6]).reshape(1, 2, 1), (1, 5, 1), 2)[0, :, 0]
    array([1., 1., 3., 2., 2.])
    """
    return _mean_backward(dy, input_shape, _adaptive(input_shape[1:-1], output_size))


def adaptive_max_pool(x: np.ndarray, output_size: Ints) -> np.ndarray:
    """Return the largest values of the windows of `adaptive_avg_pool`.

    Examples
    --------
    >>> adaptive_max_pool(np.arange(5.0).reshape(1, 5, 1), 2)[0, :, 0]
    array([2., 4.])
    """
    return _max(x, _adaptive(x.shape[1:-1], output_size))


def adaptive_max_pool_backward(dy: np.ndarray, x: np.ndarray, output_size: Ints) -> np.ndarray:
    """Return dx of `adaptive_max_pool`.

    Examples
    --------
    >>> x = np.arange(5.0).reshape(1, 5, 1)
    >>> adaptive_max_pool_backward(np.array([3.0, 6]).reshape(1, 2, 1), x, 2)[0, :, 0]
    array([0., 0., 3., 0., 6.])
    """
    return _max_backward(dy, x, _adaptive(x.shape[1:-1], output_size))


def _windows(
    size: Sequence[int], kernel: Any, stride: Any, padding: Any, dilation: Any, ceil: bool, include_pad: bool = False
) -> Axes:
    rank = len(size)
    kernel = ntuple(kernel, rank, "kernel_size")
    stride = kernel if stride is None else ntuple(stride, rank, "stride")
    dilation = ntuple(dilation, rank, "dilation")
    pairs = geometry.padding_pairs(padding, size, kernel, stride, dilation)
    arguments = zip(size, kernel, stride, pairs, dilation, strict=True)
    return [geometry.pool_axis(*axis, ceil, include_pad).windows() for axis in arguments]


def _adaptive(size: Sequence[int], output_size: Any) -> Axes:
    output = ntuple(output_size, len(size), "output_size")
    return [geometry.adaptive_axis(n, out).windows() for n, out in zip(size, output, strict=True)]


def _each(axes: Axes) -> Iterator[tuple[Index, Index, int]]:
    """Yield, for each output, its index, the index of its window's pixels, and what its mean divides by."""
    batch = slice(None)
    for position in np.ndindex(*(len(axis.first) for axis in axes)):
        window = []
        count = 1
        for i, (first, taps, counts, step) in zip(position, axes, strict=True):
            window.append(slice(first[i], first[i] + taps[i] * step, step))
            count *= int(counts[i])
        yield (batch, *position), (batch, *window), count


def _max(x: np.ndarray, axes: Axes) -> np.ndarray:
    y = np.empty((len(x), *[len(axis.first) for axis in axes], x.shape[-1]), x.dtype)
    spatial = tuple(range(1, x.ndim - 1))
    for at, window, _ in _each(axes):
        y[at] = x[window].max(axis=spatial, initial=-np.inf)
    return y


def _max_backward(dy: np.ndarray, x: np.ndarray, axes: Axes) -> np.ndarray:
    dx = np.zeros_like(x)
    for at, window, _ in _each(axes):
        pixels = x[window]  # (N, *taps, C)
        if pixels.size == 0:
            continue
        winner = np.argmax(pixels.reshape(len(x), -1, x.shape[-1]), axis=1)  # (N, C): the first of equals, or of NaN
        for n, c in np.ndindex(*winner.shape):
            pixel = (n, *np.unravel_index(winner[n, c], pixels.shape[1:-1]), c)
            dx[window][pixel] += dy[at][n, c]
    return dx


def _mean(x: np.ndarray, axes: Axes) -> np.ndarray:
    y = np.empty((len(x), *[len(axis.first) for axis in axes], x.shape[-1]), x.dtype)
    spatial = tuple(range(1, x.ndim - 1))
    for at, window, count in _each(axes):
        y[at] = x[window].sum(axis=spatial) / count
    return y


def _mean_backward(dy: np.ndarray, input_shape: Sequence[int], axes: Axes) -> np.ndarray:
    dx = np.zeros(input_shape, dy.dtype)
    for at, window, count in _each(axes):
        dx[window] += np.expand_dims(dy[at] / count, tuple(range(1, len(input_shape) - 1)))
    return dx
