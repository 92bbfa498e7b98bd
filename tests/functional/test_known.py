"""Signatures of arguments, and what functions remember by them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastconv import functional as F
from fastconv import precision
from fastconv._kernels._memory import signature
from fastconv.functional._known import MOST_CALLS, Known, forget_calls

#: A few values of each kind, so that equal ones are often drawn.
PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2),
    st.sampled_from([2**31, -(2**40), 2**60 - 1]),
    st.sampled_from(["", "x", "same", "valid", "winograd", "a" * 8, "a" * 9]),
)
ARGUMENTS = st.lists(st.one_of(PLAIN, st.tuples(PLAIN), st.tuples(PLAIN, st.tuples(PLAIN, PLAIN))), max_size=4)
SHAPES = st.sampled_from([(), (0,), (1,), (2, 1), (1, 2), (1, 1, 2, 3, 4)])


def _typed(value):
    return type(value), tuple(map(_typed, value)) if isinstance(value, tuple) else value


@given(ARGUMENTS, ARGUMENTS)
def test_arguments_have_one_signature_if_and_only_if_they_are_the_same(a, b):
    same = [*map(_typed, a)] == [*map(_typed, b)]
    assert isinstance(signature(*a), bytes)
    assert (signature(*a) == signature(*b)) == same


@given(SHAPES, SHAPES, *[st.sampled_from([np.float32, np.float64])] * 2)
def test_arrays_differ_by_dtype_and_shape_alone(shape, other_shape, dtype, other_dtype):
    a, b = np.ones(shape, dtype), np.zeros(other_shape, other_dtype)
    assert (signature(a, 1) == signature(b, 1)) == ((shape, dtype) == (other_shape, other_dtype))


class _Array(np.ndarray):
    pass


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        [1],
        np.int64(1),
        np.True_,
        2**70,
        -(2**62),
        "\N{LATIN SMALL LETTER SHARP S}",
        (1, [2]),
        tuple(range(100)),
        "a" * 1000,
        np.ones((2, 2), np.int32),
        np.ones((4, 4), np.float32)[:, 1:],
        np.ones((4, 4), np.float32).T,
        np.ones(3, ">f4" if np.little_endian else "<f4"),
        np.frombuffer(bytes(9), np.uint8)[1:].view(np.float32),
        np.ones(3, np.float32).view(_Array),
        np.float32(1),
    ],
)
def test_what_must_be_looked_at_has_no_signature(value):
    assert signature(1, value) is None


def test_a_table_forgets():
    table: Known[int] = Known()
    assert table.remember(None, 1) == 1
    assert None not in table
    for i in range(MOST_CALLS + 1):
        table.remember(bytes(str(i), "ascii"), i)
    assert len(table) == 1
    forget_calls()
    assert not table


def test_a_second_call_checks_as_the_first():
    x, weight = np.ones((1, 4, 4, 1), np.float32), np.ones((3, 3, 1, 2), np.float32)
    for _ in range(2):
        assert F.conv(x, weight, padding=1).shape == (1, 4, 4, 2)
        with pytest.raises(TypeError, match="padding"):
            F.conv(x, weight, padding=1.0)
        with pytest.raises(TypeError, match="groups"):
            F.conv(x, weight, padding=1, groups=True)
        with pytest.raises(ValueError, match=r"dy must have shape \(1, 4, 4, 2\)"):
            F.conv_backward(np.ones((1, 4, 4, 3), np.float32), x, weight, padding=1)
        with pytest.raises(TypeError, match="dtype of x"):
            F.conv(x, weight.astype(np.float64), padding=1)
        with pytest.raises(ValueError, match="wrt"):
            F.conv_backward(np.ones((1, 4, 4, 2), np.float32), x, weight, padding=1, wrt=("y",))


def test_precision_is_of_the_moment():
    rng = np.random.default_rng(0)
    x, weight = (rng.standard_normal(shape).astype(np.float32) for shape in ((1, 16, 16, 64), (3, 3, 64, 64)))
    fast = F.conv(x, weight)
    with precision("exact"):
        exact = F.conv(x, weight)
        assert np.array_equal(F.conv(x, weight, algorithm="product"), exact)
        with pytest.raises(ValueError, match="forbidden"):
            F.conv(x, weight, algorithm="winograd")
    assert not np.array_equal(fast, exact)
    assert np.array_equal(F.conv(x, weight), fast)
