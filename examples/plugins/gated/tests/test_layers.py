"""The layer is right: fastconv's conformance suite, a reference in NumPy, and every instruction set of this processor."""

import os
import subprocess
import sys

import numpy as np
import pytest
from gated.layers import GatedConv2d

from fastconv import _kernels, reference
from fastconv.testing import parametrize_with_layer_checks


@parametrize_with_layer_checks([GatedConv2d(4), GatedConv2d(3, 2, stride=2, padding=1)], max_examples=10)
def test_conformance(layer, check):
    check(layer)


def expected(layer, x):
    z = reference.conv(x, layer.params["weight"], layer.params["bias"], stride=layer.stride, padding=layer.padding)
    a, b = np.split(z, 2, axis=-1)
    return a / (1 + np.exp(-b))


@pytest.mark.parametrize("layer", [GatedConv2d(5), GatedConv2d(33, 5, stride=3, padding=2)], ids=["plain", "strided"])
def test_equals_the_reference(layer):
    x = np.random.default_rng(0).normal(size=(2, 11, 12, 7))
    y = layer.astype(np.float64)(x)
    np.testing.assert_allclose(y, expected(layer, x), atol=1e-12)


def test_runs_on_every_instruction_set():
    program = (
        "import numpy as np, fastconv; from fastconv import _kernels, layers;"
        "x = np.random.default_rng(0).normal(size=(2, 9, 9, 3)).astype(np.float32);"
        "print(_kernels.isa, layers.get('gated.GatedConv2d')(4)(x).sum())"
    )
    sums = set()
    for isa in _kernels.usable_isas():
        command = [sys.executable, "-c", program]
        done = subprocess.run(
            command, env=os.environ | {"FASTCONV_ISA": isa}, capture_output=True, text=True, check=True
        )
        chosen, total = done.stdout.split()
        assert chosen == isa
        sums.add(round(float(total), 3))
    assert len(sums) == 1


@pytest.mark.parametrize(
    "wrong", [{"channels": 0}, {"channels": 2, "kernel_size": 1.5}, {"channels": 2, "padding": -1}]
)
def test_wrong_arguments_are_named(wrong):
    name = list(wrong)[-1]
    with pytest.raises(ValueError, match=f"{name} must be an integer of at least"):
        GatedConv2d(**wrong)
