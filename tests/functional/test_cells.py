"""Padding that is not multiplied: products cut where windows see other taps, and gradients of the weight tap by tap."""

from __future__ import annotations

import numpy as np
import pytest
from convolutions import assert_product_exact
from exact import several
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import DTYPES, SEEDS

from fastconv import functional, reference


@settings(max_examples=8)
@given(
    size=st.sampled_from([(14, 13), (7, 7), (5, 9), (1, 3), (40,), (3, 5, 6), (2, 8, 8)]),
    kernel=st.sampled_from([2, 3, 5, 7]),
    dilation=st.sampled_from([1, 2, 4, 6]),
    stride=st.sampled_from([1, 1, 2, 3]),
    padding=st.sampled_from([1, 4, 6, 12]),
    channels=st.sampled_from([20, 33]),
    outputs=st.sampled_from([16, 36]),
    batch=st.sampled_from([1, 3, 14]),
    dtype=DTYPES,
    seed=SEEDS,
)
def test_equals_the_reference(
    isa, threads, size, kernel, dilation, stride, padding, channels, outputs, batch, dtype, seed
):
    kernel = 3 if len(size) == 3 else kernel
    padding = max(padding, dilation * (kernel - 1) // 2)
    x, weight, bias = several(
        [(batch, *size, channels), (*(kernel,) * len(size), channels, outputs), (outputs,)], dtype, seed
    )
    assert_product_exact(x, weight, bias, seed, padding=padding, dilation=dilation, stride=stride)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("dilation", [3, 6, 13])
def test_groups_and_taps_that_no_window_sees(isa, threads, dilation, groups):
    x, weight, bias = several([(2, 12, 12, 128), (3, 3, 128 // groups, 128), (128,)], np.float32, 0)
    assert_product_exact(x, weight, bias, padding=dilation, dilation=dilation, groups=groups)


@settings(max_examples=8)
@given(
    size=st.sampled_from([(14, 13), (7, 7), (1, 3), (40,), (3, 5, 6)]),
    kernel=st.sampled_from([2, 3, 5, 7]),
    dilation=st.sampled_from([1, 2, 4, 6]),
    stride=st.sampled_from([1, 1, 2, 3]),
    padding=st.sampled_from([1, 4, 6, 12]),
    groups=st.sampled_from([(2, 24, 32), (4, 16, 16), (6, 8, 5), (12, 2, 2), (3, 20, 2), (1, 40, 2), (5, 33, 1)]),
    batch=st.sampled_from([1, 3, 14]),
    dtype=DTYPES,
    seed=SEEDS,
)
def test_groups_of_few_channels(isa, threads, size, kernel, dilation, stride, padding, groups, batch, dtype, seed):
    """All groups of a cell at once, some of them as dot products."""
    count, channels, outputs = groups
    kernel = 3 if len(size) == 3 else kernel
    padding = max(padding, dilation * (kernel - 1) // 2)
    weight_shape = (*(kernel,) * len(size), channels, count * outputs)
    x, weight, bias = several([(batch, *size, count * channels), weight_shape, (count * outputs,)], dtype, seed)
    assert_product_exact(x, weight, bias, seed, padding=padding, dilation=dilation, stride=stride, groups=count)


@pytest.mark.parametrize(("channels", "taps", "dilation"), [(64, 7, 1), (144, 5, 1), (130, 3, 4)])
def test_an_image_is_the_same_in_any_batch(channels, taps, dilation):
    """How many rows a cell or a tap has decides what is cut, and cannot be seen in the result."""
    rng = np.random.default_rng(0)
    x, weight = (rng.standard_normal(shape, np.float32) for shape in ((44, 7, 7, channels), (taps, taps, channels, 48)))
    arguments = {"padding": taps // 2 * dilation, "dilation": dilation, "algorithm": "product"}
    together = functional.conv(x, weight, **arguments)
    alone = functional.conv(x[:1], weight, **arguments)
    np.testing.assert_array_equal(alone, together[:1])


@pytest.mark.parametrize(("groups", "outputs"), [(8, 64), (4, 8), (1, 2)])
def test_in_groups_too(groups, outputs):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((44, 7, 7, 64), np.float32)
    weight = rng.standard_normal((5, 5, 64 // groups, outputs), np.float32)
    arguments = {"padding": 4, "dilation": 2, "groups": groups}
    together = functional.conv(x, weight, **arguments)
    alone = functional.conv(x[:1], weight, **arguments)
    np.testing.assert_array_equal(alone, together[:1])


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("where", [(0, 0, 0, 0), (1, 1, 7, 15), (2, 2, 3, 40)])
@pytest.mark.parametrize("outputs", [48, 96])
def test_a_weight_of_groups_that_is_not_finite_makes_nan_of_the_padding(isa, value, where, outputs):
    x, weight = several([(8, 12, 12, 48), (3, 3, 8, outputs)], np.float32, 0)
    weight[where] = value
    arguments = {"padding": 6, "dilation": 6, "groups": 6}
    with np.errstate(invalid="ignore"):
        want = reference.conv(x, weight, **arguments)
    y = functional.conv(x, weight, **arguments)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(want))
    np.testing.assert_array_equal(np.isfinite(y), np.isfinite(want))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("where", [(0, 0, 0, 0), (2, 2, 39, 32), (1, 1, 7, 5)])
@pytest.mark.parametrize(("dtype", "channels"), [(np.float32, 40), (np.float64, 40), (np.float32, 130)])
def test_a_weight_that_is_not_finite_makes_nan_of_the_padding(isa, value, where, dtype, channels):
    """In cells, and with more channels tap by tap."""
    x, weight = several([(8, 12, 12, channels), (3, 3, channels, 33)], dtype, 0)
    weight[where] = value
    with np.errstate(invalid="ignore"):
        want = reference.conv(x, weight, padding=6, dilation=6)
    y = functional.conv(x, weight, padding=6, dilation=6)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(want))
    np.testing.assert_array_equal(np.isfinite(y), np.isfinite(want))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("where", [(0, 0, 0, 0), (7, 11, 11, 32), (3, 6, 6, 5)])
def test_a_gradient_that_is_not_finite_makes_nan_of_the_padding(isa, value, where):
    x, weight, dy = several([(8, 12, 12, 40), (3, 3, 40, 33), (8, 12, 12, 33)], np.float32, 0)
    dy[where] = value
    arguments = {"padding": 6, "dilation": 6}
    with np.errstate(invalid="ignore"):
        _, want, _ = reference.conv_backward(dy, x, weight, **arguments)
    _, got, _ = functional.conv_backward(dy, x, weight, **arguments, wrt=("weight",))
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    np.testing.assert_array_equal(np.isfinite(got), np.isfinite(want))
