"""Layers that rearrange arrays: transpose, squeeze, slice, gather, repeat, split.

Axes count as in the arrays, where 0 is the batch, which stays where it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv.arguments import check_elements, integer, ntuple
from fastconv.layers.base import Backward, Layer
from fastconv.layers.checks import axes_of, axis_of, inner_axes, inner_axis, with_batch
from fastconv.layers.context import Context
from fastconv.layers.symbol import Shape
from fastconv.layers.traits import Traits
from fastconv.registry import layers

Gradients = tuple[Any, dict[str, np.ndarray]]

_VIEW = Traits(linear=True, shares_input=True)


@layers.register("Transpose")
class Transpose(Layer):
    """Permuted axes: axis ``i`` of the output is axis ``axes[i - 1]`` of the input. The output is a view.

    >>> import numpy as np
    >>> Transpose((3, 1, 2))(np.zeros((1, 5, 6, 2))).shape
    (1, 2, 5, 6)
    """

    traits = _VIEW

    @classmethod
    def examples(cls) -> Sequence[Any]:
        return [(cls((2, 1)), [(3, 4)]), (cls((3, 1, 2)), [(4, 5, 3)])]

    def __init__(self, axes: Sequence[int]) -> None:
        self.axes = axes_of(axes)
        if sorted(self.axes) != list(range(1, len(self.axes) + 1)):
            raise ValueError(f"axes must be the numbers from 1 to the number of axes in some order, got {axes!r}")

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != len(self.axes):
            raise ValueError(f"x must have {len(self.axes) + 1} axes, got {with_batch(shape)}")
        return tuple(shape[axis - 1] for axis in self.axes)

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        self.output_shape(x.shape[1:])
        order = (0, *self.axes)
        back = np.argsort(order)
        return x.transpose(order), lambda dy: (dy.transpose(back), {})


@layers.register("Unsqueeze")
class Unsqueeze(Layer):
    """New axes of size 1 at the places `axes` of the output, which is a view.

    >>> import numpy as np
    >>> Unsqueeze((1, -1))(np.zeros((2, 5))).shape
    (2, 1, 5, 1)
    """

    takes_numbers = True

    traits = _VIEW

    def __init__(self, axes: Any) -> None:
        self.axes = axes_of(axes)

    def output_shape(self, shape: Shape) -> Shape:
        rank = 1 + len(shape) + len(self.axes)
        axes, sizes = inner_axes(self.axes, rank), iter(shape)
        return tuple(1 if axis in axes else next(sizes) for axis in range(1, rank))

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        before = x.shape
        return x.reshape(len(x), *self.output_shape(x.shape[1:])), lambda dy: (dy.reshape(before), {})


@layers.register("Squeeze")
class Squeeze(Layer):
    """Without the axes `axes`, all of size 1. The output is a view.

    >>> import numpy as np
    >>> Squeeze((1, 2))(np.zeros((2, 1, 1, 5))).shape
    (2, 5)
    """

    traits = _VIEW

    @classmethod
    def examples(cls) -> Sequence[Any]:
        return [(cls(1), [(1, 4)])]

    def __init__(self, axes: Any) -> None:
        self.axes = axes_of(axes)

    def output_shape(self, shape: Shape) -> Shape:
        axes = inner_axes(self.axes, 1 + len(shape))
        if any(shape[axis - 1] != 1 for axis in axes):
            raise ValueError(f"only axes of size 1 can go, got {with_batch(shape)} with axes {self.axes}")
        return tuple(n for axis, n in enumerate(shape, start=1) if axis not in axes)

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        before = x.shape
        return x.reshape(len(x), *self.output_shape(x.shape[1:])), lambda dy: (dy.reshape(before), {})


@layers.register("Slice")
class Slice(Layer):
    """Every `step`-th entry from `start` to before `stop` along an axis, for one axis or several; as Python slices them.

    Parameters
    ----------
    axes : int or tuple of int
    start, stop, step : int or None, or a tuple with one for each axis
        As in ``x[start:stop:step]``; a negative step goes backwards.
    empty : bool
        Whether nothing may be left; else that is a `ValueError`.

    Examples
    --------
    >>> import numpy as np
    >>> Slice(1, 1, None, 2)(np.arange(6.0).reshape(1, 6))
    array([[1., 3., 5.]])
    """

    traits = _VIEW

    @classmethod
    def examples(cls) -> Sequence[Any]:
        return [(cls(1, 1), [(5, 4)])]

    def __init__(
        self, axes: Any, start: Any = None, stop: Any = None, step: Any = None, *, empty: bool = False
    ) -> None:
        self.axes, self.empty = axes_of(axes), bool(empty)
        ends = [
            value if isinstance(value, (tuple, list)) else (value,) * len(self.axes) for value in (start, stop, step)
        ]
        if any(len(each) != len(self.axes) for each in ends):
            raise ValueError(f"start, stop and step must be one for each of {len(self.axes)} axes, got {ends}")
        for each in (item for several in ends for item in several if item is not None):
            integer(each, "start, stop and step", "integers or None")
        if 0 in ends[2]:
            raise ValueError("step must not be 0")
        self.slices = [slice(*three) for three in zip(*ends, strict=True)]

    def _index(self, rank: int) -> tuple[slice, ...]:
        index = [slice(None)] * rank
        for axis, part in zip(inner_axes(self.axes, rank), self.slices, strict=True):
            index[axis] = part
        return tuple(index)

    def output_shape(self, shape: Shape) -> Shape:
        index = self._index(1 + len(shape))[1:]
        out = tuple(len(range(*part.indices(n))) for part, n in zip(index, shape, strict=True))
        if 0 in out and 0 not in shape and not self.empty:
            raise ValueError(f"nothing is left of {with_batch(shape)}: {self!r}")
        return out

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        self.output_shape(x.shape[1:])
        index, shape = self._index(x.ndim), x.shape

        def backward(dy: np.ndarray) -> Gradients:
            dx = np.zeros(shape, dy.dtype)
            dx[index] = dy
            return dx, {}

        return x[index], backward


@layers.register("Gather")
class Gather(Layer):
    """The entries of ``x`` at `indices` along an axis: ``(N, ..., n, ...)`` and ``(N, *picked)`` to ``(N, ..., *picked, ...)``.

    The indices are integers, those of one sample for its own entries; -1 is the last.

    >>> import numpy as np
    >>> Gather(1)(np.array([[5.0, 6.0, 7.0]]), np.array([[2, 0, -1]]))
    array([[7., 5., 7.]])
    """

    traits = Traits(linear=True, integers=(1,), domain=(-1.0, 1.0))

    def __init__(self, axis: int = 1) -> None:
        self.axis = axis_of(axis)

    def output_shape(self, *shapes: Shape) -> Shape:
        if len(shapes) != 2:
            raise ValueError(f"Gather takes an input and indices, got {len(shapes)} inputs")
        axis = inner_axis(self.axis, 1 + len(shapes[0])) - 1
        return (*shapes[0][:axis], *shapes[1], *shapes[0][axis + 1 :])

    def forward(self, ctx: Context, x: np.ndarray, indices: np.ndarray) -> tuple[np.ndarray, Backward]:
        out = (len(x), *self.output_shape(x.shape[1:], indices.shape[1:]))
        axis, size = inner_axis(self.axis, x.ndim), x.shape[self.axis]
        if indices.dtype.kind not in "iu" or len(indices) != len(x):
            raise TypeError(
                f"indices must be integers, for as many samples as x, got {indices.dtype} of shape {indices.shape}"
            )
        if indices.size and not (-size <= indices.min() and indices.max() < size):
            raise ValueError(f"indices must be from {-size} to {size - 1}, got {indices.min()} to {indices.max()}")
        rows = indices.reshape(len(indices), math.prod(indices.shape[1:]))
        moved = np.moveaxis(x, axis, 1)
        picked = moved[np.arange(len(x))[:, None], rows]  # (N, picked, the other axes)
        y = np.ascontiguousarray(np.moveaxis(picked, 1, axis)).reshape(out)

        def backward(dy: np.ndarray) -> Gradients:
            shape = (*x.shape[:axis], rows.shape[1], *x.shape[axis + 1 :])
            dx = np.zeros(moved.shape, dy.dtype)
            np.add.at(dx, (np.arange(len(x))[:, None], rows), np.moveaxis(dy.reshape(shape), axis, 1))
            return (np.moveaxis(dx, 1, axis), None), {}

        return y, backward


@layers.register("Expand")
class Expand(Layer):
    """Axes of size 1 repeated until the shape is `shape` (without the batch); 1 leaves an axis as it is.

    >>> import numpy as np
    >>> Expand((4, 3))(np.zeros((2, 1, 3))).shape
    (2, 4, 3)
    """

    traits = Traits(linear=True)

    @classmethod
    def examples(cls) -> Sequence[Any]:
        return [(cls((4, 3)), [(1, 3)])]

    def __init__(self, shape: Sequence[int]) -> None:
        if not isinstance(shape, (tuple, list)):
            raise TypeError(f"shape must be a tuple of integers, without the batch, got {shape!r}")
        self.shape = ntuple(tuple(shape), len(shape), "shape", minimum=0)

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != len(self.shape) or any(1 != n != m != 1 for n, m in zip(shape, self.shape, strict=True)):
            raise ValueError(f"{with_batch(shape)} does not expand to {with_batch(self.shape)}")
        out = tuple(m if n == 1 else n for n, m in zip(shape, self.shape, strict=True))
        check_elements(out, "the output")
        return out

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        out = (len(x), *self.output_shape(x.shape[1:]))
        axes = tuple(axis for axis in range(1, x.ndim) if x.shape[axis] != out[axis])
        return np.broadcast_to(x, out).copy(), lambda dy: (dy.sum(axis=axes, keepdims=True) if axes else dy, {})


@layers.register("Tile")
class Tile(Layer):
    """The array repeated `repeats` times along each axis (without the batch).

    >>> import numpy as np
    >>> Tile((2,))(np.array([[1.0, 2.0]]))
    array([[1., 2., 1., 2.]])
    """

    traits = Traits(linear=True)

    @classmethod
    def examples(cls) -> Sequence[Any]:
        return [(cls((2, 3)), [(2, 4)])]

    def __init__(self, repeats: Sequence[int]) -> None:
        if not isinstance(repeats, (tuple, list)):
            raise TypeError(f"repeats must be a tuple of integers, without the batch, got {repeats!r}")
        self.repeats = ntuple(tuple(repeats), len(repeats), "repeats", minimum=0)

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != len(self.repeats):
            raise ValueError(f"x must have {len(self.repeats) + 1} axes, got {with_batch(shape)}")
        out = tuple(n * m for n, m in zip(shape, self.repeats, strict=True))
        check_elements(out, "the output")
        return out

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        self.output_shape(x.shape[1:])
        pairs = [item for pair in zip(self.repeats, x.shape[1:], strict=True) for item in pair]

        def backward(dy: np.ndarray) -> Gradients:
            return dy.reshape(len(dy), *pairs).sum(axis=tuple(range(1, 1 + len(pairs), 2))), {}

        return np.tile(x, (1, *self.repeats)), backward


@layers.register("Split")
class Split(Layer):
    """The input cut into parts along an axis: one output for each of `sizes`, all views of the input.

    >>> import numpy as np
    >>> a, b = Split((1, 3))(np.arange(4.0).reshape(1, 4))
    >>> a, b
    (array([[0.]]), array([[1., 2., 3.]]))
    """

    traits = _VIEW

    @classmethod
    def examples(cls) -> Sequence[Any]:
        return [(cls((1, 3)), [(5, 4)]), (cls((2, 3), 1), [(5, 4)])]

    def __init__(self, sizes: Sequence[int], axis: int = -1) -> None:
        if not isinstance(sizes, (tuple, list)) or len(sizes) < 2:
            raise TypeError(f"sizes must be a tuple of at least two integers, got {sizes!r}")
        self.sizes = ntuple(tuple(sizes), len(sizes), "sizes")
        self.axis = axis_of(axis)

    def output_shape(self, shape: Shape) -> tuple[Shape, ...]:
        axis = inner_axis(self.axis, 1 + len(shape)) - 1
        if shape[axis] != sum(self.sizes):
            raise ValueError(f"axis {self.axis} of {with_batch(shape)} must be {sum(self.sizes)} long, as sizes are")
        return tuple((*shape[:axis], size, *shape[axis + 1 :]) for size in self.sizes)

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[tuple[np.ndarray, ...], Backward]:
        self.output_shape(x.shape[1:])
        axis, borders = inner_axis(self.axis, x.ndim), np.cumsum(self.sizes)[:-1]
        return tuple(np.split(x, borders, axis=axis)), lambda dy: (np.concatenate(dy, axis=axis), {})
