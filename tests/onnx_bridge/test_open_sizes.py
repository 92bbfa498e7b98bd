"""Files that leave the size of the image open: what is made of them takes images of any size, and goes out so too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the onnx package is not installed")

from onnx import numpy_helper, parser  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

import fastconv  # noqa: E402
from fastconv.onnx import OnnxImportError, load, save  # noqa: E402

RNG = np.random.default_rng(0)
HEAD = '<ir_version: 8, opset_import: ["" : 17]> graph (float[N, 3, H, W] x) => (float[N, c, h, w] y)'
SIZES = "whole = Shape (x) h = Gather (whole, two) w = Gather (whole, three)"
GRAPHS = {
    # what SegFormer does: pixels in rows, and images of another number of channels again
    "image": f"{SIZES} rows = Conv (x, weight) flat = Reshape (rows, flatten) sizes = Concat <axis = 0> (none, five, h, w) "
    "y = Reshape (flat, sizes)",
    # rows are columns: places may not be confused
    "turned": f"{SIZES} a = Conv (x, weight) t = Transpose <perm = [0, 1, 3, 2]> (a) flat = Reshape (t, flatten) "
    "sizes = Concat <axis = 0> (none, rest, w, h) y = Reshape (flat, sizes)",
    "places": f"{SIZES} size = Concat <axis = 0> (one, five, h, w) place = Resize <mode = \"linear\"> (places, , , size) "
    "a = Conv (x, weight) y = Add (a, place)",
    "groups": "a = Reshape (x, groups) b = InstanceNormalization (a, s, z) s0 = Shape (x) c = Reshape (b, s0) "
    "d = Mul (c, scale) y = Add (d, shift)",
    "round": "left = Slice (x, minus, far, rest) a = Concat <axis = 3> (left, x) b = Conv (a, weight) y = Relu (b)",
    "attention": "e = Conv (x, weight) a = Reshape (e, flatten) t = Transpose <perm = [0, 2, 1]> (a) m = MatMul (t, a) "
    "d = Div (m, root) p = Softmax <axis = -1> (d) y = Unsqueeze (p, first)",
}  # fmt: skip


def rows(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def noise(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


CONSTANTS = {
    "weight": noise(5, 3, 1, 1), "places": noise(1, 5, 4, 4), "scale": noise(3, 1, 1), "shift": noise(3, 1, 1),
    "s": np.ones(1, np.float32), "z": np.zeros(1, np.float32), "root": np.asarray(1.7, np.float32),
    "minus": rows(-1), "far": rows(2**40),
    "two": rows(2), "three": rows(3), "none": rows(0), "one": rows(1), "five": rows(5), "rest": rows(-1), "first": rows(1),
    "flatten": rows(0, 0, -1), "groups": rows(0, 1, -1),
}  # fmt: skip


@pytest.mark.parametrize("name", GRAPHS)
def test_images_of_any_size(name: str, tmp_path: Path) -> None:
    graph = GRAPHS[name].replace(") ", ")\n")
    file = parser.parse_model(f"{HEAD} {{ {graph} }}")
    words = set(graph.replace("(", " ").replace(")", " ").replace(",", " ").split())
    file.graph.initializer.extend(
        numpy_helper.from_array(array, each) for each, array in CONSTANTS.items() if each in words
    )
    onnx.checker.check_model(file)
    model = load(file)
    frozen = fastconv.freeze(model)
    save(model, tmp_path / "again.onnx")
    before, after = ReferenceEvaluator(file), ReferenceEvaluator(str(tmp_path / "again.onnx"))
    for n, height, width in ((1, 8, 6), (2, 5, 8), (1, 7, 7)):
        x = noise(n, 3, height, width)
        (want,) = before.run(None, {"x": x})
        for got in (model(x), frozen(x), after.run(None, {"x": x})[0]):
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    dims = onnx.load(tmp_path / "again.onnx").graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_value for dim in dims] == [0, 3, 0, 0]  # as open as they were


def of_node(text: str, x: str, **constants: np.ndarray) -> onnx.ModelProto:
    file = parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 18]> graph (float[{x}] x) => (float[] y) {{ {text} }}'
    )
    file.graph.output[0].type.tensor_type.ClearField("shape")
    file.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    return file


def test_sizes_that_are_planned_with_are_no_sizes() -> None:
    # 224 pixels are what an open height is taken to be, and a resize to as many is one all the same
    resize = of_node('y = Resize <mode = "linear"> (x, , , sizes)', "N, 3, H, W", sizes=rows(1, 3, 224, 224))
    resize_axes = of_node("y = Resize <axes = [2, 3]> (x, , , sizes)", "N, 3, H, W", sizes=rows(224, 224))
    for file in (resize, resize_axes):
        for shape in ((1, 3, 224, 224), (1, 3, 30, 20)):
            x = noise(*shape)
            (want,) = ReferenceEvaluator(file).run(None, {"x": x})
            np.testing.assert_allclose(load(file)(x), want, rtol=1e-4, atol=1e-5)
    # and beyond them may be something
    cut = of_node("y = Slice (x, start, stop, axis)", "N, H", start=rows(300), stop=rows(310), axis=rows(1))
    with pytest.raises(OnnxImportError, match="whether anything is left depends on the sizes of the inputs"):
        load(cut)
    x = noise(2, 320)
    np.testing.assert_array_equal(load(cut, input_shapes={"x": x.shape})(x), x[:, 300:310])
    # nor are places from the end those from the beginning
    last = of_node("y = Gather <axis = -1> (x, places)", "N, H", places=rows(1, -1, -2))
    for model in (load(last), fastconv.freeze(load(last))):
        np.testing.assert_array_equal(model(x[:, :7]), x[:, [1, 6, 5]])


def test_norms_along_an_axis_of_any_length() -> None:
    file = of_node("y = LpNormalization <axis = -1, p = 2> (x)", "N, 3, W")  # which divides by more, the longer it is
    x = noise(2, 3, 5)
    for model in (load(file), fastconv.freeze(load(file))):
        np.testing.assert_allclose(model(x), x / np.linalg.norm(x, axis=-1, keepdims=True), rtol=1e-5)


def test_sequences_as_wide_as_the_image_is_high_need_its_height() -> None:
    text = (
        '<ir_version: 8, opset_import: ["" : 17]> graph (float[N, 2, h, w] x) => (float[t, d, N, c] y) {'
        "turned = Transpose <perm = [3, 0, 1, 2]> (x) rows = Reshape (turned, flat) "
        "y, end = GRU <hidden_size = 4> (rows, weight, again) }"
    )
    model = parser.parse_model(text)
    weights = {"weight": (1, 12, 2 * 5), "again": (1, 12, 4)}
    held = {name: RNG.standard_normal(shape).astype(np.float32) for name, shape in weights.items()}
    held["flat"] = rows(0, 0, -1)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in held.items())
    with pytest.raises(OnnxImportError, match=r"W for sequences of 10 features .* input_shapes="):
        load(model)
    x = RNG.standard_normal((3, 2, 5, 7)).astype(np.float32)
    want = ReferenceEvaluator(model).run(None, {"x": x})[0]
    np.testing.assert_allclose(load(model, input_shapes={"x": x.shape})(x), want, rtol=1e-4, atol=1e-5)
