"""Batches: every sample once an epoch, the same for any prefetch, scaled, checked; and the thread that works ahead."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from running import workers

from fastconv.data import Batches, DataError, Flip, Mixup, Shift, as_floats
from fastconv.data.prefetch import Prefetch


@given(samples=st.integers(0, 30), batch_size=st.integers(1, 12), shuffle=st.booleans(), epoch=st.integers(0, 3))
def test_every_sample_once(samples: int, batch_size: int, shuffle: bool, epoch: int) -> None:
    x, y = np.arange(samples, dtype=np.float32), np.arange(samples)
    batches = Batches(x, y, batch_size=batch_size, shuffle=shuffle, seed=5)
    with batches.epoch(epoch) as iterator:
        found = list(iterator)
    assert len(found) == len(batches)
    assert all(len(a) == len(b) == batch_size for a, b in found[:-1])
    labels = [int(label) for _, b in found for label in b]
    assert sorted(labels) == list(range(samples))
    assert [int(value) for a, _ in found for value in a] == labels
    if not shuffle:
        assert labels == list(range(samples))


def test_order_depends_on_seed_and_epoch() -> None:
    def order(**options: Any) -> list[int]:
        epoch = options.pop("epoch", 0)
        return Batches(np.zeros(50), **options).order(epoch).tolist()

    assert order() == order()
    assert order() != order(epoch=1) != order(seed=1) != order()
    assert order(seed=2**80) != order()


@pytest.mark.parametrize("prefetch", [1, 3])
def test_prefetching_changes_nothing(prefetch: int) -> None:
    x = np.random.default_rng(0).integers(0, 256, (50, 6, 6, 1)).astype(np.uint8)
    y = np.arange(50) % 4
    augment = [Flip(), Shift(1), Mixup(classes=4)]
    for epoch in range(2):
        results = []
        for depth in (0, prefetch):
            with Batches(x, y, batch_size=8, augment=augment, prefetch=depth, seed=1).epoch(epoch) as iterator:
                results.append(list(iterator))
        for (x0, y0), (x1, y1) in zip(*results, strict=True):
            np.testing.assert_array_equal(x0, x1)
            np.testing.assert_array_equal(y0, y1)
    assert not workers()


def test_iterating_goes_from_epoch_to_epoch() -> None:
    batches = Batches(np.arange(20.0), batch_size=20)
    first, second = (next(iter(batches))[0] for _ in range(2))
    assert first.tolist() == batches.order(0).tolist() and second.tolist() == batches.order(1).tolist()
    assert repr(batches) == "Batches(20 samples, batch_size=20, shuffle=True, seed=0)"


def test_dtypes() -> None:
    x = np.array([[0, 255], [51, 102]], np.uint8)
    for dtype in (np.float32, np.float64):
        ((batch, labels),) = Batches(x, np.array([1, 2], np.uint8), shuffle=False, dtype=dtype)
        assert batch.dtype == dtype and labels.dtype == np.uint8
        np.testing.assert_allclose(batch, [[0, 1], [0.2, 0.4]], rtol=1e-6)
        ((_, targets),) = Batches(x, np.array([0.5, 1.5]), shuffle=False, dtype=dtype)
        assert targets.dtype == dtype
    floats = np.ones(3, np.float32)
    assert as_floats(floats, np.float32) is floats


def test_the_arrays_of_the_caller_stay_as_they_are() -> None:
    x = np.random.default_rng(0).random((10, 5, 5, 1), np.float32)
    before = x.copy()
    for shuffle in (True, False):
        list(Batches(x, batch_size=4, shuffle=shuffle, augment=Flip(probability=1)))
    np.testing.assert_array_equal(x, before)


def test_tuples_for_several_inputs_and_outputs() -> None:
    a, b, c = np.arange(6.0), np.arange(12, dtype=np.uint8).reshape(6, 2), np.arange(6)
    found = list(Batches((a, b), (c, a), batch_size=4, shuffle=False))
    (xa, xb), (yc, ya) = found[1]
    assert xa.tolist() == [4, 5] and xb.shape == (2, 2) and yc.tolist() == [4, 5] and ya.dtype == np.float32


def test_memory_maps_are_read_piece_by_piece(tmp_path: Any) -> None:
    x = np.random.default_rng(0).integers(0, 256, (9, 3, 3, 1)).astype(np.uint8)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    found = np.concatenate([batch for batch, _ in Batches(mapped, batch_size=4, shuffle=False)])
    np.testing.assert_array_equal(found, x / np.float32(255))


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((np.zeros(3), np.zeros(4)), {}, DataError, "same number of samples; x has 3, y has 4"),
        (((np.zeros(3), np.zeros(4)),), {}, DataError, r"x\[0\] has 3, x\[1\] has 4"),
        ((np.array([1.0, np.inf]),), {}, DataError, r"x\[1\] holds inf at position \(\)"),
        ((np.array([1.0, 1e39]),), {}, DataError, r"x\[1\] holds 1e\+39 at .*; every value must be finite in float32"),
        ((np.zeros(2), np.array([0.0, -1e39])), {}, DataError, r"y\[1\] holds -1e\+39 at .* finite in float32"),
        ((np.ma.masked_equal([[1.0], [2.0]], 2.0),), {}, DataError, r"x\[1\] has masked values: fill them"),
        ((np.zeros(3), np.ma.masked_equal([1, 2, 3], 1)), {}, DataError, r"y\[0\] has masked values: fill them"),
        ((np.zeros(3),), {"shuffle": "no"}, TypeError, "shuffle must be True or False, got 'no'"),
        ((np.zeros(3), np.array([0, 1, np.nan])), {}, DataError, r"y\[2\] holds nan"),
        (((np.zeros(2), np.array([[0.0], [np.nan]])),), {}, DataError, r"x\[1\]\[1\] holds nan at position \(0,\)"),
        ((np.zeros(3, np.int64),), {}, TypeError, "x must be uint8 or floats, got int64"),
        ((np.array(["a"]), None), {}, TypeError, "x must be uint8 or floats, got <U1"),
        ((np.zeros(1), np.array(["a"])), {}, TypeError, "y must be uint8 or floats, or integers, got <U1"),
        ((3.0,), {}, TypeError, "x must be an array with one sample for each index"),
        ((np.zeros(3),), {"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
        ((np.zeros(3),), {"seed": -1}, ValueError, "seed must be at least 0, got -1"),
        ((np.zeros(3),), {"prefetch": -1}, ValueError, "prefetch must be at least 0"),
        (((np.zeros(3), np.zeros(3)),), {"augment": [Flip()]}, TypeError, "augment takes one array of images, got 2"),
    ],
)
def test_bad_data_is_named(arguments: Any, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Batches(*arguments, **options)


def test_large_values_are_fine_in_a_dtype_that_holds_them() -> None:
    ((x, _),) = Batches(np.ma.masked_array([1e39]), dtype=np.float64)
    assert x.tolist() == [1e39]


def test_booleans_are_the_labels_0_and_1() -> None:
    ((_, y),) = Batches(np.zeros(3), [True, False, True], shuffle=False)
    assert y.dtype == np.uint8 and y.tolist() == [1, 0, 1]


def test_nan_deep_in_a_large_array() -> None:
    x = np.zeros((5000, 100), np.float32)
    x[4321, 67] = np.nan
    with pytest.raises(DataError, match=r"x\[4321\] holds nan at position \(67,\)"):
        Batches(x)


class Trouble(Exception):
    pass


def test_an_error_on_the_way_comes_out_in_its_place_with_its_cause() -> None:
    def fail(x: np.ndarray, y: Any, draws: Any) -> Any:
        if 7 in y:
            try:
                raise OSError("the disk is on fire")
            except OSError as error:
                raise Trouble("sample 7") from error
        return x, y

    batches = Batches(np.zeros(20), np.arange(20), batch_size=4, shuffle=False, augment=fail)
    found = []
    with pytest.raises(Trouble, match="sample 7") as caught, batches.epoch(0) as iterator:
        for _, y in iterator:
            found.append(y.tolist())
    assert found == [[0, 1, 2, 3]]
    assert isinstance(caught.value.__cause__, OSError)
    assert any(entry.name == "fail" for entry in caught.traceback)
    assert not workers()


def endless(made: list[int]) -> Iterator[int]:
    while True:
        made.append(len(made))
        yield made[-1]


def test_prefetch_works_ahead_but_not_further() -> None:
    made: list[int] = []
    with Prefetch(endless(made), depth=3) as items:
        assert next(items) == 0
        deadline = time.monotonic() + 5
        while len(made) < 5 and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.02)
        assert len(made) == 5  # one taken, three waiting, one that finds no room
        assert next(items) == 1
    assert not workers()
    items.close()
    with pytest.raises(StopIteration):
        next(items)


def test_prefetch_goes_no_further_than_the_epoch() -> None:
    assert len(list(Batches(np.zeros((6, 4, 4, 1)), batch_size=2, augment=Flip(), prefetch=10**15))) == 3


def test_leaving_early_ends_the_thread() -> None:
    batches = Batches(np.zeros((100, 4, 4, 1)), batch_size=2, augment=Flip())
    for _ in batches:
        break
    gc.collect()
    assert not workers()
    iterator = iter(batches.epoch(0))
    next(iterator)
    assert workers()
    del iterator  # nobody waits for the thread
    gc.collect()
    deadline = time.monotonic() + 30
    while workers() and time.monotonic() < deadline:
        time.sleep(0.001)
    assert not workers()


def test_plain_arrays_need_no_thread() -> None:
    with Batches(np.zeros(10)).epoch(0) as iterator:
        next(iter(iterator))
        assert not workers()
