"""Transposed convolution: the adjoint of the convolution with the same weight, equal to the reference."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from exact import assert_all_exact, assert_exact, dot, several, whole
from gradients import assert_gradient
from hypothesis import given
from hypothesis import strategies as st
from problems import DTYPES, SEEDS, conv_problems, conv_transpose_problems

from fastconv import functional, geometry, precision, reference


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    """Whole numbers are compared exactly; Winograd's algorithm, which rounds them, has tests of its own."""
    with precision("exact"):
        yield


@given(problem=conv_transpose_problems(), dtype=DTYPES, seed=SEEDS, with_bias=st.booleans())
def test_equals_the_reference(isa, threads, problem, dtype, seed, with_bias):
    outputs = problem.weight[-2] * problem.keywords["groups"]
    x, weight, bias = several([problem.x, problem.weight, (outputs,)], dtype, seed)
    bias = bias if with_bias else None
    want = reference.conv_transpose(x, weight, bias, **problem.keywords)
    assert_exact(functional.conv_transpose(x, weight, bias, **problem.keywords), want, dtype)
    dy = whole(want.shape, dtype, seed + 1)
    assert_all_exact(
        functional.conv_transpose_backward(dy, x, weight, **problem.keywords),
        reference.conv_transpose_backward(dy, x, weight, **problem.keywords),
        dtype,
    )


@given(problem=conv_problems(smallest_batch=1), seed=SEEDS)
def test_is_the_adjoint_of_the_convolution(isa, problem, seed):
    x, weight = several([problem.x, problem.weight], np.float32, seed)
    size, kernel = x.shape[1:-1], weight.shape[:-2]
    stride, dilation = (np.broadcast_to(problem.keywords[name], len(size)).tolist() for name in ("stride", "dilation"))
    pairs = geometry.padding_pairs(problem.keywords["padding"], size, kernel, stride, dilation)
    y = functional.conv(x, weight, **problem.keywords)
    dy = whole(y.shape, np.float32, seed + 1)
    # the pixels at the end that no window reaches are the output padding
    reached = geometry.conv_transpose_output(
        y.shape[1:-1], kernel, stride, ((0, 0),) * len(size), dilation, (0,) * len(size)
    )
    extra = tuple(n + sum(pair) - m for n, pair, m in zip(size, pairs, reached, strict=True))
    keywords = {**problem.keywords, "padding": pairs, "output_padding": extra}
    back = functional.conv_transpose(dy, weight, **keywords)
    assert dot(back, x) == dot(dy, y)
    assert_exact(back, functional.conv_backward(dy, x, weight, **problem.keywords)[0])


@given(problem=conv_transpose_problems(), seed=SEEDS)
def test_the_gradients_are_adjoint(isa, problem, seed):
    x, weight = several([problem.x, problem.weight], np.float32, seed)
    y = functional.conv_transpose(x, weight, **problem.keywords)
    dy = whole(y.shape, np.float32, seed + 1)
    dx, dweight, dbias = functional.conv_transpose_backward(dy, x, weight, **problem.keywords)
    assert dot(dy, y) == dot(dx, x) == dot(dweight, weight)
    assert_exact(dbias, dy.sum(axis=tuple(range(dy.ndim - 1))))


@given(problem=conv_transpose_problems(), seed=SEEDS)
def test_linear_in_x_and_in_the_weight(isa, problem, seed):
    x, x2, weight, weight2 = several([problem.x, problem.x, problem.weight, problem.weight], np.float32, seed)

    def transpose(x, weight):
        return functional.conv_transpose(x, weight, **problem.keywords)

    assert_exact(transpose(2 * x - x2, weight), 2 * transpose(x, weight) - transpose(x2, weight))
    assert_exact(transpose(x, 2 * weight - weight2), 2 * transpose(x, weight) - transpose(x, weight2))


