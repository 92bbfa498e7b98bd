"""The sizes that a conversion plans with where a file leaves them open: two of each, to see what depends on which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from fastconv.onnx.errors import OnnxImportError
from fastconv.onnx.files import DTYPES, Tensor

#: What a size is taken to be where the file leaves it open, and another one that is tried beside it: of the batch, of an
#: image, of anything else. Of images the other sizes are so much larger from axis to axis, so that what is of one axis differs
#: from what is of another.
BATCH, PIXELS, LENGTH, APART = (2, 3), (224, 256), (16, 24), 32

#: The shape of an input, and another one that differs in what the file leaves open.
Sizes = tuple[tuple[int, ...], tuple[int, ...]]


def planned(inputs: Sequence[Tensor], given: Mapping[str, Sequence[int]] | None = None) -> dict[str, Sizes]:
    """Return the shapes of inputs, `given` ones as they are; what has one name in several inputs is of one size there.

    >>> import numpy as np
    >>> x, count = Tensor("x", (None, None, 4), np.dtype("f4"), ("T", "N", "")), Tensor("n", (None,), np.dtype("i8"), ("N",))
    >>> planned([x, count])
    {'x': ((2, 16, 4), (3, 24, 4)), 'n': ((16,), (24,))}
    >>> planned([x, count], {"x": (7, 5, 4)})
    {'x': ((7, 5, 4), (7, 5, 4)), 'n': ((5,), (5,))}
    """
    given = given or {}
    shapes = {each.name: _shape(each, given.get(each.name)) for each in inputs}
    named = _named(inputs, shapes)
    return {each.name: _sizes(each, shapes[each.name], named) for each in inputs}


def _shape(tensor: Tensor, given: Sequence[int] | None) -> tuple[int | None, ...]:
    if tensor.dtype not in DTYPES:
        raise OnnxImportError(
            f"the input {tensor.name!r} is {tensor.dtype}, and only {', '.join(map(str, DTYPES))} are supported"
        )
    shape = tensor.shape if given is None else tuple(given)
    if shape is None:
        raise OnnxImportError(
            f"the file does not say which shape its input {tensor.name!r} has: give load(..., input_shapes=)"
        )
    if given is not None and tensor.shape is not None:
        fits = len(given) == len(tensor.shape) and all(m in (None, n) for n, m in zip(given, tensor.shape, strict=True))
        if not fits:
            raise OnnxImportError(
                f"the input {tensor.name!r} has shape {tensor.shape}, which {tuple(given)} does not fit"
            )
    return shape


def _named(inputs: Sequence[Tensor], shapes: Mapping[str, tuple[int | None, ...]]) -> dict[str, tuple[int, int]]:
    """Return the sizes of names that say something: who writes one name for several axes of an input means none of them."""
    vague = {name for each in inputs for name, count in Counter(each.names).items() if count > 1}
    places: dict[str, list[tuple[int, int, int | None]]] = {}  # how many axes, which of them, its size
    for each in inputs:
        shape = shapes[each.name]
        for axis, name in enumerate(each.names):
            if name and name not in vague and axis < len(shape):
                places.setdefault(name, []).append((len(shape), axis, shape[axis]))
    found = {}
    for name, some in places.items():
        known = {n for _, _, n in some if n is not None}
        rank, axis, _ = max(some, key=lambda place: (place[0] > 3 and place[1] > 1, place[1] > 0))
        n = known.pop() if len(known) == 1 else None
        found[name] = _size(rank, axis) if n is None else (n, n)
    return found


def _sizes(tensor: Tensor, shape: Sequence[int | None], named: Mapping[str, tuple[int, int]]) -> Sizes:
    names = tensor.names or ("",) * len(shape)
    pairs = [
        (n, n) if n is not None else named.get(names[axis]) or _size(len(shape), axis) for axis, n in enumerate(shape)
    ]
    return tuple(n for n, _ in pairs), tuple(n for _, n in pairs)


def _size(rank: int, axis: int) -> tuple[int, int]:
    """Return what an axis of an input of so many axes is taken to be."""
    if axis == 0:
        return BATCH
    return (PIXELS[0], PIXELS[1] + APART * (axis - 2)) if rank > 3 and axis > 1 else LENGTH
