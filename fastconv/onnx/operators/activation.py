"""Elementwise functions, and softmax."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastconv import layers as L
from fastconv.onnx.builder import Builder, Operand
from fastconv.onnx.errors import NotBatchedError, OnnxImportError
from fastconv.onnx.files import Node
from fastconv.onnx.operators.shape import flattened_from
from fastconv.onnx.table import register
from fastconv.onnx.values import Constant, Value, with_rank

#: Operators that are one layer, made of the node's arguments.
_LAYERS: dict[str, Callable[[Node], L.Layer]] = {
    "LeakyRelu": lambda node: L.LeakyReLU(node.get("alpha", 0.01)),
    "Elu": lambda node: L.ELU(node.get("alpha", 1.0)),
    "Celu": lambda node: L.CELU(node.get("alpha", 1.0)),
    "ThresholdedRelu": lambda node: L.ThresholdedReLU(node.get("alpha", 1.0)),
    "Sigmoid": lambda node: L.Sigmoid(),
    "HardSwish": lambda node: L.HardSwish(),
    "Softplus": lambda node: L.Softplus(),
    "Softsign": lambda node: L.Softsign(),
    "Tanh": lambda node: L.Tanh(),
    "Gelu": lambda node: L.GELU(approximate=node.get("approximate", "none") == "tanh"),
    "Mish": lambda node: L.Mish(),
    "Erf": lambda node: L.Erf(),
    "Sqrt": lambda node: L.Sqrt(),
    "Exp": lambda node: L.Exp(),
    "Log": lambda node: L.Log(),
    "Abs": lambda node: L.Abs(),
    "Neg": lambda node: L.ScaleShift(-1.0),
    "Reciprocal": lambda node: L.Reciprocal(),
    "Sign": lambda node: L.Sign(),
    "Floor": lambda node: L.Floor(),
    "Ceil": lambda node: L.Ceil(),
    "Round": lambda node: L.Round(),
    "Sin": lambda node: L.Sin(),
    "Cos": lambda node: L.Cos(),
    "Tan": lambda node: L.Tan(),
    "Asin": lambda node: L.Arcsin(),
    "Acos": lambda node: L.Arccos(),
    "Atan": lambda node: L.Arctan(),
    "Sinh": lambda node: L.Sinh(),
    "Cosh": lambda node: L.Cosh(),
    "Asinh": lambda node: L.Arcsinh(),
    "Acosh": lambda node: L.Arccosh(),
    "Atanh": lambda node: L.Arctanh(),
}


def _register(op: str, make: Callable[[Node], L.Layer]) -> None:
    def convert(b: Builder, node: Node, x: Operand) -> Any:
        return b.elementwise(make(node), x)

    convert.__qualname__ = convert.__name__ = op
    register(op)(convert)


for _op, _make in _LAYERS.items():
    _register(_op, _make)


@register("Relu")
def relu(b: Builder, node: Node, x: Operand) -> Any:
    if x.dtype.kind == "f":
        return b.elementwise(L.ReLU(), x)
    return b.combine(L.Maximum(), x, Constant(np.zeros((1,) * b.rank(x), x.dtype)))


@register("Selu")
def selu(b: Builder, node: Node, x: Operand) -> Any:
    alpha, gamma = node.get("alpha", 1.67326319217681884765625), node.get("gamma", 1.05070102214813232421875)
    if math.isclose(alpha, 1.6732632423543772, rel_tol=1e-6) and math.isclose(gamma, 1.0507009873554805, rel_tol=1e-6):
        return b.elementwise(L.SELU(), x)
    return b.elementwise(L.ScaleShift(gamma), b.elementwise(L.ELU(alpha), x))


@register("HardSigmoid")
def hard_sigmoid(b: Builder, node: Node, x: Operand) -> Any:
    alpha, beta = node.get("alpha", 0.2), node.get("beta", 0.5)
    if math.isclose(alpha, 1 / 6, rel_tol=1e-6) and beta == 0.5:
        return b.elementwise(L.HardSigmoid(), x)
    return b.elementwise(L.Clip(0.0, 1.0), b.elementwise(L.ScaleShift(alpha, beta), x))


@register("Swish")
def swish(b: Builder, node: Node, x: Operand) -> Any:
    alpha = node.get("alpha", 1.0)
    if alpha == 1.0:
        return b.elementwise(L.SiLU(), x)
    gate = b.elementwise(L.Sigmoid(), b.elementwise(L.ScaleShift(alpha), x))
    return b.combine(L.Multiply(), x, gate)


@register("PRelu")
def prelu(b: Builder, node: Node, x: Operand, slope: Operand) -> Any:
    x = b.value(x)
    if isinstance(slope, Value):
        positive = b.elementwise(L.ReLU(), x)
        return b.combine(L.Add(), positive, b.combine(L.Multiply(), b.combine(L.Subtract(), x, positive), slope))
    array = b.array(slope, "slope")
    if array.dtype.kind != "f":
        raise OnnxImportError(f"{node.label}: the slope must be floats, got {array.dtype}")
    rank = b.rank(x)
    if node.opset < 7 and array.ndim == 1 and array.size > 1 and rank > 1:  # one for each channel
        array = array.reshape(-1, *(1,) * (rank - 2))
    wide = with_rank(array, rank)
    if rank > 1 and wide.size == wide.shape[1] and wide.size in (1, b.channels(x)):
        x = b.channels_last(x)
        slopes = np.broadcast_to(wide.reshape(-1), (b.channels(x),))
        return b.one(b.layer(L.PReLU(), {"slope": slopes}), x)
    positive = b.elementwise(L.ReLU(), x)
    negative = b.combine(L.Subtract(), x, positive)
    return b.combine(L.Add(), positive, b.combine(L.Multiply(), negative, Constant(array, None, True)))


@register("Clip")
def clip(b: Builder, node: Node, x: Operand, low: Operand | None = None, high: Operand | None = None) -> Any:
    for layer, bound in ((L.Maximum(), low), (L.Minimum(), high)):
        if isinstance(bound, Value):  # a number all the same
            x = b.combine(layer, x, bound)
    low, high = (None if isinstance(bound, Value) else bound for bound in (low, high))
    least, most = b.number(low, "min", node.get("min")), b.number(high, "max", node.get("max"))
    if least is None and most is None:
        return x
    bounds = [None if bound is None or not math.isfinite(bound) else float(bound) for bound in (least, most)]
    return b.elementwise(L.Clip(*bounds), x)


@register("Softmax")
def softmax(b: Builder, node: Node, x: Operand) -> Any:
    return _softmax(b, node, x, L.Softmax)


@register("LogSoftmax")
def log_softmax(b: Builder, node: Node, x: Operand) -> Any:
    return _softmax(b, node, x, L.LogSoftmax)


def _softmax(b: Builder, node: Node, x: Operand, layer: Callable[[], L.Layer]) -> Any:
    if node.opset >= 13:
        return b.one(layer(), b.last(x, node.get("axis", -1)))
    x, axis = b.value(x), node.get("axis", 1)
    first = axis + b.rank(x) if axis < 0 else axis
    if first >= b.offset and all(n == 1 for n in x.shape[first + 1 - b.offset :]):
        return b.one(layer(), b.last(x, first))
    return flattened_from(b, x, axis, lambda flat: b.one(layer(), b.last(flat, -1)))


@register("Dropout")
def dropout(
    b: Builder, node: Node, x: Operand, ratio: Operand | None = None, training_mode: Operand | None = None
) -> Any:
    rate = float(b.number(ratio, "ratio", node.get("ratio", 0.5)))
    x = b.value(x)
    if b.number(training_mode, "training_mode", False) and rate > 0:
        return _always_dropped(b, node, x, rate)
    y = b.elementwise(L.Dropout(min(max(rate, 0.0), 0.99)), x)
    if len(node.outputs) < 2:
        return y
    mask = b.combine(L.Compare("equal"), x, x, dtype=np.bool_)
    return [y, mask if node.opset >= 10 else b.cast(mask, x.dtype)]


def _always_dropped(b: Builder, node: Node, x: Value, rate: float) -> Any:
    """Drop numbers outside of training too, the same each time."""
    if b.batched:
        raise NotBatchedError  # which are dropped depends on the shape
    seed = int(node.get("seed", 0) or 0)
    outputs = [b.one(L.FixedDropout(rate, seed), b.plain(x))]
    if len(node.outputs) > 1:
        ones = b.elementwise(L.ScaleShift(0.0, 1.0), b.plain(x))
        kept = b.one(L.FixedDropout(rate, seed), ones)
        outputs.append(b.elementwise(L.Cast("bool"), kept, dtype=np.bool_))
    return outputs
