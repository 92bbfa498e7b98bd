"""`fastconv.from_torch`: PyTorch's modules as models with the same outputs, that train on; the modules stay as they were."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastconv
from fastconv import layers as L
from fastconv.layers.tree import walk
from fastconv.onnx import OnnxExportError, OnnxImportError, pytorch

torch = pytest.importorskip("torch")
pytest.importorskip("onnx", reason="the onnx package is not installed")
nn = torch.nn
functional = nn.functional


class Calls(nn.Module):
    """A module whose forward is a function of it and its inputs; the modules inside are its attributes."""

    def __init__(self, function: Callable[..., Any], **inner: Any) -> None:
        super().__init__()
        for name, module in inner.items():
            setattr(self, name, module)
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(self, x)


class Two(nn.Module):
    """An image and a vector, whose outputs are a map and a row of scores."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.fc = nn.Linear(4 + 5, 3)

    def forward(self, image: Any, facts: Any) -> Any:
        y = torch.relu(self.conv(image))
        return y, self.fc(torch.cat([y.mean((2, 3)), facts], 1))


def residual(module: Any, x: Any) -> Any:
    y = module.first(x)
    return torch.relu(y + module.second(y))


def gated(module: Any, x: Any) -> Any:
    y = module.conv(x)
    return y * torch.sigmoid(module.up(torch.relu(module.down(functional.adaptive_avg_pool2d(y, 1)))))


def dense(module: Any, x: Any) -> Any:
    for conv in (module.a, module.b):
        x = torch.cat([x, functional.leaky_relu(conv(x), 0.2)], 1)
    return x


def unet(module: Any, x: Any) -> Any:
    y = functional.gelu(module.down(x))
    y = functional.interpolate(y, scale_factor=2, mode="bilinear", align_corners=False)
    return module.out(torch.cat([x, y], 1))


def attended(module: Any, x: Any) -> Any:
    rows = module.conv(x).flatten(2).transpose(1, 2)  # (N, pixels, channels)
    weights = torch.softmax(rows @ rows.transpose(1, 2) / 3, -1)
    return module.norm(weights @ rows).mean(1)


def classifier(*layers: Any) -> Any:
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(5))


