"""Softmax, log softmax and cross entropy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastconv._kernels._memory import empty
from fastconv.arguments import integer, real_number
from fastconv.arrays import as_array
from fastconv.functional._validate import float_array, kernels_for, require_shape
from fastconv.threads import threads_for

#: What an exponential costs in multiply-adds, about.
EXP_COST = 4

#: Numbers of the longest vector of any instruction set.
VECTOR = 16


def softmax(x: ArrayLike, *, axis: int = -1) -> NDArray[Any]:
    """Return probabilities from scores: ``y[i] = exp(x[i]) / sum_j exp(x[j])`` along `axis`.

    The largest score is subtracted first, so no exponential overflows. A score of -inf gives probability 0.

    Parameters
    ----------
    x : array of at least one axis, float32 or float64
    axis : int
        The axis of the classes, at least one of them.

    Returns
    -------
    array, shape and dtype of x; each value between 0 and 1, sums of 1 along `axis`

    Raises
    ------
    TypeError
        For dtypes other than float32 and float64; for an axis that is not an integer.
    ValueError
        For an axis that x does not have, or of no elements.

    See Also
    --------
    softmax_backward : its gradient. log_softmax : its logarithm.

    Examples
    --------
    >>> import numpy as np
    >>> softmax(np.array([0.0, np.log(3.0)]))
    array([0.25, 0.75])
    """
    return _rows(x, axis, logarithm=False)


def softmax_backward(dy: ArrayLike, y: ArrayLike, *, axis: int = -1) -> NDArray[Any]:
    """Return the gradient of `softmax` from its output: ``dx[i] = y[i] * (dy[i] - sum_j dy[j] * y[j])``.

    Parameters
    ----------
    dy : array, shape and dtype of y
    y : array, what `softmax` returned
    axis
        As given to `softmax`.

    Returns
    -------
    array, shape and dtype of y

    Raises
    ------
    TypeError, ValueError
        As `softmax`, and where dy has not the shape of y.

    Examples
    --------
    >>> import numpy as np
    >>> softmax_backward(np.array([1.0, 0.0]), np.array([0.25, 0.75]))
    array([ 0.1875, -0.1875])
    """
    return _rows_backward(dy, y, axis, logarithm=False)


def log_softmax(x: ArrayLike, *, axis: int = -1) -> NDArray[Any]:
    """Return the logarithms of `softmax`: ``y[i] = x[i] - log sum_j exp(x[j])``, with no probability computed.

    Parameters
    ----------
    x, axis
        As for `softmax`.

    Returns
    -------
    array, shape and dtype of x; logarithms of probabilities, at most 0

    Raises
    ------
    TypeError, ValueError
        As `softmax`.

    See Also
    --------
    log_softmax_backward : its gradient.

    Examples
    --------
    >>> import numpy as np
    >>> log_softmax(np.array([0.0, 1000.0]))
    array([-1000.,     0.])
    """
    return _rows(x, axis, logarithm=True)


def log_softmax_backward(dy: ArrayLike, y: ArrayLike, *, axis: int = -1) -> NDArray[Any]:
    """Return the gradient of `log_softmax` from its output: ``dx[i] = dy[i] - exp(y[i]) * sum_j dy[j]``.

    Parameters
    ----------
    dy : array, shape and dtype of y
    y : array, what `log_softmax` returned
    axis
        As given to `log_softmax`.

    Returns
    -------
    array, shape and dtype of y

    Raises
    ------
    TypeError, ValueError
        As `log_softmax`, and where dy has not the shape of y.

    Examples
    --------
    >>> import numpy as np
    >>> log_softmax_backward(np.array([1.0, 0.0]), np.log([0.25, 0.75]))
    array([ 0.75, -0.75])
    """
    return _rows_backward(dy, y, axis, logarithm=True)


def cross_entropy(logits: ArrayLike, labels: ArrayLike, *, label_smoothing: float = 0.0) -> np.floating[Any]:
    """Return the mean over all predictions of minus the logarithm of the probability that the right class got.

    ``loss = -mean_n sum_k target[n, k] * log_softmax(logits)[n, k]``. The target of an integer label is 1 at the
    label and 0 elsewhere; smoothing by s mixes every target with the uniform one, ``(1 - s) * target + s /
    classes`` (Szegedy et al., CVPR 2016, section 7). The loss of no predictions is 0.

    Parameters
    ----------
    logits : array (N, ..., classes), float32 or float64
        Scores before the softmax.
    labels : integer array (N, ...), each at least 0 and below `classes`; or probabilities, shape and dtype of logits
    label_smoothing : float from 0 to 1

    Returns
    -------
    scalar, dtype of logits, in nats

    Raises
    ------
    TypeError
        For logits that are not float32 or float64, labels that are neither integers nor of the dtype of logits.
    ValueError
        For shapes that do not match; for a label out of range or a probability outside of 0 to 1, naming its index.

    See Also
    --------
    cross_entropy_backward : its gradient.

    Examples
    --------
    >>> import numpy as np
    >>> round(float(cross_entropy(np.zeros((1, 4)), np.array([2]))), 6)  # log 4
    1.386294
    """
    logits, labels = _check(logits, labels, label_smoothing)
    if logits.size == 0:
        return logits.dtype.type(0)
    classes = logits.shape[-1]
    if labels.dtype == np.int64:
        losses = np.empty(labels.shape)
        threads = threads_for(EXP_COST * logits.size)
        kernels = kernels_for(logits)
        _require_inside(
            labels, classes, kernels.cross_entropy_forward(logits, labels, losses, classes, label_smoothing, threads)
        )
        return logits.dtype.type(losses.sum() / labels.size)
    logs = log_softmax(logits)
    total = 0.0  # where the target is 0 the term is 0, even if the logarithm is -inf
    if label_smoothing < 1:
        terms = np.multiply(labels, logs, out=np.zeros_like(logs), where=labels != 0)
        total = (1 - label_smoothing) * terms.sum(dtype=np.float64)
    if label_smoothing:
        total += label_smoothing / classes * logs.sum(dtype=np.float64)
    return logits.dtype.type(-total / (logits.size // classes))


def cross_entropy_backward(logits: ArrayLike, labels: ArrayLike, *, label_smoothing: float = 0.0) -> NDArray[Any]:
    """Return the gradient of `cross_entropy` with respect to the logits: ``(softmax(logits) - target) / predictions``.

    Where probabilities do not sum to 1, the softmax is multiplied by their sum.

    Parameters
    ----------
    logits, labels, label_smoothing
        As given to `cross_entropy`.

    Returns
    -------
    array, shape and dtype of logits

    Raises
    ------
    TypeError, ValueError
        As `cross_entropy`.

    Examples
    --------
    >>> import numpy as np
    >>> cross_entropy_backward(np.log([[0.25, 0.75]]), np.array([1]))
    array([[ 0.25, -0.25]])
    """
    logits, labels = _check(logits, labels, label_smoothing)
    if logits.size == 0:
        return np.zeros_like(logits)
    classes = logits.shape[-1]
    predictions = logits.size // classes
    if labels.dtype == np.int64:
        dlogits = empty(logits.shape, logits.dtype)
        arguments = classes, label_smoothing, 1 / predictions, threads_for(EXP_COST * logits.size)
        _require_inside(
            labels, classes, kernels_for(logits).cross_entropy_backward(logits, labels, dlogits, *arguments)
        )
        return dlogits
    dlogits = softmax(logits)
    right = 1 - label_smoothing
    dlogits *= right * labels.sum(axis=-1, keepdims=True) + label_smoothing
    dlogits -= right * labels
    if label_smoothing:
        dlogits -= label_smoothing / classes
    dlogits /= predictions
    return dlogits


def _scores(x: ArrayLike, axis: Any, name: str = "x") -> tuple[NDArray[Any], int]:
    array = float_array(x, name)
    axis = integer(axis, "axis", "an integer")
    if not -array.ndim <= axis < array.ndim:
        raise ValueError(f"axis must be one of the {array.ndim} axes of {name}, got {axis}")
    if array.shape[axis] == 0:
        raise ValueError(f"{name} must have at least one element along axis {axis}, got shape {array.shape}")
    return array, axis


def _rows(x: ArrayLike, axis: Any, *, logarithm: bool) -> NDArray[Any]:
    """Return the softmax along `axis`, or its logarithm."""
    scores, axis = _scores(x, axis)
    inner, (rows,) = _apart(axis, scores)
    y = empty(rows.shape, rows.dtype)
    if rows.size:
        threads = threads_for(EXP_COST * rows.size)
        kernels_for(rows).softmax_forward(rows, y, scores.shape[axis], inner, logarithm, threads)
    return y if rows is scores else _back(y, axis)


def _rows_backward(dy: ArrayLike, y: ArrayLike, axis: Any, *, logarithm: bool) -> NDArray[Any]:
    array, axis = _scores(y, axis, "y")
    gradient = float_array(dy, "dy", like=array, like_name="y")
    require_shape(gradient, array.shape, "dy", "the shape of y")
    inner, (rows, gradient) = _apart(axis, array, gradient)
    dx = empty(rows.shape, rows.dtype)
    if rows.size:
        threads = threads_for(EXP_COST * rows.size)
        kernels_for(rows).softmax_backward(gradient, rows, dx, array.shape[axis], inner, logarithm, threads)
    return dx if rows is array else _back(dx, axis)


def _apart(axis: int, *arrays: NDArray[Any]) -> tuple[int, list[NDArray[Any]]]:
    """Return how far apart items along `axis` are, and the arrays: with `axis` as their last where that is too near."""
    inner = math.prod(arrays[0].shape[axis:][1:])
    if inner == 1 or inner >= VECTOR:
        return inner, list(arrays)
    return 1, [np.ascontiguousarray(np.moveaxis(array, axis, -1)) for array in arrays]


def _back(array: NDArray[Any], axis: int) -> NDArray[Any]:
    """Return the array with its last axis as `axis` again."""
    return np.ascontiguousarray(np.moveaxis(array, -1, axis))


def _check(logits: ArrayLike, labels: ArrayLike, label_smoothing: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return logits and their targets: labels as int64, of which the kernels find those out of range, or probabilities."""
    scores = float_array(logits, "logits")
    if scores.ndim < 2 or scores.shape[-1] == 0:
        raise ValueError(f"logits must have shape (N, ..., classes), at least one class, got {scores.shape}")
    if not 0 <= real_number(label_smoothing, "label_smoothing") <= 1:
        raise ValueError(f"label_smoothing must be from 0 to 1, got {label_smoothing!r}")
    target = as_array(labels, "labels")
    if target.dtype.kind in "iu":
        require_shape(target, scores.shape[:-1], "labels", "the shape of logits without the classes")
        if target.dtype == np.uint64 and target.size and target.max() > np.iinfo(np.int64).max:
            _require_inside(target, scores.shape[-1], int(target.argmax()))
        return scores, np.ascontiguousarray(target, np.int64)
    if not np.can_cast(target.dtype, scores.dtype, "equiv"):  # in whatever order of bytes
        raise TypeError(f"labels must be integers, or probabilities of dtype {scores.dtype}, got {target.dtype}")
    require_shape(target, scores.shape, "labels", "the shape of logits")
    outside = ~((target >= 0) & (target <= 1))
    if outside.any():
        _raise_outside(target, int(outside.argmax()), "probabilities, from 0 to 1")
    return scores, target


def _require_inside(labels: NDArray[Any], classes: int, wrong: int) -> None:
    """Raise `ValueError` for the label at index `wrong` of the flat array, where that is not -1."""
    if wrong >= 0:
        _raise_outside(labels, wrong, f"from 0 to {classes - 1}, the classes of logits")


def _raise_outside(targets: NDArray[Any], wrong: int, expected: str) -> None:
    index = tuple(int(i) for i in np.unravel_index(wrong, targets.shape))
    where = index[0] if len(index) == 1 else index
    raise ValueError(f"labels must be {expected}: labels[{where}] is {targets[index]}")
