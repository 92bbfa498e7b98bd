"""Dropout, of numbers and of whole samples."""

from __future__ import annotations

import numpy as np

from fastconv.functional._dropout import dropped
from fastconv.geometry import integer
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


@layers.register("Dropout")
class Dropout(_Dropping):
    """In training, set each number to 0 with probability `rate` and divide the others by ``1 - rate``.

    The expected value stays what it was, so evaluation does nothing: it returns its input itself. A key from ``ctx.rng`` says
    which are set to 0: the way back needs no mask. Source: Srivastava et al., Dropout, JMLR 2014, section 10.

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

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        require_floats(x)
        if not ctx.training or self.rate == 0.0:
            return x, lambda dy: (dy, {})
        key = int(ctx.rng.integers(2**63))  # all that the way back keeps
        return dropped(x, self.rate, key), lambda dy: (dropped(dy, self.rate, key), {})


@layers.register("StochasticDepth")
class StochasticDepth(_Dropping):
    """In training, set all numbers of a sample to 0 with probability `rate` and divide the others by ``1 - rate``.

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

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        require_floats(x)
        if not ctx.training or self.rate == 0.0:
            return x, lambda dy: (dy, {})
        stays = ctx.rng.random((len(x), *[1] * (x.ndim - 1))) >= self.rate
        factor = stays.astype(x.dtype) / x.dtype.type(1 - self.rate)
        return x * factor, lambda dy: (dy * factor, {})


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
