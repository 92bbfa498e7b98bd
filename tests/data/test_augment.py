"""Augmentations: what each does to an image, and that it depends on the seed, the epoch and the image's index alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastconv.data import Batches, Compose, Crop, Draws, Erase, Flip, Mixup, Rotate, Shift

ALONE = [
    Flip(),
    Flip("vertical", 0.3),
    Shift(2),
    Shift((1, 3), fill=0.5),
    Crop(5),
    Crop((6, 4), padding=2),
    Rotate(30),
    Erase(0.7),
    Compose([Flip(), Shift(1), Rotate(10), Erase()]),
]


def images(n: int, *, size: tuple[int, int] = (7, 8), channels: int = 2) -> np.ndarray:
    return np.random.default_rng(n).random((n, *size, channels), np.float32)


def apply(augmentation: Any, x: np.ndarray, *, seed: int = 0, epoch: int = 0, indices: Any = None) -> np.ndarray:
    draws = Draws(seed, epoch, np.arange(len(x)) if indices is None else np.asarray(indices))
    return augmentation(x.copy(), None, draws)[0]


@pytest.mark.parametrize("augmentation", ALONE, ids=repr)
@given(order=st.permutations(range(12)), cut=st.integers(0, 12), seed=st.integers(0, 2**70), epoch=st.integers(0, 99))
def test_an_image_varies_by_seed_epoch_and_index_alone(
    augmentation: Any, order: list[int], cut: int, seed: int, epoch: int
) -> None:
    x = images(12)
    whole = apply(augmentation, x, seed=seed, epoch=epoch)
    for part in (order[:cut], order[cut:]):
        np.testing.assert_array_equal(apply(augmentation, x[part], seed=seed, epoch=epoch, indices=part), whole[part])


@pytest.mark.parametrize("augmentation", ALONE, ids=repr)
def test_seed_and_epoch_matter(augmentation: Any) -> None:
    x = images(40)
    first = apply(augmentation, x)
    assert first.dtype == np.float32
    assert not np.array_equal(first, apply(augmentation, x, seed=1))
    assert not np.array_equal(first, apply(augmentation, x, epoch=1))
    assert not np.array_equal(first, apply(augmentation, x, seed=1 << 64))


def test_flip() -> None:
    x = images(100)
    for direction, axis in (("horizontal", 2), ("vertical", 1)):
        y = apply(Flip(direction), x)
        flipped = [np.array_equal(a, np.flip(b, axis - 1)) for a, b in zip(y, x, strict=True)]
        same = [np.array_equal(a, b) for a, b in zip(y, x, strict=True)]
        assert all(a != b for a, b in zip(flipped, same, strict=True))
        assert 30 < sum(flipped) < 70
        np.testing.assert_array_equal(apply(Flip(direction, 1), x), np.flip(x, axis))
        np.testing.assert_array_equal(apply(Flip(direction, 0), x), x)


def test_shift_moves_and_fills() -> None:
    x = np.ones((200, 5, 6, 1), np.float32)
    x[:, 2, 3] = 7
    y = apply(Shift(2, fill=-1), x)
    places = {tuple(np.argwhere(image[..., 0] == 7)[0] - (2, 3)) for image in y}
    assert places == {(a, b) for a in range(-2, 3) for b in range(-2, 3)}
    for image in y:
        down, right = np.argwhere(image[..., 0] == 7)[0] - (2, 3)
        assert (image == -1).sum() == 30 - (5 - abs(down)) * (6 - abs(right))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_shift_and_crop_of_any_rank(rank: int) -> None:
    x = np.random.default_rng(0).random((4, *(5, 6, 7)[:rank], 2))
    assert apply(Shift(1), x).shape == x.shape
    assert apply(Crop(4), x).shape == (4, *(4,) * rank, 2)
    np.testing.assert_array_equal(apply(Shift(0), x), x)


def test_crop_is_a_window() -> None:
    x = images(50)
    for image, window in zip(x, apply(Crop((3, 4)), x), strict=True):
        views = np.lib.stride_tricks.sliding_window_view(image, (3, 4), axis=(0, 1))
        assert (views == np.moveaxis(window, -1, 0)).all(axis=(2, 3, 4)).any()
    with pytest.raises(ValueError, match=r"size \(20, 20\) is larger than the images \(7, 8\) with padding \(1, 1\)"):
        apply(Crop(20, padding=1), x)


def test_rotate_by_right_angles_and_none(monkeypatch: pytest.MonkeyPatch) -> None:
    x = images(6, size=(7, 7))
    np.testing.assert_allclose(apply(Rotate(0), x), x, atol=1e-6)
    for turns in (1, 2, 3):
        monkeypatch.setattr(Draws, "uniform", lambda self, low, high, t=turns: np.full(len(self), 90.0 * t))
        np.testing.assert_allclose(apply(Rotate(360), x), np.rot90(x, -turns, axes=(1, 2)), atol=1e-5)


def test_rotate_agrees_with_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    x = images(3, size=(9, 12))
    monkeypatch.setattr(Draws, "uniform", lambda self, low, high: np.full(len(self), 25.0))
    expected = ndimage.rotate(x.astype(np.float64), -25, axes=(1, 2), reshape=False, order=1, cval=0.3)
    got = apply(Rotate(25, fill=0.3), x)
    # at the rim scipy takes the fill for a pixel that is half outside; we blend
    inside = ndimage.rotate(np.ones_like(x, np.float64), -25, axes=(1, 2), reshape=False, order=1, cval=-1) > 0.999
    np.testing.assert_allclose(got[inside], expected[inside], atol=1e-5)
    assert inside.mean() > 0.6


def test_erase_fills_one_rectangle_of_the_given_area() -> None:
    x = np.ones((300, 20, 20, 1), np.float32)
    y = apply(Erase(1.0, area=(0.1, 0.2), ratio=(0.5, 2.0), fill=-1.0), x)
    for image in y[..., 0] == -1:
        rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert image.sum() == height * width
        assert 0.07 < height * width / 400 < 0.23
        assert 0.4 < height / width < 2.5
    assert 100 < (apply(Erase(0.5), x) != 1).any(axis=(1, 2, 3)).sum() < 200


def test_mixup_blends_pairs_and_their_targets() -> None:
    n = 64
    x = np.zeros((n, 2, 2, n), np.float32)
    x[np.arange(n), :, :, np.arange(n)] = 1  # the channels say which images are in a blend
    labels = np.arange(n) % 5
    mixed, targets = Mixup(1.0, classes=5)(x, labels, Draws(0, 0, np.arange(n)))
    shares = mixed[:, 0, 0]  # (n, image)
    assert targets.shape == (n, 5) and targets.dtype == np.float32
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(targets, shares @ np.eye(5, dtype=np.float32)[labels], atol=1e-6)
    assert ((shares > 1e-6).sum(axis=1) <= 2).all()
    assert shares[np.arange(n), np.arange(n)].std() > 0.1
    soft = np.eye(5, dtype=np.float32)[labels]
    np.testing.assert_array_equal(Mixup(1.0)(x, soft, Draws(0, 0, np.arange(n)))[1], targets)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Flip("diagonal"), ValueError, 'direction must be "horizontal" or "vertical", got \'diagonal\''),
        (lambda: Flip(probability=1.5), ValueError, "probability must be from 0 to 1, got 1.5"),
        (lambda: Shift(-1), ValueError, "pixels must be at least 0, got -1"),
        (lambda: Shift(1.5), TypeError, "pixels must be an integer"),
        (lambda: Crop(0), ValueError, "size must be at least 1"),
        (lambda: Rotate(-3), ValueError, "degrees must be at least 0"),
        (lambda: Erase(area=(0.5, 0.1)), ValueError, "area must be two shares"),
        (lambda: Erase(ratio=(0, 1)), ValueError, "ratio must be two positive numbers"),
        (lambda: Mixup(0), ValueError, "alpha must be greater than 0"),
        (lambda: Compose([Flip]), TypeError, r"an augmentation is an object like Flip\(\)"),
        (lambda: apply(Rotate(5), np.zeros((2, 4, 1))), ValueError, "takes images of at least 4 axes"),
        (lambda: apply(Rotate(5), np.zeros((2, 4, 4, 4, 1))), ValueError, r"takes images \(N, H, W, C\)"),
        (lambda: apply(Shift((1, 2, 3)), images(2)), ValueError, "padding must be one integer or 2 of them"),
        (lambda: Mixup()(images(2), np.arange(2), Draws(0, 0, np.arange(2))), ValueError, "say how many classes"),
        (lambda: Mixup()(images(2), None, Draws(0, 0, np.arange(2))), TypeError, "one array of targets, got NoneType"),
    ],
)
def test_errors(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_a_function_is_an_augmentation() -> None:
    def darker(x: np.ndarray, y: Any, draws: Draws) -> tuple[np.ndarray, Any]:
        x *= draws.uniform(0.5, 1)[:, None, None, None]
        return x, y

    x = images(5)
    ((got, _),) = Batches(x, augment=darker, batch_size=5, shuffle=False)
    assert (got < x).all() and (got >= x * 0.49).all()
    assert repr(Compose([darker, Flip()])).startswith(
        "Compose([test_a_function_is_an_augmentation.<locals>.darker, Flip("
    )


def test_draws_are_uniform_and_independent() -> None:
    draws = Draws(3, 1, np.arange(20_000))
    a, b = draws.uniform(), draws.uniform()
    for values in (a, b):
        assert values.min() >= 0 and values.max() < 1
        counts, _ = np.histogram(values, 20, (0, 1))
        assert abs(counts - 1000).max() < 150
    for left, right in ((a, b), (a[1:], a[:-1]), (a, Draws(4, 1, np.arange(20_000)).uniform())):
        assert abs(np.corrcoef(left, right)[0, 1]) < 0.03
    whole = draws.integers(-1, 2)
    assert set(whole.tolist()) == {-1, 0, 1, 2}
    assert 0.27 < draws.chance(0.3).mean() < 0.33
