"""Pooling: equal to the reference for every kind of window, and what maxima and means must be."""

from __future__ import annotations

import numpy as np
import pytest
from exact import assert_exact, dot, whole
from gradients import assert_gradient
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import adaptive_pools, pools, spread, with_nan
from problems import DTYPES, SEEDS

import fastconv
from fastconv import functional, reference


@settings(max_examples=20)
@given(pool=pools(dilated=True), dtype=DTYPES, seed=SEEDS, holes=st.booleans())
def test_max_pool_equals_the_reference(isa, threads, pool, dtype, seed, holes):
    x = whole(pool.shape, dtype, seed)  # many ties
    x = with_nan(x, seed) if holes else x
    y = reference.max_pool(x, pool.kernel, **pool.most)
    assert_exact(functional.max_pool(x, pool.kernel, **pool.most), y, dtype)
    dy = whole(y.shape, dtype, seed + 1)
    got = functional.max_pool_backward(dy, x, pool.kernel, **pool.most)
    assert_exact(got, reference.max_pool_backward(dy, x, pool.kernel, **pool.most), dtype)


@settings(max_examples=20)
@given(pool=pools(), dtype=DTYPES, seed=SEEDS)
def test_avg_pool_equals_the_reference(isa, threads, pool, dtype, seed):
    x = whole(pool.shape, dtype, seed)
    y = reference.avg_pool(x, pool.kernel, **pool.mean)
    assert_exact(functional.avg_pool(x, pool.kernel, **pool.mean), y, dtype)
    dy = 36 * whole(y.shape, dtype, seed + 1)  # a multiple of most numbers of pixels
    got = functional.avg_pool_backward(dy, x.shape, pool.kernel, **pool.mean)
    np.testing.assert_allclose(
        got, reference.avg_pool_backward(dy, x.shape, pool.kernel, **pool.mean), rtol=1e-6, atol=1e-4
    )
    assert got.dtype == dtype


@settings(max_examples=15)
@given(pool=adaptive_pools(), dtype=DTYPES, seed=SEEDS)
def test_adaptive_pools_equal_the_reference(isa, threads, pool, dtype, seed):
    shape, output = pool
    x = whole(shape, dtype, seed)
    y = reference.adaptive_max_pool(x, output)
    dy = 36 * whole(y.shape, dtype, seed + 1)
    assert_exact(functional.adaptive_max_pool(x, output), y, dtype)
    want = reference.adaptive_max_pool_backward(dy, x, output)
    assert_exact(functional.adaptive_max_pool_backward(dy, x, output), want, dtype)
    assert_exact(functional.adaptive_avg_pool(x, output), reference.adaptive_avg_pool(x, output), dtype)
    got = functional.adaptive_avg_pool_backward(dy, shape, output)
    np.testing.assert_allclose(got, reference.adaptive_avg_pool_backward(dy, shape, output), rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 3, 6])
@pytest.mark.parametrize(
    ("size", "kernel", "keywords"),
    [
        ((7, 9), 2, {"ceil_mode": True}),
        ((4, 6), 2, {"padding": ((0, 1), (0, 1)), "ceil_mode": True}),  # windows that hang over the end
        ((4, 6, 5), (2, 3, 2), {"ceil_mode": True}),
        ((600,), 2, {}),  # a line of more windows than are kept
    ],
)
def test_means_of_few_channels_that_tile_the_image(isa, threads, channels, size, kernel, keywords):
    shape = (2, *size, channels)
    dy = 36 * whole(functional.avg_pool(np.zeros(shape, np.float32), kernel, **keywords).shape, np.float32, 3)
    got = functional.avg_pool_backward(dy, shape, kernel, **keywords)
    np.testing.assert_allclose(got, reference.avg_pool_backward(dy, shape, kernel, **keywords), rtol=1e-6)


