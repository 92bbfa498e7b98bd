"""Matrix products."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv import layers as L
from fastconv.arrays import contiguous
from fastconv.onnx.builder import Builder, Operand
from fastconv.onnx.errors import NotBatchedError, OnnxImportError
from fastconv.onnx.files import Node
from fastconv.onnx.table import register
from fastconv.onnx.values import Constant, Value, with_rank


@register("Gemm")
def gemm(b: Builder, node: Node, a: Operand, m: Operand, c: Operand | None = None) -> Any:
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    if isinstance(m, Constant) and isinstance(a, Value) and not node.get("transA", 0):
        weight = b.weight(m, "B", 2)
        weight = weight.T if node.get("transB", 0) else weight
        bias = _row(b, c, weight.shape[1])
        if c is None or bias is not None:
            weight = weight if alpha == 1 else weight * np.asarray(alpha, weight.dtype)
            bias = None if bias is None else bias if beta == 1 else bias * np.asarray(beta, bias.dtype)
            return linear(b, a, weight, bias)
    if b.batched:
        raise NotBatchedError
    y = b.call(
        L.MatMul(), [_turned(b, a, node.get("transA", 0)), _turned(b, m, node.get("transB", 0))], (0, 1), [a.dtype]
    )[0]
    if alpha != 1:
        y = b.elementwise(L.ScaleShift(alpha), y)
    if c is None:
        return y
    if beta != 1:
        c = (
            b.elementwise(L.ScaleShift(beta), c)
            if isinstance(c, Value)
            else c._replace(array=c.array * np.asarray(beta, c.array.dtype))
        )
    return b.combine(L.Add(), y, c)


def linear(b: Builder, x: Value, weight: np.ndarray, bias: np.ndarray | None = None) -> Value:
    """Multiply the last axis by a matrix; what is shuffled along it takes a shuffled matrix."""
    order = tuple(range(len(x.order)))
    if x.shuffle is not None and x.order == order:
        weight = _shuffled(b, weight, x.shuffle)
    else:
        x = b.plain(x)
    b.require(x.shape and x.shape[-1] == weight.shape[0], f"a matrix {weight.shape} does not fit {x.shape}")
    layer = L.Linear(weight.shape[1], bias=bias is not None, initializer="zeros")
    weights = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
    return b.one(b.layer(layer, weights), x._replace(shuffle=None))


def _shuffled(b: Builder, weight: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the rows of a matrix in another order, which mostly is that of a flattened image with its channels last."""
    inner = int(places[1] - places[0]) if len(places) > 1 else 1
    if inner > 1 and len(weight) == len(places) and len(places) % inner == 0:
        image = weight.reshape(-1, inner, weight.shape[1])  # (C, pixels, out)
        if (places.reshape(inner, -1) == np.arange(len(places)).reshape(-1, inner).T).all():
            return contiguous(image.swapaxes(0, 1), b.release).reshape(weight.shape)
    return contiguous(weight)[places]


def _row(b: Builder, c: Operand | None, features: int) -> np.ndarray | None:
    """Return what is added to every row, where it is a constant that is the same for all."""
    if not isinstance(c, Constant) or c.array.ndim > 2 or (c.array.ndim == 2 and c.array.shape[0] != 1):
        return None
    if c.array.size not in (1, features):
        raise OnnxImportError(f"{b.node.label}: C of shape {c.array.shape} does not fit {features} columns")
    return np.broadcast_to(b.array(c, "C").reshape(-1), (features,))


def _turned(b: Builder, x: Operand, turn: Any) -> Operand:
    if b.rank(x) != 2:
        raise OnnxImportError(f"{b.node.label}: A and B must be matrices, got {b.rank(x)} axes")
    if isinstance(x, Constant):
        return x._replace(array=x.array.T) if turn else x
    return b.arranged(x, (1, 0))._replace(order=(0, 1)) if turn else b.plain(x)


@register("MatMul")
def matmul(b: Builder, node: Node, x: Operand, y: Operand) -> Any:
    if (
        isinstance(y, Constant)
        and y.rank == 2
        and isinstance(x, Value)
        and b.rank(x) > b.offset
        and x.dtype.kind == "f"
    ):
        return linear(b, x, b.weight(y, "B", 2))
    ranks = b.rank(x), b.rank(y)
    if min(ranks) < 1:
        raise OnnxImportError(f"{node.label}: a scalar is not a matrix")
    rank = max(*ranks, 2)
    if (
        b.batched
        and (min(ranks) < 3 or ranks[0] != ranks[1])
        and not isinstance(x, Constant)
        and not isinstance(y, Constant)
    ):
        raise NotBatchedError
    left, right = _matrix(b, x, rank, row=True), _matrix(b, y, rank, row=False)
    order = tuple(range(rank - b.offset))
    if x.dtype.kind != "f":  # exact up to 2**53
        left, right = _exact(b, left), _exact(b, right)
    made = b.cast(b.call(L.MatMul(), [left, right], order, [left.dtype])[0], x.dtype)
    gone = [axis for axis, short in ((rank - 2, ranks[0] == 1), (rank - 1, ranks[1] == 1)) if short]
    return b.along(made, gone, L.Squeeze, drop=True) if gone else made


def _exact(b: Builder, x: Operand) -> Operand:
    """Return integers as float64, whatever the model computes in."""
    if isinstance(x, Constant):
        return x._replace(array=x.array.astype(np.float64))
    return b.elementwise(L.Cast("float64"), x, dtype=np.float64)


def _matrix(b: Builder, x: Operand, rank: int, *, row: bool) -> Operand:
    """Return an operand as matrices, with axes of size 1 in front."""
    if isinstance(x, Constant):
        array = b.array(x, "operand")
        array = (array[None] if row else array[:, None]) if array.ndim == 1 else array
        array = with_rank(array, rank)
        if b.batched:
            if array.shape[0] != 1 or rank < 3:
                raise NotBatchedError
            array = array[0]
        return x._replace(array=array)
    x = b.plain(x)
    if b.rank(x) == 1:
        x = b.one(L.Unsqueeze([1] if row else [2]), x, (0, 1))
    if b.rank(x) < rank:
        if b.batched:
            raise NotBatchedError
        x = b.one(L.Unsqueeze(list(range(1, 1 + rank - b.rank(x)))), x, tuple(range(rank)))
    return x


@register("Einsum")
def einsum(b: Builder, node: Node, *xs: Operand) -> Any:
    if b.batched:
        raise NotBatchedError
    equation = str(node.get("equation", ""))
    layer = L.Einsum(equation)
    operands = [x if isinstance(x, Constant) else b.plain(x) for x in xs]
    rank = len(layer.output_shape(*(x.array.shape if isinstance(x, Constant) else x.shape for x in operands)))
    return b.call(layer, operands, tuple(range(rank)), [xs[0].dtype])
