"""Locally connected layers: equal to the reference, adjoint, and a convolution where all weights are equal."""

from __future__ import annotations

import numpy as np
import pytest
from exact import assert_all_exact, assert_exact, dot, several, whole
from gradients import assert_gradient
from hypothesis import given
from hypothesis import strategies as st
from problems import DTYPES, SEEDS, local_problems

from fastconv import functional, reference
from fastconv.accuracy import precision


def bias_shape(problem):
    rank = len(problem.x) - 2
    return (*problem.weight[:rank], problem.weight[-1])


@given(problem=local_problems(), dtype=DTYPES, seed=SEEDS, with_bias=st.booleans())
def test_equals_the_reference(isa, threads, problem, dtype, seed, with_bias):
    x, weight, bias = several([problem.x, problem.weight, bias_shape(problem)], dtype, seed)
    bias = bias if with_bias else None
    want = reference.locally_connected(x, weight, bias, **problem.keywords)
    assert_exact(functional.locally_connected(x, weight, bias, **problem.keywords), want, dtype)
    dy = whole(want.shape, dtype, seed + 1)
    assert_all_exact(
        functional.locally_connected_backward(dy, x, weight, **problem.keywords),
        reference.locally_connected_backward(dy, x, weight, **problem.keywords),
        dtype,
    )


@given(problem=local_problems(), seed=SEEDS)
def test_equal_weights_make_a_convolution(isa, problem, seed):
    rank = len(problem.x) - 2
    outputs, shared_shape = problem.weight[:rank], problem.weight[rank:]
    x, shared = several([problem.x, shared_shape], np.float32, seed)
    weight = np.broadcast_to(shared, problem.weight)
    y = functional.locally_connected(x, weight, **problem.keywords)
    with precision("exact"):
        assert_exact(y, functional.conv(x, shared, **problem.keywords))
    dy = whole(y.shape, np.float32, seed + 1)
    dx, dweight, dbias = functional.locally_connected_backward(dy, x, weight, **problem.keywords)
    positions = tuple(range(len(outputs)))
    with precision("exact"):
        want = functional.conv_backward(dy, x, shared, **problem.keywords)
    assert_all_exact((dx, dweight.sum(axis=positions), dbias.sum(axis=positions)), want)


@given(problem=local_problems(), seed=SEEDS)
def test_the_gradients_are_adjoint(isa, problem, seed):
    x, weight = several([problem.x, problem.weight], np.float32, seed)
    y = functional.locally_connected(x, weight, **problem.keywords)
    dy = whole(y.shape, np.float32, seed + 1)
    dx, dweight, dbias = functional.locally_connected_backward(dy, x, weight, **problem.keywords)
    assert dot(dy, y) == dot(dx, x) == dot(dweight, weight)
    assert_exact(dbias, dy.sum(axis=0))


@given(problem=local_problems(), seed=SEEDS)
def test_linear_in_x_and_in_the_weight(isa, problem, seed):
    x, x2, weight, weight2 = several([problem.x, problem.x, problem.weight, problem.weight], np.float32, seed)

    def local(x, weight):
        return functional.locally_connected(x, weight, **problem.keywords)

    assert_exact(local(2 * x - x2, weight), 2 * local(x, weight) - local(x2, weight))
    assert_exact(local(x, 2 * weight - weight2), 2 * local(x, weight) - local(x, weight2))


@pytest.mark.parametrize(
    ("x", "weight", "keywords"),
    [
        ((2, 5, 2), (3, 3, 2, 3), {"stride": 2, "padding": 1}),
        ((1, 3, 4, 2), (3, 4, 2, 3, 2, 2), {"padding": "same"}),
        ((1, 2, 3, 2, 1), (2, 1, 2, 1, 2, 2, 1, 2), {"stride": (1, 2, 1), "padding": ((0, 0), (0, 0), (1, 0))}),
    ],
)
def test_gradients_against_finite_differences(isa, x, weight, keywords):
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal(x), rng.standard_normal(weight)
    y = functional.locally_connected(x, weight, **keywords)
    dy, bias = rng.standard_normal(y.shape), rng.standard_normal(y.shape[1:])
    dx, dweight, dbias = functional.locally_connected_backward(dy, x, weight, **keywords)
    assert_gradient(dx, lambda x: functional.locally_connected(x, weight, bias, **keywords), x, dy)
    assert_gradient(dweight, lambda weight: functional.locally_connected(x, weight, bias, **keywords), weight, dy)
    assert_gradient(dbias, lambda bias: functional.locally_connected(x, weight, bias, **keywords), bias, dy)


