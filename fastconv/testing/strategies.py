"""Hypothesis strategies for layers and what they compute on: arrays, shapes, geometries, layers, whole random models.

Everything here shrinks towards the smallest and simplest. Needs hypothesis: ``pip install 'fastconv[test]'``.

>>> from hypothesis import given, settings
>>> from fastconv.testing import strategies
>>> @settings(max_examples=5, deadline=None)
... @given(strategies.arrays(strategies.shapes(rank=2)))
... def test_relu_is_never_negative(x):
...     from fastconv.layers import ReLU
...     assert (ReLU()(x) >= 0).all()
>>> test_relu_is_never_negative()
"""

from __future__ import annotations

from collections.abc import Sequence

try:
    from hypothesis import strategies as st
except ImportError as error:
    raise ImportError(
        "fastconv.testing.strategies needs hypothesis, which is not installed: pip install 'fastconv[test]'"
    ) from error

from fastconv.testing.cases import Case, Entry


@st.composite
def cases(draw: st.DrawFn, entries: Sequence[Entry]) -> Case:
    """Draw an example for the checks of a layer: one of `entries`, shapes, a batch, a mode and a seed."""
    entry = draw(st.sampled_from(entries))
    shapes = draw(st.sampled_from(entry.variants))
    return Case(entry, shapes, draw(st.integers(1, 3)), draw(st.booleans()), draw(st.integers(0, 100)))
