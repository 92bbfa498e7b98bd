"""Calls that are decided before their arrays exist, and the kernels that only they use."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastconv import _kernels
from fastconv import functional as F
from fastconv.functional._conv_plan import conv_plan
from fastconv.functional.calls import Activation, View, activate, activated_sum, epilogue
from fastconv.functional.frozen_conv import conv_calls, writes_channels
from fastconv.layers import LocalResponseNorm

DTYPES = [np.float32, np.float64]

#: Around a vector and around a portion, which is a task.
SIZES = st.sampled_from([1, 7, 8, 15, 16, 17, 31, 33, 100, 4095, 4096, 4097, 9000])


def _mish(x):
    y = np.empty_like(x)
    _kernels.modules[x.dtype].activation_forward(x, y, "mish", 0.0, 0.0, 1)
    return y


FUNCTIONS = {
    "relu": (Activation("relu"), F.relu),
    "relu6": (Activation("relu6"), F.relu6),
    "leaky_relu": (Activation("leaky_relu", 0.2), lambda x: F.leaky_relu(x, slope=0.2)),
    "elu": (Activation("elu", 0.7, 1.0), lambda x: F.elu(x, alpha=0.7)),
    "gelu": (Activation("gelu"), F.gelu),
    "gelu_tanh": (Activation("gelu_tanh"), lambda x: F.gelu(x, approximate=True)),
    "silu": (Activation("silu"), F.silu),
    "hard_swish": (Activation("hard_swish"), F.hard_swish),
    "hard_sigmoid": (Activation("hard_sigmoid"), F.hard_sigmoid),
    "sigmoid": (Activation("sigmoid"), F.sigmoid),
    "tanh": (Activation("tanh"), F.tanh),
    "softplus": (Activation("softplus"), F.softplus),
    "mish": (Activation("mish"), _mish),
}


def run(calls, arrays, threads):
    for call in calls:
        args = [arrays[arg.value].reshape(arg.shape) if isinstance(arg, View) else arg for arg in call.args]
        call.kernel(*args, *([] if call.work is None else [threads]))


def views(*arrays):
    return [View(at, array.shape) for at, array in enumerate(arrays)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
@given(size=SIZES, seed=st.integers(0, 100))
def test_a_sum_and_an_activation_in_place(isa, threads, name, dtype, size, seed):
    kernels = _kernels.modules[np.dtype(dtype)]
    x, r = np.random.default_rng(seed).normal(0, 4, (2, size)).astype(dtype)
    activation, function = FUNCTIONS[name]
    y = x.copy()
    run(epilogue(kernels, activation, View(1, r.shape), View(0, y.shape)), [y, r], threads)
    assert y.tobytes() == function(x + r).tobytes()
    y = x.copy()
    run(epilogue(kernels, activation, None, View(0, y.shape)), [y], threads)
    assert y.tobytes() == function(x).tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@given(size=SIZES, seed=st.integers(0, 100), into=st.integers(0, 2))
def test_a_plain_sum_may_be_written_over_either_summand(isa, threads, dtype, size, seed, into):
    kernels = _kernels.modules[np.dtype(dtype)]
    arrays = list(np.random.default_rng(seed).normal(0, 4, (3, size)).astype(dtype))
    want = arrays[0] + arrays[1]
    run(activated_sum(kernels, None, *(View(at, (size,)) for at in (0, 1, into))), arrays, threads)
    assert arrays[into].tobytes() == want.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@given(rows=st.integers(1, 300), channels=st.sampled_from([1, 3, 7, 8, 15, 16, 17, 33, 5000]), seed=st.integers(0, 100))
def test_prelu_has_a_slope_for_each_channel(isa, threads, dtype, rows, channels, seed):
    kernels = _kernels.modules[np.dtype(dtype)]
    rng = np.random.default_rng(seed)
    rows = min(rows, 3) if channels > 100 else rows
    x = rng.normal(0, 4, (rows, channels)).astype(dtype)
    x[rng.random(x.shape) < 0.01] = np.nan
    x[rng.random(x.shape) < 0.01] = -np.inf
    slope = rng.normal(0, 1, channels).astype(dtype)
    y, want = np.zeros_like(x), np.where(x > 0, x, x * slope)
    run(activate(kernels, Activation("prelu", slope=slope), *views(x, y)), [x, y], threads)
    np.testing.assert_array_equal(y, want)
    run(activate(kernels, Activation("prelu", slope=slope), *views(x)[:1] * 2), [x], threads)
    np.testing.assert_array_equal(x, want)


def test_nothing_is_called_for_nothing():
    kernels = _kernels.modules[np.dtype(np.float32)]
    empty = View(0, (0, 3))
    assert activated_sum(kernels, None, empty, empty, empty) == []
    assert epilogue(kernels, Activation("relu"), None, empty) == []
    assert epilogue(kernels, None, None, View(0, (2, 3))) == []


def test_views_have_the_shapes_that_kernels_take():
    assert View(3, (2, 5, 4)).spatial3() == View(3, (2, 1, 1, 5, 4))
    assert View(3, (2, 5, 4)).reshape(10, 4).size == 40


#: (image, kernel, channels in, channels out, stride, padding, groups): the product in strips and parts of its depth, one row,
#: columns that fill no vector, few channels of one tap, groups together and apart, one channel a group, images too small for
#: whole Winograd tiles.
CONVOLUTIONS = {
    "3x3": ((2, 9, 10), (3, 3), 20, 33, 1, 1, 1),
    "winograd edges": ((1, 15, 13), (3, 3), 32, 40, 1, 1, 1),
    "5x5": ((1, 11, 9), (5, 5), 16, 24, 1, 2, 1),
    "deep 1x1": ((1, 7, 7), (1, 1), 600, 530, 1, 0, 1),
    "strided": ((2, 9, 9), (3, 3), 64, 48, 2, 1, 1),
    "few columns": ((1, 12, 12), (3, 3), 3, 5, 1, 1, 1),
    "few outputs": ((2, 9, 15), (3, 3), 20, 3, 1, 1, 1),
    "few outputs 5x5": ((1, 11, 9), (5, 5), 40, 12, 1, 2, 1),
    "one tap to few": ((2, 9, 9), (1, 1), 40, 3, 1, 0, 1),
    "one tap from few": ((2, 9, 9), (1, 1), 3, 40, 1, 0, 1),
    "one row": ((1, 1, 1), (1, 1), 70, 90, 1, 0, 1),
    "few rows": ((1, 1, 3), (1, 1), 70, 90, 1, 0, 1),
    "groups": ((2, 6, 6), (3, 3), 24, 48, 1, 1, 3),
    "large groups": ((1, 6, 6), (3, 3), 140, 160, 1, 1, 2),
    "depthwise": ((2, 9, 7), (3, 3), 37, 37, 1, 1, 37),
    "depthwise few": ((1, 9, 9), (3, 3), 3, 3, 2, 1, 3),
    "padding beyond": ((1, 4, 4), (3, 3), 8, 16, 2, 5, 1),
    "tap by tap": ((1, 7, 7), (3, 3), 280, 33, 1, 1, 1),
    "much weight": ((1, 13, 9), (3, 3), 208, 320, 1, 1, 1),
}


@pytest.mark.parametrize("algorithm", [None, "kept", "product", "winograd"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_a_convolution_ends_with_a_sum_and_an_activation(isa, threads, case, dtype, algorithm):
    image, kernel, inputs, outputs, stride, padding, groups = CONVOLUTIONS[case]
    kernels = _kernels.modules[np.dtype(dtype)]
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (*image, inputs)).astype(dtype)
    w = rng.normal(0, 1, (*kernel, inputs // groups, outputs)).astype(dtype)
    bias = rng.normal(0, 1, outputs).astype(dtype)
    try:
        plan = conv_plan(x.shape, w.shape, stride, padding, 1, groups, algorithm)
    except ValueError:
        return  # an algorithm that is not for this case
    plain = F.conv(x, w, bias, stride=stride, padding=padding, groups=groups, algorithm="product")
    r = rng.normal(0, 1, plain.shape).astype(dtype)
    slope = rng.normal(0, 1, outputs).astype(dtype)
    functions = {
        **FUNCTIONS,
        "clip": (Activation("clip", -0.5, 1.5), lambda x: np.clip(x, -0.5, 1.5)),
        "prelu": (Activation("prelu", slope=slope), lambda x: np.where(x > 0, x, x * slope)),
        "none": (None, lambda x: x),
    }
    for activation, function in functions.values():
        for shortcut in (None, View(2, r.shape)):
            y, again = (np.full(plain.shape, np.nan, dtype) for _ in range(2))
            calls = conv_calls(
                kernels, plan, w, bias, View(0, x.shape), View(1, y.shape), residual=shortcut, activation=activation
            )
            run(calls, [x, y, r], threads)
            run(calls, [x, again, r], threads)  # with the weight packed
            assert y.tobytes() == again.tobytes()
            want = function(plain if shortcut is None else plain + r)
            tolerance = 1e-4 if dtype == np.float32 else 1e-10
            np.testing.assert_allclose(y, want, rtol=0, atol=tolerance * max(1, abs(plain).max()))


def test_infinite_weights_and_padding_are_finished_too(isa, threads):
    kernels = _kernels.modules[np.dtype(np.float32)]
    for groups, inputs in ((1, 8), (1, 280), (16, 16)):
        x = np.ones((1, 5, 5, inputs), np.float32)
        w = np.ones((3, 3, inputs // groups, 16), np.float32)
        w[0, 0, 0, 3] = np.inf
        plan = conv_plan(x.shape, w.shape, 1, 1, 1, groups, "kept")
        y = np.empty(plan.y_shape, np.float32)
        calls = conv_calls(kernels, plan, w, None, *views(x, y), activation=Activation("relu6"))
        for _ in range(2):
            run(calls, [x, y], threads)
        np.testing.assert_array_equal(y, np.clip(F.conv(x, w, padding=1, groups=groups), 0, 6))


def test_plans_share_a_packed_weight_and_let_it_go():
    kernels = _kernels.modules[np.dtype(np.float32)]
    w = np.random.default_rng(0).random((1, 1, 32, 48)).astype(np.float32)
    held = [
        conv_calls(kernels, plan, w, None, View(0, plan.x_shape), View(1, plan.y_shape))[0].args[2]
        for plan in (conv_plan((n, 4, 4, 32), w.shape, 1, 0, 1, 1, "kept") for n in (1, 2))
    ]
    assert held[0] is held[1]
    packed, weight = held[0].use()
    assert packed is held[0].use()[0] is not None
    assert weight is None
    gone = weakref.ref(held[0])
    held.clear()
    assert gone() is None


@pytest.mark.parametrize("dtype", DTYPES)
@given(batch=st.sampled_from([1, 2, 3, 700]), rows=st.integers(1, 40) | st.just(3), cols=st.integers(1, 600))
def test_transpose(isa, threads, dtype, batch, rows, cols):
    x = np.random.default_rng(0).random((batch, rows, cols)).astype(dtype)
    y = np.full((batch, cols, rows), np.nan, dtype)
    _kernels.modules[np.dtype(dtype)].transpose(x, y, batch, rows, cols, threads)
    np.testing.assert_array_equal(y, x.transpose(0, 2, 1))


@pytest.mark.parametrize("dtype", DTYPES)
@given(rows=st.integers(1, 300), widths=st.lists(st.integers(1, 40), min_size=1, max_size=4))
def test_copy_columns(isa, threads, dtype, rows, widths):
    parts = [np.random.default_rng(at).random((rows, width)).astype(dtype) for at, width in enumerate(widths)]
    y = np.full((rows, sum(widths)), np.nan, dtype)
    copy_columns = _kernels.modules[np.dtype(dtype)].copy_columns
    for at, part in enumerate(parts):
        copy_columns(part, 0, y, sum(widths[:at]), rows, widths[at], threads)
    np.testing.assert_array_equal(y, np.concatenate(parts, 1))
    for at, part in enumerate(parts):
        again = np.full_like(part, np.nan)
        copy_columns(y, sum(widths[:at]), again, 0, rows, widths[at], threads)
        np.testing.assert_array_equal(again, part)


@pytest.mark.parametrize("dtype", DTYPES)
@given(
    images=st.integers(1, 3),
    rows=st.integers(1, 300),
    first=st.integers(0, 40),
    channels=st.integers(1, 150),
    shifted=st.booleans(),
    relu=st.booleans(),
    where=st.sampled_from(["among others", "alone", "in place"]),
)
def test_scale_columns(isa, threads, dtype, images, rows, first, channels, shifted, relu, where):
    rng = np.random.default_rng(0)
    first, others = (first, first + 3) if where == "among others" else (0, 0)
    x, factor, shift = (
        rng.standard_normal(shape).astype(dtype)
        for shape in ((images, rows, channels + others), (images, 1, channels), channels)
    )
    want = x[..., first : first + channels] * factor + (shift if shifted else 0)
    y = x if where == "in place" else np.full((images, rows, channels), np.nan, dtype)
    kernels = _kernels.modules[np.dtype(dtype)]
    kernels.scale_columns(x, first, factor, shift if shifted else None, y, channels, relu, threads)
    np.testing.assert_allclose(
        y, np.maximum(want, 0) if relu else want, rtol=0, atol=8 * np.finfo(dtype).eps * abs(want).max()
    )


@pytest.mark.parametrize("algorithm", ["product", "winograd"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", [None, Activation("relu6"), Activation("tanh")])
@pytest.mark.parametrize(("inputs", "outputs", "size"), [(20, 48, 3), (600, 16, 1), (32, 544, 3), (70, 32, 1)])
def test_a_convolution_writes_channels_of_an_array(isa, threads, inputs, outputs, size, activation, dtype, algorithm):
    kernels = _kernels.modules[np.dtype(dtype)]
    rng = np.random.default_rng(0)
    for image in ((2, 9, 10), (1, 1, 1), (1, 1, 3)):
        x, w, bias = (
            rng.normal(0, 1, shape).astype(dtype)
            for shape in ((*image, inputs), (size, size, inputs, outputs), outputs)
        )
        try:
            plan = conv_plan(x.shape, w.shape, 1, size // 2, 1, 1, algorithm)
        except ValueError:
            continue  # an algorithm that is not for this case
        assert writes_channels(plan)
        alone, joined = np.empty(plan.y_shape, dtype), np.full((*image, 5 + outputs + 3), np.nan, dtype)
        place = View(1, alone.shape, 5, joined.shape[-1])
        assert place.whole_shape == joined.shape
        for view, y in ((View(1, alone.shape), alone), (place, joined)):
            (call,) = conv_calls(kernels, plan, w, bias, View(0, x.shape), view, activation=activation)
            for _ in range(2):  # the second time with the weight packed
                args = [(x, y)[arg.value] if isinstance(arg, View) else arg for arg in call.args]
                call.kernel(*args, threads)
        inside = joined[..., 5:-3]
        np.testing.assert_allclose(inside, alone, rtol=0, atol=2 * np.finfo(dtype).eps * abs(alone).max())
        assert np.isnan(joined[..., :5]).all()
        assert np.isnan(joined[..., -3:]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@given(rows=st.integers(1, 900), channels=st.integers(1, 70), seed=st.integers(0, 99))
def test_pick_channels(isa, threads, dtype, rows, channels, seed):
    rng = np.random.default_rng(seed)
    x, places = rng.random((rows, channels)).astype(dtype), rng.integers(0, channels, rng.integers(1, 90))
    y = np.full((rows, len(places)), np.nan, dtype)
    _kernels.modules[np.dtype(dtype)].pick_channels(x, places, y, channels, threads)
    np.testing.assert_array_equal(y, x[:, places])


@pytest.mark.parametrize("dtype", DTYPES)
@given(
    rows=st.integers(1, 300),
    channels=st.integers(1, 40),
    size=st.integers(1, 9),
    beta=st.sampled_from([0.75, 0.5, 1.0]),
    seed=st.integers(0, 99),
)
def test_local_response_norm(isa, threads, dtype, rows, channels, size, beta, seed):
    x = np.random.default_rng(seed).normal(0, 3, (rows, channels)).astype(dtype)
    y = np.full_like(x, np.nan)
    _kernels.modules[np.dtype(dtype)].local_response_norm(x, y, channels, size, 0.3, beta, 2.0, threads)
    want = LocalResponseNorm(size, alpha=0.3, beta=beta, bias=2.0)(x.astype(np.float64))
    np.testing.assert_allclose(y, want, rtol=1e-5 if dtype == np.float32 else 1e-12)


def test_lines_of_an_image_begin_where_they_lie():
    image = View(3, (1, 9, 5, 4))
    assert image.lines(2, 6) == View(3, (1, 4, 5, 4), start=2 * 5 * 4)
    assert image.lines(2, 6).lines(1, 3) == View(3, (1, 2, 5, 4), start=3 * 5 * 4)
    part = View(3, (1, 9, 5, 4), first=8, width=16).lines(2, 6)  # of a wider array
    assert (part.start, part.whole_shape) == (2 * 5 * 16, (1, 4, 5, 16))
    assert image.lines(1, 2).spatial3() == View(3, (1, 1, 1, 5, 4), start=5 * 4)
