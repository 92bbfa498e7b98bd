"""`Sequential`: the model that is a chain of layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from fastconv.graph import Graph
from fastconv.layers.base import Layer
from fastconv.layers.symbol import Shape, Symbol, input_shape_of
from fastconv.layers.tree import name_layers
from fastconv.model import Model
from fastconv.registry import layers as registry

__all__ = ["Sequential"]

Self = TypeVar("Self", bound="Sequential")


@registry.register("Sequential")
class Sequential(Model):
    """A chain of layers: each reads what the one before it made.

    Parameters
    ----------
    layers : list of layers
        The first may be an `Input`.
    input_shape : tuple of int, optional
        Without the batch axis. Left out, the model learns it from the first array it is called on.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU
    >>> model = Sequential([Conv2d(8, 3), ReLU(), MaxPool2d(), Flatten(), Linear(10)])
    >>> model(np.zeros((2, 28, 28, 1), np.float32)).shape
    (2, 10)
    """

    _own_constructor = False
    _chain: tuple[Layer, ...] = ()

    def __init__(self, layers: Sequence[Any], *, input_shape: Sequence[int] | None = None) -> None:
        if not isinstance(layers, (list, tuple)):
            raise TypeError(f"layers must be a list of layers, got {type(layers).__name__}")
        if layers and isinstance(layers[0], Symbol):
            if layers[0].node is not None or input_shape is not None:
                raise ValueError(
                    "the first of layers may be an Input where input_shape is not given, and no other symbol"
                )
            input_shape, layers = layers[0].shape, layers[1:]
        if not layers:
            raise ValueError("layers must be at least one layer, got none")
        for at, layer in enumerate(layers):
            if not isinstance(layer, Layer):
                hint = ": call it, to make one" if isinstance(layer, type) and issubclass(layer, Layer) else ""
                raise TypeError(f"layers[{at}] must be a layer, got {layer!r}{hint}")
        self._chain = tuple(layers)
        name_layers(list({id(layer): layer for layer in layers}.values()))
        shape = None if input_shape is None else input_shape_of(input_shape)
        if not self._own_constructor:
            self.config = {"layers": list(layers), "input_shape": None if shape is None else list(shape)}
        if shape is not None:
            self._connect([shape])

    @classmethod
    def from_config(cls: type[Self], config: dict[str, Any]) -> Self:
        return cls(**config)

    @property
    def layers(self) -> tuple[Layer, ...]:
        return self._chain

    def _members(self) -> Sequence[Layer]:
        return list({id(layer): layer for layer in self._chain}.values())

    def _connect(self, shapes: Sequence[Shape]) -> None:
        if self._graph is not None:
            return
        if len(shapes) != 1:
            raise ValueError(f"{self.label} takes 1 input, got {len(shapes)}")
        start = value = Symbol(tuple(shapes[0]))
        for layer in self._chain:
            value = layer(value)
            if isinstance(value, tuple):
                raise ValueError(f"{layer.label} has several outputs; in a chain every layer has one: use Model")
        self._graph = Graph([start], [value])
