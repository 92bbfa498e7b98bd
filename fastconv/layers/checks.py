"""Checks of arguments and inputs that the built-in layers share, with one wording everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv.arguments import MAX_ELEMENTS, integer, is_list, ntuple, real_number

_AXES = {1: "(N, L, C)", 2: "(N, H, W, C)", 3: "(N, D, H, W, C)"}


def positive(value: Any, name: str) -> int:
    """Return `value` as an integer of at least 1.

    >>> positive(3, "channels")
    3
    """
    if type(value) is int and 1 <= value <= MAX_ELEMENTS:  # as nearly always
        return value
    if isinstance(value, (tuple, list, np.ndarray)):
        raise TypeError(f"{name} must be one integer, got {value!r}")
    return ntuple(value, 1, name)[0]


def number(value: Any, name: str, *, low: float = float("-inf"), high: float = float("inf")) -> float:
    """Return `value` as a float between `low` and `high` (both allowed)."""
    if isinstance(value, (bool, str)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not low <= value <= high:
        raise ValueError(f"{name} must be between {low} and {high}, got {value!r}")
    return real_number(value, name)


def sizes(value: Any, name: str) -> tuple[int, ...]:
    """Return positive integers, of which there is one for each of 1 to 3 spatial axes.

    >>> sizes([3, 2], "size")
    (3, 2)
    """
    if not is_list(value):
        raise TypeError(f"{name} must be a list of integers, one for each spatial axis, got {value!r}")
    if not 1 <= len(value) <= 3:
        raise ValueError(f"{name} must have an integer for each of 1 to 3 spatial axes, got {value!r}")
    return ntuple(tuple(value), len(value), name)


def spatial_shape(shape: Sequence[int], rank: int | None = None) -> tuple[int, ...]:
    """Return the spatial part of a shape without batch axis, ``(*spatial, C)``, of `rank` axes (1 to 3 for None).

    >>> spatial_shape((28, 28, 3), 2)
    (28, 28)
    """
    found = len(shape) - 1
    if rank is None and not 1 <= found <= 3:
        raise ValueError(f"x must have shape (N, *spatial, C) with 1, 2 or 3 spatial axes, got {with_batch(shape)}")
    if rank is not None and found != rank:
        raise ValueError(f"x must have shape {_AXES[rank]}, got {with_batch(shape)}")
    return tuple(shape[:-1])


def require_last_axis(shape: Sequence[int]) -> None:
    """Raise `ValueError` unless samples of this shape have an axis, the channels."""
    if not shape:
        raise ValueError("x must have shape (N, ..., C), got (N,)")


def require_channels(x: np.ndarray, channels: int) -> None:
    """Raise `ValueError` unless the last axis of `x` has as many entries as the parameters of the layer."""
    if x.ndim < 2 or x.shape[-1] != channels:
        raise ValueError(
            f"x must have shape (N, ..., {channels}), the channels this layer was built for, got {x.shape}"
        )


def require_floats(*xs: np.ndarray) -> None:
    """Raise `TypeError` unless all inputs are float32 or all float64."""
    for x in xs:
        if x.dtype not in (np.float32, np.float64):
            raise TypeError(f"x must be a float32 or float64 array, got {x.dtype} of shape {x.shape}")
    if len({x.dtype for x in xs}) > 1:
        raise TypeError(f"the inputs must have one dtype, got {' and '.join(str(x.dtype) for x in xs)}")


def require_numbers(*xs: np.ndarray) -> None:
    """Raise `TypeError` unless every input is float32, float64, integers or booleans."""
    for x in xs:
        if x.dtype not in (np.float32, np.float64) and x.dtype.kind not in "iub":
            raise TypeError(f"x must be an array of float32, float64, integers or booleans, got {x.dtype}")


def inner_axis(axis: int, rank: int, name: str = "axis") -> int:
    """Return an axis of arrays of `rank` axes counted from the front; raise `ValueError` for the batch or none.

    >>> inner_axis(-1, 4)
    3
    """
    if not -rank <= axis < rank or axis % rank == 0:
        raise ValueError(f"{name} must be one of the axes after the batch of an array of {rank} axes, got {axis}")
    return axis % rank


def inner_axes(axes: Sequence[int], rank: int, name: str = "axes") -> tuple[int, ...]:
    """Return several axes as `inner_axis` does, each once."""
    found = tuple(inner_axis(axis, rank, name) for axis in axes)
    if len(set(found)) < len(found):
        raise ValueError(f"{name} must name each axis once, got {tuple(axes)}")
    return found


def axes_of(value: Any, name: str = "axes") -> tuple[int, ...]:
    """Return an axis or several, as a layer keeps them; `TypeError` for what is not an integer, `ValueError` for the batch.

    >>> axes_of(-1), axes_of([1, 2])
    ((-1,), (1, 2))
    """
    axes = tuple(integer(axis, name) for axis in (value if isinstance(value, (tuple, list)) else (value,)))
    if 0 in axes:
        raise ValueError(f"{name} must not be 0, the batch, got {value!r}")
    return axes


def axis_of(value: Any, name: str = "axis") -> int:
    """Return one axis, as `axes_of` does.

    >>> axis_of(-1)
    -1
    """
    axes = axes_of(value, name)
    if len(axes) != 1:
        raise ValueError(f"{name} must be one axis, got {value!r}")
    return axes[0]


def with_batch(shape: Sequence[int]) -> str:
    """Return a shape as messages write it.

    >>> with_batch((28, 28, 1))
    '(N, 28, 28, 1)'
    """
    return f"({', '.join(['N', *map(str, shape)])})"
