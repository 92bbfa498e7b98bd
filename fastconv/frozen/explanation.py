"""What a frozen model does step by step: which layers each step computes, and how long it takes."""

from __future__ import annotations

import itertools
import os
import statistics
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastconv import _kernels
from fastconv.arguments import positive
from fastconv.frozen.bands import Banded
from fastconv.frozen.plan import Plan, StepPlan
from fastconv.frozen.unweighted import Concat
from fastconv.layers.checks import with_batch
from fastconv.threads import get_num_threads

if TYPE_CHECKING:
    from fastconv.frozen.model import FrozenModel

#: Independent vectors of the kernel that measures the peak, and how often it multiplies and adds.
CHAINS, ROUNDS = 12, 100_000

_TITLES = ("layers", "operation", "algorithm", "output", "multiply-adds", "time", "share", "of peak")
_ALIGN = "<<<<>>>>"


class StepTime(NamedTuple):
    """A step: the layers whose work it does, its operation, the calls of kernels it makes, and its median time in seconds.

    `share` is its part of the time of a call, `of_peak` the rate of its multiply-adds (those of the definition: Winograd's
    algorithm needs fewer) as a share of what the machine can do; None for what multiplies no matrices.
    """

    layers: tuple[str, ...]
    operation: str
    algorithm: str
    output: str
    multiply_adds: int
    seconds: float
    share: float
    of_peak: float | None

    def cells(self) -> tuple[str, ...]:
        """Return what a table shows."""
        return (
            " + ".join(self.layers),
            self.operation,
            self.algorithm,
            self.output,
            f"{self.multiply_adds:,}" if self.multiply_adds else "",
            f"{self.seconds * 1e6:,.1f} us",
            f"{self.share:.1%}",
            "" if self.of_peak is None else f"{self.of_peak:.0%}",
        )


