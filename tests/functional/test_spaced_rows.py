"""Products of pixels that are read where they lie, at one distance: around tiles and strips of rows, and in groups."""

from __future__ import annotations

import numpy as np
import pytest
from convolutions import assert_product_exact
from exact import several
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import DTYPES, SEEDS

from fastconv import functional


@settings(max_examples=40)
@given(
    pixels=st.one_of(st.integers(1, 40), st.sampled_from([72, 196, 289])),
    channels=st.sampled_from([1, 3, 8, 16, 24, 100, 288, 300, 512]),
    outputs=st.sampled_from([1, 7, 8, 9, 16, 17, 24, 40, 70]),
    groups=st.sampled_from([1, 1, 2, 3]),
    dtype=DTYPES,
    seed=SEEDS,
)
def test_equals_the_reference(isa, threads, pixels, channels, outputs, groups, dtype, seed):
    x, weight, bias = several(
        [(1, pixels, channels * groups), (1, channels, outputs * groups), (outputs * groups,)], dtype, seed
    )
    assert_product_exact(x, weight, bias, seed, groups=groups)


@pytest.mark.parametrize("channels", [24, 300])
def test_a_pixel_does_not_depend_on_those_beside_it(isa, channels):
    x, weight = several([(1, 50, channels), (1, channels, 24)], np.float32, 0)
    whole = functional.conv(x, weight)
    for first in range(1, 50, 7):
        np.testing.assert_array_equal(functional.conv(x[:, first:].copy(), weight), whole[:, first:])
