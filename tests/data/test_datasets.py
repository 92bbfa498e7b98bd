"""The data set inside the package, the split, `load`, and the checks."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastconv.data
from fastconv.data import (
    DataError,
    Dataset,
    check_labels,
    check_probabilities,
    load,
    load_fashion_mnist_subset,
    split,
    write_idx,
)

EMBEDDED = Path(fastconv.data.__file__).parent / "embedded"


def test_the_subset_of_fashion_mnist() -> None:
    (x, y), (x_test, y_test), classes = load_fashion_mnist_subset()
    assert x.shape == (2000, 28, 28, 1) and x_test.shape == (500, 28, 28, 1)
    assert x.dtype == np.uint8 and y.dtype == np.int64
    assert np.bincount(y).tolist() == [200] * 10 and np.bincount(y_test).tolist() == [50] * 10
    assert len(classes) == 10 and classes[0] == "T-shirt/top"
    hashes = {hashlib.sha256(image.tobytes()).digest() for image in np.concatenate([x, x_test])}
    assert len(hashes) > 2490, "training and test images are (nearly) all different"
    assert 50 < x.mean() < 100


def test_it_is_small_and_carries_its_license() -> None:
    assert sum(path.stat().st_size for path in EMBEDDED.iterdir()) <= 1_000_000
    notice = (EMBEDDED / "NOTICE.txt").read_text()
    assert "Zalando SE" in notice and "Permission is hereby granted" in notice


def test_the_script_that_made_it_is_deterministic(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "full").mkdir()
    for part, count in (("train", 2500), ("t10k", 800)):
        write_idx(tmp_path / "full" / f"{part}-images-idx3-ubyte", rng.integers(0, 256, (count, 4, 4)).astype(np.uint8))
        write_idx(tmp_path / "full" / f"{part}-labels-idx1-ubyte", (np.arange(count) % 10).astype(np.uint8))
    root = Path(__file__).resolve().parents[2]
    made = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        command = [
            sys.executable,
            root / "tools" / "make_fashion_subset.py",
            tmp_path / "full",
            "--out",
            tmp_path / name,
        ]
        # with the fastconv that is tested, which may be installed elsewhere
        path = str(Path(fastconv.__file__).parents[1])
        done = subprocess.run(command, env={"PYTHONPATH": path}, capture_output=True, text=True, check=True)
        assert "bytes" in done.stdout
        made.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert made[0] == made[1]
    (_, y), (x_test, y_test), classes = load(tmp_path / "a")
    assert np.bincount(y).tolist() == [200] * 10 and np.bincount(y_test).tolist() == [50] * 10
    assert x_test.shape == (500, 4, 4, 1) and classes[9] == "Ankle boot"


def test_split() -> None:
    y = np.repeat([0, 1, 2], [10, 5, 1])
    rest, part = split(y, fraction=0.2)
    assert sorted([*rest, *part]) == list(range(16))
    assert np.bincount(y[part], minlength=3).tolist() == [2, 1, 0]
    assert split(y)[1].tolist() == part.tolist() != split(y, seed=1)[1].tolist()
    assert [len(indices) for indices in split(np.array([], np.int64))] == [0, 0]
    for fraction in (0, 1, -0.5, "half", True):
        with pytest.raises(ValueError, match="fraction must be a number between 0 and 1"):
            split(y, fraction=fraction)  # type: ignore[arg-type]


def test_load_finds_out_what_it_is(tmp_path: Path) -> None:
    assert isinstance(load(EMBEDDED), Dataset)
    np.savez(tmp_path / "data.npz", x=np.zeros((10, 4, 4), np.uint8), y=np.arange(10) % 2)
    assert len(load(tmp_path / "data.npz", test_fraction=0.2).test[0]) == 2
    with pytest.raises(DataError, match="has no sub-folders"):
        load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"there is no file or folder .*nowhere"):
        load(tmp_path / "nowhere")


def test_labels_and_probabilities_are_named_by_their_index() -> None:
    check_labels(np.arange(10), 10)
    check_labels(np.empty(0, np.int64), 10)
    with pytest.raises(DataError, match=r"y\[3\] is label -1; with 4 classes the labels are 0 to 3"):
        check_labels(np.array([0, 1, 2, -1]), 4)
    with pytest.raises(DataError, match=r"targets\[1, 0\] is label 9"):
        check_labels(np.array([[0, 1], [9, 2]]), 4, "targets")
    check_probabilities(np.array([[0.25, 0.75]]))
    with pytest.raises(DataError, match=r"y\[1\] must be probabilities .* a sum of 1.5 and a smallest entry of 0.5"):
        check_probabilities(np.array([[0.5, 0.5], [0.5, 1.0]]))
    with pytest.raises(DataError, match=r"y\[0\] must be probabilities .* smallest entry of -1"):
        check_probabilities(np.array([[2.0, -1.0]]))