MODULES: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "convolution, norm, dropout": (
        lambda: classifier(nn.Conv2d(3, 8, 3, 2, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.3)),
        (3, 12, 12),
    ),
    "flattened": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.Tanh(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(150, 7), nn.Softmax(1)
        ),
        (3, 12, 12),
    ),
    "viewed": (
        lambda: Calls(lambda m, x: m.fc(m.conv(x).view(x.shape[0], -1)), conv=nn.Conv2d(3, 2, 3), fc=nn.Linear(200, 4)),
        (3, 12, 12),
    ),
    "depthwise and grouped": (
        lambda: classifier(
            nn.Conv2d(4, 8, 3, groups=4, padding=1), nn.SiLU(), nn.Conv2d(8, 8, 3, groups=8), nn.ReLU6()
        ),
        (4, 10, 9),
    ),
    "dilated": (lambda: classifier(nn.Conv2d(3, 8, 3, dilation=2, padding="same"), nn.PReLU(8)), (3, 11, 10)),
    "transposed": (
        lambda: nn.Sequential(nn.ConvTranspose2d(3, 5, 3, 2, 1, 1), nn.ELU(), nn.Conv2d(5, 2, 1)),
        (3, 7, 6),
    ),
    "norms": (
        lambda: classifier(
            nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.Mish(), nn.InstanceNorm2d(8, affine=True), nn.Softplus()
        ),
        (3, 9, 9),
    ),
    "hard": (lambda: classifier(nn.Conv2d(3, 8, 3), nn.Hardswish(), nn.Conv2d(8, 8, 1), nn.Hardsigmoid()), (3, 9, 9)),
    "pools": (
        lambda: nn.Sequential(
            nn.AvgPool2d(3, 2, 1),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.Conv2d(3, 2, 1),
            nn.AdaptiveMaxPool2d(1),
        ),
        (3, 15, 14),
    ),
    "padded": (
        lambda: nn.Sequential(nn.ReflectionPad2d(2), nn.Conv2d(3, 4, 3), nn.ReplicationPad2d(1), nn.Conv2d(4, 2, 3)),
        (3, 8, 8),
    ),
    "shuffled": (lambda: nn.Sequential(nn.Conv2d(3, 12, 3), nn.PixelShuffle(2), nn.Conv2d(3, 2, 1)), (3, 8, 8)),
    "line": (
        lambda: nn.Sequential(
            nn.Conv1d(3, 8, 5, 2), nn.BatchNorm1d(8), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten()
        ),
        (3, 21),
    ),
    "volume": (
        lambda: nn.Sequential(
            nn.Conv3d(2, 4, 3),
            nn.BatchNorm3d(4),
            nn.ReLU(),
            nn.MaxPool3d(2),
            nn.Flatten(),
            nn.Linear(32, 3),
        ),
        (2, 6, 6, 6),
    ),
    "residual": (
        lambda: Calls(
            residual,
            first=nn.Conv2d(3, 8, 3),
            second=nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)),
        ),
        (3, 9, 9),
    ),
    "squeeze and excitation": (
        lambda: Calls(gated, conv=nn.Conv2d(3, 8, 3), down=nn.Conv2d(8, 2, 1), up=nn.Conv2d(2, 8, 1)),
        (3, 9, 9),
    ),
    "dense": (lambda: Calls(dense, a=nn.Conv2d(3, 4, 3, padding=1), b=nn.Conv2d(7, 4, 3, padding=1)), (3, 9, 9)),
    "u": (lambda: Calls(unet, down=nn.Conv2d(3, 6, 3, 2, 1), out=nn.Conv2d(9, 2, 3, padding=1)), (3, 8, 8)),
    "attention": (lambda: Calls(attended, conv=nn.Conv2d(3, 6, 3), norm=nn.LayerNorm(6)), (3, 6, 6)),
    "regrouped": (lambda: nn.Sequential(nn.Conv2d(3, 6, 3), nn.ChannelShuffle(3), nn.Conv2d(6, 2, 1)), (3, 8, 8)),
    "adaptive": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 6, 3),
            nn.AdaptiveMaxPool2d((7, 4)),
            nn.Sigmoid(),
            nn.AdaptiveAvgPool2d(3),
            nn.Flatten(),
            nn.Linear(54, 2),
        ),
        (3, 13, 12),
    ),
    "rare norms": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 6, 3),
            nn.LocalResponseNorm(3),
            nn.LocalResponseNorm(4, alpha=0.5, beta=0.6, k=2.0),
            nn.InstanceNorm2d(6, affine=True, track_running_stats=True),
            nn.Threshold(0.1, 2),
        ),
        (3, 9, 9),
    ),
    "running sums": (lambda: Calls(lambda m, x: m.conv(x).cumsum(3), conv=nn.Conv2d(3, 6, 3)), (3, 9, 9)),
    "powers": (lambda: nn.Sequential(nn.Conv2d(3, 6, 3), nn.LPPool2d(2, 2), nn.Hardshrink(0.2)), (3, 9, 9)),
    "windows": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.Unfold(3, 1, 1, 2), nn.Fold((9, 8), 3, padding=1, stride=2)),
        (3, 9, 8),
    ),
    "vectors": (lambda: nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3)), (6,)),
}


def test_a_bilinear_form_of_two_inputs() -> None:
    torch.manual_seed(0)
    module, x, z = nn.Bilinear(4, 5, 3), torch.randn(3, 4), torch.randn(3, 5)
    model = fastconv.from_torch(module, (x[:1], z[:1]))
    with torch.no_grad():
        np.testing.assert_allclose(model(x.numpy(), z.numpy()), module(x, z).numpy(), atol=1e-5)
    assert sum(array.size for array in model.params.values()) == 63


