"""Layers with one mistake each, by the check that must find it. What is not wrong about them is right."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

import fastconv
from fastconv.layers import Layer, Traits, register
from fastconv.layers.checks import require_channels

#: Check -> the layers that it must find wrong.
BROKEN: dict[str, list[type[Layer]]] = {}


def caught_by(check: str) -> Callable[[type[Layer]], type[Layer]]:
    """Register a broken layer and put it under the check that it is meant for."""

    def decorate(cls: type[Layer]) -> type[Layer]:
        BROKEN.setdefault(check, []).append(cls)
        return register(f"broken.{cls.__name__}")(cls)

    return decorate


@register("broken.Sound")
class Sound(Layer):
    """Scale each channel: right in every way, and the base of those that are not."""

    def build(self, shape, rng):
        self.params["scale"] = rng.uniform(0.5, 1.5, shape[-1]).astype(np.float32)

    def output_shape(self, shape):
        if not shape:
            raise ValueError("x must have shape (N, ..., C), got (N,)")
        return shape

    def forward(self, ctx, x):
        scale = self.params["scale"]
        require_channels(x, len(scale))
        return x * scale, lambda dy: (dy * scale, {"scale": _over_all_but_channels(dy * x)})


def _over_all_but_channels(array: np.ndarray) -> np.ndarray:
    return array.sum(axis=tuple(range(array.ndim - 1)))


class Plain(Layer):
    """A layer without parameters, whose subclasses are ``2 x`` unless they say otherwise."""

    def output_shape(self, shape):
        return shape

    def forward(self, ctx, x):
        return 2 * x, lambda dy: (2 * dy, {})


class Unregistered(Plain):
    """No name that a file could hold."""


BROKEN["config_round_trip"] = [Unregistered]


@caught_by("config_round_trip")
class ChangesItsConfig(Plain):
    """The config is not what the constructor was called with."""

    def __init__(self, *, rate=0.5):
        self.rate = rate
        self.config["rate"] = rate / 2


@caught_by("copies_are_independent")
class CopiesShareParameters(Sound):
    """A deep copy that is none."""

    def __deepcopy__(self, memo):
        other = type(self)()
        other.params = self.params
        other._dtype = self._dtype
        return other


@caught_by("build_is_repeatable")
class DrawsFromNumPy(Sound):
    """First values from NumPy's global generator."""

    def build(self, shape, rng):
        self.params["scale"] = np.random.uniform(0.5, 1.5, shape[-1]).astype(np.float32)  # noqa: NPY002


@caught_by("build_is_repeatable")
class BuildsInFloat64(Sound):
    """First values in float64."""

    def build(self, shape, rng):
        self.params["scale"] = rng.uniform(0.5, 1.5, shape[-1])


