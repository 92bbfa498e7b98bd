"""Activations that are spelled in several steps: which are recognized, and which are not those that they resemble."""

from __future__ import annotations

import math

import numpy as np
import pytest
from frozen_cases import assert_equal_outputs, trained

import fastconv
from fastconv import layers as L
from fastconv.frozen import formulas
from fastconv.frozen.formulas import KNOWN
from fastconv.model import Input, Model

SHAPE = (5, 4, 6)


def times(factor):
    return L.ScaleShift(factor, 0.0)


def plus(shift):
    return L.ScaleShift(1.0, shift)


def product(*symbols):
    return L.Multiply()(*symbols)


def gelu(x):
    return times(0.5)(product(x, plus(1.0)(L.Erf()(times(1 / math.sqrt(2))(x)))))


def gelu_otherwise(x):
    return product(plus(1.0)(L.Erf()(times(math.sqrt(0.5))(x))), times(0.5)(x))


def gelu_of_eight_digits(x):
    return product(plus(1.0)(L.Erf()(times(0.70710678)(x))), times(0.5)(x))


def gelu_tanh(x):
    cube = product(x, L.Square()(x))
    bent = L.Tanh()(times(math.sqrt(2 / math.pi))(L.Add()(x, times(0.044715)(cube))))
    return product(times(0.5)(x), plus(1.0)(bent))


def hard_swish(x):
    return times(1 / 6)(product(x, L.Clip(0.0, 6.0)(plus(3.0)(x))))


def hard_swish_divided(x):
    return product(L.ReLU6()(plus(3.0)(x)), times(1 / 6)(x))


FORMULAS = {
    "gelu": [gelu, gelu_otherwise],
    "gelu_tanh": [gelu_tanh],
    "hard_swish": [hard_swish, hard_swish_divided],
    "hard_sigmoid": [
        lambda x: times(1 / 6)(L.ReLU6()(plus(3.0)(x))),
        lambda x: L.Clip(0.0, 1.0)(L.ScaleShift(1 / 6, 0.5)(x)),
    ],
    "mish": [
        lambda x: product(x, L.Tanh()(L.Softplus()(x))),
        lambda x: product(L.Tanh()(L.Log()(plus(1.0)(L.Exp()(x)))), x),
    ],
    "softplus": [lambda x: L.Log()(plus(1.0)(L.Exp()(x)))],
    "sigmoid": [
        lambda x: L.Reciprocal()(plus(1.0)(L.Exp()(times(-1.0)(x)))),
        lambda x: times(0.5)(plus(1.0)(L.Tanh()(times(0.5)(x)))),
    ],
    "tanh": [lambda x: L.ScaleShift(2.0, -1.0)(L.Sigmoid()(times(2.0)(x)))],
    "silu": [lambda x: L.Divide()(x, plus(1.0)(L.Exp()(times(-1.0)(x))))],
    "relu": [lambda x: times(0.5)(L.Add()(x, L.Abs()(x)))],
    "relu6": [lambda x: L.Clip(None, 6.0)(L.ReLU()(x))],
}


def frozen_of(connect, dtype):
    """Return a frozen model, which computes what the model of `connect` of a symbol computes, and its steps' activations."""
    x = Input(SHAPE)
    model = trained(Model(x, connect(x)).astype(dtype))
    frozen = fastconv.freeze(model)
    numbers = np.random.default_rng(0).normal(0, 4, (3, *SHAPE)).astype(dtype)
    assert_equal_outputs(frozen(numbers), model(numbers))
    return [getattr(step.operation, "activation", None) for step in frozen.program.steps]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "formula"), [(name, each) for name in FORMULAS for each in FORMULAS[name]])
def test_a_formula_is_one_step(name, formula, dtype):
    (activation,) = frozen_of(formula, dtype)
    assert activation.name == name


def test_constants_of_eight_digits_are_float32s():
    (activation,) = frozen_of(gelu_of_eight_digits, np.float32)
    assert activation.name == "gelu"
    assert len(frozen_of(gelu_of_eight_digits, np.float64)) > 1


def test_every_known_activation_is_spelled_here():
    assert set(FORMULAS) == set(KNOWN)


def test_a_formula_ends_a_convolution():
    steps = frozen_of(lambda x: L.Conv2d(4, 1)(gelu(L.Conv2d(7, 3)(x))), np.float32)
    assert [each and each.name for each in steps] == ["gelu", None]


@pytest.mark.parametrize(
    "formula",
    [
        lambda x: product(x, L.Sigmoid()(times(1.702)(x))),
        lambda x: product(x, L.ReLU6()(plus(3.0)(x))),
        lambda x: L.Clip(None, 100.0)(L.Log()(plus(1.0)(L.Exp()(x)))),
        lambda x: times(1 / 6)(product(x, L.Clip(0.0, 6.5)(plus(3.0)(x)))),
        lambda x: L.Square()(L.ReLU()(x)),
        lambda x: product(L.Conv2d(6, 1)(x), L.Tanh()(L.Softplus()(x))),
    ],
)
def test_what_only_resembles_one_stays(formula):
    steps = frozen_of(formula, np.float32)
    assert len(steps) > 1
    assert all(each is None or each.name in ("sigmoid", "relu", "relu6", "clip", "softplus", "tanh") for each in steps)


def test_a_part_that_others_read_stays():
    def connect(x):
        bent = L.Softplus()(x)
        return L.Concat()(product(x, L.Tanh()(bent)), bent)

    assert [each and each.name for each in frozen_of(connect, np.float32)] == ["softplus", "tanh", None, None]


def test_numbers_for_each_channel_are_no_formula():
    def connect(x):
        return L.ReLU()(L.BatchNorm()(L.ReLU()(x)))

    assert [each and each.name for each in frozen_of(connect, np.float32)] == ["relu", "relu"]


def test_a_spelling_is_tried_once(monkeypatch):
    """Networks have the same activation dozens of times; other numbers in it, or steps in another order, are another one."""
    tried = []
    name = formulas._name
    monkeypatch.setattr(formulas, "_name", lambda program: tried.append(name(program)) or tried[-1])
    x = y = Input(SHAPE)
    for spelled in (gelu, gelu, gelu_of_eight_digits, lambda x: gelu(times(2.0)(x)), gelu):
        y = L.Conv2d(6, 1)(spelled(y))
    model = trained(Model(x, y))
    frozen = fastconv.freeze(model)
    assert [step.operation.kind for step in frozen.program.steps].count("conv") == 5
    assert tried.count("gelu") == 2
    assert len(tried) < 12
    image = np.ones((1, *SHAPE), np.float32)
    assert_equal_outputs(frozen(image), model(image))
