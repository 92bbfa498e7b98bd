"""Pooling: the largest value or the mean of each window, channel by channel."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from fastconv import functional as F
from fastconv.arguments import boolean, ntuple
from fastconv.geometry import effective_kernel, padding_pairs, pool_output
from fastconv.layers.base import Backward, Layer
from fastconv.layers.checks import spatial_shape
from fastconv.layers.context import Context
from fastconv.layers.symbol import Shape
from fastconv.layers.traits import Traits
from fastconv.registry import layers

_MAX = Traits(kinks="ties")
_MEAN = Traits(linear=True)


class Pool(Layer):
    """Windows over images; a subclass says how one is summarized."""

    rank: int
    dilation: tuple[int, ...]

    def window_arguments(self, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any) -> None:
        """Keep the arguments of the window, checked."""
        self.kernel = ntuple(kernel_size, self.rank, "kernel_size")
        self.stride = self.kernel if stride is None else ntuple(stride, self.rank, "stride")
        self.dilation = ntuple(dilation, self.rank, "dilation")
        self.padding = padding
        self.ceil_mode = boolean(ceil_mode, "ceil_mode")
        padding_pairs(padding, self.kernel, self.kernel, self.stride, self.dilation)

    @property
    def windows(self) -> dict[str, Any]:
        """What the functions of `functional` take as keywords, beside the kernel's size."""
        return {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "ceil_mode": self.ceil_mode,
        }

    def output_shape(self, shape: Shape) -> Shape:
        size = spatial_shape(shape, self.rank)
        pairs = padding_pairs(self.padding, size, self.kernel, self.stride, self.dilation)
        return (*pool_output(size, self.kernel, self.stride, pairs, self.dilation, self.ceil_mode), shape[-1])

    def window(self, *shapes: Shape) -> list[tuple[Any, Any]]:
        spans = (effective_kernel(k, d) for k, d in zip(self.kernel, self.dilation, strict=True))
        return list(zip(spans, self.stride, strict=True))


class MaxPool(Pool):
    """The largest value of each window."""

    traits = _MAX

    def __init__(
        self,
        kernel_size: Any = 2,
        stride: Any = None,
        *,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
    ) -> None:
        self.window_arguments(kernel_size, stride, padding, dilation, ceil_mode)

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        spatial_shape(x.shape[1:], self.rank)
        arguments = self.windows
        if ctx.inference:  # nobody comes back, so nothing is kept
            return F.max_pool(x, self.kernel, **arguments), lambda dy: (
                F.max_pool_backward(dy, x, self.kernel, **arguments),
                {},
            )
        y, indices = F.max_pool_with_indices(x, self.kernel, **arguments)
        return y, lambda dy: (F.max_pool_with_indices_backward(dy, indices), {})


class _AvgPool(Pool):
    traits = _MEAN

    def __init__(
        self,
        kernel_size: Any = 2,
        stride: Any = None,
        *,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        count_include_pad: bool = False,
    ) -> None:
        self.window_arguments(kernel_size, stride, padding, dilation, ceil_mode)
        self.count_include_pad = boolean(count_include_pad, "count_include_pad")

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        spatial_shape(x.shape[1:], self.rank)
        arguments = {**self.windows, "count_include_pad": self.count_include_pad}
        y, shape = F.avg_pool(x, self.kernel, **arguments), x.shape  # the backward pass needs the shape, not the values
        return y, lambda dy: (F.avg_pool_backward(dy, shape, self.kernel, **arguments), {})


@layers.register("MaxPool1d")
class MaxPool1d(MaxPool):
    """The largest value of each window of ``(N, L, C)``; the arguments are those of `MaxPool2d`.

    >>> import numpy as np
    >>> MaxPool1d(2)(np.array([[[1.0], [5.0], [2.0], [3.0]]], np.float32))[0, :, 0]
    array([5., 3.], dtype=float32)
    """

    rank = 1


