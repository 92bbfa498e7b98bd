"""The reference's convolutions: by hand, against SciPy, and their gradients against finite differences."""

from __future__ import annotations

import numpy as np
import pytest
from gradients import assert_gradient
from independent import correlate

from fastconv import reference

CASES = [
    # x shape, kernel, O, keywords
    ((2, 6, 3), (3,), 4, {}),
    ((2, 7, 2), (2,), 4, {"stride": 2, "padding": 1, "groups": 2}),
    ((1, 9, 1), (3,), 2, {"dilation": 3, "padding": ((2, 3),)}),
    ((2, 5, 6, 3), (3, 2), 2, {"stride": (2, 1), "padding": "same"}),
    ((1, 6, 5, 4), (2, 3), 4, {"dilation": (2, 1), "padding": ((1, 0), (2, 1)), "groups": 4}),
    ((1, 1, 1, 2), (1, 1), 3, {}),
    ((0, 4, 4, 2), (3, 3), 3, {}),
    ((1, 3, 4, 3, 2), (2, 2, 2), 2, {"stride": (1, 2, 1), "padding": (0, 1, 1)}),
]
TRANSPOSED = [
    ((2, 4, 3), (3,), 2, {"stride": 2, "padding": 1, "output_padding": 1}),
    ((1, 3, 1), (2,), 2, {"stride": 3}),
    ((2, 3, 2, 4), (2, 3), 6, {"stride": (1, 2), "padding": ((0, 1), (1, 0)), "groups": 2}),
    ((1, 3, 3, 2), (4, 4), 2, {"stride": 2, "padding": "same"}),
    ((1, 3, 3, 2), (2, 2), 1, {"dilation": 2, "output_padding": (1, 0)}),
    ((1, 2, 2, 3, 1), (2, 1, 2), 2, {"stride": (2, 1, 2)}),
    ((0, 3, 2), (2,), 2, {}),
]


def draw(shape, kernel, out, keywords, transposed=False):
    rng = np.random.default_rng(0)
    channels, groups = shape[-1], keywords.get("groups", 1)
    pair = (out // groups, channels) if transposed else (channels // groups, out)
    return rng.standard_normal(shape), rng.standard_normal((*kernel, *pair)), rng.standard_normal(out)


def test_a_convolution_by_hand():
    x = np.arange(1.0, 10.0).reshape(1, 3, 3, 1)
    weight = np.array([[1.0, 2.0], [3.0, 4.0]]).reshape(2, 2, 1, 1)
    # 1*1 + 2*2 + 4*3 + 5*4 = 37, and each step to the right adds 1 + 2 + 3 + 4, each step down three times that
    np.testing.assert_array_equal(reference.conv(x, weight)[0, ..., 0], [[37, 47], [67, 77]])
    np.testing.assert_array_equal(reference.conv(x, weight, stride=2)[0, ..., 0], [[37]])
    # the corners of the image meet the corners of the dilated kernel: 1*1 + 3*2 + 7*3 + 9*4
    np.testing.assert_array_equal(reference.conv(x, weight, dilation=2, bias=np.array([0.5]))[0, ..., 0], [[64.5]])
    padded = reference.conv(x, weight, padding=((1, 0), (1, 0)))[0, ..., 0]
    np.testing.assert_array_equal(padded, [[4, 11, 18], [18, 37, 47], [36, 67, 77]])


def test_same_pads_after_where_the_total_is_odd():
    x = np.array([1.0, 2.0, 3.0]).reshape(1, 3, 1)
    weight = np.array([1.0, 10.0]).reshape(2, 1, 1)
    np.testing.assert_array_equal(reference.conv(x, weight, padding="same")[0, :, 0], [21, 32, 3])


def test_groups_do_not_see_each_other():
    x = np.array([1.0, 10.0, 100.0, 1000.0]).reshape(1, 1, 4)
    y = reference.conv(x, np.ones((1, 2, 2)), groups=2)
    np.testing.assert_array_equal(y[0, 0], [11, 1100])


def test_a_transposed_convolution_by_hand():
    x = np.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1)
    weight = np.array([[1.0, 10.0], [100.0, 1000.0]]).reshape(2, 2, 1, 1)
    y = reference.conv_transpose(x, weight, np.array([0.5]))[0, ..., 0] - 0.5
    np.testing.assert_array_equal(y, [[1, 12, 20], [103, 1234, 2040], [300, 3400, 4000]])
    cropped = reference.conv_transpose(x, weight, padding=((1, 0), (0, 1)))[0, ..., 0]
    np.testing.assert_array_equal(cropped, [[103, 1234], [300, 3400]])
    y = reference.conv_transpose(x, weight, stride=3, output_padding=(1, 0))
    assert y.shape == (1, 6, 5, 1)
    assert not y[0, 5].any()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_conv_equals_scipy(case):
    shape, *_, keywords = case
    x, weight, bias = draw(*case)
    if shape[0] == 0:
        assert reference.conv(x, weight, bias, **keywords).shape == (0, 2, 2, 3)
        return
    np.testing.assert_allclose(reference.conv(x, weight, bias, **keywords), correlate(x, weight, **keywords) + bias)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_conv_backward_is_the_gradient(case):
    keywords = case[-1]
    x, weight, bias = draw(*case)
    dy = np.random.default_rng(1).standard_normal(reference.conv(x, weight, **keywords).shape)
    dx, dweight, dbias = reference.conv_backward(dy, x, weight, **keywords)
    assert_gradient(dx, lambda x: reference.conv(x, weight, bias, **keywords), x, dy)
    assert_gradient(dweight, lambda weight: reference.conv(x, weight, bias, **keywords), weight, dy)
    assert_gradient(dbias, lambda bias: reference.conv(x, weight, bias, **keywords), bias, dy)


