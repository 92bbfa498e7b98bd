"""Gradients of large weights, whose windows are copied for low tiles: pieces of windows, padding, parts of rows, same bits."""

from __future__ import annotations

import numpy as np
import pytest
from convolutions import assert_same_on_any_threads
from exact import assert_exact, several, whole
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import DTYPES, SEEDS

from fastconv import functional, reference


def gradient(dy: np.ndarray, x: np.ndarray, weight: np.ndarray, **keywords: object) -> np.ndarray:
    """Return the gradient of the weight as a product."""
    (_, got, _) = functional.conv_backward(dy, x, weight, wrt=("weight",), algorithm="product", **keywords)
    return got


@settings(max_examples=30)
@given(
    size=st.sampled_from([(7, 9), (23, 14), (31,), (3, 4, 5)]),
    kernel=st.sampled_from([1, 2, 3]),
    keywords=st.fixed_dictionaries(
        {
            "stride": st.sampled_from([1, 1, 2]),
            "dilation": st.sampled_from([1, 1, 2]),
            "padding": st.sampled_from([0, 1, 2]),
            "groups": st.sampled_from([1, 1, 2]),
        }
    ),
    channels=st.sampled_from([9, 24, 64, 101, 128]),
    outputs=st.sampled_from([96, 97, 128, 172, 200]),
    images=st.integers(1, 3),
    dtype=DTYPES,
    seed=SEEDS,
)
def test_equals_the_reference(isa, threads, size, kernel, keywords, channels, outputs, images, dtype, seed):
    groups = keywords["groups"]
    weight_shape = (*(kernel,) * len(size), channels, outputs * groups)
    reach = (kernel - 1) * keywords["dilation"] + 1 - 2 * keywords["padding"]
    size = tuple(max(length, reach) for length in size)
    x, weight = several([(images, *size, channels * groups), weight_shape], dtype, seed)
    dy = whole(reference.conv(x, weight, **keywords).shape, dtype, seed + 1)
    want = reference.conv_backward(dy, x, weight, wrt=("weight",), **keywords)[1]
    assert_exact(gradient(dy, x, weight, **keywords), want, dtype)


@pytest.mark.parametrize(
    ("pixels", "channels", "outputs"), [(1, 128, 128), (65, 512, 96), (700, 100, 170), (1800, 64, 720)]
)
def test_any_threads_make_the_same_bits(isa, pixels, channels, outputs):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, pixels, 1, channels)).astype(np.float32)
    assert_same_on_any_threads(x, rng.standard_normal((1, 1, channels, outputs)).astype(np.float32))


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_what_is_not_finite_times_padding_is_not_skipped(isa, value):
    x, weight = several([(2, 5, 6, 128), (3, 3, 128, 128)], np.float32, 0)
    dy = whole((2, 5, 6, 128), np.float32, 1)
    dy[1, 4, 5, 3] = value
    with np.errstate(invalid="ignore"):
        want = reference.conv_backward(dy, x, weight, padding=1, wrt=("weight",))[1]
    np.testing.assert_array_equal(gradient(dy, x, weight, padding=1), want)
