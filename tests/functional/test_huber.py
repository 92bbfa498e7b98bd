"""Huber's loss against its definition in double precision, for any number of threads and of pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastconv
from fastconv.functional._huber import huber, huber_backward


@pytest.mark.parametrize("bound", [1.5, np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(items=st.sampled_from([1, 3, 15, 16, 17, 511, 512, 1025, 4096, 4097, 20_011]))
def test_the_definition(isa, threads, dtype, bound, items):
    rng = np.random.default_rng(items)
    x, t = (3 * rng.standard_normal(items)).astype(dtype), rng.random(items).astype(dtype)
    error = x.astype(np.float64) - t
    near = np.clip(error, -bound, bound)
    digits = 1e-6 if dtype == np.float32 else 1e-13
    value = huber(x, t, bound=bound)
    assert value.dtype == dtype and value == pytest.approx((near * (error - near / 2)).mean(), rel=digits)
    dx = huber_backward(x, t, 2.0, bound=bound)
    assert dx.dtype == dtype
    np.testing.assert_allclose(dx * (items / 2), near, rtol=digits, atol=digits)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_threads_change_no_bit(isa, dtype):
    x, t = np.random.default_rng(0).random((2, 70, 1001)).astype(dtype)
    results = []
    for threads in (1, 2, 3):
        with fastconv.num_threads(threads):
            results.append((huber(x, t, bound=0.5), huber_backward(x, t, 1.0, bound=0.5).tobytes()))
    assert results[0] == results[1] == results[2]


def test_no_pairs_cost_nothing():
    none = np.zeros((0, 3), np.float32)
    assert huber(none, none) == 0 and huber_backward(none, none, 1.0).shape == (0, 3)


@pytest.mark.parametrize("at", [0, 37])
def test_what_is_no_number_is_seen(isa, at):
    x, t = np.zeros((2, 40), np.float32)
    x[at] = np.nan
    assert np.isnan(huber(x, t, bound=1.0)) and np.isnan(huber_backward(x, t, 1.0, bound=1.0)[at])


@pytest.mark.parametrize("bound", [1.0, np.inf])
@pytest.mark.parametrize("wrong", [np.inf, -np.inf])
def test_an_infinite_error_has_an_infinite_loss(isa, bound, wrong):
    x, t = np.zeros((2, 40), np.float32)
    x[7] = wrong
    assert huber(x, t, bound=bound) == np.inf


def test_other_numbers_are_refused():
    with pytest.raises(TypeError, match="prediction must be a float32 or float64 array, got int64"):
        huber(np.zeros(3, np.int64), np.zeros(3, np.int64))
