"""Upsampling: equal to the reference, adjoint, and what repeating and interpolating must be."""

from __future__ import annotations

import numpy as np
import pytest
from exact import assert_exact, dot, whole
from gradients import assert_gradient
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import CHANNELS
from problems import DTYPES, SEEDS

from fastconv import functional, reference

MODES = ["nearest", "bilinear"]


@st.composite
def upsamplings(draw):
    """Draw the shape of x and a scale."""
    rank = draw(st.integers(1, 3))
    size = draw(st.tuples(*[st.integers(1, (7, 4, 3)[rank - 1])] * rank))
    scale = draw(st.one_of(st.integers(1, 4), st.tuples(*[st.integers(1, 4)] * rank)))
    return (draw(st.integers(0, 2)), *size, draw(CHANNELS)), scale


@settings(max_examples=15)
@given(case=upsamplings(), mode=st.sampled_from(MODES), dtype=DTYPES, seed=SEEDS)
def test_equals_the_reference(isa, threads, case, mode, dtype, seed):
    shape, scale = case
    x = 72 * whole(shape, dtype, seed)  # a multiple of most denominators of the weights
    y = reference.upsample(x, scale, mode=mode)
    got = functional.upsample(x, scale, mode=mode)
    np.testing.assert_allclose(got, y, rtol=1e-6, atol=1e-4)
    dy = whole(y.shape, dtype, seed + 1)
    dx = functional.upsample_backward(dy, shape, scale, mode=mode)
    np.testing.assert_allclose(dx, reference.upsample_backward(dy, shape, scale, mode=mode), rtol=1e-6, atol=1e-4)
    assert got.dtype == dx.dtype == dtype


@given(case=upsamplings(), mode=st.sampled_from(MODES), seed=SEEDS)
def test_the_backward_pass_is_the_adjoint(case, mode, seed):
    shape, scale = case
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    y = functional.upsample(x, scale, mode=mode)
    dy = rng.standard_normal(y.shape)
    dx = functional.upsample_backward(dy, shape, scale, mode=mode)
    assert dot(dy, y) == pytest.approx(dot(dx, x), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("shape", "scale"), [((2, 3, 2), 2), ((1, 2, 3, 2), (3, 2)), ((1, 2, 1, 2, 1), 2)])
def test_gradient_against_finite_differences(isa, shape, scale, mode):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape)
    dy = rng.standard_normal(functional.upsample(x, scale).shape)
    dx = functional.upsample_backward(dy, shape, scale, mode=mode)
    assert_gradient(dx, lambda x: functional.upsample(x, scale, mode=mode), x, dy)


@pytest.mark.parametrize("channels", [1, 16, 37])
def test_nearest_repeats_pixels(isa, channels):
    x = np.random.default_rng(0).standard_normal((2, 3, 4, channels)).astype(np.float32)
    y = functional.upsample(x, (2, 3))
    assert_exact(y, x.repeat(2, axis=1).repeat(3, axis=2))
    assert_exact(functional.avg_pool(functional.upsample(x, 2), 2), x)


def test_bilinear_draws_straight_lines(isa):
    ramp = 2 * np.arange(6.0).reshape(1, 1, 6, 1)
    y = functional.upsample(ramp, (1, 4), mode="bilinear")[0, 0, :, 0]
    centres = (np.arange(24) + 0.5) / 4 - 0.5
    np.testing.assert_allclose(y, 2 * np.clip(centres, 0, 5))
    constant = np.full((1, 3, 2, 20), 7.5, np.float32)
    y = functional.upsample(constant, 3, mode="bilinear")
    np.testing.assert_allclose(
        y, np.full((1, 9, 6, 20), 7.5), rtol=3e-7
    )  # weights of one sum up to one but for rounding


