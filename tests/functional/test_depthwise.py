"""Depthwise convolution: widths, kernels and channels around the edges of its tile, and what is not finite."""

from __future__ import annotations

import math

import numpy as np
import pytest
from exact import assert_all_exact, assert_exact, several, whole
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from problems import DTYPES, EDGES, SEEDS

import fastconv
from fastconv import functional, reference


@settings(max_examples=12)
@given(
    width=st.integers(1, 21),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 11)),
    keywords=st.fixed_dictionaries(
        {
            "stride": st.tuples(st.integers(1, 3), st.integers(1, 3)),
            "dilation": st.sampled_from([1, 1, 2, 3, 7]),
            "padding": st.sampled_from(["same", ((0, 7), (8, 6)), ((9, 2), (3, 12)), ((25, 24), (70, 6))]),
        }
    ),
    channels=st.sampled_from(EDGES),
    dtype=DTYPES,
    seed=SEEDS,
)
def test_equals_the_reference(isa, threads, width, kernel, keywords, channels, dtype, seed):
    padding, reach = keywords["padding"], [1 + (taps - 1) * keywords["dilation"] for taps in kernel]
    assume(padding == "same" or all(n + sum(p) >= k for n, p, k in zip((6, width), padding, reach, strict=True)))
    x, weight, bias = several([(2, 6, width, channels), (*kernel, 1, channels), (channels,)], dtype, seed)
    keywords = {**keywords, "groups": channels}
    want = reference.conv(x, weight, bias, **keywords)
    assert_exact(functional.conv(x, weight, bias, **keywords), want, dtype)
    dy = whole(want.shape, dtype, seed + 1)
    assert_all_exact(
        functional.conv_backward(dy, x, weight, **keywords), reference.conv_backward(dy, x, weight, **keywords), dtype
    )


ROWS = {
    "taps": st.integers(2, 17),
    "stride": st.integers(1, 4),
    "dilation": st.integers(1, 2),
    "size": st.tuples(st.integers(1, 3), st.integers(1, 40)),
    "padding": st.tuples(st.integers(0, 18), st.integers(0, 18)),
    "channels": st.sampled_from([*EDGES, 530]),
    "dtype": DTYPES,
    "seed": SEEDS,
}


@settings(max_examples=20)
@given(**ROWS)
def test_rows_in_several_passes(isa, taps, stride, dilation, size, padding, channels, dtype, seed):
    assume(size[1] + sum(padding) > (taps - 1) * dilation)
    keywords = {"stride": (1, stride), "dilation": (1, dilation), "padding": ((1, 1), padding), "groups": channels}
    x, weight, bias = several([(2, *size, channels), (2, taps, 1, channels), (channels,)], dtype, seed)
    assert_exact(functional.conv(x, weight, bias, **keywords), reference.conv(x, weight, bias, **keywords), dtype)
    x = np.random.default_rng(seed).standard_normal(x.shape).astype(dtype)
    with fastconv.num_threads(1):
        want = functional.conv(x, weight, bias, **keywords)
    for threads in (2, 3):
        with fastconv.num_threads(threads):
            np.testing.assert_array_equal(functional.conv(x, weight, bias, **keywords), want)
            np.testing.assert_array_equal(functional.conv(x[1:], weight, bias, **keywords), want[1:])


