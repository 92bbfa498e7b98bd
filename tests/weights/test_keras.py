"""Weights from Keras: files that Keras wrote, the structures of its older versions, and files that are broken or lie."""

from __future__ import annotations

import gzip
import json
import sys
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv
from fastconv import layers as L
from fastconv.model import Input, Model
from fastconv.sequential import Sequential
from fastconv.weights import Unfit, WeightsError, load_keras_weights

h5py = pytest.importorskip("h5py", reason="pip install 'fastconv[keras]'")

FILES = Path(__file__).parent / "keras"
EXPECTED = np.load(FILES / "expected.npz")


def written_by_keras(folder: Path, name: str) -> Path:
    """Return a file that tools/make_keras_files.py made."""
    path = folder / name
    path.write_bytes(gzip.decompress((FILES / f"{name}.gz").read_bytes()))
    return path


def branching(**dense: Any) -> Model:
    x = Input((8, 8, 3))
    y = L.Conv2d(2, 3, stride=2, padding="same", bias=False).named("first")(x)
    y = L.BatchNorm(eps=1e-3).named("bn")(y)
    inside = Sequential([L.Conv2d(2, 1).named("pw"), L.BatchNorm(eps=1e-3).named("nbn")]).named("inside")
    y = L.Add()(y, inside(y))
    y = L.LayerNorm(eps=1e-3).named("layer_normalization")(y)
    y = L.GroupNorm(2, eps=1e-3).named("group_normalization")(y)
    return Model(x, L.Linear(3, **dense).named("dense")(L.Flatten()(y)))


def chain(eps: float = 0.01) -> Model:
    """The layers in order, under names of their own."""
    return Sequential(
        [
            L.Conv2d(4, (3, 2), dilation=2, groups=2, padding="same"),
            L.DepthwiseConv2d(3, 2, padding="same"),
            L.BatchNorm(eps=eps),
            L.PReLU(),
            L.ConvTranspose2d(4, 3, stride=2, padding="same"),
            L.BatchNorm(eps=eps),
            L.SeparableConv2d(3, 3, multiplier=2),
            L.Flatten(),
            L.Linear(3),
        ],
        input_shape=(5, 6, 2),
    )


def assert_computes_what_keras_did(model: Model, name: str) -> None:
    y = EXPECTED[f"{name}_y"]
    np.testing.assert_allclose(model(EXPECTED[f"{name}_x"]), y, rtol=0, atol=2e-6 * np.abs(y).max())


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_a_model_that_branches_by_name(tmp_path: Path, ending: str) -> None:
    model = branching()
    assert load_keras_weights(model, written_by_keras(tmp_path, f"branching{ending}")) == Unfit()
    assert_computes_what_keras_did(model, "branching")
    np.testing.assert_array_equal(model.params["bn/scale"], 1)  # scale=False
    np.testing.assert_array_equal(model.params["layer_normalization/bias"], 0)  # center=False


@pytest.mark.parametrize("ending", [".keras", ".h5", ".weights.h5"])
def test_a_chain_in_the_order_of_its_layers(tmp_path: Path, ending: str) -> None:
    model = chain()
    assert load_keras_weights(model, written_by_keras(tmp_path, f"chain{ending}"), by="order") == Unfit()
    assert_computes_what_keras_did(model, "chain")


def test_names_in_a_file_of_weights_alone(tmp_path: Path) -> None:
    names = (
        "conv2d depthwise_conv2d batch_normalization p_re_lu conv2d_transpose batch_normalization_1 separable_conv2d"
    )
    model = chain()
    for layer, name in zip(model.layers, [*names.split(), "flatten", "dense"], strict=True):
        layer.name = name
    load_keras_weights(model, str(written_by_keras(tmp_path, "chain.weights.h5")))
    assert_computes_what_keras_did(model, "chain")


def test_weights_alone_do_not_say_what_a_normalization_lacks(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"'bn' in the file lacks gamma or beta, .* save the model as \.keras"):
        load_keras_weights(branching(), written_by_keras(tmp_path, "branching.weights.h5"))


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_another_epsilon_is_an_error(tmp_path: Path, ending: str) -> None:
    path = written_by_keras(tmp_path, f"chain{ending}")
    with pytest.raises(
        WeightsError, match=r"epsilon 0\.01, .* has eps 1e-05: make it with BatchNorm\(\.\.\., eps=0\.01\)"
    ):
        load_keras_weights(chain(1e-5), path, by="order")
    load_keras_weights(chain(1e-5), path, by="order", strict=False)


