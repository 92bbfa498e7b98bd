"""Values in a graph while it is converted: constants, and symbols of what layers will compute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fastconv.layers.symbol import Shape, Symbol


class Constant(NamedTuple):
    """An array that is known. `other` is what it would be for inputs of other sizes, where that differs.

    `learned` says that it lies in the file by itself, as weights do. Where numbers of it depend on how much is counted while
    the model runs, `open` says which, and `source` who computes it then: a node, its operands, which of its outputs it is.
    """

    array: np.ndarray
    other: np.ndarray | None = None
    learned: bool = False
    open: np.ndarray | None = None
    source: tuple[Any, Sequence[Any], int] | None = None

    @property
    def rank(self) -> int:
        """How many axes the tensor has."""
        return self.array.ndim

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the tensor."""
        return self.array.dtype

    @property
    def both(self) -> tuple[np.ndarray, np.ndarray]:
        """The array, and what it would be for inputs of other sizes."""
        return self.array, self.array if self.other is None else self.other


class Parts(NamedTuple):
    """A sequence: a list of values and constants, of a length that is known."""

    items: tuple[Any, ...]


class Value(NamedTuple):
    """A tensor that a layer makes when the model runs.

    The file's tensor has inner axes, numbered from 0: all of them, or in a batched graph those after the batch. Axis ``i`` of
    the array behind its batch is inner axis ``order[i]``; so a transposition is only another `order` until somebody needs
    the axes in their places. Where `shuffle` is not None, entry ``j`` along the last axis is entry ``shuffle[j]`` of the
    file's.

    `other` is the shape that the array would have, without the batch, for inputs of other sizes; `origins` are the inputs of
    the file that it depends on. Where it is `counted`, its shape may depend on numbers of the inputs too. `guess` is what its
    numbers would be, for two sizes of the inputs, where it is made of sizes.
    """

    symbol: Symbol
    order: tuple[int, ...]
    dtype: np.dtype[Any]
    other: Shape
    origins: frozenset[str]
    shuffle: np.ndarray | None = None
    counted: bool = False
    guess: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def shape(self) -> Shape:
        """The sizes of the inner axes as the file counts them."""
        return in_file_order(self.symbol.shape, self.order)

    @property
    def other_shape(self) -> Shape:
        """The same for inputs of other sizes."""
        return in_file_order(self.other, self.order)

    @property
    def free(self) -> list[int]:
        """Which axes of the array, without the batch, are of other sizes for other inputs."""
        return [axis for axis, (n, m) in enumerate(zip(self.symbol.shape, self.other, strict=True)) if n != m]

    @property
    def is_plain(self) -> bool:
        """Whether the array is as the file has it."""
        return self.shuffle is None and self.order == tuple(range(len(self.order)))


def with_rank(array: np.ndarray, rank: int) -> np.ndarray:
    """Return an array with axes of size 1 in front until it has `rank`.

    >>> with_rank(np.zeros((3, 2)), 4).shape
    (1, 1, 3, 2)
    """
    return array.reshape([1] * (rank - array.ndim) + list(array.shape))


def in_file_order(shape: Shape, order: tuple[int, ...]) -> Shape:
    """Return a shape of an array, stored in `order`, as the file counts the axes.

    >>> in_file_order((28, 30, 3), (1, 2, 0))
    (3, 28, 30)
    """
    return tuple([n for _, n in sorted(zip(order, shape, strict=True))])


def last_first(rank: int, first: int = 0) -> tuple[int, ...]:
    """Return the order with the channels last, where they stand at inner axis `first` in the file.

    >>> last_first(3), last_first(4, 1)
    ((1, 2, 0), (0, 2, 3, 1))
    """
    return (*range(first), *range(first + 1, rank), first)