@pytest.mark.parametrize("channels", [1, 3, 8, 15])
@pytest.mark.parametrize(
    ("size", "kernel", "keywords"),
    [
        ((9, 11), 3, {"padding": 1}),
        ((9, 11), 3, {"stride": 2, "padding": 1, "ceil_mode": True}),
        ((5, 6), 5, {"stride": 3, "padding": 2}),
        ((4, 3), (3, 7), {"stride": 1, "padding": ((1, 1), (3, 3))}),  # every window sees padding
        ((2, 530), 3, {"stride": 1, "padding": ((0, 1), (2, 0)), "count_include_pad": True}),  # several parts of a line
    ],
)
def test_means_of_few_channels_between_padding(isa, threads, channels, size, kernel, keywords):
    """All windows of a line that see no padding go through the same loop."""
    x = whole((2, *size, channels), np.float32, 1)
    want = reference.avg_pool(x, kernel, **keywords)
    np.testing.assert_allclose(functional.avg_pool(x, kernel, **keywords), want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3, 20, 130, 300])
@pytest.mark.parametrize(
    ("size", "kernel", "keywords"),
    [
        ((4500,), 5, {"stride": 2, "padding": 2}),  # a line of more than is spread at a time
        ((3, 150), (2, 24), {"stride": (1, 7), "padding": ((1, 0), (20, 23)), "ceil_mode": True}),
        ((70,), 25, {"stride": 3}),  # more taps than that
        ((6, 9), 5, {"stride": 1, "padding": 2}),
        ((5, 6, 7), (3, 2, 4), {"stride": (2, 1, 3), "padding": (1, 1, 2), "ceil_mode": True}),
        ((6, 5, 4), 5, {"stride": 1, "padding": (2, 2, 3)}),  # more lines than are added up
        ((9, 8), 2, {"stride": 3}),
    ],
)
def test_the_gradient_of_means_that_overlap(isa, threads, channels, size, kernel, keywords):
    shape = (2, *size, channels)
    dy = whole(functional.avg_pool(np.zeros(shape, np.float32), kernel, **keywords).shape, np.float32, 3)
    got = functional.avg_pool_backward(dy, shape, kernel, **keywords)
    np.testing.assert_allclose(got, reference.avg_pool_backward(dy, shape, kernel, **keywords), rtol=1e-5, atol=1e-5)
    with fastconv.num_threads(1):
        np.testing.assert_array_equal(functional.avg_pool_backward(dy, shape, kernel, **keywords), got)
    one = functional.avg_pool_backward(dy[1:], (1, *shape[1:]), kernel, **keywords)
    np.testing.assert_array_equal(one, got[1:])