def test_what_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    path = written_by_keras(tmp_path, "branching.keras")
    model = branching(bias=False)
    before = {name: array.copy() for name, array in model.params.items()}
    with pytest.raises(
        WeightsError, match=r"1 unexpected: 'dense/bias'; layers are found by their names; strict=False"
    ):
        load_keras_weights(model, path)
    with pytest.raises(WeightsError, match="is for a model that is one chain of layers: in one that branches"):
        load_keras_weights(model, path, by="order")
    for name, array in model.params.items():
        np.testing.assert_array_equal(array, before[name])
    unfit = load_keras_weights(model, path, strict=False)
    assert unfit == Unfit((), ("dense/bias",), ())
    with pytest.raises(WeightsError, match=r"do not fit .* found by their names or, in the order of use, by=\"order\""):
        load_keras_weights(chain(), path)


def keras_2(path: Path, layers: dict[str, dict[str, np.ndarray]], *, pieces: bool = False) -> Path:
    """Write a file of weights as Keras 2 did: names with a ``:0``, as bytes; long lists in pieces; no config."""
    with h5py.File(path, "w") as file:
        names = [name.encode() for name in layers]
        for at, piece in enumerate([names[:1], names[1:]] if pieces else [names]):
            file.attrs[f"layer_names{at}" if pieces else "layer_names"] = piece
        for name, arrays in layers.items():
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{key}:0".encode() for key in arrays]
            for key, array in arrays.items():
                group.create_dataset(f"{key}:0", data=array)
    return path


