"""Weights of frozen models: packed when they are used, and had back from their panels."""

from __future__ import annotations

import copy
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastconv import _kernels
from fastconv.functional._conv_plan import conv_plan
from fastconv.functional.frozen_weight import Packed, Weight, packed_weight


def shape_for(x_shape, w_shape, groups=1, algorithm="product"):
    plan = conv_plan(x_shape, w_shape, 1, w_shape[0] // 2, 1, groups, algorithm)
    return (plan.axes, *plan.sizes, *plan.forward.tile)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(
    size=st.sampled_from([1, 3]),
    depth=st.sampled_from([1, 5, 33, 257, 700]),
    cols=st.sampled_from([1, 7, 16, 33, 64, 100]),
    groups=st.sampled_from([1, 2, 3]),
    seed=st.integers(0, 99),
)
def test_panels_tell_every_number(isa, dtype, size, depth, cols, groups, seed):
    kernels = _kernels.modules[np.dtype(dtype)]
    w = np.random.default_rng(seed).standard_normal((size, size, depth, cols * groups)).astype(dtype)
    w.ravel()[::7], w.ravel()[3::7], w.ravel()[5::70] = -0.0, np.nan, np.inf
    want, weight, shape = w.copy(), Weight(w), shape_for((2, 12, 12, depth * groups), w.shape, groups)
    packed = packed_weight(kernels, weight, shape)
    if packed is None:
        return  # the kernel reads it as it is
    _, array = packed.use()
    gone = weakref.ref(w)
    if array is None:
        del w
        assert gone() is None
    assert weight.array().tobytes() == want.tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("size", "depth", "cols", "algorithm"),
    [
        (7, 280, 70, "product"),  # tap by tap
        (5, 520, 16, "product"),
        (14, 200, 330, "winograd"),  # only put in order: transformed it would be too large
        (13, 330, 260, "winograd"),
    ],
)
def test_the_weight_of_several_taps_can_be_had_back(isa, dtype, size, depth, cols, algorithm):
    kernels = _kernels.modules[np.dtype(dtype)]
    w = np.random.default_rng(0).standard_normal((3, 3, depth, cols)).astype(dtype)
    w.ravel()[::7], w.ravel()[3::7], w.ravel()[5::70] = -0.0, np.nan, np.inf
    want, weight = w.copy(), Weight(w)
    packed = packed_weight(kernels, weight, shape_for((1, size, size, depth), w.shape, algorithm=algorithm))
    few = dtype is np.float64 or isa == "baseline"  # no kernels for what few layers have
    assert (packed is None) is (few and algorithm == "winograd")
    del w
    if packed is not None:
        _, plain = packed.use()
        assert plain is None
    assert weight.array().tobytes() == want.tobytes()


def packed_by(weight, batch=2):
    kernels = _kernels.modules[np.dtype(np.float32)]
    return packed_weight(kernels, weight, shape_for((batch, 9, 9, 40), (1, 1, 40, 48)))


def test_whoever_asks_for_the_array_shares_one():
    w = np.random.default_rng(0).random((1, 1, 40, 48)).astype(np.float32)
    weight = Weight(w)
    assert weight.array() is w
    assert (weight.shape, weight.ndim, weight.size, weight.nbytes) == (w.shape, 4, w.size, w.nbytes)
    packed = packed_by(weight)
    packed.use()
    assert weight.array() is w  # somebody still holds it
    want = w.copy()
    del w
    first = weight.array()
    assert first is weight.array()
    assert first.tobytes() == want.tobytes()
    np.testing.assert_array_equal(weight, want)
    np.testing.assert_array_equal(copy.deepcopy(weight).array(), want)


def test_panels_outlive_the_plan_that_made_them():
    weight = Weight(np.random.default_rng(0).random((1, 1, 40, 48)).astype(np.float32))
    packed = packed_by(weight)
    panels, _ = packed.use()
    del packed
    array, plain = packed_by(weight, batch=3).use()
    assert array is panels
    assert plain is None


def test_the_same_weight_in_other_groups_is_packed_by_itself():
    kernels = _kernels.modules[np.dtype(np.float32)]
    weight = Weight(np.ones((1, 1, 40, 96), np.float32))
    one, two = (packed_weight(kernels, weight, shape_for((1, 9, 9, 40 * g), (1, 1, 40, 96), g)) for g in (1, 2))
    assert isinstance(one, Packed)
    assert one is not two


def test_a_large_weight_is_packed_unless_it_is_transformed(isa):
    """Of 8 MB: panels are kept; a kernel that would read three times as many numbers makes them at each call."""
    for dtype, depth in ((np.float32, 2048), (np.float64, 1024)):
        kernels = _kernels.modules[np.dtype(dtype)]
        w = np.zeros((1, 1, depth, 1024), dtype)
        plan = conv_plan((2, 28, 28, depth), w.shape, 1, 0, 1, 1, "strassen")
        packed = packed_weight(kernels, w, (plan.axes, *plan.sizes, *plan.forward.tile))
        assert (packed is None) is kernels.describe()["strassen"]
