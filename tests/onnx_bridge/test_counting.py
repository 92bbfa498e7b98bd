"""Files in which something is counted: as many boxes as score well, of any shape from none to all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the onnx package is not installed")
ort = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")

from onnx import TensorProto, helper, numpy_helper, parser  # noqa: E402

import fastconv  # noqa: E402
from fastconv.onnx import OnnxImportError, load, save  # noqa: E402
from fastconv.saving import load_model  # noqa: E402
from fastconv.unbatched import Unbatched  # noqa: E402

DETECTOR = """
<ir_version: 8, opset_import: ["" : 17]>
detector (float[40, 4] boxes, float[40] raw) => (float[n, 4] best, int64[n] labels, float[n] points, int64[m] kept)
<int64[1] last = {-1}, int64[1] zero = {0}, int64[1] one = {1}, float limit = {0.5}, int64[1] most = {12}, int64 none = {0},
 int64 first = {0}, int64[1] seven = {7}, float[1] edge = {1.0}, float iou = {0.3}, int64[1] far = {100}, int64[1] five = {5}>
{
  scores = Sigmoid (raw)
  keep = Greater (scores, limit)
  where = NonZero (keep)
  places = Transpose <perm = [1, 0]> (where)
  good = GatherND (scores, places)
  row = Squeeze (where, zero)
  some = Gather <axis = 0> (boxes, row)
  count = Shape (good)
  both = Concat <axis = 0> (count, most)
  k = ReduceMin <axes = [0], keepdims = 1> (both)
  points, order = TopK <axis = 0> (good, k)
  top = Gather <axis = 0> (some, order)
  cut = Slice (top, zero, five, zero)
  sizes = Shape (points)
  labels = ConstantOfShape <value = int64[1] {7}> (sizes)
  numel = ReduceProd <keepdims = 0> (sizes)
  empty = Equal (numel, none)
  kept = If (empty) <
    then_branch = none_left () => (int64[m] nothing) { nothing = Constant <value = int64[0] {}> () },
    else_branch = some_left () => (int64[m] picked) {
      wide = Unsqueeze (top, zero)
      flat = Unsqueeze (points, zero)
      deep = Unsqueeze (flat, zero)
      rows = NonMaxSuppression (wide, deep, far, iou)
      column = Slice (rows, seven_minus, three, one)
      picked = Squeeze (column, one)
    }
  >
  best = Mul (top, edge)
}
"""


def detector() -> Any:
    text = DETECTOR.replace("seven_minus", "two").replace(
        "int64[1] seven = {7}", "int64[1] two = {2}, int64[1] three = {3}"
    )
    return parser.parse_model(text)


def same(model: Any, path: Path, xs: list[np.ndarray]) -> tuple[np.ndarray, ...]:
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    want = session.run(None, {each.name: x for each, x in zip(session.get_inputs(), xs, strict=True)})
    got = model(*xs)
    got = got if isinstance(got, tuple) else (got,)
    for y, z in zip(got, want, strict=True):
        assert (y.shape, y.dtype) == (z.shape, z.dtype)
        np.testing.assert_allclose(y, z, rtol=1e-5, atol=1e-5)
    return got


def boxes(seed: int, shift: float) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 8, (40, 2))
    around = np.concatenate([corners, corners + rng.uniform(1, 4, (40, 2))], axis=1)
    return [around.astype(np.float32), (rng.standard_normal(40) + shift).astype(np.float32)]


@pytest.mark.parametrize(("shift", "count"), [(-9.0, 0), (-1.8, 1), (-0.8, 8), (9.0, 12)])
def test_as_many_boxes_as_score_well(shift: float, count: int, tmp_path: Path) -> None:
    path = tmp_path / "detector.onnx"
    onnx.save(detector(), path)
    model = load(path)
    assert isinstance(model, Unbatched)
    xs = boxes(6, shift)
    points = same(model, path, xs)[2]
    assert min(len(points), 12) == len(points)
    assert (len(points) > 0) == (count > 0)
    assert len(points) == 12 or count < 12
    model.save(tmp_path / "model")
    for a, b in zip(load_model(tmp_path / "model")(*xs), model(*xs), strict=True):
        np.testing.assert_array_equal(a, b)
    frozen = fastconv.freeze(model)
    same(frozen, path, xs)
    frozen.save(tmp_path / "frozen")
    same(fastconv.load_frozen(tmp_path / "frozen"), path, xs)
    save(model, tmp_path / "again.onnx")
    same(model, tmp_path / "again.onnx", xs)
    same(load(tmp_path / "again.onnx"), path, xs)


def one_node(
    op: str, inputs: dict[str, Any], outputs: int = 1, known: dict[str, Any] | None = None, **arguments: Any
) -> Any:
    """Return a model of one node, with arrays as examples of its inputs."""
    known = known or {}
    names = [*inputs, *known]
    node = helper.make_node(op, names, [f"y{at}" for at in range(outputs)], **arguments)
    infos = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
        for name, x in inputs.items()
    ]
    made = [helper.make_empty_tensor_value_info(name) for name in node.output]
    graph = helper.make_graph([node], op, infos, made, [numpy_helper.from_array(x, n) for n, x in known.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model)


X = np.random.default_rng(0).standard_normal((3, 4, 5)).astype(np.float32)


@pytest.mark.parametrize(
    "model",
    [
        one_node("NonZero", {"x": X}),
        one_node("Compress", {"x": X}, known={"c": np.array([True, False, True])}, axis=1),
        one_node("Compress", {"x": X, "c": np.array([True, True, False])}, axis=1),
        one_node("GatherElements", {"x": X}, known={"i": np.array([[[0, -1]], [[1, 2]]])}, axis=2),
        one_node("GatherND", {"x": X}, known={"i": np.array([[0, 3], [2, -1]])}),
        one_node("GatherND", {"x": X}, known={"i": np.array([[1], [2], [0]])}, batch_dims=1),
        one_node(
            "ScatterElements", {"x": X}, known={"i": np.full((2, 2, 2), 1), "u": X[:2, :2, :2]}, axis=1, reduction="add"
        ),
        one_node("ScatterElements", {"x": X}, known={"i": np.array([[[3]], [[0]], [[1]]]), "u": X[:, :1, :1]}, axis=1),
        one_node("ScatterND", {"x": X}, known={"i": np.array([[0, 1], [2, 2]]), "u": X[0, :2]}),
        one_node("ScatterND", {"x": X}, known={"i": np.array([[1], [1]]), "u": X[:2]}, reduction="max"),
        one_node("ReduceProd", {"x": X}, known={"axes": np.array([1, 2])}, keepdims=0),
        one_node("Mod", {"x": X}, known={"y": np.array([0.7], np.float32)}, fmod=1),
    ],
    ids=lambda model: model.graph.node[0].op_type,
)
def test_single_operators(model: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    rng = np.random.default_rng(1)
    xs = []
    for value in model.graph.input:
        shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        real = value.type.tensor_type.elem_type == TensorProto.FLOAT
        xs.append(rng.standard_normal(shape).astype(np.float32) if real else rng.integers(0, 2, shape).astype(bool))
    loaded = load(path)
    same(loaded, path, xs)
    save(loaded, tmp_path / "again.onnx", opset=18)
    same(loaded, tmp_path / "again.onnx", xs)


def test_gradients_pass_to_what_was_picked(tmp_path: Path) -> None:
    model = load(detector())
    xs = boxes(6, -0.8)
    (best, _, points, _), backward = model.forward(model.context(training=True, input_grad=True), *xs)
    (dboxes, draw), _ = backward((np.ones_like(best), None, np.ones_like(points), None))
    good = 1 / (1 + np.exp(-xs[1])) > 0.5
    assert np.array_equal(dboxes.sum(axis=1) != 0, good)
    assert np.array_equal(draw != 0, good)


def test_branches_that_do_not_fit_together_are_an_error() -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    branches (float[3] x) => (float[n] y) <float zero = {0.0}, int64[1] axis = {0}>
    {
      total = ReduceSum <keepdims = 0> (x)
      positive = Greater (total, zero)
      y = If (positive) <
        then_branch = a () => (float[n] p) { p = Identity (x) },
        else_branch = b () => (float[n] q) { q = Unsqueeze (x, axis) }
      >
    }
    """
    with pytest.raises(OnnxImportError, match="different ranks"):
        load(parser.parse_model(text))


def test_a_picture_for_a_network_of_single_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    from fastconv.cli import main

    pixels = np.random.default_rng(0).integers(0, 256, (9, 8, 3)).astype(np.uint8)
    image.fromarray(pixels).save(tmp_path / "picture.png")
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    single (float[3, 9, 8] image) => (int64[3, n] bright) <float limit = {0.5}>
    { bright_ = Greater (image, limit) bright = NonZero (bright_) }
    """
    path = tmp_path / "single.onnx"
    onnx.save(parser.parse_model(text), path)
    command = ["run", str(path), "--input", str(tmp_path / "picture.png"), "--output", str(tmp_path / "y.npz")]
    assert main(command) == 0
    assert "9 x 8 RGB, stretched" in capsys.readouterr().out
    want = np.stack(np.nonzero(pixels.transpose(2, 0, 1) / 255 > 0.5))
    np.testing.assert_array_equal(np.load(tmp_path / "y.npz")["bright"], want)
