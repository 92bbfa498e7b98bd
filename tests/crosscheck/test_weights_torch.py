"""PyTorch's modules and ours with the same weights: the same outputs, and the weights back again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv
from fastconv import layers as L
from fastconv import networks
from fastconv.weights import WeightsError, load_torch_weights

torch = pytest.importorskip("torch")
nn = torch.nn


class Basic(nn.Module):
    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        if stride > 1:
            self.downsample = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Any) -> Any:
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


class ResNet18(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        for number, (channels, width) in enumerate([(64, 64), (64, 128), (128, 256), (256, 512)], start=1):
            blocks = Basic(channels, width, 1 if number == 1 else 2), Basic(width, width, 1)
            setattr(self, f"layer{number}", nn.Sequential(*blocks))
        self.fc = nn.Linear(512, classes)

    def forward(self, x: Any) -> Any:
        x = nn.functional.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        return self.fc(self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean((2, 3)))


def unit(channels: int, out: int, size: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(channels, out, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out), nn.ReLU6())


class Inverted(nn.Module):
    def __init__(self, channels: int, out: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels * expansion
        spread = unit(wide, wide, stride=stride, groups=wide)
        expand = [unit(channels, wide, 1)] if expansion > 1 else []
        self.conv = nn.Sequential(*expand, spread, nn.Conv2d(wide, out, 1, bias=False), nn.BatchNorm2d(out))
        self.adds = stride == 1 and channels == out

    def forward(self, x: Any) -> Any:
        return x + self.conv(x) if self.adds else self.conv(x)


class MobileNetV2(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        features, channels = [unit(3, 32, stride=2)], 32
        table = [
            (1, 16, 1, 1),
            (6, 24, 2, 2),
            (6, 32, 3, 2),
            (6, 64, 4, 2),
            (6, 96, 3, 1),
            (6, 160, 3, 2),
            (6, 320, 1, 1),
        ]
        for expansion, out, blocks, stride in table:
            for number in range(blocks):
                features.append(Inverted(channels, out, stride if number == 0 else 1, expansion))
                channels = out
        self.features = nn.Sequential(*features, unit(320, 1280, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, classes))

    def forward(self, x: Any) -> Any:
        return self.classifier(self.features(x).mean((2, 3)))


class Various(nn.Module):
    """Layouts that no image classifier has: transposed convolutions, groups, an image flattened and one made of a row."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(4, 6, (3, 2), 2, 1, output_padding=1, groups=2)
        self.act = nn.PReLU(6)
        self.narrow = nn.Conv2d(6, 3, 3, groups=3, dilation=2)
        self.norm = nn.GroupNorm(3, 3)
        self.squeeze = nn.Linear(3 * 6 * 5, 10)
        self.bn = nn.BatchNorm1d(10)
        self.spread = nn.Linear(10, 2 * 3 * 4)
        self.last = nn.Conv2d(4, 2, 2)

    def forward(self, x: Any) -> Any:
        x = self.norm(self.narrow(self.act(self.up(x))))
        x = torch.tanh(self.spread(self.bn(self.squeeze(x.flatten(1)))))
        return self.last(x.view(-1, 4, 2, 3))


def various() -> fastconv.Model:
    return fastconv.Sequential(
        [
            L.ConvTranspose2d(6, (3, 2), stride=2, padding=1, output_padding=1, groups=2).named("up"),
            L.PReLU().named("act"),
            L.Conv2d(3, 3, groups=3, dilation=2).named("narrow"),
            L.GroupNorm(3).named("norm"),
            L.Flatten(),
            L.Linear(10).named("squeeze"),
            L.BatchNorm().named("bn"),
            L.Linear(2 * 3 * 4).named("spread"),
            L.Tanh(),
            L.Reshape((2, 3, 4)),
            L.Conv2d(2, 2).named("last"),
        ],
        input_shape=(5, 5, 4),
    )


CASES = [
    (lambda: ResNet18(10), lambda: networks.create("resnet18", (64, 64, 3), 10)),
    (lambda: MobileNetV2(10), lambda: networks.create("mobilenet_v2", (64, 64, 3), 10)),
    (Various, various),
]


def randomized(module: Any) -> Any:
    """Return the module for evaluation, with random numbers everywhere: none stays at 0 or 1, where errors hide."""
    torch.manual_seed(0)
    for name, array in module.state_dict().items():
        if "num_batches" not in name and array.ndim == 1:
            array.uniform_(0.5, 1.5)
    return module.eval()


@pytest.mark.parametrize(("theirs", "ours"), CASES, ids=["resnet18", "mobilenet_v2", "various"])
def test_the_same_outputs_and_the_weights_back(theirs: Any, ours: Any) -> None:
    module, model = randomized(theirs()), ours()
    assert not any(load_torch_weights(model, module.state_dict()))
    x = np.random.default_rng(0).standard_normal((2, *model.input_shapes[0])).astype(np.float32)
    with torch.no_grad():
        want = module(torch.from_numpy(np.moveaxis(x, -1, 1).copy())).numpy()
    want = np.moveaxis(want, 1, -1) if want.ndim == 4 else want
    np.testing.assert_allclose(model(x), want, rtol=0, atol=2e-5 * np.abs(want).max())
    other = theirs()
    other.load_state_dict(fastconv.torch_state_dict(model))
    for name, array in module.state_dict().items():
        assert torch.equal(array, other.state_dict()[name])


def head() -> fastconv.Model:
    return fastconv.Sequential([L.Linear(2).named("fc")], input_shape=(3,))


def test_files_of_torch_save(tmp_path: Path) -> None:
    state = nn.ModuleDict({"fc": nn.Linear(3, 2)}).state_dict()
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    model = head()
    load_torch_weights(model, path)
    np.testing.assert_array_equal(model.params["fc/weight"], state["fc.weight"].numpy().T)
    torch.save({"epoch": 3, "state_dict": state}, path)
    with pytest.raises(
        WeightsError,
        match=r"checkpoint with 'epoch', 'state_dict': pass the state dict in it, as in .*\['state_dict'\]",
    ):
        load_torch_weights(model, path)
    torch.save(torch.zeros(3), path)
    with pytest.raises(WeightsError, match="holds a Tensor, not a state dict"):
        load_torch_weights(model, path)


class Harm:
    def __reduce__(self) -> Any:
        return (print, ("harm was done",))


def test_files_run_no_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"fc.weight": Harm()}, path)
    with pytest.raises(WeightsError, match="cannot be read safely: it is damaged, or holds more than weights"):
        load_torch_weights(head(), path)
    assert "harm" not in capsys.readouterr().out
    path.write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(WeightsError, match="cannot be read safely"):
        load_torch_weights(head(), path)


def test_tensors_of_every_kind() -> None:
    model = head()
    weight = torch.arange(6.0).reshape(2, 3)
    for tensor in (
        weight.requires_grad_(),
        weight.detach().bfloat16(),
        weight.detach().half(),
        weight.detach().double(),
    ):
        load_torch_weights(model, {"fc.weight": tensor, "fc.bias": torch.zeros(2)})
        np.testing.assert_array_equal(model.params["fc/weight"], weight.detach().numpy().T)
    with pytest.raises(WeightsError, match=r"the entry 'fc\.weight' cannot be read as an array"):
        load_torch_weights(model, {"fc.weight": torch.empty(2, 3, device="meta"), "fc.bias": torch.zeros(2)})
    with pytest.raises(TypeError, match=r"got Linear: pass module\.state_dict\(\)"):
        load_torch_weights(model, nn.Linear(3, 2))
