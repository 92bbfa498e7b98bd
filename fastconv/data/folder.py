"""A folder with a subfolder of image files per class. Decoding needs Pillow, from the extra ``plot``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from fastconv.arguments import ntuple
from fastconv.data.check import DataError
from fastconv.data.dataset import Dataset, held_out
from fastconv.threads import get_num_threads

#: File names with these endings are images; everything else in the folders is passed over.
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")

#: Pillow's name of a mode -> number of channels.
_CHANNELS = {"RGB": 3, "L": 1}

#: Pixels of a side, at most: Pillow counts them with a C int.
_LARGEST = 2**31 - 1

_TEST_NAMES = ("test", "val", "valid", "validation")


class ImageFolder:
    """The images in a folder with one folder per class, decoded when they are asked for: an array that stays on the
    disk.

    Indexing like an array's first axis gives uint8 images: ``images[3]`` is ``(H, W, C)``, ``images[2:5]`` and
    ``images[[7, 1]]`` are ``(n, H, W, C)``, ``numpy.asarray(images)`` is all of them. `Batches` and ``model.fit`` take
    it for x, and decode in the background.

    Parameters
    ----------
    folder : path
        Its sub-folders are the classes, sorted by name; image files may lie in deeper folders. Hidden files and
        folders, and files whose names do not end like an image's, are passed over.
    size : int or (int, int), optional
        ``(height, width)`` in pixels that every image is resized to (bilinear, antialiased, its proportions not kept).
        Without it all images must have the size of the first one.
    mode : "RGB" or "L"
        Three channels, or one (grey).
    classes : sequence of str, optional
        The classes in this order, where another part of the data has fixed them; a folder of another name is an error.

    Attributes
    ----------
    paths : list of Path
    labels : int64 array (N,), indices into `classes`
    classes : tuple of str
    shape : (N, H, W, C)

    Raises
    ------
    ImportError
        Where Pillow is not installed.
    FileNotFoundError, DataError
        Where there is no such folder, no class, or a class without images; when decoding, an image that is damaged, cut
        short or of another size: the message names the file.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        size: int | Sequence[int] | None = None,
        mode: str = "RGB",
        classes: Sequence[str] | None = None,
    ) -> None:
        if mode not in _CHANNELS:
            raise ValueError(f'mode must be "RGB" or "L" (grey), got {mode!r}')
        self._size = None if size is None else ntuple(size, 2, "size")
        _pillow()
        folder = Path(folder)
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no folder {folder}")
        found = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
        self.classes = tuple(found if classes is None else classes)
        unknown = sorted(set(found) - set(self.classes))
        if unknown:
            raise DataError(f"{folder} has the class {unknown[0]!r}, which is not among {', '.join(self.classes)}")
        if not found:
            raise DataError(f"{folder} has no sub-folders: one for each class, with its images, is expected")
        self.mode = mode
        self.paths: list[Path] = []
        labels: list[int] = []
        for label, name in enumerate(self.classes):
            images = image_files(folder / name) if name in found else []
            if not images and name in found:
                raise DataError(f"{folder / name} has no images (files that end in {', '.join(SUFFIXES)})")
            self.paths += images
            labels += [label] * len(images)
        self.labels = np.array(labels, np.int64)
        height, width = self._size or self._decode(0).shape[:2]
        self.shape = (len(self.paths), height, width, _CHANNELS[mode])

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> np.ndarray:
        chosen = np.arange(len(self))[index]
        if chosen.ndim == 0:
            return self._image(int(chosen))
        images = np.empty((len(chosen), *self.shape[1:]), np.uint8)
        # Pillow decodes outside of Python's lock
        with ThreadPoolExecutor(get_num_threads()) as pool:
            for row, image in enumerate(pool.map(self._image, chosen.tolist())):
                images[row] = image
        return images

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:] if dtype is None else self[:].astype(dtype, copy=False)

    def __repr__(self) -> str:
        return f"ImageFolder({len(self)} images {self.shape[1:]} of {len(self.classes)} classes)"

    def _image(self, index: int) -> np.ndarray:
        image = self._decode(index)
        if image.shape != self.shape[1:]:
            height, width = self.shape[1:3]
            raise DataError(
                f"{self.paths[index]} is {image.shape[0]} x {image.shape[1]} pixels, "
                f"the first image {height} x {width}: give a size, and all images will be resized to it"
            )
        return image

    def _decode(self, index: int) -> np.ndarray:
        return read_image(self.paths[index], mode=self.mode, size=self._size)


