"""Normalization: equal to the reference, accurate far from zero, and its gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
from gradients import assert_gradient
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import EDGES, SEEDS

from fastconv import functional, reference

CHANNELS = st.sampled_from([*EDGES, 63, 64, 65, 100])


@st.composite
def arrays(draw, smallest_batch=1, smallest_rank=0):
    """Draw (x, scale, bias, dy), each channel with a mean and a size of its own."""
    size = [draw(st.integers(1, 5)) for _ in range(draw(st.integers(smallest_rank, 3)))]
    shape = (draw(st.integers(smallest_batch, 4)), *size, draw(CHANNELS))
    rng = np.random.default_rng(draw(SEEDS))
    x = rng.standard_normal(shape) * rng.uniform(0.5, 2, shape[-1]) + 5 * rng.standard_normal(shape[-1])
    return x, rng.standard_normal(shape[-1]), rng.standard_normal(shape[-1]), rng.standard_normal(shape)


def assert_close(got, want, scale=1.0):
    for one, other in zip(got, want, strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=1e-9 * scale, atol=1e-9 * scale)


@settings(max_examples=20)
@given(case=arrays(), batch_statistics=st.booleans())
def test_batch_norm_equals_the_reference(isa, threads, case, batch_statistics):
    x, scale, bias, dy = case
    y, mean, var = reference.batch_norm(x, scale, bias)
    assert_close(functional.batch_norm(x, scale, bias), (y, mean, var))
    assert_close(functional.batch_norm(x, scale, bias, mean=mean, var=var), (y, mean, var))
    want = reference.batch_norm_backward(dy, x, scale, mean, var, batch_statistics=batch_statistics)
    got = functional.batch_norm_backward(dy, x, scale, mean, var, batch_statistics=batch_statistics)
    assert_close(got, want, 1000)  # a channel without variance divides by sqrt(eps) three times


@pytest.mark.parametrize("channels", [24, 511, 512, 513, 1024, 1030, 2060])
@pytest.mark.parametrize("far", [False, True])
def test_batch_norm_of_wide_lines_and_of_more_than_caches_hold(isa, threads, channels, far):
    pixels = (2**23 // 8 if far else 2**16) // channels + 21
    rng = np.random.default_rng(channels)
    x, dy = 3 + rng.standard_normal((1, pixels, channels)), rng.standard_normal((1, pixels, channels))
    scale, bias = rng.standard_normal((2, channels))
    y, mean, var = reference.batch_norm(x, scale, bias)
    assert_close(functional.batch_norm(x, scale, bias), (y, mean, var))
    got = functional.batch_norm_backward(dy, x, scale, mean, var)
    assert_close(got, reference.batch_norm_backward(dy, x, scale, mean, var), 10)


@settings(max_examples=30)
@given(case=arrays(), dtype=st.sampled_from([np.float32, np.float64]), nans=st.booleans())
def test_batch_norm_relu_has_the_bits_of_one_after_the_other(isa, threads, case, dtype, nans):
    x, scale, bias, dy = (array.astype(dtype) for array in case)
    residual = dy[::-1].copy()
    if nans:
        x.flat[0] = np.nan
    y, mean, var = functional.batch_norm(x, scale, bias)
    np.testing.assert_array_equal(functional.batch_norm_relu(x, scale, bias)[0], functional.relu(y))
    given = {"residual": residual, "mean": mean, "var": var}
    np.testing.assert_array_equal(functional.batch_norm_relu(x, scale, bias, **given)[0], functional.relu(y + residual))
    want = functional.batch_norm_backward(functional.relu_backward(dy, y), x, scale, mean, var)
    got = functional.batch_norm_relu_backward(dy, x, scale, bias, mean, var)
    for one, other in zip(got, want, strict=True):
        np.testing.assert_array_equal(one, other)


@settings(max_examples=10)
@given(case=arrays(), batch_statistics=st.booleans())
def test_batch_norm_relu_equals_the_reference(isa, case, batch_statistics):
    x, scale, bias, dy = case
    y, mean, var = reference.batch_norm_relu(x, scale, bias, residual=dy)
    assert_close(functional.batch_norm_relu(x, scale, bias, residual=dy), (y, mean, var))
    got, want = (
        f.batch_norm_relu_backward(dy, x, scale, bias, mean, var, batch_statistics=batch_statistics)
        for f in (functional, reference)
    )
    assert_close(got, want, 1000)


@settings(max_examples=15)
@given(case=arrays(smallest_batch=0, smallest_rank=1), data=st.data())
def test_group_norm_equals_the_reference(isa, threads, case, data):
    x, scale, bias, dy = case
    groups = data.draw(st.sampled_from([g for g in range(1, len(scale) + 1) if len(scale) % g == 0]))
    assert_close([functional.group_norm(x, groups, scale, bias)], [reference.group_norm(x, groups, scale, bias)])
    want = reference.group_norm_backward(dy, x, groups, scale)
    assert_close(functional.group_norm_backward(dy, x, groups, scale), want, 1000)
    y, mean, var = functional.group_norm_with_statistics(x, groups, scale, bias)
    grouped = x.reshape(len(x), math.prod(x.shape[1:-1]), groups, len(scale) // groups)
    assert_close(
        (y, mean, var), (reference.group_norm(x, groups, scale, bias), grouped.mean((1, 3)), grouped.var((1, 3)))
    )
    assert_close(functional.group_norm_with_statistics_backward(dy, x, groups, scale, mean, var), want, 1000)


@settings(max_examples=15)
@given(case=arrays(smallest_batch=0))
def test_layer_norm_equals_the_reference(isa, threads, case):
    x, scale, bias, dy = case
    assert_close([functional.layer_norm(x, scale, bias)], [reference.layer_norm(x, scale, bias)])
    got, want = (f.layer_norm_backward(dy, x, scale) for f in (functional, reference))
    assert_close(got, want, 1000)


@pytest.mark.parametrize("shape", [(5, 3), (2, 4, 3), (2, 3, 2, 3)])
def test_batch_norm_against_finite_differences(isa, shape):
    rng = np.random.default_rng(0)
    x, scale, bias, dy = (
        rng.standard_normal(shape),
        rng.standard_normal(3),
        rng.standard_normal(3),
        rng.standard_normal(shape),
    )
    _, mean, var = functional.batch_norm(x, scale, bias, eps=1e-3)
    dx, dscale, dbias = functional.batch_norm_backward(dy, x, scale, mean, var, eps=1e-3)
    assert_gradient(dx, lambda x: functional.batch_norm(x, scale, bias, eps=1e-3)[0], x, dy)
    assert_gradient(dscale, lambda scale: functional.batch_norm(x, scale, bias, eps=1e-3)[0], scale, dy)
    assert_gradient(dbias, lambda bias: functional.batch_norm(x, scale, bias, eps=1e-3)[0], bias, dy)
    given = {"mean": mean + 1, "var": 2 * var}
    dx, dscale, _ = functional.batch_norm_backward(dy, x, scale, given["mean"], given["var"], batch_statistics=False)
    assert_gradient(dx, lambda x: functional.batch_norm(x, scale, bias, **given)[0], x, dy)
    assert_gradient(dscale, lambda scale: functional.batch_norm(x, scale, bias, **given)[0], scale, dy)


def test_group_and_layer_norm_against_finite_differences(isa):
    rng = np.random.default_rng(0)
    x, scale, bias, dy = (
        rng.standard_normal((2, 3, 6)),
        rng.standard_normal(6),
        rng.standard_normal(6),
        rng.standard_normal((2, 3, 6)),
    )
    dx, dscale, dbias = functional.group_norm_backward(dy, x, 2, scale)
    assert_gradient(dx, lambda x: functional.group_norm(x, 2, scale, bias), x, dy)
    assert_gradient(dscale, lambda scale: functional.group_norm(x, 2, scale, bias), scale, dy)
    assert_gradient(dbias, lambda bias: functional.group_norm(x, 2, scale, bias), bias, dy)
    dx, dscale, dbias = functional.layer_norm_backward(dy, x, scale)
    assert_gradient(dx, lambda x: functional.layer_norm(x, scale, bias), x, dy)
    assert_gradient(dscale, lambda scale: functional.layer_norm(x, scale, bias), scale, dy)
    assert_gradient(dbias, lambda bias: functional.layer_norm(x, scale, bias), bias, dy)


@pytest.mark.parametrize("channels", [1, 6, 32, 200])
@pytest.mark.parametrize("mean", [0, 100, 10_000])
def test_single_precision_stays_accurate_far_from_zero(isa, channels, mean):
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((4, 50, 50, channels)) + mean).astype(np.float32)
    exact = x.astype(np.float64)
    one, zero = np.ones(channels, np.float32), np.zeros(channels, np.float32)
    y, got_mean, got_var = functional.batch_norm(x, one, zero)
    np.testing.assert_allclose(got_mean, exact.mean(axis=(0, 1, 2)), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(got_var, exact.var(axis=(0, 1, 2)), rtol=1e-5)
    want = reference.batch_norm(exact, np.ones(channels), np.zeros(channels))[0]
    np.testing.assert_allclose(y, want, atol=1e-5 + mean * 1e-7, rtol=1e-5)
    assert y.dtype == got_mean.dtype == got_var.dtype == np.float32


def test_a_constant_channel_becomes_its_bias(isa):
    x = np.full((3, 4, 2), 1234.5, np.float32)
    scale, bias = np.ones(2, np.float32), np.array([7, -7], np.float32)
    for y in (
        functional.batch_norm(x, scale, bias)[0],
        functional.group_norm(x, 2, scale, bias),
        functional.layer_norm(x, scale, bias),
    ):
        np.testing.assert_array_equal(y, np.broadcast_to(bias, x.shape))


def test_the_norms_agree_where_they_average_over_the_same():
    rng = np.random.default_rng(0)
    x, one, zero = rng.standard_normal((3, 1, 4)), np.ones(4), np.zeros(4)
    np.testing.assert_allclose(functional.group_norm(x, 1, one, zero), functional.layer_norm(x, one, zero))
    by_image = functional.group_norm(x[:1].repeat(2, axis=1), 4, one, zero)
    np.testing.assert_allclose(functional.batch_norm(x[:1].repeat(2, axis=1), one, zero)[0], by_image)


def test_invariant_to_the_scale_and_the_shift_of_x():
    rng = np.random.default_rng(0)
    x, scale, bias = rng.standard_normal((8, 5, 3)), rng.standard_normal(3), rng.standard_normal(3)
    want = functional.batch_norm(x, scale, bias, eps=0.0)[0]
    np.testing.assert_allclose(functional.batch_norm(4 * x - 100, scale, bias, eps=0.0)[0], want, rtol=1e-9)


def test_eps_and_parameters_keep_double_precision(isa):
    x, one, zero = np.array([[1.0, 2.0, 4.0]]), np.ones(3), np.zeros(3)
    for eps in (0.1, 1e-3):
        want = (x - x.mean()) / np.sqrt(x.var() + eps)
        np.testing.assert_allclose(functional.layer_norm(x, one, zero, eps=eps), want, rtol=1e-14)
        np.testing.assert_allclose(functional.group_norm(x[None], 1, one, zero, eps=eps)[0], want, rtol=1e-14)
        np.testing.assert_allclose(functional.batch_norm(x.T, one[:1], zero[:1], eps=eps)[0].T, want, rtol=1e-14)


def test_an_empty_batch():
    x, scale = np.ones((0, 3, 2)), np.ones(2)
    y, mean, _ = functional.batch_norm(x, scale, scale, mean=scale, var=scale)
    assert y.shape == x.shape
    for gradients in (
        functional.batch_norm_backward(y, x, scale, mean, scale),
        functional.group_norm_backward(y, x, 1, scale),
        functional.layer_norm_backward(y, x, scale),
    ):
        assert gradients[0].shape == x.shape
        np.testing.assert_array_equal(gradients[1:], np.zeros((2, 2)))
    assert functional.group_norm(x, 2, scale, scale).shape == functional.layer_norm(x, scale, scale).shape == x.shape
    with pytest.raises(
        ValueError, match=r"x must have at least one value for each channel to average, got shape \(0, 3, 2\)"
    ):
        functional.batch_norm(x, scale, scale)


def test_any_memory_order_and_read_only_arrays_which_stay_as_they_are():
    rng = np.random.default_rng(0)
    x, dy, scale = rng.standard_normal((3, 4, 5, 6)), rng.standard_normal((3, 4, 5, 6)), rng.standard_normal(6)

    def everything(x, dy, scale):
        y, mean, var = functional.batch_norm(x, scale, scale)
        return (
            y,
            *functional.batch_norm_backward(dy, x, scale, mean, var),
            functional.group_norm(x, 2, scale, scale),
            *functional.group_norm_backward(dy, x, 2, scale),
            functional.layer_norm(x, scale, scale),
            *functional.layer_norm_backward(dy, x, scale),
        )

    want = everything(x, dy, scale)
    for order in (np.asfortranarray, lambda a: np.repeat(a, 2, axis=0)[::2]):
        others = [order(array) for array in (x, dy, scale)]
        for array in others:
            array.flags.writeable = False
        for got, expected in zip(everything(*others), want, strict=True):
            np.testing.assert_array_equal(got, expected)
        for array, original in zip(others, (x, dy, scale), strict=True):
            np.testing.assert_array_equal(array, original)


X, C = np.ones((2, 5, 6)), np.ones(6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: functional.batch_norm(X.astype(int), C, C), TypeError, "x must be a float32 or float64 array, got int64"),
        (lambda: functional.batch_norm(np.float64(1), C, C), ValueError, r"x must have shape \(..., C\), at least one channel"),
        (lambda: functional.batch_norm(X[..., :0], C[:0], C[:0]), ValueError, r"at least one channel, got shape \(2, 5, 0\)"),
        (lambda: functional.batch_norm(X, C[:5], C), ValueError, r"scale must have shape \(6,\) .*got \(5,\)"),
        (lambda: functional.batch_norm(X, C, C[None]), ValueError, r"bias must have shape \(6,\) .*got \(1, 6\)"),
        (lambda: functional.batch_norm(X, C.astype(np.float32), C), TypeError, "scale must have the dtype of x, float64"),
        (lambda: functional.batch_norm(X, C, C, mean=C), ValueError, "mean and var must be given both or not at all"),
        (lambda: functional.batch_norm(X, C, C, var=C), ValueError, "mean and var must be given both or not at all"),
        (lambda: functional.batch_norm(X, C, C, mean=C, var=C[:2]), ValueError, r"var must have shape \(6,\)"),
        (lambda: functional.batch_norm(X, C, C, eps=-1.0), ValueError, r"eps must be at least 0, got -1\.0"),
        (lambda: functional.batch_norm(X, C, C, eps=float("nan")), ValueError, "eps must be at least 0, got nan"),
        (lambda: functional.batch_norm(X, C, C, eps="1"), TypeError, "eps must be a real number, got '1'"),
        (lambda: functional.batch_norm(X, C, C, eps=True), TypeError, "eps must be a real number, got True"),
        (lambda: functional.batch_norm(X, C, C, eps=10**400), ValueError, "eps must be a number that a float holds"),
        (lambda: functional.batch_norm_backward(X[:1], X, C, C, C), ValueError, r"dy must have shape \(2, 5, 6\)"),
        (lambda: functional.batch_norm_backward(X, X, C, C[:1], C), ValueError, r"mean must have shape \(6,\)"),
        (lambda: functional.batch_norm_backward(X, X, C, C, C, eps=-1), ValueError, "eps must be at least 0, got -1"),
        (lambda: functional.batch_norm_relu(X, C, C, residual=X[:1]), ValueError, r"residual must have shape \(2, 5, 6\)"),
        (lambda: functional.batch_norm_relu_backward(X, X, C, C[:1], C, C), ValueError, r"bias must have shape \(6,\)"),
        (lambda: functional.group_norm(X, 4, C, C), ValueError, "groups must divide the channels of x, 6, got 4"),
        (lambda: functional.group_norm(X, 0, C, C), ValueError, "groups must be at least 1, got 0"),
        (lambda: functional.group_norm(X, 2.0, C, C), TypeError, r"groups must be an integer"),
        (lambda: functional.group_norm(X, (2,), C, C), TypeError, r"groups must be an integer, got \(2,\)"),
        (lambda: functional.group_norm(X[0], 2, C, C), ValueError, r"x must have shape \(N, \*spatial, C\)"),
        (lambda: functional.group_norm(X[:, :0], 2, C, C), ValueError, r"x must have at least one pixel, got"),
        (lambda: functional.group_norm(X, 2, C[:3], C), ValueError, r"scale must have shape \(6,\)"),
        (lambda: functional.group_norm(X, 2, C, C, eps=None), TypeError, "eps must be a real number, got None"),
        (lambda: functional.group_norm_backward(X[:1], X, 2, C), ValueError, r"dy must have shape \(2, 5, 6\)"),
        (lambda: functional.group_norm_backward(X, X, 5, C), ValueError, "groups must divide the channels of x, 6, got 5"),
        (
            lambda: functional.group_norm_with_statistics_backward(X, X, 2, C, C, C),
            ValueError,
            r"mean must have shape \(2, 2\) \(one value for each group of each image",
        ),
        (lambda: functional.layer_norm(X, C, C[:3]), ValueError, r"bias must have shape \(6,\) .*got \(3,\)"),
        (lambda: functional.layer_norm(X.astype(np.float16), C, C), TypeError, "got float16"),
        (lambda: functional.layer_norm(X, C, C, eps=-1), ValueError, "eps must be at least 0, got -1"),
        (lambda: functional.layer_norm_backward(X.astype(np.float32), X, C), TypeError, "dy must have the dtype of x"),
        (lambda: functional.layer_norm_backward(X, X, C[:2]), ValueError, r"scale must have shape \(6,\)"),
    ],
)  # fmt: skip
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
