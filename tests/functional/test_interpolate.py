"""Interpolation by every rule, against the definition, its adjoint, and PyTorch's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastconv import functional, reference
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
def test_it_equals_the_reference_and_is_adjoint_to_its_way_back(problem):
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
