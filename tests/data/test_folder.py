"""Folders of images: classes by name, any size and mode; what cannot be decoded is named."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from fastconv.data import Batches, DataError, ImageFolder, load, load_image_folder, read_image
from fastconv.data.folder import image_files

Image = pytest.importorskip("PIL.Image")


def picture(path: Path, value: int, *, size: tuple[int, int] = (6, 8), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (size[1], size[0]), value if mode == "L" else (value, 0, 255 - value)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(5):
        picture(tmp_path / "zebra" / f"{number}.png", 10 * number)
        picture(tmp_path / "ape" / "young" / f"{number}.PNG", 100 + number)
    (tmp_path / "ape" / "notes.txt").write_text("not an image")
    picture(tmp_path / "ape" / ".hidden.png", 0)
    picture(tmp_path / "ape" / ".thumbnails" / "0.png", 0)
    (tmp_path / ".cache").mkdir()
    return tmp_path


def test_an_image_folder_is_like_an_array(folder: Path) -> None:
    images = ImageFolder(folder)
    assert images.classes == ("ape", "zebra")
    assert images.shape == (10, 6, 8, 3) and images.dtype == np.uint8 and len(images) == 10
    assert images.labels.tolist() == [0] * 5 + [1] * 5
    assert images[0].shape == (6, 8, 3) and images[0][0, 0].tolist() == [100, 0, 155]
    assert images[7:9][:, 0, 0, 0].tolist() == [20, 30]
    assert images[np.array([9, 0])][:, 0, 0, 0].tolist() == [40, 100]
    assert images[images.labels == 1].shape == (5, 6, 8, 3)
    assert np.asarray(images).shape == (10, 6, 8, 3) and np.asarray(images, np.float32).dtype == np.float32
    assert repr(images) == "ImageFolder(10 images (6, 8, 3) of 2 classes)"
    with pytest.raises(IndexError):
        images[10]


def test_batches_decode_and_bring_the_labels(folder: Path) -> None:
    batches = Batches(ImageFolder(folder), batch_size=4, shuffle=False)
    xs, ys = zip(*batches, strict=True)
    assert [len(x) for x in xs] == [4, 4, 2] and xs[0].dtype == np.float32
    assert xs[0][0, 0, 0].tolist() == pytest.approx([100 / 255, 0, 155 / 255])
    assert np.concatenate(ys).tolist() == [0] * 5 + [1] * 5


def test_grey_and_resized(folder: Path) -> None:
    picture(folder / "zebra" / "large.png", 50, size=(20, 30))
    images = ImageFolder(folder, size=(4, 5), mode="L")
    assert images.shape == (11, 4, 5, 1) and np.asarray(images).shape == (11, 4, 5, 1)
    assert ImageFolder(folder, size=7)[0].shape == (7, 7, 3)


def test_kinds_of_files(tmp_path: Path) -> None:
    grey16 = np.full((4, 4), 0x8042, np.uint16)
    Image.fromarray(grey16).save(tmp_path / "grey16.png")
    assert read_image(tmp_path / "grey16.png", mode="L")[0, 0, 0] == 0x80
    Image.new("RGBA", (4, 4), (9, 8, 7, 255)).save(tmp_path / "alpha.png")
    assert read_image(tmp_path / "alpha.png")[0, 0].tolist() == [9, 8, 7]
    turned = Image.new("RGB", (4, 2))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side
    turned.save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").shape == (4, 2, 3)


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_a_truncated_image_is_named(folder: Path, ending: str) -> None:
    path = folder / "zebra" / f"2.{ending}"
    noise = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(DataError, match=rf"zebra/2\.{ending} cannot be read as an image"):
        load_image_folder(folder)
    batches = Batches(ImageFolder(folder), batch_size=2)
    with pytest.raises(DataError, match=rf"zebra/2\.{ending} cannot be read") as caught, batches.epoch(0) as epoch:
        list(epoch)
    assert isinstance(caught.value.__cause__, (OSError, SyntaxError))


def test_what_is_wrong_is_named(folder: Path, tmp_path: Path) -> None:
    picture(folder / "zebra" / "small.png", 0, size=(3, 4))
    with pytest.raises(DataError, match=r"small\.png is 3 x 4 pixels, the first image 6 x 8: give a size"):
        load_image_folder(folder)
    (folder / "zebra" / "small.png").write_text("text")
    with pytest.raises(DataError, match=r"small\.png cannot be read as an image"):
        load_image_folder(folder)
    (folder / "gnu").mkdir()
    with pytest.raises(DataError, match="gnu has no images"):
        ImageFolder(folder)
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match="empty has no sub-folders"):
        ImageFolder(folder / "empty")
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*absent"):
        ImageFolder(folder / "absent")
    with pytest.raises(FileNotFoundError, match=r"absent\.png"):
        read_image(folder / "absent.png")
    with pytest.raises(ValueError, match='mode must be "RGB" or "L"'):
        ImageFolder(folder, mode="CMYK")
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        ImageFolder(folder, size=0)
    with pytest.raises(DataError, match="has the class 'zebra', which is not among ape, empty, gnu"):
        ImageFolder(folder, classes=("ape", "empty", "gnu"))


def test_held_out_or_separate(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    (x, _), (x_test, y_test), classes = load_image_folder(folder)
    assert (len(x), len(x_test)) == (8, 2) and sorted(y_test) == [0, 1] and classes == ("ape", "zebra")
    parts = tmp_path_factory.mktemp("parts")
    folder.rename(parts / "train")
    picture(parts / "val" / "zebra" / "0.png", 7, size=(9, 9))
    train, test, classes = load(parts)
    assert train[0].shape == (10, 6, 8, 3) and len(train[1]) == 10
    assert test[0].shape == (1, 6, 8, 3) and test[1].tolist() == [1]


def test_without_pillow(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"needs Pillow: pip install 'fastconv\[plot\]'"):
        ImageFolder(folder)


def test_a_folder_that_cannot_be_listed_is_not_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        image_files(tmp_path / "none")


@pytest.mark.parametrize(
    ("whole", "size", "crop"), [((30, 40), 16, 0.875), ((64, 64), (8, 16), 0.5), ((9, 33), 20, 1.0)]
)
def test_crop_is_the_middle_in_the_proportions_of_the_size(
    tmp_path: Path, whole: tuple[int, int], size: int | tuple[int, int], crop: float
) -> None:
    height, width = (size, size) if isinstance(size, int) else size
    rows, columns = np.mgrid[: whole[0], : whole[1]]
    # a slope: what a pixel says is where it was
    pixels = np.stack([rows * 4, columns * 4, np.zeros(whole)], axis=-1).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "slope.png")
    found = read_image(tmp_path / "slope.png", size=size, crop=crop).astype(np.float64)
    scale = crop * min(whole[0] / height, whole[1] / width)
    for axis, wanted in enumerate((height, width)):
        center = (whole[axis] - 1) / 2
        places = center + (np.arange(wanted) - (wanted - 1) / 2) * scale
        inner = slice(2, -2)  # at the edges of the image, the filter sees fewer pixels
        mean = found[..., axis].mean(axis=1 - axis)
        np.testing.assert_allclose(mean[inner], 4 * places[inner], atol=1.0)


@pytest.mark.parametrize(("size", "crop"), [(None, 0.5), (8, 0.0), (8, 1.5), (8, -1.0)])
def test_crop_needs_a_size_and_is_a_share(tmp_path: Path, size: int | None, crop: float) -> None:
    with pytest.raises(ValueError, match="crop must be above 0 and at most 1, and needs a size"):
        read_image(tmp_path / "image.png", size=size, crop=crop)


def test_a_size_beyond_pillows(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "image.png")
    with pytest.raises(ValueError, match="size must be at most 2147483647 pixels along an axis, got 1099511627776"):
        read_image(tmp_path / "image.png", size=2**40)
