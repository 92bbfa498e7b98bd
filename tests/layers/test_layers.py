"""What single layers do beyond the common contract, and the message for every wrong argument."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastconv import layers as L
from fastconv import reference
from fastconv.layers import Context, Layer

RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((3, 6, 5, 4)).astype(np.float32)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: L.Conv2d(0, 3), ValueError, "channels must be at least 1, got 0"),
        (lambda: L.Conv2d(2.5, 3), TypeError, "channels must be an integer.* got 2.5"),
        (lambda: L.Conv2d((2, 3), 3), TypeError, r"channels must be one integer, got \(2, 3\)"),
        (lambda: L.Conv2d(2, (3, 3, 3)), ValueError, "kernel_size must be one integer or 2 of them"),
        (lambda: L.Conv2d(2, 3, stride=0), ValueError, "stride must be at least 1, got 0"),
        (lambda: L.Conv2d(2, 3, dilation=0), ValueError, "dilation must be at least 1, got 0"),
        (lambda: L.Conv2d(2, 3, padding=-1), ValueError, "padding must be at least 0, got -1"),
        (lambda: L.Conv2d(2, 3, padding="some"), ValueError, "padding must be .* got 'some'"),
        (lambda: L.Conv2d(3, 3, groups=2), ValueError, "channels must be a multiple of groups, got 3 with groups 2"),
        (
            lambda: L.Conv2d(2, 3, initializer="best"),
            ValueError,
            "there is no initializer 'best'; choose one of he_normal",
        ),
        (
            lambda: L.Conv2d(2, 3, bias_initializer=None),
            TypeError,
            "an initializer is a name, a number or a dict, got None",
        ),
        (lambda: L.ConvTranspose2d(2, 3, output_padding=-1), ValueError, "output_padding must be at least 0, got -1"),
        (lambda: L.ConvTranspose1d(3, 3, groups=2), ValueError, "channels must be a multiple of groups"),
        (lambda: L.DepthwiseConv2d(3, 0), ValueError, "multiplier must be at least 1, got 0"),
        (lambda: L.SeparableConv2d(3, 3, multiplier=True), TypeError, "multiplier must be an integer, got True"),
        (lambda: L.Linear(0), ValueError, "features must be at least 1, got 0"),
        (lambda: L.MaxPool2d(0), ValueError, "kernel_size must be at least 1, got 0"),
        (lambda: L.MaxPool2d(2, 0), ValueError, "stride must be at least 1, got 0"),
        (lambda: L.AvgPool2d(2, padding="x"), ValueError, "padding must be"),
        (lambda: L.AdaptiveAvgPool2d(0), ValueError, "output_size must be at least 1, got 0"),
        (lambda: L.BatchNorm(momentum=2), ValueError, "momentum must be between 0.0 and 1.0, got 2"),
        (lambda: L.BatchNorm(eps=-1), ValueError, "eps must be between 0.0 and inf, got -1"),
        (lambda: L.BatchNorm(eps="a"), TypeError, "eps must be a number, got 'a'"),
        (lambda: L.GroupNorm(0), ValueError, "groups must be at least 1, got 0"),
        (lambda: L.Dropout(1.5), ValueError, "rate must be between 0.0 and 1.0, got 1.5"),
        (lambda: L.Dropout(1), ValueError, "rate must be below 1"),
        (lambda: L.LeakyReLU("x"), TypeError, "slope must be a number, got 'x'"),
        (lambda: L.Concat(0), ValueError, "axis must not be 0, the batch"),
        (lambda: L.Concat(True), TypeError, "axis must be an integer, got True"),
        (lambda: L.Reshape(3), TypeError, "shape must be a tuple of integers, without the batch, got 3"),
        (lambda: L.Reshape((-1, -1)), ValueError, "at most one -1"),
        (lambda: L.Reshape((-2, 3)), ValueError, "shape must be at least -1"),
        (lambda: L.ZeroPad("same"), TypeError, "padding must be an integer or a tuple, got 'same'"),
        (lambda: L.ZeroPad(-1), ValueError, "padding must be at least 0, got -1"),
        (lambda: L.Fold(4, 2), TypeError, "size must be a tuple of one to three integers, got 4"),
        (lambda: L.Fold((4,), 7), ValueError, "the kernel is larger than the padded input"),
        (lambda: L.RoiAlign([2, 2], samples=1025), ValueError, "samples must be at most 1024, got 1025"),
        (lambda: L.Upsample(0), ValueError, "scale must be at least 1, got 0"),
        (lambda: L.Upsample(2, mode="cubic"), ValueError, 'mode must be "nearest" or "bilinear", got .cubic.'),
    ],
)
def test_wrong_arguments_are_refused_at_once(make: Callable[[], Layer], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("layer", "shapes", "message"),
    [
        (L.Conv2d(2, 3), [(5, 5)], r"in layer Conv2d: x must have shape \(N, H, W, C\), got \(N, 5, 5\)"),
        (L.Conv1d(2, 3), [(5, 5, 5)], r"x must have shape \(N, L, C\)"),
        (L.Conv3d(2, 3), [(5, 5, 5)], r"x must have shape \(N, D, H, W, C\)"),
        (L.Conv2d(2, 7), [(5, 5, 1)], "the kernel is larger than the padded input along spatial axis 0"),
        (
            L.Conv2d(4, 3, groups=2),
            [(5, 5, 3)],
            "the input's channels must be a multiple of groups, got 3 with groups 2",
        ),
        (L.ConvTranspose2d(4, 2, groups=2), [(5, 5, 3)], "the input's channels must be a multiple of groups, got 3"),
        (L.MaxPool2d(3), [(2, 2, 1)], "the kernel is larger than the padded input"),
        (L.AdaptiveAvgPool1d(3), [(2, 2, 1)], r"x must have shape \(N, L, C\)"),
        (L.GlobalAvgPool(), [(2,)], r"1, 2 or 3 spatial axes, got \(N, 2\)"),
        (L.Linear(3), [()], r"x must have shape \(N, ..., C\), got \(N,\)"),
        (L.BatchNorm(), [()], r"x must have shape \(N, ..., C\), got \(N,\)"),
        (L.PReLU(), [()], r"x must have shape \(N, ..., C\), got \(N,\)"),
        (L.Softmax(), [()], r"x must have shape \(N, ..., C\), got \(N,\)"),
        (L.GroupNorm(3), [(4, 4)], "the input's channels must be a multiple of groups, got 4 with groups 3"),
        (L.Add(), [(3, 2), (3, 1), (2, 2)], r"the inputs must have one shape .* got \(N, 3, 2\) and \(N, 3, 1\) and"),
        (L.Add(), [(3, 2), (2,)], "the inputs must have one shape"),
        (L.Concat(), [(3, 2), (2, 2)], r"one shape except along axis -1, got \(N, 3, 2\) and \(N, 2, 2\)"),
        (L.Concat(3), [(3, 2), (2, 2)], "axis 3 is not one of the inputs' after the batch: they have 3 axes"),
        (L.Concat(-3), [(3, 2), (2, 2)], "axis -3 is not one of the inputs' after the batch"),
        (L.Reshape((5, -1)), [(3, 2)], r"an input of shape \(N, 3, 2\) cannot be reshaped to \(5, -1\)"),
        (L.Reshape((5,)), [(3, 2)], r"cannot be reshaped to \(5,\)"),
        (L.ZeroPad((1, 1)), [(3, 2)], "padding must be one integer or 1 of them"),
        (L.Upsample((2, 2)), [(3, 2)], "scale must be one integer or 1 of them"),
        (L.AddCoords(), [(3,)], "1, 2 or 3 spatial axes"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_by_symbols_and_arrays(
    layer: Layer, shapes: list[tuple[int, ...]], message: str
) -> None:
    from fastconv.model import Input

    with pytest.raises(ValueError, match=message):
        layer(*[Input(shape) if shape else _symbol(shape) for shape in shapes])
    with pytest.raises(ValueError, match=message):
        layer(*[np.ones((2, *shape), np.float32) for shape in shapes])


def _symbol(shape: tuple[int, ...]) -> Any:
    from fastconv.layers.symbol import Symbol

    return Symbol(shape)


@pytest.mark.parametrize(
    "layer", [L.Conv2d(2, 3), L.ConvTranspose2d(2, 3), L.DepthwiseConv2d(3), L.SeparableConv2d(2, 3)]
)
def test_other_channels_than_it_was_built_for(layer: Layer) -> None:
    layer(IMAGES)
    with pytest.raises(ValueError, match=f"in layer {type(layer).__name__}: .*channels"):
        layer(IMAGES[..., :3])


@pytest.mark.parametrize("layer", [L.BatchNorm(), L.LayerNorm(), L.GroupNorm(2), L.PReLU()])
def test_other_channels_than_the_parameters_have(layer: Layer) -> None:
    layer(IMAGES)
    with pytest.raises(ValueError, match=r"x must have shape \(N, ..., 4\), the channels this layer was built for"):
        layer(IMAGES[..., :2])


def test_a_locally_connected_layer_keeps_to_its_size() -> None:
    layer = L.LocallyConnected2d(2, 3)
    layer(IMAGES)
    with pytest.raises(ValueError, match="in layer LocallyConnected2d: weight must have"):
        layer(IMAGES[:, :5])


@pytest.mark.parametrize("layer", [L.Add(), L.Multiply(), L.Concat()])
def test_merging_wants_one_batch_one_dtype_and_at_least_one_input(layer: Layer) -> None:
    kind = type(layer).__name__
    with pytest.raises(
        ValueError, match=rf"in layer {kind}: the inputs must have one batch size, got shapes \(3, 6, 5, 4\), \(1,"
    ):
        layer(IMAGES, IMAGES[:1])
    with pytest.raises(TypeError, match="the inputs must have one dtype, got float32 and float64"):
        layer(IMAGES, IMAGES.astype(np.float64))
    with pytest.raises(ValueError, match="there must be at least one input"):
        layer()


def test_layers_compute_what_the_reference_says() -> None:
    conv = L.Conv2d(6, 3, stride=2, padding=1, groups=2)
    y = conv(IMAGES)
    expected = reference.conv(IMAGES, conv.params["weight"], conv.params["bias"], stride=2, padding=1, groups=2)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    separable = L.SeparableConv2d(6, 3, multiplier=2, padding="same")
    y = separable(IMAGES)
    middle = reference.conv(IMAGES, separable.params["depthwise"], padding="same", groups=4)
    np.testing.assert_allclose(
        y, reference.conv(middle, separable.params["pointwise"], separable.params["bias"]), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(L.GlobalAvgPool()(IMAGES), IMAGES.mean(axis=(1, 2)), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(L.GlobalMaxPool()(IMAGES), IMAGES.max(axis=(1, 2)))
    np.testing.assert_array_equal(L.ZeroPad(((1, 0), (0, 2)))(IMAGES), np.pad(IMAGES, ((0, 0), (1, 0), (0, 2), (0, 0))))


def test_dropout_keeps_the_mean_and_drops_the_rate() -> None:
    x = np.ones((1000, 100), np.float32)
    layer = L.Dropout(0.3)
    y, backward = layer.forward(Context(True, np.random.default_rng(0)), x)
    assert abs((y == 0).mean() - 0.3) < 0.01
    assert abs(y.mean() - 1) < 0.01
    np.testing.assert_array_equal(backward(x)[0], y)
    assert layer(x) is x
    assert L.Dropout(0.0).forward(Context(True), x)[0] is x


def test_dropout_draws_the_same_from_the_same_seed_in_both_dtypes() -> None:
    masks = [
        L.Dropout().forward(Context(True, np.random.default_rng(5)), np.ones((4, 9), dtype))[0]
        for dtype in (np.float32, np.float64)
    ]
    np.testing.assert_array_equal(*masks)


def test_dropout_in_training_needs_a_generator() -> None:
    with pytest.raises(RuntimeError, match="has no generator"):
        L.Dropout().forward(Context(True), IMAGES)


def test_batch_norm_learns_running_statistics() -> None:
    layer = L.BatchNorm(momentum=0.8)
    layer.build((4,), np.random.default_rng(0))
    rng = np.random.default_rng(1)
    mean, var = np.zeros(4), np.ones(4)
    for _ in range(3):
        x = rng.normal(3, 2, (10, 4)).astype(np.float32)
        layer.forward(Context(True), x)
        mean = 0.8 * mean + 0.2 * x.mean(axis=0)
        var = 0.8 * var + 0.2 * x.var(axis=0, ddof=1)
    np.testing.assert_allclose(layer.buffers["mean"], mean, rtol=1e-5)
    np.testing.assert_allclose(layer.buffers["var"], var, rtol=1e-5)
    np.testing.assert_allclose(layer(x), (x - mean) / np.sqrt(var + 1e-5), rtol=1e-4, atol=1e-5)
    assert layer.buffers["mean"].dtype == np.float32


def test_batch_norm_learns_nothing_from_an_empty_batch() -> None:
    layer = L.BatchNorm()
    layer.build((4,), np.random.default_rng(0))
    y, backward = layer.forward(Context(True), np.zeros((0, 4), np.float32))
    _, gradients = backward(y)
    assert np.isfinite(layer.buffers["mean"]).all()
    assert all((gradient == 0).all() for gradient in gradients.values())


def test_batch_norm_of_one_value_keeps_a_finite_variance() -> None:
    layer = L.BatchNorm()
    layer.build((4,), np.random.default_rng(0))
    layer.forward(Context(True), np.ones((1, 4), np.float32))
    assert np.isfinite(layer.buffers["var"]).all()


def test_the_backward_pass_of_an_evaluation_does_not_see_later_training() -> None:
    layer = L.BatchNorm()
    layer(IMAGES)
    y, backward = layer.forward(Context(False), IMAGES)
    expected = backward(y)[0].copy()
    y, backward = layer.forward(Context(False), IMAGES)
    layer.forward(Context(True), IMAGES * 3 + 1)
    np.testing.assert_array_equal(backward(y)[0], expected)


def test_coordinates_run_from_minus_one_to_one() -> None:
    y = L.AddCoords(radius=True)(np.zeros((2, 3, 1, 1), np.float32))
    np.testing.assert_array_equal(y[0, :, 0, 1], [-1, 0, 1])
    np.testing.assert_array_equal(y[0, :, 0, 2], [0, 0, 0])
    np.testing.assert_array_equal(y[0, :, 0, 3], [1, 0, 1])


def test_a_gate_stretches_over_the_image() -> None:
    gate = RNG.standard_normal((3, 1, 1, 4)).astype(np.float32)
    np.testing.assert_array_equal(L.Multiply()(IMAGES, gate), IMAGES * gate)
    y, backward = L.Add().forward(Context(), IMAGES, gate)
    dx, dgate = backward(y)[0]
    assert (dx.shape, dgate.shape) == (IMAGES.shape, gate.shape)


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (L.Conv2d(8, 3, padding=1), (10, 10, 4), 10 * 10 * 8 * 9 * 4),
        (L.Conv2d(8, 3, padding=1, groups=2), (10, 10, 4), 10 * 10 * 8 * 9 * 2),
        (L.Conv1d(8, 3), (10, 4), 8 * 8 * 3 * 4),
        (L.ConvTranspose2d(8, 2, stride=2), (5, 5, 4), 25 * 4 * 4 * 8),
        (L.DepthwiseConv2d(3, 2, padding=1), (10, 10, 4), 10 * 10 * 8 * 9),
        (L.SeparableConv2d(6, 3, padding=1), (10, 10, 4), 10 * 10 * (4 * 9 + 4 * 6)),
        (L.LocallyConnected2d(6, 3), (10, 10, 4), 8 * 8 * 6 * 9 * 4),
        (L.Linear(6), (10, 4), 10 * 4 * 6),
        (L.ReLU(), (10, 4), 0),
    ],
)
def test_multiply_adds_by_hand(layer: Layer, shape: tuple[int, ...], expected: int) -> None:
    assert layer.multiply_adds(shape) == expected


@pytest.mark.parametrize("largest", [True, False])
def test_the_first_of_a_long_line_are_those_of_the_whole_order(largest):
    x = np.random.default_rng(0).integers(0, 50, (2, 300, 3)).astype(np.float32)
    x[0, 5:9, 1], x[1, :, 2] = (np.nan, np.inf, -np.inf, np.nan), 7
    values, places = L.TopK(20, 1, largest=largest)(x)
    whole = L.TopK(300, 1, largest=largest)(x)[1][:, :20]
    np.testing.assert_array_equal(places, whole)
    np.testing.assert_array_equal(values, np.take_along_axis(x, whole, 1))


@pytest.mark.parametrize("reduce", ["none", "add"])
def test_whole_lines_at_the_same_places_everywhere(reduce):
    rng = np.random.default_rng(0)
    x, updates, line = rng.random((2, 5, 3)), rng.random((2, 4, 3)), np.array([3, -5, 1, 3])
    indices = np.ascontiguousarray(np.broadcast_to(line[:, None], (2, 4, 3)))
    apart = indices.copy()
    apart[0, 0, 0] = -2  # the same place, and no line any more
    layer, context = L.ScatterElements(1, reduce=reduce), Context(inference=True)
    (y, back), (want, wanted) = (layer.forward(context, x, each, updates) for each in (indices, apart))
    np.testing.assert_allclose(y, want, rtol=1e-15)
    for got, expected in zip(back(y)[0], wanted(y)[0], strict=True):
        assert (got is None) == (expected is None)
        if got is not None:
            np.testing.assert_allclose(got, expected, rtol=1e-15)
    np.testing.assert_array_equal(L.GatherElements(1)(x, indices), L.GatherElements(1)(x, apart))
