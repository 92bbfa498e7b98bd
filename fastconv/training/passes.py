"""Passes through a model: what `fit` is made of, also for training loops of your own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from fastconv.arrays import as_array
from fastconv.data.batches import Batches, as_floats, counted, named
from fastconv.data.check import DataError
from fastconv.layers.context import Context
from fastconv.model import Model
from fastconv.training.losses import Loss, get_loss


def value_and_grad(
    model: Model, loss: Any, x: Any, y: Any, *, rng: np.random.Generator | None = None, training: bool = True
) -> tuple[float, dict[str, np.ndarray]]:
    """Return the loss of one batch and the gradient of every parameter.

    Parameters
    ----------
    model : Model
    loss : Loss, name, or a tuple with one for each output
    x, y : array, or a tuple of arrays for several inputs or outputs
        uint8 images are scaled from 0 .. 255 to 0 .. 1, floats are cast to the model's dtype.
    rng : numpy.random.Generator, optional
        What dropout draws from; the model's own generator if left out.
    training : bool
        Whether layers behave as in training.

    Returns
    -------
    (float, dict)
        The mean loss, and the gradients by the names of ``model.params``.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import Sequential, SGD
    >>> from fastconv.layers import Linear
    >>> model, optimizer = Sequential([Linear(2)], input_shape=(3,)), SGD(0.1)
    >>> x, y = np.ones((4, 3), np.float32), np.array([0, 1, 1, 1])
    >>> before, grads = value_and_grad(model, "cross_entropy", x, y)
    >>> optimizer.step(model.params, grads)
    >>> value_and_grad(model, "cross_entropy", x, y)[0] < before
    True
    """
    loss, xs = get_loss(loss), _inputs(model, x)
    check_outputs(model, loss)
    value, grads, _ = forward_backward(model, loss, xs, _targets(model, y), rng=rng, training=training)
    return value, grads


def forward_backward(
    model: Model,
    loss: Loss,
    xs: tuple[np.ndarray, ...],
    y: Any,
    *,
    rng: np.random.Generator | None,
    training: bool = True,
) -> tuple[float, dict[str, np.ndarray], Any]:
    """Return the loss, the gradient of every parameter, and the prediction; `xs` are floats of the model's dtype."""
    prediction, model_backward = model.forward(Context(training, rng, input_grad=False), *xs)
    value, loss_backward = loss(prediction, y)
    _, grads = model_backward(loss_backward())
    return float(value), grads, prediction


def evaluate(
    model: Model, x: Any, y: Any = None, *, loss: Any = "cross_entropy", batch_size: int = 64
) -> dict[str, float]:
    """Return the mean loss and metrics of a model on data, such as ``{"loss": 0.31, "accuracy": 0.89}``.

    Parameters
    ----------
    model : Model
    x, y : arrays, tuples of arrays, or `Batches` for x alone
        As for `fit`.
    loss : Loss, name, or a tuple with one for each output
    batch_size : int

    Raises
    ------
    DataError
        For data that cannot be evaluated; the message names the index.
    """
    loss = get_loss(loss)
    batches = as_batches(model, x, y, batch_size=batch_size, shuffle=False)
    check_targets(model, loss, batches)
    return evaluate_batches(model, loss, batches)


def evaluate_batches(model: Model, loss: Loss, batches: Any) -> dict[str, float]:
    """Return the means of the loss and its metrics over the batches of epoch 0."""
    mean = Mean()
    with batches.epoch(0) as iterator:
        for x, y in iterator:
            xs = x if isinstance(x, tuple) else (x,)
            prediction, _ = model.forward(Context(inference=True, input_grad=False), *xs)
            value, _ = loss(prediction, y)
            mean.add({"loss": float(value), **loss.metrics(prediction, y)}, len(xs[0]))
    return mean.values()


def predict(model: Model, x: Any, *, batch_size: int = 64) -> Any:
    """Return the model's outputs for all samples, computed batch by batch: an array, or a tuple for several outputs.

    `x` is what `fit` takes: uint8 images are scaled, a tuple holds several inputs. No samples give no rows.
    """

    def evaluated(*xs: np.ndarray) -> Any:
        return model.forward(Context(inference=True, input_grad=False), *xs)[0]

    return predict_batches(evaluated, model.dtype, x, batch_size=batch_size)


