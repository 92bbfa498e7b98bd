"""The sliding window: which part of the padded input each output sees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastconv import geometry
from fastconv.arguments import ntuple

Index = tuple[Any, ...]
Ints = int | tuple[int, ...]


class Sliding(NamedTuple):
    """Windows of `kernel` taps sliding over an image; one number (or pair, for `padding`) for each spatial axis."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: geometry.Pairs
    dilation: tuple[int, ...]
    output: tuple[int, ...]

    @classmethod
    def over(cls, size: Sequence[int], kernel: Sequence[int], stride: Any, padding: Any, dilation: Any) -> Sliding:
        """Return the windows over an image of `size`, from arguments as the user writes them.

        >>> Sliding.over((5,), (3,), stride=2, padding="same", dilation=1).output
        (3,)
        """
        rank = len(size)
        kernel = tuple(kernel)
        stride = ntuple(stride, rank, "stride")
        dilation = ntuple(dilation, rank, "dilation")
        pairs = geometry.padding_pairs(padding, size, kernel, stride, dilation)
        return cls(kernel, stride, pairs, dilation, geometry.conv_output(size, kernel, stride, pairs, dilation))

    def windows(self) -> Iterator[tuple[Index, Index]]:
        """Yield, for each output position, its index and the index of its window in the padded input.

        Both are ready to use: ``y[at]`` is ``(N, C)``, ``padded[window]`` is ``(N, *kernel, C)``.

        >>> for at, window in Sliding.over((4,), (2,), stride=2, padding=0, dilation=1).windows():
        ...     print(at[1], window[1])
        0 slice(0, 2, 1)
        1 slice(2, 4, 1)
        """
        batch = slice(None)
        for position in np.ndindex(*self.output):
            window = (
                slice(p * s, p * s + (k - 1) * d + 1, d)
                for p, k, s, d in zip(position, self.kernel, self.stride, self.dilation, strict=True)
            )
            yield (batch, *position), (batch, *window)

    def taps(self) -> Iterator[tuple[Index, Index]]:
        """Yield, for each tap of the kernel, its index and the index of what it meets in the padded input, in all windows.

        ``weight[tap]`` is ``(C, O)``, ``padded[met]`` is ``(N, *output, C)``.

        >>> for tap, met in Sliding.over((4,), (2,), stride=2, padding=0, dilation=1).taps():
        ...     print(tap[0], met[1])
        0 slice(0, 3, 2)
        1 slice(1, 4, 2)
        """
        for tap in np.ndindex(*self.kernel):
            met = (
                slice(r * d, r * d + (p - 1) * s + 1, s)
                for r, p, s, d in zip(tap, self.output, self.stride, self.dilation, strict=True)
            )
            yield tap, (slice(None), *met)

    def pad(self, x: np.ndarray) -> np.ndarray:
        """Return `x` with zeros around it: ``1234 -> 00123400`` for padding 2."""
        return np.pad(x, ((0, 0), *self.padding, (0, 0)))

    def crop(self, padded: np.ndarray) -> np.ndarray:
        """Return `padded` without the padding, the adjoint of `pad`: ``00123400 -> 1234``."""
        sizes = padded.shape[1:-1]
        inside = (slice(before, n - after) for n, (before, after) in zip(sizes, self.padding, strict=True))
        index = (slice(None), *inside)
        return padded[index]

    def padded_size(self, size: Sequence[int]) -> tuple[int, ...]:
        """Return the spatial shape of an image of `size` after `pad`."""
        return tuple(n + before + after for n, (before, after) in zip(size, self.padding, strict=True))
