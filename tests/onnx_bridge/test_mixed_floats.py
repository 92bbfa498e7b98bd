"""Files that mix float32 and float64: models compute with one of them, and take and return what the file says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the onnx package is not installed")

from onnx import numpy_helper, parser  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

import fastconv  # noqa: E402
from fastconv.onnx import load, save  # noqa: E402

RNG = np.random.default_rng(0)
CONSTANTS = {
    "w": RNG.standard_normal((4, 3)).astype(np.float32),
    "double_w": RNG.standard_normal((4, 3)),
    "kernel": RNG.standard_normal((5, 4, 3, 3)).astype(np.float32),
    "factors": RNG.standard_normal(4),
    "big": np.array(1e12),
    "none": np.array([0]),
}
#: Inputs, outputs, nodes, and what the model computes with.
GRAPHS = {
    "a network behind a cast": ("double[N, 4] x", "float[N, 3] y", "a = Cast <to = 1> (x) y = MatMul (a, w)", 32),
    "between casts": (
        "double[N, 4, 8, 8] x", "double[N, 5, 6, 6] y",
        "a = Cast <to = 1> (x) b = Conv (a, kernel) c = Relu (b) y = Cast <to = 11> (c)", 32,
    ),
    "more digits at the end": ("float[N, 4] x", "double[N, 3] y", "a = Cast <to = 11> (x) y = MatMul (a, double_w)", 64),
    "more digits inside": (
        "float[N, 4] x", "float[N, 4] y",
        "a = Cast <to = 11> (x) b = Add (a, big) c = Sub (b, big) y = Cast <to = 1> (c)", 64,
    ),
    "some, then a network": (
        "float[N, 4] x", "float[N, 3] y", "a = Cast <to = 11> (x) b = Mul (a, factors) c = Cast <to = 1> (b) y = MatMul (c, w)",
        64,
    ),
    "two inputs": ("float[N, 4] x, double[N, 4] t", "double[N, 4] y", "a = CastLike (x, t) y = Mul (a, t)", 64),
    "two outputs": ("float[N, 4] x", "double[N, 4] y, float[N, 4] z", "y = Cast <to = 11> (x) z = Relu (x)", 32),
    "no batch": (
        "double[3, 4] x", "float[4] y", "a = Cast <to = 1> (x) b = Softplus (a) y = ReduceSum <keepdims = 0> (b, none)", 32
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GRAPHS)
def test_one_kind_of_floats_inside_and_both_at_the_ends(name: str, tmp_path: Path) -> None:
    inputs, outputs, nodes, bits = GRAPHS[name]
    text = nodes.replace(") ", ")\n")
    file = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> graph ({inputs}) => ({outputs}) {{ {text} }}')
    words = set(nodes.replace("(", " ").replace(")", " ").replace(",", " ").split())
    file.graph.initializer.extend(numpy_helper.from_array(x, each) for each, x in CONSTANTS.items() if each in words)
    onnx.checker.check_model(file)
    shapes = [[d.dim_value or 3 for d in each.type.tensor_type.shape.dim] for each in file.graph.input]
    kinds = [onnx.helper.tensor_dtype_to_np_dtype(each.type.tensor_type.elem_type) for each in file.graph.input]
    xs = [RNG.standard_normal(shape).astype(kind) for shape, kind in zip(shapes, kinds, strict=True)]
    want = ReferenceEvaluator(file).run(None, dict(zip([each.name for each in file.graph.input], xs, strict=True)))

    model = load(file)
    assert model.dtype == f"float{bits}"
    model.save(tmp_path / "model.safetensors")
    save(model, tmp_path / "again.onnx")
    again = fastconv.load_model(tmp_path / "model.safetensors")
    for each in (model, fastconv.freeze(model), again, load(tmp_path / "again.onnx")):
        made: Any = each(*xs)
        for y, wanted in zip(made if isinstance(made, tuple) else (made,), want, strict=True):
            assert (y.shape, y.dtype) == (wanted.shape, wanted.dtype)
            np.testing.assert_allclose(y, wanted, rtol=1e-4, atol=1e-4)


def test_floats_that_a_file_does_not_name_are_refused() -> None:
    file = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> graph (int64[N, 4] x) => (float[N, 4] y) { y = Cast <to = 1> (x) }'
    )
    model = load(file)
    for each in (model, fastconv.freeze(model)):
        assert each(np.ones((2, 4), np.int64)).dtype == np.float32
        with pytest.raises(TypeError, match="is float32 and got an input of float64"):
            each(np.ones((2, 4)))
    assert model.astype(np.float64)(np.ones((2, 4), np.int64)).dtype == np.float64
