"""Calls that are decided before their arrays exist, and the kernels that only they use."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastconv import _kernels
from fastconv import functional as F
from fastconv.functional.calls import Activation, View, activate, activated_sum, epilogue

DTYPES = [np.float32, np.float64]

#: Around a vector and around a portion, which is a task.
SIZES = st.sampled_from([1, 7, 8, 15, 16, 17, 31, 33, 100, 4095, 4096, 4097, 9000])

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
}


def run(calls, arrays, threads):
    for call in calls:
        args = [arrays[arg.value] if isinstance(arg, View) else arg for arg in call.args]
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
