"""Positions of the maxima in their windows: what a forward pass keeps for the backward pass."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv.functional._pool_plan import PoolPlan


class PoolIndices:
    """The indices of maxima, as `max_pool_with_indices` and `adaptive_max_pool_with_indices` return them.

    Attributes
    ----------
    numbers : array (N, *output, C), uint8, uint16 or int32, read-only
        The number of a pixel in its window, row by row; what hangs over the border is counted too.
    x_shape : tuple of int
        The shape of what was pooled, (N, *spatial, C).
    plan : PoolPlan
        The windows.
    """

    __slots__ = ("numbers", "plan", "x_shape")

    def __init__(self, numbers: NDArray[Any], plan: PoolPlan, x_shape: tuple[int, ...]) -> None:
        numbers.flags.writeable = False  # the backward pass writes there
        self.numbers = numbers
        self.plan = plan
        self.x_shape = x_shape

    @property
    def nbytes(self) -> int:
        """The bytes that the numbers take."""
        return self.numbers.nbytes

    def pixels(self) -> NDArray[np.int64]:
        """Return which pixel of its image each maximum is, row by row: (N, *output, C), -1 for a window without a pixel."""
        rank = self.numbers.ndim - 2
        axes = self.plan.windows[-rank:]
        taps = np.unravel_index(self.numbers, [axis.window_taps for axis in axes])
        pixels = np.zeros(self.numbers.shape, np.int64)
        inside = np.ones(self.numbers.shape, bool)
        for at, (axis, tap) in enumerate(zip(axes, taps, strict=True), 1):
            first = (np.arange(axis.out) * axis.stride + axis.begin) // axis.parts
            along = np.expand_dims(first, [i for i in range(rank + 2) if i != at]) + tap * axis.step
            inside &= (along >= 0) & (along < axis.size)
            pixels = pixels * axis.size + along
        return np.where(inside, pixels, -1)

    def __repr__(self) -> str:
        return f"PoolIndices of {self.numbers.shape} maxima in {self.x_shape}"
