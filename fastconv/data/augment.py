"""Augmentation: small objects that change the images of a batch at random.

An augmentation is called with the float images of a batch ``(n, *spatial, C)``, their targets, and the `Draws` of the
batch; it returns images and targets. It may write into the images, which are its own. Anything that can be called like
this will do:

>>> def darker(images, targets, draws):
...     images *= draws.uniform(0.5, 1.0)[:, None, None, None]
...     return images, targets

Use it as ``model.fit(x, y, augment=[Flip(), Shift(2), darker], ...)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastconv.arguments import ntuple
from fastconv.data.draws import Draws

Augmentation = Callable[[np.ndarray, Any, Draws], tuple[np.ndarray, Any]]


class Compose:
    """Augmentations one after the other.

    >>> Compose([Flip(), Shift(2)])
    Compose([Flip(direction='horizontal', probability=0.5), Shift(pixels=2, fill=0.0)])
    """

    def __init__(self, augmentations: Iterable[Augmentation]) -> None:
        try:
            self.augmentations = tuple(augmentations)
        except TypeError:
            raise TypeError(f"augment must be an augmentation or a list of them, got {augmentations!r}") from None
        for item in self.augmentations:
            if isinstance(item, type) or not callable(item):
                raise TypeError(
                    f"an augmentation is an object like Flip(), called with images, targets, draws; got {item!r}"
                )

    def __call__(self, images: np.ndarray, targets: Any, draws: Draws) -> tuple[np.ndarray, Any]:
        for augmentation in self.augmentations:
            images, targets = augmentation(images, targets, draws)
        return images, targets

    def __repr__(self) -> str:
        # a function's repr is its address, which is another one in every process
        names = [getattr(item, "__qualname__", None) or repr(item) for item in self.augmentations]
        return f"Compose([{', '.join(names)}])"


@dataclass(frozen=True)
class Flip:
    """Mirror an image with `probability`, along its width ("horizontal") or height ("vertical").

    >>> images = np.arange(3.0).reshape(1, 1, 3, 1)
    >>> Flip(probability=1)(images, None, Draws(0, 0, np.arange(1)))[0].ravel()
    array([2., 1., 0.])
    """

    direction: str = "horizontal"
    probability: float = 0.5

    def __post_init__(self) -> None:
        if self.direction not in ("horizontal", "vertical"):
            raise ValueError(f'direction must be "horizontal" or "vertical", got {self.direction!r}')
        _probability(self.probability)

    def __call__(self, images: np.ndarray, targets: Any, draws: Draws) -> tuple[np.ndarray, Any]:
        axis = -2 if self.direction == "horizontal" else -3
        _need_rank(images, 1 - axis, self)
        chosen = draws.chance(self.probability)
        images[chosen] = np.flip(images[chosen], axis)
        return images, targets


@dataclass(frozen=True)
class Shift:
    """Move an image by up to `pixels` along every spatial axis; what comes in at the border is `fill`.

    `pixels` is an integer, or one for each spatial axis. All moves, none included, are equally likely.
    """

    pixels: int | tuple[int, ...]
    fill: float = 0.0

    def __post_init__(self) -> None:
        _sizes(self.pixels, "pixels", minimum=0)

    def __call__(self, images: np.ndarray, targets: Any, draws: Draws) -> tuple[np.ndarray, Any]:
        return _windows(images, images.shape[1:-1], self.pixels, self.fill, draws), targets


@dataclass(frozen=True)
class Crop:
    """Cut a window of `size` pixels out of an image at a random place, after `padding` pixels of `fill` on every side.

    `size` and `padding` are integers, or one for each spatial axis. Where the size is not that of the images, the model
    sees smaller or larger images in training than in evaluation, which takes a network that ends in a global pooling.
    """

    size: int | tuple[int, ...]
    padding: int | tuple[int, ...] = 0
    fill: float = 0.0

    def __post_init__(self) -> None:
        _sizes(self.size, "size", minimum=1)
        _sizes(self.padding, "padding", minimum=0)

    def __call__(self, images: np.ndarray, targets: Any, draws: Draws) -> tuple[np.ndarray, Any]:
        return _windows(images, ntuple(self.size, images.ndim - 2, "size"), self.padding, self.fill, draws), targets


@dataclass(frozen=True)
class Rotate:
    """Turn a two-dimensional image about its centre by up to `degrees` either way, bilinearly; corners become `fill`."""

    degrees: float
    fill: float = 0.0

    def __post_init__(self) -> None:
        if not self.degrees >= 0:
            raise ValueError(f"degrees must be at least 0, got {self.degrees!r}")

    def __call__(self, images: np.ndarray, targets: Any, draws: Draws) -> tuple[np.ndarray, Any]:
        _need_rank(images, 4, self)
        if images.ndim != 4:
            raise ValueError(f"{self} takes images (N, H, W, C), got shape {images.shape}")
        n, height, width, channels = images.shape
        angle = np.deg2rad(draws.uniform(-self.degrees, self.degrees)).astype(np.float32)[:, None, None]
        cos, sin = np.cos(angle), np.sin(angle)
        rows = (np.arange(height, dtype=np.float32) - (height - 1) / 2)[:, None]
        columns = (np.arange(width, dtype=np.float32) - (width - 1) / 2)[None, :]
        # where each output pixel comes from, in an image with a border of one pixel of fill: (n, H, W)
        from_row = np.clip(cos * rows - sin * columns + (height + 1) / 2, 0, height + 1)
        from_column = np.clip(sin * rows + cos * columns + (width + 1) / 2, 0, width + 1)
        padded = _padded(images, (1, 1), self.fill).reshape(-1, channels)
        top = np.minimum(from_row.astype(np.int32), height)
        left = np.minimum(from_column.astype(np.int32), width)
        down, right = (from_row - top)[..., None], (from_column - left)[..., None]
        first = np.arange(n, dtype=np.int32)[:, None, None] * ((height + 2) * (width + 2)) + top * (width + 2) + left
        above = _blend(padded[first], padded[first + 1], right)
        below = _blend(padded[first + width + 2], padded[first + width + 3], right)
        return _blend(above, below, down).astype(images.dtype, copy=False), targets


@dataclass(frozen=True)
class Erase:
    """Fill a random rectangle of an image with `fill`, with `probability`.

    `area` is the range of the rectangle's share of the image, `ratio` that of its height over its width; a rectangle
    that is too high or too wide is cut. Source: Zhong et al., Random erasing data augmentation, AAAI 2020.
    """

    probability: float = 0.5
    area: tuple[float, float] = (0.02, 0.2)
    ratio: tuple[float, float] = (0.3, 3.3)
    fill: float = 0.0

    def __post_init__(self) -> None:
        _probability(self.probability)
        low, high = self.area
        if not 0 < low <= high <= 1:
            raise ValueError(f"area must be two shares of the image, 0 < low <= high <= 1, got {self.area!r}")
        low, high = self.ratio
        if not 0 < low <= high:
            raise ValueError(f"ratio must be two positive numbers, low <= high, got {self.ratio!r}")

    def __call__(self, images: np.ndarray, targets: Any, draws: Draws) -> tuple[np.ndarray, Any]:
        _need_rank(images, 4, self)
        height, width = images.shape[-3:-1]
        chosen = np.flatnonzero(draws.chance(self.probability))
        area = draws.uniform(*self.area) * height * width
        # uniform in the logarithm: tall and wide rectangles are equally likely
        ratio = np.exp(draws.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
        rows = np.clip(np.rint(np.sqrt(area * ratio)), 1, height).astype(np.int64)
        columns = np.clip(np.rint(np.sqrt(area / ratio)), 1, width).astype(np.int64)
        top = np.floor(draws.uniform() * (height - rows + 1)).astype(np.int64)
        left = np.floor(draws.uniform() * (width - columns + 1)).astype(np.int64)
        for i in chosen:
            images[i, ..., top[i] : top[i] + rows[i], left[i] : left[i] + columns[i], :] = self.fill
        return images, targets


@dataclass(frozen=True)
class Mixup:
    """Blend every image and its target with another one of the batch: ``share * a + (1 - share) * b``.

    `share` is drawn for each image from ``Beta(alpha, alpha)``. Targets become probabilities, so integer labels need
    `classes`, how many there are; the loss must take probabilities, as cross entropy does. What an image is blended
    with depends on the batch. Source: Zhang et al., mixup: beyond empirical risk minimization, ICLR 2018.
    """

    alpha: float = 0.2
    classes: int | None = None

    def __post_init__(self) -> None:
        if not self.alpha > 0:
            raise ValueError(f"alpha must be greater than 0, got {self.alpha!r}")

    def __call__(self, images: np.ndarray, targets: Any, draws: Draws) -> tuple[np.ndarray, Any]:
        if not isinstance(targets, np.ndarray):
            raise TypeError(f"Mixup takes one array of targets, got {type(targets).__name__}")
        if targets.dtype.kind in "iu":
            if self.classes is None:
                raise ValueError(
                    "Mixup turns integer labels into probabilities: say how many classes, as in Mixup(classes=10)"
                )
            targets = np.eye(self.classes, dtype=images.dtype)[targets]
        rng = draws.generator()
        share = rng.beta(self.alpha, self.alpha, len(images)).astype(images.dtype)
        other = rng.permutation(len(images))
        return _blend(images[other], images, _column(share, images)), _blend(
            targets[other], targets, _column(share, targets)
        )


def _blend(a: np.ndarray, b: np.ndarray, share: np.ndarray) -> np.ndarray:
    return a + share * (b - a)


def _column(values: np.ndarray, like: np.ndarray) -> np.ndarray:
    return values.reshape(-1, *(1,) * (like.ndim - 1))


def _windows(images: np.ndarray, size: Sequence[int], padding: Any, fill: float, draws: Draws) -> np.ndarray:
    """Return a window of `size` at a random place of each padded image."""
    around = ntuple(padding, images.ndim - 2, "padding", minimum=0)
    room = [n + 2 * p - s for n, p, s in zip(images.shape[1:-1], around, size, strict=True)]
    if min(room) < 0:
        raise ValueError(f"size {tuple(size)} is larger than the images {images.shape[1:-1]} with padding {around}")
    padded = _padded(images, around, fill)
    starts = np.stack([draws.integers(0, r) for r in room], axis=-1).tolist()  # (n, rank)
    windows = np.empty((len(images), *size, images.shape[-1]), images.dtype)
    for window, image, start in zip(windows, padded, starts, strict=True):
        window[...] = image[tuple(slice(a, a + s) for a, s in zip(start, size, strict=True))]
    return windows


def _padded(images: np.ndarray, around: Sequence[int], fill: float) -> np.ndarray:
    n, *spatial, channels = images.shape
    padded = np.full((n, *(s + 2 * p for s, p in zip(spatial, around, strict=True)), channels), fill, images.dtype)
    inside = (slice(None), *(slice(p, p + s) for s, p in zip(spatial, around, strict=True)))
    padded[inside] = images
    return padded


def _need_rank(images: np.ndarray, rank: int, who: object) -> None:
    if images.ndim < rank:
        raise ValueError(f"{who} takes images of at least {rank} axes (N, *spatial, C), got shape {images.shape}")


def _probability(value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"probability must be from 0 to 1, got {value!r}")


def _sizes(value: Any, name: str, *, minimum: int) -> None:
    ntuple(value, len(value) if isinstance(value, tuple) else 1, name, minimum=minimum)
