"""Axes in other places: one array, called by several orders, is turned for each of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the onnx package is not installed")

from onnx import parser  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

import fastconv  # noqa: E402
from fastconv import layers as L  # noqa: E402
from fastconv.model import Input, Model  # noqa: E402
from fastconv.onnx import load, save  # noqa: E402

RNG = np.random.default_rng(0)

#: The same array in two orders, both of which are needed as the file has them.
TWICE = """
<ir_version: 8, opset_import: ["" : 17]>
graph ({shape} x) => (float[] y, float[] z) {{
  a = Transpose <perm = {first}> (x)
  b = Transpose <perm = {second}> (x)
  y = Identity (a)
  z = Identity (b)
}}
"""


@pytest.mark.parametrize(
    ("shape", "first", "second"),
    [((3, 3, 3), (1, 0, 2), (2, 1, 0)), ((2, 3, 4), (1, 2, 0), (2, 0, 1)), ((2, 4, 4, 4), (0, 2, 3, 1), (0, 3, 1, 2))],
)
def test_one_array_in_several_orders(shape: tuple[int, ...], first: tuple[int, ...], second: tuple[int, ...]) -> None:
    text = TWICE.format(shape=f"float{list(shape)}", first=list(first), second=list(second))
    file = parser.parse_model(text.replace("float[] ", f"float[{', '.join('abcd'[: len(shape)])}] "))
    x = RNG.standard_normal(shape).astype(np.float32)
    model = load(file)
    for got in (model(x), fastconv.freeze(model)(x)):
        for y, want in zip(got, ReferenceEvaluator(file).run(None, {"x": x}), strict=True):
            np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-6)


def test_one_array_in_several_orders_goes_out(tmp_path: Path) -> None:
    x = Input((3, 4, 5))
    model = Model(x, [L.Flatten()(L.Transpose(axes)(x)) for axes in ((2, 3, 1), (3, 1, 2), (1, 3, 2))])
    save(model, tmp_path / "turned.onnx")
    images = RNG.standard_normal((2, 3, 4, 5)).astype(np.float32)
    made = ReferenceEvaluator(str(tmp_path / "turned.onnx")).run(None, {"input_1": images})
    for y, want in zip(made, model(images), strict=True):
        np.testing.assert_array_equal(y, want)
