"""The network: `tiny`."""

from __future__ import annotations

from fastconv import Sequential
from fastconv import layers as L
from petals.layers import Swish


def tiny(input_shape, classes):
    """Two convolutions, each with batch normalization and `Swish`, and one linear layer."""
    return Sequential(
        [
            L.Conv2d(16, 3, stride=2, padding=1, bias=False),
            L.BatchNorm(),
            Swish(),
            L.Conv2d(32, 3, stride=2, padding=1, bias=False),
            L.BatchNorm(),
            Swish(),
            L.Flatten(),
            L.Linear(classes),
        ],
        input_shape=input_shape,
    )
