"""What layers do with channels by all threads, against NumPy: gates, sums over pixels, arrays side by side."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import DTYPES, EDGES, SEEDS

from fastconv.functional._channels import joined, multiplied, pixel_sums

SHAPES = st.tuples(st.integers(0, 3), *[st.integers(1, 5)] * 2, st.sampled_from(EDGES))


@given(shape=SHAPES, gate=st.sampled_from(["whole", "channels", "samples", "pixels", "row"]), dtype=DTYPES, seed=SEEDS)
def test_products(isa, threads, shape, gate, dtype, seed):
    n, h, w, c = shape
    rng = np.random.default_rng(seed)
    shapes = {
        "whole": shape,
        "channels": (n, 1, 1, c),
        "samples": (n, 1, 1, 1),
        "pixels": (n, h, w, 1),
        "row": (n, 1, w, c),
    }
    x, factor = rng.standard_normal(shape).astype(dtype), rng.standard_normal(shapes[gate]).astype(dtype)
    np.testing.assert_array_equal(multiplied(x, factor), x * factor)
    np.testing.assert_array_equal(multiplied(factor, x), x * factor)


@given(shape=SHAPES, dtype=DTYPES, seed=SEEDS)
def test_sums_over_pixels(isa, threads, shape, dtype, seed):
    x = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    np.testing.assert_allclose(pixel_sums(x), x.sum(axis=(1, 2), keepdims=True), rtol=1e-4, atol=1e-5)


@given(shape=SHAPES, widths=st.lists(st.sampled_from(EDGES), min_size=1, max_size=3), dtype=DTYPES, seed=SEEDS)
def test_side_by_side(isa, threads, shape, widths, dtype, seed):
    rng = np.random.default_rng(seed)
    xs = [rng.standard_normal((*shape[:-1], width)).astype(dtype) for width in widths]
    np.testing.assert_array_equal(joined(xs), np.concatenate(xs, axis=-1))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_where_it_is(isa, value):
    x = np.ones((2, 3, 40), np.float32)
    x[1, 2, 3] = value
    for factor in (np.full_like(x, 2), np.full((2, 1, 40), 2, np.float32)):
        np.testing.assert_array_equal(multiplied(x, factor), x * 2)


def test_what_the_kernels_do_not_take_is_left_to_numpy():
    x = np.arange(24).reshape(1, 4, 6)
    np.testing.assert_array_equal(multiplied(x, x), x * x)
    np.testing.assert_array_equal(joined([x, x]), np.concatenate([x, x], axis=-1))
    np.testing.assert_array_equal(pixel_sums(x), x.sum(axis=1, keepdims=True))
    mixed = multiplied(x.astype(np.float32), x.astype(np.float64))
    assert mixed.dtype == np.float64
    turned = x.astype(np.float32).transpose(0, 2, 1)
    np.testing.assert_array_equal(multiplied(turned, turned), turned * turned)
    np.testing.assert_array_equal(joined([turned, turned]), np.concatenate([turned, turned], axis=-1))
