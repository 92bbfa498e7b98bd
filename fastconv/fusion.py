"""Steps of a graph that become one: batch normalization, perhaps the sum with a shortcut, and ReLU.

Each of these layers waits for memory, so what there is to gain is to go over it once instead of three times. Nothing else
changes: the layers, their parameters and the bits of every result are those of the steps one by one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from fastconv import functional as F
from fastconv.layers import Add, BatchNorm, ReLU
from fastconv.layers.base import Backward, Layer
from fastconv.layers.context import Context
from fastconv.program import Step

Pair = tuple[np.ndarray, np.ndarray]


class NormReLU(Layer):
    """``relu(norm(x))``, or ``relu(add(norm(x), shortcut))``, with the parameters and the label of `norm`."""

    def __init__(self, norm: BatchNorm, relu: ReLU, add: Add | None = None) -> None:
        self.norm, self.relu, self.add = norm, relu, add

    def own(self, kind: str) -> dict[str, np.ndarray]:
        return self.norm.own(kind)

    @property
    def label(self) -> str:
        return self.norm.label

    def forward(self, ctx: Context, *xs: np.ndarray) -> tuple[np.ndarray, Backward]:
        if self.add is None:
            return self._rectified(ctx, *xs)
        if xs[0].shape == xs[1].shape:
            return self._added(ctx, *xs)
        return self._one_by_one(self.add, ctx, *xs)  # an axis of size 1 stretches

    def _rectified(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        y, statistics = self.norm.normalized(F.batch_norm_relu, ctx, x)
        scale, bias = self.norm.params["scale"], self.norm.params["bias"]

        def backward(dy: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
            dx, dscale, dbias = F.batch_norm_relu_backward(dy, x, scale, bias, **statistics)
            return dx, {"scale": dscale, "bias": dbias}

        return y, backward

    def _added(self, ctx: Context, x: np.ndarray, shortcut: np.ndarray) -> tuple[np.ndarray, Backward]:
        y, statistics = self.norm.normalized(F.batch_norm_relu, ctx, x, residual=shortcut)
        scale = self.norm.params["scale"]

        def backward(dy: np.ndarray) -> tuple[Pair, dict[str, np.ndarray]]:
            dy = F.relu_backward(dy, y=y)
            dx, dscale, dbias = F.batch_norm_backward(dy, x, scale, **statistics)
            return (dx, dy), {"scale": dscale, "bias": dbias}

        return y, backward

    def _one_by_one(self, add: Add, ctx: Context, x: np.ndarray, shortcut: np.ndarray) -> tuple[np.ndarray, Backward]:
        y, norm_backward = self.norm.forward(ctx, x)
        y, add_backward = add.forward(ctx, y, shortcut)
        y, relu_backward = self.relu.forward(ctx, y)

        def backward(dy: np.ndarray) -> tuple[Pair, dict[str, np.ndarray]]:
            (dy, dshortcut), _ = add_backward(relu_backward(dy)[0])
            dx, gradients = norm_backward(dy)
            return (dx, dshortcut), gradients

        return y, backward


def fused(steps: Sequence[Step], outputs: Sequence[int]) -> list[Step]:
    """Return `steps` with what one pass over memory can do as one step, in the place of the last of its parts.

    A part but the last is read by the next one alone. Subclasses stay as they are, since they may compute something else, and
    so does a normalization that is used twice: the order of its uses decides its running statistics.
    """
    reads = Counter([*outputs, *(slot for step in steps for slot in step.reads)])
    uses = Counter(id(step.layer) for step in steps)
    readers = {slot: at for at, step in enumerate(steps) for slot in step.reads if reads[slot] == 1}
    ends: dict[int, Step] = {}
    parts: set[int] = set()
    for at, step in enumerate(steps):
        if type(step.layer) is not BatchNorm or uses[id(step.layer)] > 1:
            continue
        chain = [at]
        while len(chain) < 3 and steps[chain[-1]].writes[0] in readers:
            end = readers[steps[chain[-1]].writes[0]]
            kind, inputs = type(steps[end].layer), len(steps[end].reads)
            if end in parts or not (kind is ReLU or (kind is Add and inputs == 2 and len(chain) == 1)):
                break
            chain.append(end)
            if kind is ReLU:
                ends[end] = _one(steps, chain)
                parts.update(chain)
                break
    return [ends.get(at, step) for at, step in enumerate(steps) if at in ends or at not in parts]


def _one(steps: Sequence[Step], chain: Sequence[int]) -> Step:
    """Return the step that does what those of a chain do: normalization, perhaps a sum, ReLU."""
    first, *sums, last = (steps[at] for at in chain)
    shortcut = tuple(slot for step in sums for slot in step.reads if slot != first.writes[0])
    layer = NormReLU(first.layer, last.layer, *(step.layer for step in sums))  # type: ignore[arg-type]
    return first._replace(runs=layer, reads=(*first.reads, *shortcut), writes=last.writes)
