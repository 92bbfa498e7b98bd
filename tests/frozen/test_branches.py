"""Linear branches of one input are one convolution when frozen, where they can be."""

from __future__ import annotations

import numpy as np
import pytest
from frozen_cases import assert_equal_models, trained

import fastconv
from fastconv import layers as L
from fastconv.model import Input, Model

SHAPE = (9, 8, 6)


def summed(*branches, shape=SHAPE, dtype=np.float32):
    """Return a model of the sum of chains of layers, two at a time."""
    x = Input(shape)
    total = None
    for branch in branches:
        y = x
        for layer in branch:
            y = layer(y)
        total = y if total is None else L.Add()(total, y)
    return trained(Model(x, L.ReLU()(total)).astype(dtype))


def kinds(model):
    return [step.operation.kind for step in fastconv.freeze(model).program.steps]


def conv(kernel, padding=0, outputs=6, **keywords):
    return [L.Conv2d(outputs, kernel, padding=padding, bias=False, **keywords), L.BatchNorm()]


ONE = {
    "as RepVGG": (conv(3, 1), conv(1), [L.BatchNorm()]),
    "as MobileOne": (
        [L.DepthwiseConv2d(3, padding=1), L.BatchNorm()],
        [L.DepthwiseConv2d(3, padding=1), L.BatchNorm()],
        [L.DepthwiseConv2d(1), L.BatchNorm()],
        [L.BatchNorm()],
    ),
    "strides": (conv(1, stride=2, outputs=9), conv(3, 1, stride=2, outputs=9)),
    "groups": (conv(3, 1, groups=2), conv((1, 3), (0, 1), groups=2), [L.BatchNorm()]),
    "a depthwise convolution and its input": ([L.DepthwiseConv2d((5, 3), padding="same")], []),
    "as RepViT": ([L.DepthwiseConv2d(3, padding=1), L.BatchNorm()], [L.DepthwiseConv2d(1)], []),
    "dilation": (conv(3, 2, dilation=2), conv(1), [L.BatchNorm()]),
    "the same dilation": (conv(5, 4, dilation=2), conv(3, 2, dilation=2)),
    "same padding": (conv((5, 4), "same"), conv((3, 4), "same"), [L.BatchNorm()]),
    "not in the middle": (conv(3, ((2, 0), (0, 2))), conv(1)),
}

APART = {
    "other strides": (conv((9, 8)), conv((9, 8), stride=2)),
    "other groups": (conv(3, 1, groups=2), conv(1)),
    "taps that are not there": (conv(3, 3, dilation=3), conv(3, 1)),
    "sizes that differ for other images": (conv(3, 1, stride=3), conv(1, ((0, 0), (0, 1)), stride=3)),
    "same padding that depends on the size": (conv(3, "same", stride=2), conv(1, "same", stride=2)),
    "an activation": ([L.Conv2d(6, 3, padding=1), L.ReLU()], conv(1)),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", ONE)
def test_branches_are_one_convolution(case, dtype):
    model = summed(*ONE[case], dtype=dtype)
    assert kinds(model) == ["conv"]
    assert_equal_models(fastconv.freeze(model), model)


@pytest.mark.parametrize("case", APART)
def test_what_is_no_convolution_stays(case):
    model = summed(*APART[case])
    assert kinds(model).count("conv") == 2
    assert_equal_models(fastconv.freeze(model), model)


def test_a_normalization_of_a_sum_that_is_one_convolution_is_folded():
    x = Input(SHAPE)
    y = L.BatchNorm()(L.Add()(L.DepthwiseConv2d(3, padding=1)(x), x))
    model = trained(Model(x, L.ReLU()(y)))
    assert kinds(model) == ["conv"]
    assert_equal_models(fastconv.freeze(model), model)


def test_any_tap_of_a_depthwise_convolution_may_meet_the_pixel_itself():
    model = summed([L.DepthwiseConv2d(2, padding=((0, 1), (1, 0)))], [])
    assert kinds(model) == ["conv"]
    assert fastconv.freeze(model).program.steps[0].reads == (0,)
    assert_equal_models(fastconv.freeze(model), model)


@pytest.mark.parametrize(
    "layer", [L.Conv2d(6, 3, padding=1), L.DepthwiseConv2d(2, dilation=2, padding=1), L.DepthwiseConv2d((9, 8), 1)]
)
def test_other_shortcuts_stay(layer):
    """Beside products, where no tap meets the pixel itself, and where the sum stretches an image of one pixel."""
    model = summed([layer], [])
    steps = fastconv.freeze(model).program.steps
    assert any(len(step.reads) == 2 for step in steps)
    assert_equal_models(fastconv.freeze(model), model)


def test_a_branch_that_others_read_stays():
    x = Input(SHAPE)
    one, other = L.Conv2d(6, 3, padding=1)(x), L.Conv2d(6, 1)(x)
    model = trained(Model(x, [L.Add()(one, other), one]))
    assert kinds(model) == ["conv", "conv"]
    assert_equal_models(fastconv.freeze(model), model)


def test_weights_too_large_for_a_sum_stay():
    model = summed([L.Conv2d(6, 1, bias=False)], [L.Conv2d(6, 1, bias=False)])
    for array in model.params.values():
        array[...] = np.float32(3e38)
    assert kinds(model).count("conv") == 2
