"""Windows summed up to the image that they were cut from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fastconv.arguments import ntuple
from fastconv.geometry import conv_output, padding_pairs
from fastconv.layers.base import Backward, Layer
from fastconv.layers.checks import require_floats, with_batch
from fastconv.layers.context import Context
from fastconv.layers.symbol import Shape
from fastconv.layers.traits import Traits
from fastconv.registry import layers


@layers.register("Fold")
class Fold(Layer):
    """Windows to an image, added where they overlap: ``(N, windows, C * prod(kernel))`` to ``(N, *size, C)``.

    The windows are those of a convolution over the image, row-major; of each there is channel after channel, the taps of one
    after the other, as in PyTorch's `Fold` and ONNX's `Col2Im`. What falls on the padding is dropped.

    Parameters
    ----------
    size : tuple of int
        Of the image, one to three axes.
    kernel : int or tuple of int
    stride, dilation : int or tuple of int
    padding : int, tuple of int, or tuple of pairs of int

    Raises
    ------
    ValueError
        Where the windows are not as many, or not as large, as the size says.

    Examples
    --------
    >>> import numpy as np
    >>> Fold((4,), 2)(np.ones((1, 3, 2))).ravel()
    array([1., 2., 2., 1.])
    """

    traits = Traits(linear=True)

    @classmethod
    def examples(cls) -> Sequence[Any]:
        return [(cls((4, 5), (2, 3), stride=(1, 2), padding=1), [(15, 12)])]

    def __init__(
        self, size: Sequence[int], kernel: Any, *, stride: Any = 1, padding: Any = 0, dilation: Any = 1
    ) -> None:
        if not isinstance(size, (tuple, list)) or not 1 <= len(size) <= 3:
            raise TypeError(f"size must be a tuple of one to three integers, got {size!r}")
        rank = len(size)
        self.size, self.kernel = ntuple(tuple(size), rank, "size"), ntuple(kernel, rank, "kernel")
        self.stride, self.dilation = ntuple(stride, rank, "stride"), ntuple(dilation, rank, "dilation")
        self.padding = padding_pairs(padding, self.size, self.kernel, self.stride, self.dilation)
        self.windows = conv_output(self.size, self.kernel, self.stride, self.padding, self.dilation)

    def output_shape(self, shape: Shape) -> Shape:
        windows, taps = math.prod(self.windows), math.prod(self.kernel)
        if len(shape) != 2 or shape[0] != windows or shape[1] % taps:
            raise ValueError(
                f"Fold takes (N, {windows}, C * {taps}), the windows of an image of size {self.size}, got {with_batch(shape)}"
            )
        return (*self.size, shape[1] // taps)

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        *_, channels = self.output_shape(x.shape[1:])
        require_floats(x)
        before = x.shape
        parts = x.reshape(len(x), *self.windows, channels, *self.kernel)
        padded = [n + sum(pair) for n, pair in zip(self.size, self.padding, strict=True)]
        y = np.zeros((len(x), *padded, channels), x.dtype)
        for tap, places in self._taps():
            y[places] += parts[tap]
        inside = (slice(None), *(slice(a, a + n) for n, (a, _) in zip(self.size, self.padding, strict=True)))

        def backward(dy: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
            wide = np.pad(dy, ((0, 0), *self.padding, (0, 0)))
            dx = np.empty(parts.shape, dy.dtype)
            for tap, places in self._taps():
                dx[tap] = wide[places]
            return dx.reshape(before), {}

        return np.ascontiguousarray(y[inside]), backward

    def _taps(self) -> Iterator[tuple[Any, Any]]:
        """Yield of every tap where it lies in the windows, and where in the padded image."""
        for tap in np.ndindex(*self.kernel):
            lines = zip(tap, self.dilation, self.stride, self.windows, strict=True)
            yield (
                (..., *tap),
                (slice(None), *(slice(t * d, t * d + (count - 1) * s + 1, s) for t, d, s, count in lines)),
            )

    def window(self, *shapes: Shape) -> None:
        return None
