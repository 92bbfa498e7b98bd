"""Opening files for other engines, where that is more than calling them."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fastconv import layers as L
from fastconv.engines import openers
from fastconv.model import Input, Model

onnx = pytest.importorskip("onnx", reason="the onnx package is not installed")
torch = pytest.importorskip("torch", reason="PyTorch is not installed")


@pytest.mark.parametrize("opset", [13, 20])
@pytest.mark.parametrize("channels_last", [False, True])
def test_torch_gets_older_operators_where_it_does_not_know_the_newer(
    opset: int, channels_last: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastconv.onnx import save

    asked = []

    def convert(proto: Any) -> Any:
        asked.append(proto.opset_import[0].version)
        if asked[-1] > openers.TORCH_OPSET:
            raise NotImplementedError("Converter is not implemented")
        return torch.nn.ReLU()

    monkeypatch.setitem(sys.modules, "onnx2torch", SimpleNamespace(convert=convert))
    x = Input((4, 4, 3), name="x")
    save(Model(x, L.ReLU()(x)), tmp_path / "relu.onnx", opset=opset)
    image = np.random.default_rng(0).standard_normal((2, 4, 4, 3)).astype(np.float32)
    threads = torch.get_num_threads()
    try:
        load = openers.open_torch(1, channels_last=channels_last)
    finally:
        torch.set_num_threads(threads)
    (y,) = load(str(tmp_path / "relu.onnx"), {"x": image}, {})()
    np.testing.assert_array_equal(y, np.maximum(image, 0))
    assert asked == ([13] if opset == 13 else [20, openers.TORCH_OPSET])
