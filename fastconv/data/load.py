"""One function for every kind of source: files, folders, and data sets that plugins provide by name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastconv.data.check import DataError, check_labels
from fastconv.data.dataset import Dataset
from fastconv.data.folder import load_image_folder
from fastconv.data.idx import load_idx_folder
from fastconv.data.npz import load_npz
from fastconv.registry import Registry, UnknownNameError

registry = Registry("fastconv.datasets")

#: Decorator that gives a function without arguments, which returns a `Dataset`, a name for `load` and ``--data``.
register = registry.register


def load(
    path: str | os.PathLike[str],
    *,
    size: int | Sequence[int] | None = None,
    mode: str = "RGB",
    test_fraction: float = 0.2,
    seed: int = 0,
) -> Dataset:
    """Return the data set at `path`: an ``.npz`` file, a folder of IDX files, or a folder with one folder of images per
    class; or the data set of a plugin, by its name.

    A plugin offers a function without arguments that returns a `Dataset` as an entry point of the group
    ``fastconv.datasets``; a file or folder that is called the same goes first. `size` and `mode` are for image files (see
    `load_image_folder`); `test_fraction` of every class is held out, by `seed`, where the source has no test part.

    Raises `FileNotFoundError` where there is nothing, `PluginLoadError` where a plugin is broken, and what the three
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
        return _named(str(path))
    return load_npz(path, test_fraction=test_fraction, seed=seed)


def _named(name: str) -> Dataset:
    try:
        function = registry.get(name)
    except UnknownNameError:
        offered = [entry.name for entry in registry.entries() if not entry.error]
        hint = f"; data sets of installed packages: {', '.join(offered)}" if offered else ""
        raise FileNotFoundError(f"there is no file or folder {name}{hint}") from None
    found: Any = function()
    if not isinstance(found, tuple) or len(found) != 3:
        raise DataError(
            f"the data set {name!r} must be a function that returns a fastconv.data.Dataset, got {found!r:.80}"
        )
    dataset = Dataset(*found)
    for part, pair in (("training", dataset.train), ("test", dataset.test)):
        if not isinstance(pair, tuple) or len(pair) != 2 or not isinstance(pair[1], np.ndarray):
            raise DataError(
                f"the {part} part of the data set {name!r} must be a pair of samples and an array of labels"
            )
        if len(pair[0]) != len(pair[1]):
            raise DataError(
                f"the {part} part of the data set {name!r} has {len(pair[0])} samples and {len(pair[1])} labels"
            )
        check_labels(pair[1], len(dataset.classes), f"{part} labels")
    return dataset