@settings(max_examples=20)
@given(activation=st.sampled_from([fastconv.layers.ReLU6, fastconv.layers.SiLU]), **ROWS)
def test_the_last_of_several_passes_applies_the_activation(
    isa, threads, activation, taps, stride, dilation, size, padding, channels, dtype, seed
):
    assume(size[1] + sum(padding) > (taps - 1) * dilation)
    x, weight, bias = several([(2, *size, channels), (2, taps, 1, channels), (channels,)], dtype, seed)
    layer = fastconv.layers.DepthwiseConv2d(
        (2, taps), stride=(1, stride), dilation=(1, dilation), padding=((1, 1), padding)
    )
    model = fastconv.Sequential([layer, activation()], input_shape=x.shape[1:]).build().astype(dtype)
    layer.params["weight"][...], layer.params["bias"][...] = weight.reshape(layer.params["weight"].shape), bias
    np.testing.assert_allclose(fastconv.freeze(model)(x), model(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channels", [3, 20, 40])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_weight_that_is_not_finite_meets_the_padding_and_nothing_beyond_the_gradient(isa, value, channels, stride):
    x, weight = np.ones((1, 5, 9, channels), np.float32), np.ones((3, 5, 1, channels), np.float32)
    weight[0, 1, 0, channels - 2] = value  # zero times infinity is NaN: in the padding, and there alone
    keywords = {"stride": stride, "padding": "same", "groups": channels}
    with np.errstate(invalid="ignore"):
        want = reference.conv(x, weight, **keywords)
        dx, _, _ = reference.conv_backward(np.ones_like(want), x, weight, wrt=("x",), **keywords)
    np.testing.assert_array_equal(functional.conv(x, weight, **keywords), want)
    got, _, _ = functional.conv_backward(np.ones_like(want), x, weight, wrt=("x",), **keywords)
    np.testing.assert_array_equal(got, dx)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("channels", [3, 20, 40])
@pytest.mark.parametrize("padding", [1, ((4, 0), (1, 6))])  # of the second some windows see padding alone
@pytest.mark.parametrize("where", [(0, 3), (2, 0), (2, 3)])
def test_a_gradient_that_is_not_finite_meets_the_padding(isa, value, channels, padding, where):
    x, weight = np.ones((1, 5, 9, channels), np.float32), np.ones((3, 3, 1, channels), np.float32)
    keywords = {"padding": padding, "groups": channels, "wrt": ("weight",)}
    dy = np.ones(functional.conv(x, weight, padding=padding, groups=channels).shape, np.float32)
    dy[(0, *where, channels - 1)] = value
    with np.errstate(invalid="ignore"):
        _, want, _ = reference.conv_backward(dy, x, weight, **keywords)
    _, got, _ = functional.conv_backward(dy, x, weight, **keywords)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("items", [1, 4])
@pytest.mark.parametrize(
    "channels", [128, 544]
)  # of the largest vectors so many that they are aligned; two blocks of them
@pytest.mark.parametrize("stride", [1, 2])
def test_an_image_that_begins_within_a_cache_line(isa, items, channels, stride):
    x, weight, bias = several([(2, 5, 14, channels), (3, 3, 1, channels), (channels,)], np.float32)
    memory = np.zeros(x.size + 32, np.float32)
    start = -memory.ctypes.data // 4 % 16 + items
    shifted = memory[start : start + x.size].reshape(x.shape)
    shifted[...] = x
    keywords = {"stride": stride, "padding": 1, "groups": channels}
    assert_exact(functional.conv(shifted, weight, bias, **keywords), reference.conv(x, weight, bias, **keywords))


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("channels", [13, 64, 100])
def test_an_image_has_the_same_bits_in_a_batch_that_no_cache_holds(isa, threads, channels, rank):
    sizes = (33, 38) if rank == 2 else (5, 17, 16)
    batch = 2**22 // (math.prod(sizes) * channels) + 2  # more than 16 MB
    x = np.random.default_rng(0).standard_normal((batch, *sizes, channels), np.float32)
    weight = np.random.default_rng(1).standard_normal((3,) * rank + (1, channels), np.float32)
    options = {"stride": 2, "padding": 1, "groups": channels}
    y = functional.conv(x, weight, **options)
    for i in (0, batch - 1):
        np.testing.assert_array_equal(y[i : i + 1], functional.conv(x[i : i + 1], weight, **options))


@pytest.mark.parametrize("channels", [5, 40])
def test_activation_of_outputs_that_see_padding_alone(isa, channels):
    x, weight = several([(1, 2, 9, channels), (3, 3, 1, channels)], np.float32)
    layer = fastconv.layers.DepthwiseConv2d(3, padding=((4, 5), (0, 6)))
    model = fastconv.Sequential([layer, fastconv.layers.ReLU()], input_shape=x.shape[1:]).build()
    layer.params["weight"][...] = weight
    layer.params["bias"][...] = whole((channels,), np.float32, 5)
    assert_exact(fastconv.freeze(model)(x), model(x))
