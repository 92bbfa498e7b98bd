"""Images in another size: every mode, every rule of coordinates, by a scale, to a size, to the size of another image."""

from __future__ import annotations

import numpy as np
import pytest
from frozen_cases import assert_equal_models
from hypothesis import given
from hypothesis import strategies as st

import fastconv
from fastconv import layers as L
from fastconv.frozen.resizing import Resize
from fastconv.functional.interpolate import COORDINATES, MODES, ROUNDING
from fastconv.model import Input, Model


def kinds(frozen):
    return [step.operation.kind for step in frozen.program.steps]


@st.composite
def problems(draw):
    rank = draw(st.integers(1, 3))
    shape = (*draw(st.tuples(*[st.integers(1, 9)] * rank)), draw(st.sampled_from([1, 3, 17, 64, 70])))
    arguments = {
        "mode": draw(st.sampled_from(MODES)),
        "coordinates": draw(st.sampled_from(COORDINATES)),
        "rounding": draw(st.sampled_from(ROUNDING)),
        "exclude_outside": draw(st.booleans()),
        "antialias": draw(st.booleans()),
        "outside": 7.0,
    }
    if draw(st.booleans()):
        arguments["size"] = [draw(st.integers(1, 12)) for _ in range(rank)]
    else:
        arguments["scale"] = [draw(st.sampled_from([1.0, 2.0, 1.7])) for _ in range(rank)]
    if draw(st.booleans()):
        arguments["region"] = [draw(st.sampled_from([(0.0, 1.0), (0.1, 1.2)])) for _ in range(rank)]
    return shape, arguments


@given(problems(), st.sampled_from([np.float32, np.float64]), st.integers(0, 3))
def test_it_computes_what_the_layer_does(isa, threads, problem, dtype, batch):
    shape, arguments = problem
    x = Input(shape)
    model = Model(x, L.Resize(**arguments)(L.ReLU()(x))).build().astype(dtype)
    frozen = fastconv.freeze(model)
    assert set(kinds(frozen)) <= {"activate", "resize"}
    assert_equal_models(frozen, model, batch=batch)


@given(problems(), st.integers(1, 12))
def test_it_is_as_large_as_another_image(problem, n):
    shape, arguments = problem
    arguments = {name: arguments[name] for name in ("mode", "coordinates", "rounding", "exclude_outside", "antialias")}
    x, like = Input(shape), Input((*(n,) * (len(shape) - 1), 2))
    model = Model([x, like], L.ResizeLike(**arguments)(x, like)).build()
    frozen = fastconv.freeze(model)
    assert kinds(frozen) == ["resize"]
    assert_equal_models(frozen, model)


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_whole_factors_are_the_same_operation(mode, tmp_path):
    x = Input((5, 4, 3))
    model = Model(x, L.Upsample((2, 3), mode=mode)(x)).build()
    frozen = fastconv.freeze(model)
    frozen.save(tmp_path / "frozen")
    frozen = fastconv.load_frozen(tmp_path / "frozen")
    assert kinds(frozen) == ["resize"]
    for size in ((5, 4), (1, 9)):
        xs = np.random.default_rng(0).standard_normal((2, *size, 3)).astype(np.float32)
        np.testing.assert_array_equal(frozen(xs), model(xs))


def test_a_size_that_the_image_has_moves_nothing():
    x = Input((5, 4, 3))
    frozen = fastconv.freeze(Model(x, L.ReLU()(L.Resize(size=[5, 4])(L.ReLU()(x)))).build())
    assert "resize" not in [step.operation for step in frozen.explain(repeats=1).steps]


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="scale or size must be given"):
        Resize(("nearest",)).output_shape((1, 2, 2, 3))
    with pytest.raises(ValueError, match="mode must be one of"):
        Resize(("other",), (2.0, 2.0)).output_shape((1, 2, 2, 3))
    with pytest.raises(ValueError, match="scale, size and region must be one for each spatial axis"):
        Resize(("nearest",), (2.0,)).output_shape((1, 2, 2, 3))
