"""The kernels' signatures, for type checkers: one protocol that every variant fulfils (a test compares them).

Formulas and axes stand with the kernels, in the ``.pxi`` files. All arrays are C contiguous and of the module's dtype; ``axes``
and ``phases`` are int64 records of `fastconv.geometry.Axis`, ``d``, ``h`` and ``w`` of the windows of a pooling.
"""

from __future__ import annotations

from typing import Any, Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray

Real = NDArray[Any]
Records = NDArray[np.int64]
Sums = NDArray[np.float64]


class Description(TypedDict):
    """What a variant was compiled to: bytes of a vector, rows and columns of the register tile, whether it has OpenMP."""

    vector_bytes: int
    tile: tuple[int, int]
    openmp: bool


# fmt: off
class Kernels(Protocol):
    """A module of kernels: one instruction set, one dtype."""

    def describe(self) -> Description: ...

    def conv_forward(
        self, x: Real, weight: Real, bias: Real | None, y: Real, axes: Records, groups: int, threads: int
    ) -> None: ...
    def conv_backward_input(
        self, dy: Real, weight: Real, bias: Real | None, dx: Real,
        phases_d: Records, phases_h: Records, phases_w: Records, groups: int, threads: int
    ) -> None: ...
    def conv_backward_weight(
        self, x: Real, dy: Real, partial: Real, axes: Records, groups: int, threads: int
    ) -> None: ...
    def gradient_chunks(
        self, axes: Records, batch: int, depth: int, outputs: int, groups: int, enough: int
    ) -> int: ...
    def column_sums(self, x: Real, partial: Real, threads: int) -> None: ...

    def depthwise(self, x: Real, weight: Real, bias: Real | None, y: Real, axes: Records, threads: int) -> None: ...
    def depthwise_backward_weight(self, x: Real, dy: Real, partial: Real, axes: Records, threads: int) -> None: ...

    def local_forward(self, x: Real, weight: Real, y: Real, axes: Records, threads: int) -> None: ...
    def local_backward_input(
        self, dy: Real, weight: Real, dx: Real, phases_d: Records, phases_h: Records, phases_w: Records, threads: int
    ) -> None: ...
    def local_backward_weight(self, x: Real, dy: Real, dweight: Real, axes: Records, threads: int) -> None: ...

    def max_pool_forward(self, x: Real, y: Real, d: Records, h: Records, w: Records, threads: int) -> None: ...
    def max_pool_backward(
        self, dy: Real, x: Real, dx: Real, d: Records, h: Records, w: Records, threads: int
    ) -> None: ...
    def avg_pool_forward(self, x: Real, y: Real, d: Records, h: Records, w: Records, threads: int) -> None: ...
    def avg_pool_backward(self, dy: Real, dx: Real, d: Records, h: Records, w: Records, threads: int) -> None: ...

    def activation_forward(self, x: Real, y: Real, name: str, a: float, b: float, threads: int) -> None: ...
    def activation_backward(
        self, dy: Real, x: Real, dx: Real, name: str, a: float, b: float, threads: int
    ) -> None: ...

    def channel_moments(self, x: Real, origin: Real, partial: Sums, chunk: int, threads: int) -> None: ...
    def channel_products(self, dy: Real, x: Real, mean: Real, partial: Sums, chunk: int, threads: int) -> None: ...
    def channel_affine(self, x: Real, tables: Real, y: Real, chunk: int, threads: int) -> None: ...
    def channel_affine_backward(
        self, dy: Real, x: Real, tables: Real, dx: Real, chunk: int, threads: int
    ) -> None: ...
# fmt: on
