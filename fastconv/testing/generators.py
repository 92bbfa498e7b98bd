"""Which random generators code uses: global ones, and those with a fixed seed."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastconv.testing.result import CheckFailed

#: A seed that nobody else sets, so that setting one is seen, too.
_UNLIKELY = 1_603_717_211


@contextlib.contextmanager
def global_generators_kept(who: str, expected: str) -> Iterator[None]:
    """Raise `CheckFailed` where NumPy's global generator, or that of `random`, is used or seeded; leave both as they were."""
    numpys, pythons = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        np.random.seed(_UNLIKELY)  # noqa: NPY002
        random.seed(_UNLIKELY)
        before = _states()
        yield
        for name, state in _states().items():
            if state != before[name]:
                raise CheckFailed(f"{who} draws from the global generator of {name}, or seeds it; expected {expected}")
    finally:
        np.random.set_state(numpys)  # noqa: NPY002
        random.setstate(pythons)


def _states() -> dict[str, Any]:
    _, keys, *others = np.random.get_state()  # noqa: NPY002
    return {"NumPy": (np.asarray(keys).tobytes(), *others), "Python": random.getstate()}


def seeds_used(work: Callable[[], object]) -> list[str]:
    """Return the seeds of the generators that ``numpy.random.default_rng`` makes while `work` runs.

    >>> seeds_used(lambda: np.random.default_rng(7))
    ['7']
    """
    seeds: list[str] = []
    default_rng = np.random.default_rng

    def watched(seed: Any = None) -> np.random.Generator:
        seeds.append(repr(seed))
        return default_rng(seed)

    np.random.default_rng = watched
    try:
        work()
    finally:
        np.random.default_rng = default_rng
    return seeds
