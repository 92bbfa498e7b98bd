"""Convolution and transposed convolution: the same weights at every position of the sliding window.

Both, and their backward passes, are made of three sums over the taps of the kernel. With ``x[p; r]`` for the input that tap
``r`` meets in the window of output ``p``, the one at ``p * stride - before + r * dilation``:

- gather: ``y[p, o] = sum over r, c of x[p; r, c] * weight[r, c, o]``
- scatter, its adjoint: ``x[p; r, c] += sum over o of y[p, o] * weight[r, c, o]``
- correlate: ``dweight[r, c, o] = sum over n, p of x[n, p; r, c] * dy[n, p, o]``

A convolution gathers; its gradient scatters. A transposed convolution scatters; its gradient gathers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv import geometry
from fastconv.arguments import ntuple
from fastconv.reference.sliding import Ints, Sliding

Gradients = tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]


def conv(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    stride: Ints = 1,
    padding: Any = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> np.ndarray:
    """Slide the kernel over the image; each output is the sum of its window times the kernel.

    ``y[n, p, o] = bias[o] + sum over r, c of x[n, p * stride - before + r * dilation, c] * weight[r, c, o]``, where
    ``p`` and ``r`` have one index for each spatial axis. What deep learning calls convolution is cross-correlation:
    the kernel is not flipped. With `groups`, the channels are dealt into that many groups that do not see each
    other.

    Parameters
    ----------
    x : array, shape (N, *spatial, C)
    weight : array, shape (*kernel, C // groups, O)
    bias : array, shape (O,), optional
    stride, dilation : int or tuple of int, pixels
    padding : int, tuple of int, tuple of (before, after), "same" or "valid", pixels

    Returns
    -------
    array, shape (N, *output, O)

    References
    ----------
    LeCun et al., Gradient-based learning applied to document recognition, Proc. IEEE 1998, section II.A.

    Examples
    --------
    >>> x = np.arange(5.0).reshape(1, 5, 1)
    >>> mean = np.full((3, 1, 1), 1 / 3)
    >>> conv(x, mean, padding=1)[0, :, 0].round(2)
    array([0.33, 1.  , 2.  , 3.  , 2.33])
    """
    sliding = Sliding.over(x.shape[1:-1], weight.shape[:-2], stride, padding, dilation)
    y = _gather(sliding, sliding.pad(x), weight, groups)
    return y if bias is None else y + bias


def conv_backward(
    dy: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    *,
    stride: Ints = 1,
    padding: Any = 0,
    dilation: Ints = 1,
    groups: int = 1,
    wrt: Sequence[str] = ("x", "weight", "bias"),
) -> Gradients:
    """Return ``(dx, dweight, dbias)`` of `conv`, `None` for what `wrt` leaves out.

    Each window hands its gradient back to the pixels and to the weights it used: a pixel sums over the windows that
    saw it, a weight over all windows of all images, a bias over all outputs.

    Examples
    --------
    >>> x, weight = np.arange(5.0).reshape(1, 5, 1), np.array([1.0, 2, 3]).reshape(3, 1, 1)
    >>> dx, dweight, dbias = conv_backward(np.ones((1, 3, 1)), x, weight)
    >>> dx[0, :, 0], dweight[:, 0, 0], dbias
    (array([1., 3., 6., 5., 3.]), array([3., 6., 9.]), array([3.]))
    """
    sliding = Sliding.over(x.shape[1:-1], weight.shape[:-2], stride, padding, dilation)
    dx = dweight = None
    if "x" in wrt:
        dx = sliding.crop(_scatter(sliding, dy, weight, groups, sliding.padded_size(x.shape[1:-1])))
    if "weight" in wrt:
        dweight = _correlate(sliding, sliding.pad(x), dy, groups)
    return dx, dweight, _sum_to_channels(dy) if "bias" in wrt else None


def conv_transpose(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    stride: Ints = 1,
    padding: Any = 0,
    output_padding: Ints = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> np.ndarray:
    """Stamp the kernel onto the output once for each input, scaled by it: the adjoint of `conv`.

    ``y[n, p * stride - before + r * dilation, o] += sum over c of x[n, p, c] * weight[r, o, c]``, plus ``bias[o]``.
    It makes images larger by `stride`, and undoes the shape (not the values) of the convolution with the same
    arguments. `padding` cuts the border of the output off; `output_padding` adds to the end of it, to choose among
    the sizes that the convolution maps to the same one.

    Parameters
    ----------
    x : array, shape (N, *spatial, C)
    weight : array, shape (*kernel, O // groups, C)
    bias : array, shape (O,), optional

    Returns
    -------
    array, shape (N, *output, O); output = (spatial - 1) * stride - before - after + span + output_padding

    References
    ----------
    Dumoulin and Visin, A guide to convolution arithmetic for deep learning, 2016, chapter 4.

    Examples
    --------
    >>> stamp = np.array([1.0, 2, 1]).reshape(3, 1, 1)
    >>> conv_transpose(np.array([1.0, 10]).reshape(1, 2, 1), stamp, stride=2)[0, :, 0]
    array([ 1.,  2., 11., 20., 10.])
    """
    sliding, output = _transposed(x, weight, stride, padding, output_padding, dilation)
    y = sliding.crop(_scatter(sliding, x, weight, groups, sliding.padded_size(output)))
    return y if bias is None else y + bias


def conv_transpose_backward(
    dy: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    *,
    stride: Ints = 1,
    padding: Any = 0,
    output_padding: Ints = 0,
    dilation: Ints = 1,
    groups: int = 1,
    wrt: Sequence[str] = ("x", "weight", "bias"),
) -> Gradients:
    """Return ``(dx, dweight, dbias)`` of `conv_transpose`, `None` for what `wrt` leaves out; dx is a convolution of
    dy.

    Examples
    --------
    >>> x, stamp = np.array([1.0, 10]).reshape(1, 2, 1), np.array([1.0, 2, 1]).reshape(3, 1, 1)
    >>> dx, dweight, dbias = conv_transpose_backward(np.ones((1, 5, 1)), x, stamp, stride=2)
    >>> dx[0, :, 0], dweight[:, 0, 0], dbias
    (array([4., 4.]), array([11., 11., 11.]), array([5.]))
    """
    sliding, _ = _transposed(x, weight, stride, padding, output_padding, dilation)
    padded = sliding.pad(dy)
    dx = _gather(sliding, padded, weight, groups) if "x" in wrt else None
    dweight = _correlate(sliding, padded, x, groups) if "weight" in wrt else None
    return dx, dweight, _sum_to_channels(dy) if "bias" in wrt else None


def _transposed(
    x: np.ndarray, weight: np.ndarray, stride: Any, padding: Any, output_padding: Any, dilation: Any
) -> tuple[Sliding, tuple[int, ...]]:
    """Return the windows of the convolution whose adjoint this is (one for each input), and the output's size."""
    size, kernel = x.shape[1:-1], weight.shape[:-2]
    rank = len(size)
    stride = ntuple(stride, rank, "stride")
    dilation = ntuple(dilation, rank, "dilation")
    extra = ntuple(output_padding, rank, "output_padding", minimum=0)
    pairs = geometry.conv_transpose_padding(padding, kernel, stride, dilation, extra)
    output = geometry.conv_transpose_output(size, kernel, stride, pairs, dilation, extra)
    return Sliding(kernel, stride, pairs, dilation, size), output


def _gather(sliding: Sliding, padded: np.ndarray, weight: np.ndarray, groups: int) -> np.ndarray:
    if groups > 1:
        parts = zip(_split(padded, groups), _split(weight, groups), strict=True)
        return np.concatenate([_gather(sliding, x, w, 1) for x, w in parts], axis=-1)
    y = np.zeros((len(padded), *sliding.output, weight.shape[-1]), padded.dtype)
    for tap, met in sliding.taps():
        y += padded[met] @ weight[tap]  # (N, *output, C) @ (C, O)
    return y


def _scatter(
    sliding: Sliding, dy: np.ndarray, weight: np.ndarray, groups: int, padded_size: tuple[int, ...]
) -> np.ndarray:
    if groups > 1:
        parts = zip(_split(dy, groups), _split(weight, groups), strict=True)
        return np.concatenate([_scatter(sliding, d, w, 1, padded_size) for d, w in parts], axis=-1)
    dpadded = np.zeros((len(dy), *padded_size, weight.shape[-2]), dy.dtype)
    for tap, met in sliding.taps():
        dpadded[met] += dy @ weight[tap].T  # (N, *output, O) @ (O, C)
    return dpadded


def _correlate(sliding: Sliding, padded: np.ndarray, dy: np.ndarray, groups: int) -> np.ndarray:
    if groups > 1:
        parts = zip(_split(padded, groups), _split(dy, groups), strict=True)
        return np.concatenate([_correlate(sliding, x, d, 1) for x, d in parts], axis=-1)
    dweight = np.zeros((*sliding.kernel, padded.shape[-1], dy.shape[-1]), dy.dtype)
    outputs = list(range(dy.ndim - 1))
    for tap, met in sliding.taps():
        dweight[tap] = np.tensordot(
            padded[met], dy, axes=(outputs, outputs)
        )  # (N, *output, C) . (N, *output, O) -> (C, O)
    return dweight


def _split(array: np.ndarray, groups: int) -> list[np.ndarray]:
    return np.split(array, groups, axis=-1)


def _sum_to_channels(dy: np.ndarray) -> np.ndarray:
    return dy.sum(axis=tuple(range(dy.ndim - 1)))
