"""`explain`: what each step does, how long it takes, as text and as a chart."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from frozen_cases import trained

import fastconv
from fastconv import layers as L
from fastconv import networks
from fastconv.frozen.explanation import multiply_adds_a_second
from fastconv.sequential import Sequential


@pytest.fixture(scope="module")
def explanation():
    model = Sequential(
        [
            L.Conv2d(32, 3, padding=1),
            L.BatchNorm(),
            L.ReLU(),
            L.Conv2d(32, 3, padding=1),
            L.Dropout(),
            L.AddCoords(),
            L.Flatten(),
            L.Linear(10),
        ],
        input_shape=(16, 16, 16),
    )
    return fastconv.freeze(trained(model)).explain(batch=4, repeats=3)


def test_it_says_which_layers_each_step_does(explanation):
    assert [step.layers for step in explanation.steps] == [
        ("conv2d_1", "batchnorm_1", "relu_1"),
        ("conv2d_2",),
        ("addcoords_1",),
        ("linear_1",),
    ]
    assert [step.operation for step in explanation.steps] == ["conv", "conv", "layer", "linear"]
    assert explanation.steps[0].algorithm.split(",")[0].split()[0] in ("winograd", "product")
    assert explanation.steps[0].output == "(N, 16, 16, 32)"


def test_it_counts_what_there_is_to_do(explanation):
    assert [step.multiply_adds for step in explanation.steps] == [
        4 * 256 * 9 * 16 * 32,
        4 * 256 * 9 * 32 * 32,
        0,
        4 * 256 * 34 * 10,
    ]
    assert all((step.of_peak is not None) == (step.multiply_adds > 0) for step in explanation.steps)
    assert sum(step.share for step in explanation.steps) == pytest.approx(1)
    assert 0 < explanation.seconds < 10 and explanation.overhead >= 0


def test_it_prints_as_a_table(explanation):
    lines = str(explanation).splitlines()
    assert lines[0].split() == [
        "layers",
        "operation",
        "algorithm",
        "output",
        "multiply-adds",
        "time",
        "share",
        "of",
        "peak",
    ]
    assert lines[1].startswith("conv2d_1 + batchnorm_1 + relu_1  conv")
    assert len(lines) == 1 + 4 + 2
    assert f"{explanation.arena_bytes:,} bytes for all values between steps" in lines[-1]


def test_it_is_drawn(explanation, tmp_path):
    path = tmp_path / "chart.png"
    explanation.plot(path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_chart_without_matplotlib_names_the_extra(explanation, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'fastconv\[plot\]'"):
        explanation.plot(tmp_path / "chart.png")


def test_other_sizes_and_bad_arguments():
    frozen = fastconv.freeze(networks.create("resnet20", (32, 32, 3), 10))
    assert frozen.explain((8, 24, 3), repeats=1).steps[0].output == "(N, 8, 24, 16)"
    with pytest.raises(ValueError, match="takes 1 inputs, got 2"):
        frozen.explain((8, 24, 3), (8, 24, 3))
    with pytest.raises(ValueError, match="batch must be"):
        frozen.explain(batch=0)
    with pytest.raises(ValueError, match="repeats must be"):
        frozen.explain(repeats=0)


def test_inputs_that_are_integers():
    class Table(L.Layer):
        traits = L.Traits(integers=True)

        def build(self, shape, rng):
            self.params["table"] = np.ones((5, 3), np.float32)

        def output_shape(self, shape):
            return (*shape, 3)

        def forward(self, ctx, x):
            return self.params["table"][x], lambda dy: (None, {"table": dy.sum(axis=(0, 1))[None] + np.zeros((5, 3))})

    model = Sequential([Table(), L.Linear(2)], input_shape=(4,)).build()
    frozen, x = fastconv.freeze(model), np.zeros((3, 4), np.int64)
    np.testing.assert_allclose(frozen(x), model(x), rtol=1e-6)
    assert [step.operation for step in frozen.explain(x, repeats=1).steps] == ["layer", "linear"]


def test_a_model_without_steps():
    explanation = fastconv.freeze(Sequential([L.Dropout()], input_shape=(3,)).build()).explain(repeats=1)
    assert explanation.steps == ()
    assert "total" in str(explanation)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_peak_is_a_rate(isa, dtype):
    assert 1e8 < multiply_adds_a_second(np.dtype(dtype)) < 1e14
