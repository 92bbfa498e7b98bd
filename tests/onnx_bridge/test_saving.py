"""Models written as ONNX files pass the checker, and compute the same in another runtime and when they come back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layers.cases import ALL, IDS, Case, as_tuple, built, inputs

onnx = pytest.importorskip("onnx", reason="the onnx package is not installed")

from onnx import parser  # noqa: E402

import fastconv  # noqa: E402
from fastconv import layers as L  # noqa: E402
from fastconv import networks  # noqa: E402
from fastconv.model import Input, Model  # noqa: E402
from fastconv.onnx import OnnxExportError, load, save  # noqa: E402
from fastconv.unbatched import Unbatched  # noqa: E402

#: What is written with operators that are not read back.
ONE_WAY = {
    "Branch",
    "Gather",
    "MaxPoolWithIndices",
    "MaxUnpool",
    "NonMaxSuppression",
    "NonZero",
    "RoiAlign",
    "ScatterND",
    "ShapeOf",
    "DynamicArguments",
}


def runtime(path: Path, xs: list[np.ndarray]) -> list[np.ndarray]:
    ort = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, {each.name: x for each, x in zip(session.get_inputs(), xs, strict=True)})


def assert_close(got: Any, want: Any) -> None:
    for y, z in zip(as_tuple(got), as_tuple(want), strict=True):
        assert (y.shape, y.dtype) == (z.shape, z.dtype)
        scale = max(1.0, float(np.abs(z, dtype=np.float64).max(initial=0)))
        np.testing.assert_allclose(y, z, rtol=1e-5, atol=1e-5 * scale)


def model_of(case: Case) -> Model:
    layer = built(case, np.float32)
    if isinstance(layer, Unbatched):
        return layer
    symbols = [Input(shape, name=f"x{at}") for at, shape in enumerate(case.shapes)]
    made = layer(*symbols)
    return Model(symbols, list(made) if isinstance(made, tuple) else made).build()


@pytest.mark.parametrize(("name", "case"), ALL, ids=IDS)
def test_every_layer(name: str, case: Case, tmp_path: Path) -> None:
    model, path = model_of(case), tmp_path / "model.onnx"
    save(model, path)
    again = None if name in ONE_WAY else load(path)
    for batch in (1, 3) if not isinstance(model, Unbatched) else (2,):
        xs = inputs(case, batch, np.float32)
        want = as_tuple(model(*xs))
        if again is not None:
            assert_close(again(*xs), want)
        assert_close(tuple(runtime(path, xs)), want)


@pytest.mark.parametrize("kind", [L.MaxPool2d, L.AvgPool2d, L.LpPool2d])
def test_a_last_window_that_is_all_padding_is_none(kind: Any, tmp_path: Path) -> None:
    x = Input((5, 7, 2))
    pool = kind([2, 1], [3, 3], padding=[(1, 0), (0, 0)], ceil_mode=True)
    model, path = Model(x, pool(x)).build(), tmp_path / "model.onnx"
    xs = [np.random.default_rng(0).standard_normal((2, 5, 7, 2)).astype(np.float32)]
    save(model, path, opset=20)
    assert_close(tuple(runtime(path, xs)), model(*xs))


def test_boxes_of_as_many_rows_as_the_fullest_sample_has(tmp_path: Path) -> None:
    boxes, scores = Input((2, 5, 4), name="boxes"), Input((2, 3, 5), name="scores")
    layer = L.NonMaxSuppression(4, overlap=0.2, threshold=0.8, centred=True, trimmed=True)
    model = Model([boxes, scores], layer(boxes, scores)).build()
    save(model, tmp_path / "model.onnx")
    rng = np.random.default_rng(0)
    xs = [rng.uniform(0.1, 1, (3, *shape)).astype(np.float32) for shape in model.input_shapes]
    want = model(*xs)
    assert want.shape[1] > (want[..., 0] >= 0).sum(axis=1).min() > 0
    np.testing.assert_array_equal(runtime(tmp_path / "model.onnx", xs)[0], want)


#: The large ones of VGG are files of half a gigabyte, of layers that the others have.
NETWORKS = [name for name in networks.names() if not name.startswith("vgg1")]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network(name: str, tmp_path: Path) -> None:
    model = networks.create(name, (32, 32, 3), 10).build()
    path = tmp_path / "model.onnx"
    save(model, path)
    again = load(path)
    x = np.random.default_rng(0).standard_normal((3, 32, 32, 3)).astype(np.float32)
    with fastconv.precision("exact"):
        want = model(x)
        assert_close(again(x), want)
    assert_close(runtime(path, [x])[0], want)
    assert type(again) is Model


@pytest.mark.parametrize("opset", [13, 17, 22])
@pytest.mark.parametrize("layer", [L.GELU(), L.GELU(approximate=True), L.LayerNorm(), L.GroupNorm(2), L.HardSwish()])
def test_older_and_newer_operators(layer: Any, opset: int, tmp_path: Path) -> None:
    x = Input((4, 5, 6))
    model = Model(x, layer(x)).build()
    save(model, tmp_path / "model.onnx", opset=opset)
    assert onnx.load(tmp_path / "model.onnx").opset_import[0].version == opset
    image = np.random.default_rng(0).standard_normal((2, 4, 5, 6)).astype(np.float32)
    assert_close(runtime(tmp_path / "model.onnx", [image])[0], model(image))


def test_windows_that_hang_over_images_of_some_sizes(tmp_path: Path) -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    pool (float[N, 2, H, W] x) => (float[N, 2, h, w] y)
    { y = MaxPool <kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1> (x) }
    """
    save(load(parser.parse_model(text)), tmp_path / "model.onnx")
    x = np.random.default_rng(0).standard_normal((1, 2, 5, 6)).astype(np.float32)
    (y,) = runtime(tmp_path / "model.onnx", [x])
    assert y.shape == (1, 2, 3, 3)
    np.testing.assert_array_equal(y[0, :, 2], x[0, :, 4].reshape(2, 3, 2).max(-1))


