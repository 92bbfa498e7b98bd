"""Tensors of PyTorch as arrays, and arrays as tensors, without a copy either way."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv import functional
from fastconv import layers as L
from fastconv.sequential import Sequential

torch = pytest.importorskip("torch")


def test_tensors_in() -> None:
    x = torch.randn(2, 5, 5, 3, generator=torch.Generator().manual_seed(0))
    model = Sequential([L.Conv2d(4, 3), L.GlobalAvgPool()])
    np.testing.assert_array_equal(model(x), model(x.numpy()))
    assert L.Flatten()(x).ctypes.data == x.data_ptr()
    assert functional.relu(x).shape == (2, 5, 5, 3)
    np.testing.assert_array_equal(model.predict(x), model.predict(x.numpy()))
    # channels first in memory, seen channels last: no copy before the kernels need their own order
    first = torch.randn(2, 3, 5, 5).permute(0, 2, 3, 1)
    np.testing.assert_array_equal(model(first), model(first.contiguous()))


def test_arrays_out() -> None:
    model = Sequential([L.Linear(2)], input_shape=(3,))
    y = model(np.ones((1, 3), np.float32))
    tensor = torch.from_dlpack(y)
    assert tensor.data_ptr() == y.ctypes.data
    weight = torch.from_dlpack(model.params["linear_1/weight"])
    weight.zero_()  # the model's own
    np.testing.assert_array_equal(model(np.ones((1, 3), np.float32)), 0)


def test_tensors_that_cannot_be_read() -> None:
    followed = torch.ones(1, 3, requires_grad=True)
    with pytest.raises(
        TypeError, match=r"the input of layer ReLU cannot be read as an array, a Tensor says: .*detach\(\)"
    ):
        L.ReLU()(followed)
    with pytest.raises(TypeError, match=r"x cannot be read as an array"):
        functional.relu(torch.ones(3, device="meta"))
    with pytest.raises(TypeError, match=r"cannot be read as an array, a Tensor says: .*BFloat16"):
        functional.relu(torch.ones(3, dtype=torch.bfloat16))
