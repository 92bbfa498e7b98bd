"""Optimizers, losses and schedules against PyTorch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastconv.training import (
    MSE,
    SGD,
    Adam,
    AdamW,
    BinaryCrossEntropy,
    CrossEntropy,
    Huber,
    OneCycle,
    RMSprop,
)

torch = pytest.importorskip("torch")

OPTIMIZERS = [
    (SGD(0.1), torch.optim.SGD, {"lr": 0.1}),
    (
        SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
        torch.optim.SGD,
        {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    ),
    (SGD(0.1, momentum=0.8), torch.optim.SGD, {"lr": 0.1, "momentum": 0.8}),
    (Adam(0.02, weight_decay=0.1), torch.optim.Adam, {"lr": 0.02, "weight_decay": 0.1}),
    (Adam(0.02, betas=(0.8, 0.9), eps=1e-3), torch.optim.Adam, {"lr": 0.02, "betas": (0.8, 0.9), "eps": 1e-3}),
    (AdamW(0.02, weight_decay=0.1), torch.optim.AdamW, {"lr": 0.02, "weight_decay": 0.1}),
    (RMSprop(0.02), torch.optim.RMSprop, {"lr": 0.02}),
    (
        RMSprop(0.02, decay=0.9, momentum=0.7, weight_decay=0.01),
        torch.optim.RMSprop,
        {"lr": 0.02, "alpha": 0.9, "momentum": 0.7, "weight_decay": 0.01},
    ),
]


@pytest.mark.parametrize(("ours", "theirs", "options"), OPTIMIZERS, ids=lambda value: repr(value)[:60])
@pytest.mark.parametrize("clip", [None, 1.0])
def test_optimizers(ours: Any, theirs: Any, options: dict[str, Any], clip: float | None) -> None:
    rng = np.random.default_rng(0)
    ours = type(ours)(
        **{name: getattr(ours, name) for name in ours.__init__.__code__.co_varnames if hasattr(ours, name)}
    )
    ours.clip_norm = clip
    params = {"weight": rng.normal(size=(5, 4)), "bias": rng.normal(size=4)}
    tensors = [torch.nn.Parameter(torch.from_numpy(array.copy())) for array in params.values()]
    reference = theirs(tensors, **options)
    for _ in range(6):
        grads = {name: rng.normal(size=array.shape) for name, array in params.items()}
        for tensor, grad in zip(tensors, grads.values(), strict=True):
            tensor.grad = torch.from_numpy(grad.copy())
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(tensors, clip)
        reference.step()
        ours.step(params, grads)
    # PyTorch divides by the norm plus 1e-6
    for tensor, array in zip(tensors, params.values(), strict=True):
        np.testing.assert_allclose(array, tensor.detach().numpy(), rtol=1e-9 if clip is None else 1e-5)


@pytest.mark.parametrize(
    ("ours", "theirs", "labels"),
    [
        (CrossEntropy(), torch.nn.CrossEntropyLoss(), "integers"),
        (CrossEntropy(label_smoothing=0.2), torch.nn.CrossEntropyLoss(label_smoothing=0.2), "integers"),
        (CrossEntropy(label_smoothing=0.2), torch.nn.CrossEntropyLoss(label_smoothing=0.2), "probabilities"),
        (BinaryCrossEntropy(), torch.nn.BCEWithLogitsLoss(), "probabilities"),
        (MSE(), torch.nn.MSELoss(), "probabilities"),
        (Huber(delta=0.7), torch.nn.HuberLoss(delta=0.7), "probabilities"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_losses(ours: Any, theirs: Any, labels: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 5)) * 4
    y = rng.integers(0, 5, 6) if labels == "integers" else rng.dirichlet(np.ones(5), 6)
    tensor = torch.from_numpy(x.copy()).requires_grad_()
    expected = theirs(tensor, torch.from_numpy(y))
    expected.backward()
    value, backward = ours(x, y)
    assert value == pytest.approx(expected.item(), rel=1e-12)
    np.testing.assert_allclose(backward(), tensor.grad.numpy(), rtol=1e-10, atol=1e-14)


def test_one_cycle() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    # PyTorch ends on the last step, we on the end of the last epoch: a schedule of one step more
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.5, total_steps=41, final_div_factor=1e4 / 25)
    ours = OneCycle(0.5, length=40, rise=11.3 / 40, final_divisor=1e4)
    for step in range(40):
        assert ours(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        schedule.step()
