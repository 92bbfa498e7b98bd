"""Locally connected layers: the windows of a convolution, but each with weights of its own.

Between a dense layer, where every output sees every pixel, and a convolution, where all windows share one kernel.
It is the right choice where position has a meaning of its own, as in an aligned face (eyes are always above the
mouth).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv.reference.sliding import Ints, Sliding


def locally_connected(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None, *, stride: Ints = 1, padding: Any = 0
) -> np.ndarray:
    """Sum each window times the weights that belong to this window alone.

    ``y[n, p, o] = bias[p, o] + sum over r, c of x[n, p * stride - before + r, c] * weight[p, r, c, o]``: the
    formula of `conv` with the one difference that the weight has an index ``p``.

    Parameters
    ----------
    x : array, shape (N, *spatial, C)
    weight : array, shape (*output, *kernel, C, O)
    bias : array, shape (*output, O), optional

    Returns
    -------
    array, shape (N, *output, O)

    References
    ----------
    Taigman et al., DeepFace: closing the gap to human-level performance in face verification, CVPR 2014, section 3.1.

    Examples
    --------
    >>> x = np.array([1.0, 2, 3]).reshape(1, 3, 1)
    >>> weight = np.array([[1.0, 1], [0, 10]]).reshape(2, 2, 1, 1)
    >>> locally_connected(x, weight)[0, :, 0]
    array([ 3., 30.])
    """
    sliding = _sliding(x, weight, stride, padding)
    padded = sliding.pad(x)
    y = np.zeros((len(x), *sliding.output, weight.shape[-1]), x.dtype)
    for at, window in sliding.windows():
        own = weight[at[1:]]  # (*kernel, C, O)
        y[at] = np.tensordot(padded[window], own, axes=own.ndim - 1)
    return y if bias is None else y + bias


def locally_connected_backward(
    dy: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    *,
    stride: Ints = 1,
    padding: Any = 0,
    wrt: Sequence[str] = ("x", "weight", "bias"),
) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """Return ``(dx, dweight, dbias)`` of `locally_connected`, `None` for what `wrt` leaves out.

    A weight is used once for each image, so its gradient sums over the batch and over nothing else.

    Examples
    --------
    >>> x = np.array([1.0, 2, 3]).reshape(1, 3, 1)
    >>> weight = np.array([[1.0, 1], [0, 10]]).reshape(2, 2, 1, 1)
    >>> dx, dweight, dbias = locally_connected_backward(np.ones((1, 2, 1)), x, weight)
    >>> dx[0, :, 0], dweight[:, :, 0, 0].tolist()
    (array([ 1.,  1., 10.]), [[1.0, 2.0], [2.0, 3.0]])
    """
    sliding = _sliding(x, weight, stride, padding)
    padded = sliding.pad(x)
    dpadded, dweight = np.zeros_like(padded), np.zeros_like(weight)
    for at, window in sliding.windows():
        own = at[1:]
        dpadded[window] += np.tensordot(dy[at], weight[own], axes=(-1, -1))  # (N, *kernel, C)
        dweight[own] = np.tensordot(padded[window], dy[at], axes=(0, 0))  # (*kernel, C, O)
    return (
        sliding.crop(dpadded) if "x" in wrt else None,
        dweight if "weight" in wrt else None,
        dy.sum(axis=0) if "bias" in wrt else None,
    )


def _sliding(x: np.ndarray, weight: np.ndarray, stride: Any, padding: Any) -> Sliding:
    rank = x.ndim - 2
    return Sliding.over(x.shape[1:-1], weight.shape[rank : 2 * rank], stride, padding, 1)
