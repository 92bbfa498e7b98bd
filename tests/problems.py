"""Hypothesis strategies for convolution problems: shapes and keywords whose sizes lie around the edges of the register tile."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from fastconv import _kernels

DTYPES = st.sampled_from([np.float32, np.float64])
SEEDS = st.integers(0, 1000)


def _edges() -> list[int]:
    """Return the sizes at, just below and just above each tile's rows and quarters of its columns; primes, and 1."""
    sizes = {1, 2, 3, 5, 7}
    for isa in _kernels.usable_isas():
        for module in _kernels.load(isa).values():
            rows, columns = module.describe()["tile"]
            sizes |= {
                size + near for size in (rows, *range(columns // 4, columns + 1, columns // 4)) for near in (-1, 0, 1)
            }
    return sorted(sizes - {0})


EDGES = _edges()


class Problem(NamedTuple):
    """The shapes of a convolution's arrays, and its keywords."""

    x: tuple[int, ...]
    weight: tuple[int, ...]
    keywords: dict[str, Any]

    @property
    def bias(self) -> tuple[int, ...]:
        """The shape of a bias of the convolution."""
        return self.weight[-1:]


class _AxisProblem(NamedTuple):
    size: int
    kernel: int
    stride: int
    dilation: int
    padding: tuple[int, int]


@st.composite
def _axis(draw: st.DrawFn, outputs: list[int], most_dilation: int = 3) -> _AxisProblem:
    """Draw an axis from its output: the kernel always fits, and up to stride - 1 pixels are left over."""
    kernel, stride = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    dilation = draw(st.integers(1, most_dilation))
    before = draw(st.integers(0, 3))
    padding = (before, before if draw(st.booleans()) else draw(st.integers(0, 3)))
    out, rest = draw(st.sampled_from(outputs)), draw(st.integers(0, stride - 1))
    size = (out - 1) * stride + (kernel - 1) * dilation + 1 + rest - sum(padding)
    return _AxisProblem(max(size, 1), kernel, stride, dilation, padding)


#: Outputs along each axis: the rows of a product are all of them together, times the batch.
_OUTPUTS = {1: [1, 2, 3, 5, 6, 7, 13, 14, 15, 17], 2: [1, 2, 3, 4, 5, 7], 3: [1, 2, 3]}


def _axes(draw: st.DrawFn, rank: int, **keywords: int) -> list[_AxisProblem]:
    return [draw(_axis(_OUTPUTS[rank], **keywords)) for _ in range(rank)]


def _as_written(draw: st.DrawFn, values: tuple[Any, ...]) -> Any:
    """Return `values` as a user may write them: one number where they are all alike, a tuple or a list."""
    if len(set(values)) == 1 and isinstance(values[0], int) and draw(st.booleans()):
        return values[0]
    return draw(st.sampled_from([tuple, list, np.array]))(values)


def _padding(draw: st.DrawFn, axes: list[_AxisProblem]) -> Any:
    pairs = tuple(axis.padding for axis in axes)
    fits = all((axis.kernel - 1) * axis.dilation < axis.size for axis in axes)
    kinds = ["pairs", "same", *(["valid"] if fits else [])]
    if all(before == after for before, after in pairs):
        kinds.append("numbers")
    kind = draw(st.sampled_from(kinds))
    if kind == "pairs":
        return pairs
    return _as_written(draw, tuple(pair[0] for pair in pairs)) if kind == "numbers" else kind


def _channels(draw: st.DrawFn) -> tuple[int, int, int]:
    """Draw (groups, channels of a group, outputs of a group); a depthwise convolution is one of them."""
    kind = draw(st.sampled_from(["one", "one", "groups", "depthwise"]))
    if kind == "depthwise":
        return draw(st.sampled_from(EDGES)), 1, draw(st.sampled_from([1, 1, 2]))
    groups = 1 if kind == "one" else draw(st.integers(2, 3))
    edges = EDGES if kind == "one" else [size for size in EDGES if size < 10]
    return groups, draw(st.sampled_from(edges)), draw(st.sampled_from(edges))


@st.composite
def conv_problems(draw: st.DrawFn, rank: int | None = None, smallest_batch: int = 0) -> Problem:
    """Draw the shapes and keywords of a convolution of any rank."""
    rank = draw(st.integers(1, 3)) if rank is None else rank
    axes = _axes(draw, rank)
    groups, channels, outputs = _channels(draw)
    batch = draw(st.integers(smallest_batch, 3))
    return Problem(
        (batch, *(axis.size for axis in axes), groups * channels),
        (*(axis.kernel for axis in axes), channels, groups * outputs),
        {
            "stride": _as_written(draw, tuple(axis.stride for axis in axes)),
            "dilation": _as_written(draw, tuple(axis.dilation for axis in axes)),
            "padding": _padding(draw, axes),
            "groups": groups,
        },
    )


@st.composite
def conv_transpose_problems(draw: st.DrawFn) -> Problem:
    """Draw the shapes and keywords of a transposed convolution: x is what the convolution in `_axis` gives."""
    rank = draw(st.integers(1, 3))
    sizes, kernel, stride, dilation, padding, extra = [], [], [], [], [], []
    for axis in _axes(draw, rank):
        size = draw(st.sampled_from(_OUTPUTS[rank]))
        more = draw(st.integers(0, max(axis.stride, axis.dilation) - 1))
        whole = (size - 1) * axis.stride + (axis.kernel - 1) * axis.dilation + 1 + more
        sizes.append(size)
        kernel.append(axis.kernel)
        stride.append(axis.stride)
        dilation.append(axis.dilation)
        padding.append(axis.padding if sum(axis.padding) < whole else (0, 0))
        extra.append(more)
    same = all((k - 1) * d + 1 + e >= s for k, d, e, s in zip(kernel, dilation, extra, stride, strict=True))
    groups, channels, outputs = _channels(draw)
    return Problem(
        (draw(st.integers(0, 3)), *sizes, groups * outputs),
        (*kernel, channels, groups * outputs),
        {
            "stride": _as_written(draw, tuple(stride)),
            "dilation": _as_written(draw, tuple(dilation)),
            "padding": "same" if same and draw(st.booleans()) else tuple(padding),
            "output_padding": _as_written(draw, tuple(extra)),
            "groups": groups,
        },
    )


@st.composite
def local_problems(draw: st.DrawFn) -> Problem:
    """Draw the shapes and keywords of a locally connected layer: weight (*output, *kernel, C, O)."""
    rank = draw(st.integers(1, 3))
    axes = _axes(draw, rank, most_dilation=1)
    outputs = tuple((axis.size + sum(axis.padding) - axis.kernel) // axis.stride + 1 for axis in axes)
    edges = [size for size in EDGES if size < 18]
    channels, out = draw(st.sampled_from(edges)), draw(st.sampled_from(edges))
    return Problem(
        (draw(st.integers(0, 3)), *(axis.size for axis in axes), channels),
        (*outputs, *(axis.kernel for axis in axes), channels, out),
        {
            "stride": _as_written(draw, tuple(axis.stride for axis in axes)),
            "padding": tuple(axis.padding for axis in axes),
        },
    )
