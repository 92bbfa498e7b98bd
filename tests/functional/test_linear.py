"""The linear map of the last axis: a matrix product, for any leading axes, and its gradients."""

from __future__ import annotations

import numpy as np
import pytest
from exact import assert_all_exact, assert_exact, dot, several, whole
from gradients import assert_gradient
from hypothesis import given
from hypothesis import strategies as st
from problems import DTYPES, EDGES, SEEDS

from fastconv import functional, reference

LEADING = st.sampled_from([(), (1,), (2,), (13,), (14,), (15,), (2, 3), (0,), (3, 0), (1, 2, 3), (2, 1, 2, 1, 3, 1)])


@given(
    leading=LEADING,
    inputs=st.sampled_from(EDGES),
    outputs=st.sampled_from(EDGES),
    dtype=DTYPES,
    seed=SEEDS,
    with_bias=st.booleans(),
)
def test_equals_the_reference_and_its_gradients_are_adjoint(
    isa, threads, leading, inputs, outputs, dtype, seed, with_bias
):
    x, weight, bias = several([(*leading, inputs), (inputs, outputs), (outputs,)], dtype, seed)
    y = functional.linear(x, weight, bias if with_bias else None)
    assert_exact(y, reference.linear(x, weight, bias if with_bias else None), dtype)
    dy = whole(y.shape, dtype, seed + 1)
    got = functional.linear_backward(dy, x, weight)
    assert_all_exact(got, reference.linear_backward(dy, x, weight), dtype)
    dx, dweight, _ = got
    assert dot(dy, x @ weight) == dot(dx, x) == dot(dweight, weight)


