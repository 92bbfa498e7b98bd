"""Strassen's algorithm: as exact as it says for every size, the same bits for any number of threads, chosen where it pays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from convolutions import assert_same_on_any_threads
from hypothesis import given, settings
from hypothesis import strategies as st

import fastconv
from fastconv.functional import conv, conv_backward, conv_transpose, linear, linear_backward
from fastconv.functional._conv_plan import conv_plan

#: Of the largest output.
TOLERANCE = {np.dtype(np.float32): 1e-5, np.dtype(np.float64): 2e-14}


def problem(seed: int, x_shape: tuple[int, ...], outputs: int, dtype: Any) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    weight_shape = (*(1,) * (len(x_shape) - 2), x_shape[-1], outputs)
    return [rng.standard_normal(shape).astype(dtype) for shape in (x_shape, weight_shape, (outputs,))]


def choices(x_shape: tuple[int, ...], weight_shape: tuple[int, ...]) -> tuple[str, ...]:
    """What is chosen for a convolution and its gradients, on whatever processor."""
    plan = conv_plan(x_shape, weight_shape, 1, 0, 1, 1, None)
    return plan.forward.name, plan.adjoint.algorithm.name, plan.weight_gradient.algorithm.name


def assert_close(got: np.ndarray | None, want: np.ndarray | None) -> None:
    assert got is not None
    assert want is not None
    assert got.shape == want.shape
    assert np.abs(got - want).max() <= TOLERANCE[got.dtype] * np.abs(want).max()


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**16),
    dtype=st.sampled_from([np.float32, np.float64]),
    image=st.lists(st.integers(1, 13), min_size=1, max_size=3),
    batch=st.integers(1, 3),
    channels=st.sampled_from([64, 68, 128, 172, 320]),
    outputs=st.sampled_from([64, 128, 192, 320]),
    stride=st.sampled_from([1, 1, 2]),
)
def test_equals_the_product_in_float64(
    isa: str, seed: int, dtype: Any, image: list[int], batch: int, channels: int, outputs: int, stride: int
) -> None:
    x, weight, bias = problem(seed, (batch, *image, channels), outputs, dtype)
    arguments: dict[str, Any] = {"stride": stride}
    wide = [a.astype(np.float64) for a in (x, weight, bias)]
    y = conv(x, weight, bias, **arguments, algorithm="strassen")
    assert_close(y, conv(*wide, **arguments, algorithm="product"))
    dy = np.random.default_rng(seed + 1).standard_normal(y.shape).astype(dtype)
    gradients = conv_backward(dy, x, weight, **arguments, algorithm="strassen")
    exact = conv_backward(dy.astype(np.float64), *wide[:2], **arguments, algorithm="product")
    for got, want in zip(gradients, exact, strict=True):
        assert_close(got, want)
    assert_same_on_any_threads(x, weight, bias, **arguments, algorithm="strassen")
    for i in range(batch):  # no image depends on the others
        np.testing.assert_array_equal(conv(x[i : i + 1], weight, bias, **arguments, algorithm="strassen"), y[i : i + 1])


@pytest.mark.parametrize(
    ("batch", "size", "channels", "outputs"),
    [(2, 17, 1152, 320), (1, 9, 1156, 1152), (3, 31, 64, 64), (1, 15, 2308, 64)],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_many_channels_and_pixels(isa, dtype, batch, size, channels, outputs):
    """More sums of the weight than are made at a time; more blocks than meet them together; more channels than a tile takes."""
    x, weight, bias = problem(0, (batch, size, size, channels), outputs, dtype)
    wide = [a.astype(np.float64) for a in (x, weight, bias)]
    assert_close(conv(x, weight, bias, algorithm="strassen"), conv(*wide, algorithm="product"))
    assert_same_on_any_threads(x, weight, bias, algorithm="strassen")


def test_the_adjoint_is_that_of_the_product():
    x, weight, _ = problem(0, (2, 15, 15, 128), 256, np.float32)
    weight = np.ascontiguousarray(weight.swapaxes(-1, -2))
    got = conv_transpose(x, weight, algorithm="strassen")
    assert_close(got, conv_transpose(x.astype(np.float64), weight.astype(np.float64), algorithm="product"))


@pytest.mark.parametrize(
    ("x", "weight", "arguments", "why"),
    [
        ((1, 8, 8, 64), (3, 3, 64, 64), {}, "kernels of one tap"),
        ((1, 8, 8, 128), (1, 1, 64, 128), {"groups": 2}, "without groups"),
        ((1, 8, 8, 64), (1, 1, 64, 64), {"padding": 1}, "without padding"),
        (
            (1, 8, 8, 66),
            (1, 1, 66, 64),
            {},
            "over at least 64 channels, a multiple of 4, for a multiple of 64, not 66 for 64",
        ),
        ((1, 8, 8, 60), (1, 1, 60, 64), {}, "not 60 for 64"),
    ],
    ids=str,
)
def test_what_it_cannot_compute(x, weight, arguments, why):
    with pytest.raises(ValueError, match=why):
        fastconv.explain_conv(x, weight, **arguments, algorithm="strassen")


def test_the_product_stands_in_where_tiles_are_low(isa):
    """An explanation says what is computed, for these numbers and on this processor."""
    x, weight, bias = problem(0, (2, 28, 28, 256), 512, np.float32)
    for dtype in (np.float32, np.float64):
        arrays = [array.astype(dtype) for array in (x, weight, bias)]
        explained = fastconv.explain_conv(x.shape, weight.shape, dtype=dtype)
        has_it = isa == "avx512" and dtype is np.float32
        assert explained.forward.name == explained.backward_input.name == ("strassen" if has_it else "product")
        assert ("the product takes its place" in explained.forward.why) is not has_it
        assert explained.backward_weight == fastconv.explain_conv(x.shape, weight.shape).backward_weight
        is_product = np.array_equal(conv(*arrays), conv(*arrays, algorithm="product"))
        assert is_product is not has_it


def test_an_explanation_is_of_floats():
    with pytest.raises(TypeError, match="dtype must be float32 or float64, got 'int8'"):
        fastconv.explain_conv((1, 8, 8, 64), (1, 1, 64, 64), dtype="int8")
    with pytest.raises(TypeError):
        fastconv.explain_conv((1, 8, 8, 64), (1, 1, 64, 64), dtype="no such")


def test_it_is_not_exact():
    x, weight, bias = problem(0, (16, 14, 14, 512), 512, np.float32)
    assert choices(x.shape, weight.shape)[0] == "strassen"
    with fastconv.precision("exact"):
        explanation = fastconv.explain_conv(x.shape, weight.shape)
        assert {explanation.forward.name, explanation.backward_input.name} == {"product"}
        assert "Strassen's algorithm would take 8" in explanation.forward.why
        with pytest.raises(ValueError, match="algorithm 'strassen' is forbidden"):
            conv(x, weight, bias, algorithm="strassen")


@pytest.mark.parametrize(
    ("x", "outputs", "names"),
    [
        ((16, 14, 14, 512), 512, ("strassen", "strassen")),
        ((16, 14, 14, 1024), 256, ("strassen", "strassen")),
        ((16, 28, 28, 64), 512, ("product", "product")),  # of few channels sums cost more than they spare
        ((16, 7, 7, 512), 512, ("product", "product")),  # 49 pixels do not fill blocks
        ((1, 7, 7, 512), 512, ("product", "product")),
        ((1, 56, 56, 96), 192, ("product", "product")),
    ],
    ids=str,
)
def test_it_is_chosen_where_it_pays(x, outputs, names):
    assert choices(x, (1, 1, x[-1], outputs)) == (*names, "product")


def test_rows_of_samples_are_pixels(isa):
    """A linear map of many tokens of a sample is a 1x1 convolution; no sample depends on the others."""
    rng = np.random.default_rng(0)
    x, weight, bias = (
        rng.standard_normal(shape).astype(np.float32) for shape in ((4, 14, 14, 384), (384, 512), (512,))
    )
    assert choices(x.shape, (1, 1, *weight.shape))[0] == "strassen"
    y = linear(x, weight, bias)
    np.testing.assert_array_equal(y, conv(x, weight[None, None], bias))
    np.testing.assert_array_equal(y[1:], linear(x[1:], weight, bias))
    dx, _, _ = linear_backward(y, x, weight)
    np.testing.assert_array_equal(dx, conv_backward(y, x, weight[None, None])[0])
    with fastconv.precision("exact"):
        np.testing.assert_array_equal(linear(x, weight, bias), conv(x, weight[None, None], bias, algorithm="product"))
        exact, _, _ = linear_backward(y, x, weight)
    assert_close(dx, exact)
    assert np.array_equal(dx, exact) is (isa != "avx512")  # elsewhere the product stands in for it
