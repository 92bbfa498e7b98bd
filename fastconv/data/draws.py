"""Random numbers that depend only on the seed, the epoch and the sample."""

from __future__ import annotations

import numpy as np

_WEYL = 0x9E3779B97F4A7C15  # 2**64 / golden ratio, odd: the increment of SplitMix64
_MASK = (1 << 64) - 1


class Draws:
    """The random numbers of one batch of samples: every method returns an array (n,) with one number for each sample.

    The numbers of a sample are a function of `seed`, `epoch` and its index alone, so an image is varied in the same way
    whatever the batch size, the order or the thread. Each sample has a stream of its own of the SplitMix64 generator
    (Steele, Lea and Flood, Fast splittable pseudorandom number generators, OOPSLA 2014), whose start is hashed from the
    three.

    Parameters
    ----------
    seed, epoch : int, at least 0
    indices : integer array (n,), indices of the samples in the data set

    Examples
    --------
    >>> first = Draws(0, 1, np.array([5, 6, 7])).uniform()
    >>> other = Draws(0, 1, np.array([7, 5])).uniform()
    >>> bool(first[0] == other[1]), bool(first[2] == other[0])
    (True, True)
    """

    def __init__(self, seed: int, epoch: int, indices: np.ndarray) -> None:
        start = np.uint64(0)
        for number in (seed & _MASK, seed >> 64, epoch):
            start = _mix(start + _weyl(number + 1))
        self._streams = _mix(start + np.asarray(indices).astype(np.uint64) * np.uint64(_WEYL))
        self._drawn = 0

    def __len__(self) -> int:
        return len(self._streams)

    def uniform(self, low: float = 0.0, high: float = 1.0) -> np.ndarray:
        """Return float64 numbers, uniform from `low` to `high` (exclusive)."""
        self._drawn += 1
        bits = _mix(self._streams + _weyl(self._drawn))
        return low + (high - low) * ((bits >> np.uint64(11)) * 2.0**-53)

    def integers(self, low: int, high: int) -> np.ndarray:
        """Return int64 numbers, uniform from `low` to `high`, both inclusive."""
        return low + np.floor(self.uniform() * (high - low + 1)).astype(np.int64)

    def chance(self, probability: float) -> np.ndarray:
        """Return booleans that are true with `probability`."""
        return self.uniform() < probability

    def generator(self) -> np.random.Generator:
        """Return a generator for the batch as a whole; it depends on the first sample and the number of samples."""
        self._drawn += 1
        first = int(_mix(self._streams[:1] + _weyl(self._drawn))[0]) if len(self) else 0
        return np.random.default_rng([first, len(self)])


def _weyl(count: int) -> np.uint64:
    return np.uint64(count * _WEYL & _MASK)


def _mix(bits: np.ndarray | np.uint64) -> np.ndarray:
    # the finalizer of SplitMix64; unsigned arithmetic wraps, as it is meant to
    z = np.atleast_1d(bits)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
