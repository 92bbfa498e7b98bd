"""A task that a tiny network learns in a moment, and what the tests of training compare."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

import fastconv
from fastconv import layers as L


def stripes(n: int = 96, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return uint8 images (n, 8, 8, 1) with noise and a bright stripe, and which way it runs: 0 along, 1 down."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 120, (n, 8, 8, 1))
    y = rng.integers(0, 2, n)
    for image, label, place in zip(x, y, rng.integers(1, 7, n), strict=True):
        (image if label == 0 else image.swapaxes(0, 1))[place] += 130
    return x.astype(np.uint8), y


def network(*, dropout: bool = True) -> Any:
    """Return an unbuilt network with every kind of state: weights, running statistics, random numbers."""
    return fastconv.Sequential(
        [
            L.Conv2d(4, 3, padding="same"),
            L.BatchNorm(),
            L.ReLU(),
            L.MaxPool2d(2),
            *([L.Dropout(0.3)] if dropout else []),
            L.Flatten(),
            L.Linear(2),
        ]
    )


def fingerprint(model: Any) -> str:
    """Return a hash of every bit of a model's parameters and buffers."""
    digest = hashlib.sha256()
    for arrays in (model.params, model.buffers):
        for name, array in sorted(arrays.items()):
            digest.update(name.encode() + array.tobytes())
    return digest.hexdigest()