@pytest.mark.parametrize(
    ("x", "weight", "keywords"),
    [
        ((2, 4, 3), (3, 2, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
        ((1, 3, 2, 4), (2, 3, 2, 4), {"stride": (1, 2), "padding": ((0, 1), (1, 0)), "groups": 2}),
        ((1, 3, 3, 3), (2, 2, 1, 3), {"dilation": 2, "output_padding": (1, 0), "groups": 3}),
        ((1, 2, 2, 3, 1), (2, 1, 2, 2, 1), {"stride": (2, 1, 2)}),
    ],
)
def test_gradients_against_finite_differences(isa, x, weight, keywords):
    rng = np.random.default_rng(0)
    outputs = weight[-2] * keywords.get("groups", 1)
    x, weight, bias = rng.standard_normal(x), rng.standard_normal(weight), rng.standard_normal(outputs)
    dy = rng.standard_normal(functional.conv_transpose(x, weight, **keywords).shape)
    dx, dweight, dbias = functional.conv_transpose_backward(dy, x, weight, **keywords)
    assert_gradient(dx, lambda x: functional.conv_transpose(x, weight, bias, **keywords), x, dy)
    assert_gradient(dweight, lambda weight: functional.conv_transpose(x, weight, bias, **keywords), weight, dy)
    assert_gradient(dbias, lambda bias: functional.conv_transpose(x, weight, bias, **keywords), bias, dy)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [3, 4, 5])
def test_same_multiplies_the_size_by_the_stride(isa, stride, kernel):
    x, weight = several([(1, 5, 6, 2), (kernel, kernel, 3, 2)])
    assert functional.conv_transpose(x, weight, stride=stride, padding="same").shape == (1, 5 * stride, 6 * stride, 3)


@pytest.mark.parametrize("groups", [1, 4])
def test_where_no_tap_falls_the_bias_is_left(isa, threads, groups):
    # stride 3 with a kernel of 1: two pixels of three see nothing, and the output padding sees nothing either
    x, weight, bias = several([(2, 3, 4), (1, 4 // groups, 4), (4,)])
    y = functional.conv_transpose(x, weight, bias, stride=3, output_padding=2, groups=groups)
    assert y.shape == (2, 9, 4)
    want = np.broadcast_to(bias, y.shape).copy()
    want[:, ::3] = functional.conv_transpose(x, weight, bias, groups=groups)
    assert_exact(y, want)


def test_a_stride_as_long_as_the_image_takes_no_longer():
    x, weight, bias = several([(1, 2, 1), (1, 1, 1), (1,)])
    stride = 2_000_000  # one phase for each pixel of it would take seconds
    y = functional.conv_transpose(x, weight, bias, stride=stride)
    assert_exact(y[0, [0, stride]], functional.conv_transpose(x, weight, bias)[0])
    assert (y[0, 1:stride] == bias).all()
    dx, _, _ = functional.conv_backward(x, y, weight, stride=stride)
    assert_exact(dx[0, [0, stride]], functional.conv_transpose(x, weight)[0])
    assert not dx[0, 1:stride].any()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(("channels", "groups"), [(3, 1), (20, 20)])
def test_nan_and_infinity_propagate_to_the_window_they_are_stamped_on(isa, value, channels, groups):
    x, weight = np.ones((1, 5, 5, channels)), np.ones((3, 3, channels // groups, channels))
    x[0, 1, 2, 0] = value
    y = functional.conv_transpose(x, weight, stride=2, groups=groups)
    seen = np.zeros(y.shape, bool)
    seen[0, 2:5, 4:7, : channels // groups] = True
    np.testing.assert_array_equal(y[seen], np.full(seen.sum(), value))
    assert np.isfinite(y[~seen]).all()


def test_what_wrt_leaves_out_is_none():
    x, weight = several([(1, 4, 2), (3, 5, 2)])
    dy = whole((1, 6, 5), seed=3)
    dx, dweight, dbias = functional.conv_transpose_backward(dy, x, weight, wrt="weight")
    assert dx is None
    assert dbias is None
    assert_exact(dweight, functional.conv_transpose_backward(dy, x, weight)[1])
