"""Operators of ``ai.onnx.ml`` for linear models and pipelines of scikit-learn, on samples ``(N, C)``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastconv import layers as L
from fastconv.onnx.builder import Builder, Operand
from fastconv.onnx.errors import NotBatchedError, OnnxImportError
from fastconv.onnx.files import Node
from fastconv.onnx.operators.linear import linear
from fastconv.onnx.table import register
from fastconv.onnx.values import Constant, Value


def _samples(b: Builder, node: Node, x: Operand) -> Value:
    """Return an input as floats, a row for each sample."""
    x = b.value(x)
    b.require(b.rank(x) == 2, f"it takes samples (N, C), got {b.rank(x)} axes")
    return x if x.dtype.kind == "f" else b.cast(x, np.float32)


def _row(b: Builder, node: Node, name: str, features: int) -> Constant:
    """Return an argument of one number for each feature, or one for all."""
    numbers = np.asarray(node.get(name) or [], np.float32)
    b.require(numbers.size in (1, features), f"{name} must have 1 or {features} numbers, got {numbers.size}")
    return Constant(numbers[None], None, True)


@register("ai.onnx.ml.Scaler")
def scaler(b: Builder, node: Node, x: Operand) -> Any:
    x = _samples(b, node, x)
    features = x.shape[-1]
    shifted = b.combine(L.Subtract(), x, _row(b, node, "offset", features))
    return b.combine(L.Multiply(), shifted, _row(b, node, "scale", features))


@register("ai.onnx.ml.Normalizer")
def normalizer(b: Builder, node: Node, x: Operand) -> Any:
    x, norm = _samples(b, node, x), node.get("norm", "MAX")

    def along(x: Value, layer: Callable[..., L.Layer]) -> Value:
        return b.along(x, [-1], lambda places: layer(places, keepdims=True))

    if norm == "L1":
        length = along(b.elementwise(L.Abs(), x), L.ReduceSum)
    elif norm == "L2":
        length = along(x, L.ReduceL2)
    elif norm == "MAX":
        length = along(x, L.ReduceMax)
    else:
        raise OnnxImportError(f"{node.label}: norm must be MAX, L1 or L2, got {norm!r}")
    if norm != "MAX":  # of nothing but zeros zeros are made
        tiny = np.full((1, 1), np.finfo(np.float32).tiny, np.float32)
        length = b.combine(L.Maximum(), length, Constant(tiny))
    return b.combine(L.Divide(), x, length)


def _scores(b: Builder, node: Node, x: Operand, columns: int) -> Value:
    x = _samples(b, node, x)
    weight = np.asarray(node.get("coefficients") or [], np.float32)
    features = x.shape[-1]
    b.require(
        weight.size == columns * features,
        f"coefficients must be {columns} x {features} numbers, got {weight.size}",
    )
    bias = np.asarray(node.get("intercepts") or [0.0] * columns, np.float32)
    b.require(bias.size == columns, f"intercepts must be {columns} numbers, got {bias.size}")
    return linear(b, x, weight.reshape(columns, features).T, bias)


def _after(b: Builder, node: Node, scores: Value) -> Value:
    """Return scores after the function that the node names."""
    function = node.get("post_transform", "NONE")
    if function == "SOFTMAX":
        return b.one(L.Softmax(), b.last(scores, -1))
    if function == "LOGISTIC":
        return b.elementwise(L.Sigmoid(), scores)
    b.require(function == "NONE", f"post_transform must be NONE, SOFTMAX or LOGISTIC, got {function!r}")
    return scores


@register("ai.onnx.ml.LinearRegressor")
def linear_regressor(b: Builder, node: Node, x: Operand) -> Any:
    return _after(b, node, _scores(b, node, x, node.get("targets", 1)))


@register("ai.onnx.ml.LinearClassifier")
def linear_classifier(b: Builder, node: Node, x: Operand) -> Any:
    labels = node.get("classlabels_ints")
    if not labels:
        raise OnnxImportError(
            f"{node.label}: its classes must be integers: arrays of strings are not supported, so train with numbers as classes"
        )
    scores = _scores(b, node, x, len(labels))
    if b.batched and scores.shape == ():
        raise NotBatchedError
    best = b.along(scores, [-1], lambda places: L.ArgMax(places[0]), drop=True)._replace(dtype=np.dtype(np.int64))
    if list(labels) != list(range(len(labels))):
        table = Constant(np.asarray(labels, np.int64))
        best = b.call(L.Gather(1), [table, best], best.order, [np.int64])[0]
    return [best, _after(b, node, scores)]
