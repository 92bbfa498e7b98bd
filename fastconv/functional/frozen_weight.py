"""Constant weights: the array itself, or the packed panels that replace it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastconv._kernels._memory import empty, give_back, trim
from fastconv.functional._conv_cost import MOST_PACKED
from fastconv.lasting import lasting
from fastconv.threads import get_num_threads

#: Weights that plans hold, by what they are made of and for: they hold the weight too, so its id is taken.
_PACKED: weakref.WeakValueDictionary[tuple[Any, ...], Packed] = weakref.WeakValueDictionary()

#: So many bytes of weights that were let go are given back to the system at once.
MOST_LOOSE = 2**22

_loose = 0


class Panels(NamedTuple):
    """What a kernel made of a weight: for which layout, the numbers, and how to have the weight back."""

    layout: tuple[Any, ...]
    array: NDArray[Any]
    unpack: Callable[[NDArray[Any], NDArray[Any]], object]


class Weight:
    """The weight of a frozen step: its array, until panels of it are kept that a kernel reads instead.

    Who asks for the array then gets a new one, of the same bits, that lives as long as somebody holds it. Threads may meet
    here: the panels are there before the array is gone.
    """

    def __init__(self, array: NDArray[Any]) -> None:
        self.shape, self.dtype, self.size, self.nbytes = array.shape, array.dtype, array.size, array.nbytes
        self._array: NDArray[Any] | None = array
        self._last = weakref.ref(array)
        self._panels: Panels | None = None

    @property
    def ndim(self) -> int:
        """How many axes the array has."""
        return len(self.shape)

    def array(self) -> NDArray[Any]:
        """Return the array."""
        found = self._array
        if found is None:
            found = self._last()
        if found is None:
            assert self._panels is not None
            found = empty(self.shape, self.dtype)
            self._panels.unpack(found, self._panels.array)
            self._last = weakref.ref(found)
        return found

    def panels(self, layout: tuple[Any, ...]) -> NDArray[Any] | None:
        """Return the panels that are kept instead of the array, if they are of this layout."""
        kept = self._panels
        return kept.array if kept is not None and kept.layout == layout else None

    def keep(self, panels: Panels) -> None:
        """Keep panels instead of the array."""
        global _loose
        if self._panels is None:
            self._panels = panels
            self._array = None
            _loose += self.nbytes
            if _loose >= MOST_LOOSE:
                _loose = 0
                give_back()
                trim()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return the array, for NumPy."""
        array = np.asarray(self.array(), dtype)
        return array.copy() if copy else array

    def __reduce__(self) -> tuple[Any, ...]:
        return Weight, (self.array(),)


class Packed:
    """A weight as its kernel packs it, when it is first used."""

    def __init__(self, kernels: Any, weight: NDArray[Any] | Weight, shape: tuple[Any, ...], items: int) -> None:
        self._kernels, self._weight, self._shape, self._items = kernels, weight, shape, items
        self._ready: tuple[NDArray[Any], NDArray[Any] | None] | None = None

    def use(self) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """Return the packed weight, and the weight, None where the kernel does not read it.

        Two threads that come at once may both pack it.
        """
        if self._ready is not None:
            return self._ready
        weight, layout = self._weight, _layout(self._kernels, self._shape, self._items)
        kept = weight.panels(layout) if isinstance(weight, Weight) else None
        if kept is not None:
            self._ready = kept, None
            return self._ready
        plain = array_of(weight)
        array = lasting((self._items,), plain.dtype)
        if self._kernels.pack_weight(plain, array, False, *self._shape, get_num_threads()):
            self._ready = array, None
            if isinstance(weight, Weight):
                del plain
                weight.keep(Panels(layout, array, partial(_unpack, self._kernels, self._shape)))
        else:
            self._ready = array, plain
        return self._ready


def use_all(args: Iterable[Any]) -> None:
    """Have all weights packed that are among the arguments of a kernel, or inside of those."""
    for argument in args:
        if isinstance(argument, Packed):
            argument.use()
        elif isinstance(argument, tuple):
            use_all(argument)


def packed_weight(kernels: Any, weight: NDArray[Any] | Weight, shape: tuple[Any, ...]) -> Packed | None:
    """Return the weight to be packed, None where its kernel reads it as it is or the copy would be too large.

    Plans for other shapes share it as long as one of them needs it.
    """
    items = kernels.packed_items(*shape)
    if items == 0 or items * weight.dtype.itemsize > MOST_PACKED:
        return None
    key = id(weight), *_layout(kernels, shape, items)
    packed = _PACKED.get(key)
    if packed is None:
        packed = _PACKED[key] = Packed(kernels, weight, shape, items)
    return packed


def array_of(weight: NDArray[Any] | Weight) -> NDArray[Any]:
    """Return a weight as an array."""
    return weight.array() if isinstance(weight, Weight) else weight


def _layout(kernels: Any, shape: tuple[Any, ...], items: int) -> tuple[Any, ...]:
    *_, groups, tile_h, tile_w = shape
    return kernels.__name__, items, groups, tile_h, tile_w


def _unpack(kernels: Any, shape: tuple[Any, ...], array: NDArray[Any], panels: NDArray[Any]) -> None:
    kernels.pack_weight(array, panels, True, *shape, 1)
