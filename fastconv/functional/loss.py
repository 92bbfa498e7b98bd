"""From scores to probabilities (softmax, log softmax), and how wrong they are (cross entropy)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastconv.functional._validate import float_array, kernels_for, real_number, require_shape
from fastconv.geometry import integer
from fastconv.threads import threads_for

#: What an exponential costs in multiply-adds, about.
EXP_COST = 20


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
        For dtypes other than float32 and float64; for an axis that is no integer.
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
    >>> float(cross_entropy(np.zeros((1, 4)), np.array([2])))  # log 4
    1.3862943611198906
    """
    logits, labels = _check(logits, labels, label_smoothing)
    if logits.size == 0:
        return logits.dtype.type(0)
    logs = log_softmax(logits)
    right = 1 - label_smoothing
    total = 0.0  # where the target is 0 the term is 0, even if the logarithm is -inf
    if right and np.issubdtype(labels.dtype, np.integer):
        total = right * np.take_along_axis(logs, labels[..., None], axis=-1).sum(dtype=np.float64)
    elif right:
        total = right * np.multiply(labels, logs, out=np.zeros_like(logs), where=labels != 0).sum(dtype=np.float64)
    if label_smoothing:
        total += label_smoothing / logits.shape[-1] * logs.sum(dtype=np.float64)
    return logits.dtype.type(-total / (logits.size // logits.shape[-1]))


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
    dlogits = softmax(logits)
    right = 1 - label_smoothing
    if np.issubdtype(labels.dtype, np.integer):
        rows = dlogits.reshape(-1, classes)
        rows[np.arange(len(rows)), labels.reshape(-1)] -= right
    else:
        dlogits *= right * labels.sum(axis=-1, keepdims=True) + label_smoothing
        dlogits -= right * labels
    if label_smoothing:
        dlogits -= label_smoothing / classes
    dlogits /= logits.size // classes
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
    """Return the softmax along `axis`, or its logarithm; the kernels take the last axis."""
    scores, axis = _scores(x, axis)
    rows = _last(scores, axis)
    y = np.empty_like(rows)
    if rows.size:
        kernels_for(rows).softmax_forward(rows, y, logarithm, threads_for(EXP_COST * rows.size))
    return _back(y, scores.shape, axis)


def _rows_backward(dy: ArrayLike, y: ArrayLike, axis: Any, *, logarithm: bool) -> NDArray[Any]:
    array, axis = _scores(y, axis, "y")
    gradient = float_array(dy, "dy", like=array, like_name="y")
    require_shape(gradient, array.shape, "dy", "the shape of y")
    rows = _last(array, axis)
    dx = np.empty_like(rows)
    if rows.size:
        threads = threads_for(EXP_COST * rows.size)
        kernels_for(rows).softmax_backward(_last(gradient, axis), rows, dx, logarithm, threads)
    return _back(dx, array.shape, axis)


def _last(array: NDArray[Any], axis: int) -> NDArray[Any]:
    """Return the array as contiguous rows along `axis`."""
    if axis not in (-1, array.ndim - 1):
        array = np.ascontiguousarray(np.moveaxis(array, axis, -1))
    return array.reshape(-1, array.shape[-1])


def _back(rows: NDArray[Any], shape: tuple[int, ...], axis: int) -> NDArray[Any]:
    """Undo `_last` for an array of `shape`."""
    if axis in (-1, len(shape) - 1):
        return rows.reshape(shape)
    moved = [*shape]
    moved.append(moved.pop(axis))
    return np.ascontiguousarray(np.moveaxis(rows.reshape(moved), -1, axis))


def _check(logits: ArrayLike, labels: ArrayLike, label_smoothing: float) -> tuple[NDArray[Any], NDArray[Any]]:
    scores = float_array(logits, "logits")
    if scores.ndim < 2 or scores.shape[-1] == 0:
        raise ValueError(f"logits must have shape (N, ..., classes), at least one class, got {scores.shape}")
    if not 0 <= real_number(label_smoothing, "label_smoothing") <= 1:
        raise ValueError(f"label_smoothing must be from 0 to 1, got {label_smoothing!r}")
    target = np.asarray(labels)
    if np.issubdtype(target.dtype, np.integer):
        require_shape(target, scores.shape[:-1], "labels", "the shape of logits without the classes")
        outside = (target < 0) | (target >= scores.shape[-1])
        expected = f"from 0 to {scores.shape[-1] - 1}, the classes of logits"
    elif np.can_cast(target.dtype, scores.dtype, "equiv"):  # in whatever order of bytes
        require_shape(target, scores.shape, "labels", "the shape of logits")
        outside = ~((target >= 0) & (target <= 1))
        expected = "probabilities, from 0 to 1"
    else:
        raise TypeError(f"labels must be integers, or probabilities of dtype {scores.dtype}, got {target.dtype}")
    if outside.any():
        index = tuple(int(i) for i in np.argwhere(outside)[0])
        where = index[0] if len(index) == 1 else index
        raise ValueError(f"labels must be {expected}: labels[{where}] is {target[index]}")
    return scores, target
