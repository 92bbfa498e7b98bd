"""The reference's pooling: by hand, against SciPy, and its gradients against finite differences."""

from __future__ import annotations

import numpy as np
import pytest
from gradients import assert_gradient
from scipy import ndimage

from fastconv import reference

POOLS = [
    # x shape, kernel, keywords; no dilation, so that they serve both kinds
    ((2, 7, 2), 3, {}),
    ((2, 7, 2), 3, {"stride": 2, "padding": 1, "ceil_mode": True}),
    ((1, 5, 6, 3), (2, 3), {"stride": (1, 2), "padding": ((1, 0), (0, 2))}),
    ((1, 1, 1, 1), 1, {}),
    ((0, 4, 4, 2), 2, {}),
    ((1, 3, 4, 3, 2), 2, {"stride": (1, 2, 1), "padding": (0, 1, 1)}),
]


def spread(shape):
    """Return an array of distinct values, far enough apart for finite differences."""
    return np.random.default_rng(0).permutation(int(np.prod(shape))).astype(np.float64).reshape(shape)


def test_max_pool_by_hand():
    x = np.array([[1.0, 2, 5], [4, 3, 0], [7, 6, 8]]).reshape(1, 3, 3, 1)
    np.testing.assert_array_equal(reference.max_pool(x, 2)[0, ..., 0], [[4]])
    np.testing.assert_array_equal(reference.max_pool(x, 2, stride=1)[0, ..., 0], [[4, 5], [7, 8]])
    np.testing.assert_array_equal(reference.max_pool(x, 2, ceil_mode=True)[0, ..., 0], [[4, 5], [7, 8]])
    np.testing.assert_array_equal(reference.max_pool(x, 2, dilation=2)[0, ..., 0], [[8]])
    np.testing.assert_array_equal(reference.max_pool(-x, 2, padding=1)[0, ..., 0], [[-1, -2], [-4, 0]])


def test_avg_pool_by_hand():
    x = np.array([[1.0, 2, 5], [4, 3, 0], [7, 6, 8]]).reshape(1, 3, 3, 1)
    np.testing.assert_array_equal(reference.avg_pool(x, 2)[0, ..., 0], [[2.5]])
    np.testing.assert_array_equal(reference.avg_pool(x, 2, ceil_mode=True)[0, ..., 0], [[2.5, 2.5], [6.5, 8]])
    padded = reference.avg_pool(x, 2, padding=1)[0, ..., 0]
    np.testing.assert_array_equal(padded, [[1, 3.5], [5.5, 4.25]])
    counted = reference.avg_pool(x, 2, padding=1, count_include_pad=True)[0, ..., 0]
    np.testing.assert_array_equal(counted, [[0.25, 1.75], [2.75, 4.25]])


def test_adaptive_windows_by_hand():
    x = np.arange(7.0).reshape(1, 7, 1)
    # windows of 3 outputs over 7 inputs: 0..2, 2..4, 4..6
    np.testing.assert_array_equal(reference.adaptive_avg_pool(x, 3)[0, :, 0], [1, 3, 5])
    np.testing.assert_array_equal(reference.adaptive_max_pool(x, 3)[0, :, 0], [2, 4, 6])
    # more outputs than inputs repeat them
    np.testing.assert_array_equal(reference.adaptive_avg_pool(x[:, :2], 4)[0, :, 0], [0, 0, 1, 1])


def test_max_pool_equals_scipy():
    x = spread((2, 6, 7, 2))
    want = ndimage.maximum_filter(x, size=(1, 3, 3, 1), mode="constant", cval=-np.inf)
    np.testing.assert_array_equal(reference.max_pool(x, 3, stride=1, padding=1), want)
    np.testing.assert_array_equal(reference.max_pool(x, 3, stride=2, padding=1), want[:, ::2, ::2])
    holes = np.zeros((1, 3, 3, 1), bool)
    holes[:, ::2, ::2] = True
    want = ndimage.maximum_filter(x, footprint=holes, mode="constant", cval=-np.inf)
    np.testing.assert_array_equal(reference.max_pool(x, 2, stride=1, padding=1, dilation=2), want)


def test_avg_pool_equals_scipy():
    x = spread((2, 6, 7, 2))
    want = ndimage.uniform_filter(x, size=(1, 3, 3, 1), mode="constant")
    got = reference.avg_pool(x, 3, stride=1, padding=1, count_include_pad=True)
    np.testing.assert_allclose(got, want, atol=1e-12)
    pixels = ndimage.uniform_filter(np.ones_like(x), size=(1, 3, 3, 1), mode="constant")
    np.testing.assert_allclose(reference.avg_pool(x, 3, stride=1, padding=1), want / pixels, atol=1e-12)


