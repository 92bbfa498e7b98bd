"""The linear (dense) layer: every output depends on every input."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """Multiply by a matrix: ``y[..., o] = bias[o] + sum over i of x[..., i] * weight[i, o]``.

    Parameters
    ----------
    x : array, shape (..., in)
    weight : array, shape (in, out)
    bias : array, shape (out,), optional

    Returns
    -------
    array, shape (..., out)

    Examples
    --------
    >>> linear(np.array([[1.0, 2]]), np.array([[1.0, 0, 3], [0, 1, 1]]), np.array([0.5, 0, 0]))
    array([[1.5, 2. , 5. ]])
    """
    y = np.tensordot(x, weight, axes=1)
    return y if bias is None else y + bias


def linear_backward(
    dy: np.ndarray, x: np.ndarray, weight: np.ndarray, *, wrt: Sequence[str] = ("x", "weight", "bias")
) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """Return ``(dx, dweight, dbias)`` of `linear`, `None` for what `wrt` leaves out.

    ``dx = dy @ weight.T``, ``dweight = x.T @ dy``, and ``dbias`` sums ``dy`` over all but the last axis.

    Examples
    --------
    >>> dx, dweight, dbias = linear_backward(np.array([[1.0, 10]]), np.array([[2.0, 3]]), np.eye(2))
    >>> dx, dweight, dbias
    (array([[ 1., 10.]]), array([[ 2., 20.],
           [ 3., 30.]]), array([ 1., 10.]))
    """
    leading = tuple(range(x.ndim - 1))
    return (
        np.tensordot(dy, weight, axes=(-1, -1)) if "x" in wrt else None,
        np.tensordot(x, dy, axes=(leading, leading)) if "weight" in wrt else None,
        dy.sum(axis=leading) if "bias" in wrt else None,
    )
