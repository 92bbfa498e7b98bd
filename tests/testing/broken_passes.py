"""Layers with one mistake each, continued: mathematics, state, concurrency. Importing this adds them to `BROKEN`."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from testing.broken_layers import BROKEN, Plain, Sound, caught_by, over_all_but_channels

import fastconv
from fastconv.layers import Layer, Traits
from fastconv.layers.checks import require_channels

__all__ = ["BROKEN"]


@caught_by("input_gradient")
class WrongAtOneBorderPixel(Plain):
    """The last pixel of the first row, of images that have several."""

    def forward(self, ctx, x):
        def backward(dy):
            dx = 2 * dy
            if x.ndim == 4 and x.shape[2] > 1:
                dx[:, 0, -1] *= 0.5
            return dx, {}

        return 2 * x, backward


@caught_by("input_gradient")
class WrongForEvenKernels(Layer):
    """A moving sum, whose backward pass is shifted by one where the kernel is even."""

    def __init__(self, kernel_size):
        self.kernel_size = kernel_size

    @classmethod
    def examples(cls):
        return [cls(1), cls(2), cls(3)]

    def output_shape(self, shape):
        if len(shape) != 2 or shape[0] < self.kernel_size:
            raise ValueError(f"x must have shape (N, L, C) with L at least {self.kernel_size}")
        return (shape[0] - self.kernel_size + 1, shape[1])

    def forward(self, ctx, x):
        n, k = self.output_shape(x.shape[1:])[0], self.kernel_size

        def backward(dy):
            dx = np.zeros_like(x)
            for tap in range(k):
                dx[:, tap : tap + n] += dy
            return (np.roll(dx, 1, axis=1) if k % 2 == 0 else dx), {}

        return sum(x[:, tap : tap + n] for tap in range(k)), backward


@caught_by("input_gradient")
class WrongForKernelsNobodyLists(WrongForEvenKernels):
    """The kernels nearby are tried although nobody lists them."""

    def __init__(self, kernel_size=3):
        super().__init__(kernel_size)

    @classmethod
    def examples(cls):
        return []


@caught_by("input_gradient")
class WrongBeyondEightPixels(Plain):
    """What is left over when the row was taken in blocks."""

    def forward(self, ctx, x):
        def backward(dy):
            dx = 2 * dy
            if x.ndim > 2:
                dx[..., 8:, :] *= 0.5
            return dx, {}

        return 2 * x, backward


@caught_by("input_gradient")
class HidesAKink(Plain):
    """Jumps at every quarter and does not say so."""

    def forward(self, ctx, x):
        return x + np.floor(20000 * x), lambda dy: (dy, {})


@caught_by("input_gradient")
class WrongInTraining(Plain):
    """Another factor in training than its backward pass has."""

    def forward(self, ctx, x):
        factor = 3 if ctx.training else 2
        return factor * x, lambda dy: (2 * dy, {})


@caught_by("parameter_gradients")
class ForgetsAFactor(Layer):
    """Two parameters, and the square of one is derived without its factor of two."""

    def build(self, shape, rng):
        for name in ("scale", "shift"):
            self.params[name] = rng.uniform(0.5, 1.5, shape[-1]).astype(np.float32)

    def output_shape(self, shape):
        return shape

    def forward(self, ctx, x):
        scale, shift = self.params["scale"], self.params["shift"]
        require_channels(x, len(scale))

        def backward(dy):
            dscale = over_all_but_channels(dy * x) * scale
            return dy * scale**2, {"scale": dscale, "shift": over_all_but_channels(dy)}

        return x * scale**2 + shift, backward


@caught_by("backward_is_linear")
class ClipsGradients(Plain):
    """Large gradients are cut off."""

    def forward(self, ctx, x):
        return 2 * x, lambda dy: (np.clip(2 * dy, -3, 3), {})


@caught_by("adjoint")
class SaysItIsLinear(Plain):
    """Declares more than it keeps."""

    traits = Traits(linear=True)

    def forward(self, ctx, x):
        y = np.tanh(x)
        return y, lambda dy: (dy * (1 - y * y), {})


@caught_by("samples_apart")
class MixesImages(Plain):
    """Subtracts the mean of the batch, in evaluation too."""

    traits = Traits(mixes_samples=True)

    def forward(self, ctx, x):
        if not len(x):
            return x.copy(), lambda dy: (dy.copy(), {})
        return x - x.mean(axis=0), lambda dy: (dy - dy.mean(axis=0), {})


@caught_by("samples_apart")
class MixesImagesInTraining(Plain):
    """Subtracts the mean of the batch, without saying so."""

    def forward(self, ctx, x):
        if not len(x) or not ctx.training:
            return x.copy(), lambda dy: (dy.copy(), {})
        return x - x.mean(axis=0), lambda dy: (dy - dy.mean(axis=0), {})


@caught_by("training_and_evaluation")
class DropsInEvaluation(Plain):
    """Random numbers where there is no generator."""

    def forward(self, ctx, x):
        kept = ctx.rng.random(x.shape) > 0.5
        return x * kept, lambda dy: (dy * kept, {})


@caught_by("training_and_evaluation")
class HasItsOwnGenerator(Plain):
    """Random numbers that no seed of the model decides."""

    def forward(self, ctx, x):
        if not ctx.training:
            return super().forward(ctx, x)
        kept = np.random.default_rng().random(x.shape) > 0.5
        return x * kept, lambda dy: (dy * kept, {})


@caught_by("training_and_evaluation")
class ShakesNumPysGenerator(Plain):
    """Uses the generator of everybody."""

    def forward(self, ctx, x):
        if ctx.training:
            np.random.random()  # noqa: NPY002
        return super().forward(ctx, x)


@caught_by("training_and_evaluation")
class KeepsAGenerator(Plain):
    """Seeded once, and no model can put it back."""

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def forward(self, ctx, x):
        if not ctx.training:
            return super().forward(ctx, x)
        kept = self.rng.random(x.shape) > 0.5
        return x * kept, lambda dy: (dy * kept, {})


@caught_by("training_and_evaluation")
class DropsTheSameEachTime(Plain):
    """A new generator with one seed for every pass."""

    def forward(self, ctx, x):
        if not ctx.training:
            return super().forward(ctx, x)
        kept = np.random.default_rng(0).random(x.shape) > 0.5
        return x * kept, lambda dy: (dy * kept, {})


@caught_by("training_and_evaluation")
class SeedsNumPyInEvaluation(Plain):
    """Everybody's generator begins again."""

    def forward(self, ctx, x):
        if not ctx.training:
            np.random.seed(0)  # noqa: NPY002
        return super().forward(ctx, x)


