"""What pooling refuses, and that the message names the argument, what came and what was expected."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv import functional

X, DY = np.ones((2, 6, 7, 4)), np.ones((2, 3, 3, 4))

ARRAYS = [
    (X.astype(int), TypeError, r"x must be a float32 or float64 array, got int64 of shape \(2, 6, 7, 4\)"),
    (X.astype(complex), TypeError, "x must be a float32 or float64 array, got complex128"),
    (X.astype(np.float16), TypeError, "x must be a float32 or float64 array, got float16"),
    (X[0, 0], ValueError, r"x must have shape \(N, \*spatial, C\) with 1, 2 or 3 spatial axes, got shape \(7, 4\)"),
    (X[..., :0], ValueError, r"x must have at least one channel \(its last axis\), got shape \(2, 6, 7, 0\)"),
    (X[:, :0], ValueError, r"x must have at least one pixel along each spatial axis, got shape \(2, 0, 7, 4\)"),
]
KEYWORDS = [
    ({"kernel_size": 0}, ValueError, "kernel_size must be at least 1, got 0"),
    ({"kernel_size": (2, 2, 2)}, ValueError, r"kernel_size must be one integer or 2 of them .*got \(2, 2, 2\)"),
    ({"kernel_size": 2.0}, TypeError, r"kernel_size must be an integer or a tuple of integers, got 2\.0"),
    ({"kernel_size": True}, TypeError, "kernel_size must be an integer, got True"),
    ({"kernel_size": None}, TypeError, "kernel_size must be an integer or a tuple of integers, got None"),
    ({"kernel_size": 7}, ValueError, "the kernel is larger than the padded input along spatial axis 0: .*the input has 6"),
    ({"stride": 0}, ValueError, "stride must be at least 1, got 0"),
    ({"stride": (1, -1)}, ValueError, r"stride must be at least 1, got \(1, -1\)"),
    ({"stride": 1.5}, TypeError, r"stride must be an integer or a tuple of integers, got 1\.5"),
    ({"stride": 2**62}, ValueError, f"stride is too large: got {2**62}"),
    ({"padding": -1}, ValueError, "padding must be at least 0, got -1"),
    ({"padding": 2}, ValueError, r"padding must be smaller than the kernel's span, got \(2, 2\) with kernel 2"),
    ({"padding": ((0, 0), (0, 2))}, ValueError, r"padding must be smaller .*got \(0, 2\).*along spatial axis 1"),
    ({"ceil_mode": "yes"}, TypeError, "ceil_mode must be True or False, got 'yes'"),
    ({"ceil_mode": np.array([1, 0])}, TypeError, r"ceil_mode must be True or False, got array\(\[1, 0\]\)"),
    ({"padding": "full"}, ValueError, """padding must be an integer, a tuple, "same" or "valid", got 'full'"""),
]  # fmt: skip
OF_MAXIMA = [
    ({"dilation": 0}, ValueError, "dilation must be at least 1, got 0"),
    ({"dilation": 6}, ValueError, "larger than the padded input .*kernel 2 with dilation 6 spans 7, the input has 6"),
    ({"dilation": "1"}, TypeError, "dilation must be an integer or a tuple of integers, got '1'"),
]  # fmt: skip
GRADIENTS = [
    (DY.astype(np.float32), TypeError, "dy must have the dtype of x, float64, got float32"),
    (DY.astype(int), TypeError, "dy must be a float32 or float64 array, got int64"),
    (DY[:1], ValueError, r"dy must have shape \(2, 3, 3, 4\) \(the shape of the output\), got \(1, 3, 3, 4\)"),
    (DY[..., :1], ValueError, r"dy must have shape \(2, 3, 3, 4\) .*got \(2, 3, 3, 1\)"),
]
SHAPES = [
    ((2, 4), ValueError, r"input_shape must be \(N, \*spatial, C\) with 1, 2 or 3 spatial axes, got \(2, 4\)"),
    (7, ValueError, "input_shape must be .*got 7"),
    ((2, 6, 7.0, 4), TypeError, r"input_shape must be an integer or a tuple of integers, got 7\.0"),
    ((2, -6, 7, 4), ValueError, r"input_shape must be at least 0, got \(2, -6, 7, 4\)"),
    ((2, 6, 7, 0), ValueError, r"input_shape must have at least one channel \(its last axis\), got \(2, 6, 7, 0\)"),
    ((2, 0, 7, 4), ValueError, r"at least one pixel along each spatial axis, got shape \(2, 0, 7, 4\)"),
    ((2**30, 2**30, 2**30, 4), ValueError, "input_shape would have shape .* elements are more than"),
]


@pytest.mark.parametrize(("x", "error", "message"), ARRAYS)
def test_arrays(x, error, message):
    for call in (
        lambda: functional.max_pool(x, 2),
        lambda: functional.avg_pool(x, 2),
        lambda: functional.adaptive_max_pool(x, 2),
        lambda: functional.adaptive_avg_pool(x, 2),
        lambda: functional.max_pool_backward(DY, x, 2),
        lambda: functional.adaptive_max_pool_backward(DY, x, 3),
        lambda: functional.max_pool_with_indices(x, 2),
        lambda: functional.adaptive_max_pool_with_indices(x, 2),
    ):
        with pytest.raises(error, match=message):
            call()


@pytest.mark.parametrize(("keywords", "error", "message"), KEYWORDS)
def test_keywords(keywords, error, message):
    keywords = {"kernel_size": 2, **keywords}
    for call in (
        lambda: functional.max_pool(X, **keywords),
        lambda: functional.max_pool_backward(DY, X, **keywords),
        lambda: functional.max_pool_with_indices(X, **keywords),
        lambda: functional.avg_pool(X, **keywords),
        lambda: functional.avg_pool_backward(DY, X.shape, **keywords),
    ):
        with pytest.raises(error, match=message):
            call()


def test_a_window_of_more_pixels_than_can_be_counted():
    x = np.ones((1, 1, 1, 1, 1))
    for call in (
        lambda: functional.avg_pool(x, 2**22, padding=2**21, count_include_pad=True),
        lambda: functional.avg_pool_backward(x, x.shape, 2**22, padding=2**21, count_include_pad=True),
    ):
        with pytest.raises(ValueError, match=r"the window of kernel_size would have shape .* elements are more than"):
            call()


@pytest.mark.parametrize(("keywords", "error", "message"), OF_MAXIMA)
def test_keywords_of_maxima(keywords, error, message):
    with pytest.raises(error, match=message):
        functional.max_pool(X, 2, **keywords)
    with pytest.raises(error, match=message):
        functional.max_pool_backward(DY, X, 2, **keywords)


@pytest.mark.parametrize(("dy", "error", "message"), GRADIENTS)
def test_output_gradients(dy, error, message):
    with pytest.raises(error, match=message):
        functional.max_pool_backward(dy, X, 2)
    with pytest.raises(error, match=message):
        functional.adaptive_max_pool_backward(dy, X, 3)
    if dy.dtype != np.float32:
        with pytest.raises(error, match=message):
            functional.avg_pool_backward(dy, X.shape, 2)
        with pytest.raises(error, match=message):
            functional.adaptive_avg_pool_backward(dy, X.shape, 3)


@pytest.mark.parametrize(("shape", "error", "message"), SHAPES)
def test_input_shapes(shape, error, message):
    with pytest.raises(error, match=message):
        functional.avg_pool_backward(DY, shape, 2)
    with pytest.raises(error, match=message):
        functional.adaptive_avg_pool_backward(DY, shape, 3)


@pytest.mark.parametrize(
    ("output", "error", "message"),
    [
        (0, ValueError, "output_size must be at least 1, got 0"),
        ((1, 2, 3), ValueError, r"output_size must be one integer or 2 of them .*got \(1, 2, 3\)"),
        (1.0, TypeError, r"output_size must be an integer or a tuple of integers, got 1\.0"),
        (2**40, ValueError, r"the output would have shape .* elements are more than"),
    ],
)
def test_output_sizes(output, error, message):
    for call in (
        lambda: functional.adaptive_max_pool(X, output),
        lambda: functional.adaptive_avg_pool(X, output),
        lambda: functional.adaptive_max_pool_backward(DY, X, output),
        lambda: functional.adaptive_max_pool_with_indices(X, output),
        lambda: functional.adaptive_avg_pool_backward(DY, X.shape, output),
    ):
        with pytest.raises(error, match=message):
            call()


def test_a_place_numbers_pixels_of_a_window_in_32_bits():
    x = np.ones((0, 2**16, 2**16, 1))
    for call in (
        lambda: functional.adaptive_max_pool_with_indices(x, 1),
        lambda: functional.adaptive_max_pool_backward(np.ones((0, 1, 1, 1)), x, 1),
    ):
        with pytest.raises(ValueError, match=r"windows of at most 2\*\*31 pixels for a gradient, got shape \(0, 65536"):
            call()


def test_gradients_take_the_indices_that_forward_returned():
    y, indices = functional.max_pool_with_indices(X, 2)
    with pytest.raises(ValueError, match=r"dy must have shape \(2, 3, 3, 4\) .*got \(1, 3, 3, 4\)"):
        functional.max_pool_with_indices_backward(y[:1], indices)
    with pytest.raises(TypeError, match="dy must be a float32 or float64 array, got int64"):
        functional.max_pool_with_indices_backward(y.astype(int), indices)
    with pytest.raises(TypeError, match="indices must be what max_pool_with_indices returned, got ndarray"):
        functional.max_pool_with_indices_backward(y, indices.numbers)
    with pytest.raises(ValueError, match="read-only"):
        indices.numbers[...] = 7