@pytest.mark.parametrize("channels", [1, 3, 20, 100, 255, 300, 2053])
@pytest.mark.parametrize(
    ("size", "kernel", "keywords"),
    [
        ((19, 9), (19, 9), {}),
        ((9, 23), (4, 7), {"stride": (3, 8), "padding": ((1, 1), (2, 0))}),
        ((2, 5, 8), (2, 5, 4), {}),
        ((140,), 136, {"stride": 138, "padding": ((0, 135),)}),  # the second window sees two pixels
    ],
)
def test_large_windows_whose_pixels_follow_each_other(isa, threads, channels, size, kernel, keywords):
    x = whole((2, *size, channels))
    assert_exact(functional.max_pool(x, kernel, **keywords), reference.max_pool(x, kernel, **keywords))
    y = functional.avg_pool(x, kernel, **keywords)
    np.testing.assert_allclose(y, reference.avg_pool(x, kernel, **keywords), rtol=1e-6, atol=1e-5)
    with fastconv.num_threads(1):
        np.testing.assert_array_equal(functional.avg_pool(x, kernel, **keywords), y)
    x[(1, *[-1] * len(size), channels // 2)] = np.nan
    np.testing.assert_array_equal(functional.max_pool(x, kernel, **keywords), reference.max_pool(x, kernel, **keywords))


@pytest.mark.parametrize(
    "shape, kernel, keywords",
    [
        ((3, 70, 40, 260), 2, {}),
        ((2, 9, 61, 1000), 3, {"stride": 2, "padding": 1}),
        ((1, 1100, 1030), 4, {"stride": 3, "padding": ((2, 1),)}),
        ((2, 4, 20, 30, 257), 2, {}),
        ((2, 60, 61, 150), 3, {"stride": 2, "padding": ((1, 0), (2, 1))}),
        ((2, 61, 60, 150), 2, {"stride": 3, "padding": 1}),
    ],
)
def test_pools_of_more_than_caches_hold(isa, threads, shape, kernel, keywords):
    x = whole(shape, np.float64)  # more than 8 MB
    assert_exact(functional.max_pool(x, kernel, **keywords), reference.max_pool(x, kernel, **keywords))
    y = functional.avg_pool(x, kernel, **keywords)
    np.testing.assert_allclose(y, reference.avg_pool(x, kernel, **keywords), rtol=1e-12, atol=1e-12)


@given(pool=pools(), seed=SEEDS)
def test_the_backward_pass_of_a_mean_is_its_adjoint(pool, seed):
    x = np.random.default_rng(seed).standard_normal(pool.shape)
    y = functional.avg_pool(x, pool.kernel, **pool.mean)
    dy = np.random.default_rng(seed + 1).standard_normal(y.shape)
    dx = functional.avg_pool_backward(dy, x.shape, pool.kernel, **pool.mean)
    assert dot(dy, y) == pytest.approx(dot(dx, x), rel=1e-9, abs=1e-9)


@settings(max_examples=15)
@given(pool=pools(dilated=True))
def test_gradients_against_finite_differences(pool):
    shape = (min(pool.shape[0], 1), *pool.shape[1:-1], min(pool.shape[-1], 2))
    x = spread(shape)
    dy = np.random.default_rng(1).standard_normal(functional.max_pool(x, pool.kernel, **pool.most).shape)
    dx = functional.max_pool_backward(dy, x, pool.kernel, **pool.most)
    some = np.where(np.isfinite(functional.max_pool(x, pool.kernel, **pool.most)), dy, 0)

    def pooled(x):
        y = functional.max_pool(x, pool.kernel, **pool.most)
        return np.where(np.isfinite(y), y, 0)

    assert_gradient(dx, pooled, x, some)


@given(pool=pools(dilated=True), seed=SEEDS)
def test_max_pool_commutes_with_monotone_maps(pool, seed):
    x = np.random.default_rng(seed).standard_normal(pool.shape)
    # each leaves -inf, of a window without a pixel, and rounds one way wherever a value stands (np.sinh has two)
    for monotone in (lambda x: x * x * x, lambda x: np.sign(x) * np.sqrt(np.abs(x)), lambda x: 2 * x - 7):
        pooled = monotone(functional.max_pool(x, pool.kernel, **pool.most))
        np.testing.assert_array_equal(functional.max_pool(monotone(x), pool.kernel, **pool.most), pooled)


@given(pool=pools(dilated=True), seed=SEEDS)
def test_maxima_of_maxima_along_each_axis(pool, seed):
    x = whole(pool.shape, np.float32, seed)
    want = functional.max_pool(x, pool.kernel, **pool.most)
    stride = pool.keywords["stride"]
    stride = pool.kernel if stride is None else np.broadcast_to(stride, len(pool.kernel))
    y = x
    for axis, (k, s, pair, d) in enumerate(
        zip(pool.kernel, stride, pool.keywords["padding"], pool.dilation, strict=True), 1
    ):
        lines = np.moveaxis(y, axis, -1)
        flat = lines.reshape(-1, lines.shape[-1], 1)
        some = functional.max_pool(
            flat, k, stride=int(s), padding=(pair,), dilation=d, ceil_mode=pool.keywords["ceil_mode"]
        )
        y = np.moveaxis(some.reshape(*lines.shape[:-1], -1) if flat.size else lines[..., : some.shape[1]], -1, axis)
    if x.size:
        np.testing.assert_array_equal(y, want)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_one_output_is_the_maximum_and_the_mean_of_the_image(isa, rank):
    x = whole((2, *(5, 4, 3)[:rank], 37))
    axes = tuple(range(1, rank + 1))
    assert_exact(functional.adaptive_max_pool(x, 1), x.max(axis=axes, keepdims=True))
    assert_exact(functional.adaptive_avg_pool(x, 1), x.mean(axis=axes, keepdims=True))


@pytest.mark.parametrize("channels", [1, 16, 70])
def test_lower_ranks_are_axes_of_one_pixel(isa, channels):
    x = whole((2, 7, channels))
    y = functional.max_pool(x, 3, stride=2, padding=1)
    assert_exact(functional.max_pool(x[:, None], (1, 3), stride=(1, 2), padding=(0, 1)), y[:, None])
    assert_exact(functional.max_pool(x[:, :, None, None], (3, 1, 1), stride=2, padding=(1, 0, 0)), y[:, :, None, None])


@pytest.mark.parametrize("channels", [1, 17, 64])
def test_of_equal_pixels_the_first_in_row_major_order_takes_the_gradient(isa, channels):
    x = np.zeros((1, 4, 4, channels), np.float32)
    dx = functional.max_pool_backward(np.ones((1, 2, 2, channels), np.float32), x, 2)
    want = np.zeros_like(x)
    want[:, ::2, ::2] = 1
    np.testing.assert_array_equal(dx, want)


@pytest.mark.parametrize("channels", [2, 8, 15, 16, 17, 20, 40])
@pytest.mark.parametrize("stride", [1, 2, (1, 2), (2, 1), (3, 1)])
@pytest.mark.parametrize("padding", [0, 1, ((2, 1), (1, 2)), ((0, 2), (2, 0))])
def test_the_backward_pass_of_windows_that_overlap(isa, threads, channels, stride, padding):
    keywords = {"stride": stride, "padding": padding, "ceil_mode": True}
    x = whole((2, 9, 8, channels))  # many ties
    x[0, 0, :, 0], x[0, :, 7], x[1, 2] = -np.inf, -np.inf, np.inf
    for holes in (False, True):
        if holes:  # windows with them are gone over in another way
            x[0, 4, 3, -1], x[1, 0, 0, 0] = np.nan, np.nan
        dy = whole(reference.max_pool(x, 3, **keywords).shape, seed=1)
        got = functional.max_pool_backward(dy, x, 3, **keywords)
        assert_exact(got, reference.max_pool_backward(dy, x, 3, **keywords))


@pytest.mark.parametrize("channels", [1, 3, 15, 17, 70])
@pytest.mark.parametrize(
    ("size", "kernel", "keywords"),
    [
        ((2100,), 2050, {"stride": 9}),  # more columns than are looked through at a time
        ((300,), 150, {"stride": 60, "padding": 70, "ceil_mode": True}),
        ((300,), 3, {"stride": 7, "dilation": 140}),
        ((3,), 2, {"stride": 1, "dilation": 2, "padding": ((0, 1),)}),  # the first window ends behind the last
        ((9, 9), 6, {"stride": 1, "padding": 2}),
        ((16, 17), 7, {}),
        ((5, 6, 7), 3, {"stride": 2, "padding": 1}),
        ((1, 300), (1, 2), {"stride": 1}),
    ],
)
def test_the_backward_pass_of_maxima_found_in_columns(isa, threads, channels, size, kernel, keywords):
    x = whole((2, *size, channels))  # many ties
    for holes in (False, True):
        x = with_nan(x, 3) if holes else x
        dy = whole(reference.max_pool(x, kernel, **keywords).shape, seed=1)
        got = functional.max_pool_backward(dy, x, kernel, **keywords)
        assert_exact(got, reference.max_pool_backward(dy, x, kernel, **keywords))


@pytest.mark.parametrize("channels", [3, 16, 40])
@pytest.mark.parametrize(("size", "kernel"), [((7, 8), 3), ((5, 7, 8), (2, 3, 3)), ((600,), 2), ((9, 9), (4, 2))])
def test_what_windows_that_tile_leave_out_has_no_gradient(isa, threads, channels, size, kernel):
    for padding in (0, 1):
        x = whole((2, *size, channels))
        dy = whole(reference.max_pool(x, kernel, padding=padding).shape, seed=1)
        got = functional.max_pool_backward(dy, x, kernel, padding=padding)
        assert_exact(got, reference.max_pool_backward(dy, x, kernel, padding=padding))
        share = functional.avg_pool_backward(36 * dy, x.shape, kernel, padding=padding)
        want = reference.avg_pool_backward(36 * dy, x.shape, kernel, padding=padding)
        np.testing.assert_allclose(share, want, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize(("images", "channels", "stride"), [(15, 176, 1), (15, 172, 2), (5, 512, 1)])
def test_windows_that_overlap_in_more_than_caches_hold(isa, threads, images, channels, stride):
    x = np.random.default_rng(0).integers(-9, 9, (images, 30, 29, channels)).astype(np.float32)
    x[3, 7, 5, 9] = np.nan
    y = functional.max_pool(x, 3, stride=stride, padding=1)
    dy = np.random.default_rng(1).integers(-9, 9, y.shape).astype(np.float32)
    dx = functional.max_pool_backward(dy, x, 3, stride=stride, padding=1)
    assert x.nbytes > 2**23
    for i in range(0, len(x), 3):  # which caches hold
        image = slice(i, i + 1)
        want = functional.max_pool_backward(dy[image], x[image], 3, stride=stride, padding=1)
        np.testing.assert_array_equal(dx[image], want)


def assert_indices(x, y, indices):
    """Whether each number of y is where its place says."""
    pixels = indices.pixels()
    at = np.unravel_index(np.maximum(pixels, 0), x.shape[1:-1])
    samples = np.arange(len(x)).reshape(-1, *[1] * (x.ndim - 1))
    np.testing.assert_array_equal(np.where(pixels < 0, -np.inf, x[(samples, *at, np.arange(x.shape[-1]))]), y)


@settings(max_examples=20)
@given(pool=pools(dilated=True), dtype=DTYPES, seed=SEEDS, holes=st.booleans())
def test_indices_of_maxima(isa, threads, pool, dtype, seed, holes):
    x = whole(pool.shape, dtype, seed)  # many ties
    x = with_nan(x, seed) if holes else x
    y, indices = functional.max_pool_with_indices(x, pool.kernel, **pool.most)
    assert_exact(y, functional.max_pool(x, pool.kernel, **pool.most), dtype)
    assert indices.numbers.dtype == np.uint8
    assert indices.nbytes == y.size
    assert_indices(x, y, indices)
    dy = whole(y.shape, dtype, seed + 1)
    got = functional.max_pool_with_indices_backward(dy, indices)
    assert_exact(got, functional.max_pool_backward(dy, x, pool.kernel, **pool.most), dtype)


@pytest.mark.parametrize("channels", [1, 3, 33])
@pytest.mark.parametrize(
    ("size", "kernel", "keywords", "dtype"),
    [
        ((40, 30), (40, 30), {}, np.uint16),
        ((40, 30), 17, {"stride": 3, "padding": 8, "ceil_mode": True}, np.uint16),
        ((70_001,), 70_000, {"stride": 1}, np.int32),
    ],
)
def test_indices_in_large_windows_take_more_bytes(isa, threads, channels, size, kernel, keywords, dtype):
    x = np.random.default_rng(0).integers(-9, 9, (2, *size, channels)).astype(np.float32)
    x[1, size[0] // 2] = np.nan
    y, indices = functional.max_pool_with_indices(x, kernel, **keywords)
    assert indices.numbers.dtype == dtype
    assert_indices(x, y, indices)
    dy = whole(y.shape, np.float32, seed=1)
    want = reference.max_pool_backward(dy, x, kernel, **keywords)
    assert_exact(functional.max_pool_with_indices_backward(dy, indices), want)


@pytest.mark.parametrize("channels", [1, 20, 64, 100])
@pytest.mark.parametrize(
    ("size", "kernel", "keywords"),
    [
        ((19, 5), 3, {"stride": 1, "padding": 1}),
        ((19, 6), (2, 3), {"stride": (3, 2), "dilation": (3, 2), "padding": (1, 2), "ceil_mode": True}),
        ((5, 6, 7), 2, {"stride": 1}),
        ((7, 6, 5), 3, {"stride": 2, "padding": 1}),
        ((600,), 3, {"stride": 2}),  # a line of more pixels than are gathered together
        ((2, 3), 2, {"stride": 1, "dilation": 2, "padding": 1}),
    ],
)
def test_one_image_is_shared_by_threads(isa, threads, channels, size, kernel, keywords):
    x = whole((1, *size, channels))
    y, indices = functional.max_pool_with_indices(x, kernel, **keywords)
    assert_exact(y, reference.max_pool(x, kernel, **keywords))
    dy = whole(y.shape, seed=1)
    want = reference.max_pool_backward(dy, x, kernel, **keywords)
    assert_exact(functional.max_pool_with_indices_backward(dy, indices), want)


@pytest.mark.parametrize("channels", [1, 17, 64])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_nan_is_the_maximum_and_the_first_takes_the_gradient(isa, channels, dtype):
    x = np.full((1, 2, 3, channels), np.inf, dtype)
    x[:, 0, 2] = x[:, 1, 0] = np.nan
    assert np.isnan(functional.max_pool(x, (2, 3))).all()
    dx = functional.max_pool_backward(np.ones((1, 1, 1, channels), dtype), x, (2, 3))
    want = np.zeros_like(x)
    want[:, 0, 2] = 1
    np.testing.assert_array_equal(dx, want)


def test_infinities(isa):
    x = np.full((1, 3, 20), -np.inf)
    keywords = {"stride": 2, "padding": 1}
    np.testing.assert_array_equal(functional.max_pool(x, 3, **keywords), x[:, :2])
    dx = functional.max_pool_backward(np.ones((1, 2, 20)), x, 3, **keywords)
    np.testing.assert_array_equal(dx[0, :, 0], [1, 1, 0])  # never a pixel of the padding


def test_a_window_without_a_pixel(isa):
    x = np.ones((1, 2, 20))
    keywords = {"padding": 1, "dilation": 3}  # one tap before the first pixel, one after the last
    assert (functional.max_pool(x, 2, **keywords) == -np.inf).all()
    assert not functional.max_pool_backward(np.ones((1, 1, 20)), x, 2, **keywords).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [(300, 300), (90_000,)])
def test_the_mean_of_a_large_window_is_accurate(isa, size, dtype):
    x = np.random.default_rng(0).random((1, *size, 1)).astype(dtype)
    y = functional.adaptive_avg_pool(x, 1)
    np.testing.assert_allclose(y.item(), x.mean(dtype=np.float64), rtol=20 * np.finfo(dtype).eps)


@pytest.mark.parametrize("channels", [3, 64])
def test_any_memory_order_and_read_only_arrays_which_stay_as_they_are(channels):
    x = whole((2, 6, 7, channels))
    y, dy = functional.max_pool(x, 2), whole((2, 3, 3, channels), seed=1)
    dx, share = functional.max_pool_backward(dy, x, 2), functional.avg_pool_backward(dy, x.shape, 2)
    for order in (np.asfortranarray, lambda a: np.repeat(a, 2, axis=0)[::2], lambda a: a[:, ::-1].copy()[:, ::-1]):
        other, other_dy = order(x), order(dy)
        other.flags.writeable = other_dy.flags.writeable = False
        assert_exact(functional.max_pool(other, 2), y)
        assert_exact(functional.max_pool_backward(other_dy, other, 2), dx)
        assert_exact(functional.avg_pool(other, 2), functional.avg_pool(x, 2))
        assert_exact(functional.avg_pool_backward(other_dy, other.shape, 2), share)
        np.testing.assert_array_equal(other, x)
        np.testing.assert_array_equal(other_dy, dy)
        assert functional.max_pool(other, 1) is not other


def test_arguments_as_lists_arrays_and_numpy_integers():
    x = whole((1, 6, 7, 3))
    want = functional.max_pool(x, (2, 3), stride=(1, 2), padding=((1, 0), (0, 2)), dilation=(2, 1))
    got = functional.max_pool(x, np.array([2, 3]), stride=[1, np.int32(2)], padding=[[1, 0], (0, 2)], dilation=[2, 1])
    assert_exact(got, want)
    assert_exact(functional.avg_pool(x.tolist(), 2), functional.avg_pool(x, 2))
    assert_exact(functional.adaptive_avg_pool(x, [2, 3]), functional.adaptive_avg_pool(x, (2, 3)))
    y = functional.avg_pool(x, 2)
    assert_exact(functional.avg_pool_backward(y, list(x.shape), 2), functional.avg_pool_backward(y, x.shape, 2))


@pytest.mark.parametrize("channels", [1, 3, 6, 24, 130])
@pytest.mark.parametrize(
    ("size", "window"), [((33, 52), (33, 52)), ((40, 200), (1, 100)), ((35, 70), (5, 7)), ((60, 40), (3, 40))]
)
@pytest.mark.parametrize("pool", ["max_pool", "avg_pool"])
def test_an_image_has_the_same_bits_in_a_batch_that_no_cache_holds(isa, pool, size, window, channels):
    function = getattr(functional, pool)
    batch = 2**21 // (size[0] * size[1] * channels) + 2
    x = np.random.default_rng(0).standard_normal((batch, *size, channels), np.float32)
    np.testing.assert_array_equal(function(x, window)[:1], function(x[:1], window))
