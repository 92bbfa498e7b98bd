"""Layers that are right and not what one expects: no check may complain about them, and inputs for them are found."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv import layers as L
from fastconv.layers import Layer, Traits, register
from fastconv.layers.checks import require_channels
from fastconv.sequential import Sequential
from fastconv.testing import check_layer
from fastconv.testing.inference import entries_of

UNUSUAL: list[type[Layer]] = []


def unusual(cls: type[Layer]) -> type[Layer]:
    """Register a layer and put it on the list."""
    UNUSUAL.append(cls)
    return register(f"unusual.{cls.__name__}")(cls)


class Same(Layer):
    def output_shape(self, shape):
        return shape


@unusual
class Permutation(Same):
    """A generator in `forward` whose seed is an argument, in both modes."""

    def __init__(self, *, seed=3):
        self.seed = seed

    def forward(self, ctx, x):
        order = np.random.default_rng(self.seed).permutation(x.shape[-1])
        return x[..., order], lambda dy: (dy[..., np.argsort(order)], {})


@unusual
class SpaceToDepth(Layer):
    """Sizes that two divides."""

    def output_shape(self, shape):
        if len(shape) != 3 or shape[0] % 2 or shape[1] % 2:
            raise ValueError(f"x must have shape (N, H, W, C) with even H and W, got {shape}")
        return (shape[0] // 2, shape[1] // 2, shape[2] * 4)

    def forward(self, ctx, x):
        h, w, c = self.output_shape(x.shape[1:])
        blocks = x.reshape(len(x), h, 2, w, 2, c // 4).swapaxes(2, 3)

        def backward(dy):
            return dy.reshape(blocks.shape).swapaxes(2, 3).reshape(x.shape).copy(), {}

        return blocks.reshape(len(x), h, w, c).copy(), backward


@unusual
class SixteenChannels(Same):
    """One number of channels."""

    def output_shape(self, shape):
        if shape[-1] != 16:
            raise ValueError(f"x must have 16 channels, got {shape}")
        return shape

    def forward(self, ctx, x):
        require_channels(x, 16)
        return 3 * x, lambda dy: (3 * dy, {})


@unusual
class Digits(Layer):
    """One shape."""

    def output_shape(self, shape):
        if tuple(shape) != (28, 28, 1):
            raise ValueError(f"x must have shape (N, 28, 28, 1), got {shape}")
        return (784,)

    def forward(self, ctx, x):
        self.output_shape(x.shape[1:])
        return 2 * x.reshape(len(x), 784), lambda dy: (2 * dy.reshape(x.shape), {})


@unusual
class Rounds(Same):
    """A gradient that depends on x by its rounding alone."""

    def forward(self, ctx, x):
        large = 1 + x * x
        return x.copy(), lambda dy: (dy * large / large, {})


@unusual
class Modulate(Layer):
    """An image, and two numbers for each of its channels (Perez et al., FiLM, 2018)."""

    def output_shape(self, x, factors):
        if len(factors) != 1 or factors[0] != 2 * x[-1]:
            raise ValueError(f"the second input must have shape (N, {2 * x[-1]}), got {factors}")
        return x

    def forward(self, ctx, x, factors):
        self.output_shape(x.shape[1:], factors.shape[1:])
        pixels = tuple(range(1, x.ndim - 1))
        scale, shift = (np.expand_dims(half, pixels) for half in np.split(factors, 2, axis=-1))

        def backward(dy):
            return (dy * scale, np.concatenate([(dy * x).sum(axis=pixels), dy.sum(axis=pixels)], axis=-1)), {}

        return x * scale + shift, backward


@unusual
class Halves(Layer):
    """Two outputs, and an IndexError for arrays that have no channels."""

    def output_shape(self, shape):
        if shape[-1] < 2:
            raise ValueError("x must have at least 2 channels")
        half = shape[-1] // 2
        return ((*shape[:-1], half), (*shape[:-1], shape[-1] - half))

    def forward(self, ctx, x):
        half = self.output_shape(x.shape[1:])[0][-1]
        return (x[..., :half].copy(), x[..., half:].copy()), lambda dy: (np.concatenate(dy, axis=-1), {})


@unusual
class Residual(Layer):
    """A layer as an argument, which may be a model."""

    def __init__(self, inner):
        self.inner = inner

    @classmethod
    def examples(cls):
        return [cls(L.Tanh()), cls(Sequential([L.Linear(4), L.ReLU(), L.BatchNorm(), L.Dropout(0.2)]))]

    def build(self, shape, rng):
        self.inner.build(shape, rng=rng)

    def output_shape(self, shape):
        if self.inner.output_shape(shape) != shape:
            raise ValueError(f"the layer inside must keep the shape {shape}")
        return shape

    def forward(self, ctx, x):
        y, inner = self.inner.forward(ctx, x)

        def backward(dy):
            dx, gradients = inner(dy)
            return None if dx is None else dx + dy, {f"inner/{name}": each for name, each in gradients.items()}

        return x + y, backward


@unusual
class MakesALayer(Layer):
    """A layer with parameters, made in the constructor and declared as a child."""

    def __init__(self, *, width=3):
        self.inner = L.Linear(width)

    def children(self):
        return [("inner", self.inner)]

    def build(self, shape, rng):
        self.inner.build(shape, rng=rng)

    def output_shape(self, shape):
        return self.inner.output_shape(shape)

    def forward(self, ctx, x):
        y, inner = self.inner.forward(ctx, x)

        def backward(dy):
            dx, gradients = inner(dy)
            return dx, {f"inner/{name}": each for name, each in gradients.items()}

        return y, backward


@unusual
class LearnedThreshold(Same):
    """A kink where a parameter is."""

    @property
    def traits(self):
        return Traits(kinks=self.distance)

    def distance(self, x):
        return np.abs(x - self.params["threshold"]).min(initial=1.0)

    def build(self, shape, rng):
        self.params["threshold"] = np.zeros(shape[-1], np.float32)

    def forward(self, ctx, x):
        threshold = self.params["threshold"]
        require_channels(x, len(threshold))
        above = x > threshold
        sums = tuple(range(x.ndim - 1))
        return (x - threshold) * above, lambda dy: (dy * above, {"threshold": -(dy * above).sum(axis=sums)})


@unusual
class Embedding(Layer):
    """Integers in, which NumPy alone looks at."""

    traits = Traits(integers=True, domain=(0, 10))

    def build(self, shape, rng):
        self.params["rows"] = rng.standard_normal((10, 3)).astype(np.float32)

    def output_shape(self, shape):
        return (*shape, 3)

    def forward(self, ctx, x):
        rows = self.params["rows"]

        def backward(dy):
            gradient = np.zeros_like(rows)
            np.add.at(gradient, x, dy)
            return None, {"rows": gradient}

        return rows[x], backward


@unusual
class RunningMean(Same):
    """Buffers, one of them a number that NumPy makes of an array without axes."""

    traits = Traits(mixes_samples=True)

    def build(self, shape, rng):
        self.buffers["mean"] = np.zeros(shape[-1], np.float32)
        self.buffers["steps"] = np.zeros((), np.int64)

    def forward(self, ctx, x):
        mean, others = self.buffers["mean"], tuple(range(x.ndim - 1))
        require_channels(x, len(mean))
        if not ctx.training or not x.size:
            return x - mean, lambda dy: (dy.copy(), {})
        now = x.mean(axis=others)
        self.buffers["mean"] = (0.9 * mean + 0.1 * now).astype(mean.dtype)
        self.buffers["steps"] = self.buffers["steps"] + 1
        return x - now, lambda dy: (dy - dy.mean(axis=others), {})


@unusual
class DropsPaths(Same):
    """A generator of its own, seeded by that of the pass."""

    def forward(self, ctx, x):
        if not ctx.training:
            return x.copy(), lambda dy: (dy.copy(), {})
        rng = np.random.default_rng(ctx.rng.integers(2**63))
        kept = 2 * (rng.random((len(x), *[1] * (x.ndim - 1))) > 0.5).astype(x.dtype)
        return x * kept, lambda dy: (dy * kept, {})


@pytest.mark.parametrize("cls", UNUSUAL, ids=lambda cls: cls.__name__)
def test_no_check_complains(cls):
    check_layer(cls)


def test_sequences_of_two_lengths_keep_what_they_have_in_common():
    class Attend(Layer):
        def output_shape(self, a, b):
            if len(a) != 2 or len(b) != 2 or a[1] != b[1]:
                raise ValueError("inputs must have shapes (N, L, C) and (N, M, C)")
            return a

        def forward(self, ctx, a, b):
            return a + b.sum(axis=1, keepdims=True), lambda dy: ((dy, 0 * b + dy.sum(axis=1, keepdims=True)), {})

    (entry,) = entries_of(Attend(), [(4, 3), (5, 3)])
    assert len(entry.variants) > 20
    assert any(a[0] != b[0] for a, b in entry.variants)


def test_after_a_fork_pytorch_computes_on_one_thread():
    torch = pytest.importorskip("torch")

    @register("unusual.Wide")
    class Wide(L.TorchLayer):
        def output_shape(self, shape):
            return shape

        def compute(self, params, x):
            return torch.nn.functional.gelu(x)

    before = torch.get_num_threads()
    results = {r.name: r.status for r in check_layer(Wide(), max_examples=2, input_shapes=[(64, 64, 16)])}
    assert results["fork"] == "passed"
    assert torch.get_num_threads() == before
