"""Pooling against PyTorch: values and gradients."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import SEEDS

from fastconv import functional

torch = pytest.importorskip("torch")


@st.composite
def problems(draw):
    """Draw x and arguments that PyTorch takes too: padding up to half the kernel, the same on both sides."""
    rank = draw(st.integers(1, 3))
    kernel = draw(st.tuples(*[st.integers(1, 4)] * rank))
    keywords = {
        "stride": draw(st.tuples(*[st.integers(1, 3)] * rank)),
        "padding": tuple(draw(st.integers(0, k // 2)) for k in kernel),
        "ceil_mode": draw(st.booleans()),
    }
    size = tuple(draw(st.integers(k, k + 5)) for k in kernel)
    x = np.random.default_rng(draw(SEEDS)).standard_normal((2, *size, draw(st.sampled_from([1, 3, 17]))))
    return x, kernel, keywords


def to_torch(x):
    """Return the tensor with the channels second, and gradients wanted."""
    return torch.from_numpy(np.moveaxis(x, -1, 1).copy()).requires_grad_()


def from_torch(tensor):
    """Return the array with the channels last."""
    return np.moveaxis(tensor.detach().numpy(), 1, -1)


def assert_same(y, dx, dy, x, tensor):
    """Compare values, and gradients for dy."""
    np.testing.assert_allclose(y, from_torch(tensor), rtol=1e-12, atol=1e-12)
    tensor.backward(torch.from_numpy(np.moveaxis(dy, -1, 1).copy()))
    np.testing.assert_allclose(dx, from_torch(x.grad), rtol=1e-12, atol=1e-12)


@given(problem=problems(), data=st.data())
def test_max_pool(problem, data):
    x, kernel, keywords = problem
    dilation = tuple(
        data.draw(st.integers(1, 2)) if 2 * (k - 1) < n else 1 for k, n in zip(kernel, x.shape[1:], strict=False)
    )
    keywords["dilation"] = dilation
    function = getattr(torch.nn.functional, f"max_pool{x.ndim - 2}d")
    tensor = to_torch(x)
    y = functional.max_pool(x, kernel, **keywords)
    dy = np.random.default_rng(0).standard_normal(y.shape)
    dx = functional.max_pool_backward(dy, x, kernel, **keywords)
    assert_same(y, dx, dy, tensor, function(tensor, kernel, **keywords))


@given(problem=problems(), count_include_pad=st.booleans())
def test_avg_pool(problem, count_include_pad):
    x, kernel, keywords = problem
    keywords["count_include_pad"] = count_include_pad
    function = getattr(torch.nn.functional, f"avg_pool{x.ndim - 2}d")
    tensor = to_torch(x)
    y = functional.avg_pool(x, kernel, **keywords)
    dy = np.random.default_rng(0).standard_normal(y.shape)
    dx = functional.avg_pool_backward(dy, x.shape, kernel, **keywords)
    assert_same(y, dx, dy, tensor, function(tensor, kernel, **keywords))


@settings(max_examples=15)
@given(size=st.lists(st.integers(1, 7), min_size=1, max_size=3), data=st.data())
def test_adaptive_pools(size, data):
    output = tuple(data.draw(st.integers(1, 6)) for _ in size)
    x = np.random.default_rng(0).standard_normal((2, *size, 3))
    for kind in ("max", "avg"):
        function = getattr(torch.nn.functional, f"adaptive_{kind}_pool{len(size)}d")
        tensor = to_torch(x)
        y = getattr(functional, f"adaptive_{kind}_pool")(x, output)
        dy = np.random.default_rng(0).standard_normal(y.shape)
        backward = getattr(functional, f"adaptive_{kind}_pool_backward")
        dx = backward(dy, x if kind == "max" else x.shape, output)
        assert_same(y, dx, dy, tensor, function(tensor, output))


@pytest.mark.parametrize(("mode", "rank", "name"), [
    ("nearest", 1, "nearest"),
    ("nearest", 2, "nearest"),
    ("nearest", 3, "nearest"),
    ("bilinear", 1, "linear"),
    ("bilinear", 2, "bilinear"),
    ("bilinear", 3, "trilinear"),
])  # fmt: skip
@pytest.mark.parametrize("scale", [1, 2, 3])
def test_upsample(mode, rank, name, scale):
    x = np.random.default_rng(0).standard_normal((2, *(4, 3, 1)[:rank], 5))
    tensor = to_torch(x)
    y = functional.upsample(x, scale, mode=mode)
    dy = np.random.default_rng(0).standard_normal(y.shape)
    dx = functional.upsample_backward(dy, x.shape, scale, mode=mode)
    align = {} if mode == "nearest" else {"align_corners": False}
    assert_same(y, dx, dy, tensor, torch.nn.functional.interpolate(tensor, scale_factor=scale, mode=name, **align))
