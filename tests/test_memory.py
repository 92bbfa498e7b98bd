"""The memory of outputs: aligned, owned and freed as NumPy's, kept for reuse within a limit."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from programs import run_program

from fastconv import functional as F
from fastconv._kernels._memory import empty, give_back, kept

FLOAT = np.dtype(np.float32)
LARGE = 2**18

KEEPS_AND_LETS_GO = """
import numpy as np
from fastconv._kernels._memory import empty, kept

def memory():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

before = memory()
for megabytes in range(0, 200, 8):
    empty((megabytes, 2**20), np.dtype(np.float32))[...] = 0
assert 0 < kept() <= 2**29, kept()
assert memory() - before < 2**29 + 2**27, memory() - before
many = [empty((2**16,), np.dtype(np.float32)) for _ in range(1000)]
del many
assert kept() <= 2**29
"""


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (5,), (3, 5, 7), (1, 300, 300, 4), (2**21 + 1,)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_array_like_any_other(shape, dtype):
    array = empty(shape, np.dtype(dtype))
    assert (array.shape, array.dtype) == (shape, dtype)
    assert array.flags.owndata and array.flags.carray and array.base is None
    assert array.ctypes.data % 64 == 0
    array[...] = 1
    assert array.sum() == array.size
    assert np.array_equal(array.copy(), array)


def test_a_large_block_is_used_again():
    give_back()
    array = empty((LARGE // 4,), FLOAT)
    place = array.ctypes.data
    assert kept() == 0
    del array
    assert kept() == LARGE
    assert empty((LARGE // 4 - 1,), FLOAT).ctypes.data != place  # too small for a block to be kept
    array = empty((LARGE // 4,), FLOAT)
    assert (array.ctypes.data, kept()) == (place, 0)
    view = array[1:]
    del array
    assert kept() == 0  # somebody still looks at it
    del view
    assert kept() == LARGE
    give_back()
    assert kept() == 0


def test_a_block_is_not_wasted_on_a_much_smaller_array():
    give_back()
    empty((LARGE,), FLOAT)
    assert kept() == 4 * LARGE
    half = empty((LARGE // 2,), FLOAT)
    assert kept() == 4 * LARGE
    slightly_smaller = empty((LARGE - LARGE // 16,), FLOAT)
    assert kept() == 0
    del half, slightly_smaller
    give_back()


def test_what_is_kept_has_a_limit():
    run_program(KEEPS_AND_LETS_GO)


def test_resizing_keeps_the_numbers():
    for size in (10, LARGE):
        array = empty((size,), FLOAT)
        array[...] = np.arange(size)
        array.resize(3 * size, refcheck=False)
        assert np.array_equal(array[:size], np.arange(size, dtype=np.float32))
        assert not array[size:].any()
        array.resize(5, refcheck=False)
        assert np.array_equal(array, np.arange(5))


def test_shapes_that_are_none():
    with pytest.raises(ValueError, match=r"shape must not be negative, got \(3, -1\)"):
        empty((3, -1), FLOAT)
    with pytest.raises(ValueError, match="shape must have at most 32 axes, got 33"):
        empty((1,) * 33, FLOAT)
    with pytest.raises(
        MemoryError, match=r"no memory for an array of shape \(4611686018427387904, 4\) and dtype float32"
    ):
        empty((2**62, 4), FLOAT)
    with pytest.raises(TypeError):
        empty((1.5,), FLOAT)


def test_threads_get_blocks_of_their_own():
    wrong = []

    def work(number):
        for i in range(200):
            array = empty((LARGE // 4 + 1000 * (i % 5),), FLOAT)
            array[...] = number
            y = F.relu(array)
            if not (array == number).all() or not (y == number).all():
                wrong.append((number, i))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