class Explanation(NamedTuple):
    """What `FrozenModel.explain` returns; printed, a table."""

    steps: tuple[StepTime, ...]
    seconds: float  # of a whole call: of all steps and outside of kernels, each the median
    overhead: float  # of it outside of kernels, in seconds
    arena_bytes: int
    separate_bytes: int  # what the values between the steps would take without sharing memory
    constant_bytes: int
    peak: float  # multiply-adds a second of the machine, with so many threads, at best
    threads: int

    def __str__(self) -> str:
        table = [_TITLES, *(step.cells() for step in self.steps)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(f"{cell:{side}{width}}" for cell, width, side in zip(row, widths, _ALIGN, strict=True)).rstrip()
            for row in table
        ]
        total = sum(step.multiply_adds for step in self.steps)
        rate = f", {total / self.seconds / self.peak:.0%} of the peak" if total and self.seconds else ""
        return "\n".join(
            [
                *lines,
                f"total: {self.seconds * 1e6:,.1f} us a call on {self.threads} thread{'s' if self.threads > 1 else ''}, "
                f"{self.overhead * 1e6:,.1f} us of it outside of kernels; {total:,} multiply-adds{rate}",
                f"memory: {self.constant_bytes:,} bytes of constants; {self.arena_bytes:,} bytes for all values between "
                f"steps, {self.separate_bytes:,} if each had its own",
            ]
        )

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw the time of each step as bars to a PNG file; needs ``pip install 'fastconv[plot]'``."""
        from fastconv.frozen.chart import draw

        draw(self, path)


def explain(model: FrozenModel, inputs: Sequence[Any], batch: int, repeats: int) -> Explanation:
    """Return the explanation of a frozen model for arrays or shapes of its inputs; see `FrozenModel.explain`."""
    batch, repeats = positive(batch, "batch"), positive(repeats, "repeats")
    rng = np.random.default_rng(0)
    given = [
        each if isinstance(each, np.ndarray) else rng.standard_normal((batch, *each)).astype(model.dtype)
        for each in inputs
    ]
    xs = model.checked(given)
    plan = model._plan([x.shape for x in xs])
    times, whole, peak = _measured(plan, xs, repeats)
    views = {at for at, step in enumerate(plan.steps) if step.step.operation.is_view(*step.read_shapes)}
    shown = [at for at in range(len(plan.steps)) if at not in views and at not in plan.within]
    steps = [plan.steps[at] for at in shown]
    medians = [statistics.median(times[at]) for at in shown]
    total = sum(medians)
    spent = [sum(each) for each in zip(*times, strict=True)] or [0.0] * repeats
    outside = statistics.median(all_of - kernels for all_of, kernels in zip(whole, spent, strict=True))
    explained = tuple(
        _explained(_done_with(plan, at), seconds, total, peak, plan.banded.get(at))
        for at, seconds in zip(shown, medians, strict=True)
    )
    between = {value for step in steps for value in step.step.writes} - set(plan.own) - plan.foreign()
    return Explanation(
        explained,
        total + outside,
        outside,
        plan.arena_bytes,
        sum(int(np.prod(plan.shapes[value])) for value in between) * plan.dtype.itemsize,
        model.constant_bytes,
        peak,
        get_num_threads(),
    )


def _measured(plan: Plan, xs: Sequence[np.ndarray], repeats: int) -> tuple[list[list[float]], list[float], float]:
    """Return the seconds that each step took in each of some calls, those of the calls, and the peak at that time."""
    times: list[list[float]] = [[] for _ in plan.steps]
    whole, peak = [], 0.0
    for _ in range(repeats):
        peak = max(peak, multiply_adds_a_second(plan.dtype))
        spent = [0.0] * len(plan.steps)
        begun = time.perf_counter()
        workspace = plan.workspace()
        try:
            workspace.prepare(xs)
            for at, (kernel, args) in zip(workspace.steps, workspace.calls, strict=True):
                before = time.perf_counter()
                kernel(*args)
                spent[at] += time.perf_counter() - before
            workspace.results(xs)
        finally:
            plan.give_back(workspace)
        whole.append(time.perf_counter() - begun)
        for at, seconds in enumerate(spent):
            times[at].append(seconds)
    return times, whole, peak


def _done_with(plan: Plan, at: int) -> list[StepPlan]:
    """Return the steps that are done with step `at`, which is the last of them."""
    return plan.steps[plan.blocks[at].first if at in plan.blocks else at : at + 1]


def _explained(planned: list[StepPlan], seconds: float, total: float, peak: float, banded: Banded | None) -> StepTime:
    work = sum(each.step.operation.multiply_adds(*each.read_shapes) for each in planned)
    last = planned[-1]
    return StepTime(
        tuple(layer for each in planned for layer in each.step.layers),
        last.step.operation.kind,
        _algorithm(last, banded),
        " ".join(with_batch(shape[1:]) for shape in last.write_shapes),
        work,
        seconds,
        seconds / total if total else 0.0,
        work / seconds / peak if work and seconds else None,
    )


def _algorithm(planned: StepPlan, banded: Banded | None) -> str:
    """Return how a step is done; `banded`, of a convolution that goes over bands with the pooling after it."""
    calls = (*planned.calls, *itertools.chain(*planned.bands[-1:]))
    runs = [(name, len(list(run))) for name, run in itertools.groupby(call.algorithm for call in calls)]
    names = [name if count == 1 else f"{name} x {count}" for name, count in runs]
    if banded is not None:
        names.append(f"pooled {banded.said}")
    return ", ".join(names) or ("in place" if isinstance(planned.step.operation, Concat) else "")


def multiply_adds_a_second(dtype: np.dtype[Any]) -> float:
    """Return how many multiply-adds a second the machine does, on registers alone and as many threads as calls use now."""
    kernels, threads = _kernels.modules[dtype], get_num_threads()
    lanes = kernels.describe()["vector_bytes"] // dtype.itemsize
    y = np.zeros((threads, CHAINS * lanes), dtype)
    begun = time.perf_counter()
    kernels.multiply_add_peak(y, ROUNDS, threads)
    return y.size * ROUNDS / (time.perf_counter() - begun)
