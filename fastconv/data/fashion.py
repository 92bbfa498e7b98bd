"""The data set in the package: 2,500 photographs of clothes, so that everything can be tried without a download."""

from __future__ import annotations

from pathlib import Path

from fastconv.data.dataset import Dataset
from fastconv.data.idx import load_idx_folder


def load_fashion_mnist_subset() -> Dataset:
    """Return a subset of Fashion-MNIST: 200 training and 50 test images of each of 10 kinds of clothes.

    Images are uint8 ``(N, 28, 28, 1)``, 0 is the background; labels int64 ``(N,)``. The classes come mixed, in the
    order of the full set.

    Source: Xiao, Rasul, Vollgraf, Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms,
    arXiv:1708.07747. Copyright (c) 2017 Zalando SE, MIT license: see ``NOTICE.txt`` beside the files.

    >>> (x_train, y_train), (x_test, y_test), classes = load_fashion_mnist_subset()
    >>> x_train.shape, x_test.shape, classes[9]
    ((2000, 28, 28, 1), (500, 28, 28, 1), 'Ankle boot')
    """
    return load_idx_folder(Path(__file__).parent / "embedded")
