"""Whether a layer is differentiable between two points, by the declared kinks of it and the layers inside it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv.layers import Layer
from fastconv.layers.tree import walk
from fastconv.testing.cases import AWAY, Arrays, Case, several

#: The side of a kink on which everything is that meets one: two places with the same are on one smooth piece.
Piece = list[Any]


def same_piece(case: Case, places: Sequence[tuple[Layer, Arrays]]) -> bool:
    """Return whether no layer inside comes to another side of a kink of its own between `places`, (layer, inputs) each.

    A layer without others inside is kept from its kinks by its inputs already, unless it computes the distance from them.
    """
    layer = case.entry.layer
    for other, xs in places:
        distance = other.traits.kinks  # of the copy at hand, whose parameters may decide where a kink is
        if callable(distance) and distance(*xs) < AWAY / 10:
            return False
    if not any(inner.traits.kinks for _, inner in walk(layer) if inner is not layer):
        return True
    first, *others = (_piece(case, copy.deepcopy(other), xs) for other, xs in places)
    return all(first == other for other in others)


def _piece(case: Case, layer: Layer, xs: Arrays) -> Piece:
    piece: Piece = []
    for _, inner in walk(layer):
        if inner is not layer and inner.traits.kinks:
            _watch(inner, piece)
    case.forward(layer, xs)
    return piece


def _watch(layer: Layer, piece: Piece) -> None:
    """Let every forward pass of a layer (a copy that nobody else has) write down on which sides of its kinks it is."""
    forward, kinks = layer.forward, layer.traits.kinks

    def watched(ctx: Any, *xs: np.ndarray) -> Any:
        result = forward(ctx, *xs)
        if callable(kinks):
            piece.append(kinks(*xs) >= AWAY / 10)
        elif kinks == "ties":  # which of equals wins is what the backward pass knows
            y, backward = forward(ctx, *xs)
            piece.append([dx.tobytes() for dx in several(backward(np.ones_like(y))[0]) if dx is not None])
        else:
            piece.append([(x > kink).tobytes() for x in xs for kink in kinks])
        return result

    layer.forward = watched  # type: ignore[method-assign]
