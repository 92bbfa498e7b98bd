"""Pooling by the p-norm, against the definition and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
from gradients import assert_gradient
from hypothesis import given
from hypothesis import strategies as st
from pools import pools

from fastconv import functional, reference


@given(pools(dilated=True), st.integers(1, 4), st.integers(0, 1000))
def test_it_equals_the_reference(pool, p, seed):
    kernel, arguments = pool.kernel, pool.most
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(pool.shape)
    y = functional.lp_pool(x, kernel, p=p, **arguments)
    np.testing.assert_allclose(y, reference.lp_pool(x, kernel, p=p, **arguments), atol=1e-9)
    dy = rng.standard_normal(y.shape)
    dx = functional.lp_pool_backward(dy, x, kernel, p=p, **arguments)
    np.testing.assert_allclose(dx, reference.lp_pool_backward(dy, x, kernel, p=p, **arguments), atol=1e-9)


@pytest.mark.parametrize("p", [1, 2, 3])
def test_its_gradient_is_that_of_finite_differences(p):
    x = np.random.default_rng(0).uniform(0.5, 2, (1, 5, 4, 2))
    y = functional.lp_pool(x, (3, 2), p=p, stride=2, padding=1)
    dy = np.random.default_rng(1).standard_normal(y.shape)
    dx = functional.lp_pool_backward(dy, x, (3, 2), p=p, stride=2, padding=1)
    assert_gradient(dx, lambda x: functional.lp_pool(x, (3, 2), p=p, stride=2, padding=1), x, dy)


def test_windows_of_zeros_have_no_gradient():
    x = np.zeros((1, 4, 1))
    assert not functional.lp_pool_backward(np.ones((1, 2, 1)), x, 2).any()


def test_bad_arguments():
    with pytest.raises(ValueError, match="p must be at least 1, got 0"):
        functional.lp_pool(np.zeros((1, 4, 1)), 2, p=0)
    with pytest.raises(ValueError, match="dy must have shape"):
        functional.lp_pool_backward(np.ones((1, 3, 1)), np.ones((1, 4, 1)), 2)
    with pytest.raises(TypeError, match="dy must have the dtype of x, float64, got float32"):
        functional.lp_pool_backward(np.ones((1, 2, 1), np.float32), np.ones((1, 4, 1)), 2)
