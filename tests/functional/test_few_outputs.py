"""Convolutions of many channels to few, scattered or across channels: around whole vectors, in much padding, not finite."""

from __future__ import annotations

import numpy as np
import pytest
from convolutions import assert_product_exact, assert_same_on_any_threads
from exact import several
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import DTYPES, SEEDS

from fastconv import functional, reference


@settings(max_examples=30)
@given(
    size=st.sampled_from([(28, 26), (6, 5), (3, 61), (1, 16), (9, 70), (2, 3, 17), (3, 25, 9), (120,)]),
    kernel=st.sampled_from([2, 3, 5]),
    dilation=st.sampled_from([1, 1, 2]),
    padding=st.sampled_from([0, 1, 4, 9]),
    channels=st.sampled_from([16, 17, 33, 40]),
    outputs=st.integers(1, 9),
    dtype=DTYPES,
    seed=SEEDS,
)
def test_equals_the_reference(isa, threads, size, kernel, dilation, padding, channels, outputs, dtype, seed):
    if min(size) + 2 * padding <= dilation * (kernel - 1):
        padding = 9
    if len(size) == 3:  # a window has more pixels already
        kernel, padding = min(kernel, 3), min(padding, 4)
    dilation = (dilation,) * (len(size) - 1) + (1,)
    x, weight, bias = several(
        [(2, *size, channels), (*(kernel,) * len(size), channels, outputs), (outputs,)], dtype, seed
    )
    assert_product_exact(x, weight, bias, seed, padding=padding, dilation=dilation)


@settings(max_examples=30)
@given(
    size=st.sampled_from([(13, 11), (3, 61), (9, 70), (4, 5, 17), (190,)]),
    kernel=st.integers(1, 3),
    keywords=st.fixed_dictionaries(
        {"stride": st.integers(1, 3), "dilation": st.sampled_from([1, 2]), "padding": st.sampled_from([1, 2, 4])}
    ),
    channels=st.sampled_from([16, 17, 33, 40, 100]),
    outputs=st.integers(1, 13),
    dtype=DTYPES,
    seed=SEEDS,
)
def test_strides_and_dilations(isa, threads, size, kernel, keywords, channels, outputs, dtype, seed):
    x, weight, bias = several(
        [(2, *size, channels), (*(kernel,) * len(size), channels, outputs), (outputs,)], dtype, seed
    )
    assert_product_exact(x, weight, bias, seed, **keywords)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [5, 6, 8, 10, 16])
@pytest.mark.parametrize("size", [(14, 14), (40, 11), (15, 80)])
def test_adjoints_to_channels_that_fill_most_of_a_vector(isa, threads, size, channels, stride):
    x, weight, bias = several([(2, *size, channels), (5, 5, channels, 16), (16,)], np.float32, channels)
    assert_product_exact(x, weight, bias, stride=stride)


def test_many_channels_in_parts(isa, threads):
    x, weight, bias = several([(1, 12, 60, 700), (3, 3, 700, 3), (3,)], np.float32, 0)
    assert_product_exact(x, weight, bias, padding=1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(("channels", "outputs"), [(20, 1), (20, 3), (20, 8), (32, 1), (32, 3)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_not_finite_stays_with_the_windows_that_see_it(isa, value, channels, outputs, dtype):
    rng = np.random.default_rng(0)
    x, weight = (
        rng.standard_normal((2, 9, 21, channels)).astype(dtype),
        rng.standard_normal((3, 3, channels, outputs)).astype(dtype),
    )
    x[1, 4, 10, 7] = value
    y = functional.conv(x, weight, padding=1, algorithm="product")
    with np.errstate(invalid="ignore"):
        want = reference.conv(x, weight, padding=1)
    np.testing.assert_array_equal(np.isfinite(y), np.isfinite(want))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("channels", [20, 32])
@pytest.mark.parametrize("where", [(0, 0, 0, 0), (2, 2, -1, 2)])
def test_a_weight_that_is_not_finite_makes_nan_of_the_padding(isa, value, channels, where):
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((1, 6, 7, channels)), rng.standard_normal((3, 3, channels, 3))
    weight[where] = value
    with np.errstate(invalid="ignore"):
        want = reference.conv(x, weight, padding=1)
    assert np.isnan(want).any()
    y = functional.conv(x, weight, padding=1, algorithm="product")
    np.testing.assert_array_equal(np.isnan(y), np.isnan(want))
    np.testing.assert_array_equal(np.isfinite(y), np.isfinite(want))


@pytest.mark.parametrize("channel", [0, 1, 9, 16])
@pytest.mark.parametrize(("kernel", "groups", "outputs"), [(1, 1, 1), (1, 2, 1), (2, 1, 2), (2, 3, 1), (3, 1, 4)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_infinite_weight_meets_no_zeros_where_there_is_no_padding(isa, channel, kernel, groups, outputs, dtype):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 7, 6, 17 * groups)).astype(dtype)
    weight = rng.standard_normal((kernel, kernel, 17, outputs * groups)).astype(dtype)
    weight[-1, -1, channel, -1] = np.inf
    want = reference.conv(x, weight, groups=groups)
    assert np.isinf(want).any() and not np.isnan(want).any()
    y = functional.conv(x, weight, groups=groups, algorithm="product")
    np.testing.assert_array_equal(np.where(np.isinf(y), y, 0), np.where(np.isinf(want), want, 0))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("padding", [0, 1, 5])
def test_gradients_of_the_weight_meet_the_padding_of_x_alone(isa, value, padding):
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((2, 30, 31, 20)), rng.standard_normal((5, 3, 20, 3))
    y = functional.conv(x, weight, padding=padding)
    for array, where in (
        (x, (0, 0, 0, 0)),
        (x, (1, 29, 30, 19)),
        (y, (0, 0, 0, 0)),
        (y, (1, 12, 9, 2)),
        (y, (-1,) * 4),
    ):
        kept, array[where] = array[where], value
        with np.errstate(invalid="ignore"):
            _, want, _ = reference.conv_backward(y, x, weight, padding=padding)
        _, got, _ = functional.conv_backward(y, x, weight, padding=padding, wrt=("weight",), algorithm="product")
        np.testing.assert_array_equal(np.isfinite(got), np.isfinite(want))
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
        array[where] = kept


def test_the_bits_are_those_of_one_thread(isa):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 60, 61, 32)).astype(np.float32)
    weight = rng.standard_normal((5, 5, 32, 3)).astype(np.float32)
    bias = rng.standard_normal(3).astype(np.float32)
    assert_same_on_any_threads(x, weight, bias, padding=2, algorithm="product")
    alone = functional.conv(x[1:], weight, bias, padding=2, algorithm="product")
    np.testing.assert_array_equal(functional.conv(x, weight, bias, padding=2, algorithm="product")[1:], alone)
