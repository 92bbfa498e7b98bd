"""Fusion of layers in a graph: batch normalization, perhaps a sum with a shortcut, ReLU, and perhaps max pooling.

Each of these layers waits for memory, so what there is to gain is to go over it once instead of three times. Nothing else
changes: the layers, their parameters and the bits of every result are those of the steps one by one, but for the rounding of
the sums that only maxima have a part in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv import functional as F
from fastconv.layers import Add, BatchNorm, MaxPool1d, MaxPool2d, MaxPool3d, ReLU
from fastconv.layers.base import Backward, Layer
from fastconv.layers.checks import spatial_shape
from fastconv.layers.context import Context
from fastconv.layers.pool import MaxPool
from fastconv.program import Step

POOLS = MaxPool1d, MaxPool2d, MaxPool3d

Pair = tuple[np.ndarray, np.ndarray]


class Fused(Layer):
    """A normalization and what follows it, with the parameters and the label of the normalization."""

    def __init__(self, norm: BatchNorm) -> None:
        self.norm = norm

    def own(self, kind: str) -> dict[str, np.ndarray]:
        return self.norm.own(kind)

    @property
    def label(self) -> str:
        return self.norm.label


class NormReLU(Fused):
    """``relu(norm(x))``, or ``relu(add(norm(x), shortcut))``."""

    def __init__(self, norm: BatchNorm, relu: ReLU, add: Add | None = None) -> None:
        super().__init__(norm)
        self.relu, self.add = relu, add

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


class NormReLUPool(Fused):
    """``pool(relu(norm(x)))``."""

    def __init__(self, norm: BatchNorm, pool: MaxPool) -> None:
        super().__init__(norm)
        self.pool = pool

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        pool = self.pool
        spatial_shape(x.shape[1:], pool.rank)
        y, statistics, maxima = self.norm.normalized(F.batch_norm_relu_max_pool, ctx, x, pool.kernel, **pool.windows)
        scale, bias = self.norm.params["scale"], self.norm.params["bias"]

        def backward(dy: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
            dx, dscale, dbias = F.batch_norm_relu_max_pool_backward(dy, x, scale, bias, maxima=maxima, **statistics)
            return dx, {"scale": dscale, "bias": dbias}

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
        if type(step.layer) is BatchNorm and uses[id(step.layer)] == 1:
            chain = _chain(steps, at, readers)
            if len(chain) > 1 and not parts.intersection(chain):
                ends[chain[-1]] = _one(steps, chain)
                parts.update(chain)
    return [ends.get(at, step) for at, step in enumerate(steps) if at in ends or at not in parts]


def _chain(steps: Sequence[Step], at: int, readers: dict[int, int]) -> list[int]:
    """Return which steps from a normalization on, each the only reader of the one before, can be one; perhaps it alone."""

    def after(at: int) -> tuple[int, Any]:
        reader = readers.get(steps[at].writes[0], -1)
        return reader, type(steps[reader].layer) if reader >= 0 else None

    chain = [at]
    end, kind = after(at)
    if kind is Add and len(steps[end].reads) == 2:
        chain.append(end)
        end, kind = after(end)
    if kind is not ReLU:
        return [at]
    chain.append(end)
    end, kind = after(end)
    if kind in POOLS and len(chain) == 2:
        chain.append(end)
    return chain


def _one(steps: Sequence[Step], chain: Sequence[int]) -> Step:
    """Return the step that does what those of a chain do."""
    first, *others = (steps[at] for at in chain)
    made = {slot for step in (first, *others) for slot in step.writes}
    shortcut = tuple(slot for step in others for slot in step.reads if slot not in made)
    layers = {type(step.layer): step.layer for step in others}
    if type(others[-1].layer) in POOLS:
        layer: Layer = NormReLUPool(first.layer, others[-1].layer)  # type: ignore[arg-type]
    else:
        layer = NormReLU(first.layer, layers[ReLU], layers.get(Add))  # type: ignore[arg-type]
    return first._replace(runs=layer, reads=(*first.reads, *shortcut), writes=others[-1].writes)
