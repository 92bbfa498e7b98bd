"""Dropout of single elements, whole channels and whole samples."""

from __future__ import annotations

import math

import numpy as np

from fastconv.arguments import integer
from fastconv.functional._channels import multiplied
from fastconv.functional._dropout import dropped
from fastconv.layers.base import Backward, Layer
from fastconv.layers.checks import number, require_floats
from fastconv.layers.context import Context
from fastconv.layers.symbol import Shape
from fastconv.layers.traits import Traits
from fastconv.registry import layers


class _Dropping(Layer):
    """What leaves something out in training, with probability `rate`, and nothing in evaluation."""

    traits = Traits(linear=True, shares_input=True)

    def _drops(self, rate: float) -> None:
        self.rate = number(rate, "rate", low=0.0, high=1.0)
        if self.rate == 1.0:
            raise ValueError("rate must be below 1, because something must be left, got 1")

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        require_floats(x)
        if not ctx.training or self.rate == 0.0:
            return x, lambda dy: (dy, {})
        return self.drop(ctx.rng, x)

    def drop(self, rng: np.random.Generator, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        """Return what is left of `x`, and the backward pass."""
        raise NotImplementedError

    def _scaled(self, rng: np.random.Generator, x: np.ndarray, shape: Shape) -> tuple[np.ndarray, Backward]:
        """Drop numbers together that one number of `shape` stretches to."""
        factor = (rng.random(shape) >= self.rate).astype(x.dtype) / x.dtype.type(1 - self.rate)
        return multiplied(x, factor), lambda dy: (multiplied(dy, factor), {})


@layers.register("Dropout")
class Dropout(_Dropping):
    """In training, set each element to 0 with probability `rate` and divide the others by ``1 - rate``.

    The expected value stays what it was, so evaluation does nothing: it returns its input itself. A key from ``ctx.rng`` says
    which are set to 0: the backward pass needs no mask. Source: Srivastava et al., Dropout, JMLR 2014, section 10.

    >>> import numpy as np
    >>> from fastconv.layers import Context
    >>> x = np.ones((1, 6), np.float32)
    >>> y, backward = Dropout(0.5).forward(Context(training=True, rng=np.random.default_rng(3)), x)
    >>> y
    array([[2., 2., 2., 2., 0., 2.]], dtype=float32)
    >>> Dropout(0.5)(x)
    array([[1., 1., 1., 1., 1., 1.]], dtype=float32)
    """

    takes_numbers = True

    def __init__(self, rate: float = 0.5) -> None:
        self._drops(rate)

    def drop(self, rng: np.random.Generator, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        key = int(rng.integers(2**63))  # all that the backward pass keeps
        return dropped(x, self.rate, key), lambda dy: (dropped(dy, self.rate, key), {})


@layers.register("StochasticDepth")
class StochasticDepth(_Dropping):
    """In training, set all elements of a sample to 0 with probability `rate` and divide the others by ``1 - rate``.

    At the end of a residual branch it leaves the branch out, for some of the samples. Evaluation does nothing: it returns its
    input itself. Source: Huang et al., Deep networks with stochastic depth, ECCV 2016, section 3.

    >>> import numpy as np
    >>> from fastconv.layers import Context
    >>> x = np.ones((4, 2), np.float32)
    >>> y, backward = StochasticDepth(0.5).forward(Context(training=True, rng=np.random.default_rng(0)), x)
    >>> y
    array([[2., 2.],
           [0., 0.],
           [0., 0.],
           [0., 0.]], dtype=float32)
    """

    def __init__(self, rate: float = 0.2) -> None:
        self._drops(rate)

    def drop(self, rng: np.random.Generator, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        return self._scaled(rng, x, (len(x), *[1] * (x.ndim - 1)))


@layers.register("SpatialDropout")
class SpatialDropout(_Dropping):
    """In training, set whole channels of a sample to 0 with probability `rate` and divide the others by ``1 - rate``.

    For images ``(N, *spatial, C)``, whose neighboring pixels are so much alike that `Dropout` leaves nothing out. Evaluation
    returns its input itself. Source: Tompson et al., Efficient object localization using convolutional networks, CVPR 2015,
    section 3.2.

    >>> import numpy as np
    >>> from fastconv.layers import Context
    >>> x = np.ones((1, 2, 4), np.float32)
    >>> y, backward = SpatialDropout(0.5).forward(Context(training=True, rng=np.random.default_rng(0)), x)
    >>> y
    array([[[2., 0., 0., 0.],
            [2., 0., 0., 0.]]], dtype=float32)
    """

    def __init__(self, rate: float = 0.5) -> None:
        self._drops(rate)

    def drop(self, rng: np.random.Generator, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        return self._scaled(rng, x, (len(x), *[1] * (x.ndim - 2), x.shape[-1]))


@layers.register("AlphaDropout")
class AlphaDropout(_Dropping):
    """In training, set each number to what `SELU` makes of minus infinity with probability `rate`, then scale and shift.

    Numbers of mean 0 and variance 1 keep both, as they do through `SELU`. Evaluation returns its input itself. Source:
    Klambauer et al., Self-normalizing neural networks, NeurIPS 2017, section 3.

    >>> import numpy as np
    >>> from fastconv.layers import Context
    >>> x = np.random.default_rng(0).standard_normal((1, 10000))
    >>> y, backward = AlphaDropout(0.2).forward(Context(training=True, rng=np.random.default_rng(0)), x)
    >>> bool(abs(y.mean()) < 0.05), bool(abs(y.std() - 1) < 0.05)
    (True, True)
    """

    takes_numbers = True

    def __init__(self, rate: float = 0.5) -> None:
        self._drops(rate)

    def drop(self, rng: np.random.Generator, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        lowest = -1.0507009873554805 * 1.6732632423543772
        scale = 1 / math.sqrt((1 - self.rate) * (1 + self.rate * lowest**2))
        stays = rng.random(x.shape) >= self.rate
        factor = stays.astype(x.dtype) * x.dtype.type(scale)
        shift = np.where(stays, -scale * self.rate * lowest, scale * (1 - self.rate) * lowest).astype(x.dtype)
        return x * factor + shift, lambda dy: (dy * factor, {})


@layers.register("FixedDropout")
class FixedDropout(Layer):
    """Always set the same numbers of each sample to 0, those that `seed` draws, and divide the others by ``1 - rate``.

    What a graph does that drops numbers outside of training too; `Dropout` is what networks are trained with.

    >>> import numpy as np
    >>> FixedDropout(0.5, 1)(np.ones((1, 6), np.float32))
    array([[0., 2., 0., 0., 0., 0.]], dtype=float32)
    """

    traits = Traits(linear=True)

    def __init__(self, rate: float = 0.5, seed: int = 0) -> None:
        self.rate = number(rate, "rate", low=0.0, high=1.0)
        self.seed = integer(seed, "seed", "an integer")
        if self.rate == 1.0 or not 0 <= self.seed < 2**32:
            raise ValueError(f"rate must be below 1 and seed from 0 to 2**32 - 1, got {rate} and {seed}")

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        kept = np.random.RandomState(self.seed).uniform(0, 1, x.shape[1:]) >= self.rate
        factor = (kept / (1 - self.rate)).astype(x.dtype)
        return x * factor, lambda dy: (dy * factor, {})
