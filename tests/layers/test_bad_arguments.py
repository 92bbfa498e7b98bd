"""Arguments of the wrong kind are refused when a layer is made, by their names."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv import layers as L


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: L.Pad(1), r"padding must be a pair \(before, after\) for each axis but the batch, got 1"),
        (lambda: L.Pad([1, 1]), r"padding must be a pair .*, got \[1, 1\]"),
        (lambda: L.Resize(2), "scale must be a list of numbers, one for each spatial axis, got 2"),
        (lambda: L.Resize(size=8), "size must be a list of integers, one for each spatial axis, got 8"),
        (
            lambda: L.Resize([2.0], region=[0.5]),
            r"region must be a pair \(start, end\) for each spatial axis, got \[0.5\]",
        ),
        (lambda: L.Resize([2.0], cubic="a"), "cubic must be a real number, got 'a'"),
        (lambda: L.Resize([2.0], outside=None), "outside must be a real number, got None"),
        (lambda: L.ResizeLike(cubic=[]), r"cubic must be a real number, got \[\]"),
        (lambda: L.RoiAlign(7), "size must be a list of integers, one for each spatial axis, got 7"),
        (lambda: L.MaxUnpool(4), "size must be a list of integers, one for each spatial axis, got 4"),
        (lambda: L.MaxUnpool([4], counted=4), "counted must be a list of integers, one for each spatial axis, got 4"),
        (lambda: L.MaxPoolWithIndices(2), "kernel_size must be a list of integers, one for each spatial axis, got 2"),
        (lambda: L.Reshape((None, 2), copy=True), "copy must be an integer, got True"),
        (lambda: L.Partial(L.Add(), 1), r"held must be \[number, shape, kind, whether it is learned\] of each, got 1"),
        (lambda: L.Partial(L.Add(), [[1, 2]]), r"held must be .* of each, got \[\[1, 2\]\]"),
        (lambda: L.DynamicArguments(L.Tile([2]), 1), "arguments must be a list of names, got 1"),
    ],
)
def test_types(make, match):
    with pytest.raises(TypeError, match=match):
        make()


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: L.ArgMax([1, 2]), r"axis must be one axis, got \[1, 2\]"),
        (lambda: L.CumSum([]), r"axis must be one axis, got \[\]"),
        (
            lambda: L.MaxPoolWithIndices([]),
            r"kernel_size must have an integer for each of 1 to 3 spatial axes, got \[\]",
        ),
        (
            lambda: L.MaxUnpool([2] * 4),
            r"size must have an integer for each of 1 to 3 spatial axes, got \[2, 2, 2, 2\]",
        ),
        (lambda: L.Compare([]), r"relation must be one of .*, got \[\]"),
        (lambda: L.Logic({}), "relation must be one of .*, got {}"),
        (lambda: L.LSTM(3, direction=[]), r"direction must be one of .*, got \[\]"),
        (lambda: L.ELU(10**400), "alpha must be a number that a float holds, got 1000"),
        (lambda: L.Linear(3, initializer=10**400), "an initializer must be a number that a float holds, got 1000"),
    ],
)
def test_values(make, match):
    with pytest.raises(ValueError, match=match):
        make()


def test_one_axis_may_come_in_a_list():
    x = np.arange(12.0).reshape(2, 2, 3)
    np.testing.assert_array_equal(L.CumSum([2])(x), L.CumSum(2)(x))
    assert L.Reshape((None, -1), copy=1)(x).shape == (2, 2, 3)
