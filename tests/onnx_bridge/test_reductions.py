"""Reductions over all axes, over none, and of a single number, beside what NumPy makes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the onnx package is not installed")

from onnx import TensorProto, helper  # noqa: E402

import fastconv  # noqa: E402
from fastconv.onnx import load  # noqa: E402

Reduce = Callable[..., Any]

REDUCTIONS: dict[str, Reduce] = {
    "ReduceSum": np.sum,
    "ReduceMean": np.mean,
    "ReduceMax": np.max,
    "ReduceMin": np.min,
    "ReduceProd": np.prod,
    "ReduceL1": lambda x, **how: np.sum(np.abs(x), **how),
    "ReduceL2": lambda x, **how: np.sqrt(np.sum(x * x, **how)),
    "ReduceSumSquare": lambda x, **how: np.sum(x * x, **how),
    "ReduceLogSum": lambda x, **how: np.log(np.sum(x, **how)),
    "ReduceLogSumExp": lambda x, **how: np.log(np.sum(np.exp(x), **how)),
}


@pytest.mark.parametrize("op", REDUCTIONS)
def test_no_axes(op: str) -> None:
    sign = 1 if op == "ReduceLogSum" else -1
    for shape in ((), (1,), (2, 3)):
        x = np.asarray(sign * (1.5 + np.arange(np.prod(shape, dtype=int)).reshape(shape)), np.float32)
        for keep, left in ((0, 0), (1, 0), (0, 1), (1, 1)):
            node = helper.make_node(op, ["x"], ["y"], keepdims=keep, noop_with_empty_axes=left)
            infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
            infos[1].type.tensor_type.ClearField("shape")
            graph = helper.make_graph([node], "graph", infos[:1], infos[1:])
            model = load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]))
            axes = () if left else tuple(range(len(shape)))
            want = np.asarray(REDUCTIONS[op](x, axis=axes, keepdims=bool(keep)))
            for got in (model(x), fastconv.freeze(model)(x)):
                assert got.shape == want.shape
                np.testing.assert_allclose(got, want, rtol=1e-5)
