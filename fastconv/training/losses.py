"""Losses, and their gradients.

A loss is called with a prediction and its target and returns ``(value, backward)``, in the spirit of a layer:
``backward()`` returns the gradient of the value with respect to the prediction, ``backward(dvalue)`` that times
`dvalue`. The value is the mean over the batch, so that the mean over the batches of an epoch, weighted by their sizes,
is the mean over the samples.

>>> value, backward = MSE()(np.array([[1.0, 2.0]]), np.array([[1.0, 0.0]]))
>>> float(value), backward()
(2.0, array([[0., 2.]]))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastconv import functional as F
from fastconv.data.check import DataError, check_labels, check_probabilities
from fastconv.functional._huber import huber, huber_backward
from fastconv.training.names import Described, losses, positive, resolve

Way = Callable[..., Any]


class Loss(Described):
    """Base of all losses; a loss of one's own defines `__call__`, and the two others where it can.

    With ``@fastconv.training.register_loss("acme.MyLoss")`` it can be asked for by name.
    """

    #: Whether predictions and targets are tuples, of a model with several outputs.
    several_outputs = False

    def __call__(self, prediction: Any, target: Any) -> tuple[Any, Way]:
        """Return the mean loss over the batch, a scalar, and ``backward(dvalue=1.0)``, which returns dprediction."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__(prediction, target)")

    def metrics(self, prediction: Any, target: Any) -> dict[str, float]:
        """Return what else to report of a batch, each a mean over its samples, such as ``{"accuracy": 0.9}``."""
        return {}

    def check(self, target: Any, output_shape: Any, name: str = "y") -> None:
        """Raise `DataError` that names the first target of a data set that predictions (N, *output_shape) cannot have."""


losses.base = Loss


@losses.register("cross_entropy")
class CrossEntropy(Loss):
    """Cross entropy on logits; see `fastconv.functional.cross_entropy`.

    Predictions are logits ``(N, ..., classes)``, targets integer labels ``(N, ...)`` or probabilities like the logits.
    The metric is accuracy: the share of predictions whose largest logit is that of the (most probable) label.

    Parameters
    ----------
    label_smoothing : float from 0 to 1
        How much of every target is spread evenly over the classes (Szegedy et al., CVPR 2016, section 7).
    """

    def __init__(self, *, label_smoothing: float = 0.0) -> None:
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"label_smoothing must be from 0 to 1, got {label_smoothing!r}")
        self.label_smoothing = label_smoothing

    def __call__(self, prediction: np.ndarray, target: np.ndarray) -> tuple[Any, Way]:
        smoothing = self.label_smoothing
        value = F.cross_entropy(prediction, target, label_smoothing=smoothing)

        def backward(dvalue: float = 1.0) -> np.ndarray:
            return _scaled(F.cross_entropy_backward(prediction, target, label_smoothing=smoothing), dvalue)

        return value, backward

    def metrics(self, prediction: np.ndarray, target: np.ndarray) -> dict[str, float]:
        labels = target if target.dtype.kind in "iu" else target.argmax(axis=-1)
        return {"accuracy": float((prediction.argmax(axis=-1) == labels).mean())}

    def check(self, target: Any, output_shape: Any, name: str = "y") -> None:
        array, classes = np.asarray(target), output_shape[-1]
        if array.dtype.kind in "iu":
            if array.ndim != len(output_shape):
                hint = f": of one-hot rows, take {name}.argmax(-1)" if array.shape[1:] == tuple(output_shape) else ""
                raise DataError(
                    f"{name} must be integer labels of shape {_with_batch(output_shape[:-1])}, got shape {array.shape}{hint}"
                )
            check_labels(array, classes, name)
            return
        _check_shape(array, output_shape, name, "integer labels, or probabilities")
        check_probabilities(array, name)


@losses.register("binary_cross_entropy")
class BinaryCrossEntropy(Loss):
    """Cross entropy of independent yes-or-no questions, on logits: the mean over all entries.

    ``loss = max(x, 0) - x * t + log(1 + exp(-|x|))``, which is ``-t log p - (1 - t) log (1 - p)`` for ``p =
    sigmoid(x)`` and overflows nowhere. Targets t are probabilities from 0 to 1 (or booleans, or integers 0 and 1) in the
    shape of the logits x. The metric is accuracy: the share of entries where ``p > 0.5`` says what ``t > 0.5`` says.
    """

    def __init__(self) -> None:
        pass

    def __call__(self, prediction: np.ndarray, target: np.ndarray) -> tuple[Any, Way]:
        x, t = _pair(prediction, target)
        terms = F.softplus(-np.abs(x))  # not lost beside a large logit whose target is right
        terms += np.maximum(x, 0) - x * t
        value = terms.mean()

        def backward(dvalue: float = 1.0) -> np.ndarray:
            gradient = F.sigmoid(x)
            gradient -= t
            gradient *= x.dtype.type(dvalue / max(1, x.size))
            return gradient

        return value, backward

    def metrics(self, prediction: np.ndarray, target: np.ndarray) -> dict[str, float]:
        return {"accuracy": float(((prediction > 0) == (target > 0.5)).mean())}

    def check(self, target: Any, output_shape: Any, name: str = "y") -> None:
        array = np.asarray(target)
        _check_shape(array, output_shape, name, "probabilities")
        outside = ~((array >= 0) & (array <= 1))
        if outside.any():
            first = tuple(int(i) for i in np.argwhere(outside)[0])
            raise DataError(f"{name}[{', '.join(map(str, first))}] is {array[first]}; targets are from 0 to 1")


