import gc
import itertools
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fastconv.functional import _lasting
from fastconv.functional._lasting import BLOCK, LEAST, LINE, lasting

FLOAT = np.dtype(np.float32)


@pytest.fixture(autouse=True)
def _no_block_of_others(monkeypatch):
    monkeypatch.setattr(_lasting, "_open", [])


def place(array):
    return array.ctypes.data, array.ctypes.data + array.nbytes


def apart(arrays):
    ends = sorted(map(place, arrays))
    return all(before[1] <= after[0] for before, after in itertools.pairwise(ends))


@pytest.mark.parametrize("dtype", [FLOAT, np.dtype(np.float64)])
def test_arrays_share_a_block_and_no_bytes(dtype):
    arrays = [lasting(items, dtype) for items in (LEAST, LEAST + 1, LEAST // dtype.itemsize, 3 * LEAST + 5)]
    for value, array in enumerate(arrays):
        assert (array.dtype, array.ndim) == (dtype, 1) and array.ctypes.data % LINE == 0
        array[:] = value
    assert apart(arrays)
    assert [array.min() == array.max() == value for value, array in enumerate(arrays)] == [True] * len(arrays)
    assert {id(array.base) for array in arrays} == {id(arrays[0].base)}


@pytest.mark.parametrize("items", [0, 1, LEAST // 4 - LINE, BLOCK // 8 + LINE])
def test_small_and_large_arrays_have_memory_of_their_own(items):
    array = lasting(items, FLOAT)
    assert array.shape == (items,) and array.flags.owndata


def test_a_full_block_is_followed_by_another():
    arrays = [lasting(BLOCK // 12, FLOAT) for _ in range(5)]
    assert apart(arrays)
    assert len({id(array.base) for array in arrays}) >= 2


def test_a_block_goes_with_the_last_array_in_it():
    arrays = [lasting(LEAST, FLOAT) for _ in range(2)]
    block = weakref.ref(arrays[-1].base)
    del arrays[0]
    gc.collect()
    assert block() is not None
    arrays.clear()
    gc.collect()
    assert block() is None
    assert lasting(LEAST, FLOAT).base is not None  # a new one


def test_threads_that_come_at_once_get_memory_apart():
    with ThreadPoolExecutor(4) as pool:
        arrays = list(pool.map(lambda items: lasting(items, FLOAT), range(LEAST, LEAST + 400)))
    assert apart(arrays)
