"""Shape arithmetic against plain enumeration: which input each output reads, and what is refused."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fastconv import geometry

SIZES, SMALL, PADDING = st.integers(1, 20), st.integers(1, 5), st.integers(0, 6)


def windows(size, kernel, stride, padding, dilation):
    """Return the inputs of each output that fits in the padded axis, in order, counted from the first pixel."""
    before, after = padding
    result = []
    start = -before
    while start + (kernel - 1) * dilation < size + after:
        result.append([start + tap * dilation for tap in range(kernel)])
        start += stride
    return result


@given(size=SIZES, kernel=SMALL, stride=SMALL, padding=st.tuples(PADDING, PADDING), dilation=SMALL)
def test_output_counts_the_windows_that_fit(size, kernel, stride, padding, dilation):
    arguments = ((size,), (kernel,), (stride,), (padding,), (dilation,))
    want = len(windows(size, kernel, stride, padding, dilation))
    if want:
        assert geometry.conv_output(*arguments) == (want,)
    else:
        with pytest.raises(ValueError, match="the kernel is larger than the padded input along spatial axis 0"):
            geometry.conv_output(*arguments)


@given(size=SIZES, kernel=SMALL, stride=SMALL, dilation=SMALL)
def test_same_padding_gives_an_output_for_each_stride(size, kernel, stride, dilation):
    ((before, after),) = geometry.padding_pairs("same", (size,), (kernel,), (stride,), (dilation,))
    assert 0 <= before <= after <= before + 1
    out = geometry.conv_output((size,), (kernel,), (stride,), ((before, after),), (dilation,))
    assert out == (math.ceil(size / stride),)
    if after:  # and not one zero more than that takes
        assert (out[0] - 1) * stride + geometry.effective_kernel(kernel, dilation) == size + before + after


@given(size=SIZES, kernel=SMALL, stride=SMALL, padding=st.tuples(PADDING, PADDING), dilation=SMALL)
def test_the_forward_axis_reads_the_windows(size, kernel, stride, padding, dilation):
    want = windows(size, kernel, stride, padding, dilation)
    assume(want)
    axis = geometry.forward_axis(size, len(want), kernel, stride, padding[0], dilation)
    assert axis.size == size
    got = [[i * axis.stride + axis.origin + t * axis.dilation for t in range(axis.taps)] for i in range(axis.rows)]
    assert got == want
    assert [axis.tap_first + t * axis.tap_step for t in range(axis.taps)] == list(range(kernel))
    assert [axis.out_first + i * axis.out_step for i in range(axis.rows)] == list(range(len(want)))


@given(size=SIZES, kernel=SMALL, stride=SMALL, padding=st.tuples(PADDING, PADDING), dilation=SMALL)
def test_the_adjoint_axes_hold_each_pair_once(size, kernel, stride, padding, dilation):
    outputs = windows(size, kernel, stride, padding, dilation)
    assume(outputs)
    want = {(p, r, h) for p, window in enumerate(outputs) for r, h in enumerate(window) if 0 <= h < size}
    axes = geometry.adjoint_axes(size, len(outputs), kernel, stride, padding[0], dilation)
    got, pixels = [], []
    for axis in axes:
        assert axis.size == len(outputs)
        for i in range(axis.rows):
            h = axis.out_first + i * axis.out_step
            pixels.append(h)
            for t in range(axis.taps):
                p, r = i * axis.stride + axis.origin + t * axis.dilation, axis.tap_first + t * axis.tap_step
                assert 0 <= r < kernel
                if 0 <= p < len(outputs):
                    got.append((p, r, h))
    assert len(pixels) == len(set(pixels))  # a pixel is written once, by one phase
    assert {h for _, _, h in want} <= set(pixels) <= set(range(size))
    assert all(axis.taps for axis in axes)
    assert len(got) == len(set(got))
    assert set(got) == want


def test_there_are_no_more_phases_than_taps_however_large_the_stride():
    axes = geometry.adjoint_axes(10**12, 2, 3, 10**11, 1, 1)
    assert [(axis.taps, axis.out_first) for axis in axes] == [(1, 0), (1, 1), (1, 10**11 - 1)]


def test_phases_of_a_large_stride_take_no_quadratic_time():
    axes = geometry.adjoint_axes(20_000, 1, 20_000, 20_000, 0, 1)
    assert len(axes) == 20_000
    assert all(axis.taps == 1 for axis in axes)


@given(
    size=SIZES, kernel=SMALL, stride=SMALL, dilation=SMALL, padding=st.tuples(PADDING, PADDING), extra=st.integers(0, 4)
)
def test_a_transposed_convolution_undoes_the_shape_of_a_convolution(size, kernel, stride, dilation, padding, extra):
    assume(extra < stride)
    arguments = ((kernel,), (stride,), (padding,), (dilation,))
    before_padding = (size - 1) * stride + geometry.effective_kernel(kernel, dilation) + extra
    assume(before_padding > sum(padding))
    (larger,) = geometry.conv_transpose_output((size,), *arguments, (extra,))
    assert larger == before_padding - sum(padding)
    assert geometry.conv_output((larger,), *arguments) == (size,)


@given(size=SIZES, kernel=SMALL, stride=SMALL, dilation=SMALL, extra=st.integers(0, 4))
def test_same_padding_of_a_transposed_convolution_multiplies_by_the_stride(size, kernel, stride, dilation, extra):
    assume(extra < max(stride, dilation))
    arguments = ((kernel,), (stride,), (dilation,), (extra,))
    if geometry.effective_kernel(kernel, dilation) + extra < stride:
        with pytest.raises(ValueError, match='padding "same" needs a kernel that spans the stride'):
            geometry.conv_transpose_padding("same", *arguments)
        return
    pairs = geometry.conv_transpose_padding("same", *arguments)
    out = geometry.conv_transpose_output((size,), (kernel,), (stride,), pairs, (dilation,), (extra,))
    assert out == (size * stride,)


@given(
    size=SIZES, kernel=SMALL, stride=SMALL, dilation=SMALL, padding=st.tuples(PADDING, PADDING),
    ceil_mode=st.booleans(), count_pad=st.booleans(),
)  # fmt: skip
def test_pool_windows_hold_the_pixels_that_exist(size, kernel, stride, dilation, padding, ceil_mode, count_pad):
    span = geometry.effective_kernel(kernel, dilation)
    assume(max(padding) < span <= size + sum(padding))
    got = geometry.pool_axis(size, kernel, stride, padding, dilation, ceil_mode, count_pad).windows()
    want = windows(size, kernel, stride, padding, dilation)
    start = len(want) * stride - padding[0]
    if ceil_mode and want[-1][-1] < size + padding[1] - 1 and start < size:  # one more window hangs over the end
        want.append([start + tap * dilation for tap in range(kernel)])
    pixels = [[h for h in window if 0 <= h < size] for window in want]
    for window, first, taps in zip(pixels, got.first, got.taps, strict=True):
        assert [first + t * got.step for t in range(taps)] == window
    counted = [[h for h in window if h < size + padding[1]] for window in want] if count_pad else pixels
    assert got.counts.tolist() == [max(len(window), 1) for window in counted]


@given(size=SIZES, out=SIZES)
def test_adaptive_windows_cover_the_image(size, out):
    got = geometry.adaptive_axis(size, out).windows()
    ends = got.first + got.taps
    assert got.first[0] == 0
    assert ends[-1] == size
    assert got.first.tolist() == [math.floor(i * size / out) for i in range(out)]
    assert ends.tolist() == [math.ceil((i + 1) * size / out) for i in range(out)]
    assert (got.first[1:] <= ends[:-1]).all()  # no pixel between two windows is lost


@given(layers=st.lists(st.tuples(SMALL, SMALL, SMALL), min_size=1, max_size=4))
def test_the_receptive_field_is_what_an_output_reaches(layers):
    field = geometry.ReceptiveField()
    for kernel, stride, dilation in layers:
        field = field.then(kernel, stride, dilation)
    reached = [{0}, {1}]  # the first two outputs, followed back to the input
    for kernel, stride, dilation in reversed(layers):
        reached = [{p * stride + r * dilation for p in pixels for r in range(kernel)} for pixels in reached]
    first, second = reached
    assert max(first) - min(first) + 1 == field.size
    assert min(second) - min(first) == field.jump


def test_paddings_of_a_pooling_stay_below_the_kernel():
    with pytest.raises(
        ValueError, match=r"padding must be smaller than the kernel's span, got \(0, 2\) with kernel 2 .*axis 1"
    ):
        geometry.pool_output((5, 5), (2, 2), (1, 1), ((0, 0), (0, 2)), (1, 1))
