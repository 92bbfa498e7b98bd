"""Image files and arrays as the floats that a network takes."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

Shape = tuple[int, ...]


class Preparation(NamedTuple):
    """What becomes of an image: its middle is cut out (or not, for None), white pixels are `white` and black ones 0, `mean`
    is taken away, and the rest is divided by `std`, each one number or one for each channel.
    """

    crop: float | None = None
    white: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def floats(self, pixels: np.ndarray) -> np.ndarray:
        """Return uint8 pixels ``(..., C)`` as float32."""
        from fastconv.data import as_floats

        channels = pixels.shape[-1]
        for name, values in (("--mean", self.mean), ("--std", self.std)):
            if len(values) not in (1, channels):
                raise ValueError(f"{name} must be 1 or {channels} numbers, one for each channel, got {len(values)}")
        mean, std = (np.array(values, np.float32) for values in (self.mean, self.std))
        with np.errstate(all="ignore"):
            x: np.ndarray = (as_floats(pixels, np.float32) * np.float32(self.white) - mean) / std
        if not np.isfinite(x).all():
            raise ValueError(f"with {self} pixels become numbers that float32 does not hold")
        return x

    def __str__(self) -> str:
        part = "stretched" if self.crop is None else f"the middle {self.crop:.4g}"
        return f"{part}, white {self.white:g}, mean {_listed(self.mean)}, std {_listed(self.std)}"


#: How torchvision and most publishers of classifiers prepare the photographs of ImageNet.
IMAGENET = Preparation(crop=0.875, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def read_picture(path: str | Path, shape: Shape, *, white: float = 1.0, invert: bool = False) -> np.ndarray:
    """Return an image as float32 of `shape`, ``(H, W, C)``, scaled so that white pixels are `white` and black ones 0.

    An image file is turned upright, made gray or RGB as `shape` needs, and resized. A ``.npy`` file holds ``(H, W)`` or
    ``(H, W, C)`` of the right size: uint8 pixels from 0 to 255, or floats, which go in as they are. `invert` swaps black and
    white.

    Raises `ValueError` that names the file where it holds no such image, and `ImportError` where Pillow is missing.
    """
    from fastconv.data import as_floats

    path = Path(path)
    pixels = _read_array(path, shape) if path.suffix == ".npy" else read_pixels(path, shape)
    image = as_floats(pixels, np.float32)
    if pixels.dtype == np.uint8:
        image = image * np.float32(white)
    return white - image if invert else image


def read_pixels(path: Path, shape: Shape, *, crop: float | None = None) -> np.ndarray:
    """Return an image file as uint8 of `shape`, ``(H, W, C)``; errors and `crop` are those of `fastconv.data.read_image`."""
    from fastconv.data import read_image

    height, width, channels = shape
    if channels not in (1, 3):
        raise ValueError(f"{path}: an image file has 1 or 3 channels, and the model takes {channels}")
    return read_image(path, mode="L" if channels == 1 else "RGB", size=(height, width), crop=crop)


def load_array(path: Path) -> np.ndarray:
    """Return the array in a ``.npy`` file; raise `ValueError` that names a file with anything else in it."""
    with path.open("rb") as stream:
        try:
            array = np.load(stream, allow_pickle=False)
        except MemoryError:
            raise
        except Exception as error:  # a damaged header may raise anything
            raise ValueError(f"{path} is not a .npy file of a plain array") from error
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{path} must hold one array, got {type(array).__name__}")
    return array


def _read_array(path: Path, shape: Shape) -> np.ndarray:
    from fastconv.data import check_finite

    array = load_array(path)
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise ValueError(f"{path} must hold one array of uint8 or floats, got {array.dtype}")
    if array.ndim == 2:
        array = array[..., np.newaxis]
    if array.shape != shape:
        raise ValueError(f"{path} holds an array of shape {array.shape}, and the model takes {shape}")
    check_finite(array, f"{path}: array", np.float32)
    return array


def _listed(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