@pytest.mark.parametrize(("batch", "channels", "outputs"), [(1, 300, 40), (230, 3, 5), (2, 5, 520)])
def test_sizes_around_the_packed_blocks(isa, threads, batch, channels, outputs):
    x, weight = several([(batch, 3, channels), (2, 2, channels, outputs)], np.float32)
    want = reference.locally_connected(x, weight)
    assert_exact(functional.locally_connected(x, weight), want)
    dy = whole(want.shape, np.float32, 3)
    assert_all_exact(
        functional.locally_connected_backward(dy, x, weight), reference.locally_connected_backward(dy, x, weight)
    )


def test_nan_propagates_to_the_windows_that_see_it(isa):
    x, weight = np.ones((1, 6, 2)), np.ones((4, 3, 2, 5))
    x[0, 1, 0] = np.nan
    y = functional.locally_connected(x, weight)
    np.testing.assert_array_equal(np.isnan(y[0, :, 0]), [True, True, False, False])
    weight[3, 0, 0, 1] = np.inf
    y = functional.locally_connected(np.ones((1, 6, 2)), weight)
    np.testing.assert_array_equal(np.argwhere(np.isinf(y)), [[0, 3, 1]])


def test_an_image_that_no_window_sees_has_no_gradient(isa):
    # stride 2 and padding 1: the two windows of the first axis lie on the padding, before and after the one pixel
    x, weight = several([(3, 1, 4, 2), (2, 2, 1, 1, 2, 5)])
    keywords = {"stride": 2, "padding": ((1, 1), (0, 0))}
    assert not functional.locally_connected(x, weight, **keywords).any()
    dx, dweight, _ = functional.locally_connected_backward(whole((3, 2, 2, 5)), x, weight, **keywords)
    assert not dx.any()
    assert not dweight.any()


def test_what_wrt_leaves_out_is_none():
    x, weight, dy = several([(2, 4, 3), (2, 3, 3, 5), (2, 2, 5)])
    dx, dweight, dbias = functional.locally_connected_backward(dy, x, weight, wrt=("x",))
    assert_exact(dx, functional.locally_connected_backward(dy, x, weight)[0])
    assert dweight is None
    assert dbias is None


X, WEIGHT = np.ones((2, 5, 4, 3)), np.ones((3, 4, 3, 1, 3, 2))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": np.ones((5, 3))}, ValueError, r"x must have shape \(N, \*spatial, C\) .*got shape \(5, 3\)"),
        ({"x": np.ones((2, 5, 4, 0))}, ValueError, r"x must have at least one channel .*got shape \(2, 5, 4, 0\)"),
        ({"x": X.astype(np.float32)}, TypeError, "weight must have the dtype of x, float32, got float64"),
        ({"x": X.astype(int)}, TypeError, "x must be a float32 or float64 array, got int64"),
        ({"weight": np.ones((3, 4, 3, 1, 2, 2))}, ValueError, r"with C = 3, the channels of x, got \(3, 4, 3, 1, 2, 2\)"),
        ({"weight": np.ones((3, 4, 3, 3, 2))}, ValueError, r"weight must have shape .*, 6 axes .* x with 2 spatial axes"),
        ({"weight": np.ones((3, 4, 3, 1, 3, 0))}, ValueError, r"at least 1 .*got \(3, 4, 3, 1, 3, 0\)"),
        ({"weight": np.ones((5, 4, 3, 1, 3, 2))}, ValueError, r"each output position: shape \(\*\(3, 4\), \*\(3, 1\)"),
        ({"weight": np.ones((1, 4, 6, 1, 3, 2))}, ValueError, "the kernel is larger than the padded input along .* axis 0"),
        ({"stride": 0}, ValueError, "stride must be at least 1, got 0"),
        ({"stride": 1.0}, TypeError, r"stride must be an integer or a tuple of integers, got 1\.0"),
        ({"padding": "full"}, ValueError, "padding must be .*got 'full'"),
        ({"padding": -1}, ValueError, "padding must be at least 0, got -1"),
        ({"bias": np.ones(2)}, ValueError, r"bias must have shape \(3, 4, 2\) \(one value for each output\), got \(2,\)"),
        ({"dy": np.ones((2, 4, 3, 2))}, ValueError, r"dy must have shape \(2, 3, 4, 2\) .*got \(2, 4, 3, 2\)"),
        ({"wrt": ("x", "scale")}, ValueError, "wrt must name some of"),
    ],
)  # fmt: skip
def test_errors_name_the_argument(change, error, message):
    change = dict(change)
    x, weight = change.pop("x", X), change.pop("weight", WEIGHT)
    if {"dy", "wrt"} & set(change):
        with pytest.raises(error, match=message):
            functional.locally_connected_backward(change.pop("dy", np.ones((2, 3, 4, 2))), x, weight, **change)
        return
    with pytest.raises(error, match=message):
        functional.locally_connected(x, weight, **change)