def predict_batches(function: Callable[..., Any], dtype: Any, x: Any, *, batch_size: int = 64) -> Any:
    """Return what `function` of arrays of `dtype` returns for all samples, computed batch by batch; `x` as for `predict`."""
    batches = Batches(x, None, batch_size=batch_size, shuffle=False, dtype=dtype)
    outputs: list[np.ndarray] = []
    start = 0
    with batches.epoch(0) as iterator:
        for xs in _never_none(iterator, batches):
            y = function(*xs)
            parts = y if isinstance(y, tuple) else (y,)
            if not outputs:
                outputs = [np.empty((batches.samples, *part.shape[1:]), part.dtype) for part in parts]
            for output, part in zip(outputs, parts, strict=True):
                output[start : start + len(part)] = part
            start += len(parts[0])
            several = isinstance(y, tuple)
    return tuple(outputs) if several else outputs[0]


def _never_none(iterator: Iterable[Any], batches: Batches) -> Iterable[tuple[np.ndarray, ...]]:
    """Yield the inputs of every batch; without any samples those of one batch of none, for the shape of the output."""
    if batches.samples == 0:
        yield tuple(as_floats(np.asarray(array), batches.dtype) for _, array in named("x", batches.x))
    for x, _ in iterator:
        yield x if isinstance(x, tuple) else (x,)


class Mean:
    """Means over samples, of values that come as means over batches.

    >>> mean = Mean()
    >>> mean.add({"loss": 1.0}, 3)
    >>> mean.add({"loss": 5.0}, 1)
    >>> mean.values()
    {'loss': 2.0}
    """

    def __init__(self) -> None:
        self._totals: dict[str, float] = {}
        self._samples = 0

    def add(self, values: dict[str, float], samples: int) -> None:
        """Add the means over a batch of so many samples."""
        self._samples += samples
        for key, value in values.items():
            self._totals[key] = self._totals.get(key, 0.0) + value * samples

    def values(self) -> dict[str, float]:
        """Return the means so far."""
        return {key: total / self._samples for key, total in self._totals.items()}


def as_batches(model: Model, x: Any, y: Any, **options: Any) -> Any:
    """Return `x` and `y` as `Batches` in the model's dtype; an object that has epochs already stays what it is."""
    if hasattr(x, "epoch"):
        if y is not None:
            raise ValueError("x has batches, so y must be left out: they bring their own targets")
        return x
    batches = Batches(x, y, dtype=model.dtype, **options)
    if batches.samples == 0:
        raise DataError("x has no samples")
    if batches.y is None:
        raise DataError("y is missing: training and evaluation need targets for x")
    return batches


def check_outputs(model: Model, loss: Loss) -> None:
    """Raise `ValueError` where a model has several outputs and the loss is for one."""
    if model.built and len(model.outputs) > 1 and not loss.several_outputs:
        raise ValueError(
            f"the model has {len(model.outputs)} outputs, so loss must be a tuple with one for each, got {loss!r}"
        )


def check_targets(model: Model, loss: Loss, batches: Any) -> None:
    """Raise `DataError` that names the first target that the model's predictions cannot have, before any training.

    Raises `ValueError` for samples that the model does not take.
    """
    check_outputs(model, loss)
    if isinstance(batches, Batches) and model.built:
        # augmentations may change the size of the images
        augmented = bool(batches.augment.augmentations)
        shapes = model.input_shapes if augmented else [array.shape[1:] for _, array in named("x", batches.x)]
        loss.check(batches.y, model.output_shape(*shapes))


def _inputs(model: Model, x: Any) -> tuple[np.ndarray, ...]:
    return tuple(as_floats(as_array(array, label), model.dtype) for label, array in named("x", x))


def _targets(model: Model, y: Any) -> Any:
    if isinstance(y, tuple):
        return tuple(_targets(model, item) for item in y)
    array = counted(as_array(y, "y"))
    return array.astype(model.dtype, copy=False) if array.dtype.kind == "f" else array