@pytest.mark.parametrize("case", TRANSPOSED, ids=str)
def test_conv_transpose_backward_is_the_gradient(case):
    keywords = case[-1]
    x, weight, bias = draw(*case, transposed=True)
    y = reference.conv_transpose(x, weight, bias, **keywords)
    dy = np.random.default_rng(1).standard_normal(y.shape)
    dx, dweight, dbias = reference.conv_transpose_backward(dy, x, weight, **keywords)
    assert_gradient(dx, lambda x: reference.conv_transpose(x, weight, bias, **keywords), x, dy)
    assert_gradient(dweight, lambda weight: reference.conv_transpose(x, weight, bias, **keywords), weight, dy)
    assert_gradient(dbias, lambda bias: reference.conv_transpose(x, weight, bias, **keywords), bias, dy)


@pytest.mark.parametrize("case", [c for c in TRANSPOSED if c[0][0]], ids=str)
def test_conv_transpose_is_the_adjoint_of_scipys_correlation(case):
    keywords = dict(case[-1])
    x, weight, _ = draw(*case, transposed=True)
    y = reference.conv_transpose(x, weight, **keywords)
    keywords.pop("output_padding", None)
    if keywords.get("padding") == "same":
        keywords["padding"] = 1
    z = np.random.default_rng(2).standard_normal(y.shape)
    back = correlate(z, weight, **keywords)
    inside = tuple(slice(n) for n in x.shape)  # an output padding of a whole stride makes room for one more window
    np.testing.assert_allclose(np.vdot(y, z), np.vdot(x, back[inside]))


@pytest.mark.parametrize("wrt", [(), ("x",), ("weight",), ("bias",), ("bias", "x")])
def test_wrt_chooses_the_gradients(wrt):
    x, weight, dy = np.ones((1, 3, 1)), np.ones((2, 1, 1)), np.ones((1, 2, 1))
    local = np.ones((2, 2, 1, 1))
    for gradients in (
        reference.conv_backward(dy, x, weight, wrt=wrt),
        reference.conv_transpose_backward(x, dy, weight, wrt=wrt),
        reference.locally_connected_backward(dy, x, local, wrt=wrt),
        reference.linear_backward(x, x, np.ones((1, 1)), wrt=wrt),
    ):
        given = [name for name, g in zip(("x", "weight", "bias"), gradients, strict=True) if g is not None]
        assert sorted(given) == sorted(wrt)


def test_equal_local_weights_are_a_convolution():
    rng = np.random.default_rng(0)
    x, weight, bias = rng.standard_normal((2, 5, 4, 3)), rng.standard_normal((3, 2, 3, 2)), rng.standard_normal(2)
    y = reference.conv(x, weight, bias, stride=(2, 1), padding=1)
    output = y.shape[1:-1]
    shared, biases = np.broadcast_to(weight, output + weight.shape), np.broadcast_to(bias, (*output, 2))
    np.testing.assert_allclose(reference.locally_connected(x, shared, biases, stride=(2, 1), padding=1), y)


@pytest.mark.parametrize(
    ("shape", "output", "kernel", "keywords"),
    [
        ((2, 5, 2), (3,), (3,), {}),
        ((2, 4, 5, 2), (2, 5), (2, 3), {"stride": (2, 1), "padding": "same"}),
        ((1, 2, 3, 2, 1), (2, 2, 1), (1, 2, 2), {}),
    ],
)
def test_locally_connected_backward_is_the_gradient(shape, output, kernel, keywords):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape)
    weight, bias = rng.standard_normal((*output, *kernel, shape[-1], 3)), rng.standard_normal((*output, 3))
    dy = rng.standard_normal((shape[0], *output, 3))
    dx, dweight, dbias = reference.locally_connected_backward(dy, x, weight, **keywords)
    assert_gradient(dx, lambda x: reference.locally_connected(x, weight, bias, **keywords), x, dy)
    assert_gradient(dweight, lambda weight: reference.locally_connected(x, weight, bias, **keywords), weight, dy)
    assert_gradient(dbias, lambda bias: reference.locally_connected(x, weight, bias, **keywords), bias, dy)


@pytest.mark.parametrize("leading", [(), (3,), (2, 3)])
def test_linear_backward_is_the_gradient(leading):
    rng = np.random.default_rng(0)
    x, weight, bias = rng.standard_normal((*leading, 4)), rng.standard_normal((4, 2)), rng.standard_normal(2)
    dy = rng.standard_normal((*leading, 2))
    dx, dweight, dbias = reference.linear_backward(dy, x, weight)
    np.testing.assert_allclose(reference.linear(x, weight, bias), x @ weight + bias)
    assert_gradient(dx, lambda x: reference.linear(x, weight, bias), x, dy)
    assert_gradient(dweight, lambda weight: reference.linear(x, weight, bias), weight, dy)
    assert_gradient(dbias, lambda bias: reference.linear(x, weight, bias), bias, dy)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_results_keep_the_dtype(dtype):
    x, weight, bias = np.ones((1, 4, 2), dtype), np.ones((2, 2, 2), dtype), np.ones(2, dtype)
    y = reference.conv(x, weight, bias, padding=1)
    for array in (y, *reference.conv_backward(y, x, weight, padding=1), reference.conv_transpose(x, weight, bias)):
        assert array is not None
        assert array.dtype == dtype
