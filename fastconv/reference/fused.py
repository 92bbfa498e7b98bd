"""Operations that `fastconv.functional` computes in one pass: here, one after the other."""

from __future__ import annotations

import numpy as np

from fastconv.reference.activation import relu, relu_backward
from fastconv.reference.norm import batch_norm, batch_norm_backward


def batch_norm_relu(
    x: np.ndarray,
    scale: np.ndarray,
    bias: np.ndarray,
    *,
    residual: np.ndarray | None = None,
    mean: np.ndarray | None = None,
    var: np.ndarray | None = None,
    eps: float = 1e-5,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ``relu(batch_norm(x) + residual)``, the mean and the variance; the residual may be left out.

    Examples
    --------
    >>> x = np.array([[1.0], [3.0]])
    >>> batch_norm_relu(x, np.ones(1), np.zeros(1), residual=np.full((2, 1), 2.0), eps=0.0)[0][:, 0]
    array([1., 3.])
    """
    y, mean, var = batch_norm(x, scale, bias, mean=mean, var=var, eps=eps)
    return relu(y if residual is None else y + residual), mean, var


def batch_norm_relu_backward(
    dy: np.ndarray,
    x: np.ndarray,
    scale: np.ndarray,
    bias: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
    *,
    eps: float = 1e-5,
    batch_statistics: bool = True,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ``(dx, dscale, dbias)`` of `batch_norm_relu` without a residual.

    Examples
    --------
    >>> x = np.array([[0.0], [1.0], [5.0]])
    >>> batch_norm_relu_backward(np.ones((3, 1)), x, np.ones(1), np.zeros(1), x.mean(0), x.var(0))[2]
    array([1.])
    """
    y, _, _ = batch_norm(x, scale, bias, mean=mean, var=var, eps=eps)
    return batch_norm_backward(relu_backward(dy, y), x, scale, mean, var, eps=eps, batch_statistics=batch_statistics)