@pytest.mark.parametrize(("shape", "kernel", "keywords"), POOLS)
def test_max_pool_backward_is_the_gradient(shape, kernel, keywords):
    x = spread(shape)
    dy = np.random.default_rng(1).standard_normal(reference.max_pool(x, kernel, **keywords).shape)
    dx = reference.max_pool_backward(dy, x, kernel, **keywords)
    assert_gradient(dx, lambda x: reference.max_pool(x, kernel, **keywords), x, dy)


@pytest.mark.parametrize("include", [False, True])
@pytest.mark.parametrize(("shape", "kernel", "keywords"), POOLS)
def test_avg_pool_backward_is_the_gradient(shape, kernel, keywords, include):
    x = spread(shape)
    keywords = {**keywords, "count_include_pad": include}
    dy = np.random.default_rng(1).standard_normal(reference.avg_pool(x, kernel, **keywords).shape)
    dx = reference.avg_pool_backward(dy, shape, kernel, **keywords)
    assert_gradient(dx, lambda x: reference.avg_pool(x, kernel, **keywords), x, dy)


@pytest.mark.parametrize(("shape", "output"), [((2, 5, 2), 3), ((1, 5, 4, 2), (2, 6)), ((1, 3, 2, 3, 1), 1)])
def test_adaptive_backward_is_the_gradient(shape, output):
    x = spread(shape)
    dy = np.random.default_rng(1).standard_normal(reference.adaptive_avg_pool(x, output).shape)
    dx = reference.adaptive_avg_pool_backward(dy, shape, output)
    assert_gradient(dx, lambda x: reference.adaptive_avg_pool(x, output), x, dy)
    dx = reference.adaptive_max_pool_backward(dy, x, output)
    assert_gradient(dx, lambda x: reference.adaptive_max_pool(x, output), x, dy)


def test_dilated_max_backward_is_the_gradient():
    x = spread((1, 6, 6, 2))
    keywords = {"stride": 1, "padding": 1, "dilation": (1, 2)}
    dy = np.random.default_rng(1).standard_normal(reference.max_pool(x, 2, **keywords).shape)
    assert_gradient(
        reference.max_pool_backward(dy, x, 2, **keywords), lambda x: reference.max_pool(x, 2, **keywords), x, dy
    )


def test_of_equal_pixels_the_first_in_row_major_order_wins():
    x = np.zeros((1, 2, 2, 1))
    dx = reference.max_pool_backward(np.ones((1, 1, 1, 1)), x, 2)
    np.testing.assert_array_equal(dx[0, ..., 0], [[1, 0], [0, 0]])
    x[0, 0, 0] = -1
    dx = reference.max_pool_backward(np.ones((1, 1, 1, 1)), x, 2)
    np.testing.assert_array_equal(dx[0, ..., 0], [[0, 1], [0, 0]])


def test_nan_is_the_maximum_and_the_first_takes_the_gradient():
    x = np.array([9.0, np.nan, 1, np.nan]).reshape(1, 2, 2, 1)
    assert np.isnan(reference.max_pool(x, 2)).all()
    dx = reference.max_pool_backward(np.ones((1, 1, 1, 1)), x, 2)
    np.testing.assert_array_equal(dx[0, ..., 0], [[0, 1], [0, 0]])


def test_a_window_of_infinities_gives_its_gradient_to_a_pixel():
    x = np.full((1, 2, 1), -np.inf)
    keywords = {"stride": 2, "padding": 1}
    assert (reference.max_pool(x, 3, **keywords) == -np.inf).all()
    np.testing.assert_array_equal(reference.max_pool_backward(np.ones((1, 1, 1)), x, 3, **keywords)[0, :, 0], [1, 0])


def test_a_window_without_a_pixel_is_minus_infinity_and_gives_no_gradient():
    x = np.array([1.0, 2.0]).reshape(1, 2, 1)
    keywords = {"padding": 1, "dilation": 3}  # its two taps are one before the first pixel and one after the last
    assert reference.max_pool(x, 2, **keywords).tolist() == [[[-np.inf]]]
    assert not reference.max_pool_backward(np.ones((1, 1, 1)), x, 2, **keywords).any()