def read_image(
    path: str | os.PathLike[str],
    *,
    mode: str = "RGB",
    size: int | Sequence[int] | None = None,
    crop: float | None = None,
) -> np.ndarray:
    """Return an image file as a uint8 array ``(H, W, C)``, turned upright, with 3 channels ("RGB") or 1 ("L").

    `size` is ``(height, width)`` in pixels to resize to (bilinear, antialiased), one integer for a square, None for the size
    it has. Without `crop` the proportions are not kept. With it, what is resized is the largest part in the middle of the
    image that has the proportions of `size`, and of that the share `crop` of each side: 0.875 is what classifiers of 224
    pixels are tested with, whose images are made 256 pixels large first. Raises `FileNotFoundError`, and `DataError` that
    names the file where it is damaged, cut short or no image.
    """
    if crop is not None and (size is None or not 0 < crop <= 1):
        raise ValueError(f"crop must be above 0 and at most 1, and needs a size, got crop={crop!r} and size={size!r}")
    Image, ImageOps = _pillow()
    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
            if image.mode.startswith("I;16"):  # 16 bits of grey: Pillow's own conversion would clip, not scale
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            image = image.convert(mode)
    except FileNotFoundError:
        raise
    except Exception as error:  # a decoder that meets a damaged file may raise anything
        raise DataError(f"{path} cannot be read as an image: {error}") from error
    if size is not None:
        height, width = ntuple(size, 2, "size")
        if max(height, width) > _LARGEST:
            raise ValueError(f"size must be at most {_LARGEST} pixels along an axis, got {size!r}")
        box = None if crop is None else _middle(image.size, (width, height), crop)
        image = image.resize((width, height), Image.Resampling.BILINEAR, box)
    pixels = np.asarray(image, np.uint8)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _middle(whole: tuple[int, int], wanted: tuple[int, int], share: float) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of the part in the middle of an image that has the proportions of `wanted`."""
    scale = share * min(have / want for have, want in zip(whole, wanted, strict=True))
    margins = [(have - scale * want) / 2 for have, want in zip(whole, wanted, strict=True)]
    return margins[0], margins[1], whole[0] - margins[0], whole[1] - margins[1]


def load_image_folder(
    folder: str | os.PathLike[str],
    *,
    size: int | Sequence[int] | None = None,
    mode: str = "RGB",
    test_fraction: float = 0.2,
    seed: int = 0,
) -> Dataset:
    """Return the decoded images of a folder with one folder per class, as uint8 ``(N, H, W, C)``.

    A folder that holds ``train`` and ``test`` (or ``val``, ``valid``, ``validation``), each with the folders of the
    classes, is taken as it is; of any other `test_fraction` of every class is held out (see `split`). Arguments and
    errors are those of `ImageFolder`, which is the way for images that do not fit into memory.
    """
    folder = Path(folder)
    test = next((folder / name for name in _TEST_NAMES if (folder / name).is_dir()), None)
    if (folder / "train").is_dir() and test is not None:
        train_images = ImageFolder(folder / "train", size=size, mode=mode)
        size = train_images.shape[1:3] if size is None else size
        test_images = ImageFolder(test, size=size, mode=mode, classes=train_images.classes)
        return Dataset(
            (train_images[:], train_images.labels), (test_images[:], test_images.labels), train_images.classes
        )
    images = ImageFolder(folder, size=size, mode=mode)
    return held_out(images[:], images.labels, images.classes, fraction=test_fraction, seed=seed)


def _pillow() -> Any:
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ImportError("reading image files needs Pillow: pip install 'fastconv[plot]'") from error
    return Image, ImageOps


def image_files(folder: Path) -> list[Path]:
    """Return the image files in a folder and in those below it, sorted, without what is hidden.

    Raises `OSError` for a folder that cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise error

    found: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(path for path in found if path.suffix.lower() in SUFFIXES and path.is_file())
