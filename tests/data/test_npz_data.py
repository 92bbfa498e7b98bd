"""Data sets in .npz files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastconv.data import DataError, load_npz

X = np.arange(10 * 4 * 4, dtype=np.uint8).reshape(10, 4, 4)
Y = np.arange(10) % 2


def write(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "data.npz", **arrays)
    return folder / "data.npz"


def test_the_four_arrays(tmp_path: Path) -> None:
    path = write(tmp_path, x_train=X, y_train=Y[:, None].astype(np.int32), x_test=X[:3], y_test=Y[:3])
    (x, y), (x_test, y_test), classes = load_npz(path)
    assert x.shape == (10, 4, 4, 1) and x.dtype == np.uint8
    np.testing.assert_array_equal(y, Y)
    assert y.dtype == np.int64 and len(x_test) == len(y_test) == 3
    assert classes == ("0", "1")


def test_without_a_test_part_a_share_of_each_class_is_held_out(tmp_path: Path) -> None:
    path = write(tmp_path, x=X[..., None].astype(np.float64), y=Y, classes=np.array(["cat", "dog"]))
    (x, y), (x_test, y_test), classes = load_npz(path, test_fraction=0.4)
    assert x.dtype == np.float32
    assert sorted(y_test) == [0, 0, 1, 1] and len(y) == 6
    assert classes == ("cat", "dog")
    everything = np.concatenate([x, x_test])
    assert sorted(everything[:, 0, 0, 0]) == sorted(X[:, 0, 0])
    again = load_npz(path, test_fraction=0.4)
    np.testing.assert_array_equal(again.test[0], x_test)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": X}, "must hold x_train and y_train.*it holds images"),
        ({}, "it holds nothing"),
        ({"x_train": X, "y_train": Y, "x_test": X}, "must hold x_train"),
        ({"x": X[:, 0, 0], "y": Y}, r"x must be images \(N, H, W\).*got shape \(10,\)"),
        ({"x": X[:0], "y": Y[:0]}, "at least one"),
        ({"x": X.astype(np.int64), "y": Y}, "x must be uint8 or floats, got int64"),
        ({"x": X, "y": Y[:7]}, r"y must be one integer for each of the 10 images, got int64 of shape \(7,\)"),
        ({"x": X, "y": Y / 2}, "y must be one integer .* got float64"),
        (
            {"x": X, "y": Y.astype(np.uint64) + np.uint64(2**63)},
            rf"y\[\d\] is {2**63 + 1}, and labels count the classes from 0",
        ),
        ({"x": X, "y": Y - 1}, r"y\[0\] is -1; labels start at 0"),
        ({"x": np.where(X == 55, np.nan, X), "y": Y}, r"x\[3\] holds nan at position \(1, 3, 0\)"),
        ({"x_train": X, "y_train": Y, "x_test": X[:, :3], "y_test": Y}, r"\(4, 4, 1\), x_test of \(3, 4, 1\)"),
        ({"x": X, "y": Y, "classes": np.array(["one"])}, "classes must be at least 2 strings"),
        ({"x": X, "y": np.array([{}] * 10)}, r"not an \.npz file of plain arrays"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    path = write(tmp_path, **arrays)
    with pytest.raises(DataError, match=rf"data\.npz.*{message}"):
        load_npz(path)


def test_files_that_are_something_else(tmp_path: Path) -> None:
    path = write(tmp_path, x=X, y=Y)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"data\.npz is damaged or cut short"):
        load_npz(path)
    path = write(tmp_path, x=X, y=Y)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 0x40  # encrypted, says the directory of the archive
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"data\.npz is damaged or cut short"):
        load_npz(path)
    np.save(tmp_path / "one.npy", X)
    with pytest.raises(DataError, match=r"one\.npy holds a single array"):
        load_npz(tmp_path / "one.npy")
    with pytest.raises(FileNotFoundError):
        load_npz(tmp_path / "absent.npz")


def test_a_label_that_is_no_class_is_refused_before_its_names_fill_the_memory(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.npz has the label 1000000000; labels are the numbers of the classes"):
        load_npz(write(tmp_path, x=X, y=Y * 10**9))
