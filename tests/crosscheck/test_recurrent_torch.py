"""Recurrent layers compute what PyTorch's do, forward and back, with its weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastconv.layers import GRU, LSTM, RNN, Context
from fastconv.model import Input, Model
from fastconv.weights import load_torch_weights, torch_state_dict

torch = pytest.importorskip("torch", reason="PyTorch is not installed")


def pair(kind: str, *, both: bool) -> tuple[Any, Any]:
    theirs = {
        "rnn": torch.nn.RNN(5, 4, batch_first=True, bidirectional=both),
        "relu": torch.nn.RNN(5, 4, nonlinearity="relu", batch_first=True, bidirectional=both),
        "gru": torch.nn.GRU(5, 4, batch_first=True, bidirectional=both),
        "lstm": torch.nn.LSTM(5, 4, batch_first=True, bidirectional=both),
    }[kind].double()
    direction = "both" if both else "forward"
    ours = {
        "rnn": lambda: RNN(4, direction=direction, states=True),
        "relu": lambda: RNN(4, activation="relu", direction=direction, states=True),
        "gru": lambda: GRU(4, direction=direction, states=True),
        "lstm": lambda: LSTM(4, direction=direction, states=True),
    }[kind]()
    return ours, theirs


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("kind", ["rnn", "relu", "gru", "lstm"])
def test_forward_and_back_are_those_of_pytorch(kind: str, both: bool) -> None:
    torch.manual_seed(0)
    ours, theirs = pair(kind, both=both)
    ways, rng = 1 + both, np.random.default_rng(0)
    x = Input((7, 5))
    starts = [Input((ways, 4)) for _ in range(ours.kinds)]
    model = Model([x, *starts], list(ours.named("cell")(x, *starts))).astype(np.float64)
    weights = {f"cell.{name}": value.detach() for name, value in theirs.state_dict().items()}
    load_torch_weights(model, weights)
    for name, value in torch_state_dict(model).items():
        np.testing.assert_array_equal(value, weights[name])
    arrays = [rng.standard_normal((3, 7, 5)), *[rng.standard_normal((3, ways, 4)) for _ in starts]]
    tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
    first, *states = tensors
    moved = [state.transpose(0, 1).contiguous() for state in states]
    y, ends = theirs(first, tuple(moved) if len(moved) > 1 else moved[0])
    want = [y, *(each.transpose(0, 1) for each in (ends if isinstance(ends, tuple) else (ends,)))]
    got, backward = model.forward(Context(), *arrays)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b.detach().numpy(), rtol=1e-12, atol=1e-12)
    dys = [rng.standard_normal(a.shape) for a in got]
    torch.autograd.backward(want, [torch.tensor(dy) for dy in dys])
    dxs, gradients = backward(tuple(dys))
    for dx, tensor in zip(dxs, tensors, strict=True):
        np.testing.assert_allclose(dx, tensor.grad.numpy(), rtol=1e-10, atol=1e-12)
    named = {
        "weight_ih_l0": "weight",
        "weight_hh_l0": "recurrent",
        "bias_ih_l0": "bias",
        "bias_hh_l0": "recurrent_bias",
    }
    for name, param in theirs.named_parameters():
        short, way = name.removesuffix("_reverse"), "_reverse" if name.endswith("_reverse") else ""
        gradient = gradients[f"cell/{named[short]}{way}"]
        np.testing.assert_allclose(gradient.T, param.grad.numpy(), rtol=1e-10, atol=1e-12)
