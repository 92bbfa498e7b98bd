"""The table of a model: numbers by hand, receptive fields by experiment, text and HTML."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fastconv.layers import (
    Add,
    AvgPool2d,
    BatchNorm,
    Conv1d,
    Conv2d,
    ConvTranspose1d,
    DepthwiseConv2d,
    Flatten,
    GlobalAvgPool,
    Linear,
    MaxPool2d,
    ReLU,
    Upsample,
    ZeroPad,
)
from fastconv.model import Input, Model
from fastconv.sequential import Sequential
from fastconv.unbatched import Unbatched


def residual() -> Model:
    x = Input((16, 16, 3))
    y = Conv2d(8, 3, padding=1).named("stem")(x)
    block = Sequential([Conv2d(8, 3, padding=1, bias=False), BatchNorm(), ReLU()]).named("block")
    y = Add()(y, block(y))
    y = block(y)
    return Model(x, Linear(10).named("head")(GlobalAvgPool()(y)))


def test_a_model_without_a_batch_shows_what_is_inside() -> None:
    x = Input((3, 4))
    inputs, outputs = [{"name": "x", "shape": [3, 4], "used": True}], [{"name": "y", "from": 0}]
    model = Unbatched(Model(x, Linear(2)(x)), inputs, outputs)
    assert [(row.name, row.output_shape, row.parameters) for row in model.summary().rows] == [("linear_1", (3, 2), 10)]


def test_numbers_by_hand() -> None:
    summary = residual().summary()
    rows = [(row.name, row.depth, row.output_shape, row.parameters, row.multiply_adds) for row in summary.rows]
    inside = 16 * 16 * 8 * 9 * 8
    assert rows == [
        ("stem", 0, (16, 16, 8), 8 * 27 + 8, 16 * 16 * 8 * 27),
        ("block", 0, (16, 16, 8), 8 * 9 * 8 + 16, inside),
        ("conv2d_1", 1, (16, 16, 8), 8 * 9 * 8, inside),
        ("batchnorm_1", 1, (16, 16, 8), 16, 0),
        ("relu_1", 1, (16, 16, 8), 0, 0),
        ("add_1", 0, (16, 16, 8), 0, 0),
        ("block", 0, (16, 16, 8), 0, inside),
        ("conv2d_1", 1, (16, 16, 8), 0, inside),
        ("batchnorm_1", 1, (16, 16, 8), 0, 0),
        ("relu_1", 1, (16, 16, 8), 0, 0),
        ("globalavgpool_1", 0, (8,), 0, 0),
        ("head", 0, (10,), 90, 80),
    ]
    fields = [row.receptive_field for row in summary.rows]
    assert fields == [(3, 3), (5, 5), (5, 5), (5, 5), (5, 5), (5, 5), (7, 7), (7, 7), (7, 7), (7, 7), None, None]
    assert summary.parameters == 224 + 592 + 90
    assert summary.buffers == 16
    assert summary.parameter_bytes == 4 * summary.parameters
    assert summary.multiply_adds == 16 * 16 * 8 * 27 + 2 * inside + 80


def test_the_text_is_aligned() -> None:
    text = str(residual().summary())
    lines = text.splitlines()
    assert lines[0].split() == ["layer", "output", "shape", "parameters", "multiply-adds", "receptive", "field"]
    assert lines[3].startswith("  conv2d_1 (Conv2d)")
    column = lines[0].index("receptive")
    assert {line[column] for line in lines[1:-1]} <= set("0123456789a-")
    assert lines[-1] == "total: 906 parameters (3.6 kB float32), 16 buffers, 350,288 multiply-adds for one sample"
    assert repr(residual().summary()) == text


def test_the_html_is_a_table_with_escaped_text() -> None:
    html = residual().summary()._repr_html_()
    assert html.startswith("<table>")
    assert html.count("<tr>") == 1 + 12 + 1
    assert "block (Sequential)" in html

    class Odd(ReLU):
        pass

    Odd.__name__ = "<b>"
    assert "&lt;b&gt;" in Sequential([Odd().named("odd")], input_shape=(3,)).summary()._repr_html_()


def test_several_outputs_and_no_spatial_axes() -> None:
    x = Input((3,))
    inner = Model(x, [ReLU()(x), Linear(2)(x)])
    model = Model(x, Linear(2)(inner(x)[1])).astype(np.float64)
    summary = model.summary()
    assert summary.rows[0].output_shape == ((3,), (2,))
    assert "(N, 3), (N, 2)" in str(summary)
    assert "float64" in str(summary)
    assert [row.receptive_field for row in summary.rows][-1] == ()


def test_a_model_without_a_shape_says_what_to_do() -> None:
    with pytest.raises(
        ValueError, match=r"the model does not know its input yet: call it, build.* or give input_shape="
    ):
        Sequential([ReLU()]).summary()


def test_sizes_in_words() -> None:
    small = Sequential([Linear(2, bias=False)], input_shape=(3,)).summary()
    assert "6 parameters (24 bytes float32)" in str(small)
    assert "(4.0 MB float32)" in str(Sequential([Linear(1000, bias=False)], input_shape=(1000,)).summary())


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (lambda: [Conv2d(1, 3)], 24),
        (lambda: [Conv2d(1, 3, stride=2), Conv2d(1, 3, dilation=2)], 24),
        (lambda: [Conv2d(1, 3), MaxPool2d(2), Conv2d(1, 3), AvgPool2d(3, 2)], 24),
        (lambda: [ZeroPad(2), DepthwiseConv2d((5, 1)), Conv2d(1, (1, 4))], 24),
    ],
)
def test_the_receptive_field_is_what_an_output_sees(make: Callable[[], list], size: int) -> None:
    model = Sequential([*make()], input_shape=(size, size, 1))
    _check_field(model, size)


@pytest.mark.parametrize(
    "make",
    [
        lambda: [Conv1d(1, 3, padding=1), Upsample(2), Conv1d(1, 3, padding=1)],
        lambda: [Upsample(2, mode="bilinear"), Conv1d(1, 5, padding=2)],
        lambda: [ConvTranspose1d(1, 4, stride=2, padding=1), Conv1d(1, 3, padding=1)],
        lambda: [ConvTranspose1d(1, 3, stride=2), Conv1d(1, 3), Conv1d(1, 3)],
        lambda: [Sequential([Conv1d(1, 3), Sequential([Upsample(3)])]), Conv1d(1, 3)],
    ],
)
def test_the_receptive_field_of_what_enlarges_is_an_upper_bound(make: Callable[[], list]) -> None:
    model = Sequential(make(), input_shape=(20, 1))
    declared = model.summary().rows[-1].receptive_field
    assert declared is not None
    seen = _seen(model, (20, 1))
    assert seen <= declared[0] <= seen + 2


def _check_field(model: Sequential, size: int) -> None:
    declared = model.summary().rows[-1].receptive_field
    assert declared is not None
    gradient = _input_gradient(model, (size, size, 1))[0, :, :, 0]
    rows, columns = np.nonzero(gradient)
    # the sum over the windows of a maximum has gradients in some pixels only: all of them lie in the field
    assert np.ptp(rows) + 1 <= declared[0]
    assert np.ptp(columns) + 1 <= declared[1]
    if not any(isinstance(layer, MaxPool2d) for layer in model.layers):
        assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == declared


def _seen(model: Sequential, shape: tuple[int, ...]) -> int:
    """Return how many inputs the output in the middle sees, at most over a few neighbors."""
    middle = model.output_shape(shape)[0] // 2
    spans = []
    for at in range(middle - 3, middle + 3):
        (found,) = np.nonzero(_input_gradient(model, shape, at)[0, :, 0])
        spans.append(int(np.ptp(found)) + 1)
    return max(spans)


def _input_gradient(model: Sequential, shape: tuple[int, ...], at: int | None = None) -> np.ndarray:
    for array in model.params.values():
        array[...] = np.random.default_rng(2).uniform(0.5, 1, array.shape)  # positive, so that nothing cancels
    x = np.random.default_rng(3).uniform(1, 2, (1, *shape)).astype(np.float32)
    y, backward = model.forward(model.context(training=False, input_grad=True), x)
    dy = np.zeros_like(y)
    index = [n // 2 for n in y.shape[1:-1]]
    if at is not None:
        index[0] = at
    dy[(0, *index, 0)] = 1
    gradient: np.ndarray = backward(dy)[0]
    return gradient


def test_flatten_sees_everything() -> None:
    rows = Sequential([Conv2d(2, 3), Flatten(), Linear(3)], input_shape=(5, 5, 1)).summary().rows
    assert [row.receptive_field for row in rows] == [(3, 3), None, None]