def made(name: str) -> tuple[Any, Any]:
    """Return a module whose statistics have moved, and inputs for it in a batch of 3."""
    torch.manual_seed(0)
    build, shape = MODULES[name]
    module, x = build(), torch.randn(3, *shape)
    with torch.no_grad():
        module.train()(x + 0.3)
    return module.eval(), x


@pytest.mark.parametrize("padding", [None, 2])
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags_of_vectors(mode: str, padding: int | None) -> None:
    torch.manual_seed(0)
    module = nn.EmbeddingBag(7, 4, mode=mode, padding_idx=padding)
    places = torch.tensor([[2, 2, 2], [1, 2, 6], [0, 4, 4], [5, 5, 2]])
    model = fastconv.from_torch(module, places[:1])
    with torch.no_grad():
        expected = module(places).numpy()
    np.testing.assert_allclose(model(places.numpy()), expected, rtol=1e-6)
    assert [array.shape for array in model.params.values()] == [(7, 4)]


@pytest.mark.parametrize("name", MODULES)
def test_the_outputs_are_the_modules_in_any_batch(name: str) -> None:
    module, x = made(name)
    model = fastconv.from_torch(module, x[:1])
    assert type(model) is fastconv.Model
    with torch.no_grad():
        expected = module(x).numpy()
    for run in (model, fastconv.freeze(model)):
        y = run(x.numpy())
        assert y.shape == expected.shape
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-4 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("name", MODULES)
def test_the_models_train_on_and_the_modules_do_not(name: str) -> None:
    module, x = made(name)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    model = fastconv.from_torch(module, x)
    arrays = [*model.params.values(), *model.buffers.values()]
    assert sum(array.size for array in model.params.values()) == sum(weight.numel() for weight in module.parameters())
    assert not any(np.shares_memory(a, b) for at, a in enumerate(arrays) for b in arrays[:at])
    target = np.random.default_rng(0).standard_normal(model(x.numpy()).shape).astype(np.float32)
    history = model.fit(x.numpy(), target, loss="mse", optimizer=fastconv.Adam(3e-3), epochs=15, verbose=False)
    assert history["loss"][-1] < history["loss"][0]
    for key, value in module.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_one_step_is_that_of_pytorch() -> None:
    module, x = made("residual")
    model = fastconv.from_torch(module, x)
    target = torch.randn(module(x).shape)
    functional.mse_loss(module.train()(x), target).backward()
    _, gradients = model.value_and_grad("mse", x.numpy(), target.numpy())
    (name,) = (name for name in gradients if name.endswith("second.2.Conv/weight"))
    weight = module.second[2].weight.grad.permute(2, 3, 1, 0).numpy()
    np.testing.assert_allclose(gradients[name], weight, rtol=1e-3, atol=1e-5)


def test_layers_for_training_are_kept_whatever_the_mode() -> None:
    module, x = made("convolution, norm, dropout")
    for mode in (True, False):
        model = fastconv.from_torch(module.train(mode), x)
        kinds = [type(layer) for layer in model.layers]
        assert L.BatchNorm in kinds and L.Dropout in kinds
        (dropout,) = (layer for _, layer in walk(model) if isinstance(layer, L.Dropout))
        assert dropout.rate == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("make", "kind", "shape"),
    [
        (nn.Dropout1d, L.SpatialDropout, (4, 9)),
        (nn.Dropout2d, L.SpatialDropout, (4, 6, 6)),
        (nn.Dropout3d, L.SpatialDropout, (4, 3, 3, 3)),
        (nn.AlphaDropout, L.AlphaDropout, (4, 6, 6)),
    ],
)
def test_every_kind_of_dropout_is_a_layer(make: Any, kind: Any, shape: tuple[int, ...]) -> None:
    module, x = nn.Sequential(nn.Tanh(), make(0.3)), torch.randn(2, *shape)
    model = fastconv.from_torch(module, x)
    (dropout,) = (layer for _, layer in walk(model) if isinstance(layer, kind))
    assert dropout.rate == pytest.approx(0.3)
    np.testing.assert_allclose(model(x.numpy()), torch.tanh(x).numpy(), atol=1e-6)
    assert "forward" not in vars(module) and "forward" not in vars(module[1])


