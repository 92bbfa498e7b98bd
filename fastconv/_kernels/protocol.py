"""The kernels' signatures, for type checkers: one protocol that every variant fulfils (a test compares them).

Formulas and axes stand with the kernels, in the ``.pxi`` files. All arrays are C contiguous and of the module's dtype; ``axes``
and ``phases`` are int64 records of `fastconv.geometry.Axis`, for a pooling of `fastconv.geometry.PoolAxis`, ``spans`` those of
`fastconv.functional._spans.Side`.
"""

from __future__ import annotations

from typing import Any, Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray

Real = NDArray[Any]
Reals = list[NDArray[Any]]
Records = NDArray[np.int64]
Sums = NDArray[np.float64]
Places = NDArray[Any]  # uint8, uint16 or int32


class Description(TypedDict):
    """What a variant was compiled to: bytes of a vector, rows and columns of the register tile, whether it has OpenMP."""

    vector_bytes: int
    tile: tuple[int, int]
    openmp: bool
    strassen: bool


# fmt: off
class Kernels(Protocol):
    """A module of kernels: one instruction set, one dtype."""

    def describe(self) -> Description: ...
    def api(self) -> object: ...

    def conv_forward(
        self, x: Real, weight: Real, bias: Real | None, y: Real, axes: Records, batch: int, channels: int, outputs: int,
        groups: int, tile_h: int, tile_w: int, threads: int
    ) -> None: ...
    def conv_frozen(
        self, x: Real, weight: Real | None, packed: Any, bias: Real | None, residual: Real | None, y: Real, first: int,
        activation: tuple[str, float, float, Real | None] | None, parts: int, axes: Records, batch: int, channels: int,
        outputs: int, groups: int, tile_h: int, tile_w: int, threads: int
    ) -> None: ...
    def packed_items(
        self, axes: Records, batch: int, channels: int, outputs: int, groups: int, tile_h: int, tile_w: int
    ) -> int: ...
    def pack_weight(
        self, weight: Real, packed: Real, back: bool, axes: Records, batch: int, channels: int, outputs: int, groups: int,
        tile_h: int, tile_w: int, threads: int
    ) -> bool: ...
    def conv_backward_input(
        self, dy: Real, weight: Real, bias: Real | None, dx: Real, first: int,
        axes: Records, phases_d: Records, phases_h: Records, phases_w: Records,
        batch: int, channels: int, outputs: int, groups: int, tile_h: int, tile_w: int, threads: int
    ) -> None: ...
    def conv_backward_weight(
        self, x: Real, dy: Real, dweight: Real, axes: Records, batch: int, channels: int, outputs: int, groups: int,
        enough: int, tile_h: int, tile_w: int, threads: int
    ) -> None: ...
    def column_sums(self, x: Real, sums: Real, threads: int) -> None: ...

    def depthwise(
        self, x: Real, weight: Real, bias: Real | None, y: Real,
        phases_d: Records, phases_h: Records, phases_w: Records, adjoint: bool,
        residual: Real | None, activation: tuple[str, float, float, Real | None] | None, threads: int
    ) -> None: ...
    def mobile_block(
        self, x: Real, expansion: tuple[Any, ...] | None, expanded: tuple[str, float, float, Real | None] | None,
        depthwise: tuple[Any, ...] | None, gate: Real | None, between: tuple[str, float, float, Real | None] | None,
        projection: tuple[Any, ...] | None, residual: Real | None,
        activation: tuple[str, float, float, Real | None] | None, y: Real, batch: int, threads: int
    ) -> None: ...
    def depthwise_backward_weight(
        self, x: Real, dy: Real, dweight: Real, axes: Records, batch: int, channels: int, parts: int, threads: int
    ) -> None: ...

    def local_forward(self, x: Real, weight: Real, y: Real, axes: Records, threads: int) -> None: ...
    def local_backward_input(
        self, dy: Real, weight: Real, dx: Real, phases_d: Records, phases_h: Records, phases_w: Records, threads: int
    ) -> None: ...
    def local_backward_weight(self, x: Real, dy: Real, dweight: Real, axes: Records, threads: int) -> None: ...

    def max_pool_forward(
        self, x: Real, x_first: int, y: Real, y_first: int, axes: Records, batch: int, channels: int, threads: int
    ) -> None: ...
    def max_pool_places(
        self, x: Real, y: Real, places: Places, axes: Records, batch: int, channels: int, threads: int
    ) -> None: ...
    def max_pool_backward(
        self, dy: Real, places: Places, dx: Real, axes: Records, batch: int, channels: int, threads: int
    ) -> None: ...
    def avg_pool_forward(
        self, x: Real, x_first: int, y: Real, y_first: int, axes: Records, batch: int, channels: int, threads: int
    ) -> None: ...
    def avg_pool_backward(self, dy: Real, dx: Real, axes: Records, batch: int, channels: int, threads: int) -> None: ...

    def activation_forward(self, x: Real, y: Real, name: str, a: float, b: float, threads: int) -> None: ...
    def activation_backward(
        self, dy: Real, x: Real, dx: Real, name: str, a: float, b: float, threads: int
    ) -> None: ...

    def activated_sum(
        self, x: Real, residual: Real, y: Real, name: str | None, a: float, b: float, threads: int
    ) -> None: ...
    def prelu_forward(self, x: Real, slope: Real, y: Real, threads: int) -> None: ...

    def norm_forward(
        self, x: Real, scale: Real, bias: Real, residual: Real | None, y: Real, mean: Real | None, var: Real | None,
        given: bool, relu: bool, sets: int, groups: int, eps: float, threads: int
    ) -> None: ...
    def norm_backward(
        self, dy: Real, x: Real, scale: Real, relu_bias: Real | None, mean: Real | None, var: Real | None,
        dx: Real, dscale: Real, dbias: Real, through: bool, sets: int, groups: int, eps: float, threads: int
    ) -> None: ...

    def norm_pool_forward(
        self, x: Real, scale: Real, bias: Real, y: Real, places: Places, sources: Real, mean: Real, var: Real,
        given: bool, axes: Records, batch: int, eps: float, threads: int
    ) -> None: ...
    def norm_pool_backward(
        self, dy: Real, places: Places, sources: Real, x: Real, scale: Real, bias: Real, mean: Real, var: Real,
        dx: Real, dscale: Real, dbias: Real, through: bool, axes: Records, batch: int, eps: float, threads: int
    ) -> None: ...

    def layer_norm_forward(
        self, x: Real, scale: Real, bias: Real, y: Real, eps: float, centred: bool, floor: float, threads: int
    ) -> None: ...
    def layer_norm_backward(
        self, dy: Real, x: Real, scale: Real, dx: Real, partial: Sums, eps: float, threads: int
    ) -> None: ...
    def huber(
        self, x: Real, t: Real, sums: Sums | None, dx: Real | None, bound: float, factor: float, threads: int
    ) -> None: ...
    def local_response_norm(
        self, x: Real, y: Real, items: int, size: int, alpha: float, beta: float, bias: float, threads: int
    ) -> None: ...
    def softmax_forward(self, x: Real, y: Real, items: int, inner: int, logarithm: bool, threads: int) -> None: ...
    def softmax_backward(
        self, dy: Real, y: Real, dx: Real, items: int, inner: int, logarithm: bool, threads: int
    ) -> None: ...

    def cross_entropy_forward(
        self, x: Real, labels: NDArray[np.int64], losses: Sums, items: int, smoothing: float, threads: int
    ) -> int: ...
    def cross_entropy_backward(
        self, x: Real, labels: NDArray[np.int64], dx: Real, items: int, smoothing: float, share: float, threads: int
    ) -> int: ...

    def dropout(self, x: Real, y: Real, key: int, rate: float, threads: int) -> None: ...

    def sgd_step(
        self, params: Reals, grads: Reals, velocities: Reals | None, factor: float, limit: float, decay: float,
        rate: float, momentum: float, nesterov: bool, threads: int
    ) -> None: ...
    def adam_step(
        self, params: Reals, grads: Reals, means: Reals, squares: Reals, factor: float, limit: float, decay: float,
        keep: float, rate: float, b1: float, b2: float, eps: float, threads: int
    ) -> None: ...
    def rmsprop_step(
        self, params: Reals, grads: Reals, squares: Reals, velocities: Reals | None,
        factor: float, limit: float, decay: float, rate: float, stay: float, eps: float, momentum: float, threads: int
    ) -> None: ...

    def resize(self, x: Real, y: Real, spans: Records, weights: Real, threads: int) -> None: ...

    def keep_boxes(self, corners: NDArray[np.float64], overlap: float, kept: Records) -> int: ...

    def transpose(self, x: Real, y: Real, batch: int, rows: int, cols: int, threads: int) -> None: ...
    def join_columns(self, xs: list[Real], y: Real, rows: int, threads: int) -> None: ...
    def copy_columns(
        self, x: Real, x_first: int, y: Real, y_first: int, rows: int, columns: int, threads: int
    ) -> None: ...
    def scale_columns(
        self, x: Real, first: int, factor: Real, shift: Real | None, y: Real, channels: int, relu: bool, threads: int
    ) -> None: ...
    def pick_channels(self, x: Real, index: Records, y: Real, channels: int, threads: int) -> None: ...

    def keep_apart(self, threads: int) -> None: ...
    def multiply_add_peak(self, y: Real, rounds: int, threads: int) -> None: ...
# fmt: on
