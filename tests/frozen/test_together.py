"""Layers for every entry along an axis: the entries are a batch, and stay one as long as nothing else is asked for."""

from __future__ import annotations

import numpy as np
import pytest
from frozen_cases import assert_equal_models, trained
from hypothesis import given
from hypothesis import strategies as st

import fastconv
from fastconv import layers as L
from fastconv.frozen.lower import lower
from fastconv.frozen.passes import drop_dead
from fastconv.frozen.together import Apart, Together, keep_together
from fastconv.model import Input, Model
from fastconv.sequential import Sequential

#: What keeps the shape (T, H, W, 3) of a sample.
LAYERS = {
    "conv": lambda: L.TimeDistributed(L.Conv2d(3, 3, padding=1)),
    "depthwise": lambda: L.TimeDistributed(L.DepthwiseConv2d(kernel_size=3, padding=1)),
    "norm": lambda: L.TimeDistributed(L.BatchNorm()),
    "pool": lambda: L.TimeDistributed(L.MaxPool2d(3, stride=1, padding=1)),
    "nested": lambda: L.TimeDistributed(
        Sequential([L.Conv2d(5, 1), L.BatchNorm(), L.ReLU(), L.Conv2d(3, 3, padding=1)])
    ),
    "frames": lambda: L.TimeDistributed(L.Transpose((2, 1, 3))),
    "relu": L.ReLU,
    "softmax": L.Softmax,
    "linear": lambda: L.Linear(3),
    "layer norm": L.LayerNorm,
    "turned": lambda: L.Transpose((1, 3, 2, 4)),
    "twice": lambda: L.TimeDistributed(L.TimeDistributed(L.Linear(3))),
}


def kinds(program):
    return [step.operation.kind for step in program.steps]


def chain(names, shape):
    x = y = Input(shape)
    for name in names:
        y = LAYERS[name]()(y)
    return trained(Model(x, L.Add()(x, y)))


@given(
    st.lists(st.sampled_from(sorted(LAYERS)), min_size=1, max_size=6),
    st.tuples(st.integers(1, 4), *[st.integers(2, 5)] * 1),
    st.integers(0, 3),
    st.sampled_from([np.float32, np.float64]),
)
def test_frozen_it_computes_the_same(names, sizes, batch, dtype):
    frames, pixels = sizes
    model = chain(names, (frames, pixels, pixels, 3)).astype(dtype)
    frozen = fastconv.freeze(model)
    if batch or "turned" not in names:
        assert_equal_models(frozen, model, batch=batch)
    assert "twice" in names or "layer" not in kinds(frozen.program)


@pytest.mark.parametrize("frames", [1, 2, 7])
def test_another_number_of_entries_may_come(frames):
    model = chain(["conv", "relu", "conv"], (4, 5, 5, 3))
    frozen = fastconv.freeze(model)
    for batch in (0, 1, 3):
        x = np.random.default_rng(0).standard_normal((batch, frames, 5, 5, 3)).astype(np.float32)
        if batch or frames == 4:
            np.testing.assert_allclose(frozen(x), model(x), rtol=0, atol=1e-5)


def test_an_activation_that_is_spelled_out_stays_together():
    x = Input((4, 6, 6, 3))
    y = L.TimeDistributed(L.Conv2d(3, 3, padding=1))(x)
    y = L.Multiply()(y, L.ScaleShift(0.5, 0.5)(L.Erf()(L.ScaleShift(2**-0.5, 0.0)(y))))
    model = trained(Model(x, L.TimeDistributed(L.Conv2d(3, 1))(y)))
    frozen = fastconv.freeze(model)
    assert kinds(frozen.program) == ["together", "conv", "conv", "apart"]
    assert_equal_models(frozen, model)


def test_what_is_together_stays_together():
    x = Input((4, 6, 6, 3))
    y = L.TimeDistributed(L.BatchNorm())(L.TimeDistributed(L.Conv2d(3, 3, padding=1))(x))
    y = L.ReLU()(L.Add()(y, L.TimeDistributed(L.Conv2d(3, 3, padding=3, dilation=3))(x)))
    frozen = fastconv.freeze(trained(Model(x, L.TimeDistributed(L.MaxPool2d(2))(y))))
    assert kinds(frozen.program) == ["together", "conv", "together", "conv", "pool", "apart"]
    image = Input((6, 6, 3))
    z = L.Add()(L.BatchNorm()(L.Conv2d(3, 3, padding=1)(image)), L.Conv2d(3, 3, padding=3, dilation=3)(image))
    alone = fastconv.freeze(trained(Model(image, L.MaxPool2d(2)(L.ReLU()(z)))))
    xs = np.random.default_rng(0).standard_normal((2, 4, 6, 6, 3)).astype(np.float32)
    np.testing.assert_array_equal(frozen(xs).reshape(8, 3, 3, 3), alone(xs.reshape(8, 6, 6, 3)))


def test_what_meets_the_axis_of_entries_takes_them_apart():
    x = Input((4, 6, 6, 3))
    y = L.TimeDistributed(L.Conv2d(3, 3, padding=1))(x)
    model = trained(Model(x, L.TimeDistributed(L.Conv2d(2, 1))(L.Transpose((2, 1, 3, 4))(y))))
    frozen = fastconv.freeze(model)
    assert kinds(frozen.program) == ["together", "conv", "apart", "transpose", "together", "conv", "apart"]
    assert_equal_models(frozen, model)


def test_the_pass_alone():
    x = Input((2, 3, 3, 1))
    y = L.TimeDistributed(L.Conv2d(1, 1))(L.Sigmoid()(L.TimeDistributed(L.Conv2d(1, 1))(x)))
    before = lower(trained(Model(x, y)))
    after = drop_dead(keep_together(before))
    assert kinds(before) == ["together", "conv", "apart", "activate", "together", "conv", "apart"]
    assert kinds(after) == ["together", "conv", "activate", "conv", "apart"]
    assert after.shapes((5, 2, 3, 3, 1))[after.outputs[0]] == (5, 2, 3, 3, 1)


def test_integers_for_every_entry_run_as_they_are():
    x = Input((2, 3))
    model = Model(x, L.TimeDistributed(L.Cast("int64"))(x)).build()
    frozen = fastconv.freeze(model)
    xs = np.random.default_rng(0).integers(0, 9, (2, 2, 3))
    assert frozen(xs).dtype == np.int64
    np.testing.assert_array_equal(frozen(xs), xs)


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match="cannot be parted into 2 samples"):
        Apart(1).output_shape((3, 4), batch=2)
    with pytest.raises(ValueError, match=r"x must have shape \(N, T, ...\)"):
        Together().output_shape((3,))


def test_large_batches_and_bands_meet_entries(monkeypatch):
    from fastconv.frozen import bands

    monkeypatch.setattr(bands, "SMALL", 1)
    monkeypatch.setattr(bands, "BAND", 4096)
    x = Input((3, 16, 16, 4))
    y = L.TimeDistributed(L.MaxPool2d(2))(L.TimeDistributed(L.Conv2d(16, 3, padding=1))(x))
    model = trained(Model(x, y))
    frozen = fastconv.freeze(model)
    assert "pooled in" in str(frozen.explain(batch=2, repeats=1))
    assert_equal_models(frozen, model, batch=2)
