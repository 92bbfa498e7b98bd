"""Operators on constants in one line of NumPy each: importing the onnx package's definitions takes longer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastconv.onnx.errors import OnnxImportError
from fastconv.onnx.files import DTYPES, Node

Inputs = Sequence[np.ndarray | None]

#: The version from which on operands of arithmetic are stretched as NumPy does it.
STRETCHES = 7


def sizes(x: np.ndarray | None) -> list[int]:
    """Return a known shape, or a row of axes, as a list; `OnnxImportError` for what can be none."""
    if x is None or x.dtype.kind not in "iu" or x.ndim > 1:
        raise OnnxImportError("a shape must be a row of integers")
    found = [int(n) for n in x.ravel()]
    if len(found) > 32 or any(n < -1 for n in found):
        raise OnnxImportError(f"{found} is not a shape")
    return found


def direct(node: Node, inputs: Inputs) -> np.ndarray | None:
    """Return the output of a node, often a view of its input; None where the definitions must say what it is."""
    function = _DIRECT.get(node.op)
    given = [x for x in inputs if x is not None]
    if function is None or len(given) < len(inputs) or len(node.outputs) != 1:
        return None
    return function(node, given)


def _axes(node: Node, inputs: Sequence[np.ndarray]) -> list[int] | None:
    """Return the axes in an operand, or in the argument of older versions."""
    if len(inputs) > 1:
        axes = inputs[1]
        return [int(n) for n in axes] if axes.dtype.kind in "iu" and axes.ndim == 1 else None
    found: list[int] | None = node.get("axes")
    return found


def _unsqueeze(node: Node, inputs: Sequence[np.ndarray]) -> np.ndarray | None:
    axes = _axes(node, inputs)
    return None if axes is None else np.expand_dims(inputs[0], tuple(axes))


def _squeeze(node: Node, inputs: Sequence[np.ndarray]) -> np.ndarray | None:
    axes = _axes(node, inputs)
    return None if axes is None else np.squeeze(inputs[0], tuple(axes))


def _reshape(node: Node, inputs: Sequence[np.ndarray]) -> np.ndarray | None:
    if len(inputs) < 2 or node.get("allowzero"):
        return None
    x, wanted = inputs[0], sizes(inputs[1])
    return x.reshape([x.shape[axis] if n == 0 else n for axis, n in enumerate(wanted)])


def _transpose(node: Node, inputs: Sequence[np.ndarray]) -> np.ndarray:
    return np.transpose(inputs[0], node.get("perm"))


def _concat(node: Node, inputs: Sequence[np.ndarray]) -> np.ndarray | None:
    axis = node.get("axis")
    alike = len({x.dtype for x in inputs}) == 1 and all(x.ndim for x in inputs)
    return np.concatenate(inputs, axis) if alike and axis is not None else None


def _gather(node: Node, inputs: Sequence[np.ndarray]) -> np.ndarray | None:
    x, places = inputs
    return np.take(x, places, node.get("axis", 0)) if x.ndim and places.dtype.kind == "i" else None


def _gather_elements(node: Node, inputs: Sequence[np.ndarray]) -> np.ndarray | None:
    x, places = inputs
    if not x.ndim or places.ndim != x.ndim or places.dtype.kind != "i":
        return None
    axis = range(x.ndim)[node.get("axis", 0)]
    part = tuple(slice(None if at == axis else n) for at, n in enumerate(places.shape))  # indices may be for less of it
    return np.take_along_axis(x[part], places, axis)


def _slice(node: Node, inputs: Sequence[np.ndarray]) -> np.ndarray | None:
    x, rows = inputs[0], inputs[1:]
    if not 2 <= len(rows) <= 4 or any(row.dtype.kind != "i" or row.ndim != 1 for row in rows):
        return None
    first, last = rows[:2]
    axes = rows[2] if len(rows) > 2 else np.arange(len(first))
    steps = rows[3] if len(rows) > 3 else np.ones(len(first), np.int64)
    if (steps < 1).any() or any(not -x.ndim <= axis < x.ndim for axis in axes) or len(set(axes % x.ndim)) < len(axes):
        return None
    cut = [slice(None)] * x.ndim
    for axis, *ends in zip(axes, first, last, steps, strict=True):
        cut[axis] = slice(*map(int, ends))
    return x[tuple(cut)]


def _cast(node: Node, inputs: Sequence[np.ndarray]) -> np.ndarray | None:
    to = _DTYPES.get(node.get("to", 0))
    if to is None or inputs[0].dtype not in DTYPES:
        return None
    with np.errstate(all="ignore"):
        return inputs[0].astype(to)


def _arithmetic(function: Callable[..., Any]) -> Callable[[Node, Sequence[np.ndarray]], np.ndarray | None]:
    def made(node: Node, inputs: Sequence[np.ndarray]) -> np.ndarray | None:
        alike = len(inputs) == 2 and inputs[0].dtype == inputs[1].dtype and inputs[0].dtype.kind in "fi"
        with np.errstate(all="ignore"):
            return np.asarray(function(*inputs)) if alike and node.opset >= STRETCHES else None

    return made


#: What a Cast to a dtype calls it: numbers of onnx.TensorProto.DataType.
_DTYPES = {1: np.float32, 6: np.int32, 7: np.int64, 9: np.bool_, 11: np.float64}

_DIRECT: dict[str, Callable[[Node, Sequence[np.ndarray]], np.ndarray | None]] = {
    "Identity": lambda node, inputs: inputs[0],
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Concat": _concat,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "Slice": _slice,
    "Cast": _cast,
    "Add": _arithmetic(np.add),
    "Sub": _arithmetic(np.subtract),
    "Mul": _arithmetic(np.multiply),
}
