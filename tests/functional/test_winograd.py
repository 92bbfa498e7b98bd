"""Winograd's algorithm: as exact as it says for every size, the same bits for any number of threads, chosen where it pays."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import fastconv
from fastconv.functional import (
    _conv_algorithm,
    _conv_plan,
    conv,
    conv_backward,
    conv_transpose,
    conv_transpose_backward,
)
from fastconv.functional._known import forget_calls

#: Of the largest output, with six points along an axis and with nine. The points keep it far below the 1e-4 that the usual
#: 0, +-1, +-2 need.
TOLERANCE = {np.dtype(np.float32): (1e-5, 5e-5), np.dtype(np.float64): (2e-14, 1e-13)}


def close(got: np.ndarray, want: np.ndarray, *, nine: bool = False) -> None:
    assert got.shape == want.shape
    assert np.abs(got - want).max(initial=0) <= TOLERANCE[got.dtype][nine] * np.abs(want).max(initial=1e-30)


@contextmanager
def tiles_of(points: int) -> Iterator[None]:
    """Compute by tiles of so many points along an axis, forward and to the input, whatever costs less."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_conv_algorithm, "MOST_CHANNELS_NINE", _conv_algorithm.MOST_CHANNELS)
        for taps, tiles in _conv_algorithm.TILES.items():
            chosen = tuple(tile for tile in tiles if max(taps) + max(tile) - 1 == points)
            patch.setitem(_conv_algorithm.TILES, taps, chosen or tiles)
        _choose_again()
        yield
    _choose_again()


def _choose_again() -> None:
    for each in (
        _conv_plan.conv_plan,
        _conv_plan.conv_transpose_plan,
        _conv_plan._adjoint,
        _conv_plan._weight_gradient,
    ):
        each.cache_clear()
    forget_calls()


def problem(seed: int, x_shape: tuple[int, ...], weight_shape: tuple[int, ...], dtype: Any) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in (x_shape, weight_shape, weight_shape[-1:])]


def assert_equals_the_product(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    arguments: dict[str, Any],
    threads: int,
    seed: int,
    *,
    nine: bool,
) -> None:
    """Check a convolution and its gradients against the product in float64, and bit by bit for another number of threads."""
    wide = [a.astype(np.float64) for a in (x, weight, bias)]
    want = conv(*wide, **arguments, algorithm="product")
    assume(want.size >= 30)  # of a few all may be next to nothing
    y = conv(x, weight, bias, **arguments, algorithm="winograd")
    close(y, want, nine=nine)
    dy = np.random.default_rng(seed + 1).standard_normal(y.shape).astype(x.dtype)
    gradients = conv_backward(dy, x, weight, **arguments, algorithm="winograd")
    exact = conv_backward(dy.astype(np.float64), *wide[:2], **arguments, algorithm="product")
    for got, right in zip(gradients, exact, strict=True):
        assert got is not None
        assert right is not None
        close(got, right, nine=nine)
    with fastconv.num_threads(threads):
        np.testing.assert_array_equal(conv(x, weight, bias, **arguments, algorithm="winograd"), y)
        again = conv_backward(dy, x, weight, **arguments, algorithm="winograd")
        for one, other in zip(again, gradients, strict=True):
            np.testing.assert_array_equal(one, other)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**16),
    dtype=st.sampled_from([np.float32, np.float64]),
    taps=st.sampled_from(
        [
            (2, 2),
            (3, 3),
            (4, 4),
            (5, 5),
            (7, 7),
            (2,),
            (3,),
            (5,),
            (7,),
            (1, 3),
            (5, 1),
            (7, 1),
            (2, 3, 3),
            (3, 1, 5),
            (2, 7, 1),
        ]
    ),
    size=st.integers(1, 11),
    batch=st.integers(1, 3),
    channels=st.tuples(st.integers(16, 50), st.integers(1, 70)),
    before=st.integers(0, 3),
    after=st.integers(0, 3),
    dilation=st.sampled_from([1, 1, 2, 5]),
    threads=st.integers(2, 4),
    points=st.sampled_from([6, 9]),
)
def test_equals_the_product_in_float64(
    isa: str,
    seed: int,
    dtype: Any,
    taps: tuple[int, ...],
    size: int,
    batch: int,
    channels: tuple[int, int],
    before: int,
    after: int,
    dilation: int,
    threads: int,
    points: int,
) -> None:
    sizes = [max(size + i, (t - 1) * dilation + 1 - before - after, 1) for i, t in enumerate(taps)]
    geometry = {"padding": ((before, after),) * len(taps), "dilation": dilation}
    x, weight, bias = problem(seed, (batch, *sizes, channels[0]), (*taps, *channels), dtype)
    with tiles_of(points):
        assert_equals_the_product(x, weight, bias, geometry, threads, seed, nine=points == 9 or 7 in taps or 4 in taps)


