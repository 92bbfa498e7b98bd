"""Convolution of few channels over padded lines: bands of one line and of many images, windows beside the image, same bits."""

from __future__ import annotations

import numpy as np
import pytest
from convolutions import assert_product_exact, assert_same_on_any_threads
from exact import several
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import DTYPES, SEEDS

from fastconv import functional, reference

#: (channels, outputs): whole vectors of some width; parts of vectors; one more channel than the kernel takes.
CHANNELS = [
    *[(1, 8), (1, 16), (1, 48), (2, 24), (3, 16), (3, 32), (6, 16), (13, 32), (16, 64)],
    *[(1, 6), (2, 1), (3, 20), (4, 33), (5, 3), (6, 5), (8, 2), (8, 19), (16, 4)],
    (17, 16),
]


@settings(max_examples=60)
@given(
    size=st.sampled_from([(28, 28), (10, 6), (3, 31), (1, 90), (9, 7), (2, 3, 17), (5, 4, 6), (70,)]),
    kernel=st.sampled_from([2, 3, 5]),
    keywords=st.fixed_dictionaries(
        {
            "stride": st.sampled_from([1, 1, 2, 3]),
            "dilation": st.sampled_from([1, 1, 2]),
            "padding": st.sampled_from([0, 1, 4, 9]),
        }
    ),
    channels=st.sampled_from(CHANNELS),
    dtype=DTYPES,
    seed=SEEDS,
)
def test_equals_the_reference(isa, threads, size, kernel, keywords, channels, dtype, seed):
    inputs, outputs = channels
    weight_shape = (*(kernel,) * len(size), inputs, outputs)
    reach = (kernel - 1) * keywords["dilation"] + 1 - 2 * keywords["padding"]
    size = tuple(max(length, reach) for length in size)
    x, weight, bias = several([(5, *size, inputs), weight_shape, (outputs,)], dtype, seed)
    assert_product_exact(x, weight, bias, seed, **keywords)


@pytest.mark.parametrize("width", [*range(8, 21), 28, 56, 230])
@pytest.mark.parametrize(("channels", "outputs"), [(3, 16), (3, 40), (8, 24), (2, 6), (3, 21)])
def test_long_lines_whatever_is_left_of_their_tiles(isa, width, channels, outputs):
    x, weight, bias = several([(2, 3, 2 * width, channels), (3, 3, channels, outputs), (outputs,)], np.float32, width)
    assert_product_exact(x, weight, bias, stride=2, padding=1)


@pytest.mark.parametrize("outputs", [1, 5, 6, 17, 20])
def test_columns_beyond_those_there_are_leave_no_trace(isa, outputs):
    """Neither in the pixels of other bands and threads, nor behind the array."""
    x, weight, bias = several([(3, 40, 30, 3), (5, 5, 3, outputs), (outputs,)], np.float32, outputs)
    assert_same_on_any_threads(x, weight, bias, padding=2)
    assert_product_exact(x, weight, bias, padding=2)
    for images in range(1, 4):  # what follows an image does not matter
        np.testing.assert_array_equal(
            functional.conv(x[:images].copy(), weight, bias, padding=2),
            functional.conv(x, weight, bias, padding=2)[:images],
        )


@pytest.mark.parametrize(("kernel", "channels"), [(9, 4), (11, 3), (19, 1), (9, 5)])  # 324, 363, 361 columns; too many
def test_windows_of_more_columns_than_a_part_of_other_products_has(isa, threads, kernel, channels):
    x, weight, bias = several([(2, 20, 19, channels), (kernel, kernel, channels, 48), (48,)], np.float32, 0)
    assert_product_exact(x, weight, bias, padding=kernel // 2, stride=2)
    assert_product_exact(
        np.zeros((2, 20, 19, 48), np.float32) + x[..., :1], weight.swapaxes(2, 3).copy(), padding=kernel // 2
    )


def test_planes_of_a_third_axis_are_images_of_their_own(isa, threads):
    x, weight, bias = several([(3, 2, 9, 7, 3), (1, 3, 3, 3, 32), (32,)], np.float32, 0)
    assert_product_exact(x, weight, bias, padding=((0, 0), (1, 1), (1, 1)))


@pytest.mark.parametrize("padding", [(5, 0), (0, 5)])
def test_windows_that_begin_behind_the_image_or_end_before_it_see_zeros(isa, padding):
    x, weight = np.ones((9, 2, 3, 1), np.float32), np.ones((2, 3, 1, 16), np.float32)
    for x_ in (x, x[:, :1, :1]):
        want = reference.conv(x_, weight, padding=(padding, padding))
        np.testing.assert_array_equal(functional.conv(x_, weight, padding=(padding, padding)), want)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_stays_with_the_windows_that_see_it(isa, value):
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((2, 9, 21, 2)), rng.standard_normal((3, 3, 2, 16))
    x[1, 4, 10] = value
    for dtype in (np.float32, np.float64):
        x_, weight_ = x.astype(dtype), weight.astype(dtype)
        y = functional.conv(x_, weight_, padding=1)
        with np.errstate(invalid="ignore"):
            want = reference.conv(x_, weight_, padding=1)
        np.testing.assert_array_equal(np.isfinite(y), np.isfinite(want))
        dy = rng.standard_normal(y.shape).astype(dtype)
        dy[0, 6, 18, 1] = value
        _, dweight, _ = functional.conv_backward(
            dy, np.abs(rng.standard_normal(x.shape)).astype(dtype), weight_, padding=1
        )
        np.testing.assert_array_equal(np.isfinite(dweight).all(axis=(0, 1, 2)), np.arange(16) != 1)


@settings(max_examples=200)
@given(
    batch=st.integers(2, 9),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    kernel=st.integers(2, 5),
    stride=st.integers(1, 3),
    channels=st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17]),
    outputs=st.sampled_from([1, 2, 3, 4, 5, 6, 8, 12, 16, 20, 32]),
    dtype=DTYPES,
    seed=SEEDS,
)
def test_an_image_has_the_same_bits_in_any_batch(isa, batch, size, kernel, stride, channels, outputs, dtype, seed):
    """Fewer rows than are worth padded lines are multiplied by other kernels, which have to add in the same order."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((batch, *size, channels)).astype(dtype)
    weight = rng.standard_normal((kernel, kernel, channels, outputs)).astype(dtype)
    bias = rng.standard_normal(outputs).astype(dtype)
    keywords = {"stride": stride, "padding": kernel // 2, "algorithm": "product"}
    alone = [functional.conv(image[None], weight, bias, **keywords) for image in x]
    np.testing.assert_array_equal(functional.conv(x, weight, bias, **keywords), np.concatenate(alone))


def test_the_bits_are_those_of_one_thread(isa):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 30, 30, 3)).astype(np.float32)
    weight = rng.standard_normal((5, 5, 3, 32)).astype(np.float32)
    assert_same_on_any_threads(x, weight, padding=2, bias=rng.standard_normal(32).astype(np.float32))
