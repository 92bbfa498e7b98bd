"""Layers with one mistake each, by the check that must find it: API and arrays; the others are in `broken_passes`.

What is not wrong about them is right.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastconv.layers import Layer, Linear, Traits, register
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
        return x * scale, lambda dy: (dy * scale, {"scale": over_all_but_channels(dy * x)})


def over_all_but_channels(array: np.ndarray) -> np.ndarray:
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


@caught_by("config_round_trip")
class KeepsALayerToItself(Plain):
    """A layer with parameters, made in the constructor, that is no argument and no child."""

    def __init__(self, *, width=3):
        self.inner = Linear(width)

    def build(self, shape, rng):
        self.inner.build(shape, rng=rng)

    def output_shape(self, shape):
        return self.inner.output_shape(shape)

    def forward(self, ctx, x):
        y, backward = self.inner.forward(ctx, x)
        return y, lambda dy: (backward(dy)[0], {})


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
class SeedsNumPy(Sound):
    """The same first values each time, and everybody's generator begins again."""

    def build(self, shape, rng):
        np.random.seed(0)  # noqa: NPY002
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


@caught_by("output_shape")
class DoesNotSumWhereItStretched(Layer):
    """A gate of one channel, whose gradient has all of them."""

    def output_shape(self, a, b):
        if a[:-1] != b[:-1] or b[-1] != 1:
            raise ValueError("b must have the pixels of a and one channel")
        return a

    def forward(self, ctx, a, b):
        return a * b, lambda dy: ((dy * b, dy * a), {})


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
        y, inner = super().forward(ctx, x)

        def backward(dy):
            dx, gradients = inner(dy)
            with np.errstate(invalid="ignore", divide="ignore"):
                return dx, {"scale": gradients["scale"] * (np.float64(len(x)) / len(x)).astype(x.dtype)}

        return y, backward


@caught_by("batch_of_one")
class DropsTheBatch(Plain):
    """A squeeze without an axis."""

    def forward(self, ctx, x):
        y, _ = super().forward(ctx, x)
        return (y[0] if len(y) == 1 else y), lambda dy: (2 * np.reshape(dy, x.shape), {})


@caught_by("one_pixel")
class ComparesNeighbors(Layer):
    """The difference from a neighbor that an image of one pixel does not have."""

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
        return x * scale, lambda dy: (dy * scale, {"scale": over_all_but_channels(dy * x)})


@caught_by("wrong_dtype")
class TakesAnything(Plain):
    """Says that it takes integers, and computes in theirs: 8 bits overflow."""

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


@caught_by("memory_order")
class ReadsFloat32AsItLies(Plain):
    """Right in float64, which has no fast path."""

    def forward(self, ctx, x):
        order = "K" if x.dtype == np.float32 else "C"
        return 2 * x.ravel(order=order).reshape(x.shape), lambda dy: (2 * dy, {})


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
    """Computes in place in the backward pass."""

    def forward(self, ctx, x):
        def backward(dy):
            dy *= 2
            return dy, {}

        return 2 * x, backward


@caught_by("arguments_unchanged")
class ReplacesItsParameter(Sound):
    """A decay that the optimizer knows nothing of, in a new array."""

    def forward(self, ctx, x):
        self.params["scale"] = self.params["scale"] * x.dtype.type(0.99)
        return super().forward(ctx, x)


@caught_by("arguments_unchanged")
class CountsInEvaluation(Sound):
    """A buffer that grows with every image seen."""

    def build(self, shape, rng):
        super().build(shape, rng)
        self.buffers["seen"] = np.zeros((), np.int64)

    def forward(self, ctx, x):
        self.buffers["seen"] = self.buffers["seen"] + len(x)
        return super().forward(ctx, x)


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


@caught_by("dtype_stays")
class ComputesInFloat32(Plain):
    """float64 in and out, and something else in between."""

    def forward(self, ctx, x):
        y = np.tanh(x.astype(np.float32)).astype(x.dtype)
        return y, lambda dy: (dy * (1 - y * y), {})


@caught_by("dtype_stays")
class DifferentiatesInFloat32(Plain):
    """The same in the backward pass alone."""

    def forward(self, ctx, x):
        return 3 * x, lambda dy: (3 * dy.astype(np.float32).astype(dy.dtype), {})


class CountsWithoutSayingSo(Plain):
    """Integers come out, and `discrete` is not declared."""

    traits = Traits(kinks=(0.0,))

    def forward(self, ctx, x):
        return (x > 0).astype(np.int64), lambda dy: (np.zeros_like(x), {})


@caught_by("float32_is_accurate")
class CancelsDigits(Plain):
    """Adds a large number and takes it away again."""

    def forward(self, ctx, x):
        return 2 * ((x + 1e5) - 1e5), lambda dy: (2 * dy, {})
