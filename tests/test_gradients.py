"""The helper that checks gradients must itself tell right from wrong."""

from __future__ import annotations

import numpy as np
import pytest
from gradients import assert_gradient, numeric_gradient


def test_gradient_of_a_square():
    x, dy = np.array([1.0, -2.0]), np.array([1.0, 10.0])
    np.testing.assert_allclose(numeric_gradient(np.square, x, dy), [2.0, -40.0], rtol=1e-8)


def test_a_right_gradient_passes():
    x, dy = np.array([1.0, -2.0]), np.array([1.0, 10.0])
    assert_gradient(2 * x * dy, np.square, x, dy)


@pytest.mark.parametrize("wrong", [np.array([2.0, -40.1]), np.array([2.0]), np.array([2.0, -40.0], np.float32), None])
def test_a_wrong_gradient_fails(wrong):
    x, dy = np.array([1.0, -2.0]), np.array([1.0, 10.0])
    with pytest.raises(AssertionError):
        assert_gradient(wrong, np.square, x, dy)
