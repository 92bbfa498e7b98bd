"""The data set: flowers, drawn from a formula."""

from __future__ import annotations

import numpy as np

from fastconv.data import Dataset

PETALS = (3, 4, 5, 6, 8)


def flowers(*, count: int = 1000, size: int = 24, seed: int = 0) -> Dataset:
    """Return color images ``(N, size, size, 3)``, uint8, of flowers; the classes are the numbers of their petals.

    A pixel belongs to a flower where ``r < radius * (0.62 + 0.38 cos(petals * (angle - turn)))``. Place, size, turn and colors
    are drawn from `seed`; one image in five is for the test.
    """
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % len(PETALS)
    images = np.stack([_draw(PETALS[label], size, rng) for label in labels])
    tests = np.arange(count) // len(PETALS) % 5 == 4
    names = tuple(f"{petals} petals" for petals in PETALS)
    return Dataset((images[~tests], labels[~tests]), (images[tests], labels[tests]), names)


def _draw(petals: int, size: int, rng: np.random.Generator) -> np.ndarray:
    centre = size / 2 + rng.uniform(-0.08, 0.08, 2) * size
    rows, columns = np.indices((size, size)) - centre[:, np.newaxis, np.newaxis]
    radius, angle = np.hypot(rows, columns), np.arctan2(rows, columns)
    edge = size * rng.uniform(0.36, 0.48) * (0.62 + 0.38 * np.cos(petals * (angle - rng.uniform(0, 2 * np.pi))))
    inside = np.clip(edge - radius + 0.5, 0, 1)[..., np.newaxis]  # a soft edge, one pixel wide
    color, meadow = rng.uniform(140, 255, 3), rng.uniform(0, 70, 3)
    image = meadow + inside * (color - meadow) + rng.normal(0, 8, (size, size, 3))
    return np.clip(image, 0, 255).astype(np.uint8)
