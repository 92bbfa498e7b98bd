"""Reductions along axes, against NumPy: short rows, which the kernels turn, and all others."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import DTYPES, SEEDS

from fastconv.functional._along import LONG, MANY, SLICE, extremes, running_sums, sums

SHAPES = st.sampled_from(
    [
        (2, 3),
        (4, SLICE, 8),
        (3, 500, 3),
        (9, 7, 70),
        (MANY, 2),
        (5, LONG + 1),
        (5, LONG),
        (2, 3, 1300),
        (0, 3),
        (2, 0, 3),
    ]
)


@given(shape=SHAPES, last=st.integers(1, 2), dtype=DTYPES, seed=SEEDS)
def test_sums_and_extremes(isa, threads, shape, last, dtype, seed):
    x = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    axes = tuple(range(max(1, x.ndim - last), x.ndim))
    tolerance = 4e-5 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(sums(x, axes), x.sum(axes, keepdims=True), rtol=0, atol=tolerance)
    for function, initial in ((np.maximum, -np.inf), (np.minimum, np.inf)):
        want = function.reduce(x, axis=axes, keepdims=True, initial=initial)
        np.testing.assert_array_equal(extremes(function, x, axes, initial), want)


@given(shape=SHAPES, axis=st.integers(1, 2), reverse=st.booleans(), dtype=DTYPES, seed=SEEDS)
def test_running_sums_have_the_bits_of_numpy(isa, threads, shape, axis, reverse, dtype, seed):
    x = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    axis = min(axis, x.ndim - 1)
    want = np.flip(np.cumsum(np.flip(x, axis), axis), axis) if reverse else np.cumsum(x, axis)
    np.testing.assert_array_equal(running_sums(x, axis, reverse=reverse), want)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("items", [3, 8, 20, 64])
def test_what_is_not_finite_stays_in_its_row(isa, value, items):
    x = np.ones((4, 400, items), np.float32)
    x[1, 5, 2] = value
    np.testing.assert_array_equal(sums(x, (2,)), x.sum(2, keepdims=True))
    np.testing.assert_array_equal(extremes(np.maximum, x, (2,), -np.inf), x.max(2, keepdims=True))
    np.testing.assert_array_equal(running_sums(x, 2), np.cumsum(x, 2))


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.bool_])
def test_integers_are_left_to_numpy(dtype):
    x = (np.arange(MANY * 2).reshape(-1, 4) % 3).astype(dtype)
    np.testing.assert_array_equal(sums(x, (1,)), x.sum(1, keepdims=True))
    np.testing.assert_array_equal(running_sums(x, 1), np.cumsum(x, 1, dtype=dtype))


def test_arrays_that_are_turned_in_memory():
    x = np.random.default_rng(0).standard_normal((8, 40, 30)).astype(np.float32).transpose(0, 2, 1)
    np.testing.assert_allclose(sums(x, (2,)), x.sum(2, keepdims=True), rtol=0, atol=1e-5)
    np.testing.assert_array_equal(running_sums(x, 2), np.cumsum(x, 2))
    np.testing.assert_array_equal(running_sums(x, 1, reverse=True), np.cumsum(x[:, ::-1], 1)[:, ::-1])
