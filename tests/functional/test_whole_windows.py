"""Windows that are as long as the image: their pixels count as channels, and one that is as large is a linear layer."""

from __future__ import annotations

import math

import numpy as np
import pytest
from convolutions import assert_product_exact, assert_same_on_any_threads
from exact import assert_exact, several
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import DTYPES, SEEDS

import fastconv
from fastconv import functional, layers, reference
from fastconv.functional._conv_plan import conv_plan

SIZES = st.sampled_from([(1, 4), (3, 5), (7, 7), (9,), (2, 3, 4), (12, 10), (5, 1)])


@settings(max_examples=60)
@given(
    size=SIZES,
    shorter=st.integers(0, 2),
    before=st.integers(0, 1),
    channels=st.integers(1, 5),
    outputs=st.sampled_from([1, 3, 8, 16, 37]),
    images=st.integers(1, 20),
    dtype=DTYPES,
    seed=SEEDS,
)
def test_equals_the_reference(isa, threads, size, shorter, before, channels, outputs, images, dtype, seed):
    kernel = (max(size[0] - shorter, 1), *size[1:])  # as long as the image along all axes, or along all but the first
    padding = [(before, 0), *[(0, 0)] * (len(size) - 1)]
    shapes = [(images, *size, channels), (*kernel, channels, outputs), (outputs,)]
    assert_product_exact(*several(shapes, dtype, seed), seed, padding=padding)


@settings(max_examples=40)
@given(size=SIZES, channels=st.integers(1, 5), images=st.integers(1, 20), dtype=DTYPES, seed=SEEDS)
def test_transposed_with_a_bias_equals_the_reference(isa, threads, size, channels, images, dtype, seed):
    one = (1,) * len(size)
    x, weight, bias = several([(images, *one, 7), (*size, channels, 7), (channels,)], dtype, seed)
    assert_exact(functional.conv_transpose(x, weight, bias), reference.conv_transpose(x, weight, bias), dtype)


@pytest.mark.parametrize("images", [1, 3, 16, 40])
@pytest.mark.parametrize("outputs", [1, 10, 120])
def test_a_window_as_large_as_the_image_is_a_linear_layer(isa, images, outputs):
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal(shape).astype(np.float32) for shape in ((images, 5, 5, 16), (images, 1, 1, outputs)))
    weight = rng.standard_normal((5, 5, 16, outputs)).astype(np.float32)
    rows, matrix = x.reshape(images, -1), weight.reshape(-1, outputs)
    np.testing.assert_array_equal(functional.conv(x, weight)[:, 0, 0], functional.linear(rows, matrix))
    got = functional.conv_backward(dy, x, weight)
    want = functional.linear_backward(dy[:, 0, 0], rows, matrix)
    for of_conv, of_linear in zip(got, want, strict=True):
        np.testing.assert_array_equal(of_conv.ravel(), of_linear.ravel())
    assert_same_on_any_threads(x, weight)


def test_only_pixels_that_lie_one_after_the_other_count_as_channels():
    def channels(size, kernel, **arguments):
        keywords = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "algorithm": None} | arguments
        groups = keywords["groups"]
        return conv_plan((2, *size, 16), (*kernel, 16 // groups, 12), **keywords).sizes[1]

    assert channels((5, 7), (5, 7)) == 5 * 7 * 16
    assert channels((5, 7), (3, 7)) == 7 * 16
    assert channels((5, 7), (3, 7), padding=((1, 1), (0, 0)), stride=2) == 7 * 16
    assert channels((5, 7), (5, 3)) == 16
    assert channels((5, 7), (5, 7), padding=1) == 16
    assert channels((5, 7), (5, 7), groups=2) == 16
    assert channels((3, 3), (3, 3), algorithm="winograd") == 16


@pytest.mark.parametrize("kernel", [(5, 6), (3, 6)])
def test_frozen_models_compute_what_models_do(kernel):
    model = fastconv.Sequential(
        [layers.Conv2d(8, 3, padding="same"), layers.Conv2d(24, kernel), layers.ReLU()], input_shape=(5, 6, 3)
    )
    x = np.random.default_rng(0).standard_normal((4, 5, 6, 3)).astype(np.float32)
    np.testing.assert_allclose(fastconv.freeze(model)(x), model(x), rtol=1e-4, atol=1e-5)


def test_frozen_generators_compute_what_models_do():
    model = fastconv.Sequential(
        [layers.ConvTranspose2d(24, 4), layers.ReLU(), layers.ConvTranspose2d(3, 4, stride=2, padding=1)],
        input_shape=(1, 1, 10),
    )
    x = np.random.default_rng(0).standard_normal((4, 1, 1, 10)).astype(np.float32)
    y = fastconv.freeze(model)(x)
    assert math.prod(y.shape) == 4 * 8 * 8 * 3
    np.testing.assert_allclose(y, model(x), rtol=1e-4, atol=1e-5)
