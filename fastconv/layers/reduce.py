"""Reductions along axes: sums, means, extremes and their indices; running sums."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv.arguments import ntuple
from fastconv.functional._along import extremes, running_sums, sums
from fastconv.layers.base import Backward, Layer
from fastconv.layers.checks import axes_of, axis_of, inner_axes, inner_axis, with_batch
from fastconv.layers.context import Context
from fastconv.layers.symbol import Shape
from fastconv.layers.traits import Traits
from fastconv.registry import layers

#: Numbers of a line from which on the first few are looked for before they are brought in order.
LONG = 256

Gradients = tuple[Any, dict[str, np.ndarray]]


class _Reduce(Layer):
    def __init__(self, axes: Any = -1, *, keepdims: bool = False) -> None:
        self.axes = axes_of(axes)
        self.keepdims = bool(keepdims)

    def output_shape(self, shape: Shape) -> Shape:
        axes = inner_axes(self.axes, 1 + len(shape))
        kept = (1 if axis in axes else n for axis, n in enumerate(shape, start=1))
        if self.keepdims:
            return tuple(kept)
        return tuple(n for axis, n in enumerate(shape, start=1) if axis not in axes)

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        axes = inner_axes(self.axes, x.ndim)
        wide = tuple(1 if axis in axes else n for axis, n in enumerate(x.shape))
        y = np.asarray(self.reduce(x, axes), x.dtype)

        def backward(dy: np.ndarray) -> Gradients:
            return np.ascontiguousarray(self.spread(dy.reshape(wide), x, y, axes)), {}

        return y.reshape(len(x), *self.output_shape(x.shape[1:])), backward

    def window(self, *shapes: Shape) -> None:
        return None

    def reduce(self, x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        """Return the result with its axes kept."""
        raise NotImplementedError

    def spread(self, dy: np.ndarray, x: np.ndarray, y: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        """Return the gradient of x."""
        raise NotImplementedError


@layers.register("ReduceSum")
class ReduceSum(_Reduce):
    """The sum along `axes` (one or several, not the batch), which disappear, or with `keepdims` stay with size 1.

    >>> import numpy as np
    >>> ReduceSum()(np.array([[1.0, 2.0]]))
    array([3.])
    """

    traits = Traits(linear=True)

    def reduce(self, x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        return sums(x, axes, x.dtype)

    def spread(self, dy: np.ndarray, x: np.ndarray, y: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        return np.broadcast_to(dy, x.shape)


@layers.register("ReduceMean")
class ReduceMean(_Reduce):
    """The mean along `axes` (one or several, not the batch), which disappear, or with `keepdims` stay with size 1.

    >>> import numpy as np
    >>> ReduceMean()(np.array([[1.0, 2.0]]))
    array([1.5])
    """

    traits = Traits(linear=True)

    def reduce(self, x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        with np.errstate(all="ignore"):
            return sums(x, axes) / math.prod(x.shape[axis] for axis in axes)

    def spread(self, dy: np.ndarray, x: np.ndarray, y: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        return np.broadcast_to(dy / math.prod(x.shape[axis] for axis in axes), x.shape)


@layers.register("ReduceL2")
class ReduceL2(_Reduce):
    """The root of the sum of squares along `axes` (one or several, not the batch); of zeros the gradient is 0.

    >>> import numpy as np
    >>> ReduceL2()(np.array([[3.0, 4.0]]))
    array([5.])
    """

    traits = Traits(domain=(0.5, 4.0))

    def reduce(self, x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        return np.sqrt(sums(np.square(x), axes))

    def spread(self, dy: np.ndarray, x: np.ndarray, y: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        return dy * x / np.where(y == 0, 1, y)


@layers.register("ReduceProd")
class ReduceProd(_Reduce):
    """The product along `axes` (one or several, not the batch), which disappear, or with `keepdims` stay with size 1.

    >>> import numpy as np
    >>> ReduceProd()(np.array([[3.0, 4.0]]))
    array([12.])
    """

    def reduce(self, x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        product: np.ndarray = x.prod(axis=axes, keepdims=True, dtype=x.dtype)
        return product

    def spread(self, dy: np.ndarray, x: np.ndarray, y: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        # the product of the others, without dividing by 0
        none = x == 0
        zeros, rest = none.sum(axis=axes, keepdims=True), np.where(none, 1, x)
        others = rest.prod(axis=axes, keepdims=True) / rest
        return np.asarray(np.where(zeros == none, dy * others, 0), x.dtype)


class _ReduceExtreme(_Reduce):
    traits = Traits(kinks="ties")

    def spread(self, dy: np.ndarray, x: np.ndarray, y: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        found = x == y
        return dy * found / np.maximum(found.sum(axis=axes, keepdims=True), 1).astype(x.dtype)


@layers.register("ReduceMax")
class ReduceMax(_ReduceExtreme):
    """The largest along `axes` (one or several, not the batch); equal ones share the gradient.

    >>> import numpy as np
    >>> ReduceMax()(np.array([[3.0, 4.0]]))
    array([4.])
    """

    def reduce(self, x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        lowest = {"f": -np.inf, "b": False}.get(x.dtype.kind)
        return extremes(np.maximum, x, axes, np.iinfo(x.dtype).min if lowest is None else lowest)


@layers.register("ReduceMin")
class ReduceMin(_ReduceExtreme):
    """The smallest along `axes` (one or several, not the batch); equal ones share the gradient.

    >>> import numpy as np
    >>> ReduceMin()(np.array([[3.0, 4.0]]))
    array([3.])
    """

    def reduce(self, x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        highest = {"f": np.inf, "b": True}.get(x.dtype.kind)
        return extremes(np.minimum, x, axes, np.iinfo(x.dtype).max if highest is None else highest)


@layers.register("CumSum")
class CumSum(Layer):
    """The running sums along an axis: ``y[i] = x[0] + ... + x[i]``, in the dtype of x.

    Parameters
    ----------
    axis : int
        Not the batch.
    exclusive : bool
        Without the number at the place itself: ``y[0] = 0``.
    reverse : bool
        From the end: ``y[i] = x[i] + ... + x[-1]``.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[1.0, 2.0, 3.0]])
    >>> CumSum()(x), CumSum(exclusive=True, reverse=True)(x)
    (array([[1., 3., 6.]]), array([[5., 3., 0.]]))
    """

    traits = Traits(linear=True)

    def __init__(self, axis: int = -1, *, exclusive: bool = False, reverse: bool = False) -> None:
        self.axis = axis_of(axis)
        self.exclusive, self.reverse = bool(exclusive), bool(reverse)

    @classmethod
    def examples(cls) -> Sequence[Layer]:
        return [cls(), cls(1, exclusive=True), cls(reverse=True)]

    def output_shape(self, shape: Shape) -> Shape:
        inner_axis(self.axis, 1 + len(shape))
        return shape

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        axis = inner_axis(self.axis, x.ndim)
        return self._sums(x, axis, self.reverse), lambda dy: (self._sums(dy, axis, not self.reverse), {})

    def _sums(self, x: np.ndarray, axis: int, reverse: bool) -> np.ndarray:
        y = running_sums(x, axis, reverse=reverse)
        if self.exclusive:
            y = np.roll(y, -1 if reverse else 1, axis)
            y[(slice(None),) * axis + (slice(-1, None) if reverse else slice(1),)] = 0
        return y

    def window(self, *shapes: Shape) -> None:
        return None


@layers.register("ArgMax")
class ArgMax(Layer):
    """The index of the largest value along an axis, int64; of equal ones the first, or with `last` the last.

    >>> import numpy as np
    >>> ArgMax()(np.array([[3.0, 4.0]]))
    array([1])
    """

    traits = Traits(discrete=True, kinks="ties")

    def __init__(self, axis: int = -1, *, keepdims: bool = False, last: bool = False) -> None:
        self.axis = axis_of(axis)
        self.keepdims = bool(keepdims)
        self.last = bool(last)

    def output_shape(self, shape: Shape) -> Shape:
        axis = inner_axis(self.axis, 1 + len(shape)) - 1
        return (*shape[:axis], *((1,) if self.keepdims else ()), *shape[axis + 1 :])

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        axis = inner_axis(self.axis, x.ndim)
        if self.last:
            y = x.shape[axis] - 1 - np.argmax(np.flip(x, axis), axis=axis, keepdims=self.keepdims)
        else:
            y = np.argmax(x, axis=axis, keepdims=self.keepdims)
        return np.asarray(y, np.int64), lambda dy: (np.zeros_like(x), {})

    def window(self, *shapes: Shape) -> None:
        return None


@layers.register("TopK")
class TopK(Layer):
    """The `k` largest (or smallest) values along an axis in order, and where they are, int64; of equal ones the first first.

    With None all of them, however many there are.

    >>> import numpy as np
    >>> values, places = TopK(2)(np.array([[3.0, 1.0, 4.0]]))
    >>> values, places
    (array([[4., 3.]]), array([[2, 0]]))
    """

    traits = Traits(discrete=True, kinks="ties")

    def __init__(self, k: int | None, axis: int = -1, *, largest: bool = True) -> None:
        self.k = None if k is None else ntuple(k, 1, "k", minimum=0)[0]
        self.axis = axis_of(axis)
        self.largest = bool(largest)

    @classmethod
    def examples(cls) -> Sequence[Layer]:
        return [cls(1), cls(2, 1, largest=False), cls(None)]

    def output_shape(self, shape: Shape) -> tuple[Shape, Shape]:
        axis = inner_axis(self.axis, 1 + len(shape)) - 1
        k = shape[axis] if self.k is None else self.k
        if shape[axis] < k:
            raise ValueError(f"k must be at most the size of axis {self.axis}, got {k} for {with_batch(shape)}")
        out = (*shape[:axis], k, *shape[axis + 1 :])
        return out, out

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], Backward]:
        self.output_shape(x.shape[1:])
        axis = inner_axis(self.axis, x.ndim)
        rows = np.moveaxis(x, axis, -1)
        k = x.shape[axis] if self.k is None else self.k
        if x.shape[axis] >= LONG and 0 < 4 * k <= x.shape[axis]:
            found = np.array([self._first(row, k) for row in rows.reshape(-1, x.shape[axis])], np.int64)
        else:
            found = self._order(rows)[..., :k]
        places = np.ascontiguousarray(np.moveaxis(found.reshape(*rows.shape[:-1], k), -1, axis), np.int64)

        def backward(dy: tuple[np.ndarray, np.ndarray]) -> Gradients:
            dx = np.zeros_like(x)
            np.put_along_axis(dx, places, dy[0], axis)
            return dx, {}

        return (np.take_along_axis(x, places, axis), places), backward

    def _order(self, rows: np.ndarray) -> np.ndarray:
        """Return which numbers come first along the last axis; of equal ones the first."""
        if self.largest:  # a stable order of the reversed array, read backwards
            return rows.shape[-1] - 1 - np.argsort(rows[..., ::-1], axis=-1, kind="stable")[..., ::-1]
        return np.argsort(rows, axis=-1, kind="stable")

    def _first(self, row: np.ndarray, k: int) -> np.ndarray:
        """Return the first ones of a long row: only those that may be among them are brought in order."""
        last = len(row) - k if self.largest else k - 1
        bound = np.partition(row, last)[last]
        some = np.flatnonzero(~(row < bound if self.largest else row > bound))  # NaN counts as largest, and is neither
        return some[self._order(row[some])[:k]]

    def window(self, *shapes: Shape) -> None:
        return None
