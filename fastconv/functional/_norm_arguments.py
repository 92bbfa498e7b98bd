"""The arguments that normalizations share, checked, and what they cost."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, NDArray

from fastconv.arguments import real_number
from fastconv.functional._validate import float_array, require_shape

Gradients = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]

#: Multiply-adds for each number, about: of the sums and the map, and as many again in the backward pass.
COST = 2


def norm_input(x: ArrayLike) -> NDArray[Any]:
    """Check an array (..., C)."""
    array = float_array(x, "x")
    if array.ndim == 0 or array.shape[-1] == 0:
        raise ValueError(f"x must have shape (..., C), at least one channel, got shape {array.shape}")
    return array


def channel_values(value: ArrayLike | None, name: str, x: NDArray[Any]) -> NDArray[Any]:
    """Check an array that has one value for each channel of x."""
    array = float_array(value, name, like=x)
    require_shape(array, x.shape[-1:], name, "one value for each channel of x")
    return array


def epsilon(eps: Any) -> float:
    """Check what is added to a variance."""
    number = real_number(eps, "eps")
    if not number >= 0:
        raise ValueError(f"eps must be at least 0, got {eps!r}")
    return number


def norm_gradient(dy: ArrayLike, x: NDArray[Any]) -> NDArray[Any]:
    """Check the gradient of the loss with respect to the output."""
    array = float_array(dy, "dy", like=x)
    require_shape(array, x.shape, "dy", "the shape of x")
    return array
