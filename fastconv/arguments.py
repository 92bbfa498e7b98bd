"""Validation of numeric arguments: values are returned as Python numbers, or refused with the name of the argument."""

from __future__ import annotations

import math
import operator
import os
import sys
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np

#: Largest number of elements an array may have: its bytes in float64 must stay an address.
MAX_ELEMENTS = sys.maxsize // 16


def integer(value: Any, name: str, expected: str = "an integer or a tuple of integers") -> int:
    """Return `value` as an int; raise `TypeError` for what is not an integer, floats and booleans included."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be {expected}, got {value!r}") from None


def positive(value: Any, name: str) -> int:
    """Return `value` as an int; raise `TypeError` for what is not an integer and `ValueError` for one below 1.

    >>> positive(3, "groups")
    3
    """
    number = integer(value, name, "an integer")
    if number < 1:
        raise ValueError(f"{name} must be at least 1, got {value!r}")
    return number


def boolean(value: Any, name: str) -> bool:
    """Return `value` as a bool; raise `TypeError` for what is neither True nor False (0 and 1 stand for them)."""
    if isinstance(value, (bool, np.bool_)) or (isinstance(value, (int, np.integer)) and value in (0, 1)):
        return bool(value)
    raise TypeError(f"{name} must be True or False, got {value!r}")


def real_number(value: Any, name: str) -> float:
    """Return `value` as a float; raise `TypeError` for what is not a real number, booleans included."""
    if type(value) is float:  # asking an abstract class takes longer
        return value
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a real number, got {value!r}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} must be a number that a float holds, got {value!r:.40}") from None


def file_path(value: Any, name: str = "path") -> str:
    """Return `value` as the path of a file; raise `TypeError` for anything else, the number of an open file included.

    >>> file_path("model.safetensors")
    'model.safetensors'
    """
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{name} must be a path, got {value!r}")
    return os.fspath(value)


def is_list(value: Any) -> bool:
    """Whether an argument has a value for each of something: a tuple, a list or an array with axes."""
    return isinstance(value, (tuple, list)) or (isinstance(value, np.ndarray) and value.ndim > 0)


def are_pairs(value: Any) -> bool:
    """Whether an argument is a list of pairs.

    >>> are_pairs([(0, 1), (2, 2)]), are_pairs((0, 1))
    (True, False)
    """
    return is_list(value) and all(is_list(pair) and len(pair) == 2 for pair in value)


def shape_tuple(value: Any, name: str) -> tuple[int, ...]:
    """Return `value` as the shape of an array; `TypeError` for other values than integers, `ValueError` for negative ones.

    >>> shape_tuple([2, 0, 3], "input_shape")
    (2, 0, 3)
    """
    if not is_list(value):
        raise TypeError(f"{name} must be a tuple of integers, got {value!r}")
    shape = tuple(integer(item, name, "a tuple of integers") for item in value)
    if any(item < 0 for item in shape):
        raise ValueError(f"{name} must not be negative, got {value!r}")
    return shape


def ntuple(value: Any, rank: int, name: str, *, minimum: int = 1) -> tuple[int, ...]:
    """Return `value` as a tuple of `rank` integers, each at least `minimum`; one integer stands for all axes.

    Raises `TypeError` for what is not an integer and `ValueError` for a wrong length or a value below the minimum.

    >>> ntuple(3, 2, "stride")
    (3, 3)
    >>> ntuple((1, 2), 2, "stride")
    (1, 2)
    """
    if type(value) is tuple and len(value) == rank:
        for n in value:
            if type(n) is not int or not minimum <= n <= MAX_ELEMENTS:
                break
        else:
            return value
    if is_list(value):
        result = tuple(integer(item, name) for item in value)
        if len(result) != rank:
            raise ValueError(f"{name} must be one integer or {rank} of them (one for each spatial axis), got {value!r}")
    else:
        result = (integer(value, name),) * rank
    if any(item < minimum for item in result):
        raise ValueError(f"{name} must be at least {minimum}, got {value!r}")
    if any(item > MAX_ELEMENTS for item in result):
        raise ValueError(f"{name} is too large: got {value!r}, the largest size is {MAX_ELEMENTS}")
    return result


def check_elements(shape: Sequence[int], name: str) -> int:
    """Return the number of elements of `shape`; raise `ValueError` where it is more than an array can have.

    NumPy makes no array of no elements either if its other axes have too many.

    >>> check_elements((2, 3, 4), "x")
    24
    """
    most = math.prod(n for n in shape if n)
    if most > MAX_ELEMENTS:
        raise ValueError(f"{name} would have shape {tuple(shape)}: {most} elements are more than {MAX_ELEMENTS}")
    return 0 if 0 in shape else most