@pytest.mark.parametrize(
    ("size", "channels", "outputs", "groups"),
    [
        (4, 300, 33, 1),
        (9, 600, 17, 1),
        (40, 32, 64, 2),
        (40, 48, 96, 3),
        (7, 160, 80, 5),
        (30, 64, 100, 1),
        (7, 500, 330, 1),
        (12, 289, 290, 1),
        (3, 1297, 65, 1),
        (30, 300, 5, 1),
        (15, 128, 15, 1),
    ],
    ids=str,
)
@pytest.mark.parametrize("points", [6, 9])
def test_channels_in_parts_and_columns_in_passes(
    size: int, channels: int, outputs: int, groups: int, points: int
) -> None:
    """More channels than a part holds, more tiles than a block, more weights than are shared, groups; few tiles and many."""
    x, weight, bias = problem(0, (2, size, size, channels), (3, 3, channels // groups, outputs), np.float32)
    wide = [a.astype(np.float64) for a in (x, weight, bias)]
    want = conv(*wide, padding=1, groups=groups, algorithm="product")
    with tiles_of(points):
        one = conv(x, weight, bias, padding=1, groups=groups, algorithm="winograd")
        close(one, want, nine=points == 9)
        dy = np.random.default_rng(1).standard_normal(one.shape).astype(np.float32)
        arguments = {"padding": 1, "groups": groups, "wrt": "weight"}
        _, dweight, _ = conv_backward(dy, x, weight, **arguments, algorithm="winograd")
        _, want, _ = conv_backward(dy.astype(np.float64), *wide[:2], **arguments, algorithm="product")
        close(dweight, want)
        for threads in (1, 2, 3):
            with fastconv.num_threads(threads):
                np.testing.assert_array_equal(
                    conv(x, weight, bias, padding=1, groups=groups, algorithm="winograd"), one
                )
                _, again, _ = conv_backward(dy, x, weight, **arguments, algorithm="winograd")
                np.testing.assert_array_equal(again, dweight)


def test_dilated_layers_have_tiles_of_their_own_images() -> None:
    """33 x 33 pixels with a dilation of 2 are four images of 16 or 17 pixels; of 12, many that are too small."""
    shapes = (1, 33, 33, 128), (3, 3, 128, 128)
    assert fastconv.explain_conv(*shapes, padding=2, dilation=2).forward.name == "winograd"
    assert fastconv.explain_conv(*shapes, padding=18, dilation=18).forward.name == "product"
    x, weight, bias = problem(0, *shapes, np.float32)
    y = conv(x, weight, bias, padding=2, dilation=2)
    for i in range(2):
        for j in range(2):
            close(
                y[:, i::2, j::2], conv(x[:, i::2, j::2].copy(), weight, bias, padding=1, algorithm="product"), nine=True
            )


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**16),
    dtype=st.sampled_from([np.float32, np.float64]),
    taps=st.sampled_from([(7, 7), (11, 11), (5, 6), (10, 9), (13, 13), (9, 10), (1, 5), (11,)]),
    size=st.integers(1, 30),
    batch=st.integers(1, 3),
    channels=st.tuples(st.integers(1, 8), st.integers(1, 40)),
    padding=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    threads=st.integers(2, 4),
)
def test_folded_images_equal_the_product_in_float64(
    isa: str,
    seed: int,
    dtype: Any,
    taps: tuple[int, ...],
    size: int,
    batch: int,
    channels: tuple[int, int],
    padding: tuple[int, int],
    threads: int,
) -> None:
    """A stride that leaves 3, 4, 5 or 7 taps; what it does not reach is nobody's, and what is outside is zero."""
    stride = tuple(1 if count == 1 else 4 if count == 11 else 2 for count in taps)
    sizes = [max(size + i, t - sum(padding), 1) for i, t in enumerate(taps)]
    arguments = {"stride": stride, "padding": (padding,) * len(taps)}
    x, weight, bias = problem(seed, (batch, *sizes, channels[0]), (*taps, *channels), dtype)
    assert_equals_the_product(x, weight, bias, arguments, threads, seed, nine=True)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**16),
    dtype=st.sampled_from([np.float32, np.float64]),
    taps=st.sampled_from(
        [
            (3, 3),
            (4, 4),
            (5, 5),
            (6, 6),
            (7, 7),
            (9, 9),
            (10, 10),
            (13, 13),
            (3,),
            (4,),
            (9,),
            (1, 5),
            (3, 1),
            (2, 5, 5),
            (3, 3, 1),
        ]
    ),
    stride=st.sampled_from([2, 2, 2, 3]),
    size=st.integers(1, 20),
    batch=st.integers(1, 3),
    channels=st.tuples(st.integers(16, 50), st.integers(16, 70)),
    groups=st.sampled_from([1, 1, 2]),
    padding=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    threads=st.integers(2, 4),
)
def test_strided_images_equal_the_product_in_float64(
    isa: str,
    seed: int,
    dtype: Any,
    taps: tuple[int, ...],
    stride: int,
    size: int,
    batch: int,
    channels: tuple[int, int],
    groups: int,
    padding: tuple[int, int],
    threads: int,
) -> None:
    """Enough channels that each of the images of every second or third pixel is transformed by itself, and each phase back."""
    sizes = [max(size + i, t - sum(padding), 1) for i, t in enumerate(taps)]
    arguments = {"stride": stride, "padding": (padding,) * len(taps), "groups": groups}
    weight_shape = (*taps, channels[0], groups * channels[1])
    x, weight, bias = problem(seed, (batch, *sizes, groups * channels[0]), weight_shape, dtype)
    few = tuple(-(-t // stride) for t in (1, 1, *taps)[-2:])
    assume(few in _conv_algorithm.TILES)
    assert_equals_the_product(x, weight, bias, arguments, threads, seed, nine=True)


@pytest.mark.parametrize("taps", [3, 5, 7, 9, 13])
@pytest.mark.parametrize("padding", [2, 3])
def test_an_image_of_one_line_lacks_phases(taps: int, padding: int) -> None:
    """Tiles are those of the phase with most taps, whether or not an image is so small that it has none of that phase."""
    arguments = {"stride": 2, "padding": ((padding, taps), (taps, taps))}
    x, weight, bias = problem(0, (2, 1, 40, 16), (taps, taps, 16, 16), np.float32)
    y = conv(x, weight, bias, **arguments)
    wide = [a.astype(np.float64) for a in (y, x, weight)]
    exact = conv_backward(*wide, **arguments, algorithm="product")[0]
    got = conv_backward(y, x, weight, **arguments, algorithm="winograd")[0]
    assert got is not None
    assert exact is not None
    close(got, exact, nine=True)


@pytest.mark.parametrize(("size", "batch", "channels", "outputs"), [(28, 7, 144, 160), (20, 4, 272, 100)], ids=str)
def test_strided_images_of_many_channels(size: int, batch: int, channels: int, outputs: int) -> None:
    """More transformed weights than are shared: sums of all columns are kept from one part of the channels to the next."""
    x, weight, bias = problem(0, (batch, size, size, channels), (3, 3, channels, outputs), np.float32)
    arguments = {"stride": 2, "padding": 1}
    y = conv(x, weight, bias, **arguments, algorithm="winograd")
    close(y, conv(*(a.astype(np.float64) for a in (x, weight, bias)), **arguments, algorithm="product"))
    np.testing.assert_array_equal(conv(x[:1], weight, bias, **arguments, algorithm="winograd"), y[:1])
    with fastconv.num_threads(3):
        np.testing.assert_array_equal(conv(x, weight, bias, **arguments, algorithm="winograd"), y)


@pytest.mark.parametrize("shape", [(3, 300, 301, 3), (1, 610, 800, 2), (70, 40, 90, 1)], ids=str)
def test_images_are_folded_in_bands(shape: tuple[int, ...]) -> None:
    """A few images at a time, or some lines of a large one."""
    x, weight, bias = problem(0, shape, (7, 7, shape[-1], 5), np.float32)
    arguments = {"stride": 2, "padding": 3}
    want = conv(x, weight, bias, **arguments, algorithm="product")
    y = conv(x, weight, bias, **arguments, algorithm="winograd")
    close(y, want, nine=True)
    np.testing.assert_array_equal(conv(x[:1], weight, bias, **arguments, algorithm="winograd"), y[:1])
    dy = np.random.default_rng(1).standard_normal(y.shape).astype(np.float32)
    wide = dy.astype(np.float64), x.astype(np.float64), weight.astype(np.float64)
    _, want, _ = conv_backward(*wide, **arguments, wrt="weight", algorithm="product")
    _, dweight, _ = conv_backward(dy, x, weight, **arguments, wrt="weight", algorithm="winograd")
    close(dweight, want)
    with fastconv.num_threads(3):
        _, again, _ = conv_backward(dy, x, weight, **arguments, wrt="weight", algorithm="winograd")
        np.testing.assert_array_equal(again, dweight)


@pytest.mark.parametrize("taps", [3, 4, 5, 7])
@pytest.mark.parametrize("channels", [32, 128, 512])
def test_accuracy_of_nine_points(channels: int, taps: int) -> None:
    """Sums of any length are cut into short ones, or the rounding of long ones would be what the transforms multiply."""
    x, weight, bias = problem(channels, (2, 14, 14, channels), (taps, taps, channels, 32), np.float32)
    want = conv(*(a.astype(np.float64) for a in (x, weight, bias)), padding=taps // 2, algorithm="product")
    with tiles_of(9):
        got = conv(x, weight, bias, padding=taps // 2, algorithm="winograd")
    assert np.abs(got - want).max() <= 3e-5 * np.abs(want).max()


@pytest.mark.parametrize("outputs", [48, 11])
def test_transposed_convolution(outputs: int) -> None:
    x, weight, bias = problem(0, (1, 9, 9, 32), (3, 3, outputs, 32), np.float32)
    bias = np.linspace(-1, 1, outputs, dtype=np.float32)
    wide = [a.astype(np.float64) for a in (x, weight, bias)]
    close(conv_transpose(x, weight, bias, algorithm="winograd"), conv_transpose(*wide, algorithm="product"))


def test_exact_precision_computes_the_product_and_others_are_not_told() -> None:
    x, weight, _ = problem(0, (1, 28, 28, 64), (3, 3, 64, 64), np.float32)
    product, winograd = (conv(x, weight, padding=1, algorithm=name) for name in ("product", "winograd"))
    assert (product != winograd).any()
    np.testing.assert_array_equal(conv(x, weight, padding=1), winograd)
    with fastconv.precision("exact"):
        np.testing.assert_array_equal(conv(x, weight, padding=1), product)
        with fastconv.precision("fast"):
            np.testing.assert_array_equal(conv(x, weight, padding=1), winograd)
        with pytest.raises(ValueError, match="forbidden within fastconv"):
            conv(x, weight, padding=1, algorithm="winograd")
    np.testing.assert_array_equal(conv(x, weight, padding=1), winograd)


@pytest.mark.parametrize(
    ("weight_shape", "arguments", "message"),
    [
        ((3, 3, 32, 32), {"stride": 3}, "not 1 x 1, which is what a stride of 3 x 3 leaves"),
        (
            (5, 5, 8, 32),
            {"stride": 2, "groups": 4},
            "in groups and along three axes, of fewer than 16 channels a group, it is for stride 1, not 2 x 2",
        ),
        ((5, 5, 32, 32), {"stride": 2, "dilation": 2}, "with a stride it is for dilation 1, not 2 x 2"),
        ((3, 3, 8, 32), {"groups": 4}, "it is for at least 16 channels a group of the input, not 8"),
        (
            (6, 6, 32, 32),
            {},
            "it is for kernels of 2, 3, 4, 5 or 7 taps along both axes, or 2, 3, 5 or 7 along one of them, not 6 x 6",
        ),
        ((5, 3, 32, 32), {}, "not 5 x 3"),
    ],
)
def test_what_it_cannot_compute(weight_shape: tuple[int, ...], arguments: dict[str, int], message: str) -> None:
    x, weight, _ = problem(0, (1, 9, 9, 32), weight_shape, np.float32)
    with pytest.raises(ValueError, match=message):
        conv(x, weight, algorithm="winograd", **arguments)


@settings(max_examples=60)
@given(
    kernel=st.sampled_from([(3, 3), (4, 4), (5, 5), (7, 7), (1, 5), (7, 1)]),
    channels=st.sampled_from([16, 24, 64, 200]),
    size=st.sampled_from([7, 14, 30, 56]),
)
def test_whoever_takes_it_for_few_outputs_takes_it_for_more(kernel: tuple[int, int], channels: int, size: int) -> None:
    """Up to a vector of outputs it costs the same, and the product no less with each one."""
    chosen = [_explained((1, size, size, channels), (*kernel, channels, outputs)) for outputs in range(1, 17)]
    assert chosen == sorted(chosen)  # "product" before "winograd"


@pytest.mark.parametrize(("taps", "outputs"), [(3, 5), (5, 5), (7, 5)])
def test_few_outputs_of_large_images(taps: int, outputs: int) -> None:
    """Measured: 0.9, 0.66 and 0.7 of the product's time, which with one output it would take two to three times."""
    assert _explained((1, 56, 56, 128), (taps, taps, 128, outputs)) == "winograd"
    assert _explained((1, 56, 56, 128), (taps, taps, 128, 1)) == "product"


def _explained(x_shape: tuple[int, ...], weight_shape: tuple[int, ...]) -> str:
    return fastconv.explain_conv(x_shape, weight_shape, padding="same").forward.name


def test_few_channels_go_back_by_the_product() -> None:
    """Winograd's algorithm makes few channels of many; the other way is no error for who asks for the first one."""
    for channels, outputs, transposed in ((64, 12, False), (12, 64, True)):
        choice = fastconv.explain_conv((1, 28, 28, channels), (3, 3, channels, outputs), padding=1)
        assert choice.forward.name == ("product" if transposed else "winograd")
        assert choice.backward_input.name == ("winograd" if transposed else "product")
        x, weight, _ = problem(0, (1, 28, 28, 64), (3, 3, channels, outputs), np.float32)
        if transposed:
            y = conv_transpose(x, weight, padding=1, algorithm="winograd")
            np.testing.assert_array_equal(y, conv_transpose(x, weight, padding=1))
            want = conv(y, weight, padding=1, algorithm="product")
            np.testing.assert_array_equal(
                conv_transpose_backward(y, x, weight, padding=1, algorithm="winograd")[0], want
            )
        else:
            y = conv(x, weight, padding=1, algorithm="winograd")
            np.testing.assert_array_equal(y, conv(x, weight, padding=1))
            want = conv_transpose(y, weight, padding=1, algorithm="product")
            np.testing.assert_array_equal(conv_backward(y, x, weight, padding=1, algorithm="winograd")[0], want)


def test_names_that_are_no_algorithm_or_mode() -> None:
    x, weight, _ = problem(0, (1, 9, 9, 32), (3, 3, 32, 32), np.float32)
    with pytest.raises(
        ValueError, match="algorithm must be None or one of 'product', 'winograd', 'strassen', 'depthwise', got 'fft'"
    ):
        conv(x, weight, algorithm="fft")
    with pytest.raises(
        ValueError, match="algorithm 'depthwise' is for groups of one channel in and one out, got 1 group of 32"
    ):
        conv(x, weight, algorithm="depthwise")
    with (
        pytest.raises(ValueError, match="precision must be one of 'fast', 'exact', got 'high'"),
        fastconv.precision("high"),
    ):
        pass


def test_what_is_to_be_explained_are_shapes_of_images() -> None:
    with pytest.raises(ValueError, match=r"x_shape must be \(N, \*spatial, C\) with 1, 2 or 3 spatial axes, got \[\]"):
        fastconv.explain_conv([], (3, 3, 2, 4))
    with pytest.raises(TypeError, match="weight_shape must be a tuple of integers, got 3"):
        fastconv.explain_conv((1, 5, 5, 2), 3)


def test_explanation() -> None:
    choice = fastconv.explain_conv((16, 28, 28, 128), (3, 3, 128, 128), padding=1)
    assert [c.name for c in choice[4:]] == ["winograd"] * 3
    assert choice.forward.share > 2
    assert [c.tile for c in choice[4:]] == [(7, 7), (7, 7), (4, 4)]
    assert "takes" in choice.forward.why
    assert str(choice).splitlines()[1].startswith("  forward          winograd F(7 x 7)")
    with fastconv.precision("exact"):
        exact = fastconv.explain_conv((16, 28, 28, 128), (3, 3, 128, 128), padding=1)
    assert {c.name for c in exact[4:]} == {"product"}
    assert 'precision is "exact"' in exact.forward.why
    for size, channels, tile in ((16, 64, (4, 4)), (32, 16, (4, 4)), (32, 64, (7, 7)), (14, 32, (7, 7))):
        choice = fastconv.explain_conv((16, size, size, channels), (3, 3, channels, channels), padding=1)
        assert choice.forward.tile == tile
    few = fastconv.explain_conv((1, 4, 4, 64), (3, 3, 64, 64), padding=1).forward
    assert (few.name, few.tile) == ("product", (0, 0))
    assert "the transforms do not pay" in few.why
    strided = fastconv.explain_conv((16, 28, 28, 256), (3, 3, 256, 256), stride=2, padding=1)
    assert [(c.name, c.tile) for c in strided[4:]] == [("winograd", (5, 5)), ("winograd", (5, 5)), ("product", (0, 0))]
    assert "no tile for the gradient of such a weight" in strided.backward_weight.why
    first = fastconv.explain_conv((1, 224, 224, 3), (7, 7, 3, 64), stride=2, padding=3)
    assert [(c.name, c.tile) for c in first[4:]] == [("winograd", (6, 6)), ("product", (0, 0)), ("winograd", (3, 3))]
    assert "the transforms do not pay" in first.backward_input.why
    for size, name in ((7, "product"), (14, "winograd")):
        grouped = fastconv.explain_conv((1, size, size, 512), (3, 3, 16, 512), padding=1, groups=32)
        assert grouped.backward_weight.name == name
    assert fastconv.explain_conv((1, 8, 8, 64), (3, 3, 1, 64), groups=64).forward.name == "depthwise"
    with pytest.raises(ValueError, match="weight must have shape"):
        fastconv.explain_conv((1, 8, 8, 64), (3, 3, 32, 64))


def test_training_is_as_good_with_as_without() -> None:
    """The same network, data and seed: the two precisions end at nearly the same loss."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 12, 12, 16), dtype=np.float32)
    labels = (x.mean(axis=(1, 2)) @ rng.standard_normal((16, 4), dtype=np.float32)).argmax(axis=1)
    losses = {}
    for mode in ("fast", "exact"):
        model = fastconv.Sequential(
            [
                fastconv.layers.Conv2d(32, 3, padding=1),
                fastconv.layers.ReLU(),
                fastconv.layers.Conv2d(32, 3, padding=1),
                fastconv.layers.GlobalAvgPool(),
                fastconv.layers.Linear(4),
            ]
        )
        with fastconv.precision(mode):
            history = model.fit(x, labels, epochs=4, batch_size=16, seed=0, verbose=False)
        losses[mode] = history["loss"]
    assert losses["fast"] != losses["exact"]
    np.testing.assert_allclose(losses["fast"], losses["exact"], rtol=1e-4)
