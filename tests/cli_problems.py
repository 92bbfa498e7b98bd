"""Small data sets and networks for the tests of the command line, and how to run it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

import fastconv

#: A network that trains in milliseconds, as `fastconv train --model FILE.json` reads it.
TINY = [
    {"layer": "Conv2d", "config": {"channels": 4, "kernel_size": 3, "stride": 2}},
    {"layer": "BatchNorm"},
    {"layer": "ReLU"},
    {"layer": "Dropout", "config": {"rate": 0.1}},
    {"layer": "Flatten"},
    {"layer": "Linear", "config": {"features": 3}},
]

CLASSES = ("bar", "cross", "dot")


def shapes(count: int, *, size: int = 12, channels: int = 1, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return `count` noisy uint8 images of bars, crosses and dots ``(N, size, size, channels)``, and their labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = rng.integers(0, 60, (count, size, size, channels))
    middle = size // 2
    for image, label in zip(images, labels, strict=True):
        if label < 2:
            image[:, middle - 1 : middle + 1] = 220
        if label == 1:
            image[middle - 1 : middle + 1] = 220
        if label == 2:
            image[middle - 2 : middle + 2, middle - 2 : middle + 2] = 220
    return images.astype(np.uint8), labels.astype(np.int64)


def write_npz(path: Path, **changed: Any) -> Path:
    """Write the shapes as an ``.npz`` file with training and test part; `changed` arrays replace those, None leaves one out."""
    x_train, y_train = shapes(60)
    x_test, y_test = shapes(15, seed=1)
    arrays = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test, "classes": np.array(CLASSES)}
    arrays |= changed
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def write_model(path: Path, layers: Any = TINY) -> Path:
    """Write a network as JSON."""
    path.write_text(json.dumps(layers))
    return path


def write_folder(root: Path, count: int = 18, *, channels: int = 3, size: int = 12) -> Path:
    """Write the shapes as PNG files, one folder per class."""
    from PIL import Image

    images, labels = shapes(count, channels=channels, size=size)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = root / CLASSES[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image if channels == 3 else image[..., 0]).save(folder / f"{number}.png")
    return root


def environment(**changes: str) -> dict[str, str]:
    """Return the environment of a process of its own that imports the package that these tests import."""
    return os.environ | {"PYTHONPATH": str(Path(fastconv.__file__).parents[1])} | changes
