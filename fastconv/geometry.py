"""All shape arithmetic, for any spatial rank: padding, output sizes, windows, receptive fields.

A convolution along one spatial axis is fixed by five numbers: the input's ``size``, the ``kernel`` (how many taps),
``stride``, ``dilation`` and the pair ``(before, after)`` of padding. Output ``p`` reads the inputs
``p * stride - before + r * dilation`` for the taps ``r = 0 .. kernel - 1``; what lies outside ``0 .. size - 1`` is zero.
Axes are independent of each other, so everything here is written for one axis and mapped over the axes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fastconv.arguments import ntuple

Pairs = tuple[tuple[int, int], ...]


def effective_kernel(kernel: int, dilation: int) -> int:
    """Return how many inputs a dilated kernel spans: ``(kernel - 1) * dilation + 1``.

    >>> effective_kernel(3, 2)
    5
    """
    return (kernel - 1) * dilation + 1


def padding_pairs(
    padding: Any, size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> Pairs:
    """Return `padding` as one pair ``(before, after)`` for each axis of `size`.

    `padding` is an integer, one for each axis, a pair for each axis, ``"valid"`` (none) or ``"same"``: the output then
    has ``ceil(size / stride)`` elements, and where the total is odd the extra zero comes after, as in TensorFlow.

    >>> padding_pairs(1, (8, 8), (3, 3), (1, 1), (1, 1))
    ((1, 1), (1, 1))
    >>> padding_pairs("same", (8,), (3,), (2,), (1,))
    ((0, 1),)
    >>> padding_pairs(((0, 2), (1, 1)), (8, 8), (3, 3), (1, 1), (1, 1))
    ((0, 2), (1, 1))
    """
    rank = len(size)
    if isinstance(padding, str):
        if padding == "valid":
            return ((0, 0),) * rank
        if padding == "same":
            return tuple(
                _same_pair(n, effective_kernel(k, d), s)
                for n, k, s, d in zip(size, kernel, stride, dilation, strict=True)
            )
        raise ValueError(f'padding must be an integer, a tuple, "same" or "valid", got {padding!r}')
    pairs = [item for item in padding if isinstance(item, (tuple, list))] if isinstance(padding, (tuple, list)) else []
    if pairs:
        if not len(pairs) == len(padding) == rank or {2} != set(map(len, pairs)):
            raise ValueError(f"padding must be {rank} pairs (before, after), got {padding!r}")
        checked: list[Any] = [ntuple(pair, 2, "padding", minimum=0) for pair in pairs]
        return tuple(checked)
    return tuple((item, item) for item in ntuple(padding, rank, "padding", minimum=0))


def _same_pair(size: int, span: int, stride: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + span - size, 0)
    return total // 2, total - total // 2


def conv_output(
    size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Pairs, dilation: Sequence[int]
) -> tuple[int, ...]:
    """Return the output's spatial shape: ``(size + before + after - span) // stride + 1`` for each axis.

    Raises `ValueError` where the kernel spans more than the padded input.

    >>> conv_output((32, 28), (3, 3), (2, 1), ((1, 1), (1, 1)), (1, 1))
    (16, 28)
    """
    result = []
    for axis, (n, k, s, (before, after), d) in enumerate(zip(size, kernel, stride, padding, dilation, strict=True)):
        span, padded = effective_kernel(k, d), n + before + after
        if span > padded:
            raise ValueError(
                f"the kernel is larger than the padded input along spatial axis {axis}: "
                f"kernel {k} with dilation {d} spans {span}, the input has {n} and padding ({before}, {after})"
            )
        result.append((padded - span) // s + 1)
    return tuple(result)


def conv_transpose_padding(
    padding: Any, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], output_padding: Sequence[int]
) -> Pairs:
    """Return the padding of the convolution whose adjoint a transposed convolution is, a pair for each axis.

    ``"same"`` makes the output ``size * stride`` long; it asks for a kernel that spans at least the stride.

    >>> conv_transpose_padding("same", (4,), (2,), (1,), (0,))
    ((1, 1),)
    """
    if padding != "same":
        return padding_pairs(padding, kernel, kernel, stride, dilation)
    pairs = []
    for k, s, d, extra in zip(kernel, stride, dilation, output_padding, strict=True):
        total = effective_kernel(k, d) + extra - s
        if total < 0:
            raise ValueError(
                f'padding "same" needs a kernel that spans the stride: kernel {k} with dilation {d}, '
                f"output_padding {extra} and stride {s}"
            )
        pairs.append((total // 2, total - total // 2))
    return tuple(pairs)


def conv_transpose_output(
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Pairs,
    dilation: Sequence[int],
    output_padding: Sequence[int],
) -> tuple[int, ...]:
    """Return a transposed convolution's spatial shape: ``(size - 1) * stride - before - after + span + output_padding``.

    Raises `ValueError` where that is less than 1, or where an output padding is not smaller than the stride.

    >>> conv_transpose_output((8,), (3,), (2,), ((1, 1),), (1,), (1,))
    (16,)
    """
    result = []
    for axis, (n, k, s, (before, after), d, extra) in enumerate(
        zip(size, kernel, stride, padding, dilation, output_padding, strict=True)
    ):
        if extra >= max(s, d):
            raise ValueError(
                f"output_padding must be smaller than stride or dilation, got {extra} with stride {s} "
                f"and dilation {d} along spatial axis {axis}"
            )
        out = (n - 1) * s - before - after + effective_kernel(k, d) + extra
        if out < 1:
            raise ValueError(
                f"padding ({before}, {after}) leaves no output along spatial axis {axis}: "
                f"input {n}, kernel {k}, stride {s}, dilation {d}"
            )
        result.append(out)
    return tuple(result)


def pool_output(
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Pairs,
    dilation: Sequence[int],
    ceil_mode: bool = False,
) -> tuple[int, ...]:
    """Return a pooling's spatial shape; with `ceil_mode` a last window may hang over the end, but not begin there.

    Raises `ValueError` where the kernel spans more than the padded input, or where padding is not smaller than it.

    >>> pool_output((5,), (2,), (2,), ((0, 0),), (1,)), pool_output((5,), (2,), (2,), ((0, 0),), (1,), True)
    ((2,), (3,))
    """
    for axis, (k, d, pair) in enumerate(zip(kernel, dilation, padding, strict=True)):
        if max(pair) >= effective_kernel(k, d):
            raise ValueError(
                f"padding must be smaller than the kernel's span, got {pair} with kernel {k} and dilation {d} "
                f"along spatial axis {axis}"
            )
    floor = conv_output(size, kernel, stride, padding, dilation)
    if not ceil_mode:
        return floor
    result = []
    for out, n, k, s, (before, after), d in zip(floor, size, kernel, stride, padding, dilation, strict=True):
        rest = (n + before + after - effective_kernel(k, d)) % s
        result.append(out + 1 if rest and out * s < n + before else out)
    return tuple(result)


class Windows(NamedTuple):
    """The pooling windows along one axis, one by one: window ``i`` reads ``first[i] + t * step`` for ``t < taps[i]``.

    Only inputs that exist are in a window; `counts[i]` is what the average divides by along this axis.
    """

    first: np.ndarray
    taps: np.ndarray
    counts: np.ndarray
    step: int


class PoolAxis(NamedTuple):
    """The pooling windows along one axis in nine integers, as the kernels take them.

    Window ``i < out`` has its taps at ``(i * stride + begin) // parts`` and every `step` inputs from there, as far as
    before ``(i * stride + end) // parts``. It reads the taps in ``0 .. size - 1``; the average divides by how many are in
    ``counted_from .. counted_to - 1``, at least by one.
    """

    size: int
    out: int
    stride: int
    parts: int
    begin: int
    end: int
    step: int
    counted_from: int
    counted_to: int

    @property
    def window_taps(self) -> int:
        """The most taps of a window, those outside too."""
        return -(-(self.end - self.begin) // (self.parts * self.step))

    @property
    def most_taps(self) -> int:
        """At least as many as any window reads."""
        return min(self.size, self.window_taps)

    def windows(self) -> Windows:
        """Return the windows one by one (all arrays int64).

        >>> w = pool_axis(5, 3, 2, (1, 1)).windows()
        >>> w.first.tolist(), w.taps.tolist(), w.counts.tolist()
        ([0, 1, 3], [2, 3, 2], [2, 3, 2])
        """
        i = np.arange(self.out, dtype=np.int64)
        begin, end = ((i * self.stride + offset) // self.parts for offset in (self.begin, self.end))

        def taps_before(place: int) -> np.ndarray:
            return np.maximum(-((begin - np.minimum(end, place)) // self.step), 0)

        skipped = taps_before(0)
        taps = taps_before(self.size) - skipped
        first = np.where(taps > 0, begin + skipped * self.step, 0)
        counts = np.maximum(taps_before(self.counted_to) - taps_before(self.counted_from), 1)
        return Windows(first, taps, counts, self.step)


def pool_axis(
    size: int,
    kernel: int,
    stride: int,
    padding: tuple[int, int],
    dilation: int = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = False,
) -> PoolAxis:
    """Return the windows of a pooling along one axis of `size` inputs."""
    before, after = padding
    (out,) = pool_output((size,), (kernel,), (stride,), (padding,), (dilation,), ceil_mode)
    end = effective_kernel(kernel, dilation) - before
    counted = (-before, size + after) if count_include_pad else (0, size)
    return PoolAxis(size, out, stride, 1, -before, end, dilation, *counted)


def adaptive_axis(size: int, out: int) -> PoolAxis:
    """Return `out` windows that cover `size` inputs: ``floor(i * size / out)`` to ``ceil((i + 1) * size / out)``.

    >>> w = adaptive_axis(5, 2).windows()
    >>> w.first.tolist(), w.taps.tolist()
    ([0, 2], [3, 3])
    """
    common = math.gcd(size, out)
    stride, parts = size // common, out // common
    return PoolAxis(size, out, stride, parts, 0, stride + parts - 1, 1, 0, size)


class Axis(NamedTuple):
    """One axis of a windowed product, as the convolution kernels take it.

    Product row ``i < rows`` reads inputs ``i * stride + origin + t * dilation`` with weight tap
    ``tap_first + t * tap_step`` for ``t < taps``, and writes output ``out_first + i * out_step``.
    """

    size: int
    rows: int
    taps: int
    stride: int
    origin: int
    dilation: int
    tap_first: int
    tap_step: int
    out_first: int
    out_step: int


def records(axes: Sequence[Axis]) -> np.ndarray:
    """Return axes as the kernels take them: int64, (len(axes), 10)."""
    return np.array(axes, np.int64).reshape(-1, len(Axis._fields))


def forward_axis(size: int, out: int, kernel: int, stride: int, before: int, dilation: int) -> Axis:
    """Return the axis of a convolution: every output, every tap."""
    return Axis(size, out, kernel, stride, -before, dilation, 0, 1, 0, 1)


def share_inside(size: int, out: int, kernel: int, stride: int, before: int, dilation: int) -> float:
    """Return the share of the taps of all windows along one axis that see the input, not its padding.

    >>> share_inside(5, 5, 3, 1, 1, 1) == 13 / 15
    True
    """
    first = [tap * dilation - before for tap in range(kernel)]
    seen = sum(max(min(out, -(-(size - at) // stride)) - max(-(at // stride), 0), 0) for at in first)
    return seen / max(out * kernel, 1)


def adjoint_axes(size: int, out: int, kernel: int, stride: int, before: int, dilation: int) -> tuple[Axis, ...]:
    """Return the adjoint of a convolution along one axis as dense products, one for each phase of the stride.

    The convolution reads `size` inputs and writes `out` outputs; its adjoint reads the `out` and writes the `size`.
    Input ``h`` gets ``sum_r dy[p] * weight[r]`` over the taps with ``p * stride = h + before - r * dilation``. All the
    ``h`` with the same ``(h + before) % stride`` use the same taps, so each phase is a convolution with stride 1.
    Phases that no tap reaches are left out: their inputs get nothing.

    >>> [axis.taps for axis in adjoint_axes(8, 4, 3, 2, 1, 1)]
    [1, 2]
    """
    common = math.gcd(stride, dilation)
    step = stride // common
    axes = []
    for first, low in sorted(((r * dilation - before) % stride, r) for r in range(min(kernel, step))):
        if first >= size:
            break
        # the taps of this phase run from `low` in steps of stride / common; p falls by dilation / common at each
        many = len(range(low, kernel, step))
        last = low + (many - 1) * step
        origin = (first + before - last * dilation) // stride
        rows = len(range(first, size, stride))
        axes.append(Axis(out, rows, many, 1, origin, dilation // common, last, -step, first, stride))
    return tuple(axes)


class ReceptiveField(NamedTuple):
    """What one output sees along one axis: `size` inputs; neighboring outputs see windows `jump` inputs apart."""

    size: int = 1
    jump: int = 1

    def then(self, kernel: int, stride: int, dilation: int = 1) -> ReceptiveField:
        """Return the field of a window over outputs that have this field (Araujo et al. 2019, Distill).

        >>> ReceptiveField().then(3, 2).then(3, 1)
        ReceptiveField(size=7, jump=2)
        """
        return ReceptiveField(self.size + (effective_kernel(kernel, dilation) - 1) * self.jump, self.jump * stride)
