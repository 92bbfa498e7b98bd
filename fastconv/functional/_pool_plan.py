"""The windows of a pooling as the kernels take them: computed and checked once for each shape and set of arguments."""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastconv import geometry
from fastconv.arguments import boolean, check_elements, ntuple
from fastconv.functional._validate import flat_arguments, float_array, require_shape


class PoolPlan(NamedTuple):
    """A pooling of arrays of one shape: the shape of its output, and the windows as the kernels take them."""

    y_shape: tuple[int, ...]
    sizes: tuple[int, int]  # N, C
    axes: NDArray[np.int64]  # (3, 9): a `geometry.PoolAxis` each
    reads: int
    index_dtype: np.dtype | None  # of the number of a pixel in its window; None where a window has too many

    @property
    def windows(self) -> tuple[geometry.PoolAxis, ...]:
        """The windows along each of three axes."""
        return tuple(geometry.PoolAxis(*axis) for axis in self.axes.tolist())

    @property
    def lines(self) -> geometry.PoolAxis:
        """The windows along the lines of images."""
        return geometry.PoolAxis(*self.axes[1].tolist())

    def of_lines(self, first: int, end: int, x_first: int, x_end: int) -> PoolPlan:
        """Return the plan of lines ``first .. end - 1`` of the output, from the lines of x that they need and no others."""
        axes, axis = self.axes.copy(), self.lines
        moved = first * axis.stride - x_first * axis.parts
        axes[1] = axis._replace(
            size=x_end - x_first,
            out=end - first,
            begin=axis.begin + moved,
            end=axis.end + moved,
            counted_from=axis.counted_from - x_first,
            counted_to=axis.counted_to - x_first,
        )
        n, lines, *rest = self.y_shape
        return self._replace(y_shape=(n, end - first, *rest), axes=axes, reads=self.reads // lines * (end - first))


#: What the number of a pixel in its window may be, the smallest first.
_PLACES = (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.int32))

#: An axis that a lower rank lacks: one pixel, one window.
_NO_AXIS = geometry.adaptive_axis(1, 1)


def image_shape(value: Any, name: str = "input_shape") -> tuple[int, ...]:
    """Return the shape of images as integers; the pixels are checked with the windows."""
    shape = flat_arguments(value, name)
    if not isinstance(shape, tuple) or not 3 <= len(shape) <= 5:
        raise ValueError(f"{name} must be (N, *spatial, C) with 1, 2 or 3 spatial axes, got {value!r}")
    shape = ntuple(shape, len(shape), name, minimum=0)
    if shape[-1] == 0:
        raise ValueError(f"{name} must have at least one channel (its last axis), got {value!r}")
    check_elements(shape, name)
    return shape


def pool_plan(
    shape: tuple[int, ...],
    kernel: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    count_include_pad: bool = False,
) -> PoolPlan:
    """Check shapes and arguments and return the plan; every error names the argument."""
    return _window_plan(
        shape,
        flat_arguments(kernel, "kernel_size"),
        flat_arguments(stride, "stride"),
        flat_arguments(padding, "padding"),
        flat_arguments(dilation, "dilation"),
        boolean(ceil_mode, "ceil_mode"),
        boolean(count_include_pad, "count_include_pad"),
    )


@lru_cache(maxsize=256, typed=True)
def _window_plan(
    shape: tuple[int, ...], kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool, count_pad: bool
) -> PoolPlan:
    size = _pixels(shape)
    rank = len(size)
    kernel = ntuple(kernel, rank, "kernel_size")
    stride = kernel if stride is None else ntuple(stride, rank, "stride")
    dilation = ntuple(dilation, rank, "dilation")
    check_elements(kernel, "the window of kernel_size")  # an average divides by its pixels
    pairs = geometry.padding_pairs(padding, size, kernel, stride, dilation)
    out = geometry.pool_output(size, kernel, stride, pairs, dilation, ceil_mode)
    check_elements((shape[0], *out, shape[-1]), "the output")
    arguments = zip(size, kernel, stride, pairs, dilation, strict=True)
    return _new_plan(shape, [geometry.pool_axis(*axis, ceil_mode, count_pad) for axis in arguments])


def adaptive_plan(shape: tuple[int, ...], output_size: Any) -> PoolPlan:
    """Return the plan of `output_size` windows that cover the image."""
    out = ntuple(output_size, len(shape) - 2, "output_size")
    return _adaptive_plan(shape, out)


@lru_cache(maxsize=256)
def _adaptive_plan(shape: tuple[int, ...], out: tuple[int, ...]) -> PoolPlan:
    size = _pixels(shape)
    check_elements((shape[0], *out, shape[-1]), "the output")
    return _new_plan(shape, [geometry.adaptive_axis(n, many) for n, many in zip(size, out, strict=True)])


def _pixels(shape: tuple[int, ...]) -> tuple[int, ...]:
    if 0 in shape[1:-1]:
        raise ValueError(f"x must have at least one pixel along each spatial axis, got shape {shape}")
    return shape[1:-1]


def _new_plan(shape: tuple[int, ...], axes: list[geometry.PoolAxis]) -> PoolPlan:
    y_shape = (shape[0], *(axis.out for axis in axes), shape[-1])
    records = np.array([_NO_AXIS] * (3 - len(axes)) + axes, np.int64)
    reads = prod(y_shape) * prod(axis.most_taps for axis in axes)
    taps = prod(axis.window_taps for axis in axes)
    dtype = next((dtype for dtype in _PLACES if taps - 1 <= np.iinfo(dtype).max), None)
    return PoolPlan(y_shape, (shape[0], shape[-1]), records, reads, dtype)


def output_gradient(dy: ArrayLike, plan: PoolPlan, x: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return dy, checked: the shape of the output, and the dtype of x, or of any floats without it."""
    array = float_array(dy, "dy", like=x)
    require_shape(array, plan.y_shape, "dy", "the shape of the output")
    return array
