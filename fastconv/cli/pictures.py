"""Image files and arrays as what a network takes: floats of its input's shape."""

from __future__ import annotations

from pathlib import Path

import numpy as np

Shape = tuple[int, ...]


def read_picture(path: str | Path, shape: Shape, *, white: float = 1.0, invert: bool = False) -> np.ndarray:
    """Return an image as float32 of `shape`, ``(H, W, C)``, scaled so that white pixels are `white` and black ones 0.

    An image file is turned upright, made gray or RGB as `shape` needs, and resized. A ``.npy`` file holds ``(H, W)`` or
    ``(H, W, C)`` of the right size: uint8 pixels from 0 to 255, or floats, which go in as they are. `invert` swaps black and
    white.

    Raises `ValueError` that names the file where it holds no such image, and `ImportError` where Pillow is missing.
    """
    from fastconv.data import as_floats, read_image

    path = Path(path)
    height, width, channels = shape
    if path.suffix == ".npy":
        pixels = _read_array(path, shape)
    elif channels in (1, 3):
        pixels = read_image(path, mode="L" if channels == 1 else "RGB", size=(height, width))
    else:
        raise ValueError(f"{path}: an image file has 1 or 3 channels, and the model takes {channels}")
    image = as_floats(pixels, np.float32)
    if pixels.dtype == np.uint8:
        image = image * np.float32(white)
    return white - image if invert else image


def _read_array(path: Path, shape: Shape) -> np.ndarray:
    from fastconv.data import check_finite

    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is no .npy file of a plain array") from error
    if not isinstance(array, np.ndarray) or (array.dtype != np.uint8 and array.dtype.kind != "f"):
        raise ValueError(
            f"{path} must hold one array of uint8 or floats, got {getattr(array, 'dtype', type(array).__name__)}"
        )
    if array.ndim == 2:
        array = array[..., np.newaxis]
    if array.shape != shape:
        raise ValueError(f"{path} holds an array of shape {array.shape}, and the model takes {shape}")
    check_finite(array, f"{path}: array", np.float32)
    return array
