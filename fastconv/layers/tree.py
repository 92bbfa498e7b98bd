"""Layers inside layers: how they are found and named, and how shared ones are told apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fastconv.layers.base import Layer


def places(layer: Layer, path: str = "") -> Iterator[tuple[str, Layer]]:
    """Yield `layer` and every layer inside it with its path, a shared layer once for each of its places."""
    waiting = [(path, layer)]
    while waiting:
        path, inner = waiting.pop()
        yield path, inner
        waiting.extend(_below(path, inner))


def walk(layer: Layer) -> Iterator[tuple[str, Layer]]:
    """Yield `layer` and every layer inside it with its path, each once: a shared layer at its first place."""
    seen: set[int] = set()
    waiting = [("", layer)]
    while waiting:
        path, inner = waiting.pop()
        if id(inner) not in seen:
            seen.add(id(inner))
            yield path, inner
            waiting.extend(_below(path, inner))


def _below(path: str, layer: Layer) -> Sequence[tuple[str, Layer]]:
    """Return the layers inside one at `path`, the last first, each with its path."""
    children = layer.children()
    if not children:
        return ()
    return [(f"{path}/{name}" if path else name, child) for name, child in reversed(children)]


def collect(layer: Layer, kind: str, *, trainable: bool = False) -> dict[str, np.ndarray]:
    """Return all arrays of `kind` ("params" or "buffers") in a layer and the layers inside it, by path; with `trainable` only
    those of layers that are.

    The arrays are the live ones. Raises `ValueError` where two layers side by side have the same name.

    >>> from fastconv.layers import Linear
    >>> from fastconv.sequential import Sequential
    >>> list(collect(Sequential([Linear(3)], input_shape=(2,)).build(), "params"))
    ['linear_1/weight', 'linear_1/bias']
    """
    arrays: dict[str, np.ndarray] = {}
    for path, inner in walk(layer):
        if trainable and not inner._trainable:
            continue
        for key, array in inner.own(kind).items():
            full = f"{path}/{key}" if path else key
            if full in arrays:
                raise ValueError(f"two layers of {layer.label} are called {path!r}: give one another name")
            arrays[full] = array
    return arrays


def other_places(layer: Layer) -> dict[str, str]:
    """Return the first place of each shared layer by each of its later ones, as where two nested models share one."""
    first: dict[int, str] = {}
    found = ((path, first.setdefault(id(inner), path)) for path, inner in places(layer))
    return {path: canonical for path, canonical in found if path != canonical}


def name_layers(layers: Sequence[Layer]) -> None:
    """Give a name to each layer that has none, ``relu_1``, ``relu_2``; raise `ValueError` for a name that two have."""
    taken: set[str] = set()
    for layer in layers:
        name = layer.name
        if name in taken:
            raise ValueError(f"two layers of a model are called {name!r}: give one another name, with layer.name = ...")
        if name is not None:
            taken.add(name)
    numbers: dict[str, int] = {}
    for layer in layers:
        if layer.name is not None:
            continue
        kind = type(layer).__name__.lower()
        while layer.name is None:
            numbers[kind] = numbers.get(kind, 0) + 1
            if f"{kind}_{numbers[kind]}" not in taken:
                layer.name = f"{kind}_{numbers[kind]}"
