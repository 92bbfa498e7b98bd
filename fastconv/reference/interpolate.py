"""Interpolation: an output lies somewhere between inputs, and is their mean, weighted by how near they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np


def interpolate(x: np.ndarray, lines: Sequence[Any], rule: Any) -> np.ndarray:
    """Return ``y[i] = sum over j of weight[i, j] * x[j]`` along each axis that has a line; see `fastconv.functional`.

    >>> from fastconv.functional.interpolate import Line, Rule
    >>> interpolate(np.array([[0.0, 4.0]]), [None, Line(4)], Rule("linear"))
    array([[0., 1., 3., 4.]])
    """
    y = x
    for axis, line in enumerate(lines):
        if line is not None:
            weight, constant = _matrix(y.shape[axis], line, rule)
            shape = [1] * y.ndim
            shape[axis] = -1
            y = np.moveaxis(np.tensordot(weight, y, (1, axis)), 0, axis) + constant.reshape(shape)
    return y.astype(x.dtype)


def interpolate_backward(dy: np.ndarray, input_shape: Sequence[int], lines: Sequence[Any], rule: Any) -> np.ndarray:
    """Return dx of `interpolate`: the transposed matrix along each axis.

    >>> from fastconv.functional.interpolate import Line, Rule
    >>> interpolate_backward(np.array([[1.0, 10, 100, 1000]]), (1, 2), [None, Line(4)], Rule("nearest"))
    array([[  11., 1100.]])
    """
    dx = dy
    for axis, line in enumerate(lines):
        if line is not None:
            weight, _ = _matrix(input_shape[axis], line, rule)
            dx = np.moveaxis(np.tensordot(weight.T, dx, (1, axis)), 0, axis)
    return dx.astype(dy.dtype)


def _matrix(size: int, line: Any, rule: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the weight of each input in each output (output, input), and what an output outside the image is."""
    weight, constant = np.zeros((line.size, size)), np.zeros(line.size)
    shrink = min(line.scale or line.size / size, 1.0) if rule.antialias else 1.0
    for i in range(line.size):
        x = _place(i, size, line, rule)
        if rule.coordinates == "tf_crop_and_resize" and not 0 <= x <= size - 1:
            constant[i] = rule.outside
            continue
        for j, share in _neighbors(x, size, shrink, rule):
            weight[i, j] += share
    return weight, constant


def _place(i: int, size: int, line: Any, rule: Any) -> float:
    out = line.size
    start, end = line.region
    wide = line.scale * size if line.scale else out
    centre = size / 2 * (1 - out / wide)

    def scaled(x: float) -> float:
        return _steadied(x / line.scale) if line.scale else x * size / out

    return {
        "half_pixel": scaled(i + 0.5) - 0.5,
        "half_pixel_symmetric": centre + scaled(i + 0.5) - 0.5,
        "pytorch_half_pixel": scaled(i + 0.5) - 0.5 if out > 1 else 0.0,
        "asymmetric": scaled(i),
        "tf_half_pixel_for_nn": scaled(i + 0.5),
        "align_corners": i * (size - 1) / (wide - 1) if wide != 1 else 0.0,
        "tf_crop_and_resize": _steadied(start * (size - 1) + i * (end - start) * (size - 1) / (out - 1))
        if out > 1
        else 0.5 * (start + end) * (size - 1),
    }[rule.coordinates]


def _steadied(x: float) -> float:
    """Return a place as near a pixel or a border between two as float32 can tell, on it: scales are rounded to float32."""
    border = round(2 * x) / 2
    return border if abs(x - border) <= 2.0**-23 * max(abs(x), 1) else x


def _neighbors(x: float, size: int, shrink: float, rule: Any) -> list[tuple[int, float]]:
    """Return the inputs that an output at x sees, each with its share."""
    if rule.mode == "nearest":
        j = {
            "floor": math.floor(x),
            "ceil": math.ceil(x),
            "round_prefer_floor": math.ceil(x - 0.5),
            "round_prefer_ceil": math.floor(x + 0.5),
        }[rule.rounding]
        return [(min(max(j, 0), size - 1), 1.0)]
    reach = math.ceil((1 if rule.mode == "linear" else 2) / shrink)
    first = math.floor(x) - reach + 1
    found = [(j, _curve(abs(j - x) * shrink, rule)) for j in range(first, first + 2 * reach)]
    if rule.exclude_outside:
        found = [(j, share) for j, share in found if 0 <= j < size]
    total = sum(share for _, share in found) or 1.0  # an output that sees nothing is 0
    return [(min(max(j, 0), size - 1), share / total) for j, share in found]


def _curve(distance: float, rule: Any) -> float:
    """Return the height of the straight or cubic (Keys 1981) curve at a distance from its middle."""
    d, a = distance, rule.cubic
    if rule.mode == "linear":
        return max(1 - d, 0.0)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0
