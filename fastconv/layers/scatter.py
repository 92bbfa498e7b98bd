"""Layers that gather and scatter single elements by indices, which are each sample's own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv.arguments import integer, positive
from fastconv.layers.base import Backward, Layer
from fastconv.layers.checks import axis_of, inner_axis, require_numbers, with_batch
from fastconv.layers.context import Context
from fastconv.layers.symbol import Shape
from fastconv.layers.traits import Traits
from fastconv.registry import layers

Gradients = tuple[Any, dict[str, np.ndarray]]
Places = tuple[Any, ...]

REDUCTIONS = ("none", "add", "mul", "max", "min")


@layers.register("NonZero")
class NonZero(Layer):
    """The indices of elements that are not 0: ``(N, ...)`` to ``(N, axes, count)``, int64, in row-major order.

    There are as many columns as the fullest sample has; the last are -1 where a sample has fewer. So the shape depends on the
    numbers; models are planned with `expected` columns, or with as many as there can be. No gradient passes.

    >>> import numpy as np
    >>> NonZero()(np.array([[[0.0, 7.0], [8.0, 0.0]]]))
    array([[[0, 1],
            [1, 0]]])
    """

    traits = Traits(integers=True, discrete=True, kinks=(0.0,), domain=(1.0, 4.0), counts=True)

    def __init__(self, *, expected: int | None = None) -> None:
        self.expected = None if expected is None else positive(expected, "expected")

    def output_shape(self, shape: Shape) -> Shape:
        if not shape:
            raise ValueError("x must have shape (N, ...), got (N,), numbers that have no place")
        return (len(shape), self.expected or math.prod(shape))

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        require_numbers(x)
        planned = self.output_shape(x.shape[1:])[1]
        sample, *places = np.nonzero(x)
        counts = np.bincount(sample, minlength=len(x))
        columns = int(counts.max()) if len(x) else planned
        y = np.full((len(x), x.ndim - 1, columns), -1, np.int64)
        column = np.arange(len(sample)) - (np.cumsum(counts) - counts)[sample]
        for axis, place in enumerate(places):
            y[sample, axis, column] = place
        return y, lambda dy: (np.zeros_like(x) if x.dtype.kind == "f" else None, {})

    def window(self, *shapes: Shape) -> None:
        return None


class _AtPlaces(Layer):
    """What layers share that read or write a number at each place."""

    def window(self, *shapes: Shape) -> None:
        return None

    def places(self, shape: Shape, indices: np.ndarray) -> Places:
        """Return the index of an array of `shape`, with the batch, that `indices` stand for."""
        raise NotImplementedError


class _Along(_AtPlaces):
    def __init__(self, axis: int = -1) -> None:
        self.axis = axis_of(axis)

    def places(self, shape: Shape, indices: np.ndarray) -> Places:
        axis = inner_axis(self.axis, len(shape))
        _require_indices(indices, shape[0])
        _require_range(indices, shape[axis])
        line = indices[tuple(slice(None) if at == axis else slice(1) for at in range(indices.ndim))]
        whole = all(n == m for at, (n, m) in enumerate(zip(shape, indices.shape, strict=True)) if at != axis)
        if whole and indices.size and (indices == line).all():  # whole lines, at the same places everywhere
            return (*(slice(None),) * axis, line.ravel())
        grid: list[np.ndarray] = list(np.ogrid[tuple(map(slice, indices.shape))])
        grid[axis] = indices
        return tuple(grid)

    def _require_fit(self, shape: Shape, indices: Shape) -> None:
        axis = inner_axis(self.axis, 1 + len(shape)) - 1
        sizes = list(zip(shape, indices, strict=False))
        if len(shape) != len(indices) or any(m > n for at, (n, m) in enumerate(sizes) if at != axis):
            raise ValueError(
                f"indices must have as many axes as x, none longer but axis {self.axis}, "
                f"got {with_batch(indices)} for {with_batch(shape)}"
            )


class _Nd(_AtPlaces):
    def places(self, shape: Shape, indices: np.ndarray) -> Places:
        _require_indices(indices, shape[0])
        leading = indices.shape[: self.leading]
        grid = np.ogrid[tuple(map(slice, leading))]
        rank = indices.ndim - 1
        where = [each.reshape(each.shape + (1,) * (rank - each.ndim)) for each in grid]
        columns = [indices[..., at] for at in range(indices.shape[-1])]
        for column, size in zip(columns, shape[self.leading :], strict=False):
            _require_range(column, size)
        return (*where, *columns)

    #: How many axes, with the batch, are those of x and of the indices both.
    leading: int = 1

    def _at_one(self, shape: Shape, indices: Shape) -> Shape:
        """Return the shape of what lies at one place."""
        shared, count = self.leading - 1, indices[-1] if indices else 0
        if len(indices) <= shared or shape[:shared] != indices[:shared] or not 1 <= count <= len(shape) - shared:
            raise ValueError(
                f"indices must be rows of at most {len(shape) - shared} numbers{' for each leading entry' if shared else ''}, "
                f"got {with_batch(indices)} for {with_batch(shape)}"
            )
        return shape[shared + count :]


@layers.register("GatherElements")
class GatherElements(_Along):
    """The element at each index along an axis: ``y[n, i, j] = x[n, indices[n, i, j], j]`` for `axis` 1; -1 is the last.

    Indices ``(N, ...)`` are integers with as many axes as x, no longer than x along the others; the output has their shape.

    >>> import numpy as np
    >>> GatherElements()(np.array([[5.0, 6.0, 7.0]]), np.array([[2, 2, 0]]))
    array([[7., 7., 5.]])
    """

    traits = Traits(linear=True, integers=(1,), domain=(-1.0, 1.0))

    @classmethod
    def examples(cls) -> Sequence[Any]:
        return [(cls(1), [(3, 4), (2, 4)])]

    def output_shape(self, *shapes: Shape) -> Shape:
        if len(shapes) != 2:
            raise ValueError(f"GatherElements takes an input and indices, got {len(shapes)} inputs")
        self._require_fit(*shapes)
        return shapes[1]

    def forward(self, ctx: Context, x: np.ndarray, indices: np.ndarray) -> tuple[np.ndarray, Backward]:
        self.output_shape(x.shape[1:], indices.shape[1:])
        return _taken(x, self.places(x.shape, indices))


@layers.register("GatherND")
class GatherND(_Nd):
    """The parts at positions given by several indices together: ``(N, ..., k)`` indices into the first k axes of a sample.

    ``y[n, ..., :] = x[n, indices[n, ..., 0], ..., indices[n, ..., k - 1], :]``; -1 is the last. With `shared` the first so many
    axes after the batch are like it: x and the indices both have them.

    >>> import numpy as np
    >>> GatherND()(np.arange(6.0).reshape(1, 2, 3), np.array([[[0, 2], [1, 0]]]))
    array([[2., 3.]])
    """

    traits = Traits(linear=True, integers=(1,), domain=(-1.0, 1.0))

    def __init__(self, *, shared: int = 0) -> None:
        self.leading = 1 + integer(shared, "shared")
        if self.leading < 1:
            raise ValueError(f"shared must be at least 0, got {shared!r}")

    @classmethod
    def examples(cls) -> Sequence[Any]:
        return [(cls(), [(3, 4, 2), (5, 2)]), (cls(shared=1), [(3, 4, 2), (3, 2, 1)])]

    def output_shape(self, *shapes: Shape) -> Shape:
        if len(shapes) != 2:
            raise ValueError(f"GatherND takes an input and indices, got {len(shapes)} inputs")
        return (*shapes[1][:-1], *self._at_one(*shapes))

    def forward(self, ctx: Context, x: np.ndarray, indices: np.ndarray) -> tuple[np.ndarray, Backward]:
        self.output_shape(x.shape[1:], indices.shape[1:])
        return _taken(x, self.places(x.shape, indices))


@layers.register("ScatterElements")
class ScatterElements(_Along):
    """``x`` with an element written at each index along an axis: ``y[n, indices[n, i, j], j] = updates[n, i, j]`` for `axis` 1.

    Parameters
    ----------
    axis : int
        Not the batch.
    reduce : "none", "add", "mul", "max" or "min"
        What is made of the number that was there and all those that come; with "none" the last one stays.

    Examples
    --------
    >>> import numpy as np
    >>> ScatterElements(reduce="add")(np.zeros((1, 3)), np.array([[0, 0, -1]]), np.array([[1.0, 2.0, 4.0]]))
    array([[3., 0., 4.]])
    """

    def __init__(self, axis: int = -1, *, reduce: str = "none") -> None:
        super().__init__(axis)
        self.reduce = _reduction(reduce)

    @property
    def traits(self) -> Traits:
        return _scatter_traits(self.reduce)

    @classmethod
    def examples(cls) -> Sequence[Any]:
        return [(cls(1, reduce=each), [(3, 4), (2, 4), (2, 4)]) for each in REDUCTIONS]

    def output_shape(self, *shapes: Shape) -> Shape:
        if len(shapes) != 3 or shapes[1] != shapes[2]:
            raise ValueError(
                f"ScatterElements takes an input, and indices and updates of one shape, got "
                f"{' and '.join(map(with_batch, shapes))}"
            )
        self._require_fit(*shapes[:2])
        return shapes[0]

    def forward(
        self, ctx: Context, x: np.ndarray, indices: np.ndarray, updates: np.ndarray
    ) -> tuple[np.ndarray, Backward]:
        self.output_shape(x.shape[1:], indices.shape[1:], updates.shape[1:])
        return _scattered(x, self.places(x.shape, indices), updates, self.reduce)


@layers.register("ScatterND")
class ScatterND(_Nd):
    """``x`` with updates put at places that several indices say together, as `GatherND` takes them.

    ``y[n, indices[n, ..., 0], ..., indices[n, ..., k - 1], :] = updates[n, ..., :]``.

    Parameters
    ----------
    reduce : "none", "add", "mul", "max" or "min"
        What is made of the number that was there and all those that come; with "none" the last one stays.

    Examples
    --------
    >>> import numpy as np
    >>> ScatterND()(np.zeros((1, 2, 2)), np.array([[[1, 0]]]), np.array([[5.0]]))
    array([[[0., 0.],
            [5., 0.]]])
    """

    def __init__(self, *, reduce: str = "none") -> None:
        self.reduce = _reduction(reduce)

    @property
    def traits(self) -> Traits:
        return _scatter_traits(self.reduce)

    @classmethod
    def examples(cls) -> Sequence[Any]:
        return [(cls(reduce=each), [(3, 4, 2), (5, 2), (5, 2)]) for each in REDUCTIONS]

    def output_shape(self, *shapes: Shape) -> Shape:
        fits = len(shapes) == 3 and shapes[2] == (*shapes[1][:-1], *self._at_one(*shapes[:2]))
        if not fits:
            raise ValueError(
                f"ScatterND takes an input, indices (N, ..., k), and updates for each, got "
                f"{' and '.join(map(with_batch, shapes))}"
            )
        return shapes[0]

    def forward(
        self, ctx: Context, x: np.ndarray, indices: np.ndarray, updates: np.ndarray
    ) -> tuple[np.ndarray, Backward]:
        self.output_shape(x.shape[1:], indices.shape[1:], updates.shape[1:])
        return _scattered(x, self.places(x.shape, indices), updates, self.reduce)


def _reduction(reduce: str) -> str:
    if reduce not in REDUCTIONS:
        raise ValueError(f"reduce must be one of {', '.join(REDUCTIONS)}, got {reduce!r}")
    return reduce


def _scatter_traits(reduce: str) -> Traits:
    kinks: Any = "ties" if reduce in ("max", "min") else ()
    return Traits(linear=reduce in ("none", "add"), integers=(1,), kinks=kinks, domain=(-1.0, 1.0))


def _require_indices(indices: np.ndarray, samples: int) -> None:
    if indices.dtype.kind not in "iu" or len(indices) != samples:
        raise TypeError(
            f"indices must be integers, for as many samples as x, got {indices.dtype} of shape {indices.shape}"
        )


def _require_range(indices: np.ndarray, size: int) -> None:
    if indices.size and not (-size <= indices.min() and indices.max() < size):
        raise ValueError(f"indices must be from {-size} to {size - 1}, got {indices.min()} to {indices.max()}")


def _taken(x: np.ndarray, places: Places) -> tuple[np.ndarray, Backward]:
    def backward(dy: np.ndarray) -> Gradients:
        dx = np.zeros(x.shape, dy.dtype)
        np.add.at(dx, places, dy)
        return (dx, None), {}

    return np.ascontiguousarray(x[places]), backward


_UFUNCS: dict[str, Any] = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


def _scattered(x: np.ndarray, places: Places, updates: np.ndarray, reduce: str) -> tuple[np.ndarray, Backward]:
    if x.dtype != updates.dtype:
        raise TypeError(f"x and updates must have one dtype, got {x.dtype} and {updates.dtype}")
    y = x.copy()
    if reduce == "none":
        y[places] = updates
    else:
        _UFUNCS[reduce].at(y, places, updates)

    def backward(dy: np.ndarray) -> Gradients:
        dx, dupdates = _BACK[reduce](dy, x, y, places, updates)
        return (dx, None, dupdates), {}

    return y, backward


def _back_none(dy: np.ndarray, x: np.ndarray, y: np.ndarray, places: Places, updates: np.ndarray) -> Any:
    number = np.arange(updates.size).reshape(updates.shape)
    last = np.full(x.shape, -1)
    last[places] = number  # of several at one place the last one stayed
    return np.where(last < 0, dy, 0), np.where(last[places] == number, dy[places], 0)


def _back_add(dy: np.ndarray, x: np.ndarray, y: np.ndarray, places: Places, updates: np.ndarray) -> Any:
    return dy, dy[places]


def _back_mul(dy: np.ndarray, x: np.ndarray, y: np.ndarray, places: Places, updates: np.ndarray) -> Any:
    # the product of the others, without dividing by 0
    zeros, rest = (x == 0).astype(np.int64), np.where(x == 0, 1, x)
    np.add.at(zeros, places, (updates == 0).astype(np.int64))
    np.multiply.at(rest, places, np.where(updates == 0, 1, updates))

    def others(one: np.ndarray, zeros: np.ndarray, rest: np.ndarray) -> np.ndarray:
        none = zeros == (one == 0)  # of the others
        return np.where(none, rest / np.where(one == 0, 1, one), 0)

    return dy * others(x, zeros, rest), dy[places] * others(updates, zeros[places], rest[places])


def _back_extreme(dy: np.ndarray, x: np.ndarray, y: np.ndarray, places: Places, updates: np.ndarray) -> Any:
    won, winners = x == y, updates == y[places]
    count = won.astype(y.dtype)
    np.add.at(count, places, winners.astype(y.dtype))
    share = dy / count  # equal ones share the gradient
    return np.where(won, share, 0), np.where(winners, share[places], 0)


_BACK: dict[str, Any] = {
    "none": _back_none,
    "add": _back_add,
    "mul": _back_mul,
    "max": _back_extreme,
    "min": _back_extreme,
}
