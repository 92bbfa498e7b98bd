"""Learning rate schedules.

A schedule is a function from time to the learning rate. Time is measured in epochs, fractions included, where `fit`
runs the optimizer, and in steps where you do. A schedule with a length takes, if none is given, that of `fit`.

>>> schedule = Cosine(0.1, length=10, warmup=2)
>>> [round(schedule(time), 3) for time in (0, 1, 2, 6, 10)]
[0.0, 0.05, 0.1, 0.05, 0.0]
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fastconv.data.check import whole
from fastconv.training.names import Described, at_least_zero, positive, share
from fastconv.training.watch import Watch


class Schedule(Described):
    """Base of all schedules; one of your own defines `__call__`.

    One that learns from what happens (see `ReduceOnPlateau`) also defines `observe`, and `state_dict` and
    `load_state_dict`, so that a resumed run goes on where it was.
    """

    #: Epochs that `fit` will run; None where no `fit` said so.
    epochs: float | None = None

    def __call__(self, time: float) -> float:
        """Return the learning rate at `time`, in epochs (in steps outside of `fit`)."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__(time)")

    def observe(self, logs: dict[str, float]) -> None:
        """Take note of the results of an epoch; `fit` calls it after each."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs, as JSON values."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""

    def _length(self, length: float | None) -> float:
        found = self.epochs if length is None else length
        if found is None:
            raise ValueError(f"{self!r} needs length=..., in steps: only fit knows how long training will be")
        return found


class StepDecay(Schedule):
    """Multiply the learning rate by `factor` every so often: ``rate * factor ** floor(time / every)``.

    `every` is a number, or an increasing sequence of the times themselves.

    >>> schedule = StepDecay(0.1, every=(30, 60))
    >>> [round(schedule(time), 4) for time in (0, 29.9, 30, 60)]
    [0.1, 0.1, 0.01, 0.001]
    """

    def __init__(self, rate: float, *, every: float | Sequence[float], factor: float = 0.1) -> None:
        self.rate = positive(rate, "rate")
        self.factor = positive(factor, "factor")
        if isinstance(every, (list, tuple)):
            self.every: Any = tuple(positive(time, "every") for time in every)
            if list(self.every) != sorted(self.every):
                raise ValueError(f"every must be a number or increasing times, got {every!r}")
        else:
            self.every = positive(every, "every")

    def __call__(self, time: float) -> float:
        if isinstance(self.every, tuple):
            passed = sum(time >= at for at in self.every)
        else:
            passed = int(time // self.every)
        return float(self.rate * self.factor**passed)


class Cosine(Schedule):
    """Rise linearly from 0 to `peak` during `warmup`, then fall to `final` along half a cosine until `length`.

    Source: Loshchilov and Hutter, SGDR: stochastic gradient descent with warm restarts, ICLR 2017, without the
    restarts; warm-up as in Goyal et al., Accurate, large minibatch SGD, 2017.
    """

    def __init__(self, peak: float, *, length: float | None = None, warmup: float = 0.0, final: float = 0.0) -> None:
        self.peak = positive(peak, "peak")
        self.length = None if length is None else positive(length, "length")
        self.warmup = at_least_zero(warmup, "warmup")
        self.final = at_least_zero(final, "final")

    def __call__(self, time: float) -> float:
        if time < self.warmup:
            return self.peak * time / self.warmup
        falling = self._length(self.length) - self.warmup
        return _cosine(self.peak, self.final, (time - self.warmup) / falling if falling > 0 else 1.0)


class OneCycle(Schedule):
    """Rise from ``peak / start_divisor`` to `peak` and fall to ``peak / final_divisor``, both along half a cosine.

    The rise takes the share `rise` of `length`. Source: Smith and Topin, Super-convergence, 2018.
    """

    def __init__(
        self,
        peak: float,
        *,
        length: float | None = None,
        rise: float = 0.3,
        start_divisor: float = 25.0,
        final_divisor: float = 1e5,
    ) -> None:
        self.peak = positive(peak, "peak")
        self.length = None if length is None else positive(length, "length")
        self.rise = share(rise, "rise")
        self.start_divisor = positive(start_divisor, "start_divisor")
        self.final_divisor = positive(final_divisor, "final_divisor")

    def __call__(self, time: float) -> float:
        length = self._length(self.length)
        rising = self.rise * length
        if time < rising:
            return _cosine(self.peak / self.start_divisor, self.peak, time / rising)
        return _cosine(self.peak, self.peak / self.final_divisor, (time - rising) / (length - rising))


class ReduceOnPlateau(Schedule):
    """Multiply the learning rate by `factor` when a result has not improved for `patience` epochs.

    Parameters
    ----------
    rate : float
        To begin with.
    monitor : str
        Which result, as in the history: "loss", "val_loss", "val_accuracy", ...
    mode : "min", "max" or None
        Whether less or more is better; None: more is where the name holds "accuracy".
    patience : int
        Epochs without improvement that are borne; the next one reduces.
    threshold : float
        An improvement is a change by more than this.
    minimum : float
        The rate falls no lower.
    """

    def __init__(
        self,
        rate: float,
        *,
        monitor: str = "val_loss",
        mode: str | None = None,
        factor: float = 0.1,
        patience: int = 5,
        threshold: float = 1e-4,
        minimum: float = 0.0,
    ) -> None:
        self.rate = self._now = positive(rate, "rate")
        self.monitor = monitor
        self.mode = mode
        self.factor = share(factor, "factor")
        self.patience = whole(patience, "patience")
        self.threshold = at_least_zero(threshold, "threshold")
        self.minimum = at_least_zero(minimum, "minimum")
        self._watch = Watch(monitor, mode, self.threshold)

    def __call__(self, time: float) -> float:
        return self._now

    def observe(self, logs: dict[str, float]) -> None:
        self._watch.see(logs)
        if self._watch.waited > self.patience:
            self._now = max(self._now * self.factor, self.minimum)
            self._watch.waited = 0

    def state_dict(self) -> dict[str, Any]:
        return {"rate": self._now, **self._watch.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._now = float(state["rate"])
        self._watch.load_state_dict(state)


def _cosine(start: float, end: float, way: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(max(way, 0.0), 1.0))) / 2
