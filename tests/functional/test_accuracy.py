"""Rounding: every algorithm of a convolution, forward and backward, beside the same in float64, over sizes."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import SEEDS, conv_problems, conv_transpose_problems

from fastconv import functional, precision

#: Of the largest output: the sums of the definition in any order, and Winograd's algorithm where it is chosen.
DIRECT, WINOGRAD = 1e-5, 1e-4

#: Of fewer outputs all may be next to nothing beside what they are the sum of.
FEWEST = 30


def errors(function: str, x: np.ndarray, weight: np.ndarray, keywords: dict[str, Any]) -> list[float]:
    """Return the largest error of the output and of both gradients in float32, as shares of the largest number of each."""
    forward, backward = getattr(functional, function), getattr(functional, f"{function}_backward")
    wide_x, wide_weight = x.astype(np.float64), weight.astype(np.float64)
    want = forward(wide_x, wide_weight, **keywords)
    dy = np.random.default_rng(1).standard_normal(want.shape).astype(np.float32)
    got = [forward(x, weight, **keywords), *backward(dy, x, weight, **keywords)]
    wanted = [want, *backward(dy.astype(np.float64), wide_x, wide_weight, **keywords)]
    return [
        abs(one - other).max() / abs(other).max()
        for one, other in zip(got, wanted, strict=True)
        if other.size >= FEWEST and other.any()
    ]


def normal(seed: int, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize("exact", [True, False])
@settings(max_examples=40)
@given(problem=conv_problems(smallest_batch=1), more=st.sampled_from([1, 1, 1, 9]), seed=SEEDS)
def test_convolutions(isa, exact, problem, more, seed):
    (*image, channels), (*kernel, depth, outputs) = problem.x, problem.weight
    x, weight = normal(seed, (*image, channels * more), (*kernel, depth * more, outputs))
    with precision("exact") if exact else nullcontext():
        found = errors("conv", x, weight, problem.keywords)
    assert max(found, default=0) <= (DIRECT if exact else WINOGRAD)


@settings(max_examples=30)
@given(problem=conv_transpose_problems(), seed=SEEDS)
def test_transposed_convolutions(isa, problem, seed):
    x, weight = normal(seed, (1, *problem.x[1:]), problem.weight)
    with precision("exact"):
        assert max(errors("conv_transpose", x, weight, problem.keywords), default=0) <= DIRECT


@pytest.mark.parametrize(
    ("x", "weight", "keywords"),
    [
        ((1, 14, 14, 1024), (3, 3, 1024, 40), {"stride": 2, "padding": 1}),
        ((2, 15, 15, 512), (1, 1, 512, 33), {}),
        ((1, 33, 33, 128), (3, 3, 128, 40), {"padding": 12, "dilation": 12}),
        ((8, 28, 28, 6), (5, 5, 6, 16), {}),
        ((8, 28, 28, 3), (5, 5, 3, 6), {"padding": 2}),
        ((1, 60, 60, 64), (7, 7, 1, 64), {"padding": 3, "groups": 64}),
        ((2, 30, 30, 256), (3, 3, 8, 256), {"padding": 1, "groups": 32}),
        ((1, 112, 112, 64), (5, 5, 64, 3), {"padding": 2}),
        ((1, 224, 224, 3), (7, 7, 3, 64), {"stride": 2, "padding": 3}),
        ((4000, 1, 8), (1, 8, 2000), {}),
    ],
    ids=str,
)
def test_layers_of_networks(isa, x, weight, keywords):
    arrays = normal(0, x, weight)
    with precision("exact"):
        found = errors("conv", *arrays, keywords)
    assert max(found) <= DIRECT