@pytest.mark.parametrize(
    ("rows", "outputs"), [(1, 5), (1, 10), (1, 21), (1, 33), (1, 64), (1, 84), (1, 120), (1, 200), (20, 136), (28, 140)]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_large_weight_is_read_where_it_lies(isa, threads, rows, outputs, dtype):
    x, weight, bias = several([(rows, 260), (260, outputs), (outputs,)], dtype, 0)
    assert_exact(functional.linear(x, weight, bias), reference.linear(x, weight, bias), dtype)
    dy = whole((rows, outputs), dtype, 1)
    got = functional.linear_backward(dy, x, weight)
    assert_all_exact(got, reference.linear_backward(dy, x, weight), dtype)


@given(inputs=st.sampled_from(EDGES), outputs=st.sampled_from(EDGES), seed=SEEDS)
def test_linear_in_x_and_in_the_weight(isa, inputs, outputs, seed):
    x, x2, weight, weight2 = several([(5, inputs)] * 2 + [(inputs, outputs)] * 2, np.float32, seed)
    linear = functional.linear
    assert_exact(linear(2 * x - x2, weight), 2 * linear(x, weight) - linear(x2, weight))
    assert_exact(linear(x, 2 * weight - weight2), 2 * linear(x, weight) - linear(x, weight2))


def test_gradients_against_finite_differences(isa):
    rng = np.random.default_rng(0)
    x, weight, bias = rng.standard_normal((2, 2, 3)), rng.standard_normal((3, 5)), rng.standard_normal(5)
    dy = rng.standard_normal((2, 2, 5))
    dx, dweight, dbias = functional.linear_backward(dy, x, weight)
    assert_gradient(dx, lambda x: functional.linear(x, weight, bias), x, dy)
    assert_gradient(dweight, lambda weight: functional.linear(x, weight, bias), weight, dy)
    assert_gradient(dbias, lambda bias: functional.linear(x, weight, bias), bias, dy)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_propagate_to_their_row(isa, value):
    x = np.ones((15, 40), np.float32)
    x[7, 39] = value
    y = functional.linear(x, np.ones((40, 33), np.float32))
    np.testing.assert_array_equal(y[7], np.full(33, value))
    assert np.isfinite(np.delete(y, 7, axis=0)).all()


@pytest.mark.parametrize("rows", [2, 3, 4, 5, 8, 11, 28, 29])
@pytest.mark.parametrize(("inputs", "outputs"), [(307, 515), (1030, 1041), (40, 70), (260, 8192)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_few_rows_of_a_large_matrix(isa, rows, inputs, outputs, dtype):
    rng = np.random.default_rng(0)
    x, weight, bias, dy = (
        rng.integers(-4, 5, shape).astype(dtype)
        for shape in ((rows, inputs), (inputs, outputs), outputs, (rows, outputs))
    )  # whose sums are exact
    np.testing.assert_array_equal(functional.linear(x, weight, bias), x @ weight + bias)
    dx, dweight, _ = functional.linear_backward(dy, x, weight)
    np.testing.assert_array_equal(dx, dy @ weight.T)
    np.testing.assert_array_equal(dweight, x.T @ dy)


@pytest.mark.parametrize(
    ("inputs", "outputs"), [(400, 120), (37, 65), (50, 127), (51, 128), (41, 129), (600, 120), (309, 240), (33, 600)]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_row(isa, threads, inputs, outputs, dtype):
    rng = np.random.default_rng(0)
    x, weight, bias = (rng.integers(-4, 5, shape).astype(dtype) for shape in ((1, inputs), (inputs, outputs), outputs))
    np.testing.assert_array_equal(functional.linear(x, weight, bias), x @ weight + bias)  # sums are exact
    np.testing.assert_array_equal(functional.linear(x, weight), x @ weight)


@pytest.mark.parametrize("outputs", [5, 17, 20, 33, 64])
def test_an_infinite_dy_of_one_row_meets_no_zeros(isa, outputs):
    rng = np.random.default_rng(0)
    for at in range(outputs):
        x, weight, dy = (
            rng.standard_normal(shape).astype(np.float32) for shape in ((1, 21), (21, outputs), (1, outputs))
        )
        dy[0, at] = np.inf
        np.testing.assert_array_equal(
            functional.linear_backward(dy, x, weight)[0], np.inf * np.sign(weight.T[at : at + 1])
        )


def test_what_wrt_leaves_out_is_none():
    x, weight, dy = several([(4, 3), (3, 5), (4, 5)])
    assert functional.linear_backward(dy, x, weight, wrt=()) == (None, None, None)
    dx, dweight, dbias = functional.linear_backward(dy, x, weight, wrt=("bias",))
    assert dx is None
    assert dweight is None
    assert_exact(dbias, dy.sum(axis=0))


GOOD = {"x": np.ones((4, 3)), "weight": np.ones((3, 5)), "bias": np.ones(5), "dy": np.ones((4, 5))}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": np.ones((4, 3), int)}, TypeError, r"x must be a float32 or float64 array, got int64 of shape \(4, 3\)"),
        ({"x": np.ones((4, 3), complex)}, TypeError, "x must be a float32 or float64 array, got complex128"),
        ({"x": np.ones((4, 3), np.float16)}, TypeError, "x must be a float32 or float64 array, got float16"),
        ({"weight": np.ones((3, 5), np.float32)}, TypeError, "weight must have the dtype of x, float64, got float32"),
        ({"bias": np.ones(5, np.float32)}, TypeError, "bias must have the dtype of x, float64, got float32"),
        ({"dy": np.ones((4, 5), np.float32)}, TypeError, "dy must have the dtype of x, float64, got float32"),
        ({"weight": np.ones((3, 5, 1))}, ValueError, r"weight must have shape \(in, out\).*got \(3, 5, 1\)"),
        ({"weight": np.ones((3, 0))}, ValueError, r"weight must have shape \(in, out\), at least 1 each, got \(3, 0\)"),
        ({"x": np.ones((4, 2))}, ValueError, r"x must have shape \(\.\.\., 3\), the rows of weight, got \(4, 2\)"),
        ({"x": np.float64(1)}, ValueError, r"x must have shape \(\.\.\., 3\), the rows of weight, got \(\)"),
        ({"bias": np.ones(4)}, ValueError, r"bias must have shape \(5,\) \(one value for each output\), got \(4,\)"),
        ({"dy": np.ones((4, 4))}, ValueError, r"dy must have shape \(4, 5\) \(the shape of the output\), got \(4, 4\)"),
        ({"wrt": "y"}, ValueError, 'wrt must name some of "x", "weight" and "bias", got \'y\''),
    ],
)
def test_errors_name_the_argument(change, error, message):
    given = {**GOOD, **change}
    if {"dy", "wrt"} & set(change):
        with pytest.raises(error, match=message):
            functional.linear_backward(given["dy"], given["x"], given["weight"], wrt=given.get("wrt", ("x",)))
        return
    with pytest.raises(error, match=message):
        functional.linear(given["x"], given["weight"], given["bias"])
    if "bias" not in change:
        with pytest.raises(error, match=message):
            functional.linear_backward(given["dy"], given["x"], given["weight"])
