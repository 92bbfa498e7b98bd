"""Activations: their formulas to the last digits, for every number there is, and their gradients."""

from __future__ import annotations

import numpy as np
import pytest
from gradients import assert_gradient
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import DTYPES, SEEDS
from scipy import special

from fastconv import functional, reference

FORMS = [
    ("relu", {}),
    ("relu6", {}),
    ("leaky_relu", {}),
    ("leaky_relu", {"slope": 0.3}),
    ("elu", {}),
    ("elu", {"alpha": 0.7}),
    ("selu", {}),
    ("gelu", {}),
    ("gelu", {"approximate": True}),
    ("silu", {}),
    ("hard_swish", {}),
    ("hard_sigmoid", {}),
    ("sigmoid", {}),
    ("tanh", {}),
    ("softplus", {}),
]
forms = pytest.mark.parametrize(("name", "keywords"), FORMS)
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def both(name, **keywords):
    """Return the activation and its gradient."""
    forward, backward = getattr(functional, name), getattr(functional, f"{name}_backward")
    return lambda x: forward(x, **keywords), lambda dy, x: backward(dy, x, **keywords)


def numbers(dtype):
    """Return numbers of every size, those where functions bend or saturate among them."""
    sizes = np.concatenate((np.geomspace(1e-8, 1e4, 700), np.linspace(0, 12, 500)))
    return np.concatenate((-sizes, sizes)).astype(dtype)


def vanished(name, keywords, dtype):
    """Return the size, in units of the tolerance, below which only the size of a result is asked for."""
    # in single precision the normal distribution function is right to 2e-7, not to its last digits where it vanishes
    return 0.2 if name == "gelu" and not keywords and dtype == np.float32 else 1e-5


@forms
@dtypes
def test_equals_the_reference_in_double_precision(isa, name, keywords, dtype):
    forward, backward = both(name, **keywords)
    x = numbers(dtype)
    dy = np.random.default_rng(0).standard_normal(x.shape).astype(dtype)
    exact, exact_dy = x.astype(np.float64), dy.astype(np.float64)
    tolerance = 32 * np.finfo(dtype).eps
    y = getattr(reference, name)(exact, **keywords)
    np.testing.assert_allclose(forward(x), y, rtol=tolerance, atol=vanished(name, keywords, dtype) * tolerance)
    # a gradient is a sum whose parts may cancel
    dx = getattr(reference, f"{name}_backward")(exact_dy, exact, **keywords)
    np.testing.assert_allclose(backward(dy, x), dx, rtol=tolerance, atol=np.abs(dy).max() * tolerance)


@dtypes
@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("gelu", lambda x: x * special.ndtr(x)),
        ("sigmoid", special.expit),
        ("tanh", np.tanh),
        ("softplus", lambda x: np.logaddexp(0, x)),
        ("elu", lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0)))),
        ("silu", lambda x: x * special.expit(x)),
    ],
)
def test_equals_scipy(isa, name, formula, dtype):
    x = numbers(dtype)
    tolerance = 32 * np.finfo(dtype).eps
    want = formula(x.astype(np.float64))
    atol = vanished(name, {}, dtype) * tolerance
    np.testing.assert_allclose(getattr(functional, name)(x), want, rtol=tolerance, atol=atol)


@pytest.mark.parametrize("name", ["relu", "relu6", "sigmoid", "tanh"])
@dtypes
def test_gradient_from_the_output(isa, threads, name, dtype):
    x = numbers(dtype)
    dy = np.random.default_rng(0).standard_normal(x.shape).astype(dtype)
    backward = getattr(functional, f"{name}_backward")
    got = backward(dy, y=getattr(functional, name)(x))
    np.testing.assert_allclose(got, backward(dy, x), rtol=0, atol=np.abs(dy).max() * 32 * np.finfo(dtype).eps)
    with pytest.raises(ValueError, match=f"{name}_backward takes either x or y, got both"):
        backward(dy, x, y=x)
    with pytest.raises(ValueError, match=f"{name}_backward takes either x or y, got neither"):
        backward(dy)
    with pytest.raises(ValueError, match=r"dy must have shape .* \(the shape of y\)"):
        backward(dy, y=x[1:])


@settings(max_examples=10)
@given(
    form=st.sampled_from(FORMS),
    shape=st.lists(st.integers(0, 7), max_size=3).map(tuple) | st.tuples(st.integers(0, 40)),
    dtype=DTYPES,
    seed=SEEDS,
)
def test_any_shape_on_any_number_of_threads(isa, threads, form, shape, dtype, seed):
    forward, backward = both(form[0], **form[1])
    rng = np.random.default_rng(seed)
    x, dy = np.asarray(3 * rng.standard_normal(shape), dtype), np.asarray(rng.standard_normal(shape), dtype)
    y, dx = forward(x), backward(dy, x)
    assert y.shape == dx.shape == shape
    assert y.dtype == dx.dtype == dtype
    # each number by itself: where in the array it lies does not matter
    each = [forward(one[None])[0] for one in x.reshape(-1)]
    np.testing.assert_array_equal(y.reshape(-1), np.array(each, dtype))


