"""Convolution in groups of few channels: groups that share a vector, groups of their own, and what is not finite."""

from __future__ import annotations

import numpy as np
import pytest
from convolutions import assert_product_exact, assert_same_on_any_threads
from exact import several
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import DTYPES, SEEDS

from fastconv import functional, reference

#: (groups, channels of a group, outputs of a group): below, at and above a vector, whole and in part, and multipliers.
GROUPS = [
    (2, 8, 8),
    (9, 4, 4),
    (5, 3, 3),
    (3, 6, 5),
    (20, 1, 2),
    (5, 2, 1),
    (3, 16, 16),
    (2, 17, 33),
    (3, 24, 4),
    (3, 4, 24),
    (2, 100, 8),
    (3, 37, 20),
    (2, 40, 3),
    (3, 17, 1),
    (3, 3, 17),
]


@settings(max_examples=25)
@given(
    size=st.sampled_from([(9, 7), (1, 1), (3, 31), (5, 4, 3), (70,)]),
    kernel=st.integers(1, 3),
    keywords=st.fixed_dictionaries(
        {"stride": st.integers(1, 2), "dilation": st.sampled_from([1, 1, 2]), "padding": st.sampled_from(["same", 3])}
    ),
    groups=st.sampled_from(GROUPS),
    dtype=DTYPES,
    seed=SEEDS,
)
def test_equals_the_reference(isa, threads, size, kernel, keywords, groups, dtype, seed):
    count, channels, outputs = groups
    weight_shape = (*(kernel,) * len(size), channels, count * outputs)
    x, weight, bias = several([(2, *size, count * channels), weight_shape, (count * outputs,)], dtype, seed)
    assert_product_exact(x, weight, bias, seed, groups=count, **keywords)


@pytest.mark.parametrize("pixels", [1, 257, 513])
@pytest.mark.parametrize("outputs", range(1, 9))
def test_few_outputs_of_a_strip_of_one_pixel(isa, pixels, outputs):
    for count, channels, dtype in ((2, 16, np.float32), (3, 40, np.float32), (2, 17, np.float64)):
        shapes = [(1, 1, pixels + 2, count * channels), (1, 3, channels, count * outputs), (count * outputs,)]
        x, weight, bias = several(shapes, dtype, 0)
        assert_product_exact(x, weight, bias, groups=count)


@pytest.mark.parametrize(
    ("size", "keywords"),
    [
        ((11, 9), {"padding": 1}),
        ((11, 9), {"padding": 5, "dilation": 4}),  # taps beside the image
        ((21, 17), {"padding": 0, "stride": 2}),
        ((3, 90), {"padding": 1}),  # lines too long to be brought together
        ((5, 4, 9), {"padding": 1}),
    ],
)
def test_channels_that_alias_over_several_strips(isa, size, keywords):
    for count, channels, outputs, dtype in ((8, 32, 12, np.float32), (8, 32, 33, np.float32), (4, 64, 16, np.float64)):
        weight_shape = (*(3,) * len(size), channels, count * outputs)
        x, weight, bias = several([(9, *size, count * channels), weight_shape, (count * outputs,)], dtype, 0)
        assert_product_exact(x, weight, bias, groups=count, **keywords)


@pytest.mark.parametrize(("size", "stride"), [((4, 7), 1), ((9, 8), 2), ((1, 1), 1)])
def test_groups_of_a_vector_that_alias(isa, size, stride):
    for channels, dtype in ((16, np.float32), (8, np.float64)):
        count = 64 // stride
        shapes = [(2, *size, count * channels), (3, 3, channels, count * channels), (count * channels,)]
        x, weight, bias = several(shapes, dtype, 0)
        assert_product_exact(x, weight, bias, groups=count, stride=stride, padding=1)


#: (size, kernel), more taps than a window has that goes as a whole: cut along the first axis, the last, or several.
LARGE_WINDOWS = [
    ((9, 8), (9, 9)),
    ((6, 7, 5), (5, 4, 4)),
    ((1, 2, 140), (1, 2, 67)),
    ((140,), (65,)),
    ((3, 150), (3, 131)),
    ((4, 9, 10), (2, 9, 8)),
]


