"""Text recognizers and the like: convolutions, then recurrent layers, as PyTorch writes them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
onnx = pytest.importorskip("onnx", reason="the onnx package is not installed")
ort = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")

import fastconv  # noqa: E402
from fastconv.onnx import from_torch, load, save  # noqa: E402


class Recognizer(torch.nn.Module):
    """Images of a line of text to letters at each place, as in Shi et al., An end-to-end trainable neural network, 2015."""

    def __init__(self, kind: str, *, rows: bool) -> None:
        super().__init__()
        self.convs = torch.nn.Sequential(
            torch.nn.Conv2d(1, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Conv2d(8, 12, (4, 3)),
            torch.nn.ReLU(),
        )  # fmt: skip
        cell = getattr(torch.nn, kind)
        self.cell = cell(12 * 5, 10, num_layers=2, bidirectional=True, batch_first=rows)
        self.head = torch.nn.Linear(20, 7)
        self.rows = rows

    def forward(self, x: Any) -> Any:
        y = self.convs(x).flatten(1, 2)  # (N, C * H, W)
        y, _ = self.cell(y.permute(0, 2, 1) if self.rows else y.permute(2, 0, 1))
        return self.head(y)


@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_recognizers_of_pytorch(kind: str, rows: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, x = Recognizer(kind, rows=rows).eval(), torch.randn(2, 1, 16, 40)
    file = io.BytesIO()
    axes = {"x": {0: "N", 3: "W"}, "y": {1 - rows: "N", 0 + rows: "T"}}
    names = {"input_names": ["x"], "output_names": ["y"], "dynamic_axes": axes}
    with pytest.warns(match=""):
        torch.onnx.export(module, x, file, dynamo=False, opset_version=17, **names)
    model = load(file.getvalue())
    frozen = fastconv.freeze(model)
    save(model, tmp_path / "again.onnx")
    session = ort.InferenceSession(tmp_path / "again.onnx", providers=["CPUExecutionProvider"])
    for n, width in ((2, 40), (1, 40), (3, 64)):
        image = torch.randn(n, 1, 16, width)
        want = module(image).detach().numpy()
        for got in (model(image.numpy()), frozen(image.numpy()), session.run(None, {"x": image.numpy()})[0]):
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_from_torch_trains(tmp_path: Path) -> None:
    module = torch.nn.GRU(6, 5, batch_first=True)
    x = np.random.default_rng(0).standard_normal((3, 8, 6)).astype(np.float32)
    model = from_torch(module, x)
    want = module(torch.tensor(x))
    got = model(x)
    np.testing.assert_allclose(got[0], want[0].detach().numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got[1], want[1].detach().numpy(), rtol=1e-5, atol=1e-6)
    y, backward = model.forward(model.context(training=True), x)
    _, gradients = backward((np.ones_like(y[0]), None))
    assert set(gradients) == set(model.params)
    assert all(np.abs(gradient).max() > 0 for gradient in gradients.values())


class Packed(torch.nn.Module):
    """The last states of sequences of several lengths, and all outputs."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.cell = getattr(torch.nn, kind)(3, 5, bidirectional=True)

    def forward(self, x: Any, lengths: Any) -> Any:
        y, end = self.cell(torch.nn.utils.rnn.pack_padded_sequence(x, lengths))
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, total_length=x.shape[0])
        return (y, *end) if isinstance(end, tuple) else (y, end)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_sequences_of_several_lengths(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, file = Packed(kind).eval(), io.BytesIO()
    axes = {"x": {0: "T", 1: "N"}, "lengths": {0: "N"}}
    example = torch.randn(6, 4, 3), torch.tensor([6, 4, 2, 1])
    names = {"input_names": list(axes), "dynamic_axes": axes}
    torch.onnx.export(module, example, file, dynamo=False, opset_version=17, **names)
    model = load(file.getvalue())
    frozen = fastconv.freeze(model)
    save(model, tmp_path / "again.onnx")
    session = ort.InferenceSession(tmp_path / "again.onnx", providers=["CPUExecutionProvider"])
    for x, lengths in (example, (torch.randn(9, 2, 3), torch.tensor([9, 3]))):
        want = [each.detach().numpy() for each in module(x, lengths)]
        xs = x.numpy(), lengths.numpy()
        feed = dict(zip([each.name for each in session.get_inputs()], xs, strict=True))
        for made in (model(*xs), frozen(*xs), session.run(None, feed)):
            for y, wanted in zip(made, want, strict=True):
                np.testing.assert_allclose(y, wanted, rtol=1e-4, atol=1e-5)
