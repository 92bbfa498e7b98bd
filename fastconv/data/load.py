"""One call for every kind of source."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from fastconv.data.dataset import Dataset
from fastconv.data.folder import load_image_folder
from fastconv.data.idx import load_idx_folder
from fastconv.data.npz import load_npz


def load(
    path: str | os.PathLike[str],
    *,
    size: int | Sequence[int] | None = None,
    mode: str = "RGB",
    test_fraction: float = 0.2,
    seed: int = 0,
) -> Dataset:
    """Return the data set at `path`: an ``.npz`` file, a folder of IDX files, or a folder with one folder of images per
    class.

    `size` and `mode` are for image files (see `load_image_folder`); `test_fraction` of every class is held out, by
    `seed`, where the source has no test part. Raises `FileNotFoundError` where there is nothing, and what the three
    loaders raise.

    See Also
    --------
    load_npz, load_idx_folder, load_image_folder, load_fashion_mnist_subset
    """
    path = Path(path)
    if path.is_dir():
        if any(path.glob("*idx?-ubyte*")):
            return load_idx_folder(path)
        return load_image_folder(path, size=size, mode=mode, test_fraction=test_fraction, seed=seed)
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path}")
    return load_npz(path, test_fraction=test_fraction, seed=seed)
