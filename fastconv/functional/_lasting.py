"""Memory for constants that every call reads: several arrays share a block of large pages (of 2 MB, where the system has them).

The weights of a network go through all caches at each call. In pages of 4 KB there are more of them than a processor knows the
places of, and what it reads ahead ends with the page.
"""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv._kernels._memory import empty

#: Bytes of a block, of the least array that goes into one, and between two arrays: a line of the cache.
BLOCK, LEAST, LINE = 1 << 23, 1 << 14, 64

#: The blocks that have room left, and from where on. Who takes one out has it alone; another thread takes others.
_open: list[tuple[weakref.ref[NDArray[Any]], int]] = []


def lasting(items: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return a new array of one axis, its values whatever was there; its block goes with the last array in it."""
    size = -(-items * dtype.itemsize // LINE) * LINE
    if not LEAST <= size <= BLOCK // 2:
        return empty((items,), dtype)
    block, first = _taken(size)
    if first + size + LEAST <= BLOCK:
        _open.append((weakref.ref(block), first + size))
    return np.ndarray((items,), dtype, block, first)


def _taken(size: int) -> tuple[NDArray[Any], int]:
    """Return a block that has room for so many bytes, the one that was begun first or a new one, and from where on."""
    full = []
    found = None
    while found is None:
        try:
            kept, first = _open.pop(0)
        except IndexError:
            found = empty((BLOCK,), np.dtype(np.uint8)), 0
            break
        block = kept()
        if block is not None and first + size <= BLOCK:
            found = block, first
        elif block is not None:
            full.append((kept, first))
    _open[:0] = full
    return found
