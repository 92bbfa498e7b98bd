"""What every loader returns: training and test parts and the classes; and the split of data without a test part."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastconv.data.check import DataError, check_fraction

#: Classes that nobody has named; a larger label is a mistake, not a network with so many outputs.
_MOST_UNNAMED = 100_000


class Dataset(NamedTuple):
    """Training part, test part and the names of the classes; unpacks as ``(x_train, y_train), (x_test, y_test),
    classes``.

    Images are ``(N, *spatial, C)``, labels int64 ``(N,)``: indices into `classes`.

    >>> data = Dataset((np.zeros((3, 2)), np.arange(3)), (np.zeros((1, 2)), np.arange(1)), ("a", "b", "c"))
    >>> train, test, classes = data
    >>> len(train[0]), len(test[0]), classes[2]
    (3, 1, 'c')
    """

    train: tuple[Any, np.ndarray]
    test: tuple[Any, np.ndarray]
    classes: tuple[str, ...]


def numbered_classes(count: int, source: Any) -> tuple[str, ...]:
    """Return names for `count` classes that have none, their numbers; raise `DataError` for more than 100,000.

    >>> numbered_classes(3, "digits.npz")
    ('0', '1', '2')
    """
    if count > _MOST_UNNAMED:
        raise DataError(
            f"{source} has the label {count - 1}; labels are the numbers of the classes, from 0, of which there may be "
            f"{_MOST_UNNAMED:,} without names"
        )
    return tuple(map(str, range(count)))


def split(y: np.ndarray, *, fraction: float = 0.2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices ``(rest, part)`` of a random part with `fraction` of every class of the labels `y`.

    `y` holds integer labels (N,). Every class that has two samples or more is in both; both index arrays are sorted,
    int64. The same seed gives the same split. Raises `ValueError` for a fraction outside 0 .. 1 (both exclusive).

    >>> rest, part = split(np.array([0, 0, 0, 0, 1, 1]), fraction=0.25)
    >>> len(rest), len(part)
    (4, 2)
    """
    check_fraction(fraction, "fraction")
    labels = np.asarray(y)
    rng = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        count = round(fraction * len(members))
        chosen.append(members[: min(max(count, 1), len(members) - 1)])
    part = np.sort(np.concatenate(chosen)) if chosen else np.empty(0, np.int64)
    return np.setdiff1d(np.arange(len(labels)), part), part


def held_out(x: Any, y: np.ndarray, classes: tuple[str, ...], *, fraction: float, seed: int) -> Dataset:
    """Return samples without a test part as a `Dataset` whose test part is drawn from every class (see `split`)."""
    rest, part = split(y, fraction=fraction, seed=seed)
    return Dataset((x[rest], y[rest]), (x[part], y[part]), classes)
