"""The table of checks: each is a function of one `Case` that raises `CheckFailed`, under a name, in a group."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastconv.testing.cases import Case

GROUPS = ("API", "Arrays", "Mathematics", "State", "Concurrency", "Packaging")


class Check(NamedTuple):
    """One check: its name, its group, what it does, whether one typical example is enough, whether it wants doubtful ones too.

    `function` raises `CheckFailed` where the layer is wrong and `CheckSkipped` where there is nothing to check.
    """

    name: str
    group: str
    function: Callable[[Case], None]
    once: bool
    doubtful: bool

    @property
    def dtypes(self) -> tuple[Any, ...]:
        """The dtypes of its examples: mathematics needs the digits of float64; what looks at files chooses itself."""
        both = self.group == "Concurrency" or not (self.once or self.group == "Mathematics")
        return (np.float64, np.float32) if both else (np.float64,)

    @property
    def about(self) -> str:
        """What the check proves and what to do where it fails, in one paragraph."""
        return " ".join((self.function.__doc__ or "").split())


#: Every check by its name, in the order in which they run.
CHECKS: dict[str, Check] = {}


def check(
    group: str, *, once: bool = False, doubtful: bool = False
) -> Callable[[Callable[[Case], None]], Callable[[Case], None]]:
    """Return a decorator that puts a function into the table under its own name."""
    if group not in GROUPS:
        raise ValueError(f"group must be one of {GROUPS}, got {group!r}")

    def decorate(function: Callable[[Case], None]) -> Callable[[Case], None]:
        CHECKS[function.__name__] = Check(function.__name__, group, function, once, doubtful)
        return function

    return decorate