@pytest.mark.filterwarnings("ignore::UserWarning")  # PyTorch's own, of its fast path
@pytest.mark.parametrize("layers", [1, 2])
def test_transformers_in_any_batch(layers: int) -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    module = (nn.TransformerEncoder(layer, layers) if layers > 1 else layer).eval()
    fast = torch.backends.mha.get_fastpath_enabled()
    model = fastconv.from_torch(module, torch.randn(1, 6, 8))
    assert torch.backends.mha.get_fastpath_enabled() == fast
    for count in (1, 4):
        x = torch.randn(count, 6, 8)
        with torch.no_grad():
            np.testing.assert_allclose(model(x.numpy()), module(x).numpy(), atol=1e-5)


def test_a_transformer_that_decodes() -> None:
    torch.manual_seed(0)
    module = nn.TransformerDecoderLayer(8, 2, 16, batch_first=True).eval()
    x, memory = torch.randn(2, 5, 8), torch.randn(2, 6, 8)
    model = fastconv.from_torch(module, (x, memory))
    with torch.no_grad():
        np.testing.assert_allclose(model(x.numpy(), memory.numpy()), module(x, memory).numpy(), atol=1e-5)


def test_the_module_and_the_generator_stay_as_they_were() -> None:
    module, x = made("convolution, norm, dropout")
    module.train()
    module[1].eval()  # as one who trains on with fixed statistics does
    module(x).sum().backward()
    gradients = [weight.grad.clone() for weight in module.parameters()]
    modes = [inner.training for inner in module.modules()]
    x = x.requires_grad_()
    state = torch.get_rng_state()
    fastconv.from_torch(module, x)
    assert torch.equal(torch.get_rng_state(), state)
    assert [inner.training for inner in module.modules()] == modes
    assert x.grad is None and torch.is_grad_enabled()
    for weight, gradient in zip(module.parameters(), gradients, strict=True):
        assert weight.requires_grad and torch.equal(weight.grad, gradient)


def test_several_inputs_and_outputs_have_the_names_of_forward() -> None:
    module = Two().eval()
    image, facts = torch.randn(2, 3, 8, 8), np.random.default_rng(0).standard_normal((2, 5))  # float64
    model = fastconv.from_torch(module, (image, facts))
    assert (model.input_names, model.output_names) == (["image", "facts"], ["output_1", "output_2"])
    expected = module(image, torch.from_numpy(facts).float())
    for y, wanted in zip(model(image.numpy(), facts.astype(np.float32)), expected, strict=True):
        np.testing.assert_allclose(y, wanted.detach().numpy(), atol=1e-5)
    named = fastconv.from_torch(module, (image, facts), input_names=["a", "b"], output_names=["map", "scores"])
    assert (named.input_names, named.output_names) == (["a", "b"], ["map", "scores"])


def test_samples_that_are_compared_are_as_many_as_in_the_example() -> None:
    class Distances(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map = nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.map(x)
            return torch.cdist(y, y + 1)

    module, x = Distances(), torch.randn(5, 4)
    model = fastconv.from_torch(module, x)
    np.testing.assert_allclose(model(x.numpy()), module(x).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_a_weight_may_be_called_as_an_input() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.x = nn.Parameter(torch.tensor([2.0, 3.0]))

        def forward(self, x: Any) -> Any:
            return x * self.x

    model = fastconv.from_torch(Scaled(), torch.ones(1, 2))
    assert model.input_names == ["input"]
    np.testing.assert_array_equal(model(np.ones((1, 2), np.float32)), [[2, 3]])


def test_float64_stays() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2)).double()
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 4)).astype(np.float32)
    model = fastconv.from_torch(module, x)
    assert model.dtype == np.float64
    wanted = module(torch.from_numpy(x).double()).detach().numpy()
    np.testing.assert_allclose(model(x.astype(np.float64)), wanted, atol=1e-12)