def test_bilinear_never_looks_at_a_pixel_that_does_not_count(isa):
    x = np.array([np.inf, 1, np.nan, 2, 3], np.float32).reshape(1, 5, 1)
    y = functional.upsample(x, 3, mode="bilinear")[0, :, 0]
    np.testing.assert_array_equal(
        y[[1, 4, 7, 10, 13]], x[0, :, 0]
    )  # odd scales: in the middle of its pixels each is alone
    dx = functional.upsample_backward(
        np.where(np.arange(15) == 4, np.inf, 1).reshape(1, 15, 1), x.shape, 3, mode="bilinear"
    )
    np.testing.assert_array_equal(np.isinf(dx[0, :, 0]), [False, True, False, False, False])


@pytest.mark.parametrize("mode", MODES)
def test_a_scale_of_one_is_a_copy(mode):
    x = whole((2, 3, 4, 5))
    y = functional.upsample(x, 1, mode=mode)
    assert_exact(y, x)
    assert not np.shares_memory(x, y)


@pytest.mark.parametrize("mode", MODES)
def test_any_memory_order_and_read_only_arrays_which_stay_as_they_are(mode):
    x, dy = whole((2, 3, 4, 5)), whole((2, 6, 8, 5), seed=1)
    y, dx = functional.upsample(x, 2, mode=mode), functional.upsample_backward(dy, x.shape, 2, mode=mode)
    for order in (np.asfortranarray, lambda a: np.repeat(a, 2, axis=0)[::2]):
        other, other_dy = order(x), order(dy)
        other.flags.writeable = other_dy.flags.writeable = False
        assert_exact(functional.upsample(other, [2, np.int8(2)], mode=mode), y)
        assert_exact(functional.upsample_backward(other_dy, list(x.shape), 2, mode=mode), dx)
        np.testing.assert_array_equal(other, x)
        np.testing.assert_array_equal(other_dy, dy)


X, DY = np.ones((2, 3, 4, 5)), np.ones((2, 6, 8, 5))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: functional.upsample(X.astype(int), 2), TypeError, "x must be a float32 or float64 array, got int64"),
        (lambda: functional.upsample(X[0, 0], 2), ValueError, r"x must have shape \(N, \*spatial, C\)"),
        (lambda: functional.upsample(X, 0), ValueError, "scale must be at least 1, got 0"),
        (lambda: functional.upsample(X, 1.5), TypeError, r"scale must be an integer or a tuple of integers, got 1\.5"),
        (lambda: functional.upsample(X, (1, 2, 3)), ValueError, r"scale must be one integer or 2 of them"),
        (lambda: functional.upsample(X, 2**40), ValueError, "the output would have shape .* elements are more than"),
        (lambda: functional.upsample(X[:0], 2**40), ValueError, r"the output would have shape \(0, .* elements are more than"),
        (lambda: functional.upsample(X, 2, mode="cubic"), ValueError, """mode must be "nearest" or "bilinear", got 'cubic'"""),
        (lambda: functional.upsample(X, 2, mode=None), ValueError, 'mode must be "nearest" or "bilinear", got None'),
        (lambda: functional.upsample(X, 2, mode=["nearest"]), ValueError, 'mode must be "nearest" or "bilinear", got'),
        (lambda: functional.upsample_backward(DY, X.shape, 3), ValueError, r"dy must have shape \(2, 9, 12, 5\)"),
        (lambda: functional.upsample_backward(DY.astype(int), X.shape, 2), TypeError, "dy must be a float32 or float64 array"),
        (lambda: functional.upsample_backward(DY, X, 2), TypeError, "input_shape must be an integer or a tuple of integers"),
        (lambda: functional.upsample_backward(DY, (3, 4), 2), ValueError, r"input_shape must be \(N, \*spatial, C\)"),
        (lambda: functional.upsample_backward(DY, X.shape, 2, mode="area"), ValueError, "mode must be .*got 'area'"),
        (lambda: functional.upsample_backward(DY, X.shape, True), TypeError, "scale must be an integer, got True"),
    ],
)  # fmt: skip
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
