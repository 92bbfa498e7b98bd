"""What a convolution refuses, and that the message names the argument, what came and what was expected."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

from fastconv import functional

X, WEIGHT, BIAS = np.ones((2, 6, 7, 4)), np.ones((3, 2, 4, 5)), np.ones(5)
HUGE = as_strided(np.zeros(1), (1, 2**30, 2**28, 1), (0, 0, 0, 0))  # 2 EiB, were it ever copied

ARRAYS = [
    ("x", X.astype(int), TypeError, r"x must be a float32 or float64 array, got int64 of shape \(2, 6, 7, 4\)"),
    ("x", X.astype(bool), TypeError, "x must be a float32 or float64 array, got bool"),
    ("x", X.astype(complex), TypeError, "x must be a float32 or float64 array, got complex128"),
    ("x", X.astype(np.float16), TypeError, "x must be a float32 or float64 array, got float16"),
    ("x", X.astype(np.longdouble), TypeError, "x must be a float32 or float64 array, got (float128|longdouble|float96)"),
    ("x", X.astype(object), TypeError, "x must be a float32 or float64 array, got object"),
    ("x", "image.png", TypeError, "x must be a float32 or float64 array, got <U9"),
    ("x", [[1.0, 2.0], [3.0]], ValueError, "x must be an array: .*inhomogeneous"),
    ("x", np.ma.masked_less(np.eye(9), 0.5), ValueError, r"x must have no masked values, got 72 of 81 masked: .*fill"),
    ("x", None, TypeError, "x must be a float32 or float64 array, got object"),
    ("x", X.astype(np.float32), TypeError, "weight must have the dtype of x, float32, got float64"),
    ("x", X[0, 0], ValueError, r"x must have shape \(N, \*spatial, C\) with 1, 2 or 3 spatial axes, got shape \(7, 4\)"),
    ("x", np.ones((1,) * 6), ValueError, r"1, 2 or 3 spatial axes, got shape \(1, 1, 1, 1, 1, 1\)"),
    ("x", np.float64(1), ValueError, r"x must have shape \(N, \*spatial, C\) .* got shape \(\)"),
    ("x", X[..., :0], ValueError, r"x must have at least one channel \(its last axis\), got shape \(2, 6, 7, 0\)"),
    ("weight", WEIGHT.astype(int), TypeError, "weight must be a float32 or float64 array, got int64"),
    ("weight", WEIGHT.astype(np.complex64), TypeError, "weight must be a float32 or float64 array, got complex64"),
    ("weight", WEIGHT.astype(np.float32), TypeError, "weight must have the dtype of x, float64, got float32"),
    ("weight", WEIGHT[0], ValueError, r"weight must have 4 axes for an x with 2 spatial axes .*got shape \(2, 4, 5\)"),
    ("weight", WEIGHT[None], ValueError, r"weight must have 4 axes .*got shape \(1, 3, 2, 4, 5\)"),
    ("weight", WEIGHT[:0], ValueError, r"weight must have at least one element along every axis, got shape \(0, 2, 4, 5\)"),
    ("bias", BIAS.astype(int), TypeError, "bias must be a float32 or float64 array, got int64"),
    ("bias", BIAS.astype(np.float32), TypeError, "bias must have the dtype of x, float64, got float32"),
    ("bias", BIAS[:4], ValueError, r"bias must have shape \(5,\) \(one value for each output channel\), got \(4,\)"),
    ("bias", BIAS[None], ValueError, r"bias must have shape \(5,\) .*got \(1, 5\)"),
]  # fmt: skip
KEYWORDS = [
    ("stride", 0, ValueError, "stride must be at least 1, got 0"),
    ("stride", (1, -2), ValueError, r"stride must be at least 1, got \(1, -2\)"),
    ("stride", (1, 2, 3), ValueError, r"stride must be one integer or 2 of them .*got \(1, 2, 3\)"),
    ("stride", True, TypeError, "stride must be an integer, got True"),
    ("stride", (1, False), TypeError, "stride must be an integer, got False"),
    ("stride", np.True_, TypeError, "stride must be an integer, got .*True"),
    ("stride", 1.0, TypeError, r"stride must be an integer or a tuple of integers, got 1\.0"),
    ("stride", (1, 2.0), TypeError, r"stride must be an integer or a tuple of integers, got 2\.0"),
    ("stride", "2", TypeError, "stride must be an integer or a tuple of integers, got '2'"),
    ("stride", None, TypeError, "stride must be an integer or a tuple of integers, got None"),
    ("stride", {1: 2}, TypeError, "stride must be an integer or a tuple of integers, got \\{1: 2\\}"),
    ("stride", {2}, TypeError, "stride must be an integer or a tuple of integers, got \\{2\\}"),
    ("stride", Decimal(2), TypeError, r"stride must be an integer or a tuple of integers, got Decimal\('2'\)"),
    ("stride", 2**62, ValueError, f"stride is too large: got {2**62}"),
    ("dilation", 0, ValueError, "dilation must be at least 1, got 0"),
    ("dilation", [1], ValueError, r"dilation must be one integer or 2 of them .*got .1,?."),
    ("dilation", 1.5, TypeError, r"dilation must be an integer or a tuple of integers, got 1\.5"),
    ("dilation", True, TypeError, "dilation must be an integer, got True"),
    ("dilation", 2**62, ValueError, f"dilation is too large: got {2**62}"),
    ("dilation", 2**100, ValueError, f"dilation is too large: got {2**100}"),
    ("padding", -1, ValueError, "padding must be at least 0, got -1"),
    ("padding", (0, -1), ValueError, r"padding must be at least 0, got \(0, -1\)"),
    ("padding", ((0, 1), (-1, 0)), ValueError, r"padding must be at least 0, got \(-1, 0\)"),
    ("padding", "SAME", ValueError, """padding must be an integer, a tuple, "same" or "valid", got 'SAME'"""),
    ("padding", "full", ValueError, """padding must be an integer, a tuple, "same" or "valid", got 'full'"""),
    ("padding", (1, 2, 3), ValueError, r"padding must be one integer or 2 of them .*got \(1, 2, 3\)"),
    ("padding", ((1, 1),), ValueError, r"padding must be 2 pairs \(before, after\), got \(\(1, 1\),\)"),
    ("padding", ((1, 1), (1,)), ValueError, r"padding must be 2 pairs \(before, after\), got \(\(1, 1\), \(1,\)\)"),
    ("padding", ((1, 1), 1), ValueError, r"padding must be 2 pairs \(before, after\), got \(\(1, 1\), 1\)"),
    ("padding", ((1, 1), (1, 1), (0, 0)), ValueError, r"padding must be 2 pairs \(before, after\)"),
    ("padding", ((1, 1), (1, 1.0)), TypeError, r"padding must be an integer or a tuple of integers, got 1\.0"),
    ("padding", (True, 1), TypeError, "padding must be an integer, got True"),
    ("padding", 0.5, TypeError, r"padding must be an integer or a tuple of integers, got 0\.5"),
    ("padding", ("same", "valid"), TypeError, "padding must be an integer or a tuple of integers, got 'same'"),
    ("padding", None, TypeError, "padding must be an integer or a tuple of integers, got None"),
    ("padding", 2**62, ValueError, f"padding is too large: got {2**62}"),
    ("groups", 0, ValueError, "groups must be at least 1, got 0"),
    ("groups", -1, ValueError, "groups must be at least 1, got -1"),
    ("groups", 2.0, TypeError, r"groups must be an integer, got 2\.0"),
    ("groups", (2,), TypeError, r"groups must be an integer, got \(2,\)"),
    ("groups", {}, TypeError, "groups must be an integer, got {}"),
    ("groups", True, TypeError, "groups must be an integer, got True"),
    ("groups", "2", TypeError, "groups must be an integer, got '2'"),
]  # fmt: skip


def refused(error, message, x=X, weight=WEIGHT, bias=None, transposed=False, **keywords):
    """Both directions must refuse alike."""
    forward = functional.conv_transpose if transposed else functional.conv
    backward = functional.conv_transpose_backward if transposed else functional.conv_backward
    with pytest.raises(error, match=message):
        forward(x, weight, bias, **keywords)
    if bias is None:
        dy = np.ones((1, 1, 1, 1), getattr(x, "dtype", None))
        with pytest.raises(error, match=message):
            backward(dy, x, weight, **keywords)


@pytest.mark.parametrize(("name", "value", "error", "message"), ARRAYS + KEYWORDS)
def test_conv_names_the_argument(name, value, error, message):
    refused(error, message, **{name: value})


# a weight (*kernel, O // groups, C) for the same arrays the other way
@pytest.mark.parametrize(("name", "value", "error", "message"), ARRAYS + KEYWORDS)
def test_conv_transpose_names_the_argument(name, value, error, message):
    turned = {
        (2, 4, 5): r"got shape \(2, 5, 4\)",
        (1, 3, 2, 4, 5): r"got shape \(1, 3, 2, 5, 4\)",
        (0, 2, 4, 5): r"got shape \(0, 2, 5, 4\)",
    }
    arguments = {"weight": WEIGHT.swapaxes(-1, -2), name: value}
    if name == "weight":
        message = turned.get(value.shape, message)
        arguments["weight"] = value.swapaxes(-1, -2)
    refused(error, message, transposed=True, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight": np.ones((3, 2, 3, 5))}, r"C // groups = 4 \(x has 4 channels, groups is 1\), got \(3, 2, 3, 5\)"),
        ({"groups": 2, "weight": np.ones((3, 2, 4, 6))}, r"C // groups = 2 \(x has 4 channels, groups is 2\), got"),
        ({"groups": 3, "weight": np.ones((3, 2, 1, 6))}, "groups must divide the channels of x, 4, .*last axis, 6, got 3"),
        ({"groups": 2, "weight": np.ones((3, 2, 2, 5))}, "groups must divide the channels of x, 4, .*last axis, 5, got 2"),
        ({"weight": np.ones((7, 2, 4, 5))}, r"spatial axis 0: kernel 7 .* spans 7, the input has 6 and padding \(0, 0\)"),
        ({"dilation": (1, 7)}, "larger than the padded input along spatial axis 1: .*dilation 7 spans 8"),
        ({"weight": np.ones((9, 2, 4, 5)), "padding": 1}, r"spans 9, the input has 6 and padding \(1, 1\)"),
        ({"x": X[:, :2], "padding": "valid"}, "the kernel is larger than the padded input along spatial axis 0"),
    ],
)  # fmt: skip
def test_conv_refuses_what_does_not_fit(arguments, message):
    refused(ValueError, message, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"weight": np.ones((3, 2, 5, 3))},
            r"\(\*kernel, O // groups, C\) with C = 4, the channels of x, got \(3, 2, 5, 3\)",
        ),
        ({"groups": 3}, "groups must divide the channels of x, 4, got 3"),
        ({"padding": 4}, r"padding \(4, 4\) leaves no output along spatial axis 0: input 6, kernel 3"),
        (
            {"output_padding": 1},
            "output_padding must be smaller than stride or dilation, got 1 with stride 1 and dilation 1",
        ),
        (
            {"output_padding": (0, 2), "stride": 2},
            "output_padding must be smaller .*got 2 with stride 2 .*spatial axis 1",
        ),
        ({"output_padding": -1}, "output_padding must be at least 0, got -1"),
        ({"output_padding": (0, 0, 0)}, r"output_padding must be one integer or 2 of them .*got \(0, 0, 0\)"),
        (
            {"padding": "same", "stride": (1, 4)},
            'padding "same" needs a kernel that spans the stride: kernel 2 .*stride 4',
        ),
        ({"x": X[:, :0]}, r"x must have at least one pixel along each spatial axis, got shape \(2, 0, 7, 4\)"),
    ],
)
def test_conv_transpose_refuses_what_does_not_fit(arguments, message):
    refused(ValueError, message, transposed=True, **{"weight": np.ones((3, 2, 5, 4)), **arguments})


@pytest.mark.parametrize("value", [1.0, True, "1", None])
def test_output_padding_must_be_an_integer(value):
    refused(
        TypeError,
        "output_padding must be an integer",
        weight=np.ones((3, 2, 5, 4)),
        output_padding=value,
        transposed=True,
    )


@pytest.mark.parametrize("shape", [(2, 4, 6, 4), (2, 4, 6, 6), (1, 4, 6, 5), (2, 6, 5), (2, 4, 5, 6)])
def test_dy_must_have_the_shape_of_the_output(shape):
    message = rf"dy must have shape \(2, 4, 6, 5\) \(the shape of the output\), got \({', '.join(map(str, shape))}\)"
    with pytest.raises(ValueError, match=message):
        functional.conv_backward(np.ones(shape), X, WEIGHT)
    smaller = np.ones((2, 2, 5, 4))
    with pytest.raises(ValueError, match=message):
        functional.conv_transpose_backward(np.ones(shape), smaller, np.ones((3, 2, 5, 4)))


@pytest.mark.parametrize(
    ("dy", "message"),
    [
        (np.ones((2, 4, 6, 5), np.float32), "dy must have the dtype of x, float64, got float32"),
        (np.ones((2, 4, 6, 5), int), "dy must be a float32 or float64 array, got int64"),
    ],
)
def test_dy_must_have_the_dtype_of_x(dy, message):
    with pytest.raises(TypeError, match=message):
        functional.conv_backward(dy, X, WEIGHT)
    with pytest.raises(TypeError, match=message):
        functional.conv_transpose_backward(dy, X, np.ones((3, 2, 5, 4)))


@pytest.mark.parametrize(
    "wrt",
    ["y", "dx", ("x", "w"), ["weights"], (None,), (1,), ("x", ["bias"]), None, np.array("x"), np.array(["x", "w"])],
)
def test_wrt_names_some_of_the_three(wrt):
    with pytest.raises(ValueError, match='wrt must name some of "x", "weight" and "bias", got '):
        functional.conv_backward(np.ones((2, 4, 6, 5)), X, WEIGHT, wrt=wrt)
    with pytest.raises(ValueError, match='wrt must name some of "x", "weight" and "bias", got '):
        functional.conv_transpose_backward(np.ones((2, 8, 8, 5)), X, np.ones((3, 2, 5, 4)), wrt=wrt)


@pytest.mark.parametrize("wrt", [1, None])
def test_wrt_is_a_collection_of_names(wrt):
    with pytest.raises((TypeError, ValueError), match="wrt must name some of"):
        functional.conv_backward(np.ones((2, 4, 6, 5)), X, WEIGHT, wrt=wrt)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"padding": 2**40}, r"the output would have shape \(2, \d+, \d+, 5\): \d+ elements are more than"),
        ({"padding": ((0, 2**58), (0, 4))}, "elements are more than"),
        (
            {"padding": ((2**58, 2**58), (0, 0)), "dilation": (2**58, 1)},
            "a line of the padded image would have .* elements are more than",
        ),
        ({"padding": 2**59 - 1, "dilation": 2**59 - 1, "stride": 2**59 - 1}, "elements are more than"),
    ],
)
def test_sizes_whose_product_overflows_are_refused(arguments, message):
    refused(ValueError, message, **arguments)


@pytest.mark.parametrize("far", [2**32 - 1, 2**58])
def test_a_step_to_what_is_not_there_may_be_as_long_as_it_likes(far):
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((2, 3, 40, 4)), rng.standard_normal((1, 3, 4, 6))
    near, long = ({"stride": (step, 1), "dilation": (step, 1), "padding": (0, 1)} for step in (3, far))
    y = functional.conv(x, weight, **long)
    assert y.tobytes() == functional.conv(x, weight, **near).tobytes()
    for got, want in zip(
        functional.conv_backward(y, x, weight, **long), functional.conv_backward(y, x, weight, **near), strict=True
    ):
        assert got.tobytes() == want.tobytes()


@pytest.mark.parametrize(
    "arguments",
    [{"stride": 2**40}, {"dilation": 2**40}, {"stride": 2**59 - 1}, {"dilation": 2**59 - 1, "padding": 0}],
)
def test_transposed_sizes_whose_product_overflows_are_refused(arguments):
    message = "the output would have shape .* elements are more than"
    refused(ValueError, message, weight=np.ones((3, 2, 5, 4)), transposed=True, **arguments)


@pytest.mark.parametrize("weight", [np.ones((1, 1, 1, 1)), as_strided(np.zeros(1), (1, 1, 1, 2**58), (0, 0, 0, 0))])
@pytest.mark.parametrize("forward", [functional.conv, functional.conv_transpose])
def test_a_view_larger_than_any_memory_is_refused(forward, weight):
    with pytest.raises((MemoryError, ValueError)):
        forward(HUGE, weight.swapaxes(-1, -2) if forward is functional.conv_transpose else weight)
    if weight.size > 1:
        with pytest.raises((MemoryError, ValueError)):
            forward(np.ones((1, 4, 4, 1)), weight)


def test_a_stride_larger_than_the_image_is_one_window():
    y = functional.conv(X, WEIGHT, stride=2**59 - 1)
    np.testing.assert_array_equal(y, functional.conv(X[:, :3, :2], WEIGHT))
    dx, _, _ = functional.conv_backward(y, X, WEIGHT, stride=2**59 - 1)
    assert dx[:, :3, :2].all()
    assert not dx[:, 3:].any()
    assert not dx[:, :, 2:].any()


def test_lists_and_nested_lists_are_taken_as_arguments():
    want = functional.conv(X, WEIGHT, stride=(2, 1), padding=((1, 0), (0, 1)))
    for stride in ([2, 1], np.array([2, 1]), (np.int32(2), np.uint8(1))):
        for padding in ([[1, 0], [0, 1]], [(1, 0), (0, 1)], np.array([[1, 0], [0, 1]])):
            np.testing.assert_array_equal(functional.conv(X, WEIGHT, stride=stride, padding=padding), want)


def test_an_argument_that_was_right_once_is_checked_again():
    """1, 1.0 and True are equal and hash alike: a cache of checked arguments must not take one for the other."""
    functional.conv(X, WEIGHT, stride=1, dilation=(1, 1), padding=0, groups=1)
    for name in ("stride", "dilation", "padding", "groups"):
        for value in (1.0, True) if name == "groups" else (1.0, True, (1.0, 1.0), (True, True), ((1.0, 1), (1, 1))):
            functional.conv(X, WEIGHT, padding=1)
            functional.conv(X, WEIGHT, padding=(1, 1))
            functional.conv(X, WEIGHT, padding=((1, 1), (1, 1)))
            with pytest.raises(TypeError, match=f"{name} must be an integer"):
                functional.conv(X, WEIGHT, **{name: value})
