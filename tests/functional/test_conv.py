"""Convolution and its gradients: equal to the reference, adjoint, linear, and everything a convolution must be."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from convolutions import assert_product_exact
from exact import assert_all_exact, assert_exact, dot, several, whole
from gradients import assert_gradient
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import DTYPES, EDGES, SEEDS, Problem, conv_problems

from fastconv import functional, precision, reference


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    """Whole numbers are compared exactly; Winograd's algorithm, which rounds them, has tests of its own."""
    with precision("exact"):
        yield


@given(problem=conv_problems(), dtype=DTYPES, seed=SEEDS, with_bias=st.booleans())
def test_equals_the_reference(isa, threads, problem, dtype, seed, with_bias):
    x, weight, bias = several([problem.x, problem.weight, problem.bias], dtype, seed)
    bias = bias if with_bias else None
    want = reference.conv(x, weight, bias, **problem.keywords)
    assert_exact(functional.conv(x, weight, bias, **problem.keywords), want, dtype)
    dy = whole(want.shape, dtype, seed + 1)
    assert_all_exact(
        functional.conv_backward(dy, x, weight, **problem.keywords),
        reference.conv_backward(dy, x, weight, **problem.keywords),
        dtype,
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("x", "weight", "keywords"),
    [
        ((1, 70, 63, 3), (3, 3, 3, 20), {"padding": 1}),  # bands of lines, more pixels than wait at a time
        ((2, 20, 9, 1), (3, 5, 1, 300), {"padding": (1, 2), "dilation": (2, 1)}),  # a depth of two parts
        ((1, 40, 11, 2), (7, 7, 2, 9), {"stride": (2, 3), "padding": ((9, 3), (8, 2))}),  # windows outside the image
        ((1, 5, 24, 6, 1), (2, 3, 4, 1, 33), {"stride": (2, 1, 2), "padding": (1, 0, 2)}),
        ((1, 9, 131, 5), (3, 2, 5, 9), {"stride": (2, 5)}),  # pixels between the windows, steps of more than a vector
        ((2, 12, 130, 8), (3, 7, 8, 20), {"stride": (1, 3), "padding": (1, 3)}),
    ],
)
def test_gradient_of_few_channels_equals_the_reference(isa, threads, dtype, x, weight, keywords):
    x, weight = several([x, weight], dtype, 5)
    dy = whole(functional.conv(x, weight, **keywords).shape, dtype, 6)
    assert_all_exact(
        functional.conv_backward(dy, x, weight, **keywords), reference.conv_backward(dy, x, weight, **keywords), dtype
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("x", "outputs", "keywords"),
    [
        ((2, 9, 13, 40), 3, {}),  # so few outputs that vectors run along the channels
        ((1, 5, 7, 33), 1, {}),
        ((3, 16, 96), 4, {}),
        ((2, 18, 17, 70), 2, {"stride": (2, 1), "padding": (1, 3)}),  # pixels of padding
        ((1, 290, 32), 2, {}),  # more than one task
        ((3, 11, 9, 512), 70, {}),  # pixels whose rows share sets of the cache are packed for the gradient
        ((2, 17, 9, 64), 512, {}),  # and so is dy
        ((1, 30, 31, 32), 721, {}),  # several blocks of columns
    ],
)
def test_one_tap_equals_the_reference(isa, threads, dtype, x, outputs, keywords):
    x, weight, bias = several([x, (1,) * (len(x) - 2) + (x[-1], outputs), (outputs,)], dtype, 7)
    want = reference.conv(x, weight, bias, **keywords)
    assert_exact(functional.conv(x, weight, bias, **keywords), want, dtype)
    dy = whole(want.shape, dtype, 8)
    assert_all_exact(
        functional.conv_backward(dy, x, weight, **keywords), reference.conv_backward(dy, x, weight, **keywords), dtype
    )


@pytest.mark.parametrize("outputs", [1, 3, 4, 5])
def test_the_bits_of_a_pixel_do_not_depend_on_the_others(outputs):
    rng = np.random.default_rng(3)
    x, weight = rng.standard_normal((40, 70), np.float32), rng.standard_normal((70, outputs), np.float32)
    want = functional.linear(x, weight)
    for rows in (1, 2, 15, 16, 17):
        np.testing.assert_array_equal(functional.linear(x[:rows], weight), want[:rows])


