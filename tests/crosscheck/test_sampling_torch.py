"""Looks between pixels are PyTorch's, on the image and far beyond it."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from fastconv.layers import Context, GridSample  # noqa: E402

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 5, 4, 3))
GRID = RNG.uniform(-1.8, 1.8, (2, 6, 7, 2))


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
def test_grid_sample(mode: str, padding: str, align_corners: bool) -> None:
    x, grid = (torch.tensor(array, requires_grad=True) for array in (X.transpose(0, 3, 1, 2), GRID))
    name = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
    want = torch.nn.functional.grid_sample(x, grid, mode=name, padding_mode=padding, align_corners=align_corners)
    y, backward = GridSample(mode=mode, padding=padding, align_corners=align_corners).forward(Context(True), X, GRID)
    np.testing.assert_allclose(y, want.detach().numpy().transpose(0, 2, 3, 1), atol=1e-12)
    dy = RNG.standard_normal(y.shape)
    want.backward(torch.tensor(dy.transpose(0, 3, 1, 2)))
    (dx, dgrid), _ = backward(dy)
    np.testing.assert_allclose(dx, x.grad.numpy().transpose(0, 2, 3, 1), atol=1e-12)
    np.testing.assert_allclose(dgrid, grid.grad.numpy(), atol=1e-11)


@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
def test_what_is_far_away_is_outside(mode: str) -> None:
    grid = np.full((2, 1, 1, 2), 1e30)
    assert not GridSample(mode=mode, padding="zeros")(X, grid).any()
    np.testing.assert_allclose(GridSample(mode=mode, padding="border")(X, grid)[:, 0, 0], X[:, -1, -1])