def two_layers() -> dict[str, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return {
        "conv": {"conv/kernel": rng.random((3, 3, 1, 2)), "conv/bias": rng.random(2)},
        "pool": {},
        "spread": {"spread/depthwise_kernel": rng.random((1, 1, 2, 3)), "spread/bias": rng.random(6)},
        "norm": {f"norm/{name}": rng.random(6) for name in ("gamma", "beta", "moving_mean", "moving_variance")},
        "fc": {"fc/kernel": rng.random((24, 2)), "fc/bias": rng.random(2)},
    }


def small(*names: str) -> Model:
    layers = [L.Conv2d(2, 3), L.DepthwiseConv2d(1, 3), L.BatchNorm(), L.Flatten(), L.Linear(2)]
    for layer, name in zip(layers, names, strict=False):
        layer.name = name
    return Sequential(layers, input_shape=(4, 4, 1))


@pytest.mark.parametrize("pieces", [False, True])
@pytest.mark.parametrize(("names", "by"), [(("conv", "spread", "norm", "flat", "fc"), "name"), ((), "order")])
def test_files_of_keras_2(tmp_path: Path, pieces: bool, names: tuple[str, ...], by: Any) -> None:
    layers, model = two_layers(), small(*names)
    load_keras_weights(model, keras_2(tmp_path / "weights.h5", layers, pieces=pieces), by=by)
    conv, spread, norm, _, fc = model.layers
    np.testing.assert_allclose(conv.params["weight"], layers["conv"]["conv/kernel"], rtol=1e-6)
    np.testing.assert_allclose(
        spread.params["weight"], layers["spread"]["spread/depthwise_kernel"].reshape(1, 1, 1, 6), rtol=1e-6
    )
    np.testing.assert_allclose(norm.buffers["var"], layers["norm"]["norm/moving_variance"], rtol=1e-6)
    np.testing.assert_allclose(fc.params["weight"], layers["fc"]["fc/kernel"], rtol=1e-6)


def test_a_model_in_a_model_of_keras_2(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "a/kernel": rng.random((3, 3)),
        "a/bias": rng.random(3),
        "b/kernel": rng.random((3, 2)),
        "b/bias": rng.random(2),
    }
    model = Sequential([Sequential([L.Linear(3).named("a"), L.Linear(2).named("b")]).named("inner")], input_shape=(3,))
    load_keras_weights(model, keras_2(tmp_path / "w.h5", {"inner": arrays}))
    np.testing.assert_allclose(model.params["inner/b/weight"], arrays["b/kernel"], rtol=1e-6)


def tree(path: Path, groups: dict[str, list[np.ndarray]]) -> Path:
    """Write a tree as the first versions of Keras 3 did: groups called after classes, without the layers' names."""
    with h5py.File(path, "w") as file:
        for name, arrays in groups.items():
            variables = file.create_group(f"{name}/vars")
            for number, array in enumerate(arrays):
                variables.create_dataset(str(number), data=array)
    return path


def test_a_tree_without_names(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sizes = list(range(2, 15))  # so many that dense_10 comes after dense_2
    arrays = [[rng.random((a, b)), rng.random(b)] for a, b in pairwise(sizes)]
    groups = {f"layers/dense_{at}" if at else "layers/dense": pair for at, pair in enumerate(arrays)}
    dropout = {"layers/dropout/seed_generator": [np.zeros(2, np.uint32)], "optimizer": [np.zeros(3)]}
    path = tree(tmp_path / "w.weights.h5", {**dropout, **groups})
    model = Sequential([L.Linear(size) for size in sizes[1:]], input_shape=(2,))
    load_keras_weights(model, path, by="order")
    np.testing.assert_allclose(model.layers[10].params["weight"], arrays[10][0], rtol=1e-6)


def test_attributes_of_a_model_that_is_a_class(tmp_path: Path) -> None:
    path = tree(tmp_path / "w.weights.h5", {"encoder/dense": [np.ones((2, 3)), np.ones(3)]})
    model = Sequential([Sequential([L.Linear(3).named("dense")]).named("encoder")], input_shape=(2,))
    load_keras_weights(model, path)
    np.testing.assert_array_equal(model.params["encoder/dense/weight"], 1)


def one() -> Model:
    return Sequential([L.Linear(2, bias=False).named("dense")], input_shape=(3,))


def hostile(write: Callable[[Any, Path], Any]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / "w.weights.h5"
        with h5py.File(folder / "other.h5", "w") as other:
            other.create_dataset("0", data=np.ones((3, 2), np.float32))
        with h5py.File(path, "w") as file:
            write(file.create_group("layers/dense/vars"), folder)
        return path

    return make


def external_numbers(group: Any, folder: Path) -> None:
    (folder / "raw").write_bytes(bytes(24))
    group.create_dataset("0", (3, 2), np.float32, external=[(str(folder / "raw"), 0, 24)])


def virtual_numbers(group: Any, folder: Path) -> None:
    layout = h5py.VirtualLayout((3, 2), np.float32)
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "0", (3, 2))
    group.create_virtual_dataset("0", layout)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            hostile(lambda group, _: group.__setitem__("0", h5py.ExternalLink("other.h5", "/0"))),
            "is a link to elsewhere",
        ),
        (hostile(lambda group, _: group.__setitem__("0", h5py.SoftLink("/none"))), "is a link to elsewhere"),
        (hostile(lambda group, _: group.create_group("0")), "must be a dataset"),
        (hostile(external_numbers), "has its numbers in another file"),
        (hostile(virtual_numbers), "has its numbers in another file"),
        (hostile(lambda group, _: None), "holds no layers with weights"),
        (
            hostile(lambda group, _: group.create_dataset("0", (10**6, 10**6), np.float32)),
            r"'dense/kernel' of \(1000000, 1000",
        ),
        (
            hostile(lambda group, _: group.create_dataset("0", data=np.ones((3, 2), int))),
            "must be of floating-point numbers",
        ),
    ],
)
def test_files_that_point_elsewhere_or_lie(tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        load_keras_weights(one(), make(tmp_path))


@pytest.mark.parametrize("name", ["chain.keras", "chain.h5", "chain.weights.h5"])
def test_files_cut_short_or_of_noise(tmp_path: Path, name: str) -> None:
    whole = written_by_keras(tmp_path, name).read_bytes()
    noise = np.random.default_rng(0).bytes(500)
    damaged = [
        b"",
        noise,
        *(whole[: len(whole) * part // 5] for part in range(1, 5)),
        whole[:700] + noise + whole[1200:],
    ]
    model = chain()
    before = {key: array.copy() for key, array in model.params.items()}
    for content in damaged:
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(WeightsError):
            load_keras_weights(model, path, by="order")
    for key, array in model.params.items():
        np.testing.assert_array_equal(array, before[key])


def test_a_zip_file_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps({"config": {"layers": [{}]}}))
        archive.writestr("model.weights.h5", b"none")
    with pytest.raises(WeightsError, match="is not a complete file of Keras weights"):
        load_keras_weights(one(), path)


def test_bad_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TypeError, match="model must be a Model, got Linear"):
        load_keras_weights(L.Linear(3), "w.h5")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match='by must be "name" or "order", got \'topology\''):
        load_keras_weights(one(), "w.h5", by="topology")  # type: ignore[arg-type]
    with pytest.raises(WeightsError, match=r"a file of Keras weights ends in \.keras, \.weights\.h5"):
        load_keras_weights(one(), tmp_path / "w.npz")
    with pytest.raises(FileNotFoundError):
        load_keras_weights(one(), tmp_path / "w.h5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"pip install 'fastconv\[keras\]'"):
        load_keras_weights(one(), tmp_path / "w.h5")


def test_the_name_at_the_top_of_the_package() -> None:
    assert fastconv.load_keras_weights is load_keras_weights
