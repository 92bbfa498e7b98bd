"""Interpolation by every rule, against the definition, its adjoint, and PyTorch's."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastconv import functional, reference
from fastconv.functional import _spans
from fastconv.functional.interpolate import COORDINATES, MODES, ROUNDING, Line, Rule


@st.composite
def problems(draw):
    rule = Rule(
        draw(st.sampled_from(MODES)),
        draw(st.sampled_from(COORDINATES)),
        draw(st.sampled_from(ROUNDING)),
        draw(st.sampled_from([-0.75, -0.5])),
        draw(st.booleans()),
        draw(st.booleans()),
        0.0,
    )
    shape, lines = [draw(st.integers(1, 2))], [None]
    for _ in range(draw(st.integers(1, 2))):
        n, size = draw(st.integers(2, 6)), draw(st.integers(1, 9))
        scale = draw(st.sampled_from([None, (size + 0.4) / n]))
        shape.append(n)
        lines.append(Line(size, scale, draw(st.sampled_from([(0.0, 1.0), (0.2, 1.3), (-0.1, 0.6)]))))
    return tuple(shape), lines, rule, draw(st.integers(0, 1000))


@given(problems())
def test_it_equals_the_reference_and_is_adjoint_to_its_backward_pass(problem):
    shape, lines, rule, seed = problem
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    y = functional.interpolate(x, lines, rule)
    np.testing.assert_allclose(y, reference.interpolate(x, lines, rule), atol=1e-9)
    dy = rng.standard_normal(y.shape)
    dx = functional.interpolate_backward(dy, shape, lines, rule)
    np.testing.assert_allclose(dx, reference.interpolate_backward(dy, shape, lines, rule), atol=1e-9)
    assert np.vdot(dy, y) == pytest.approx(np.vdot(dx, x), abs=1e-8)


@pytest.mark.parametrize(("mode", "rule"), [("bilinear", Rule("linear")), ("bicubic", Rule("cubic"))])
@pytest.mark.parametrize("size", [(3, 4), (11, 9), (7, 5)])
def test_it_is_what_pytorch_does(mode, rule, size):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).standard_normal((2, 7, 5, 3))
    want = torch.nn.functional.interpolate(torch.from_numpy(x.transpose(0, 3, 1, 2)), size=size, mode=mode)
    y = functional.interpolate(x, [None, Line(size[0]), Line(size[1]), None], rule)
    np.testing.assert_allclose(y, want.numpy().transpose(0, 2, 3, 1), atol=1e-9)


@pytest.mark.parametrize(
    ("lines", "rule", "match"),
    [
        ([Line(3)], Rule("lanczos"), "mode must be one of"),
        ([Line(3)], Rule("linear", "corner"), "coordinates of"),
        ([Line(3), None], Rule(), "lines must be one for each of 1 axes, got 2"),
        ([Line(0)], Rule(), "an axis of 4 cannot be made 0 long"),
        ([Line(3, float("inf"))], Rule(), "cannot be made 3 long with scale inf"),
    ],
)
def test_bad_arguments(lines, rule, match):
    with pytest.raises(ValueError, match=match):
        functional.interpolate(np.zeros(4), lines, rule)
    with pytest.raises(ValueError, match="dy must have shape"):
        functional.interpolate_backward(np.zeros(4), (4,), [Line(3)], Rule())


@pytest.mark.parametrize(
    ("lines", "rule", "match"),
    [
        (None, Rule(), "lines must be a Line or None for each axis, got None"),
        ([8], Rule(), r"lines must be a Line or None for each axis, got \[8\]"),
        ([Line(8.0)], Rule(), "the size of a line must be an integer, got 8.0"),
        ([Line(8, "2")], Rule(), "the scale of a line must be a real number, got '2'"),
        ([Line(8)], "linear", "rule must be a Rule, got 'linear'"),
    ],
)
def test_bad_types(lines, rule, match):
    with pytest.raises(TypeError, match=match):
        functional.interpolate(np.zeros(4), lines, rule)
    with pytest.raises(TypeError, match=match):
        functional.interpolate_backward(np.zeros(8), (4,), lines, rule)
    with pytest.raises(TypeError, match="input_shape must be a tuple of integers, got 4"):
        functional.interpolate_backward(np.zeros(8), 4, [Line(8)], Rule())


@pytest.mark.parametrize("long", [4, 6, 16])
@given(problems())
def test_long_axes_come_part_by_part(long, problem):
    shape, lines, rule, seed = problem
    x = np.random.default_rng(seed).standard_normal((2, 1, *shape, 3))
    wide = [None, None, *lines, None]
    y = functional.interpolate(x, wide, rule)
    dx = functional.interpolate_backward(y, x.shape, wide, rule)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_spans, "LONG", long)
        np.testing.assert_allclose(functional.interpolate(x, wide, rule), y, atol=1e-12)
        np.testing.assert_allclose(functional.interpolate_backward(y, x.shape, wide, rule), dx, atol=1e-12)


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@pytest.mark.parametrize(("size", "scale"), [(100, 2), (101, 3), (37, 5), (64, 1)])
def test_what_repeats_itself_is_found_once(mode, size, scale, monkeypatch):
    x = np.random.default_rng(0).standard_normal((2, size, 3))
    y = functional.upsample(x, scale, mode=mode)
    dx = functional.upsample_backward(y, x.shape, scale, mode=mode)
    monkeypatch.setattr(_spans, "LONG", 17)
    asked: list = []
    module = sys.modules["fastconv.functional.interpolate"]  # the function has the same name
    side = module._side
    monkeypatch.setattr(module, "_side", lambda *arguments: asked.append(arguments) or side(*arguments))
    np.testing.assert_allclose(functional.upsample(x, scale, mode=mode), y, atol=1e-12)
    np.testing.assert_allclose(functional.upsample_backward(y, x.shape, scale, mode=mode), dx, atol=1e-12)
    assert len(set(asked)) <= 10
