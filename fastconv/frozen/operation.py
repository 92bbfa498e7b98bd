"""The base of all operations, and their representation as JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastconv.frozen.activations import NAMES
from fastconv.functional.calls import Activation, Call, View
from fastconv.functional.frozen_weight import Weight, array_of
from fastconv.layers.symbol import Shape

Array = NDArray[Any]
Self = TypeVar("Self", bound="Operation")

#: Name in a file to class; filled by `register`.
OPERATIONS: dict[str, type[Operation]] = {}

#: Most of what fields are; what is in tuples, or tuples again.
_NUMBERS = frozenset({int, float, bool, str, type(None)})
_NO_ARRAYS = _NUMBERS | {tuple}


class Operation:
    """A function of arrays that knows its constants. Shapes are with the batch axis.

    A subclass is a frozen dataclass whose fields are numbers, strings, (nested) tuples of them, arrays, and an `Activation`.
    What its fields must be, it checks in `output_shape`, which runs before any kernel does.
    """

    kind: ClassVar[str]

    #: Whether the output may be written over an input of its shape that nobody reads any more.
    in_place: ClassVar[bool] = False

    #: Fields whose arrays are places or conditions, int64 or bool; all others have the dtype of the model.
    index_fields: ClassVar[tuple[str, ...]] = ()

    #: Whether `output_shape` takes the batch of the model as ``batch=``: what it reads has another one.
    knows_batch: ClassVar[bool] = False

    def output_shape(self, *shapes: Shape) -> Any:
        """Return the shape of the output for inputs of `shapes`, or a list of shapes for several outputs; check everything."""
        raise NotImplementedError

    def is_view(self, *shapes: Shape) -> bool:
        """Return whether the output is the input in another shape, in the same memory."""
        return False

    def reads_channels(self, *shapes: Shape) -> bool:
        """Return whether its only input may be some of the channels of an array: a view with a `width`."""
        return False

    def writes_channels(self, *shapes: Shape) -> bool:
        """Return whether its output may be some of the channels of an array: a view with a `width`."""
        return False

    def calls(self, kernels: Any, reads: Sequence[View], writes: Sequence[View]) -> list[Call]:
        """Return the calls that write the outputs; `kernels` is the module for the dtype."""
        raise NotImplementedError

    def multiply_adds(self, *shapes: Shape) -> int:
        """Return how many multiplications (each with its addition) it takes; 0 for what is not a matrix product."""
        return 0

    def replace(self: Self, **changes: Any) -> Self:
        """Return the same operation with other fields."""
        return type(self)(**{**fields(self), **changes})


def register(cls: type[Self]) -> type[Self]:
    """Let files name a class by its `kind`."""
    OPERATIONS[cls.kind] = cls
    return cls


def constants(operation: Operation) -> list[Array | Weight]:
    """Return the arrays that an operation computes with."""
    found: list[Array | Weight] = []
    for value in vars(operation).values():
        kind = type(value)
        if kind in _NUMBERS or (kind is tuple and _NO_ARRAYS.issuperset(map(type, value))):
            continue
        for item in value if kind is tuple else (value,):
            each = item.slope if type(item) is Activation else item
            if isinstance(each, (np.ndarray, Weight)):
                found.append(each)
    return found


def fields(operation: Operation) -> dict[str, Any]:
    """Return the fields of an operation by name."""
    return dict(vars(operation))  # of a dataclass they are all that it has


def encode(value: Any, name_of: Callable[[Array], str]) -> Any:
    """Return a field as JSON; an array as ``{"array": name}``."""
    if isinstance(value, (np.ndarray, Weight)):
        return {"array": name_of(array_of(value))}
    if isinstance(value, Activation):
        numbers = [
            str(number) if math.isinf(number) else number for number in (value.a, value.b)
        ]  # JSON has no infinity
        return {"activation": [value.name, *numbers, encode(value.slope, name_of)]}
    if isinstance(value, (tuple, list)):
        return [encode(item, name_of) for item in value]
    return value


def decode(value: Any, arrays: dict[str, Array]) -> Any:
    """Undo `encode`; `ValueError` for what it did not write."""
    if isinstance(value, list):
        return tuple(decode(item, arrays) for item in value)
    if not isinstance(value, dict):
        return value
    if set(value) == {"array"}:
        if value["array"] not in arrays:
            raise ValueError(f"lacks an array that its description names: {value['array']!r:.80}")
        return arrays[value["array"]]
    if set(value) == {"activation"}:
        return _activation(*decode(value["activation"], arrays))
    raise ValueError(f"{value!r:.80} describes nothing that is known")


def _activation(name: str, a: float, b: float, slope: Array | None) -> Activation:
    if name not in NAMES or (name == "prelu") != isinstance(slope, np.ndarray):
        raise ValueError(f"there is no activation {name!r:.80}")
    return Activation(name, float(a), float(b), slope)


def require_slope(activation: Activation | None, channels: int) -> None:
    """Raise `ValueError` unless the slopes of an activation, if it has any, are one for each channel."""
    if activation is not None and activation.slope is not None:
        require_channels(activation.slope, channels, "slope")


def require_channels(array: Any, channels: int, name: str) -> None:
    """Raise `ValueError` unless an array has one value for each channel."""
    if not isinstance(array, np.ndarray) or array.shape != (channels,):
        raise ValueError(
            f"{name} must have shape ({channels},), one value for each channel, got {getattr(array, 'shape', array)!r:.80}"
        )


def of_channels(channels: int, *arrays: Array) -> tuple[Array, ...]:
    """Return arrays of one value for each channel; where all channels have the same, for any number of them.

    For the last axis of an array that may be of any length.
    """
    if any(np.ndim(array) != 1 or len(array) in (0, channels) or (array != array[0]).any() for array in arrays):
        return arrays
    return tuple(np.full(channels, array[0]) for array in arrays)


def require_image(shape: Shape) -> None:
    """Raise `ValueError` unless a shape is that of images with channels."""
    if not 3 <= len(shape) <= 5 or shape[-1] == 0:
        raise ValueError(f"x must have shape (N, *spatial, C) with 1, 2 or 3 spatial axes, got shape {shape}")