def test_gradients_of_images_of_one_pixel_are_not_a_stride_apart():
    x, weight = several([(3, 1, 1, 5), (2, 2, 5, 6)], np.float64, 9)
    dy = whole((3, 1, 1, 6), np.float64, 10)
    keywords = {"stride": 2, "padding": 1}
    assert_all_exact(
        functional.conv_backward(dy, x, weight, **keywords),
        reference.conv_backward(dy, x, weight, **keywords),
        np.float64,
    )


@pytest.mark.parametrize(
    ("x", "weight", "keywords"),
    [
        ((1, 5, 7, 1024), (1, 1, 1024, 40), {}),  # rows that alias in the cache are packed
        ((2, 9, 30, 24), (3, 3, 24, 33), {"padding": 2}),  # runs inside, across the edge and outside the image
        ((1, 3, 9, 300), (1, 3, 300, 16), {"padding": (0, 1)}),  # a run in several parts
        ((3, 8, 9, 2), (3, 3, 2, 5), {"padding": 1}),  # narrow rows written whole
        ((1, 30, 6, 40), (3, 3, 40, 230), {"padding": 1, "stride": (1, 2)}),  # packed for many columns
    ],
)
def test_windows_in_place_and_packed_equal_the_reference(isa, threads, x, weight, keywords):
    x, weight = several([x, weight], np.float32, 7)
    want = reference.conv(x, weight, **keywords)
    dy = whole(want.shape, np.float32, 8)
    with precision("exact"):
        assert_exact(functional.conv(x, weight, **keywords), want)
        assert_all_exact(
            functional.conv_backward(dy, x, weight, **keywords), reference.conv_backward(dy, x, weight, **keywords)
        )


@given(problem=conv_problems(), seed=SEEDS)
def test_the_gradients_are_adjoint(isa, problem, seed):
    x, weight, bias = several([problem.x, problem.weight, problem.bias], np.float32, seed)
    y = functional.conv(x, weight, **problem.keywords)
    dy = whole(y.shape, np.float32, seed + 1)
    dx, dweight, dbias = functional.conv_backward(dy, x, weight, **problem.keywords)
    assert dot(dy, y) == dot(dx, x) == dot(dweight, weight)
    assert dot(dbias, bias) == dot(dy, np.broadcast_to(bias, dy.shape))


@given(problem=conv_problems(), seed=SEEDS)
def test_linear_in_x_and_in_the_weight(isa, problem, seed):
    x, x2, weight, weight2 = several([problem.x, problem.x, problem.weight, problem.weight], np.float32, seed)

    def conv(x, weight):
        return functional.conv(x, weight, **problem.keywords)

    assert_exact(conv(2 * x - x2, weight), 2 * conv(x, weight) - conv(x2, weight))
    assert_exact(conv(x, 2 * weight - weight2), 2 * conv(x, weight) - conv(x, weight2))


@pytest.mark.parametrize(
    ("x", "weight", "keywords"),
    [
        ((2, 5, 2), (3, 2, 3), {"stride": 2, "padding": 1}),
        ((1, 4, 5, 4), (2, 3, 2, 2), {"padding": ((1, 0), (2, 1)), "dilation": (2, 1), "groups": 2}),
        ((2, 4, 4, 3), (3, 3, 1, 3), {"padding": "same", "groups": 3}),
        ((1, 3, 2, 3, 2), (2, 1, 2, 2, 2), {"stride": (1, 2, 1), "padding": (0, 1, 1)}),
    ],
)
def test_gradients_against_finite_differences(isa, x, weight, keywords):
    rng = np.random.default_rng(0)
    x, weight, bias = rng.standard_normal(x), rng.standard_normal(weight), rng.standard_normal(weight[-1])
    dy = rng.standard_normal(functional.conv(x, weight, **keywords).shape)
    dx, dweight, dbias = functional.conv_backward(dy, x, weight, **keywords)
    assert_gradient(dx, lambda x: functional.conv(x, weight, bias, **keywords), x, dy)
    assert_gradient(dweight, lambda weight: functional.conv(x, weight, bias, **keywords), weight, dy)
    assert_gradient(dbias, lambda bias: functional.conv(x, weight, bias, **keywords), bias, dy)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("groups", [1, 64])
