"""Operators on constants in one line of NumPy each: importing the onnx package's definitions takes longer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastconv.functional import linear
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
    if (steps == 0).any() or any(not -x.ndim <= axis < x.ndim for axis in axes) or len(set(axes % x.ndim)) < len(axes):
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


def _shape(node: Node, inputs: Sequence[np.ndarray]) -> np.ndarray:
    return np.array(inputs[0].shape[node.get("start", 0) : node.get("end")], np.int64)


def _expand(node: Node, inputs: Sequence[np.ndarray]) -> np.ndarray:
    x, wanted = inputs
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(sizes(wanted))))


def _tile(node: Node, inputs: Sequence[np.ndarray]) -> np.ndarray | None:
    x, repeats = inputs if len(inputs) == 2 else (inputs[0], np.zeros(0))
    fits = repeats.dtype.kind == "i" and repeats.shape == (x.ndim,) and (repeats >= 0).all()
    return np.tile(x, tuple(map(int, repeats))) if fits else None


def _where(node: Node, inputs: Sequence[np.ndarray]) -> np.ndarray | None:
    condition, a, b = inputs
    return np.where(condition, a, b) if condition.dtype == np.bool_ and a.dtype == b.dtype else None


def _cumsum(node: Node, inputs: Sequence[np.ndarray]) -> np.ndarray | None:
    x, axis = inputs
    plain = not node.get("exclusive") and not node.get("reverse") and axis.ndim == 0
    return np.cumsum(x, int(axis), x.dtype) if plain and x.dtype in _NUMBERS else None


def _range(node: Node, inputs: Sequence[np.ndarray]) -> np.ndarray | None:
    integers = len({x.dtype for x in inputs}) == 1 and inputs[0].dtype.kind == "i" and all(x.size == 1 for x in inputs)
    return np.arange(*(x.item() for x in inputs), dtype=inputs[0].dtype) if integers else None


def is_pointwise(node: Node, inputs: Inputs) -> bool:
    """Return whether a node is a convolution that multiplies each pixel with a matrix."""
    shapes = [() if x is None else x.shape for x in inputs]
    plain = node.op == "Conv" and node.get("group", 1) == 1 and node.get("auto_pad", "NOTSET") in ("NOTSET", "VALID")
    if not plain or len(shapes) < 2 or not len(shapes[0]) == len(shapes[1]) > 2 or set(shapes[1][2:]) != {1}:
        return False
    return (
        set(node.get("strides") or (1,)) == {1}
        and set(node.get("pads") or (0,)) == {0}
        and shapes[0][1] == shapes[1][1]
    )


def _conv(node: Node, inputs: Sequence[np.ndarray]) -> np.ndarray | None:
    if not is_pointwise(node, inputs) or len({x.dtype for x in inputs}) > 1 or inputs[0].dtype not in DTYPES[:2]:
        return None
    x, weight, *bias = inputs  # NumPy would start the threads of its library for matrices
    y = linear(np.moveaxis(x, 1, -1), weight.reshape(weight.shape[:2]).T, *bias)
    return np.moveaxis(y, -1, 1)


def _of_numbers(function: Callable[..., Any], kinds: str) -> Callable[[Node, Sequence[np.ndarray]], np.ndarray | None]:
    def made(node: Node, inputs: Sequence[np.ndarray]) -> np.ndarray | None:
        with np.errstate(all="ignore"):
            return np.asarray(function(*inputs)) if len(inputs) == 1 and inputs[0].dtype.kind in kinds else None

    return made


def _quotient(a: np.ndarray, b: np.ndarray) -> np.ndarray | None:
    if a.dtype.kind == "f":
        return np.divide(a, b)
    return a // b if (a >= 0).all() and (b > 0).all() else None  # others are cut towards zero


def _remainder(a: np.ndarray, b: np.ndarray) -> np.ndarray | None:
    return np.mod(a, b) if a.dtype.kind == "i" and b.all() else None


def _arithmetic(function: Callable[..., Any]) -> Callable[[Node, Sequence[np.ndarray]], np.ndarray | None]:
    def made(node: Node, inputs: Sequence[np.ndarray]) -> np.ndarray | None:
        alike = len(inputs) == 2 and inputs[0].dtype == inputs[1].dtype and inputs[0].dtype.kind in "fi"
        with np.errstate(all="ignore"):
            found = function(*inputs) if alike and node.opset >= STRETCHES else None
        return None if found is None else np.asarray(found)

    return made


_NUMBERS = [np.dtype(each) for each in (np.float32, np.float64, np.int32, np.int64)]

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
    "Div": _arithmetic(_quotient),
    "Equal": _arithmetic(np.equal),
    "Sqrt": _of_numbers(np.sqrt, "f"),
    "Sin": _of_numbers(np.sin, "f"),
    "Cos": _of_numbers(np.cos, "f"),
    "Not": _of_numbers(np.logical_not, "b"),
    "Shape": _shape,
    "Expand": _expand,
    "Tile": _tile,
    "Where": _where,
    "CumSum": _cumsum,
    "Range": _range,
    "Mod": lambda node, inputs: None if node.get("fmod") else _arithmetic(_remainder)(node, inputs),
    "Conv": _conv,
}
