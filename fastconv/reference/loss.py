"""Softmax and cross entropy."""

from __future__ import annotations

import numpy as np


def softmax(x: np.ndarray, *, axis: int = -1) -> np.ndarray:
    """Return probabilities: ``y[i] = exp(x[i]) / sum over j of exp(x[j])``.

    Adding a number to all the x changes nothing, so the largest is subtracted first: no exponential overflows.

    Examples
    --------
    >>> softmax(np.array([0.0, np.log(3.0)]))
    array([0.25, 0.75])
    """
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


def softmax_backward(dy: np.ndarray, y: np.ndarray, *, axis: int = -1) -> np.ndarray:
    """Return dx of `softmax` from its output: ``dx[i] = y[i] * (dy[i] - sum over j of dy[j] * y[j])``.

    Examples
    --------
    >>> softmax_backward(np.array([1.0, 0.0]), np.array([0.25, 0.75]))
    array([ 0.1875, -0.1875])
    """
    return y * (dy - (dy * y).sum(axis=axis, keepdims=True))


def log_softmax(x: np.ndarray, *, axis: int = -1) -> np.ndarray:
    """Return the logarithms of `softmax`: ``y[i] = x[i] - log sum over j of exp(x[j])``, with no probability computed.

    Examples
    --------
    >>> log_softmax(np.array([0.0, 1000.0]))
    array([-1000.,     0.])
    """
    shifted = x - x.max(axis=axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))


def log_softmax_backward(dy: np.ndarray, y: np.ndarray, *, axis: int = -1) -> np.ndarray:
    """Return dx of `log_softmax` from its output: ``dx[i] = dy[i] - exp(y[i]) * sum over j of dy[j]``.

    Examples
    --------
    >>> log_softmax_backward(np.array([1.0, 0.0]), np.log([0.25, 0.75]))
    array([ 0.75, -0.75])
    """
    return dy - np.exp(y) * dy.sum(axis=axis, keepdims=True)


def cross_entropy(logits: np.ndarray, labels: np.ndarray, *, label_smoothing: float = 0.0) -> np.floating:
    """Return the mean, over all predictions, of minus the logarithm of the probability of the right class.

    ``loss = -mean over n of sum over k of target[n, k] * log_softmax(logits)[n, k]``; the target of an integer
    label is 1 at the label. Smoothing by ``s`` mixes it with the uniform distribution: ``(1 - s) * target + s /
    classes``. No predictions: 0.

    Parameters
    ----------
    logits : array, shape (N, ..., classes)
    labels : integer array, shape (N, ...), or probabilities of the shape of `logits`

    References
    ----------
    Szegedy et al., Rethinking the Inception architecture, CVPR 2016, section 7 (label smoothing).

    Examples
    --------
    >>> float(cross_entropy(np.array([[0.0, 0.0, 0.0, 0.0]]), np.array([2])))  # log 4
    1.3862943611198906
    """
    target = _target(logits, labels, label_smoothing)
    predictions = max(1, target[..., 0].size)
    logs = log_softmax(logits)
    terms = np.multiply(target, logs, out=np.zeros_like(logs), where=target != 0)  # 0 * log 0 is 0
    return logits.dtype.type(-terms.sum() / predictions)


def cross_entropy_backward(logits: np.ndarray, labels: np.ndarray, *, label_smoothing: float = 0.0) -> np.ndarray:
    """Return dlogits of `cross_entropy`: ``(softmax(logits) - target) / predictions``, if each target sums to 1.

    Examples
    --------
    >>> cross_entropy_backward(np.log([[0.25, 0.75]]), np.array([1]))
    array([[ 0.25, -0.25]])
    """
    target = _target(logits, labels, label_smoothing)
    predictions = max(1, target[..., 0].size)
    return (softmax(logits) * target.sum(axis=-1, keepdims=True) - target) / predictions


def _target(logits: np.ndarray, labels: np.ndarray, smoothing: float) -> np.ndarray:
    classes = logits.shape[-1]
    if np.issubdtype(labels.dtype, np.integer):
        labels = np.eye(classes, dtype=logits.dtype)[labels]
    return (1 - smoothing) * labels + logits.dtype.type(smoothing / classes)
