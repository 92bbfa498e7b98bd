"""Symbols: shapes without values, which flow through a model while it is described."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from weakref import ref

from fastconv.arguments import ntuple

if TYPE_CHECKING:
    from fastconv.layers.base import Layer

Shape = tuple[int, ...]

_serial = itertools.count()


def _nothing() -> None:
    """Refer to a symbol that is not there."""


class Node:
    """One use of a layer: the symbols it reads and the symbols it makes.

    A node is made after its inputs, so a graph has no cycles and `serial` is a topological order. It does not hold its outputs,
    which hold it: layers and their weights go with the last who holds a symbol.
    """

    __slots__ = ("_outputs", "_shapes", "inputs", "layer", "serial")

    def __init__(self, layer: Layer, inputs: Sequence[Symbol], shapes: Sequence[Shape]) -> None:
        self.layer = layer
        self.inputs = tuple(inputs)
        self._shapes = tuple(shapes)
        self._outputs: list[Callable[[], Symbol | None]] = [_nothing] * len(self._shapes)
        self.serial = next(_serial)

    @property
    def outputs(self) -> tuple[Symbol, ...]:
        """The symbols it makes, the same ones as long as somebody holds them."""
        found = []
        for number, known in enumerate(self._outputs):
            symbol = known()
            if symbol is None:
                symbol = Symbol(self._shapes[number], node=self)
                self._outputs[number] = ref(symbol)
            found.append(symbol)
        return tuple(found)


class Symbol:
    """An array to be: its `shape` without the batch axis, and the `node` that makes it (None for a model's input).

    The axes of an input that are `free` may be of any size, channels too. `dtype` is "int32", "int64" or "bool" where an input
    is known to be that.
    """

    __slots__ = ("__weakref__", "dtype", "free", "name", "node", "shape")

    #: NumPy's operators must refuse a symbol, not wrap it in an array of objects
    __array_ufunc__ = None

    def __init__(
        self,
        shape: Shape,
        *,
        node: Node | None = None,
        name: str | None = None,
        free: Sequence[int] = (),
        dtype: str | None = None,
    ) -> None:
        self.shape = shape
        self.free = tuple(free)
        self.dtype = dtype
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
