"""Hypothesis strategies for pooling: windows of every kind over images whose channels lie around the edges of the vectors."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from problems import EDGES

#: The kernels take one vector at a time, or four: up to 64 numbers, and 128 in one task.
CHANNELS = st.sampled_from([*EDGES, 63, 64, 65, 129])


class Pool(NamedTuple):
    """The shape of x, and how it is pooled; `count_include_pad` is for means only."""

    shape: tuple[int, ...]
    kernel: tuple[int, ...]
    dilation: tuple[int, ...]
    keywords: dict[str, Any]
    count_include_pad: bool

    @property
    def most(self) -> dict[str, Any]:
        """The keywords of `max_pool`."""
        return {**self.keywords, "dilation": self.dilation}

    @property
    def mean(self) -> dict[str, Any]:
        """The keywords of `avg_pool`."""
        return {**self.keywords, "dilation": self.dilation, "count_include_pad": self.count_include_pad}


@st.composite
def pools(draw: st.DrawFn, dilated: bool = False) -> Pool:
    """Draw a pooling whose kernel fits; a dilated one may have windows without a pixel."""
    rank = draw(st.integers(1, 3))
    size, kernel, stride, padding, dilation = [], [], [], [], []
    for _ in range(rank):
        k, d = draw(st.integers(1, 3)), draw(st.integers(1, 3)) if dilated else 1
        span = (k - 1) * d + 1
        before, after = draw(st.integers(0, span - 1)), draw(st.integers(0, span - 1))
        least = max(1, span - before - after)
        size.append(draw(st.integers(least, least + (6, 4, 2)[rank - 1])))
        kernel.append(k)
        dilation.append(d)
        stride.append(draw(st.integers(1, 3)))
        padding.append((before, after))
    step = draw(st.sampled_from([tuple(stride), stride[0], None]))
    keywords = {"stride": step, "padding": tuple(padding), "ceil_mode": draw(st.booleans())}
    shape = (draw(st.integers(0, 3)), *size, draw(CHANNELS))
    return Pool(shape, tuple(kernel), tuple(dilation), keywords, draw(st.booleans()))


@st.composite
def adaptive_pools(draw: st.DrawFn) -> tuple[tuple[int, ...], Any]:
    """Draw the shape of x and an output size, larger or smaller."""
    rank = draw(st.integers(1, 3))
    size = draw(st.tuples(*[st.integers(1, (9, 5, 3)[rank - 1])] * rank))
    output = draw(st.one_of(st.integers(1, 4), st.tuples(*[st.integers(1, 5)] * rank)))
    return (draw(st.integers(0, 3)), *size, draw(CHANNELS)), output


def with_nan(x: np.ndarray, seed: int, share: float = 0.1) -> np.ndarray:
    """Return a copy of x in which a share of the numbers is NaN."""
    return np.where(np.random.default_rng(seed).random(x.shape) < share, np.nan, x).astype(x.dtype)


def spread(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Return distinct values in random order, far enough apart for finite differences."""
    return np.random.default_rng(seed).permutation(int(np.prod(shape))).astype(np.float64).reshape(shape)
