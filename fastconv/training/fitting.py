"""`fit`: the training loop."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fastconv.arguments import file_path
from fastconv.data.augment import Augmentation
from fastconv.data.batches import named
from fastconv.data.check import whole
from fastconv.layers.tree import collect
from fastconv.model import Model
from fastconv.training.callback import Callback
from fastconv.training.checkpoint import ModelCheckpoint, resume_from, return_to, take_snapshot
from fastconv.training.history import History
from fastconv.training.losses import Loss, get_loss
from fastconv.training.names import callbacks as named_callbacks
from fastconv.training.names import resolve
from fastconv.training.optimizers import get_optimizer
from fastconv.training.passes import Mean, as_batches, check_targets, evaluate_batches, forward_backward
from fastconv.training.progress import Progress
from fastconv.training.run import Run

#: What the generators of random numbers are for, beside the seed and the epoch that they are made of; the order of the
#: samples has none.
_BUILD, _DROPOUT = 1, 2


def fit(
    model: Model,
    x: Any,
    y: Any = None,
    *,
    epochs: int,
    batch_size: int = 64,
    loss: Any = "cross_entropy",
    optimizer: Any = "adam",
    validation_data: Any = None,
    callbacks: Iterable[Callback | str] = (),
    shuffle: bool = True,
    seed: int = 0,
    augment: Augmentation | Sequence[Augmentation] = (),
    checkpoint: str | os.PathLike[str] | None = None,
    resume: str | os.PathLike[str] | None = None,
    verbose: bool = True,
) -> History:
    """Train a model on data and return the results of every epoch.

    The same seed gives the same weights, bit for bit, on one machine with any number of threads: the first weights of a
    model that is not built yet, the order of the samples, augmentation and dropout all draw from it.

    Parameters
    ----------
    model : Model
        Built or not; trained in place.
    x : array (N, ...), tuple of arrays, `ImageFolder`, or `Batches`
        Samples: uint8 images, which are scaled from 0 .. 255 to 0 .. 1 batch by batch, or floats, which are cast to the
        model's dtype. A tuple holds the inputs of a model with several. `Batches`, or anything else with
        ``epoch(number)`` and a length, brings samples, targets and order itself: leave out y, batch_size, shuffle and
        augment.
    y : array (N, ...), or tuple of arrays
        Targets, as the loss takes them; a tuple for several outputs.
    epochs : int
        Total number of passes over the data: a resumed run does the remaining ones.
    batch_size : int
        Samples per step of the optimizer.
    loss : Loss, name, or a tuple with one for each output (which are summed)
    optimizer : Optimizer or name
    validation_data : (x, y) or Batches, optional
        Evaluated after each epoch; the results are ``val_loss`` and so on.
    callbacks : iterable of Callback or name
    shuffle : bool
        Whether every epoch has another order.
    seed : int, at least 0
    augment : augmentation or sequence of them
        Random changes of the images, such as ``[Flip(), Shift(2)]``; see `fastconv.data.augment`. They are made in
        another thread.
    checkpoint : path, optional
        Write a checkpoint after every epoch, as ``ModelCheckpoint(path)`` does.
    resume : path, optional
        Continue from the last complete epoch in this checkpoint. With the arguments of the run that wrote it, the weights
        become those of a run that never stopped, bit for bit; other arguments are an error, except for epochs, stateless
        callbacks, and settings of the optimizer other than its learning rate, which continues as in the checkpoint.
    verbose : bool
        Show a progress bar, or one line per epoch if the output is not a terminal.

    Returns
    -------
    History

    Raises
    ------
    DataError
        For data that cannot be trained on: NaN, labels out of range, wrong shapes; the message names the index.
    ValueError, TypeError
        For wrong arguments, and for a checkpoint of a run with other arguments.
    ModelFileError
        For a file to resume from that is not a checkpoint.

    Notes
    -----
    Ctrl-C ends the training without an exception: the history says ``interrupted``, and model, optimizer, callbacks and
    history are restored to the end of the last complete epoch, which is also the state in the checkpoint.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import Sequential
    >>> from fastconv.layers import Linear
    >>> x = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
    >>> y = (x[:, 0] > x[:, 1]).astype(np.int64)
    >>> history = fit(Sequential([Linear(2)]), x, y, epochs=5, optimizer="rmsprop", verbose=False)
    >>> history["loss"][-1] < history["loss"][0]
    True
    """
    epochs = whole(epochs, "epochs", minimum=1)
    seed = whole(seed, "seed")
    if not isinstance(model, Model):
        raise TypeError(f"model must be a fastconv model, got {type(model).__name__}: put a layer into a Sequential")
    loss, optimizer = get_loss(loss), get_optimizer(optimizer)
    batches = as_batches(model, x, y, batch_size=batch_size, shuffle=shuffle, seed=seed, augment=augment)
    build(model, batches, seed)
    if model.params and not collect(model, "params", trainable=True):
        raise ValueError(
            f"{model.label} has parameters, and none of its layers is trainable: set layer.trainable = True"
        )
    check_targets(model, loss, batches)
    validation = None if validation_data is None else _validation(model, loss, validation_data, batch_size)

    history = History()
    run = Run(model, optimizer, loss, epochs=epochs, steps_per_epoch=len(batches), history=history)
    optimizer.plan(steps_per_epoch=len(batches), epochs=epochs)
    everyone = [history, *_checked(callbacks)]
    if checkpoint is not None:
        everyone.append(ModelCheckpoint(file_path(checkpoint, "checkpoint")))
    if verbose:
        everyone.append(Progress())
    # the seed last: batches that came ready may have another one
    settings = {**getattr(batches, "settings", {}), "loss": repr(loss), "seed": seed}
    try:
        for callback in everyone:
            callback.on_train_begin(run)
        if resume is not None:
            resume_from(file_path(resume, "resume"), run, everyone, settings)
        else:
            run.snapshot = take_snapshot(run, everyone, settings)
        _run_epochs(run, batches, validation, everyone, settings, seed)
    except KeyboardInterrupt:
        history.interrupted = True
        if run.snapshot:
            return_to(run.snapshot, run, everyone)
        if not run.published:  # the interruption came while the results of a whole epoch were being written
            _publish(run, everyone)
    finally:
        history.stopped = run.stopped
        for callback in everyone:
            callback.on_train_end(run)
    return history


def _run_epochs(
    run: Run, batches: Any, validation: Any, callbacks: Sequence[Callback], settings: dict[str, Any], seed: int
) -> None:
    while run.epoch < run.epochs and run.stopped is None:
        run.epoch += 1
        run.step, run.logs = 0, {}
        start = time.perf_counter()
        for callback in callbacks:
            callback.on_epoch_begin(run)
        _run_batches(run, batches, callbacks, np.random.default_rng([seed, run.epoch, _DROPOUT]))
        if run.abandoned:
            return_to(run.snapshot, run, callbacks)
            return
        if validation is not None:
            results = evaluate_batches(run.model, run.loss, validation)
            run.logs.update({f"val_{key}": value for key, value in results.items()})
        run.logs["learning_rate"] = run.optimizer.last_rate
        run.logs["seconds"] = time.perf_counter() - start
        run.optimizer.observe(run.logs)
        for callback in callbacks:
            callback.on_epoch_end(run)
        run.snapshot = take_snapshot(run, callbacks, settings)
        _publish(run, callbacks)


def _publish(run: Run, callbacks: Sequence[Callback]) -> None:
    run.published = False
    for callback in callbacks:
        callback.on_snapshot(run)
    run.published = True


def _run_batches(run: Run, batches: Any, callbacks: Sequence[Callback], rng: np.random.Generator) -> None:
    # most callbacks do nothing here, and this is the loop that has to be fast
    watching = [callback for callback in callbacks if type(callback).on_batch_end is not Callback.on_batch_end]
    params = run.model.params
    mean = Mean()
    with batches.epoch(run.epoch - 1) as iterator:
        for x, y in iterator:
            xs = x if isinstance(x, tuple) else (x,)
            value, grads, prediction = forward_backward(run.model, run.loss, xs, y, rng=rng)
            run.optimizer.step(params, grads)
            run.step += 1
            mean.add({"loss": value, **run.loss.metrics(prediction, y)}, len(xs[0]))
            run.logs = mean.values()
            for callback in watching:
                callback.on_batch_end(run)
            if run.abandoned:
                return


def build(model: Model, batches: Any, seed: int) -> None:
    """Build a model that is not built yet, with first weights drawn by `seed`, for the shapes it knows or those of x."""
    if model.built:
        return
    shapes: list[tuple[int, ...]] = []
    if not model.input_shapes:
        with batches.epoch(0) as iterator:
            x, _ = next(iter(iterator))
        shapes = [array.shape[1:] for _, array in named("x", x)]
    model.build(*shapes, rng=np.random.default_rng([seed, 0, _BUILD]))


def _validation(model: Model, loss: Loss, validation_data: Any, batch_size: int) -> Any:
    """Return the batches of `validation_data`, checked; errors say where they come from."""
    pair = _pair(validation_data)
    try:
        batches = as_batches(model, *pair, batch_size=batch_size, shuffle=False)
        check_targets(model, loss, batches)
    except (TypeError, ValueError) as error:
        error.args = (f"in validation_data: {error}",)
        raise
    return batches


def _pair(validation_data: Any) -> tuple[Any, Any]:
    if hasattr(validation_data, "epoch"):
        return validation_data, None
    if not isinstance(validation_data, (tuple, list)) or len(validation_data) != 2:
        raise TypeError(f"validation_data must be a pair (x, y) or Batches, got {type(validation_data).__name__}")
    return validation_data[0], validation_data[1]


def _checked(callbacks: Iterable[Callback | str]) -> list[Callback]:
    if isinstance(callbacks, (Callback, str)):
        raise TypeError(f"callbacks must be a list of callbacks, got one: [{callbacks!r}]")
    try:
        each = list(callbacks)
    except TypeError:
        raise TypeError(f"callbacks must be a list of callbacks, got {callbacks!r}") from None
    return [resolve(named_callbacks, callback, Callback) for callback in each]
