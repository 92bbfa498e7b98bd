"""What an object contains, in a form that can be compared later."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import numpy as np


class _Itself:
    """An object that is equal to nothing else; it is held, so that its address is not given to another one."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self.value is other.value

    __hash__ = None  # type: ignore[assignment]


def contents(value: Any) -> Any:
    """Return `value`, with the arrays, lists, dicts and sets in it, and the states of its generators, as they are now.

    Two results are equal where `value` is the same object and nothing in it has changed.

    >>> kept = {"last": [1.5]}
    >>> before = contents(kept)
    >>> before == contents(kept), kept["last"].append(2.5), before == contents(kept)
    (True, None, False)
    """
    return _contents(value, frozenset())


def _contents(value: Any, outer: frozenset[int]) -> list[Any]:
    if id(value) in outer:  # it contains itself
        return [_Itself(value)]
    inside = outer | {id(value)}
    held: Any = None
    if isinstance(value, np.ndarray):
        held = value.dtype.str, value.shape, value.tobytes()
    elif isinstance(value, np.random.Generator):
        held = repr(value.bit_generator.state)
    elif isinstance(value, np.random.RandomState):
        held = repr(value.get_state(legacy=False))
    elif isinstance(value, random.Random):
        held = value.getstate()
    elif isinstance(value, dict):
        held = [(_Itself(key), _contents(item, inside)) for key, item in value.items()]
    elif isinstance(value, (list, tuple, deque)):
        held = [_contents(item, inside) for item in value]
    elif isinstance(value, (set, frozenset)):
        held = {id(item) for item in value}
    return [_Itself(value), held]
