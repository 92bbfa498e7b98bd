"""Activations, normalization and losses against PyTorch: values and gradients."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv import functional

torch = pytest.importorskip("torch")
F = torch.nn.functional

ACTIVATIONS = [
    ("relu", {}, F.relu),
    ("relu6", {}, F.relu6),
    ("leaky_relu", {"slope": 0.3}, lambda x: F.leaky_relu(x, 0.3)),
    ("elu", {"alpha": 0.7}, lambda x: F.elu(x, 0.7)),
    ("selu", {}, F.selu),
    ("gelu", {}, F.gelu),
    ("gelu", {"approximate": True}, lambda x: F.gelu(x, approximate="tanh")),
    ("silu", {}, F.silu),
    ("hard_swish", {}, F.hardswish),
    ("hard_sigmoid", {}, F.hardsigmoid),
    ("sigmoid", {}, torch.sigmoid),
    ("tanh", {}, torch.tanh),
    ("softplus", {}, lambda x: F.softplus(x, threshold=1000)),
    ("softmax", {}, lambda x: F.softmax(x, -1)),
    ("log_softmax", {}, lambda x: F.log_softmax(x, -1)),
]


def wanted(x):
    """Return the tensor, and gradients wanted."""
    return torch.from_numpy(x.copy()).requires_grad_()


def assert_close(got, want, dtype=np.float64):
    for one, other in zip(got, want, strict=True):
        tolerance = 64 * np.finfo(dtype).eps
        np.testing.assert_allclose(
            one, other.detach().numpy(), rtol=tolerance, atol=tolerance * np.abs(one).max(initial=1)
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "keywords", "theirs"), ACTIVATIONS)
def test_activation(isa, name, keywords, theirs, dtype):
    rng = np.random.default_rng(0)
    x, dy = (4 * rng.standard_normal((37, 41))).astype(dtype), rng.standard_normal((37, 41)).astype(dtype)
    y = getattr(functional, name)(x, **keywords)
    dx = getattr(functional, f"{name}_backward")(dy, y if "softmax" in name else x, **keywords)
    tensor = wanted(x)
    result = theirs(tensor)
    result.backward(torch.from_numpy(dy))
    # PyTorch's gradient of hardsigmoid divides by 6 in single precision
    assert_close((y, dx), (result, tensor.grad), np.float32 if name == "hard_sigmoid" else dtype)


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm(training):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((4, 5, 6, 7)) + 3, rng.standard_normal((4, 5, 6, 7))
    scale, bias = rng.standard_normal(7), rng.standard_normal(7)
    statistics = {} if training else {"mean": rng.standard_normal(7), "var": rng.random(7) + 0.5}
    y, mean, var = functional.batch_norm(x, scale, bias, **statistics)
    gradients = functional.batch_norm_backward(dy, x, scale, mean, var, batch_statistics=training)
    tensors = [wanted(array) for array in (x, scale, bias)]
    running = [None, None] if training else [torch.from_numpy(array) for array in statistics.values()]
    result = F.batch_norm(tensors[0].movedim(-1, 1), *running, *tensors[1:], training=training).movedim(1, -1)
    result.backward(torch.from_numpy(dy))
    assert_close((y, *gradients), (result, *(tensor.grad for tensor in tensors)))


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_group_norm(groups):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((3, 4, 5, 6)), rng.standard_normal((3, 4, 5, 6))
    scale, bias = rng.standard_normal(6), rng.standard_normal(6)
    y, mean, var = functional.group_norm_with_statistics(x, groups, scale, bias)
    got = (y, *functional.group_norm_with_statistics_backward(dy, x, groups, scale, mean, var))
    tensors = [wanted(array) for array in (x, scale, bias)]
    result = F.group_norm(tensors[0].movedim(-1, 1), groups, *tensors[1:]).movedim(1, -1)
    result.backward(torch.from_numpy(dy))
    assert_close(got, (result, *(tensor.grad for tensor in tensors)))


def test_layer_norm():
    rng = np.random.default_rng(0)
    x, dy, scale, bias = (
        rng.standard_normal((4, 19)),
        rng.standard_normal((4, 19)),
        rng.standard_normal(19),
        rng.standard_normal(19),
    )
    got = (functional.layer_norm(x, scale, bias), *functional.layer_norm_backward(dy, x, scale))
    tensors = [wanted(array) for array in (x, scale, bias)]
    result = F.layer_norm(tensors[0], (19,), *tensors[1:])
    result.backward(torch.from_numpy(dy))
    assert_close(got, (result, *(tensor.grad for tensor in tensors)))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("probabilities", [False, True])
def test_cross_entropy(probabilities, smoothing):
    rng = np.random.default_rng(0)
    logits = 3 * rng.standard_normal((30, 11))
    labels = rng.dirichlet(np.ones(11), 30) if probabilities else rng.integers(0, 11, 30)
    tensor = wanted(logits)
    loss = F.cross_entropy(tensor, torch.from_numpy(labels), label_smoothing=smoothing)
    loss.backward()
    got = (
        functional.cross_entropy(logits, labels, label_smoothing=smoothing),
        functional.cross_entropy_backward(logits, labels, label_smoothing=smoothing),
    )
    assert_close(got, (loss, tensor.grad))