@caught_by("unwanted_input_gradient")
class StopsTooEarly(Sound):
    """No gradients at all where that of the input is not wanted."""

    def forward(self, ctx, x):
        y, backward = super().forward(ctx, x)
        if ctx.input_grad:
            return y, backward
        return y, lambda dy: (None, {"scale": np.zeros_like(self.params["scale"])})


@caught_by("equals_reference")
class NearlyRight(Plain):
    """Consistent with itself, and not what was wanted."""

    def forward(self, ctx, x):
        return 2.0001 * x, lambda dy: (2.0001 * dy, {})


@caught_by("two_passes")
class CachesOnSelf(Plain):
    """The backward pass squares what the last pass has left."""

    def forward(self, ctx, x):
        self.last = x
        return x * x, lambda dy: (2 * dy * self.last, {})


@caught_by("nothing_on_self")
class RemembersTheLastInput(Plain):
    """Does not use it, and keeps its memory."""

    def forward(self, ctx, x):
        self.last = x
        return super().forward(ctx, x)


@caught_by("nothing_on_self")
class CachesInADict(Plain):
    """The attribute stays the same, and what is in it does not."""

    def __init__(self):
        self.cache = {}

    def forward(self, ctx, x):
        self.cache["last"] = x
        return super().forward(ctx, x)


@caught_by("nothing_on_self")
class CachesOnItsClass(Plain):
    """For all layers of the kind at once."""

    last: Any = None

    def forward(self, ctx, x):
        type(self).last = x
        return super().forward(ctx, x)


@caught_by("save_and_load")
class RemembersInAnAttribute(Plain):
    """A running mean that is no buffer, changed in place."""

    def build(self, shape, rng):
        self.mean = np.zeros(shape[-1], np.float32)

    def forward(self, ctx, x):
        require_channels(x, len(self.mean))
        if ctx.training and x.size:
            self.mean += 0.1 * (over_all_but_channels(x) - self.mean)
        return x - self.mean.astype(x.dtype), lambda dy: (dy.copy(), {})


@caught_by("save_and_load")
class DrawsInItsConstructor(Plain):
    """A random number that no file holds."""

    def __init__(self):
        self.factor = float(np.random.default_rng().uniform(1, 2))

    def forward(self, ctx, x):
        return self.factor * x, lambda dy: (self.factor * dy, {})


@caught_by("strict_loading")
class GrowsItsParameter(Sound):
    """The parameter takes the size of the image at the first pass."""

    def forward(self, ctx, x):
        scale = self.params["scale"]
        require_channels(x, scale.shape[-1])
        self.params["scale"] = scale = np.broadcast_to(scale, x.shape[1:]).copy()
        return x * scale, lambda dy: (dy * scale, {"scale": (dy * x).sum(axis=0)})


@caught_by("strict_loading")
class MakesItsParameterLate(Plain):
    """A parameter that is not there before the first pass."""

    def forward(self, ctx, x):
        scale = self.params.setdefault("scale", np.ones(x.shape[-1], x.dtype))
        require_channels(x, len(scale))
        return x * scale, lambda dy: (dy * scale, {"scale": over_all_but_channels(dy * x)})


@caught_by("thread_count")
class SumsInPartsByThread(Layer):
    """A sum whose order depends on the number of threads."""

    def output_shape(self, shape):
        return (1,)

    def forward(self, ctx, x):
        flat = x.reshape(len(x), int(np.prod(x.shape[1:])))
        parts = np.array_split(flat, fastconv.get_num_threads(), axis=1)
        y = sum(part.sum(axis=1, keepdims=True) for part in parts)
        return y, lambda dy: (np.broadcast_to(dy, flat.shape).reshape(x.shape).copy(), {})


@caught_by("thread_count")
class SumsByThread(Plain):
    """Sums in as many parts as there are threads."""

    def forward(self, ctx, x):
        parts = np.array_split(x.ravel(), fastconv.get_num_threads())
        total = sum(part.sum() for part in parts) / max(x.size, 1)
        return x + 0 * total + (fastconv.get_num_threads() == 4) * 1e-12 * x, lambda dy: (dy.copy(), {})


@caught_by("python_threads")
class SharesAWorkspace(Plain):
    """One place for what is in between, for all threads."""

    def __init__(self):
        self.workspace = {}

    def forward(self, ctx, x):
        self.workspace["x"] = x
        time.sleep(0.0005)
        x = self.workspace["x"]
        return 2 * x, lambda dy: (2 * dy, {})


@caught_by("fork")
class KeepsAPool(Plain):
    """Threads that stay in the parent."""

    pool: Any = None

    def forward(self, ctx, x):
        if KeepsAPool.pool is None:
            KeepsAPool.pool = ThreadPoolExecutor(1)
        return KeepsAPool.pool.submit(np.multiply, x, 2).result(), lambda dy: (2 * dy, {})
