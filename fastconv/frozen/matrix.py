"""Matrix products of two computed values, as in attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastconv.frozen.operation import Array, Operation, register
from fastconv.functional.calls import Call, View
from fastconv.functional.frozen_conv import product_calls
from fastconv.layers.symbol import Shape

#: More pairs of matrices of a sample than that go to NumPy together: they are small, and each would be a call of its own.
MOST_PAIRS = 512


@register
@dataclass(frozen=True, eq=False)
class MatMul(Operation):
    """``(N, ..., m, k)`` times ``(N, ..., k, n)``; an axis of size 1 before the last two (not the batch) stretches."""

    kind = "matmul"

    def output_shape(self, *shapes: Shape) -> Shape:
        if len(shapes) != 2 or len(shapes[0]) != len(shapes[1]) or len(shapes[0]) < 3:
            raise ValueError(f"a product takes (N, ..., m, k) and (N, ..., k, n), got {' and '.join(map(str, shapes))}")
        a, b = shapes
        pairs = list(zip(a[:-2], b[:-2], strict=True))
        if a[-1] != b[-2] or a[0] != b[0] or any(1 != n != m != 1 for n, m in pairs):
            raise ValueError(f"these cannot be multiplied as matrices: {a} and {b}")
        return (*(m if n == 1 else n for n, m in pairs), a[-2], b[-1])

    def calls(self, kernels: Any, reads: Sequence[View], writes: Sequence[View]) -> list[Call]:
        a, b, y = *reads, writes[0]
        if not y.size:
            return []
        if not a.size or math.prod(y.shape[1:-2]) > MOST_PAIRS:
            return [Call("matmul", _multiplied, (a, b, y))]
        if math.prod(b.shape[1:-2]) == 1 and a.shape[1:-2] == y.shape[1:-2]:  # all of a sample by one matrix
            a, b, y = (x.reshape(x.shape[0], math.prod(x.shape[1:-1]), x.shape[-1]) for x in (a, b, y))
        return [
            call
            for place in np.ndindex(*y.shape[:-2])
            for call in product_calls(kernels, *(_matrix(x, place) for x in (a, b, y)))
        ]

    def multiply_adds(self, *shapes: Shape) -> int:
        return math.prod(self.output_shape(*shapes)) * shapes[0][-1]


def _matrix(x: View, place: tuple[int, ...]) -> View:
    """Return one of the matrices of a value, that at a place among the axes before the last two."""
    number = 0
    for at, n in zip(place, x.shape[:-2], strict=True):
        number = number * n + (at if n > 1 else 0)
    return x._replace(shape=x.shape[-2:], start=x.start + number * math.prod(x.shape[-2:]))


def _multiplied(a: Array, b: Array, y: Array) -> None:
    np.matmul(a, b, out=y)
