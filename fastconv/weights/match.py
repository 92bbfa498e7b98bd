"""Copying the arrays of a file into a model, by name: all of them or none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Shape = tuple[int, ...]

#: How many names of each kind a message lists.
LISTED = 10

ADVICE = "; strict=False takes those that fit"


class Slot(NamedTuple):
    """One array of a model as somebody else's file has it.

    `array` is the live array, `shapes` are those that the file's may have, `inward` brings the file's into the layout of
    `array`, and `outward` the other way.
    """

    array: np.ndarray
    shapes: tuple[Shape, ...]
    inward: Callable[[np.ndarray], np.ndarray]
    outward: Callable[[np.ndarray], np.ndarray]


class Unfit(NamedTuple):
    """The names that found no place: only in the model, only in the file, in both with different shapes.

    What `load_torch_weights` and `load_keras_weights` return; all three are empty where everything was taken.
    """

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    misshaped: tuple[str, ...] = ()


class WeightsError(ValueError):
    """Weights that do not fit the model, or a file of weights that cannot be read; the model is as it was.

    `missing`, `unexpected` and `misshaped` are all the names in question, of which the message lists the first.
    """

    def __init__(self, message: str, unfit: Unfit | None = None) -> None:
        super().__init__(message)
        self.missing, self.unexpected, self.misshaped = unfit or Unfit()


def fit(slots: Mapping[str, Slot], given: Mapping[str, Any], *, strict: bool, hint: str = "") -> Unfit:
    """Copy the `given` arrays into those of `slots`, by name; return what found no place.

    Those in a file may be read when they are asked for: here that is when their shapes are right.

    Raises `WeightsError`, with `hint` at its end, before anything is changed: where `strict` and not everything fits, and where
    nothing fits at all.
    """
    shapes = {name: given[name].shape for name in slots if name in given}
    wrong = {name: shape for name, shape in shapes.items() if shape not in slots[name].shapes}
    unfit = Unfit(
        tuple(name for name in slots if name not in given),
        tuple(name for name in given if name not in slots),
        tuple(wrong),
    )
    fitting = [name for name in shapes if name not in wrong]
    if (strict and any(unfit)) or (slots and not fitting):
        details = {name: f"{name!r} of {shape} for {slots[name].shapes[0]}" for name, shape in wrong.items()}
        raise WeightsError(_complaint(unfit, details) + hint + (ADVICE if strict and fitting else ""), unfit)
    new = [(slots[name].array, slots[name].inward(_floats(name, given[name]))) for name in fitting]
    for array, value in new:
        array[...] = value
    return unfit


def _floats(name: str, array: Any) -> np.ndarray:
    if array.dtype.kind != "f":
        raise WeightsError(f"the array {name!r} must be of floating-point numbers, got {array.dtype}")
    return np.asarray(array)


def _complaint(unfit: Unfit, details: Mapping[str, str]) -> str:
    parts = [
        _counted(map(repr, unfit.missing), "of the model's arrays missing"),
        _counted(map(repr, unfit.unexpected), "unexpected"),
        _counted(details.values(), "of another shape"),
    ]
    return f"the weights do not fit the model, which stays as it was: {'; '.join(filter(None, parts))}"


def _counted(names: Any, what: str) -> str:
    listed: Sequence[str] = list(names)
    if not listed:
        return ""
    more = f" and {len(listed) - LISTED} more" if len(listed) > LISTED else ""
    return f"{len(listed)} {what}: {', '.join(listed[:LISTED])}{more}"
