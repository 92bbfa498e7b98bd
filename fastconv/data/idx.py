"""IDX files, the format of MNIST and Fashion-MNIST, plain or compressed with gzip or xz.

A file is a header in big-endian order (two zero bytes, a code for the type, the number of axes, then one 32-bit size
for each axis) and the array in C order. Source of the format: LeCun, Cortes and Burges, The MNIST database of
handwritten digits.
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path
from types import ModuleType
from typing import IO

import numpy as np

from fastconv.data.check import DataError
from fastconv.data.dataset import Dataset, numbered_classes

try:
    import lzma
except ImportError:  # a Python can be built without it
    lzma = None  # type: ignore[assignment]

#: What decompressors raise for data that they did not write.
_DAMAGE = (gzip.BadGzipFile, zlib.error, *([lzma.LZMAError] if lzma else []))

#: The header's type code -> dtype of the file.
_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}

#: File names of the two parts, as MNIST and Fashion-MNIST have them; some copies write a dot for the dash.
_PARTS = {"train": "train", "test": "t10k"}


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Return the array of an IDX file; one whose name ends in ``.gz`` or ``.xz`` is decompressed on the way.

    The header is believed only as far as the file bears it out: no memory is taken for what the file does not hold.
    Raises `DataError` that names the file where it is no IDX file, is shorter or longer than its header says, or is
    damaged.
    """
    path = Path(path)
    try:
        with _open(path) as file:
            dtype, shape = _read_header(file, path)
            size = math.prod(shape) * dtype.itemsize
            data = _read_at_most(file, size + 1)
    except _DAMAGE as error:
        raise DataError(f"{path} is damaged: {error}") from error
    except EOFError as error:
        raise DataError(f"{path} is cut short: the compressed data ends too early") from error
    if len(data) != size:
        held = f"only {len(data)}" if len(data) < size else "more"
        raise DataError(
            f"{path} does not hold what its header says: shape {shape} of {dtype} is {size} bytes, it has {held}"
        )
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def write_idx(path: str | os.PathLike[str], array: np.ndarray) -> None:
    """Write `array` as an IDX file, compressed where the name ends in ``.gz`` or ``.xz``; the same array gives the same
    bytes.

    Raises `TypeError` for a dtype that the format does not have (it has uint8, int8, int16, int32, float32, float64).

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_idx(folder + "/labels.gz", np.array([3, 1, 2], np.uint8))
    ...     read_idx(folder + "/labels.gz")
    array([3, 1, 2], dtype=uint8)
    """
    codes = {np.dtype(name).newbyteorder("="): code for code, name in _DTYPES.items()}
    code = codes.get(array.dtype.newbyteorder("="))
    if code is None:
        raise TypeError(f"an IDX file holds one of {', '.join(map(str, codes))}, got {array.dtype}")
    header = struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape)
    data = header + np.ascontiguousarray(array, _DTYPES[code]).tobytes()
    Path(path).write_bytes(_compressed(data, Path(path).suffix))


def load_idx_folder(folder: str | os.PathLike[str]) -> Dataset:
    """Return the data set of a folder with the four files of MNIST: ``train-*`` and ``t10k-*``, images and labels.

    The names are those of the original (``train-images-idx3-ubyte``), also ending in ``.gz`` or ``.xz``. Images come as uint8
    ``(N, H, W, 1)``, labels as int64 ``(N,)``. The classes are named by a file ``classes.txt`` (one name a line) or by
    their numbers. Raises `FileNotFoundError` for a missing file and `DataError` for a bad one.
    """
    folder = Path(folder)
    parts = []
    for name in ("train", "test"):
        images_path, labels_path = _find(folder, name, "images"), _find(folder, name, "labels")
        images, labels = read_idx(images_path), read_idx(labels_path)
        if images.dtype != np.uint8 or images.ndim not in (3, 4):
            raise DataError(
                f"{images_path} must hold uint8 images (N, H, W) or (N, H, W, C), got {images.dtype} {images.shape}"
            )
        if labels.dtype.kind not in "ui" or labels.shape != images.shape[:1]:
            raise DataError(
                f"{labels_path} must hold one integer for each of the {len(images)} images, "
                f"got {labels.dtype} {labels.shape}"
            )
        if labels.size and labels.min() < 0:
            raise DataError(f"{labels_path}: label {int(np.argmin(labels))} is {labels.min()}; labels start at 0")
        parts.append((images[..., None] if images.ndim == 3 else images, labels.astype(np.int64)))
    train, test = parts
    count = 1 + max(int(labels.max(initial=-1)) for _, labels in parts)
    return Dataset(train, test, _class_names(folder, count))


def _open(path: Path) -> IO[bytes]:
    if path.suffix == ".gz":
        return gzip.GzipFile(path)  # type: ignore[return-value]
    if path.suffix == ".xz":
        return _xz().LZMAFile(path)
    return path.open("rb")


def _compressed(data: bytes, suffix: str) -> bytes:
    if suffix == ".gz":
        # a fixed time: otherwise two runs of one program would write different files
        return gzip.compress(data, 9, mtime=0)
    if suffix == ".xz":
        return _xz().compress(data, preset=6 | _xz().PRESET_EXTREME)
    return data


def _xz() -> ModuleType:
    if lzma is None:
        raise ImportError("a file that ends in .xz needs Python's module lzma, and this Python was built without it")
    return lzma


def _read_header(file: IO[bytes], path: Path) -> tuple[np.dtype, tuple[int, ...]]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _DTYPES or not 1 <= magic[3] <= 8:
        raise DataError(
            f"{path} is not an IDX file: it begins with {magic.hex(' ') or 'nothing'}, "
            "not with 00 00, a type and the number of axes"
        )
    sizes = file.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise DataError(f"{path} is cut short: its header announces {magic[3]} axes and ends after {len(sizes)} bytes")
    return np.dtype(_DTYPES[magic[2]]), struct.unpack(f">{magic[3]}I", sizes)


def _read_at_most(file: IO[bytes], size: int) -> bytearray:
    # in pieces: a lying header must not make us ask for memory that the file does not fill
    data = bytearray()
    while len(data) < size:
        piece = file.read(min(size - len(data), 1 << 24))
        if not piece:
            break
        data += piece
    return data


def _find(folder: Path, part: str, kind: str) -> Path:
    rank = {"images": 3, "labels": 1}[kind]
    stem = f"{_PARTS[part]}-{kind}"
    names = [f"{stem}{dash}idx{rank}-ubyte{end}" for dash in "-." for end in ("", ".gz", ".xz")]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"{folder} has no {names[0]} (or the same name with .gz or .xz)")


def _class_names(folder: Path, count: int) -> tuple[str, ...]:
    path = folder / "classes.txt"
    if not path.is_file():
        return numbered_classes(count, folder)
    names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    if len(names) < count:
        raise DataError(f"{path} names {len(names)} classes, but the labels need {count}")
    return names
