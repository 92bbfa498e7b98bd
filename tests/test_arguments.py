"""Numbers as arguments: every kind of integer counts, and what is none is refused by its name."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv.arguments import boolean, check_elements, ntuple


@pytest.mark.parametrize("value", [True, np.True_, 1, np.int8(1), False, np.False_, 0])
def test_booleans(value):
    assert boolean(value, "ceil_mode") is bool(value)


@pytest.mark.parametrize("value", [None, 2, -1, 1.0, "False", [], np.array([1, 0]), np.array(1)])
def test_what_is_no_boolean(value):
    with pytest.raises(TypeError, match="ceil_mode must be True or False, got "):
        boolean(value, "ceil_mode")


@pytest.mark.parametrize("value", [2, np.int64(2), np.array(2), (2, 2), [2, 2], np.array([2, 2]), (np.uint8(2), 2)])
def test_ntuple_takes_every_kind_of_integer(value):
    result = ntuple(value, 2, "stride")
    assert result == (2, 2)
    assert {type(item) for item in result} == {int}


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (True, TypeError, "size must be an integer, got True"),
        (np.False_, TypeError, "size must be an integer, got .*False"),
        (np.array([True, True]), TypeError, "size must be an integer, got .*True"),
        (2.0, TypeError, r"size must be an integer or a tuple of integers, got 2\.0"),
        (np.array([2.0, 2.0]), TypeError, r"size must be an integer or a tuple of integers, got .*2\.0"),
        ("2", TypeError, "size must be an integer or a tuple of integers, got '2'"),
        (None, TypeError, "size must be an integer or a tuple of integers, got None"),
        ((2, None), TypeError, "size must be an integer or a tuple of integers, got None"),
        ((), ValueError, r"size must be one integer or 2 of them \(one for each spatial axis\), got \(\)"),
        ((1, 2, 3), ValueError, r"size must be one integer or 2 of them .*got \(1, 2, 3\)"),
        (0, ValueError, "size must be at least 1, got 0"),
        ((1, 0), ValueError, r"size must be at least 1, got \(1, 0\)"),
        (2**59, ValueError, f"size is too large: got {2**59}, the largest size is {2**59 - 1}"),
    ],
)
def test_ntuple_refuses(value, error, message):
    with pytest.raises(error, match=message):
        ntuple(value, 2, "size")


def test_arrays_that_no_memory_holds_are_refused():
    assert check_elements((2**29, 2**29), "y") == 2**58
    assert check_elements((0, 2**29), "y") == 0
    with pytest.raises(ValueError, match="y would have shape"):
        check_elements((0, 2**60), "y")
    with pytest.raises(
        ValueError, match=rf"y would have shape \(1073741824, 1073741824\): {2**60} elements are more than {2**59 - 1}"
    ):
        check_elements((2**30, 2**30), "y")