@layers.register("MaxPool2d")
class MaxPool2d(MaxPool):
    """The largest value of each window of ``(N, H, W, C)``, for each channel.

    Parameters
    ----------
    kernel_size : int or tuple of int
        Pixels of the window along each spatial axis.
    stride : int or tuple of int, optional
        Pixels between windows; the kernel's size where it is not given.
    padding : int, tuple of int, tuple of (before, after), "same" or "valid"
        How far windows may reach beyond the border, in pixels; the padding is never the maximum.
    dilation : int or tuple of int
        Pixels between the taps of a window.
    ceil_mode : bool
        Whether a last window may hang over the end, so that no pixel is left out.

    See Also
    --------
    fastconv.functional.max_pool : the same as a function, with what happens to ties and NaN.

    Examples
    --------
    >>> import numpy as np
    >>> MaxPool2d(3, 2, padding=1)(np.zeros((1, 28, 28, 4), np.float32)).shape
    (1, 14, 14, 4)
    """

    rank = 2


@layers.register("MaxPool3d")
class MaxPool3d(MaxPool):
    """The largest value of each window of ``(N, D, H, W, C)``; the arguments are those of `MaxPool2d`.

    >>> import numpy as np
    >>> MaxPool3d((1, 2, 2))(np.zeros((1, 4, 8, 8, 2), np.float32)).shape
    (1, 4, 4, 4, 2)
    """

    rank = 3


@layers.register("AvgPool1d")
class AvgPool1d(_AvgPool):
    """The mean of each window of ``(N, L, C)``; the arguments are those of `AvgPool2d`.

    >>> import numpy as np
    >>> AvgPool1d(2)(np.array([[[1.0], [5.0], [2.0], [3.0]]], np.float32))[0, :, 0]
    array([3. , 2.5], dtype=float32)
    """

    rank = 1


@layers.register("AvgPool2d")
class AvgPool2d(_AvgPool):
    """The mean of each window of ``(N, H, W, C)``, for each channel.

    Parameters
    ----------
    kernel_size, stride, padding, dilation, ceil_mode
        As in `MaxPool2d`.
    count_include_pad : bool
        Whether the mean of a window that hangs over the border counts what is outside as zeros.

    Examples
    --------
    >>> import numpy as np
    >>> AvgPool2d(2)(np.zeros((1, 28, 28, 4), np.float32)).shape
    (1, 14, 14, 4)
    """

    rank = 2


@layers.register("AvgPool3d")
class AvgPool3d(_AvgPool):
    """The mean of each window of ``(N, D, H, W, C)``; the arguments are those of `AvgPool2d`.

    >>> import numpy as np
    >>> AvgPool3d(2)(np.zeros((1, 4, 8, 8, 2), np.float32)).shape
    (1, 2, 4, 4, 2)
    """

    rank = 3


def _reduce_avg(ctx: Context, x: np.ndarray, size: Shape) -> tuple[np.ndarray, Backward]:
    shape = x.shape
    return F.adaptive_avg_pool(x, size), lambda dy: (F.adaptive_avg_pool_backward(dy, shape, size), {})


def _reduce_max(ctx: Context, x: np.ndarray, size: Shape) -> tuple[np.ndarray, Backward]:
    if ctx.inference:
        return F.adaptive_max_pool(x, size), lambda dy: (F.adaptive_max_pool_backward(dy, x, size), {})
    y, indices = F.adaptive_max_pool_with_indices(x, size)
    return y, lambda dy: (F.adaptive_max_pool_with_indices_backward(dy, indices), {})