def test_threads_share_large_arrays(isa, threads):
    x = np.random.default_rng(0).standard_normal(30_001).astype(np.float32)
    want = np.concatenate([functional.gelu(part) for part in np.array_split(x, 7)])
    np.testing.assert_array_equal(functional.gelu(x), want)


@forms
def test_gradient_against_finite_differences(isa, name, keywords):
    forward, backward = both(name, **keywords)
    x = np.linspace(-6.05, 6.05, 60)  # beside the bends at 0, 3 and 6, not on them
    dy = np.random.default_rng(0).standard_normal(60)
    assert_gradient(backward(dy, x), forward, x, dy)


@forms
@dtypes
def test_every_number_there_is(isa, name, keywords, dtype):
    forward, backward = both(name, **keywords)
    huge, small = np.finfo(dtype).max / 2, np.finfo(dtype).tiny
    x = [-np.inf, -huge, -1e4, -104, -88, -3, -small, -0.0, 0, small, 3, 88, 104, 1e4, huge, np.inf, np.nan]
    x = np.array(x * 2, dtype)
    y, dx = forward(x), backward(np.ones_like(x), x)
    want = getattr(reference, name)(x.astype(np.float64), **keywords)
    with np.errstate(over="ignore"):
        rtol = 1e-5 if dtype == np.float32 else 1e-12
        atol = max(1e-35, (vanished(name, keywords, dtype) - 1e-5) * rtol)
        np.testing.assert_allclose(y, want.astype(dtype), rtol=rtol, atol=atol)
    assert np.isfinite(dx[~np.isnan(x)]).all()
    nan = np.full(2, np.nan, dtype)
    want = getattr(reference, f"{name}_backward")(np.ones_like(nan), nan, **keywords)
    np.testing.assert_allclose(dx[np.isnan(x)], want)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "elu", "selu", "softplus", "sigmoid", "tanh", "hard_sigmoid"])
def test_monotone(name):
    x = np.linspace(-20, 20, 4001)
    assert (np.diff(getattr(functional, name)(x)) >= -1e-15).all()


def test_selu_keeps_mean_and_variance():
    x = np.random.default_rng(0).standard_normal(1_000_000)
    y = functional.selu(x)
    assert abs(y.mean()) < 0.005
    assert abs(y.var() - 1) < 0.01


@forms
def test_any_memory_order_and_read_only_arrays_which_stay_as_they_are(name, keywords):
    forward, backward = both(name, **keywords)
    x, dy = np.random.default_rng(0).standard_normal((2, 5, 6, 7))
    y, dx = forward(x), backward(dy, x)
    for order in (np.asfortranarray, lambda a: np.repeat(a, 2, axis=0)[::2], lambda a: a[:, ::-1].copy()[:, ::-1]):
        other, other_dy = order(x), order(dy)
        other.flags.writeable = other_dy.flags.writeable = False
        np.testing.assert_array_equal(forward(other), y)
        np.testing.assert_array_equal(backward(other_dy, other), dx)
        np.testing.assert_array_equal(other, x)
        np.testing.assert_array_equal(other_dy, dy)


@forms
def test_refuses_what_is_no_float(name, keywords):
    forward, backward = both(name, **keywords)
    x = np.ones((2, 3))
    for wrong in (x.astype(int), x.astype(complex), x.astype(np.float16), x > 0):
        with pytest.raises(TypeError, match=f"x must be a float32 or float64 array, got {wrong.dtype}"):
            forward(wrong)
        with pytest.raises(TypeError, match=f"x must be a float32 or float64 array, got {wrong.dtype}"):
            backward(x, wrong)
        with pytest.raises(TypeError, match=f"dy must be a float32 or float64 array, got {wrong.dtype}"):
            backward(wrong, x)
    with pytest.raises(TypeError, match="dy must have the dtype of x, float64, got float32"):
        backward(x.astype(np.float32), x)
    with pytest.raises(ValueError, match=r"dy must have shape \(2, 3\) \(the shape of x\), got \(2, 1\)"):
        backward(x[:, :1], x)


@pytest.mark.parametrize(("name", "parameter"), [("leaky_relu", "slope"), ("elu", "alpha")])
@pytest.mark.parametrize("wrong", ["0.1", None, 1j, np.ones(1)])
def test_refuses_parameters_that_are_no_numbers(name, parameter, wrong):
    forward, backward = both(name, **{parameter: wrong})
    with pytest.raises(TypeError, match=f"{parameter} must be a real number, got"):
        forward(np.ones(3))
    with pytest.raises(TypeError, match=f"{parameter} must be a real number, got"):
        backward(np.ones(3), np.ones(3))
