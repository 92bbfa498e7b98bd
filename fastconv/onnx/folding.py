"""Constant folding: nodes with known inputs are computed by the onnx package's reference implementation."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv.onnx.direct import direct, is_pointwise, sizes
from fastconv.onnx.errors import OnnxImportError, require_onnx
from fastconv.onnx.files import Node

#: No constant has more numbers than that.
MOST = 2**29

#: Numbers of all constants of a file that are computed, and how many more for each one that is in the file.
MOST_COMPUTED, COMPUTED_EACH = 2**26, 16

#: Multiply-adds of a product of constants that count as one number of its result.
PRODUCTS = 32

#: Whose outputs are together no larger than their inputs, and those whose output is what their inputs stretch to.
_SAME = {
    "Abs", "ArgMax", "ArgMin", "BatchNormalization", "Cast", "CastLike", "Ceil", "Celu", "Clip", "Compress", "Concat",
    "Cos", "CumSum", "DepthToSpace", "Elu", "Erf", "Exp", "Flatten", "Floor", "GatherElements", "Gelu",
    "GlobalAveragePool", "GlobalMaxPool", "GroupNormalization", "HardSigmoid", "HardSwish", "Identity",
    "InstanceNormalization", "IsInf", "IsNaN", "LRN", "LayerNormalization", "LeakyRelu", "Log", "LogSoftmax",
    "LpNormalization", "Mish", "Neg", "Not", "PRelu", "Reciprocal", "ReduceL1", "ReduceL2", "ReduceLogSum",
    "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare", "Relu",
    "Reshape", "Round", "ScatterElements", "ScatterND", "Selu", "Shape", "Sigmoid", "Sign", "Sin", "Size", "Slice",
    "Softmax", "Softplus", "Softsign", "SpaceToDepth", "Split", "Sqrt", "Squeeze", "Swish", "Tanh", "ThresholdedRelu",
    "TopK", "Transpose", "Trilu", "Unsqueeze",
}  # fmt: skip
BROADCAST = {
    "Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul",
    "Or", "Pow", "Sub", "Sum", "Where", "Xor",
}  # fmt: skip
_SIZED = {
    "Constant", "ConstantOfShape", "Einsum", "Expand", "Gather", "GatherND", "MatMul", "NonZero", "Pad", "Range",
    "Tile",
}  # fmt: skip

#: Whose outputs are as large as the inference of shapes says.
_INFERRED = {"AveragePool", "Conv", "ConvTranspose", "Gemm", "LpPool", "MaxPool", "Resize", "Upsample"}

#: Which need no memory.
_VIEWS = {"Identity", "Squeeze", "Transpose", "Unsqueeze"}

_FOLDED = _SAME | BROADCAST | _SIZED | _INFERRED

#: Operators that have no input that could be unknown, or whose inputs must be known.
ALWAYS = frozenset({"Constant"})


def foldable(node: Node) -> bool:
    """Return whether the node is one of those that are computed here."""
    return node.domain == "" and node.op in _FOLDED


class Room:
    """How many numbers the constants of a file may still have that are computed: a small file could ask for any."""

    def __init__(self, given: int) -> None:
        self._left = MOST_COMPUTED + COMPUTED_EACH * given

    def give(self, count: int) -> None:
        """Learn of so many numbers in the file."""
        self._left += COMPUTED_EACH * count

    def take(self, node: Node, count: int) -> None:
        """Spend so many numbers; `OnnxImportError` where they are no longer left."""
        self._left -= count
        if self._left < 0:
            raise OnnxImportError(
                f"{node.label} makes a constant of {count} numbers, which with others before are too many"
            )


def fold(node: Node, inputs: Sequence[np.ndarray | None], room: Room | None = None) -> list[np.ndarray]:
    """Return the outputs of a node for known inputs; `OnnxImportError` where it cannot be computed or would be too large."""
    try:
        if node.op == "Constant":
            value = _constant(node)
            if room is not None:
                room.give(value.size)
            return [value]
        axis, rank = node.get("axis"), max((x.ndim for x in inputs if x is not None), default=0)
        if isinstance(axis, int) and abs(axis) > rank + 1:  # the definitions would count to it
            raise OnnxImportError(f"{node.label}: there is no axis {axis} in a tensor of {rank}")
        size = result_size(node, inputs)
        if size > MOST:
            raise OnnxImportError(f"{node.label} makes a constant of {size} numbers, more than {MOST}")
        if node.op == "ConstantOfShape":  # a view of one number: it may be as large as the weights of a network
            value = np.asarray(node.get("value", np.zeros(1, np.float32))).reshape(-1)
            return [np.broadcast_to(value[0], sizes(inputs[0]))]
        if room is not None and node.op not in _VIEWS:
            room.take(node, size)
        found = direct(node, inputs)
        return [found] if found is not None else _evaluated(node, inputs)
    except OnnxImportError:
        raise
    except Exception as error:
        raise OnnxImportError(f"{node.label} cannot be computed: {error}") from error


def _constant(node: Node) -> np.ndarray:
    given = {name: value for name, value in node.attributes.items() if value is not None}
    if len(given) != 1 or next(iter(given)) not in ("value", "value_float", "value_floats", "value_int", "value_ints"):
        raise OnnxImportError(f"{node.label} must have one value that is a tensor or numbers, got {sorted(given)}")
    name, value = next(iter(given.items()))
    dtype = None if name == "value" else np.float32 if "float" in name else np.int64
    return np.asarray(value, dtype)


def _evaluated(node: Node, inputs: Sequence[np.ndarray | None]) -> list[np.ndarray]:
    from onnx.reference import ReferenceEvaluator

    model, names = _alone(node, inputs)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        found = ReferenceEvaluator(model).run(None, {n: x for n, x in zip(names, inputs, strict=True) if x is not None})
    return [np.asarray(array) for array in found]


def _alone(node: Node, inputs: Sequence[np.ndarray | None]) -> tuple[Any, list[str]]:
    """Return a model of this node alone, and what its inputs are called there."""
    onnx = require_onnx()
    names = [f"input_{at}" if array is not None else "" for at, array in enumerate(inputs)]
    outputs = [f"output_{at}" for at in range(len(node.outputs))]
    attributes = {name: _attribute(onnx, value) for name, value in node.attributes.items() if value is not None}
    made = onnx.helper.make_node(node.op, names, outputs, **attributes)
    infos = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
        for name, x in zip(names, inputs, strict=True)
        if x is not None
    ]
    results = [onnx.helper.make_empty_tensor_value_info(name) for name in outputs]
    graph = onnx.helper.make_graph([made], "constants", infos, results)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", max(node.opset, 6))]), names


def _attribute(onnx: Any, value: Any) -> Any:
    return onnx.numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value


def result_size(node: Node, inputs: Sequence[np.ndarray | None]) -> int:
    """Return how many numbers come out, at most."""
    arrays = [x for x in inputs if x is not None]
    if node.op in _SAME or node.op == "Constant":  # a sum over nothing is something
        return sum(x.size or math.prod(max(n, 1) for n in x.shape) for x in arrays)
    if node.op in BROADCAST:
        return math.prod(np.broadcast_shapes(*(x.shape for x in arrays)))
    if node.op in ("ConstantOfShape", "Expand"):
        wanted = tuple(sizes(inputs[-1]))
        return math.prod(wanted if node.op == "ConstantOfShape" else np.broadcast_shapes(arrays[0].shape, wanted))
    if node.op == "Range":
        start, limit, delta = (x.ravel()[0].item() for x in arrays)
        return max(0, math.ceil((limit - start) / delta))
    if node.op == "Tile":
        return arrays[0].size * math.prod(sizes(inputs[-1]))
    if node.op == "Gather":
        return arrays[0].size // max(1, arrays[0].shape[node.get("axis", 0)]) * arrays[1].size
    if node.op == "NonZero":
        return arrays[0].size * arrays[0].ndim
    if node.op == "GatherND":
        count = node.get("batch_dims", 0) + arrays[1].shape[-1]
        return arrays[1].size * math.prod(arrays[0].shape[count:])
    if node.op == "Pad":
        pads = node.get("pads") or node.get("paddings") or sizes(inputs[1])
        return math.prod(n + 2 * max(map(abs, pads)) for n in arrays[0].shape)
    if node.op == "MatMul":
        return _product_size(*(x.shape for x in arrays))
    if node.op == "Einsum":
        return _einsum_size(node.get("equation", ""), [x.shape for x in arrays])
    if is_pointwise(node, inputs):
        x, weight = arrays[:2]
        return max(x.size // x.shape[1] * weight.shape[0], x.size * weight.shape[0] // PRODUCTS)
    return _inferred_size(node, inputs)


def _product_size(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    """Return the numbers of a matrix product, or what it costs where that is more."""
    rows, inner, cols = a[-2:-1], a[-1:], b[-1:] if len(b) > 1 else ()
    size = math.prod((*np.broadcast_shapes(a[:-2], b[:-2]), *rows, *cols))
    return max(size, size * math.prod(inner) // PRODUCTS)


def _einsum_size(equation: str, shapes: Sequence[tuple[int, ...]]) -> int:
    """Return the same for sums of products, by the sizes of the letters; with dots there are no more of them than that."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    if "." in equation or not arrow:
        return math.prod(map(math.prod, shapes))
    pairs = zip(left.split(","), shapes, strict=True)
    sizes = {letter: n for term, shape in pairs for letter, n in zip(term, shape, strict=True)}
    return max(math.prod(sizes[letter] for letter in right), math.prod(sizes.values()) // PRODUCTS)


def _inferred_size(node: Node, inputs: Sequence[np.ndarray | None]) -> int:
    """Return how many numbers come out as the inference of shapes says, or what they cost where that is more."""
    onnx = require_onnx()
    model, names = _alone(node, inputs)
    arrays = [(name, x) for name, x in zip(names, inputs, strict=True) if x is not None]
    short = [onnx.numpy_helper.from_array(x, name) for name, x in arrays if x.ndim < 2]  # sizes, scales
    model.graph.initializer.extend(short)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph.output
    size = sum(math.prod(d.dim_value for d in each.type.tensor_type.shape.dim) for each in inferred if each.name)
    weights = [x.size // max(1, min(x.shape[:2])) for _, x in arrays[1:] if x.ndim > 1]
    return max(size, size * max(math.prod(node.get("kernel_shape") or ()), *weights, 1) // PRODUCTS)
