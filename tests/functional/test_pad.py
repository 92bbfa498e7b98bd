"""Padding in every mode, cropping too, against the definition and its adjoint."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastconv import functional, reference
from fastconv.functional.pad import MODES, padded


@st.composite
def problems(draw):
    mode = draw(st.sampled_from(MODES))
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    padding = []
    for n in shape:
        before = draw(st.integers(-n, 7))
        padding.append((before, draw(st.integers(max(-n, -n - before), 7))))
    return tuple(shape), padding, mode, draw(st.integers(0, 1000))


@given(problems())
def test_it_equals_the_reference_and_is_adjoint_to_its_backward_pass(problem):
    shape, padding, mode, seed = problem
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    y = functional.pad(x, padding, mode=mode, value=1.5)
    np.testing.assert_array_equal(y, reference.pad(x, padding, mode=mode, value=1.5))
    dy = rng.standard_normal(y.shape)
    dx = functional.pad_backward(dy, shape, padding, mode=mode)
    np.testing.assert_allclose(dx, reference.pad_backward(dy, shape, padding, mode=mode), atol=1e-12)
    assert np.vdot(dy, functional.pad(x, padding, mode=mode)) == pytest.approx(np.vdot(dx, x), abs=1e-9)


@pytest.mark.parametrize("values", [[1, 2, 3], [True, False], ["a", "bc"], [None, {}]])
@pytest.mark.parametrize("mode", MODES)
def test_arrays_that_are_not_numbers(mode, values):
    x = np.array(values)
    pads = {"constant": {"constant_values": x[0]}}.get(mode, {})
    np.testing.assert_array_equal(padded(x, ((1, 2),), mode, x[0]), np.pad(x, (1, 2), mode=mode, **pads))


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
def test_it_is_what_numpy_does(mode):
    x = np.arange(12.0).reshape(3, 4)
    padding = [(7, 2), (0, 9)]
    np.testing.assert_array_equal(functional.pad(x, padding, mode=mode), np.pad(x, padding, mode=mode))


@pytest.mark.parametrize(
    ("arguments", "keywords", "error", "match"),
    [
        (
            ([(1, 1)],),
            {"mode": "mirror"},
            ValueError,
            "mode must be one of constant, reflect, edge, wrap, got 'mirror'",
        ),
        (([(1, 1), (1, 1)],), {}, ValueError, "padding must be a pair for each of 1 axes"),
        (([(1.0, 1)],), {}, TypeError, "padding must be an integer"),
        (([(-2, -2)],), {}, ValueError, "an axis of 3 cannot be padded by"),
        (([(2**62, 2**62)],), {}, ValueError, "elements are more than"),
        ((1,), {}, ValueError, "padding must be a pair for each of 1 axes, got 1"),
        ((None,), {}, ValueError, "padding must be a pair for each of 1 axes, got None"),
        (((1,),), {}, ValueError, r"padding must be a pair for each of 1 axes, got \(1,\)"),
        (([(1, 1)],), {"value": "0"}, TypeError, "value must be a real number, got '0'"),
        (([(1, 1)],), {"value": True}, TypeError, "value must be a real number, got True"),
    ],
)
def test_bad_arguments(arguments, keywords, error, match):
    with pytest.raises(error, match=match):
        functional.pad(np.zeros(3), *arguments, **keywords)
    with pytest.raises(ValueError, match="cannot be padded"):
        functional.pad(np.zeros(0), [(1, 0)], mode="edge")
    with pytest.raises(ValueError, match="dy must have shape"):
        functional.pad_backward(np.zeros(3), (3,), [(1, 0)])


@pytest.mark.parametrize(
    ("shape", "error", "match"),
    [
        (3, TypeError, "input_shape must be a tuple of integers, got 3"),
        (None, TypeError, "input_shape must be a tuple of integers, got None"),
        ((3.0,), TypeError, r"input_shape must be a tuple of integers, got 3\.0"),
        ((True,), TypeError, "input_shape must be an integer, got True"),
        ((-3,), ValueError, r"input_shape must not be negative, got \(-3,\)"),
    ],
)
def test_bad_shapes(shape, error, match):
    with pytest.raises(error, match=match):
        functional.pad_backward(np.zeros(4), shape, [(1, 0)])