def test_rounding_stays_within_the_bound_of_a_sum(isa, dtype, groups):
    # |error| <= (number of terms) * eps * sum |x| |w|, whatever the order of the sum (Higham 2002, section 3.1)
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((1, 9, 9, 64)), rng.standard_normal((3, 3, 64 // groups, 64))
    x, weight = x.astype(dtype), weight.astype(dtype)
    y = functional.conv(x, weight, groups=groups)
    want = reference.conv(x.astype(np.longdouble), weight.astype(np.longdouble), groups=groups)
    terms = 9 * 64 // groups
    bound = terms * np.finfo(dtype).eps * reference.conv(abs(x), abs(weight), groups=groups)
    assert np.all(abs(y - want) <= bound)


@given(
    problem=conv_problems(rank=2, smallest_batch=1), shift=st.tuples(st.integers(0, 3), st.integers(0, 3)), seed=SEEDS
)
def test_translation_equivariance(isa, problem, shift, seed):
    x, weight = several([problem.x, problem.weight], np.float32, seed)
    keywords = {**problem.keywords, "stride": 1, "padding": 3 * 3}  # the largest dilated kernel spans 10
    down, right = shift
    shifted = np.pad(x, ((0, 0), (down, 0), (right, 0), (0, 0)))
    y = functional.conv(shifted, weight, **keywords)
    assert_exact(y[:, down:, right:], functional.conv(x, weight, **keywords))


@pytest.mark.parametrize("rank", [1, 2, 3])
@given(channels=st.sampled_from(EDGES), outputs=st.sampled_from(EDGES), pixels=st.integers(1, 20), seed=SEEDS)
def test_a_1x1_convolution_is_a_matrix_product(isa, rank, channels, outputs, pixels, seed):
    x, weight = several([(2, *(1,) * (rank - 1), pixels, channels), (channels, outputs)], np.float32, seed)
    assert_exact(functional.conv(x, weight.reshape((1,) * rank + weight.shape)), x @ weight)


@given(problem=conv_problems(), seed=SEEDS)
def test_a_grouped_convolution_is_the_concatenation_of_its_parts(isa, problem, seed):
    x, weight, bias = several([problem.x, problem.weight, problem.bias], np.float32, seed)
    keywords = dict(problem.keywords)
    groups = keywords.pop("groups")
    whole_y = functional.conv(x, weight, bias, groups=groups, **keywords)
    parts = [
        functional.conv(x, weight, bias, **keywords)
        for x, weight, bias in zip(*(np.split(array, groups, axis=-1) for array in (x, weight, bias)), strict=True)
    ]
    assert_exact(whole_y, np.concatenate(parts, axis=-1))


@given(problem=conv_problems(), seed=SEEDS)
def test_a_dilated_convolution_has_a_kernel_stuffed_with_zeros(isa, problem, seed):
    x, weight = several([problem.x, problem.weight], np.float32, seed)
    keywords = dict(problem.keywords)
    rank = x.ndim - 2
    dilation = tuple(int(d) for d in np.broadcast_to(keywords.pop("dilation"), rank))
    spans = tuple((k - 1) * d + 1 for k, d in zip(weight.shape, dilation, strict=False))
    stuffed = np.zeros((*spans, *weight.shape[rank:]), np.float32)
    stuffed[tuple(slice(None, None, d) for d in dilation)] = weight
    assert_exact(
        functional.conv(x, weight, dilation=dilation, **keywords), functional.conv(x, stuffed, dilation=1, **keywords)
    )


@given(problem=conv_problems(smallest_batch=2), seed=SEEDS)
def test_images_of_a_batch_do_not_see_each_other(isa, problem, seed):
    x, weight, bias = several([problem.x, problem.weight, problem.bias], np.float32, seed)
    y = functional.conv(x, weight, bias, **problem.keywords)
    one_by_one = [functional.conv(image[None], weight, bias, **problem.keywords) for image in x]
    assert_exact(y, np.concatenate(one_by_one))


@given(problem=conv_problems(), seed=SEEDS)
def test_a_lower_rank_is_a_higher_one_with_an_axis_of_one(isa, problem, seed):
    x, weight = several([problem.x, problem.weight], np.float32, seed)
    rank = x.ndim - 2
    if rank == 3:
        return
    keywords = dict(problem.keywords)
    for name in ("stride", "dilation"):
        keywords[name] = (1, *np.broadcast_to(keywords[name], rank))
    if not isinstance(keywords["padding"], str):
        pairs = keywords["padding"]
        if np.ndim(pairs) < 2:
            pairs = [(before, before) for before in np.broadcast_to(pairs, rank)]
        keywords["padding"] = ((0, 0), *pairs)
    assert_exact(
        functional.conv(x[:, None], weight[None], **keywords)[:, 0], functional.conv(x, weight, **problem.keywords)
    )


@settings(max_examples=12)
@given(
    rows=st.sampled_from([1, 13, 223, 225, 449, 897]),
    terms=st.sampled_from([1, 255, 256, 257, 520]),
    columns=st.sampled_from([1, 33, 511, 513]),
)
def test_sizes_around_the_packed_blocks(isa, threads, rows, terms, columns):
    # blocks are 224 rows or 4 times that, 256 terms and 512 columns: fastconv/_kernels/product.pxi
    x, weight = several([(1, rows, terms), (1, terms, columns)], np.float32)
    dy = whole((1, rows, columns), np.float32, 3)
    assert_exact(functional.conv(x, weight), x @ weight[0])
    dx, dweight, dbias = functional.conv_backward(dy, x, weight)
    assert_exact(dx, dy @ weight[0].T)
    assert_exact(dweight, x[0].T @ dy[0][None])
    assert_exact(dbias, dy.sum(axis=(0, 1)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("rows", "terms"),
    [
        (3, 40),  # too few rows for packed panels
        (45, 37),  # tiles of every height, windows where they lie
        (45, 5),  # packed windows
        (300, 600),  # more blocks than one, in both directions
    ],
)
def test_columns_that_end_in_half_a_vector(isa, threads, rows, terms, dtype):
    x = whole((1, rows, terms), dtype)
    for columns in (1, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 20, 23, 24, 25, 31, 33, 40, 41, 47, 55, 56, 57):
        weight = whole((1, terms, columns), dtype, columns)
        assert_exact(functional.conv(x, weight), x @ weight[0])
        dy = whole((1, rows, columns), dtype, 1)
        assert_exact(functional.conv_backward(dy, x, weight, wrt="weight")[1], x[0].T @ dy[0][None])


def test_taps_and_channels_that_a_packed_block_cuts(isa):
    # 3 * 3 * 90 = 810 terms: blocks of 203 end inside a row of taps and inside a pixel's channels
    problem = Problem((2, 9, 11, 90), (3, 3, 90, 17), {"padding": ((2, 0), (1, 1)), "stride": (1, 2)})
    x, weight, bias = several([problem.x, problem.weight, problem.bias], np.float32)
    want = reference.conv(x, weight, bias, **problem.keywords)
    assert_exact(functional.conv(x, weight, bias, **problem.keywords), want)
    dy = whole(want.shape, np.float32, 3)
    assert_all_exact(
        functional.conv_backward(dy, x, weight, **problem.keywords),
        reference.conv_backward(dy, x, weight, **problem.keywords),
    )


@pytest.mark.parametrize("wrt", [(), ("x",), ("weight",), ("bias",), ("bias", "x"), "weight", ["weight", "bias"]])
def test_what_wrt_leaves_out_is_none(wrt):
    x, weight = several([(1, 4, 4, 2), (3, 3, 2, 5)])
    dy = whole((1, 2, 2, 5), seed=3)
    every = dict(zip(("x", "weight", "bias"), functional.conv_backward(dy, x, weight), strict=True))
    some = functional.conv_backward(dy, x, weight, wrt=wrt)
    for (name, want), got in zip(every.items(), some, strict=True):
        assert got is None if name not in wrt else np.array_equal(got, want)


@pytest.mark.parametrize("stride", [2, 5])
def test_pixels_that_no_window_sees_have_no_gradient(isa, threads, stride):
    x, weight = several([(2, 11, 11, 3), (1, 1, 3, 2)])
    dy = np.ones_like(functional.conv(x, weight, stride=stride))
    dx, _, _ = functional.conv_backward(dy, x, weight, stride=stride)
    seen = np.zeros(dx.shape, bool)
    seen[:, ::stride, ::stride] = True
    assert not dx[~seen].any()
    assert dx[seen].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("channels", "outputs"), [(34, 34), (5, 17), (9, 3), (60, 50), (3, 12), (512, 18)])
def test_groups_whose_columns_fill_no_vector(isa, threads, channels, outputs, dtype):
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((2, 7, 9, 4 * channels)), rng.standard_normal((1, 1, channels, 4 * outputs))
    x, weight, bias = x.astype(dtype), weight.astype(dtype), rng.standard_normal(4 * outputs).astype(dtype)
    y = functional.conv(x, weight, bias, groups=4)
    want = reference.conv(x.astype(np.float64), weight.astype(np.float64), bias.astype(np.float64), groups=4)
    np.testing.assert_allclose(y, want, rtol=0, atol=1e-5 * abs(want).max())
    back = functional.conv_backward(y, x, weight, groups=4)
    want = reference.conv_backward(y.astype(np.float64), x.astype(np.float64), weight.astype(np.float64), groups=4)
    for got, gradient in zip(back, want, strict=True):
        np.testing.assert_allclose(got, gradient, rtol=0, atol=1e-5 * abs(gradient).max())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("channels", "groups"), [(1, 1), (20, 1), (20, 20), (3, 3)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_and_infinity_propagate_to_the_windows_that_see_them(isa, value, channels, groups, dtype):
    x = np.ones((1, 6, 7, channels), dtype)
    weight = np.ones((3, 3, channels // groups, channels), dtype)
    x[0, 2, 3, 0] = value
    y = functional.conv(x, weight, padding=1, groups=groups)
    seen = np.zeros(y.shape, bool)
    seen[0, 1:4, 2:5, : channels // groups] = True
    np.testing.assert_array_equal(y[seen], np.full(seen.sum(), value))
    assert np.isfinite(y[~seen]).all()


def test_nan_in_the_weight_and_in_dy_propagates(isa):
    x, weight, dy = np.ones((1, 4, 4, 3)), np.ones((3, 3, 3, 5)), np.ones((1, 2, 2, 5))
    weight[1, 1, 1, 2] = np.nan
    y = functional.conv(x, weight)
    assert np.isnan(y[..., 2]).all()
    assert np.isfinite(np.delete(y, 2, axis=-1)).all()
    dy[0, 0, 0, 4] = np.nan
    dx, dweight, dbias = functional.conv_backward(dy, x, np.ones((3, 3, 3, 5)))
    assert np.isnan(dx[0, :3, :3]).all()
    assert np.isfinite(dx[0, 3]).all()
    assert np.isnan(dweight[..., 4]).all()
    assert np.isfinite(dweight[..., :4]).all()
    np.testing.assert_array_equal(np.isnan(dbias), [False] * 4 + [True])


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(("size", "channels", "outputs"), [(17, 40, 32), (9, 300, 200)])
def test_windows_of_padding_alone_times_infinity_are_nan(isa, value, size, channels, outputs):
    x, weight = several([(1, size, size, channels), (3, 3, channels, outputs)])
    geometry = {"padding": 8, "dilation": 8}
    weight[0, 2, channels // 2, 3] = value
    with np.errstate(invalid="ignore"):
        want = reference.conv(x, weight, **geometry)
    np.testing.assert_array_equal(functional.conv(x, weight, algorithm="product", **geometry), want)
    dy = whole(want.shape, seed=3)
    dy[0, -1, -1, 3] = value
    with np.errstate(invalid="ignore"):
        _, want, _ = reference.conv_backward(dy, x, weight, wrt="weight", **geometry)
    _, dweight, _ = functional.conv_backward(dy, x, weight, wrt="weight", algorithm="product", **geometry)
    np.testing.assert_array_equal(dweight, want)


@pytest.mark.parametrize("dilation", [1, 2, 5, 8, 13])
@pytest.mark.parametrize(("channels", "outputs"), [(5, 3), (40, 32), (150, 200)])
def test_taps_that_see_nothing_but_padding_are_left_out(isa, threads, dilation, channels, outputs):
    x, weight = several([(2, 9, 15, channels), (3, 3, channels, outputs)])
    assert_product_exact(x, weight, padding=dilation, dilation=dilation)


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (1, 2), (2, 2), (3, 2)])
@pytest.mark.parametrize(("channels", "outputs"), [(9, 64), (32, 33), (300, 20)])
def test_arrays_beyond_the_near_caches(isa, threads, kernel, stride, channels, outputs):
    x, weight = several(
        [(1, 131 if channels < 64 else 61, 130, channels), (kernel, kernel, channels, outputs)], np.float32
    )
    assert_product_exact(x, weight, stride=stride)


@pytest.mark.parametrize("shape", [(1, 0, 4, 3), (2, 4, 0, 3), (0, 0, 0, 3)])
def test_an_image_without_pixels_is_its_padding(isa, shape):
    weight, bias = several([(3, 3, 3, 2), (2,)])
    y = functional.conv(np.zeros(shape), weight, bias, padding=2)
    np.testing.assert_array_equal(y, np.broadcast_to(bias, (shape[0], shape[1] + 2, shape[2] + 2, 2)))
    dx, dweight, dbias = functional.conv_backward(np.ones_like(y), np.zeros(shape), weight, padding=2)
    assert_exact(dx, np.zeros(shape))
    assert_exact(dweight, np.zeros((3, 3, 3, 2)))
    assert_exact(dbias, np.full(2, y.size / 2))


@pytest.mark.parametrize(("channels", "outputs"), [(1, 6), (3, 16), (4, 6), (16, 3), (64, 64)])
def test_windows_however_far_apart_see_the_image_or_zeros(isa, channels, outputs):
    # the padded image has more elements than can be counted
    stride, padding = (2**42 - 1, 2**32 - 1), ((2**43, 2**44), (2**33, 2**34))
    x, weight = several([(2, 3, 4, channels), (3, 3, channels, outputs)], np.float32)
    y = functional.conv(x, weight, stride=stride, padding=padding)
    want, dx, dweight = np.zeros_like(y), np.zeros_like(x), np.zeros_like(weight)
    dy = np.ones_like(y)
    for i, j in np.ndindex(y.shape[1:3]):
        for r, s in np.ndindex(3, 3):
            h, w = i * stride[0] - padding[0][0] + r, j * stride[1] - padding[1][0] + s
            if 0 <= h < 3 and 0 <= w < 4:
                want[:, i, j] += x[:, h, w] @ weight[r, s]
                dx[:, h, w] += dy[:, i, j] @ weight[r, s].T
                dweight[r, s] += x[:, h, w].T @ dy[:, i, j]
    assert want.any()
    np.testing.assert_array_equal(y, want)
    for got, expected in zip(
        functional.conv_backward(dy, x, weight, stride=stride, padding=padding)[:2], (dx, dweight), strict=True
    ):
        np.testing.assert_array_equal(got, expected)


@settings(max_examples=10)
@given(far=st.integers(3, 50), channels=st.sampled_from([1, 64]), groups=st.booleans())
def test_taps_however_far_outside_the_image_see_zeros(isa, far, channels, groups):
    # near 2**50 no product of a position and the channels overflows yet; see the errors for what does
    groups = channels if groups else 1
    x, weight = several([(2, 3, 4, channels), (3, 3, channels // groups, 64)], np.float32)
    keywords = {"dilation": 2**far, "padding": 2**far, "groups": groups}
    centre = weight[1:2, 1:2]
    y = functional.conv(x, weight, **keywords)
    assert_exact(y, functional.conv(x, centre, groups=groups))
    dx, dweight, _ = functional.conv_backward(y, x, weight, **keywords)
    dx_centre, dweight_centre, _ = functional.conv_backward(y, x, centre, groups=groups)
    assert_exact(dx, dx_centre)
    assert_exact(dweight[1:2, 1:2], dweight_centre)
    assert not np.delete(dweight.reshape(9, -1), 4, axis=0).any()


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("batch", [0, 1])
@pytest.mark.parametrize("channels", [1, 3, 33])
def test_one_pixel(isa, threads, rank, batch, channels):
    x, weight, bias = several([(batch, *(1,) * rank, channels), (*(1,) * rank, channels, 5), (5,)], np.float32)
    y = functional.conv(x, weight, bias)
    assert_exact(y, x @ weight.reshape(channels, 5) + bias)
    large = np.zeros((*(3,) * rank, channels, 5), np.float32)  # of a larger kernel the centre alone meets the pixel
    large[(1,) * rank] = weight[(0,) * rank]
    assert_exact(functional.conv(x, large, bias, padding="same"), y)
    dx, dweight, _ = functional.conv_backward(y, x, large, padding=1)
    assert_exact(dx, y @ weight.reshape(channels, 5).T)
    assert not np.delete(dweight.reshape(3**rank, -1), 3**rank // 2, axis=0).any()