@settings(max_examples=25)
@given(
    window=st.sampled_from(LARGE_WINDOWS),
    keywords=st.fixed_dictionaries(
        {"stride": st.integers(1, 2), "dilation": st.sampled_from([1, 1, 2]), "padding": st.just("same")}
    ),
    groups=st.sampled_from([(3, 6, 5), (5, 3, 3), (2, 17, 12), (2, 40, 3), (2, 3, 17), (1, 17, 3)]),
    dtype=DTYPES,
    seed=SEEDS,
)
def test_large_windows_equal_the_reference(isa, threads, window, keywords, groups, dtype, seed):
    (size, kernel), (count, channels, outputs) = window, groups
    shapes = [(2, *size, count * channels), (*kernel, channels, count * outputs), (count * outputs,)]
    x, weight, bias = several(shapes, dtype, seed)
    assert_product_exact(x, weight, bias, seed, groups=count, **keywords)


@settings(max_examples=40)
@given(
    size=st.sampled_from([(9, 7), (1, 1), (3, 31), (5, 4, 3), (70,), (29, 14)]),
    groups=st.sampled_from(
        [
            (2, 16, 16),
            (3, 17, 33),
            (2, 5, 65),
            (4, 34, 34),
            (2, 68, 36),
            (3, 2, 20),
            (2, 9, 47),
            (2, 288, 16),
            (2, 289, 17),
        ]
    ),
    dtype=DTYPES,
    seed=SEEDS,
)
def test_pixels_by_themselves_equal_the_reference(isa, threads, size, groups, dtype, seed):
    count, channels, outputs = groups
    weight_shape = (*(1,) * len(size), channels, count * outputs)
    x, weight, bias = several([(2, *size, count * channels), weight_shape, (count * outputs,)], dtype, seed)
    assert_product_exact(x, weight, bias, seed, groups=count, stride=1, dilation=1, padding=0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(("count", "channels", "outputs"), [(9, 4, 4), (5, 3, 3), (20, 1, 2), (3, 16, 16)])
def test_what_is_not_finite_stays_in_its_group(isa, value, count, channels, outputs):
    x = np.ones((1, 5, 6, count * channels), np.float32)
    weight = np.ones((3, 3, channels, count * outputs), np.float32)
    keywords = {"padding": 1, "groups": count}
    dy = np.ones((1, 5, 6, count * outputs), np.float32)
    for changed, index in ((x, (0, 4, 5, channels)), (weight, (1, 0, 0, outputs)), (dy, (0, 0, 0, outputs))):
        usual, changed[index] = changed[index], value
        with np.errstate(invalid="ignore"):
            want = reference.conv(x, weight, **keywords)
            gradients = reference.conv_backward(dy, x, weight, **keywords)
        np.testing.assert_array_equal(functional.conv(x, weight, **keywords), want)
        dx, *others = functional.conv_backward(dy, x, weight, **keywords)
        for got, expected in zip(others, gradients[1:], strict=True):
            np.testing.assert_array_equal(got, expected)
        if changed is weight:  # the product multiplies it with zeros beyond dy's border, as everywhere
            dx[..., channels : 2 * channels] = gradients[0][..., channels : 2 * channels]
        np.testing.assert_array_equal(dx, gradients[0])
        changed[index] = usual


@pytest.mark.parametrize(
    ("count", "channels", "outputs"), [(32, 8, 8), (20, 1, 2), (4, 20, 20), (3, 40, 5), (3, 5, 40)]
)
def test_the_number_of_threads_cannot_be_seen(isa, count, channels, outputs):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((3, 19, 17, count * channels), np.float32)
    weight = rng.standard_normal((3, 3, channels, count * outputs), np.float32)
    assert_same_on_any_threads(x, weight, padding=1, groups=count)


@pytest.mark.parametrize(("count", "channels", "outputs"), [(3, 6, 5), (2, 17, 12), (2, 40, 3)])
def test_the_number_of_threads_cannot_be_seen_in_large_windows(isa, count, channels, outputs):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((3, 19, 17, count * channels), np.float32)
    weight = rng.standard_normal((9, 9, channels, count * outputs), np.float32)
    assert_same_on_any_threads(x, weight, padding=4, groups=count)


@pytest.mark.parametrize(("count", "channels", "outputs"), [(4, 34, 34), (3, 68, 20), (2, 17, 19)])
def test_the_number_of_threads_cannot_be_seen_in_pixels_by_themselves(isa, count, channels, outputs):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((3, 19, 17, count * channels), np.float32)
    weight = rng.standard_normal((1, 1, channels, count * outputs), np.float32)
    assert_same_on_any_threads(x, weight, groups=count)
