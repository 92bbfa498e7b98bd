"""Symbols: what flows through a model while it is being described, a shape without values."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastconv.geometry import ntuple

if TYPE_CHECKING:
    from fastconv.layers.base import Layer

Shape = tuple[int, ...]

_serial = itertools.count()


class Node:
    """One use of a layer: the symbols it reads and the symbols it makes.

    A node is made after its inputs, so a graph has no cycles and `serial` is a topological order.
    """

    __slots__ = ("inputs", "layer", "outputs", "serial")

    def __init__(self, layer: Layer, inputs: Sequence[Symbol], shapes: Sequence[Shape]) -> None:
        self.layer = layer
        self.inputs = tuple(inputs)
        self.outputs = tuple(Symbol(shape, node=self) for shape in shapes)
        self.serial = next(_serial)


class Symbol:
    """An array to be: its `shape` without the batch axis, and the `node` that makes it (None for a model's input)."""

    __slots__ = ("name", "node", "shape")

    #: NumPy's operators must refuse a symbol, not wrap it in an array of objects
    __array_ufunc__ = None

    def __init__(self, shape: Shape, *, node: Node | None = None, name: str | None = None) -> None:
        self.shape = shape
        self.node = node
        self.name = name

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"{self!r} stands for an array but has no values: call a layer on it")

    def __repr__(self) -> str:
        maker = f"made by {self.node.layer!r}" if self.node else f"input {self.name!r}" if self.name else "input"
        return f"<symbol of shape {self.shape}, {maker}>"


def Input(shape: Sequence[int], *, name: str | None = None) -> Symbol:
    """Return a symbol for arrays ``(N, *shape)``: what a model is described with.

    Parameters
    ----------
    shape : tuple of int
        Without the batch axis: ``(H, W, C)`` for images.
    name : str, optional
        What messages call it.

    Examples
    --------
    >>> from fastconv.layers import Conv2d
    >>> Conv2d(8, 3)(Input((28, 28, 1))).shape
    (26, 26, 8)
    """
    if name is not None and not isinstance(name, str):
        raise TypeError(f"name must be a string, got {name!r}")
    return Symbol(input_shape_of(shape), name=name)


def input_shape_of(shape: Any) -> Shape:
    """Return the shape of an input as a tuple; raise `TypeError` or `ValueError` for what is none.

    >>> input_shape_of([28, 28, 1])
    (28, 28, 1)
    """
    if not isinstance(shape, (tuple, list)):
        raise TypeError(f"an input's shape must be a tuple without the batch axis, as in (28, 28, 1), got {shape!r}")
    return ntuple(tuple(shape), len(shape), "an input's shape")


def several(shape: Any) -> bool:
    """Return whether an output shape is that of several outputs: a tuple of shapes.

    >>> several((28, 28, 1)), several(((28, 28, 1), (10,)))
    (False, True)
    """
    return isinstance(shape, (tuple, list)) and bool(shape) and isinstance(shape[0], (tuple, list))
