"""Convolution with few channels, whose vectors run over pixels and channels: lines around whole vectors, what is not finite."""

from __future__ import annotations

import numpy as np
import pytest
from convolutions import assert_product_exact, assert_same_on_any_threads
from exact import several
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import DTYPES, SEEDS

from fastconv import functional, reference

#: (channels, outputs): below, at and above half a vector and a whole one, of every width that permutes.
CHANNELS = [
    (1, 1),
    (1, 2),
    (1, 3),
    (1, 4),
    (1, 6),
    (1, 7),
    (1, 8),
    (2, 5),
    (3, 3),
    (3, 6),
    (1, 10),
    (3, 13),
    (4, 12),
    (1, 16),
    (6, 1),
    (16, 3),
    (8, 7),
    (5, 2),
]


@settings(max_examples=60)
@given(
    size=st.sampled_from([(28, 28), (6, 5), (3, 31), (1, 16), (9, 70), (2, 3, 17), (5, 4, 6), (40,)]),
    kernel=st.sampled_from([1, 2, 3, 5]),
    keywords=st.fixed_dictionaries(
        {
            "stride": st.sampled_from([1, 1, 2, 3]),
            "dilation": st.sampled_from([1, 1, 2]),
            "padding": st.sampled_from([4, 9]),
        }
    ),
    channels=st.sampled_from(CHANNELS),
    dtype=DTYPES,
    seed=SEEDS,
)
def test_equals_the_reference(isa, threads, size, kernel, keywords, channels, dtype, seed):
    inputs, outputs = channels
    weight_shape = (*(kernel,) * len(size), inputs, outputs)
    x, weight, bias = several([(3, *size, inputs), weight_shape, (outputs,)], dtype, seed)
    assert_product_exact(x, weight, bias, seed, **keywords)


@pytest.mark.parametrize("padding", [(5, 0), (0, 5)])
def test_windows_that_begin_behind_the_image_or_end_before_it_see_zeros(isa, padding):
    x, weight = np.ones((1, 2, 3, 1), np.float32), np.ones((2, 3, 1, 3), np.float32)
    for x_ in (x, x[:, :1, :1]):
        want = reference.conv(x_, weight, padding=(padding, padding))
        np.testing.assert_array_equal(functional.conv(x_, weight, padding=(padding, padding)), want)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("outputs", [3, 6, 10])
def test_what_is_not_finite_stays_with_the_windows_that_see_it(isa, value, outputs):
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((2, 9, 21, 1)), rng.standard_normal((3, 3, 1, outputs))
    x[1, 4, 10] = value
    for dtype in (np.float32, np.float64):
        x_, weight_ = x.astype(dtype), weight.astype(dtype)
        y = functional.conv(x_, weight_)
        with np.errstate(invalid="ignore"):
            want = reference.conv(x_, weight_)
        np.testing.assert_array_equal(np.isfinite(y), np.isfinite(want))
        dy = np.ones_like(y)
        dy[1, 2:5, 8:11] = 0  # the windows that see it: zero times it is NaN
        _, dweight, _ = functional.conv_backward(dy, x_, weight_, wrt=("weight",))
        assert np.isnan(dweight).all()
        dy = rng.standard_normal(y.shape).astype(dtype)
        dy[0, 6, 18, 1] = value
        _, dweight, _ = functional.conv_backward(dy, np.abs(rng.standard_normal(x.shape)).astype(dtype), weight_)
        np.testing.assert_array_equal(np.isfinite(dweight).all(axis=(0, 1, 2)), np.arange(outputs) != 1)


def test_the_bits_are_those_of_one_thread(isa):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 30, 30, 3)).astype(np.float32)
    weight = rng.standard_normal((5, 5, 3, 6)).astype(np.float32)
    assert_same_on_any_threads(x, weight, padding=2, bias=rng.standard_normal(6).astype(np.float32))
