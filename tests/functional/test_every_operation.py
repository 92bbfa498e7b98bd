"""What holds for every operation: the same bits for any number of threads, and for arrays however they lie in memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from operations import OPERATIONS, recorded

import fastconv
from fastconv import functional

every = pytest.mark.parametrize("operation", OPERATIONS, ids=[operation.label for operation in OPERATIONS])
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def same_bits(got, want):
    return all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in zip(got, want, strict=True)
    )


def test_the_table_holds_every_function():
    functions = {operation.function for operation in OPERATIONS}
    assert functions | {f"{name}_backward" for name in functions} == set(functional.__all__)


@every
@dtypes
def test_the_same_bits_for_any_number_of_threads(isa, operation, dtype):
    arrays = operation.arrays(dtype)
    with fastconv.num_threads(1):
        want = operation.run(arrays)
    for threads in (2, 3, 4):
        with fastconv.num_threads(threads), recorded() as calls:
            got = operation.run(arrays)
        given = {n for _, n in calls if n is not None}  # none where NumPy does the work
        assert not given or max(given) == threads, "too small to be split"
        assert same_bits(got, want), f"{threads} threads"


@every
@dtypes
def test_results_are_finite_and_have_the_dtype_of_the_arrays(operation, dtype):
    for result in operation.run(operation.arrays(dtype)):
        assert result.dtype == dtype
        assert np.isfinite(result).all()


@every
def test_the_dtypes_agree(operation):
    arrays = operation.arrays(np.float32)
    single, double = operation.run(arrays), operation.run(tuple(array.astype(np.float64) for array in arrays))
    for a, b in zip(single, double, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5 * max(1.0, float(abs(b).max())))


@every
def test_the_instruction_sets_agree(isa, operation):
    arrays = operation.arrays(np.float64)
    got = operation.run(arrays)
    fastconv._kernels.use("baseline")
    for a, b in zip(got, operation.run(arrays), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12 * max(1.0, float(abs(b).max())))


def strided(array):
    """Return an equal array whose elements lie apart in memory, in the other direction along the first axis."""
    view = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)[..., ::2][::-1]
    view[...] = array
    return view


def unaligned(array):
    """Return an equal array that begins one byte after an address its elements want."""
    buffer = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    buffer[...] = array
    return buffer


MEMORY = {
    "Fortran order": np.asfortranarray,
    "strided": strided,
    "other byte order": lambda array: array.astype(array.dtype.newbyteorder()),
    "unaligned": unaligned,
    "writable": np.copy,
    "subclass": lambda array: array.view(type("Picture", (np.ndarray,), {})),
}


@every
@pytest.mark.parametrize("kind", MEMORY)
def test_the_same_bits_however_arrays_lie_in_memory(operation, kind):
    arrays = operation.arrays(np.float32)  # read-only, in C order
    other = tuple(MEMORY[kind](array) for array in arrays)
    assert same_bits(operation.run(other), operation.run(arrays))
    for array, before in zip(other, arrays, strict=True):  # inputs are never changed
        np.testing.assert_array_equal(array, before)


@every
def test_results_are_new_arrays(operation):
    arrays = operation.arrays(np.float32)
    for result in operation.run(arrays):
        assert result.flags.c_contiguous
        assert result.flags.writeable
        assert not any(np.shares_memory(result, array) for array in arrays)


@every
@pytest.mark.parametrize("batch", [0, 1])
def test_a_batch_of_none_and_of_one(isa, operation, batch):
    if batch == 0 and operation.function in (
        "batch_norm",
        "batch_norm_relu",
        "batch_norm_relu_max_pool",
        "cross_entropy",
    ):
        pytest.skip("nothing has no mean")
    x, *others = operation.arrays(np.float32)
    y, *gradients = operation.run((x[:batch], *others))
    if y.ndim:
        assert len(y) == batch
    shapes = [x[:batch].shape, *(array.shape for array in others)]
    assert [gradient.shape for gradient in gradients[-len(shapes) :]] == shapes
    if batch == 0:
        assert not any(gradient.any() for gradient in gradients)


def test_what_is_computed_for_one_length_is_not_kept_for_ever():
    def one_of_each(length):
        x = np.zeros((1, length, 1), np.float32)
        functional.max_pool(x, 2)
        functional.adaptive_avg_pool(x, length // 2)
        functional.upsample(x, 2, mode="bilinear")
        functional.conv_backward(x[:, ::2], x, x[:, :1], stride=2)

    one_of_each(20_000)
    tracemalloc.start()
    try:
        for length in range(20_002, 20_022, 2):  # sounds, none as long as another
            one_of_each(length)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 200_000
