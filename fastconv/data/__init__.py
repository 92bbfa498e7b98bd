"""Data: loaders, batches and augmentation.

======================  ====================================================================================
loaders                 return a `Dataset`, ``(x_train, y_train), (x_test, y_test), classes``: `load` for any path or plugin,
                        `load_npz`, `load_idx_folder`, `load_image_folder`, and `load_fashion_mnist_subset`, which is
                        inside the package
batches                 `Batches`: shuffle, gather, scale, augment off the main thread
augmentations           `Flip`, `Shift`, `Crop`, `Rotate`, `Erase`, `Mixup`, `Compose`; each image's variation depends on
                        the seed, the epoch and its index alone
larger than memory      `ImageFolder`, or a ``numpy.memmap``
======================  ====================================================================================

Images are ``(N, *spatial, C)``; uint8 stays uint8 until a batch is made of it, as floats between 0 and 1. Bad data
raises `DataError`, which names the index or the file.
"""

from fastconv.data.augment import Compose, Crop, Erase, Flip, Mixup, Rotate, Shift
from fastconv.data.batches import Batches, as_floats
from fastconv.data.check import DataError, check_finite, check_labels, check_probabilities
from fastconv.data.dataset import Dataset, split
from fastconv.data.draws import Draws
from fastconv.data.fashion import load_fashion_mnist_subset
from fastconv.data.folder import ImageFolder, load_image_folder, read_image
from fastconv.data.idx import load_idx_folder, read_idx, write_idx
from fastconv.data.load import load, register
from fastconv.data.npz import load_npz

__all__ = [
    "Batches",
    "Compose",
    "Crop",
    "DataError",
    "Dataset",
    "Draws",
    "Erase",
    "Flip",
    "ImageFolder",
    "Mixup",
    "Rotate",
    "Shift",
    "as_floats",
    "check_finite",
    "check_labels",
    "check_probabilities",
    "load",
    "load_fashion_mnist_subset",
    "load_idx_folder",
    "load_image_folder",
    "load_npz",
    "read_idx",
    "read_image",
    "register",
    "split",
    "write_idx",
]
