"""The fast convolutions and their gradients against PyTorch, where it is installed (``pip install 'fastconv[torch]'``)."""

from __future__ import annotations

import numpy as np
import pytest
from exact import several, whole
from hypothesis import given, settings
from problems import SEEDS, conv_problems, conv_transpose_problems

from fastconv import functional, geometry

torch = pytest.importorskip("torch", reason="PyTorch is an optional test group")


def to_torch(image):
    """(N, *spatial, C) to (N, C, *spatial), with a gradient to come."""
    return torch.tensor(np.ascontiguousarray(np.moveaxis(image, -1, 1)), requires_grad=True)


def from_torch(image):
    return np.moveaxis(image.detach().numpy(), 1, -1)


def weight_to_torch(weight):
    """(*kernel, A, B) to (B, A, *kernel): both for a convolution's weight and for that of a transposed one."""
    return torch.tensor(np.ascontiguousarray(np.moveaxis(weight, (-1, -2), (0, 1))), requires_grad=True)


def weight_from_torch(weight):
    return np.moveaxis(weight.detach().numpy(), (0, 1), (-1, -2))


def per_axis(problem, name):
    return np.broadcast_to(problem.keywords[name], len(problem.x) - 2).tolist()


def torch_arguments(problem, x, weight, outputs):
    """Return the leaves that PyTorch differentiates: x, weight and bias."""
    return to_torch(x), weight_to_torch(weight), torch.tensor(whole(outputs, x.dtype, 5), requires_grad=True)


def compare(y, gradients, theirs, leaves, dy):
    theirs.backward(torch.tensor(np.moveaxis(dy, -1, 1)))
    tx, tweight, tbias = leaves
    want = (from_torch(theirs), from_torch(tx.grad), weight_from_torch(tweight.grad), tbias.grad.numpy())
    for a, b in zip((y, *gradients), want, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@settings(max_examples=20)
@given(problem=conv_problems(smallest_batch=1), seed=SEEDS)
def test_conv_and_its_gradients(isa, problem, seed):
    x, weight = several([problem.x, problem.weight], np.float64, seed)
    rank, stride, dilation = x.ndim - 2, per_axis(problem, "stride"), per_axis(problem, "dilation")
    leaves = torch_arguments(problem, x, weight, problem.bias)
    y = functional.conv(x, weight, leaves[2].detach().numpy(), **problem.keywords)
    dy = whole(y.shape, np.float64, seed + 1)
    pairs = geometry.padding_pairs(problem.keywords["padding"], x.shape[1:-1], weight.shape[:rank], stride, dilation)
    padded = torch.nn.functional.pad(leaves[0], [side for pair in reversed(pairs) for side in pair])
    conv = getattr(torch.nn.functional, f"conv{rank}d")
    theirs = conv(padded, *leaves[1:], stride=stride, dilation=dilation, groups=problem.keywords["groups"])
    compare(y, functional.conv_backward(dy, x, weight, **problem.keywords), theirs, leaves, dy)


@settings(max_examples=20)
@given(problem=conv_transpose_problems(), seed=SEEDS)
def test_conv_transpose_and_its_gradients(isa, problem, seed):
    x, weight = several([(1 + problem.x[0], *problem.x[1:]), problem.weight], np.float64, seed)
    rank = x.ndim - 2
    stride, dilation, extra = (per_axis(problem, name) for name in ("stride", "dilation", "output_padding"))
    leaves = torch_arguments(problem, x, weight, (weight.shape[-2] * problem.keywords["groups"],))
    y = functional.conv_transpose(x, weight, leaves[2].detach().numpy(), **problem.keywords)
    dy = whole(y.shape, np.float64, seed + 1)
    pairs = geometry.conv_transpose_padding(problem.keywords["padding"], weight.shape[:rank], stride, dilation, extra)
    transpose = getattr(torch.nn.functional, f"conv_transpose{rank}d")
    theirs = transpose(
        *leaves, stride=stride, dilation=dilation, output_padding=extra, groups=problem.keywords["groups"]
    )
    # PyTorch pads both sides alike: here it pads neither, and the border is cut off
    inside = (slice(before, n - after) for n, (before, after) in zip(theirs.shape[2:], pairs, strict=True))
    theirs = theirs[(slice(None), slice(None), *inside)]
    compare(y, functional.conv_transpose_backward(dy, x, weight, **problem.keywords), theirs, leaves, dy)


def test_a_layer_of_a_real_network_in_float32(isa):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 28, 28, 128), np.float32)
    weight = rng.standard_normal((3, 3, 128, 128), np.float32) / np.float32(34)
    y = functional.conv(x, weight, padding=1)
    with torch.no_grad():
        theirs = torch.nn.functional.conv2d(to_torch(x), weight_to_torch(weight), padding=1)
    np.testing.assert_allclose(y, from_torch(theirs), atol=1e-4)


def test_linear_and_its_gradients(isa):
    x, weight, bias, dy = several([(9, 33), (33, 17), (17,), (9, 17)])
    tx, tweight, tbias = (torch.tensor(array, requires_grad=True) for array in (x, weight, bias))
    theirs = tx @ tweight + tbias
    theirs.backward(torch.tensor(dy))
    np.testing.assert_array_equal(functional.linear(x, weight, bias), theirs.detach().numpy())
    for a, b in zip(functional.linear_backward(dy, x, weight), (tx, tweight, tbias), strict=True):
        np.testing.assert_array_equal(a, b.grad.numpy())
