"""The best value of a result so far, for early stopping, checkpoints and plateaus."""

from __future__ import annotations

import math
from typing import Any


class Watch:
    """The best value so far of one result, and how many epochs ago that was.

    >>> watch = Watch("val_accuracy", None)
    >>> [watch.see({"val_accuracy": value}) for value in (0.5, 0.7, 0.6)], watch.best, watch.waited
    ([True, True, False], 0.7, 1)
    """

    def __init__(self, monitor: str, mode: str | None, threshold: float = 0.0) -> None:
        if mode not in ("min", "max", None):
            raise ValueError(f'mode must be "min", "max" or None, got {mode!r}')
        self.monitor = monitor
        self.threshold = threshold
        self.sign = 1 if mode == "max" or (mode is None and "accuracy" in monitor) else -1
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.best: float | None = None
        self.waited = 0

    def see(self, logs: dict[str, float]) -> bool:
        """Take note of an epoch and return whether it is the best so far; NaN never is.

        Raises `ValueError` where the epoch has no such result, naming those that it has.
        """
        if self.monitor not in logs:
            raise ValueError(
                f"there is no result {self.monitor!r} to monitor; the epoch has {', '.join(map(repr, logs))}"
                + (" (val_... needs validation_data)" if self.monitor.startswith("val_") else "")
            )
        value = logs[self.monitor]
        better = not math.isnan(value) and (self.best is None or self.sign * (value - self.best) > self.threshold)
        if better:
            self.best = value
        self.waited = 0 if better else self.waited + 1
        return better

    def state_dict(self) -> dict[str, Any]:
        """Return the state as JSON values."""
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.best, self.waited = state["best"], state["waited"]