def test_what_is_no_module_or_no_example() -> None:
    module = nn.Linear(3, 2)
    with pytest.raises(TypeError, match=r"module must be a torch\.nn\.Module, got <built-in"):
        fastconv.from_torch(torch.relu, torch.ones(1, 3))
    with pytest.raises(TypeError, match=r"example_input\[1\] must be a tensor or an array, got dict"):
        fastconv.from_torch(module, (torch.ones(1, 3), {}))
    with pytest.raises(ValueError, match="example_input has no inputs"):
        fastconv.from_torch(module, ())
    with pytest.raises(RuntimeError, match="mat1 and mat2"):  # PyTorch's own, from the module
        fastconv.from_torch(module, torch.ones(1, 4))
    with pytest.raises(ValueError, match=r"input_names must be 1 different names, got \['a', 'b'\]"):
        fastconv.from_torch(module, torch.ones(1, 3), input_names=["a", "b"])
    with pytest.raises(ValueError, match="output_names must be 1 different names, got 'scores'"):
        fastconv.from_torch(module, torch.ones(1, 3), output_names="scores")
    with pytest.raises(TypeError, match="must return a tensor, or a tuple of tensors, got dict: wrap it"):
        fastconv.from_torch(Calls(lambda m, x: {"y": x}), torch.ones(1, 3))
    with pytest.raises(TypeError, match="got NoneType among them"):
        fastconv.from_torch(Calls(lambda m, x: (x, None)), torch.ones(1, 3))


def test_modules_that_draw_random_numbers_are_refused() -> None:
    module = Calls(lambda m, x: functional.dropout(x, 0.5, training=True))
    with pytest.raises(OnnxExportError, match="do its outputs depend on random numbers"):
        fastconv.from_torch(module, torch.ones(1, 50))


def test_what_follows_from_the_example_is_said() -> None:
    module = Calls(lambda m, x: x if x.sum() > 0 else -x)
    with pytest.warns(torch.jit.TracerWarning, match="Converting a tensor to a Python boolean"):
        model = fastconv.from_torch(module, -torch.ones(1, 2))
    np.testing.assert_array_equal(model(np.ones((1, 2), np.float32)), [[-1, -1]])


def test_operators_that_are_missing_are_listed() -> None:
    with pytest.raises(OnnxImportError, match="operators that are not supported"):
        fastconv.from_torch(Calls(lambda m, x: torch.det(x)), torch.ones(1, 3, 3))
    with pytest.raises(OnnxImportError, match=r"RandomNormalLike.*draws random numbers"):
        fastconv.from_torch(Calls(lambda m, x: x + torch.randn_like(x)), torch.ones(1, 3))


def test_modules_that_nobody_can_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    module = nn.Sequential(nn.Linear(3, 3)).eval()
    module.training = False
    with pytest.raises(
        OnnxExportError, match=r"cannot write the Calls as ONNX: by tracing it: .*: pip install onnxscript"
    ):
        fastconv.from_torch(Calls(lambda m, x: torch.special.i0(x)), torch.ones(1, 3))
    assert not module.training


@pytest.mark.parametrize("name", ["convolution, norm, dropout", "norms", "viewed", "attention"])
def test_the_newer_writer_does_too(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxscript", reason="the onnxscript package is not installed")

    def fails(*given: Any) -> Any:
        raise RuntimeError

    monkeypatch.setattr(pytorch, "_traced", fails)
    module, x = made(name)
    model = fastconv.from_torch(module, x[:2])
    with torch.no_grad():
        expected = module(x).numpy()
    np.testing.assert_allclose(model(x.numpy()), expected, rtol=0, atol=1e-4 * max(1, np.abs(expected).max()))
    if name.endswith("dropout"):
        kinds = {type(layer) for layer in model.layers}
        assert kinds >= {L.BatchNorm, L.Dropout}


@pytest.mark.parametrize(("package", "extra"), [("torch", "torch"), ("onnx", "onnx")])
def test_missing_packages_are_named(package: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"pip install 'fastconv\[{extra}\]'"):
        fastconv.from_torch(None, None)
