"""Linear models and what stands before them, with the operators that scikit-learn's are written with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the onnx package is not installed")
ort = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")

from onnx import TensorProto, helper  # noqa: E402

from fastconv.onnx import OnnxImportError, load  # noqa: E402

RNG = np.random.default_rng(0)
X = np.concatenate([RNG.standard_normal((6, 4)), np.zeros((1, 4))]).astype(np.float32)
WEIGHT, BIAS = RNG.standard_normal((3, 4)).ravel().tolist(), RNG.standard_normal(3).tolist()


def model(op: str, dtypes: tuple[int, ...] = (TensorProto.FLOAT,), **arguments: Any) -> Any:
    node = helper.make_node(op, ["x"], [f"y{at}" for at in range(len(dtypes))], domain="ai.onnx.ml", **arguments)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])
    made = [helper.make_tensor_value_info(name, dtype, None) for name, dtype in zip(node.output, dtypes, strict=True)]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)]
    return helper.make_model(helper.make_graph([node], op, [x], made), opset_imports=opsets, ir_version=8)


CLASSES = (TensorProto.INT64, TensorProto.FLOAT)


@pytest.mark.parametrize(
    "proto",
    [
        model("Scaler", offset=[0.5], scale=[2.0]),
        model("Scaler", offset=[0.5, 1.0, -1.0, 0.0], scale=[2.0, 1.0, 3.0, 0.5]),
        *[model("Normalizer", norm=norm) for norm in ("L1", "L2")],
        model("LinearRegressor", coefficients=WEIGHT[:4], intercepts=BIAS[:1]),
        model("LinearRegressor", coefficients=WEIGHT, intercepts=BIAS, targets=3),
        *[
            model(
                "LinearClassifier",
                CLASSES,
                coefficients=WEIGHT,
                intercepts=BIAS,
                classlabels_ints=of,
                post_transform=after,
            )
            for of, after in (([0, 1, 2], "SOFTMAX"), ([-5, 7, 30], "LOGISTIC"), ([2, 1, 0], "NONE"))
        ],
    ],
    ids=lambda proto: proto.graph.node[0].op_type,
)
def test_numbers_are_those_of_onnx_runtime(proto: Any, tmp_path: Path) -> None:
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    loaded = load(proto)
    for x in (X, X[:1]):
        got = loaded(x)
        for y, z in zip(got if isinstance(got, tuple) else (got,), session.run(None, {"x": x}), strict=True):
            assert y.dtype == z.dtype
            np.testing.assert_allclose(y.reshape(z.shape), z, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("proto", "message"),
    [
        (
            model("LinearClassifier", CLASSES, coefficients=WEIGHT, classlabels_strings=["a", "b", "c"]),
            "must be integers",
        ),
        (model("LinearRegressor", coefficients=WEIGHT, targets=2), "coefficients must be 2 x 4 numbers, got 12"),
        (model("LinearRegressor", coefficients=WEIGHT[:4], post_transform="PROBIT"), "post_transform must be NONE"),
        (model("Scaler", offset=[0.5, 1.0], scale=[2.0]), "offset must have 1 or 4 numbers, got 2"),
        (model("Normalizer", norm="L9"), "norm must be MAX, L1 or L2"),
    ],
)
def test_what_does_not_fit_is_named(proto: Any, message: str) -> None:
    with pytest.raises(OnnxImportError, match=message):
        load(proto)
