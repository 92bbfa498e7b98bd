"""What NumPy computes of constants is what the definitions of the onnx package say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the onnx package is not installed")

from fastconv.onnx.direct import direct
from fastconv.onnx.errors import OnnxImportError
from fastconv.onnx.files import Node
from fastconv.onnx.folding import _evaluated, fold

X = np.random.default_rng(0).standard_normal((2, 1, 3, 4)).astype(np.float32)
N = np.array([5, -3, 2**40, 0])
K = np.arange(12, dtype=np.float32).reshape(3, 4, 1, 1)


def row(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def node(op: str, opset: int = 17, outputs: int = 1, **attributes: Any) -> Node:
    return Node(op, "", "", ("a", "b"), tuple(map(str, range(outputs))), attributes, opset)


@pytest.mark.parametrize(
    ("which", "inputs"),
    [
        (node("Identity"), [X]),
        (node("Unsqueeze"), [X, row(0, -1)]),
        (node("Unsqueeze", 11, axes=[1, 3]), [X]),
        (node("Squeeze"), [X, row(1)]),
        (node("Squeeze", 11, axes=[-3]), [X]),
        (node("Reshape"), [X, row(0, -1, 2)]),
        (node("Reshape"), [X, row(24)]),
        (node("Transpose"), [X]),
        (node("Transpose", perm=[1, 0, 3, 2]), [X]),
        (node("Concat", axis=-1), [X, X]),
        (node("Concat", axis=0), [N, N, N]),
        (node("Gather", axis=2), [X, np.array([[0, -1]])]),
        (node("Gather"), [N, np.array(1)]),
        (node("Slice"), [X, row(1), row(2**62)]),
        (node("Slice"), [X, row(-3, 0), row(-1, 9), row(-1, 0)]),
        (node("Slice"), [X, row(0), row(-1), row(3), row(2)]),
        (node("Cast", to=7), [X * 9]),
        (node("Cast", to=9), [X]),
        (node("Cast", to=1), [N]),
        (node("Cast", to=11), [np.array([True, False])]),
        (node("Add"), [X, X[0, 0]]),
        (node("Sub"), [N, row(1)]),
        (node("Mul"), [N, N]),
        (node("Div"), [X, X[0, 0]]),
        (node("Div"), [X, np.zeros((), np.float32)]),
        (node("Div"), [abs(N), row(2)]),
        (node("Mod"), [N, row(-7)]),
        (node("Equal"), [N, row(5)]),
        (node("Sqrt"), [X]),
        (node("Sin"), [X]),
        (node("Cos"), [X]),
        (node("Not"), [X > 0]),
        (node("Shape"), [X]),
        (node("Shape", start=-3, end=9), [X]),
        (node("Expand"), [X, row(5, 1, 1)]),
        (node("Tile"), [X, row(2, 1, 0, 3)]),
        (node("Where"), [X > 0, X, X[0, 0]]),
        (node("CumSum"), [X, np.array(-2)]),
        (node("CumSum"), [N, np.array(0)]),
        (node("Range"), [np.array(7), np.array(-3), np.array(-3)]),
        (node("Slice"), [X, row(-1), row(-(2**62)), row(3), row(-1)]),
        (node("Slice"), [X, row(9, 2), row(0, -9), row(3, 2), row(-2, -1)]),
        (node("Conv"), [X, X[:1, :, :1, :1]]),
        (node("Conv", kernel_shape=[1, 1], pads=[0] * 4), [np.round(X * 9).swapaxes(1, 3), K]),
    ],
)
def test_it_is_what_the_definitions_say(which: Node, inputs: list[np.ndarray]) -> None:
    (expected,) = _evaluated(which, inputs)
    y = direct(which, inputs)
    assert y is not None and (y.dtype, y.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize(
    ("which", "inputs"),
    [
        (node("Exp"), [X]),
        (node("Add"), [X, X.astype(np.float64)]),
        (node("Add", 6, axis=1, broadcast=1), [X, X[0, 0, 0]]),
        (node("Squeeze"), [X]),
        (node("Squeeze"), [X, None]),
        (node("Reshape", 1, shape=[24]), [X]),
        (node("Reshape", allowzero=1), [X[:0], row(0, 3)]),
        (node("Slice"), [X, row(-1), row(0), row(3), row(0)]),
        (node("Slice"), [X, row(0, 1), row(1, 3), row(2, -2)]),
        (node("Slice", 9, starts=[0], ends=[1]), [X]),
        (node("Cast", to=10), [X]),
        (node("Cast", to=1), [X.astype(np.float16)]),
        (node("Concat", axis=0), [N, N.astype(np.int32)]),
        (node("Identity", outputs=2), [X]),
        (node("Div"), [N, row(2)]),
        (node("Div"), [abs(N), row(0)]),
        (node("Mod"), [N, row(0)]),
        (node("Mod", fmod=1), [N, row(2)]),
        (node("Mod"), [X, X]),
        (node("Sqrt"), [N]),
        (node("Tile"), [X, row(2)]),
        (node("Where"), [X, X, X]),
        (node("Where"), [X > 0, X, N]),
        (node("CumSum", reverse=1), [X, row(0)]),
        (node("Range"), [X[0, 0, 0, 0], X[0, 0, 0, 0], X[0, 0, 0, 0]]),
        (node("Conv"), [X, X]),
        (node("Conv", strides=[2, 1]), [X, X[:1, :, :1, :1]]),
        (node("Conv", pads=[0, 0, 1, 0]), [X, X[:1, :, :1, :1]]),
        (node("Conv", auto_pad="SAME_UPPER"), [X, X[:1, :, :1, :1]]),
    ],
)
def test_the_rest_is_left_to_the_definitions(which: Node, inputs: list[np.ndarray | None]) -> None:
    assert direct(which, inputs) is None


@pytest.mark.parametrize(
    ("which", "inputs", "match"),
    [
        (node("Reshape"), [X, row(0, 0, 0, 0, 0)], "cannot be computed: tuple index out of range"),
        (node("Reshape"), [X, row(-5)], "is not a shape"),
        (node("Reshape"), [X, X], "a shape must be a row of integers"),
        (node("Squeeze"), [X, row(0)], "cannot be computed"),
        (node("Gather", axis=9), [X, N], "there is no axis 9 in a tensor of 4"),
        (node("Gather"), [X, N], "cannot be computed"),
    ],
)
def test_what_cannot_be_computed(which: Node, inputs: list[np.ndarray], match: str) -> None:
    with pytest.raises(OnnxImportError, match=match):
        fold(which, inputs)


def test_the_definitions_are_imported_where_they_are_needed(tmp_path: Path) -> None:
    program = (
        "import sys, numpy as np; from fastconv.onnx import files, folding; "
        "node = files.Node('Reshape', '', '', ('a', 'b'), ('c',), {}, 17); "
        "folding.fold(node, [np.ones((2, 3)), np.array([6])]); "
        "assert 'onnx.reference' not in sys.modules; "
        "folding.fold(node._replace(op='Exp'), [np.ones(3)]); assert 'onnx.reference' in sys.modules"
    )
    # not where the sources are, whose kernels may not be built
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)
