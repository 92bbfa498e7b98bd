"""What ``--data`` refers to, and how the command line reads it."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

Part = tuple[np.ndarray, np.ndarray]
Shape = tuple[int, ...]

#: Images of a folder for which nobody names a size become at most this large, in pixels a side: a laptop can train on them.
LARGEST_SIDE = 64


class Data(NamedTuple):
    """A data set in memory: images ``(N, H, W, C)``, uint8 or float32, and int64 labels ``(N,)``, for training and test.

    `source` says in words where it comes from; `white` is the number that white pixels have when they reach the network.
    """

    train: Part
    test: Part
    classes: tuple[str, ...]
    source: str
    white: float

    @property
    def input_shape(self) -> Shape:
        """The shape of one image, ``(H, W, C)``."""
        shape: Shape = self.train[0].shape[1:]
        return shape

    def fingerprint(self) -> str:
        """Return a checksum of all images and labels: whether a run is resumed on the data that it began with."""
        checksum = 0
        for array in (*self.train, *self.test):
            checksum = zlib.crc32(np.ascontiguousarray(array).view(np.uint8).data, checksum)
        return f"{checksum:08x}"


def load_data(path: str | None, *, size: tuple[int, int] | None = None, gray: bool = False) -> Data:
    """Return the data set at `path`, or the one inside the package for None.

    `size`, ``(height, width)`` in pixels, and `gray` are for image files. Without a size, all images of a folder get that of
    its first one, made smaller where that has a side of more than 64 pixels.

    Raises what the loaders of `fastconv.data` raise, and `ValueError` where there are no test images or fewer than two classes.
    """
    from fastconv import data

    if path is None:
        dataset, source = data.load_fashion_mnist_subset(), "Fashion-MNIST, a subset that is inside the package"
    else:
        mode = "L" if gray else "RGB"
        if size is None:
            size = _size_of_first(Path(path))
        dataset, source = data.load(path, size=size, mode=mode), path
    if len(dataset.classes) < 2:
        raise ValueError(f"{source} has one class, {dataset.classes[0]}: there is nothing to tell apart")
    for part, (images, _) in (("training", dataset.train), ("test", dataset.test)):
        if not len(images):
            raise ValueError(f"{source} has no {part} images: every class needs two images or more")
        if not isinstance(images, np.ndarray) or images.ndim != 4:
            raise ValueError(f"the {part} images of {source} must be one array (N, height, width, channels)")
    images = dataset.train[0]
    white = 255.0 if images.dtype != np.uint8 and images.max() > 1 else 1.0
    return Data(dataset.train, dataset.test, dataset.classes, source, white)


def is_image_folder(path: str | None) -> bool:
    """Whether `path` is a folder of image files, which a size and gray are for, and nothing that holds arrays."""
    return path is not None and Path(path).is_dir() and not any(Path(path).glob("*idx?-ubyte*"))


def load_data_for(path: str | None, input_shape: Shape) -> Data:
    """Return the data set at `path` as a network takes it: images of `input_shape`, ``(H, W, C)``.

    Raises `ValueError` where arrays have another shape; images of a folder are resized.
    """
    height, width, channels = input_shape
    data = load_data(path, size=(height, width), gray=channels == 1)
    if data.input_shape != input_shape:
        raise ValueError(f"{data.source} has images of shape {data.input_shape}, and the model takes {input_shape}")
    return data


def _size_of_first(path: Path) -> tuple[int, int] | None:
    """Return the size that the images of a folder get, or None where the path is no folder of image files."""
    from fastconv.data.folder import image_files, read_image

    if not path.is_dir():
        return None
    files = image_files(path)
    if not files:
        return None
    height, width = read_image(files[0]).shape[:2]
    shrink = min(1.0, LARGEST_SIDE / max(height, width))
    return max(1, round(height * shrink)), max(1, round(width * shrink))
