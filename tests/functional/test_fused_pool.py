"""Normalization, ReLU and max pooling in one pass: what comes out one after the other, but for the rounding of gradients."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import pools, with_nan
from problems import SEEDS

from fastconv import functional, reference


def problem(shape, seed=0, dtype=np.float64):
    """Return x, scale and bias, whose means and sizes differ from channel to channel."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape) * rng.uniform(0.5, 2, shape[-1]) + rng.standard_normal(shape[-1])
    return x.astype(dtype), *(rng.standard_normal((2, shape[-1])).astype(dtype))


def one_after_the_other(x, scale, bias, kernel, eps=1e-5, mean=None, var=None, **windows):
    y, mean, var = functional.batch_norm_relu(x, scale, bias, mean=mean, var=var, eps=eps)
    y, indices = functional.max_pool_with_indices(y, kernel, **windows)

    def backward(dy, batch_statistics):
        dy = functional.max_pool_with_indices_backward(dy, indices)
        keywords = {"eps": eps, "batch_statistics": batch_statistics}
        return functional.batch_norm_relu_backward(dy, x, scale, bias, mean, var, **keywords)

    return y, mean, var, backward


def assert_as_one_after_the_other(x, scale, bias, kernel, tolerance, **keywords):
    y, mean, var, backward = one_after_the_other(x, scale, bias, kernel, **keywords)
    *got, maxima = functional.batch_norm_relu_max_pool(x, scale, bias, kernel, **keywords)
    for one, other in zip(got, (y, mean, var), strict=True):
        np.testing.assert_array_equal(one, other)
    dy = np.random.default_rng(1).standard_normal(y.shape).astype(x.dtype)
    for through in (True, False):
        arguments = dy, x, scale, bias, mean, var, maxima
        got = functional.batch_norm_relu_max_pool_backward(*arguments, batch_statistics=through)
        for one, other in zip(got, backward(dy, through), strict=True):
            least = np.abs(other[np.isfinite(other)]).max(initial=1)
            np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance * least)
    return maxima


@settings(max_examples=25)
@given(pool=pools(dilated=True), seed=SEEDS, holes=st.booleans(), evaluated=st.booleans())
def test_any_windows(isa, threads, pool, seed, holes, evaluated):
    x, scale, bias = problem(pool.shape, seed)
    x = with_nan(x, seed, 0.01) if holes else x
    keywords = dict(pool.most)
    if evaluated or x.size == 0:
        keywords["mean"], keywords["var"] = bias[::-1].copy(), np.abs(scale)
    assert_as_one_after_the_other(x, scale, bias, pool.kernel, 1e-9, **keywords)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("shape", "kernel", "windows", "one_pass"),
    [
        ((5, 28, 28, 32), 2, {}, True),
        ((3, 23, 21, 72), 3, {"stride": 2, "padding": 1}, True),
        ((2, 7, 600, 17), (3, 2), {"stride": (2, 2), "ceil_mode": True}, True),
        ((3, 9, 8, 7, 40), 2, {"padding": 1}, True),
        ((4, 301, 100), 4, {}, True),
        ((2, 12, 12, 15), 2, {}, False),
        ((2, 12, 12, 16), 3, {"stride": 1}, False),
        ((2, 40, 40, 16), 5, {}, False),
    ],
)
def test_sizes_of_networks(isa, threads, dtype, shape, kernel, windows, one_pass):
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    maxima = assert_as_one_after_the_other(*problem(shape, dtype=dtype), kernel, tolerance, **windows)
    assert (maxima.sources is not None) == one_pass


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 1, 4])  # a maximum or not, and what no window sees
def test_what_is_not_finite_beside_the_maxima(isa, value, at):
    x, scale, bias = problem((2, 5, 16))
    x[0, at, ::3] = value
    for statistics in ({}, {"mean": bias, "var": np.abs(scale)}):
        assert_as_one_after_the_other(x, scale, bias, 2, 1e-9, **statistics)


def test_equals_the_reference():
    x, scale, bias = problem((2, 8, 9, 20))
    y, mean, var, maxima = functional.batch_norm_relu_max_pool(x, scale, bias, 2)
    rectified, *_ = reference.batch_norm_relu(x, scale, bias)
    np.testing.assert_allclose(y, reference.max_pool(rectified, 2), rtol=1e-12)
    dy = np.random.default_rng(1).standard_normal(y.shape)
    got = functional.batch_norm_relu_max_pool_backward(dy, x, scale, bias, mean, var, maxima)
    dy = reference.max_pool_backward(dy, rectified, 2)
    for one, other in zip(got, reference.batch_norm_relu_backward(dy, x, scale, bias, mean, var), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("channels", [4, 16])
def test_errors(channels):
    x, scale, bias = problem((2, 8, 8, channels))
    with pytest.raises(ValueError, match=rf"scale must have shape \({channels},\)"):
        functional.batch_norm_relu_max_pool(x, scale[1:], bias, 2)
    with pytest.raises(ValueError, match="mean and var must be given both or not at all"):
        functional.batch_norm_relu_max_pool(x, scale, bias, 2, mean=scale)
    with pytest.raises(ValueError, match="the kernel is larger than the padded input"):
        functional.batch_norm_relu_max_pool(x, scale, bias, 9)
    with pytest.raises(ValueError, match="at least one value for each channel"):
        functional.batch_norm_relu_max_pool(x[:0], scale, bias, 2)
    y, mean, var, maxima = functional.batch_norm_relu_max_pool(x, scale, bias, 2)
    backward = functional.batch_norm_relu_max_pool_backward
    with pytest.raises(ValueError, match=r"dy must have shape \(2, 4, 4"):
        backward(x, x, scale, bias, mean, var, maxima)
    with pytest.raises(ValueError, match=r"x must have shape \(2, 8, 8"):
        backward(y, y, scale, bias, mean, var, maxima)
    with pytest.raises(ValueError, match=r"bias must have shape"):
        backward(y, x, scale, bias[1:], mean, var, maxima)
    with pytest.raises(TypeError, match="maxima must be what batch_norm_relu_max_pool returned, got PoolIndices"):
        backward(y, x, scale, bias, mean, var, maxima.indices)
