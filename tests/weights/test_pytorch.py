"""Weights from PyTorch by name: layouts, orders, files, and errors that change nothing. None of it needs torch."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import fastconv
from fastconv import layers as L
from fastconv import networks
from fastconv.model import Input, Model
from fastconv.sequential import Sequential
from fastconv.weights import Unfit, WeightsError, load_torch_weights, torch_state_dict


def small() -> Model:
    """A network with a layer of every kind that has a name or a layout of its own in PyTorch."""
    return Sequential(
        [
            L.Conv2d(4, (3, 2), groups=2).named("conv"),
            L.BatchNorm().named("bn"),
            L.PReLU().named("act"),
            L.ConvTranspose2d(6, (2, 3), stride=2, groups=2).named("up"),
            L.GroupNorm(2).named("gn"),
            L.DepthwiseConv2d(3, 2).named("dw"),
            L.SeparableConv2d(5, (1, 2)).named("sep"),
            L.LayerNorm().named("ln"),
            L.Flatten(),
            L.Linear(3).named("fc"),
        ],
        input_shape=(4, 4, 2),
    )


SHAPES = {
    "conv.weight": (4, 1, 3, 2),
    "conv.bias": (4,),
    "bn.weight": (4,),
    "bn.bias": (4,),
    "bn.running_mean": (4,),
    "bn.running_var": (4,),
    "act.weight": (4,),
    "up.weight": (4, 3, 2, 3),
    "up.bias": (6,),
    "gn.weight": (6,),
    "gn.bias": (6,),
    "dw.weight": (12, 1, 3, 3),
    "dw.bias": (12,),
    "sep.depthwise.weight": (12, 1, 1, 2),
    "sep.pointwise.weight": (5, 12, 1, 1),
    "sep.pointwise.bias": (5,),
    "ln.weight": (5,),
    "ln.bias": (5,),
    "fc.weight": (3, 2 * 4 * 5),
    "fc.bias": (3,),
}


def drawn(shapes: dict[str, tuple[int, ...]] = SHAPES, seed: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.uniform(0.1, 1, shape).astype(np.float32) for name, shape in shapes.items()}


def snapshot(model: Model) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in (*model.params.items(), *model.buffers.items())}


def assert_unchanged(model: Model, before: dict[str, np.ndarray]) -> None:
    for name, array in snapshot(model).items():
        np.testing.assert_array_equal(array, before[name])


def test_names_and_shapes_are_those_of_pytorch() -> None:
    assert {name: array.shape for name, array in torch_state_dict(small(), as_numpy=True).items()} == SHAPES


def test_layouts() -> None:
    given, model = drawn(), small()
    assert load_torch_weights(model, {**given, "bn.num_batches_tracked": np.int64(7)}) == Unfit()
    p, b = model.params, model.buffers
    np.testing.assert_array_equal(p["conv/weight"][2, 1, 0, 3], given["conv.weight"][3, 0, 2, 1])
    np.testing.assert_array_equal(p["up/weight"][1, 2, 0, 3], given["up.weight"][3, 0, 1, 2])
    np.testing.assert_array_equal(p["dw/weight"][..., 0, :], np.moveaxis(given["dw.weight"][:, 0], 0, -1))
    np.testing.assert_array_equal(p["sep/pointwise"][0, 0], given["sep.pointwise.weight"][:, :, 0, 0].T)
    np.testing.assert_array_equal(p["bn/scale"], given["bn.weight"])
    np.testing.assert_array_equal(b["bn/var"], given["bn.running_var"])
    np.testing.assert_array_equal(p["act/slope"], given["act.weight"])
    # the row of pixel (1, 2) and channel 3: 2 x 4 pixels, 5 channels
    np.testing.assert_array_equal(p["fc/weight"][(1 * 4 + 2) * 5 + 3], given["fc.weight"][:, 3 * 8 + 1 * 4 + 2])


def test_there_and_back() -> None:
    given, model = drawn(), small()
    load_torch_weights(model, given)
    again = torch_state_dict(model, as_numpy=True)
    assert list(again) == list(given)
    for name, array in again.items():
        np.testing.assert_array_equal(array, given[name])
        assert array.flags.c_contiguous
        array[...] = 0  # copies: the model does not see it
    other = small()
    load_torch_weights(other, torch_state_dict(model, as_numpy=True))
    x = np.random.default_rng(0).random((2, 4, 4, 2), dtype=np.float32)
    np.testing.assert_array_equal(other(x), model(x))


def test_one_slope_for_all_channels() -> None:
    model = small()
    load_torch_weights(model, {**drawn(), "act.weight": np.array([0.5], np.float32)})
    np.testing.assert_array_equal(model.params["act/slope"], np.full(4, 0.5))


def channels_first(x: np.ndarray) -> np.ndarray:
    return np.moveaxis(x, -1, 1)


def test_what_stands_between_flattening_and_linear_layer_is_reordered_too() -> None:
    middle = [L.BatchNorm(eps=0.0).named("bn"), L.PReLU().named("act"), L.Dropout()]
    model = Sequential([L.Flatten(), *middle, L.Linear(2).named("fc")], input_shape=(2, 3, 4))
    given = drawn({**{f"bn.{name}": (24,) for name in ("weight", "bias", "running_mean", "running_var")},
                   "act.weight": (24,), "fc.weight": (2, 24), "fc.bias": (2,)})  # fmt: skip
    load_torch_weights(model, given)
    x = np.random.default_rng(1).standard_normal((3, 2, 3, 4)).astype(np.float32)
    row = channels_first(x).reshape(3, -1)
    row = (row - given["bn.running_mean"]) / np.sqrt(given["bn.running_var"]) * given["bn.weight"] + given["bn.bias"]
    row = np.where(row > 0, row, row * given["act.weight"])
    np.testing.assert_allclose(model(x), row @ given["fc.weight"].T + given["fc.bias"], rtol=1e-4, atol=1e-5)


def test_columns_before_a_reshaping_to_an_image() -> None:
    layers = [L.Linear(24).named("fc"), L.BatchNorm(eps=0.0).named("bn"), L.ReLU(), L.Reshape((2, 3, 4))]
    model = Sequential(layers, input_shape=(5,))
    given = drawn({**{f"bn.{name}": (24,) for name in ("weight", "bias", "running_mean", "running_var")},
                   "fc.weight": (24, 5), "fc.bias": (24,)})  # fmt: skip
    load_torch_weights(model, given)
    x = np.random.default_rng(1).standard_normal((3, 5)).astype(np.float32)
    row = x @ given["fc.weight"].T + given["fc.bias"]
    row = (row - given["bn.running_mean"]) / np.sqrt(given["bn.running_var"]) * given["bn.weight"] + given["bn.bias"]
    want = np.maximum(row, 0).reshape(3, 4, 2, 3)
    np.testing.assert_allclose(channels_first(model(x)), want, rtol=1e-4, atol=1e-5)
    again = torch_state_dict(model, as_numpy=True)
    np.testing.assert_array_equal(again["fc.weight"], given["fc.weight"])


def test_flattened_branches_side_by_side_and_models_in_models() -> None:
    a, b = Input((2, 2, 3)), Input((4,))
    inside = Sequential([L.Linear(2).named("fc")]).named("head")
    model = Model([a, b], inside(L.Concat()(L.Flatten()(a), b)))
    given = drawn({"head.fc.weight": (2, 16), "head.fc.bias": (2,)})
    load_torch_weights(model, given)
    rng = np.random.default_rng(0)
    x, z = rng.random((3, 2, 2, 3), dtype=np.float32), rng.random((3, 4), dtype=np.float32)
    row = np.concatenate([channels_first(x).reshape(3, -1), z], axis=1)
    np.testing.assert_allclose(model(x, z), row @ given["head.fc.weight"].T + given["head.fc.bias"], rtol=1e-5)


def test_orders_that_cannot_be_told_are_refused() -> None:
    x = Input((2, 2, 3))
    row = L.Flatten()(x)
    model = Model(x, L.Add()(row, L.Linear(12).named("fc")(row)))
    with pytest.raises(WeightsError, match="combines numbers in two orders"):
        load_torch_weights(model, {})
    shared = L.Linear(12).named("fc")
    with pytest.raises(WeightsError, match=r"'fc'.* is used twice, with its input in two orders"):
        load_torch_weights(Model(x, shared(shared(row))), {})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("fc.bias"), r"1 of the model's arrays missing: 'fc\.bias'; strict=False takes those that fit"),
        (lambda w: w.update({"head.weight": w["fc.bias"]}), r"1 unexpected: 'head\.weight'"),
        (
            lambda w: w.update({"fc.weight": w["fc.weight"].T}),
            r"1 of another shape: 'fc\.weight' of \(40, 3\) for \(3, 40\)",
        ),
        (
            lambda w: w.update({"bn.bias": np.arange(4)}),
            r"the array 'bn\.bias' must be of floating-point numbers, got int64",
        ),
        (lambda w: w.update({"bn.bias": "zero"}), r"the entry 'bn\.bias' must be an array or a tensor, got str"),
        (lambda w: w.update({3: w["bn.bias"]}), r"weights must have names as keys, got 3"),
    ],
)
def test_what_does_not_fit_changes_nothing(change: Callable[[dict[Any, Any]], Any], message: str) -> None:
    given, model = drawn(), small()
    before = snapshot(model)
    change(given)
    with pytest.raises(WeightsError, match=message):
        load_torch_weights(model, given)
    assert_unchanged(model, before)


def test_the_error_has_all_names_and_its_message_the_first() -> None:
    model = networks.create("resnet18", (32, 32, 3), 10)
    with pytest.raises(
        WeightsError, match=r"102 of the model's arrays missing: .* and 92 more; 1 unexpected: 'x'"
    ) as caught:
        load_torch_weights(model, {"x": np.zeros(1)})
    assert len(caught.value.missing) == 102
    assert (caught.value.unexpected, caught.value.misshaped) == (("x",), ())


def test_not_strict_takes_what_fits_and_says_what_did_not() -> None:
    given, model = drawn(), small()
    bias = model.params["fc/bias"].copy()
    del given["fc.bias"]
    given.update({"head.weight": np.zeros(3), "fc.weight": np.zeros((7, 40))})
    unfit = load_torch_weights(model, given, strict=False)
    assert unfit == Unfit(("fc.bias",), ("head.weight",), ("fc.weight",))
    np.testing.assert_array_equal(model.params["bn/scale"], given["bn.weight"])
    np.testing.assert_array_equal(model.params["fc/bias"], bias)
    with pytest.raises(WeightsError, match="do not fit"):  # nothing fits: hardly what somebody wants
        load_torch_weights(model, {"a": np.zeros(3)}, strict=False)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod."])
def test_a_prefix_is_recognized(prefix: str) -> None:
    with pytest.raises(WeightsError, match=rf"the names begin with '{prefix}': pass \{{name.removeprefix"):
        load_torch_weights(small(), {prefix + name: array for name, array in drawn().items()})


def test_old_names_of_densenets() -> None:
    model = networks.create("densenet121", (32, 32, 3), 10)
    given = torch_state_dict(model, as_numpy=True)
    old = {name.replace(".norm1.", ".norm.1.").replace(".conv2.", ".conv.2."): array for name, array in given.items()}
    assert old.keys() != given.keys()
    assert load_torch_weights(model, old) == Unfit()


def test_safetensors_in_every_precision(tmp_path: Path) -> None:
    given, model = drawn(), small()
    for dtype, tolerance in ((np.float32, 0), (np.float64, 0), (np.float16, 1e-3)):
        path = tmp_path / f"{np.dtype(dtype)}.safetensors"
        counted = {"bn.num_batches_tracked": np.array(3)}
        save_file({**{name: array.astype(dtype) for name, array in given.items()}, **counted}, path)
        load_torch_weights(model, path)
        np.testing.assert_allclose(model.params["fc/bias"], given["fc.bias"], rtol=tolerance)
        assert model.dtype == np.float32


def test_a_double_precision_model_stays_one() -> None:
    model = small().astype(np.float64)
    load_torch_weights(model, drawn())
    assert {array.dtype for array in snapshot(model).values()} == {np.dtype(np.float64)}


def test_bfloat16(tmp_path: Path) -> None:
    upper = (np.array([1.5, -2.0], np.float32).view(np.uint32) >> 16).astype(np.uint16)
    header = b'{"fc.weight":{"dtype":"BF16","shape":[1,2],"data_offsets":[0,4]}}'
    path = tmp_path / "half.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + upper.tobytes())
    model = Sequential([L.Linear(1, bias=False).named("fc")], input_shape=(2,))
    load_torch_weights(model, path)
    np.testing.assert_array_equal(model.params["fc/weight"], [[1.5], [-2.0]])


def test_files_that_are_none(tmp_path: Path) -> None:
    model = small()
    before = snapshot(model)
    whole = tmp_path / "whole.safetensors"
    save_file(drawn(), whole)
    for length in (0, 5, 200, whole.stat().st_size - 1):
        cut = tmp_path / f"cut{length}.safetensors"
        cut.write_bytes(whole.read_bytes()[:length])
        with pytest.raises(WeightsError, match="is not a complete safetensors file"):
            load_torch_weights(model, cut)
    with pytest.raises(WeightsError, match=r"a file of PyTorch weights ends in \.safetensors, \.pth"):
        load_torch_weights(model, str(tmp_path / "weights.npz"))
    with pytest.raises(FileNotFoundError):
        load_torch_weights(model, tmp_path / "none.safetensors")
    assert_unchanged(model, before)


def test_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    path = tmp_path / "weights.pth"
    path.write_bytes(b"")
    with pytest.raises(ImportError, match=r"needs PyTorch: pip install 'fastconv\[torch\]'"):
        load_torch_weights(small(), path)
    with pytest.raises(ImportError, match=r"pip install 'fastconv\[torch\]', or ask for as_numpy=True"):
        torch_state_dict(small())


@pytest.mark.parametrize("weights", [None, 3, [("a", 1)], b"x.pth"])
def test_what_is_no_mapping_and_no_path(weights: Any) -> None:
    with pytest.raises(TypeError, match="weights must be a mapping of names to arrays, or a path, got"):
        load_torch_weights(small(), weights)


def test_what_is_no_model_or_knows_no_input() -> None:
    with pytest.raises(TypeError, match="model must be a Model, got Linear"):
        load_torch_weights(L.Linear(3), {})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="does not know its input"):
        load_torch_weights(Sequential([L.Linear(3)]), {})


def test_the_names_at_the_top_of_the_package() -> None:
    assert fastconv.load_torch_weights is load_torch_weights
    assert fastconv.torch_state_dict is torch_state_dict
