"""Batches of samples: shuffled, scaled and augmented, epoch after epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from fastconv.arguments import boolean
from fastconv.arrays import as_array
from fastconv.data.augment import Augmentation, Compose
from fastconv.data.check import check_finite, check_lengths, whole
from fastconv.data.draws import Draws
from fastconv.data.prefetch import Prefetch

Batch = tuple[Any, Any]


class Batches:
    """Arrays of samples, as batches ``(x, y)``, in an order and with augmentations that depend on the seed and the
    epoch alone.

    Parameters
    ----------
    x : array (N, ...), `ImageFolder`, or a tuple of them
        uint8 is scaled from 0 .. 255 to 0 .. 1 when a batch is made; floats are cast to `dtype`. Anything with
        ``shape``, ``dtype``, a length and rows by integer arrays will do, a ``numpy.memmap`` too. With a tuple (a model
        of several inputs) the x of a batch is a tuple.
    y : array (N, ...) or a tuple of them, optional
        Integers stay what they are, floats are cast to `dtype`. Without y, the y of a batch is None. For an
        `ImageFolder` its labels, if y is left out.
    batch_size : int
        The last batch of an epoch has what is left.
    shuffle : bool
        Another order in every epoch.
    seed : int, at least 0
    augment : augmentation or sequence of them, optional
        See `fastconv.data.augment`; with one x only.
    dtype : float32 or float64
    prefetch : int
        How many batches a background thread prepares ahead where there is more to do than to gather rows:
        augmentations, image files to decode. 0 does everything in the calling thread. The batches are the same.

    Raises
    ------
    DataError
        For arrays of different lengths, and for NaN, infinity (also once it is cast to `dtype`) or masked values in x or y;
        the message names the index.
    TypeError
        For x that is neither uint8 nor float.

    Examples
    --------
    >>> batches = Batches(np.arange(10.0), np.arange(10), batch_size=4, shuffle=False)
    >>> [y.tolist() for x, y in batches]
    [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    """

    def __init__(
        self,
        x: Any,
        y: Any = None,
        *,
        batch_size: int = 64,
        shuffle: bool = True,
        seed: int = 0,
        augment: Augmentation | Iterable[Augmentation] = (),
        dtype: Any = np.float32,
        prefetch: int = 2,
    ) -> None:
        if y is None:
            y = getattr(x, "labels", None)
        self.x = _arrays(x)
        self.y = counted(_arrays(y))
        self.samples = check_lengths(_tuple(self.x), _tuple(self.y))
        self.batch_size = whole(batch_size, "batch_size", minimum=1)
        self.seed = whole(seed, "seed")
        self.prefetch = whole(prefetch, "prefetch")
        self.shuffle = boolean(shuffle, "shuffle")
        self.augment = augment if isinstance(augment, Compose) else Compose([augment] if callable(augment) else augment)
        self.dtype = np.dtype(dtype)
        self._next_epoch = 0
        for name, arrays, kinds in (("x", self.x, "f"), ("y", self.y, "fiu")):
            for label, array in named(name, arrays):
                if array.dtype.kind not in kinds and array.dtype != np.uint8:
                    raise TypeError(
                        f"{label} must be uint8 or floats{', or integers' * (name == 'y')}, got {array.dtype}"
                    )
                check_finite(array, label, self.dtype)
        if self.augment.augmentations and isinstance(self.x, tuple):
            raise TypeError(f"augment takes one array of images, got {len(self.x)}")

    def __len__(self) -> int:
        """Return the number of batches in one epoch."""
        return math.ceil(self.samples / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """Iterate over the next epoch: 0 at first, then 1, and so on."""
        number = self._next_epoch
        self._next_epoch += 1
        return self._iterate(number)

    def _iterate(self, number: int) -> Iterator[Batch]:
        with self.epoch(number) as batches:
            yield from batches

    def epoch(self, number: int) -> AbstractContextManager[Iterable[Batch]]:
        """Return the batches of epoch `number` (from 0) as a context manager, whose end leaves no thread behind.

        >>> with Batches(np.arange(4.0), batch_size=2, seed=1).epoch(3) as batches:
        ...     sum(len(x) for x, y in batches)
        4
        """
        number = whole(number, "the number of the epoch")
        batches = self._batches(number)
        gathers_only = not self.augment.augmentations and all(isinstance(x, np.ndarray) for x in _tuple(self.x))
        if self.prefetch == 0 or gathers_only:
            return nullcontext(batches)
        return Prefetch(batches, min(self.prefetch, len(self)))

    def order(self, number: int) -> np.ndarray:
        """Return the indices of the samples in the order of epoch `number`."""
        if not self.shuffle:
            return np.arange(self.samples)
        return np.random.default_rng([self.seed, number]).permutation(self.samples)

    def _batches(self, number: int) -> Iterator[Batch]:
        order = self.order(number)
        for start in range(0, self.samples, self.batch_size):
            indices = order[start : start + self.batch_size]
            # rows in order need no gathering: a slice of an array is no copy
            rows = indices if self.shuffle else slice(start, start + self.batch_size)
            x = _each(as_floats, self.x, rows, self.dtype)
            y = _each(_target, self.y, rows, self.dtype)
            if self.augment.augmentations:
                own = x.copy() if isinstance(self.x, np.ndarray) and np.may_share_memory(x, self.x) else x
                x, y = self.augment(own, y, Draws(self.seed, number, indices))
            yield x, y

    @property
    def settings(self) -> dict[str, Any]:
        """What decides which batches come, as JSON values; the data themselves are only counted."""
        return {
            "samples": self.samples,
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "seed": self.seed,
            "augment": repr(self.augment),
        }

    def __repr__(self) -> str:
        return (
            f"Batches({self.samples} samples, batch_size={self.batch_size}, shuffle={self.shuffle}, seed={self.seed})"
        )


def as_floats(x: np.ndarray, dtype: Any) -> np.ndarray:
    """Return `x` as floats of `dtype`: uint8 scaled from 0 .. 255 to 0 .. 1, floats as they are, uncopied where they
    can be.

    >>> as_floats(np.array([0, 51, 255], np.uint8), np.float64)
    array([0. , 0.2, 1. ])
    """
    dtype = np.dtype(dtype)
    if x.dtype == np.uint8:
        return np.divide(x, dtype.type(255), dtype=dtype)
    return x.astype(dtype, copy=False)


def named(name: str, arrays: Any) -> list[tuple[str, Any]]:
    """Return the arrays of `x` or `y` with their names in messages: ``x``, or ``x[0]``, ``x[1]`` of a tuple."""
    if isinstance(arrays, tuple):
        return [(f"{name}[{i}]", array) for i, array in enumerate(arrays)]
    return [] if arrays is None else [(name, arrays)]


def _target(y: np.ndarray, dtype: Any) -> np.ndarray:
    return y.astype(dtype, copy=False) if y.dtype.kind == "f" else y


def _arrays(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_arrays(item) for item in value)
    # what is not an array but can be asked for rows, such as a folder of images, is left where it is
    lazy = hasattr(value, "shape") and isinstance(getattr(value, "dtype", None), np.dtype)
    return value if value is None or lazy else as_array(value, "the data")


def counted(y: Any) -> Any:
    """Return targets with booleans as the integers 0 and 1; a tuple of them alike."""
    if isinstance(y, tuple):
        return tuple(counted(item) for item in y)
    return y.view(np.uint8) if isinstance(y, np.ndarray) and y.dtype == bool else y


def _tuple(arrays: Any) -> tuple[Any, ...]:
    return () if arrays is None else arrays if isinstance(arrays, tuple) else (arrays,)


def _each(convert: Callable[[Any, Any], Any], arrays: Any, rows: Any, dtype: Any) -> Any:
    if isinstance(arrays, tuple):
        return tuple(convert(array[rows], dtype) for array in arrays)
    return None if arrays is None else convert(arrays[rows], dtype)
