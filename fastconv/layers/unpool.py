"""Max pooling that also returns the positions of maxima, and the layer that puts values back there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv import functional as F
from fastconv.arguments import ntuple
from fastconv.geometry import padding_pairs, pool_output
from fastconv.layers.base import Backward, Layer
from fastconv.layers.checks import sizes, spatial_shape, with_batch
from fastconv.layers.context import Context
from fastconv.layers.symbol import Shape
from fastconv.layers.traits import Traits
from fastconv.registry import layers

Gradients = tuple[Any, dict[str, np.ndarray]]


@layers.register("MaxPoolWithIndices")
class MaxPoolWithIndices(Layer):
    """The largest value of each window of ``(N, *spatial, C)``, and where it is, int64.

    An index counts through the numbers of its image, channel by channel, row by row: ``(c * H + h) * W + w``. The arguments are
    those of `fastconv.layers.MaxPool2d`, for 1 to 3 axes.

    Parameters
    ----------
    column_major : bool
        Whether indices count column by column.

    Examples
    --------
    >>> import numpy as np
    >>> values, indices = MaxPoolWithIndices([2])(np.array([[[1.0], [5.0], [2.0], [3.0]]]))
    >>> values[0, :, 0], indices[0, :, 0]
    (array([5., 3.]), array([1, 3]))
    """

    traits = Traits(discrete=True, kinks="ties")

    def __init__(
        self,
        kernel_size: Sequence[int],
        stride: Any = None,
        *,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        column_major: bool = False,
    ) -> None:
        self.kernel = sizes(kernel_size, "kernel_size")
        rank = len(self.kernel)
        self.stride = self.kernel if stride is None else ntuple(stride, rank, "stride")
        self.dilation = ntuple(dilation, rank, "dilation")
        self.padding = padding
        self.ceil_mode = bool(ceil_mode)
        self.column_major = bool(column_major)
        padding_pairs(padding, self.kernel, self.kernel, self.stride, self.dilation)

    @classmethod
    def examples(cls) -> Sequence[Layer]:
        return [cls([2]), cls([2, 3], 1, padding=1)]

    def output_shape(self, shape: Shape) -> tuple[Shape, Shape]:
        size = spatial_shape(shape, len(self.kernel))
        pairs = padding_pairs(self.padding, size, self.kernel, self.stride, self.dilation)
        out = (*pool_output(size, self.kernel, self.stride, pairs, self.dilation, self.ceil_mode), shape[-1])
        return out, out

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], Backward]:
        self.output_shape(x.shape[1:])
        size = x.shape[1:-1]
        arguments: dict[str, Any] = {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "ceil_mode": self.ceil_mode,
        }
        values, indices = F.max_pool_with_indices(x, self.kernel, **arguments)
        inside = np.unravel_index(np.maximum(indices.pixels(), 0), size)
        order = size[::-1] if self.column_major else size
        pixels = np.ravel_multi_index(inside[::-1] if self.column_major else inside, order)
        numbers = np.arange(x.shape[-1]) * math.prod(size) + pixels

        def backward(dy: tuple[np.ndarray, np.ndarray]) -> Gradients:
            return F.max_pool_with_indices_backward(dy[0], indices), {}

        return (values, numbers.astype(np.int64)), backward

    def window(self, *shapes: Shape) -> None:
        return None


@layers.register("MaxUnpool")
class MaxUnpool(Layer):
    """Write values where the maxima were: ``(N, *pooled, C)`` and their positions to ``(N, *size, C)``, zeros elsewhere.

    The indices are integers and count as `MaxPoolWithIndices` says, in images of `counted` pixels (by default `size`); which
    image of the batch they name does not matter. Where several meet at one position, as where windows overlap, the last stays.

    >>> import numpy as np
    >>> MaxUnpool([4])(np.array([[[5.0], [3.0]]]), np.array([[[1], [3]]]))[0, :, 0]
    array([0., 5., 0., 3.])
    """

    traits = Traits(linear=True, integers=(1,), domain=(0.0, 1.0))

    def __init__(self, size: Sequence[int], *, counted: Sequence[int] | None = None) -> None:
        self.size = sizes(size, "size")
        self.counted = self.size if counted is None else ntuple(sizes(counted, "counted"), len(self.size), "counted")

    @classmethod
    def examples(cls) -> Sequence[Any]:
        return [(cls([4]), [(2, 3), (2, 3)])]

    def output_shape(self, *shapes: Shape) -> Shape:
        if len(shapes) != 2 or shapes[0] != shapes[1] or len(shapes[0]) != len(self.size) + 1:
            raise ValueError(
                f"MaxUnpool takes images of {len(self.size)} axes and indices of the same shape, "
                f"got {' and '.join(map(with_batch, shapes))}"
            )
        return (*self.size, shapes[0][-1])

    def forward(self, ctx: Context, x: np.ndarray, indices: np.ndarray) -> tuple[np.ndarray, Backward]:
        out = (len(x), *self.output_shape(x.shape[1:], indices.shape[1:]))
        if indices.dtype.kind not in "iu" or len(indices) != len(x):
            raise TypeError(f"the indices must be integers, as many as x, got {indices.dtype} of shape {indices.shape}")
        pixels = indices % math.prod(self.counted)
        inside = np.unravel_index(pixels, self.counted)
        if any(at.max(initial=0) >= n for at, n in zip(inside, self.size, strict=True)):
            raise ValueError(f"the indices must lie in an image of {self.size} pixels")
        samples = np.arange(len(x)).reshape(-1, *[1] * (x.ndim - 1))
        at = (samples, *inside, np.arange(x.shape[-1]))
        y = np.zeros(out, x.dtype)
        y[at] = x

        def backward(dy: np.ndarray) -> Gradients:
            last = np.empty(out, np.intp)  # which of those that meet at one position has stayed
            last[at] = numbers = np.arange(x.size).reshape(x.shape)
            return (np.where(last[at] == numbers, dy[at], 0), None), {}

        return y, backward

    def window(self, *shapes: Shape) -> None:
        return None
