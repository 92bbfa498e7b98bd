"""IDX files: what is written comes back; what is damaged or lies is named."""

from __future__ import annotations

import gzip
import lzma
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastconv.data import DataError, idx, load_idx_folder, read_idx, write_idx

#: What compresses, by the ending of the name.
COMPRESS = {".gz": gzip.compress, ".xz": lzma.compress}
ENDINGS = ["", *COMPRESS]
DTYPES = [np.uint8, np.int8, np.int16, np.int32, np.float32, np.float64]


@given(
    array=st.sampled_from(DTYPES).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(max_dims=4, max_side=4, min_side=0))
    ),
    ending=st.sampled_from(ENDINGS),
)
def test_what_is_written_comes_back(tmp_path_factory: pytest.TempPathFactory, array: np.ndarray, ending: str) -> None:
    path = tmp_path_factory.mktemp("idx") / f"array{ending}"
    write_idx(path, array)
    back = read_idx(path)
    assert back.dtype == array.dtype and back.dtype.isnative
    np.testing.assert_array_equal(back, array)
    assert back.flags.writeable


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_same_array_gives_the_same_bytes(tmp_path: Path, ending: str) -> None:
    for name in ("a", "b"):
        write_idx(tmp_path / (name + ending), np.arange(100, dtype=np.uint8))
    assert (tmp_path / f"a{ending}").read_bytes() == (tmp_path / f"b{ending}").read_bytes()


def test_bytes_of_the_format(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes([0, 0, 0x0B, 2, 0, 0, 0, 1, 0, 0, 0, 2, 1, 0, 255, 254]))
    np.testing.assert_array_equal(read_idx(tmp_path / "file"), np.array([[256, -2]], np.int16))


def test_a_dtype_that_the_format_lacks() -> None:
    with pytest.raises(TypeError, match=r"an IDX file holds one of uint8, .* got int64"):
        write_idx("nowhere", np.arange(3))


def header(*sizes: int, code: int = 8) -> bytes:
    return struct.pack(f">HBB{len(sizes)}I", 0, code, len(sizes), *sizes)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not an IDX file: it begins with nothing"),
        (b"\x89PNG and so on", "is not an IDX file: it begins with 89 50 4e 47"),
        (b"\0\0\x07\x01\0\0\0\x01a", "is not an IDX file: it begins with 00 00 07 01"),
        (b"\0\0\x08\x03\0\0\0\x05", "is cut short: its header announces 3 axes and ends after 4 bytes"),
        (header(10) + b"123", r"shape \(10,\) of uint8 is 10 bytes, it has only 3"),
        (header(2) + b"123", r"shape \(2,\) of uint8 is 2 bytes, it has more"),
        (header(2**31, 2**31, 2**31) + b"123", "it has only 3"),
    ],
)
@pytest.mark.parametrize("ending", ENDINGS)
def test_what_is_no_whole_file_is_named(tmp_path: Path, content: bytes, message: str, ending: str) -> None:
    path = tmp_path / f"train-images-idx3-ubyte{ending}"
    path.write_bytes(COMPRESS[ending](content) if ending else content)
    with pytest.raises(DataError, match=f"train-images-idx3-ubyte{ending}.*{message}"):
        read_idx(path)


@pytest.mark.parametrize("ending", COMPRESS)
def test_damaged_compression_is_named(tmp_path: Path, ending: str) -> None:
    whole = COMPRESS[ending](header(1000) + np.random.default_rng(0).bytes(1000))
    path = tmp_path / f"images{ending}"
    path.write_bytes(whole[:-300])
    with pytest.raises(DataError, match=rf"images\{ending} is cut short"):
        read_idx(path)
    path.write_bytes(whole[:500] + bytes([whole[500] ^ 255]) + whole[501:])
    with pytest.raises(DataError, match=rf"images\{ending} is damaged"):
        read_idx(path)
    path.write_bytes(b"not compressed at all")
    with pytest.raises(DataError, match=rf"images\{ending} is damaged"):
        read_idx(path)
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / f"absent{ending}")


def test_a_python_without_lzma_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx(tmp_path / "images.xz", np.zeros(3, np.uint8))
    monkeypatch.setattr(idx, "lzma", None)
    with pytest.raises(ImportError, match=r"ends in \.xz needs Python's module lzma"):
        read_idx(tmp_path / "images.xz")


def write_folder(folder: Path, *, classes: int = 3, ending: str = ".gz", dash: str = "-") -> None:
    rng = np.random.default_rng(0)
    for part, count in (("train", 6), ("t10k", 4)):
        write_idx(
            folder / f"{part}-images{dash}idx3-ubyte{ending}", rng.integers(0, 256, (count, 5, 4)).astype(np.uint8)
        )
        write_idx(folder / f"{part}-labels{dash}idx1-ubyte{ending}", (np.arange(count) % classes).astype(np.uint8))


@pytest.mark.parametrize(("ending", "dash"), [(ending, dash) for ending in ENDINGS for dash in "-."])
def test_a_folder(tmp_path: Path, ending: str, dash: str) -> None:
    write_folder(tmp_path, ending=ending, dash=dash)
    (x, y), (x_test, y_test), classes = load_idx_folder(tmp_path)
    assert (x.shape, x.dtype, y.shape, y.dtype) == ((6, 5, 4, 1), np.uint8, (6,), np.int64)
    assert (x_test.shape, y_test.tolist()) == ((4, 5, 4, 1), [0, 1, 2, 0])
    assert classes == ("0", "1", "2")


def test_names_of_classes(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "classes.txt").write_text("shoe\nhat\n\ncoat\n")
    assert load_idx_folder(tmp_path).classes == ("shoe", "hat", "coat")
    (tmp_path / "classes.txt").write_text("shoe\nhat\n")
    with pytest.raises(DataError, match="names 2 classes, but the labels need 3"):
        load_idx_folder(tmp_path)


def test_what_is_wrong_in_a_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="has no train-images-idx3-ubyte"):
        load_idx_folder(tmp_path)
    write_folder(tmp_path)
    write_idx(tmp_path / "t10k-labels-idx1-ubyte.gz", np.arange(3, dtype=np.uint8))
    with pytest.raises(DataError, match=r"t10k-labels.* one integer for each of the 4 images, got uint8 \(3,\)"):
        load_idx_folder(tmp_path)
    write_idx(tmp_path / "t10k-labels-idx1-ubyte.gz", np.array([0, 1, -1, 0], np.int8))
    with pytest.raises(DataError, match="label 2 is -1; labels start at 0"):
        load_idx_folder(tmp_path)
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", np.zeros((6, 5), np.uint8))
    with pytest.raises(DataError, match=r"train-images.* must hold uint8 images .* got uint8 \(6, 5\)"):
        load_idx_folder(tmp_path)