@caught_by("output_shape")
class RoundsTheOtherWay(Layer):
    """Every second pixel, and a declared shape that is wrong for odd sizes."""

    def output_shape(self, shape):
        if len(shape) != 2 or shape[0] < 2:
            raise ValueError("x must have shape (N, L, C) with L at least 2")
        return (shape[0] // 2, shape[1])

    def forward(self, ctx, x):
        def backward(dy):
            dx = np.zeros_like(x)
            dx[:, ::2] = dy
            return dx, {}

        return x[:, ::2].copy(), backward


@caught_by("output_shape")
class TakesMoreThanItCan(Plain):
    """Two axes, and a declared shape for any number of them."""

    def forward(self, ctx, x):
        n, c = x.shape
        return 2 * x.reshape(n, c), lambda dy: (2 * dy, {})


@caught_by("output_shape")
class Overflows(Plain):
    """Infinity for numbers that are not even large."""

    def forward(self, ctx, x):
        with np.errstate(divide="ignore"):
            y = 1 / np.floor(np.abs(x) / 3)
        return y, lambda dy: (np.zeros_like(dy), {})


@caught_by("empty_batch")
class LooksAtTheFirstImage(Plain):
    """There is not always one."""

    def forward(self, ctx, x):
        x[0]
        return super().forward(ctx, x)


@caught_by("empty_batch")
class MeansOverNothing(Sound):
    """The gradient of a parameter is not a number for no images."""

    def forward(self, ctx, x):
        y, backward = super().forward(ctx, x)

        def way_back(dy):
            dx, gradients = backward(dy)
            with np.errstate(invalid="ignore", divide="ignore"):
                return dx, {"scale": gradients["scale"] * (np.float64(len(x)) / len(x)).astype(x.dtype)}

        return y, way_back


@caught_by("batch_of_one")
class DropsTheBatch(Plain):
    """A squeeze without an axis."""

    def forward(self, ctx, x):
        y, _ = super().forward(ctx, x)
        return (y[0] if len(y) == 1 else y), lambda dy: (2 * np.reshape(dy, x.shape), {})


@caught_by("one_pixel")
class ComparesNeighbours(Layer):
    """The difference from a neighbour that an image of one pixel does not have."""

    def output_shape(self, shape):
        if len(shape) != 2:
            raise ValueError("x must have shape (N, L, C)")
        return shape

    def forward(self, ctx, x):
        second = np.take(x, [1], axis=1)

        def backward(dy):
            dx = dy.copy()
            dx[:, 1] -= dy.sum(axis=1)
            return dx, {}

        return x - second, backward


@caught_by("wrong_rank")
class CountsOnFourAxes(Plain):
    """An IndexError for fewer axes."""

    def output_shape(self, shape):
        if len(shape) != 3:
            raise ValueError("x must have shape (N, H, W, C)")
        return shape

    def forward(self, ctx, x):
        if x.shape[3] > 10**6:
            raise ValueError("too many channels")
        return super().forward(ctx, x)


@caught_by("wrong_channels")
class Broadcasts(Sound):
    """One channel times the three it was built for is three."""

    def forward(self, ctx, x):
        scale = self.params["scale"]
        return x * scale, lambda dy: (dy * scale, {"scale": _over_all_but_channels(dy * x)})


@caught_by("wrong_dtype")
class TakesAnything(Plain):
    """Says that it takes integers, and takes complex numbers too."""

    traits = Traits(integers=True)


@caught_by("memory_order")
class ReadsMemoryAsItLies(Plain):
    """Right where the input is contiguous."""

    def forward(self, ctx, x):
        return 2 * x.ravel(order="K").reshape(x.shape), lambda dy: (2 * dy, {})


@caught_by("memory_order")
class ReadsTheGradientAsItLies(Plain):
    """Right where the gradient of the output is contiguous."""

    def forward(self, ctx, x):
        return 2 * x, lambda dy: (2 * dy.ravel(order="K").reshape(dy.shape), {})


@caught_by("read_only")
class BorrowsItsInput(Plain):
    """Writes into the input and puts it back."""

    def forward(self, ctx, x):
        np.negative(x, out=x)
        y = -2 * x
        np.negative(x, out=x)
        return y, lambda dy: (2 * dy, {})


@caught_by("arguments_unchanged")
class ChangesItsInput(Plain):
    """Computes in place, in memory of somebody else."""

    def forward(self, ctx, x):
        x *= 2
        return x.copy(), lambda dy: (2 * dy, {})


@caught_by("arguments_unchanged")
class ChangesTheGradient(Plain):
    """Computes in place on the way back."""

    def forward(self, ctx, x):
        def backward(dy):
            dy *= 2
            return dy, {}

        return 2 * x, backward


@caught_by("outputs_are_new")
class ReturnsItsInput(Plain):
    """The input itself, without saying so."""

    def forward(self, ctx, x):
        return x, lambda dy: (dy, {})


@caught_by("outputs_are_new")
class ReturnsItsParameter(Sound):
    """A gradient that is a view of the parameter."""

    def forward(self, ctx, x):
        y, backward = super().forward(ctx, x)
        if x.ndim == 2 and len(x) == 1:
            y = np.multiply(x, self.params["scale"], out=self.params["scale"].reshape(1, -1).copy())
        scale = self.params["scale"]
        return y, lambda dy: (backward(dy)[0], {"scale": scale[...]})


@caught_by("outputs_are_new")
class KeepsOneOutput(Plain):
    """One array for the outputs of all passes of a size."""

    def __init__(self):
        self.kept = {}

    def forward(self, ctx, x):
        out = self.kept.setdefault((x.shape, x.dtype), np.empty_like(x))
        np.multiply(x, 2, out=out)
        return out, lambda dy: (2 * dy, {})


@caught_by("dtype_stays")
class MultipliesByFloat64(Plain):
    """A NumPy scalar that makes float64 of float32."""

    def forward(self, ctx, x):
        return x * np.float64(2), lambda dy: (2 * dy, {})


@caught_by("float32_is_accurate")
class CancelsDigits(Plain):
    """Adds a large number and takes it away again."""

    def forward(self, ctx, x):
        return 2 * ((x + 1e5) - 1e5), lambda dy: (2 * dy, {})


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
    """A moving sum, whose way back is shifted by one where the kernel is even."""

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
class HidesAKink(Plain):
    """Jumps at every quarter and does not say so."""

    def forward(self, ctx, x):
        return x + np.floor(20000 * x), lambda dy: (dy, {})


@caught_by("input_gradient")
class WrongInTraining(Plain):
    """Another factor in training than its way back has."""

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
            dscale = _over_all_but_channels(dy * x) * scale
            return dy * scale**2, {"scale": dscale, "shift": _over_all_but_channels(dy)}

        return x * scale**2 + shift, backward


@caught_by("way_back_is_linear")
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
    """The way back squares what the last pass has left."""

    def forward(self, ctx, x):
        self.last = x
        return x * x, lambda dy: (2 * dy * self.last, {})


@caught_by("nothing_on_self")
class RemembersTheLastInput(Plain):
    """Does not use it, and keeps its memory."""

    def forward(self, ctx, x):
        self.last = x
        return super().forward(ctx, x)


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
