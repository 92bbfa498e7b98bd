"""The result of a check: passed, failed or skipped, and what an author should do."""

from __future__ import annotations

import unittest
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["passed", "failed", "skipped", "expected failure", "unexpected pass"]

#: Where each check is explained; the name of the check is the anchor.
DOCS = "docs/testing.md"


@dataclass(frozen=True)
class CheckResult:
    """What one check found out about one layer.

    Attributes
    ----------
    name : str
        The check, as in `fastconv.testing.CHECKS` and in ``expected_failures``.
    group : str
        ``"API"``, ``"Arrays"``, ``"Mathematics"``, ``"State"``, ``"Concurrency"`` or ``"Packaging"``.
    status : str
        ``"passed"``, ``"failed"``, ``"skipped"`` (`message` says why it does not apply), ``"expected failure"`` (it failed, and
        ``expected_failures`` names it) or ``"unexpected pass"`` (it is named there and passes: take it out).
    message : str
        What is wrong, with the smallest failing input, and where to read on; empty for a check that passed.
    seconds : float
        How long it took.
    error : Exception or None
        What the layer raised, for a traceback.
    example : object or None
        The smallest failing example: ``example.layer()`` and ``example.inputs()`` make it again, in float64.

    Examples
    --------
    >>> CheckResult("adjoint", "Mathematics", "passed").ok
    True
    >>> print(CheckResult("fork", "Concurrency", "skipped", "this system has no fork"))
    skipped  fork: this system has no fork
    """

    name: str
    group: str
    status: Status
    message: str = ""
    seconds: float = 0.0
    error: BaseException | None = field(default=None, repr=False, compare=False)
    example: Any = field(default=None, repr=False, compare=False)

    @property
    def ok(self) -> bool:
        """Whether there is nothing to do: neither failed nor passed against what was expected."""
        return self.status not in ("failed", "unexpected pass")

    def __str__(self) -> str:
        return f"{self.status:<8} {self.name}" + (f": {self.message}" if self.message else "")


class LayerCheckError(AssertionError):
    """At least one check of a layer failed; `results` has what all of them said.

    Raised by `fastconv.testing.check_layer`. The message lists the failures, each with the smallest failing input.
    """

    def __init__(self, label: str, results: Sequence[CheckResult]) -> None:
        bad = [result for result in results if not result.ok]
        met: dict[str, str] = {}  # one mistake may make many checks fail in the same words: they are printed once
        parts = [f"{label} fails {len(bad)} of {len(results)} checks"]
        for result in bad:
            first = met.setdefault(result.message.partition("\n")[0], result.name)
            said = result.message if first == result.name else f"the same as {first}"
            parts.append(f"{result.name} ({result.group}): {said}")
        super().__init__("\n\n".join(parts))
        self.results = list(results)


class CheckFailed(AssertionError):
    """One check of a layer failed; the message says what is wrong and what to do, `example` is what it failed on."""

    example: Any = None


class CheckSkipped(unittest.SkipTest):
    """One check does not apply; the message says why. (Hypothesis and pytest know a `unittest.SkipTest`.)"""