def test_integers_stay_those_of_the_file(tmp_path: Path) -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    table (int32[N, 4] words, bool[N, 4] mask, float[N, 4] x) => (float[N, 4] y)
    { a = Cast <to = 1> (words) b = Add (a, x) y = Where (mask, b, x) }
    """.replace(") ", ")\n")
    model = load(parser.parse_model(text))
    model.save(tmp_path / "model.safetensors")
    xs = [np.ones((2, 4), np.int32), np.eye(2, 4, dtype=bool), np.zeros((2, 4), np.float32)]
    for each in (model, fastconv.load_model(tmp_path / "model.safetensors")):
        save(each, tmp_path / "model.onnx")
        np.testing.assert_array_equal(runtime(tmp_path / "model.onnx", xs)[0], np.eye(2, 4))


def test_tables_and_grids_are_for_every_sample(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    words, image = Input((7,), name="words"), Input((6, 5, 2), name="image")
    held = L.Partial(L.Gather(1), [[0, [20, 4], "float", True]])
    grid = L.Partial(L.GridSample(), [[1, [3, 4, 2], "float", False]])
    model = Model([words, image], [held(words), grid(image)]).build()
    held.params["input_0"][...] = rng.standard_normal((20, 4))
    grid.buffers["input_1"][...] = rng.uniform(-1, 1, (3, 4, 2))
    xs = rng.integers(0, 20, (3, 7)), rng.standard_normal((3, 6, 5, 2)).astype(np.float32)
    save(model, tmp_path / "model.onnx")
    assert "GatherND" not in {node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node}
    again: Any = load(tmp_path / "model.onnx")
    for made in (again(*xs), runtime(tmp_path / "model.onnx", list(xs))):
        for y, wanted in zip(made, model(*xs), strict=True):
            assert_close(y, wanted)


class Doubled(L.Layer):
    """A layer of somebody else's."""

    def output_shape(self, shape):
        return shape

    def forward(self, ctx, x):
        return 2 * x, lambda dy: (2 * dy, {})


class Writable(Doubled):
    def to_onnx(self, w, x):
        return w.like(x, w.call("Add", x.name, x.name))


def test_a_layer_says_how_it_is_written_or_the_error_names_it(tmp_path: Path) -> None:
    x = Input((3,))
    with pytest.raises(OnnxExportError, match=r"layer 'twice' \(Doubled\) cannot be written.*to_onnx"):
        save(Model(x, Doubled().named("twice")(x)), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
    save(Model(x, Writable()(x)), tmp_path / "model.onnx")
    np.testing.assert_array_equal(load(tmp_path / "model.onnx")(np.ones((1, 3), np.float32)), [[2, 2, 2]])


def test_float64_and_names(tmp_path: Path) -> None:
    x = Input((6, 5, 2), name="picture")
    model = Model(x, L.Conv2d(3, 3)(x), output_names=["features"]).astype(np.float64).build()
    save(model, tmp_path / "model.onnx")
    again = load(tmp_path / "model.onnx")
    assert (again.input_names, again.output_names, again.dtype) == (["picture"], ["features"], np.float64)
    image = np.random.default_rng(0).standard_normal((2, 6, 5, 2))
    np.testing.assert_allclose(again(image), model(image), rtol=1e-12)


@pytest.mark.parametrize(
    ("model", "opset", "error", "match"),
    [
        (L.ReLU(), 20, TypeError, "only a model can be saved"),
        (networks.create("lenet", (28, 28, 1), 10), 5, ValueError, "opset must be from 13"),
        (networks.create("lenet", (28, 28, 1), 10), "20", ValueError, "opset must be from 13"),
    ],
)
def test_bad_arguments(model: Any, opset: Any, error: Any, match: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=match):
        save(model, tmp_path / "model.onnx", opset=opset)
