"""Convolutions of one tap with few channels on one side: around whole vectors, tasks, what is not finite, same bits."""

from __future__ import annotations

import numpy as np
import pytest
from convolutions import assert_product_exact, assert_same_on_any_threads
from exact import several
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import DTYPES, SEEDS

from fastconv import functional, reference


@settings(max_examples=60)
@given(
    size=st.sampled_from([(1, 1), (3, 5), (17, 16), (2, 3, 7), (9,), (300,), (31, 70)]),
    stride=st.sampled_from([1, 1, 2]),
    padding=st.sampled_from([0, 0, 1]),
    few=st.integers(1, 9),
    many=st.sampled_from([2, 8, 15, 16, 17, 31, 32, 33, 70, 300]),
    to_few=st.booleans(),
    dtype=DTYPES,
    seed=SEEDS,
)
def test_equals_the_reference(isa, threads, size, stride, padding, few, many, to_few, dtype, seed):
    channels, outputs = (many, few) if to_few else (few, many)
    shapes = [(2, *size, channels), (*(1,) * len(size), channels, outputs), (outputs,)]
    assert_product_exact(*several(shapes, dtype, seed), seed, stride=stride, padding=padding)


@settings(max_examples=60)
@given(
    batch=st.integers(1, 3),
    size=st.sampled_from([(1, 1), (3, 5), (17, 16), (2, 3, 7), (300,), (31, 70)]),
    channels=st.sampled_from([4, 8, 9, 12, 16, 23, 24, 40, 58]),
    outputs=st.sampled_from([5, 8, 11, 16, 20, 38, 64]),
    dtype=DTYPES,
    seed=SEEDS,
)
def test_few_on_both_sides_equal_the_reference(isa, threads, batch, size, channels, outputs, dtype, seed):
    shapes = [(batch, *size, channels), (*(1,) * len(size), channels, outputs), (outputs,)]
    assert_product_exact(*several(shapes, dtype, seed), seed)


@pytest.mark.parametrize(("channels", "outputs"), [(97, 1), (96, 3), (80, 7), (2, 160), (58, 24), (64, 17)])
def test_arrays_beyond_the_near_caches(isa, threads, channels, outputs):
    assert_product_exact(*several([(2, 60, 71, channels), (1, 1, channels, outputs), (outputs,)], np.float32, 0))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(("channels", "outputs"), [(20, 3), (33, 8), (64, 1), (3, 20), (12, 20)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_not_finite_stays_with_its_pixel(isa, value, channels, outputs, dtype):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 7, 3, channels)).astype(dtype)
    weight = rng.standard_normal((1, 1, channels, outputs)).astype(dtype)
    for channel in (0, channels - 1):
        x_, dy = x.copy(), rng.standard_normal((2, 7, 3, outputs)).astype(dtype)
        x_[1, 2, 1, channel] = value
        dy[1, 6, 2, outputs - 1] = value
        with np.errstate(invalid="ignore"):
            want = reference.conv(x_, weight), *reference.conv_backward(dy, x_, weight)
        results = functional.conv(x_, weight), *functional.conv_backward(dy, x_, weight)
        for got, array in zip(results, want, strict=True):
            np.testing.assert_array_equal(np.isfinite(got), np.isfinite(array))


@pytest.mark.parametrize(("channels", "outputs"), [(40, 1), (40, 3), (40, 7), (3, 40), (20, 24)])
def test_the_bits_are_those_of_one_thread_and_of_one_image(isa, channels, outputs):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 61, 30, channels)).astype(np.float32)
    weight = rng.standard_normal((1, 1, channels, outputs)).astype(np.float32)
    bias = rng.standard_normal(outputs).astype(np.float32)
    assert_same_on_any_threads(x, weight, bias)
    np.testing.assert_array_equal(functional.conv(x, weight, bias)[2:], functional.conv(x[2:], weight, bias))
    for rows in (1, 5, 17):
        some = functional.linear(x[0, 0, :rows], weight[0, 0], bias)
        np.testing.assert_array_equal(some, functional.conv(x, weight, bias)[0, 0, :rows])
