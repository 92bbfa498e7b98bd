"""Memory for long-lived weights: several arrays share a block of large pages (of 2 MB, where the system has them).

The weights of a network go through all caches at each call. In pages of 4 KB there are more of them than a processor knows the
places of, and what it reads ahead ends with the page. And the system takes five times as long to hand out as much in them.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv._kernels._memory import empty

#: Bytes of a block, of the least array that goes into one, and between two arrays: a line of the cache.
BLOCK, LEAST, LINE = 1 << 23, 1 << 14, 64

#: The blocks that have room left, and from where on. Who takes one out has it alone; another thread takes others.
_open: list[tuple[weakref.ref[_Block], int]] = []


class _Block:
    """Memory from the system."""

    __slots__ = ("__weakref__", "_memory", "address")

    def __init__(self) -> None:
        private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_ANONYMOUS") else {}
        self._memory = mmap.mmap(-1, BLOCK, **private)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with contextlib.suppress(OSError):  # a system without large pages
                self._memory.madvise(mmap.MADV_HUGEPAGE)
        self.address: int = np.frombuffer(self._memory, np.uint8).__array_interface__["data"][0]

    def give_back(self, first: int, end: int) -> None:
        """Give whole pages between two places back to the system."""
        first, end = (at // mmap.PAGESIZE * mmap.PAGESIZE for at in (first + mmap.PAGESIZE - 1, end))
        if first < end and hasattr(mmap, "MADV_DONTNEED"):
            self._memory.madvise(mmap.MADV_DONTNEED, first, end - first)


class Place:
    """Where an array lies in a block; its pages go with it."""

    __slots__ = ("__array_interface__", "_block", "_first", "_size")

    def __init__(self, block: _Block, first: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._block, self._first, self._size = block, first, math.prod(shape) * dtype.itemsize
        self.__array_interface__ = {
            "data": (block.address + first, False),
            "shape": shape,
            "typestr": dtype.str,
            "version": 3,
        }

    def __del__(self) -> None:
        self._block.give_back(self._first, self._first + self._size)


def lasting(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return a new array, its values whatever was there."""
    size = -(-math.prod(shape) * dtype.itemsize // LINE) * LINE
    if not LEAST <= size <= BLOCK // 2:
        return empty(shape, dtype)
    block, first = _taken(size)
    if first + size + LEAST <= BLOCK:
        _open.append((weakref.ref(block), first + size))
    return np.asarray(Place(block, first, shape, dtype))


def _taken(size: int) -> tuple[_Block, int]:
    """Return a block that has room for so many bytes, the one that was begun first or a new one, and from where on."""
    full = []
    found = None
    while found is None:
        try:
            kept, first = _open.pop(0)
        except IndexError:
            found = _Block(), 0
            break
        block = kept()
        if block is not None and first + size <= BLOCK:
            found = block, first
        elif block is not None:
            full.append((kept, first))
    _open[:0] = full
    return found