class _AdaptivePool(Layer):
    rank: int
    reduce: ClassVar[Any]

    def __init__(self, output_size: Any) -> None:
        self.output_size = ntuple(output_size, self.rank, "output_size")

    def output_shape(self, shape: Shape) -> Shape:
        spatial_shape(shape, self.rank)
        return (*self.output_size, shape[-1])

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        spatial_shape(x.shape[1:], self.rank)
        result: tuple[np.ndarray, Backward] = self.reduce(ctx, x, self.output_size)
        return result

    def window(self, *shapes: Shape) -> list[tuple[Any, Any]]:
        sizes = zip(shapes[0][:-1], self.output_size, strict=True)
        return [(-(-size // out), max(1, size // out)) for size, out in sizes]


@layers.register("AdaptiveAvgPool1d")
class AdaptiveAvgPool1d(_AdaptivePool):
    """The mean of `output_size` windows that cover ``(N, L, C)``, whatever its length.

    >>> import numpy as np
    >>> AdaptiveAvgPool1d(2)(np.arange(5, dtype=np.float32).reshape(1, 5, 1))[0, :, 0]
    array([1., 3.], dtype=float32)
    """

    rank, reduce, traits = 1, staticmethod(_reduce_avg), _MEAN


@layers.register("AdaptiveAvgPool2d")
class AdaptiveAvgPool2d(_AdaptivePool):
    """The mean of `output_size` windows (one number, or one for each axis) that cover ``(N, H, W, C)``, whatever its size.

    Window ``i`` of ``n`` reads the pixels from ``floor(i * H / n)`` to before ``ceil((i + 1) * H / n)``.

    >>> import numpy as np
    >>> AdaptiveAvgPool2d((2, 3))(np.zeros((1, 9, 9, 4), np.float32)).shape
    (1, 2, 3, 4)
    """

    rank, reduce, traits = 2, staticmethod(_reduce_avg), _MEAN


@layers.register("AdaptiveAvgPool3d")
class AdaptiveAvgPool3d(_AdaptivePool):
    """The mean of `output_size` windows that cover ``(N, D, H, W, C)``; see `AdaptiveAvgPool2d`.

    >>> import numpy as np
    >>> AdaptiveAvgPool3d(2)(np.zeros((1, 3, 4, 5, 2), np.float32)).shape
    (1, 2, 2, 2, 2)
    """

    rank, reduce, traits = 3, staticmethod(_reduce_avg), _MEAN


@layers.register("AdaptiveMaxPool1d")
class AdaptiveMaxPool1d(_AdaptivePool):
    """The largest value of `output_size` windows that cover ``(N, L, C)``, whatever its length.

    >>> import numpy as np
    >>> AdaptiveMaxPool1d(2)(np.arange(5, dtype=np.float32).reshape(1, 5, 1))[0, :, 0]
    array([2., 4.], dtype=float32)
    """

    rank, reduce, traits = 1, staticmethod(_reduce_max), _MAX


@layers.register("AdaptiveMaxPool2d")
class AdaptiveMaxPool2d(_AdaptivePool):
    """The largest value of `output_size` windows that cover ``(N, H, W, C)``; see `AdaptiveAvgPool2d`.

    >>> import numpy as np
    >>> AdaptiveMaxPool2d(1)(np.zeros((1, 9, 9, 4), np.float32)).shape
    (1, 1, 1, 4)
    """

    rank, reduce, traits = 2, staticmethod(_reduce_max), _MAX


@layers.register("AdaptiveMaxPool3d")
class AdaptiveMaxPool3d(_AdaptivePool):
    """The largest value of `output_size` windows that cover ``(N, D, H, W, C)``; see `AdaptiveAvgPool2d`.

    >>> import numpy as np
    >>> AdaptiveMaxPool3d(2)(np.zeros((1, 3, 4, 5, 2), np.float32)).shape
    (1, 2, 2, 2, 2)
    """

    rank, reduce, traits = 3, staticmethod(_reduce_max), _MAX


class _GlobalPool(Layer):
    reduce: ClassVar[Any]

    def __init__(self, *, keepdims: bool = False) -> None:
        self.keepdims = boolean(keepdims, "keepdims")

    def output_shape(self, shape: Shape) -> Shape:
        size = spatial_shape(shape)
        return (*(1 for _ in size), shape[-1]) if self.keepdims else (shape[-1],)

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        shape = self.output_shape(x.shape[1:])
        y, reduce_backward = self.reduce(ctx, x, (1,) * (x.ndim - 2))
        pooled = y.shape
        return y.reshape(len(x), *shape), lambda dy: reduce_backward(dy.reshape(pooled))

    def window(self, *shapes: Shape) -> None:
        return None


@layers.register("GlobalAvgPool")
class GlobalAvgPool(_GlobalPool):
    """The mean over all pixels: ``(N, *spatial, C)`` to ``(N, C)``, or to ``(N, 1, ..., 1, C)`` with `keepdims`.

    >>> import numpy as np
    >>> GlobalAvgPool()(np.ones((2, 7, 7, 64), np.float32)).shape
    (2, 64)
    """

    reduce, traits = staticmethod(_reduce_avg), _MEAN


@layers.register("GlobalMaxPool")
class GlobalMaxPool(_GlobalPool):
    """The largest of all pixels: ``(N, *spatial, C)`` to ``(N, C)``, or to ``(N, 1, ..., 1, C)`` with `keepdims`.

    >>> import numpy as np
    >>> GlobalMaxPool(keepdims=True)(np.ones((2, 7, 7, 64), np.float32)).shape
    (2, 1, 1, 64)
    """

    reduce, traits = staticmethod(_reduce_max), _MAX
