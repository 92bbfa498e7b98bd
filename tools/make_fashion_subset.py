"""Make the subset of Fashion-MNIST that travels inside fastconv, from the folder of the full data set.

    python tools/make_fashion_subset.py FOLDER [--out fastconv/data/embedded]

FOLDER holds the four IDX files of Fashion-MNIST (https://github.com/zalandoresearch/fashion-mnist; in Debian, the package
``dataset-fashion-mnist``). From each class 200 training and 50 test images are drawn with a fixed seed and written in the order
of the full set, as IDX files again, packed by xz: with gzip they are an eighth larger. The same input gives the same bytes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from fastconv.data.idx import load_idx_folder, write_idx

SEED = 2017
PER_CLASS = {"train": 200, "t10k": 50}
CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


def choose(labels: np.ndarray, per_class: int, rng: np.random.Generator) -> np.ndarray:
    """Return the sorted indices of `per_class` samples of every class, drawn without replacement."""
    members = [np.flatnonzero(labels == label) for label in range(len(CLASSES))]
    return np.sort(np.concatenate([rng.choice(indices, per_class, replace=False) for indices in members]))


def main() -> None:
    """Read the full set, draw, write, and print how large the result is."""
    parser = argparse.ArgumentParser(description="Make the embedded subset of Fashion-MNIST.")
    parser.add_argument("folder", type=Path, help="folder with the four IDX files of Fashion-MNIST")
    parser.add_argument("--out", type=Path, default=Path("fastconv/data/embedded"), help="where to write")
    arguments = parser.parse_args()
    full = load_idx_folder(arguments.folder)
    rng = np.random.default_rng(SEED)
    for (part, per_class), (images, labels) in zip(PER_CLASS.items(), (full.train, full.test), strict=True):
        chosen = choose(labels, per_class, rng)
        write_idx(arguments.out / f"{part}-images-idx3-ubyte.xz", images[chosen, :, :, 0])
        write_idx(arguments.out / f"{part}-labels-idx1-ubyte.xz", labels[chosen].astype(np.uint8))
    (arguments.out / "classes.txt").write_text("".join(name + "\n" for name in CLASSES), encoding="utf-8")
    size = sum(path.stat().st_size for path in arguments.out.iterdir() if path.is_file())
    print(f"{arguments.out}: {size} bytes")


if __name__ == "__main__":
    main()
