"""Data sets in ``.npz`` files: the arrays that NumPy and Keras users already have."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from fastconv.data.check import DataError, check_finite
from fastconv.data.dataset import Dataset, held_out, numbered_classes

_WANTED = "x_train and y_train, with x_test and y_test or without; or x and y"


def load_npz(path: str | os.PathLike[str], *, test_fraction: float = 0.2, seed: int = 0) -> Dataset:
    """Return the data set of an ``.npz`` file.

    Its arrays are ``x_train``, ``y_train``, ``x_test``, ``y_test`` as Keras names them, or ``x`` and ``y``; where it
    has no test part, `test_fraction` of every class is held out (see `split`). ``classes``, an array of strings, may
    name the classes. Images are uint8 or floats, ``(N, H, W)`` or ``(N, H, W, C)``, and come as ``(N, H, W, C)``,
    floats as float32; labels are integers from 0, ``(N,)`` or ``(N, 1)``, and come as int64 ``(N,)``.

    Nothing is unpickled. Raises `FileNotFoundError`, or `DataError` that names the file, the array and the index.
    """
    path = Path(path)
    arrays = _read(path)
    parts = [
        _samples(path, arrays, *names)
        for names in (("x_train", "y_train"), ("x_test", "y_test"))
        if all(name in arrays for name in names)
    ]
    if not parts and "x" in arrays and "y" in arrays:
        parts = [_samples(path, arrays, "x", "y")]
    if not parts or ("x_test" in arrays and len(parts) < 2):
        raise DataError(f"{path} must hold {_WANTED}; it holds {', '.join(sorted(arrays)) or 'nothing'}")
    classes = _classes(path, arrays, 1 + max(int(y.max()) for _, y in parts))
    if len(parts) == 1:
        return held_out(*parts[0], classes, fraction=test_fraction, seed=seed)
    train, test = parts
    if train[0].shape[1:] != test[0].shape[1:]:
        raise DataError(f"{path}: x_train has images of shape {train[0].shape[1:]}, x_test of {test[0].shape[1:]}")
    return Dataset(train, test, classes)


def _read(path: Path) -> dict[str, np.ndarray]:
    with path.open("rb") as stream:  # numpy.load leaves a damaged file open
        try:
            file = np.load(stream, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise DataError(f"{path} holds a single array; an .npz file must hold {_WANTED}")
            return {name: file[name] for name in file.files}
        except (DataError, MemoryError):
            raise
        except ValueError as error:
            # without NumPy's words, which recommend to unpickle it
            raise DataError(f"{path} is not an .npz file of plain arrays") from error
        except Exception as error:  # a damaged archive may raise anything
            raise DataError(f"{path} is damaged or cut short: {error}") from error


def _samples(path: Path, arrays: dict[str, np.ndarray], x_name: str, y_name: str) -> tuple[np.ndarray, np.ndarray]:
    x, y = arrays[x_name], arrays[y_name]
    images = x[..., None] if x.ndim == 3 else x
    if images.ndim != 4 or images.size == 0:
        raise DataError(f"{path}: {x_name} must be images (N, H, W) or (N, H, W, C), at least one, got shape {x.shape}")
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise DataError(f"{path}: {x_name} must be uint8 or floats, got {x.dtype}")
    labels = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if labels.shape != x.shape[:1] or labels.dtype.kind not in "iu":
        raise DataError(
            f"{path}: {y_name} must be one integer for each of the {len(x)} images, got {y.dtype} of shape {y.shape}"
        )
    if labels.max() > np.iinfo(np.int64).max:
        raise DataError(
            f"{path}: {y_name}[{int(labels.argmax())}] is {labels.max()}, and labels count the classes from 0"
        )
    if labels.min() < 0:
        raise DataError(f"{path}: {y_name}[{int(labels.argmin())}] is {labels.min()}; labels start at 0")
    check_finite(images, f"{path}: {x_name}", np.float32)
    return images if images.dtype == np.uint8 else images.astype(np.float32, copy=False), labels.astype(np.int64)


def _classes(path: Path, arrays: dict[str, np.ndarray], count: int) -> tuple[str, ...]:
    if "classes" not in arrays:
        return numbered_classes(count, path)
    names = arrays["classes"]
    if names.ndim != 1 or names.dtype.kind != "U" or len(names) < count:
        raise DataError(f"{path}: classes must be at least {count} strings, got {names.dtype} of shape {names.shape}")
    return tuple(str(name) for name in names)