@losses.register("mse")
class MSE(Loss):
    """Mean squared error over all entries, ``mean((prediction - target)**2)``; targets have the predictions' shape."""

    def __init__(self) -> None:
        pass

    def __call__(self, prediction: np.ndarray, target: np.ndarray) -> tuple[Any, Way]:
        x, t = _pair(prediction, target)
        return 2 * huber(x, t), lambda dvalue=1.0: huber_backward(x, t, 2 * dvalue)

    def check(self, target: Any, output_shape: Any, name: str = "y") -> None:
        _check_shape(np.asarray(target), output_shape, name, "numbers")


@losses.register("huber")
class Huber(Loss):
    """Squared error for small errors, absolute for large ones, the mean over all entries.

    With ``e = |prediction - target|``: ``e**2 / 2`` where ``e <= delta``, else ``delta * (e - delta / 2)``. Source:
    Huber, Robust estimation of a location parameter, Annals of Mathematical Statistics 35, 1964.
    """

    def __init__(self, *, delta: float = 1.0) -> None:
        self.delta = positive(delta, "delta")

    def __call__(self, prediction: np.ndarray, target: np.ndarray) -> tuple[Any, Way]:
        (x, t), delta = _pair(prediction, target), self.delta
        return huber(x, t, bound=delta), lambda dvalue=1.0: huber_backward(x, t, dvalue, bound=delta)

    def check(self, target: Any, output_shape: Any, name: str = "y") -> None:
        _check_shape(np.asarray(target), output_shape, name, "numbers")


class LossPerOutput(Loss):
    """The sum of one loss for each output of a model; `fit` makes it of a tuple of losses.

    Predictions, targets and gradients are tuples. Metrics carry the number of their output, ``accuracy[0]``.
    """

    several_outputs = True

    def __init__(self, losses: Sequence[Any]) -> None:
        self.losses = tuple(get_loss(loss) for loss in losses)

    def __call__(self, prediction: Any, target: Any) -> tuple[Any, Way]:
        self._require(prediction, "outputs")
        self._require(target, "targets")
        pairs = [loss(p, t) for loss, p, t in zip(self.losses, prediction, target, strict=True)]
        return sum(value for value, _ in pairs), lambda dvalue=1.0: tuple(backward(dvalue) for _, backward in pairs)

    def metrics(self, prediction: Any, target: Any) -> dict[str, float]:
        return {
            f"{key}[{i}]": value
            for i, (loss, p, t) in enumerate(zip(self.losses, prediction, target, strict=True))
            for key, value in loss.metrics(p, t).items()
        }

    def check(self, target: Any, output_shape: Any, name: str = "y") -> None:
        self._require(target, "targets")
        self._require(output_shape, "outputs")
        for i, (loss, t, shape) in enumerate(zip(self.losses, target, output_shape, strict=True)):
            loss.check(t, shape, f"{name}[{i}]")

    def _require(self, items: Any, what: str) -> None:
        if not isinstance(items, tuple) or len(items) != len(self.losses):
            got = f"a tuple of {len(items)}" if isinstance(items, tuple) else f"one, {type(items).__name__}"
            raise ValueError(f"{len(self.losses)} losses need a tuple of {len(self.losses)} {what}, got {got}")


def get_loss(loss: Any) -> Loss:
    """Return the loss that an object, a name, or a tuple of them (one for each output of a model) stands for.

    >>> get_loss("cross_entropy")
    CrossEntropy(label_smoothing=0.0)
    """
    if isinstance(loss, (tuple, list)):
        return LossPerOutput(loss)
    found: Loss = resolve(losses, loss, Loss)
    return found


def _pair(prediction: np.ndarray, target: Any) -> tuple[np.ndarray, np.ndarray]:
    target = np.asarray(target)
    if target.shape != prediction.shape:
        # NumPy would broadcast (N,) against (N, 1) to (N, N) and train on nonsense
        raise ValueError(f"target must have the shape of the prediction, {prediction.shape}, got {target.shape}")
    return prediction, target.astype(prediction.dtype, copy=False)


def _scaled(gradient: np.ndarray, dvalue: float) -> np.ndarray:
    if dvalue != 1.0:
        gradient *= gradient.dtype.type(dvalue)
    return gradient


def _with_batch(shape: Sequence[int]) -> str:
    return "(N" + "".join(f", {n}" for n in shape) + ("," if not shape else "") + ")"


def _check_shape(array: np.ndarray, output_shape: Sequence[int], name: str, what: str) -> None:
    if array.shape[1:] != tuple(output_shape):
        raise DataError(
            f"{name} must be {what} in the shape of the model's output, {_with_batch(output_shape)}, "
            f"got {array.dtype} of shape {array.shape}"
        )
