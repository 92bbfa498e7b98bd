import gc
import itertools
import mmap
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fastconv.lasting
from fastconv.lasting import BLOCK, LEAST, LINE, lasting

FLOAT = np.dtype(np.float32)


@pytest.fixture(autouse=True)
def _no_block_of_others(monkeypatch):
    monkeypatch.setattr(fastconv.lasting, "_open", [])


def place(array):
    return array.ctypes.data, array.ctypes.data + array.nbytes


def apart(arrays):
    ends = sorted(map(place, arrays))
    return all(before[1] <= after[0] for before, after in itertools.pairwise(ends))


def blocks_of(arrays):
    return {id(array.base._block) for array in arrays}


@pytest.mark.parametrize("dtype", [FLOAT, np.dtype(np.float64)])
def test_arrays_share_a_block_and_no_bytes(dtype):
    arrays = [lasting((items,), dtype) for items in (LEAST, LEAST + 1, LEAST // dtype.itemsize, 3 * LEAST + 5)]
    for value, array in enumerate(arrays):
        assert (array.dtype, array.ndim) == (dtype, 1) and array.ctypes.data % LINE == 0
        array[:] = value
    assert apart(arrays)
    assert [array.min() == array.max() == value for value, array in enumerate(arrays)] == [True] * len(arrays)
    assert len(blocks_of(arrays)) == 1


@pytest.mark.parametrize("items", [0, 1, LEAST // 4 - LINE, BLOCK // 8 + LINE])
def test_small_and_large_arrays_have_memory_of_their_own(items):
    array = lasting((items,), FLOAT)
    assert array.shape == (items,) and array.flags.owndata


def test_a_full_block_is_followed_by_another():
    arrays = [lasting((3, BLOCK // 36), FLOAT) for _ in range(5)]
    assert apart(arrays)
    assert len(blocks_of(arrays)) >= 2


def test_a_block_goes_with_the_last_array_in_it():
    arrays = [lasting((LEAST,), FLOAT) for _ in range(2)]
    block = weakref.ref(arrays[-1].base._block)
    del arrays[0]
    gc.collect()
    assert block() is not None
    arrays.clear()
    gc.collect()
    assert block() is None
    assert lasting((LEAST,), FLOAT).base is not None  # a new one


def an_array_between_two_others():
    """Three arrays of ones in a block, and the numbers of the block where the second lies."""
    before, array, after = (lasting((5, LEAST), FLOAT) for _ in range(3))
    for each in (before, array, after):
        each[:] = 1
    block = np.frombuffer(before.base._block._memory, np.float32)
    start = array.ctypes.data - before.ctypes.data
    return before, array, after, block[start // 4 :][: array.size]


def test_a_view_keeps_an_array_and_its_end_changes_no_other():
    before, array, after, inside = an_array_between_two_others()
    view = array[2:].reshape(-1)[5:]
    del array
    assert (inside == 1).all()
    del view
    assert (before == 1).all() and (after == 1).all()


@pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux clears pages at once that are given back: no other shows it"
)
def test_pages_go_with_the_last_view_of_an_array():
    _before, array, _after, inside = an_array_between_two_others()
    view = array[2:].reshape(-1)[5:]
    del array, view
    assert not inside.all() and np.count_nonzero(inside) < 2 * mmap.PAGESIZE


def test_threads_that_come_at_once_get_memory_apart():
    with ThreadPoolExecutor(4) as pool:
        arrays = list(pool.map(lambda items: lasting((items,), FLOAT), range(LEAST, LEAST + 400)))
    assert apart(arrays)
