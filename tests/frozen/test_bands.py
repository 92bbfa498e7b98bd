"""Convolutions that go over bands of lines with the pooling after them: which do, and that they give the same bits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from frozen_cases import assert_same_bits, inputs, trained, without
from hypothesis import given, settings
from hypothesis import strategies as st

import fastconv
from fastconv import layers as L
from fastconv.frozen import bands
from fastconv.frozen.bands import Band, cut
from fastconv.functional import adaptive_max_pool, max_pool
from fastconv.functional._pool_plan import adaptive_plan, pool_plan
from fastconv.model import Input, Model
from fastconv.sequential import Sequential
from fastconv.testing import strategies


def frozen_of(*body, shape=(224, 224, 3), dtype=np.float32):
    return fastconv.freeze(trained(Sequential(list(body), input_shape=shape).astype(dtype)))


def banded(frozen, batch=1):
    """Return the lines of each buffer, and into how many bands each convolution is cut, by the name of its layer."""
    plan = frozen._plan([(batch, *shape) for shape in frozen.input_shapes])
    return {plan.steps[at].step.layers[0]: (pair.lines, len(pair.bands)) for at, pair in plan.banded.items()}


@pytest.fixture
def every_line(monkeypatch):
    """Cut everything that can be cut, as small as can be."""
    monkeypatch.setattr(bands, "BAND", 1)
    monkeypatch.setattr(bands, "SMALL", 0)
    monkeypatch.setattr(bands, "WEIGHT", math.inf)
    monkeypatch.setattr(bands, "SHARE", 1)


def whole(frozen, monkeypatch):
    """Return the same model, which stores what its convolutions make."""
    return without("banded", frozen, monkeypatch, (1, 2, 3))


def assert_equal_bits(frozen, monkeypatch, batches=(1, 2)):
    assert_same_bits(frozen, whole(frozen, monkeypatch), batches)


def test_the_beginning_of_a_residual_network(isa, threads, monkeypatch):
    frozen = frozen_of(L.Conv2d(64, 7, stride=2, padding=3), L.ReLU(), L.MaxPool2d(3, 2, padding=1))
    assert banded(frozen) == {"conv2d_1": (59, 2)}  # whole tiles of 6 lines
    assert frozen.arena_bytes() == 59 * 112 * 64 * 4
    assert whole(frozen, monkeypatch).arena_bytes() == 112 * 112 * 64 * 4
    assert_equal_bits(frozen, monkeypatch)


def test_winograd_in_whole_tiles(isa, threads, monkeypatch):
    body = [L.Conv2d(32, 1), L.Conv2d(64, 3, padding=1), L.Tanh(), L.MaxPool2d(2)]
    frozen = frozen_of(*body, shape=(112, 112, 16))
    ((_, pair),) = frozen._plan([(1, 112, 112, 16)]).banded.items()
    assert "winograd" in str(frozen.explain(repeats=1))
    assert all(band.first % 4 == 0 for band in pair.bands) or all(band.first % 7 == 0 for band in pair.bands)
    assert_equal_bits(frozen, monkeypatch)


def test_images_one_by_one(isa, monkeypatch):
    frozen = frozen_of(L.Conv2d(32, 3), L.AvgPool2d(2), shape=(114, 114, 3))
    assert banded(frozen) == {}
    assert banded(frozen, batch=3) == {"conv2d_1": (112, 1)}
    assert "pooled image by image" in str(frozen.explain(batch=3, repeats=1))
    assert_equal_bits(frozen, monkeypatch, (1, 3))


@pytest.mark.parametrize(
    "body",
    [
        [L.Conv2d(64, 3), L.GlobalMaxPool()],
        [L.Conv2d(64, 3), L.AdaptiveAvgPool2d(1)],  # all lines for one
        [L.DepthwiseConv2d(3, 30), L.DepthwiseConv2d(3), L.MaxPool2d(2)],
        [L.Conv2d(64, 3), L.Softmax(), L.MaxPool2d(2)],
        [L.Conv2d(8, 3), L.MaxPool2d(2)],  # small
    ],
)
def test_others_are_whole(body):
    assert banded(frozen_of(*body)) == {}


def test_large_weights_are_read_once():
    assert banded(frozen_of(L.Conv2d(256, 3, padding=1), L.MaxPool2d(2), shape=(56, 56, 256))) == {}


def test_what_others_read_is_stored():
    x = Input((224, 224, 3))
    y = L.Conv2d(64, 3)(x)
    assert banded(fastconv.freeze(trained(Model(x, [L.MaxPool2d(2)(y), y])))) == {}
    assert banded(fastconv.freeze(trained(Model(x, [L.MaxPool2d(2)(y), L.MaxPool2d(3)(y)])))) == {}


def test_the_table_says_it():
    frozen = frozen_of(L.Conv2d(64, 3), L.ReLU(), L.MaxPool2d(2))
    (conv, pool) = frozen.explain(repeats=1).steps
    assert conv.algorithm == "product, relu, pooled in 7 bands"
    assert pool.algorithm == "max pool" and pool.seconds > 0


@st.composite
def pairs(draw):
    """Draw a convolution and a pooling of what it makes, with much that may be between them, and the shape of the image."""
    kernel, stride, dilation = draw(st.integers(1, 5)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
    channels, outputs = draw(st.sampled_from([1, 4, 8, 16, 20])), draw(st.sampled_from([1, 2, 6, 8, 16, 24, 40]))
    height = draw(st.integers(12, 40))
    padding = draw(st.sampled_from(["same", 0, ((0, 2), (1, 1))])) if stride == 1 else draw(st.integers(0, 2))
    body = [L.Conv2d(outputs, kernel, stride=stride, dilation=dilation if stride == 1 else 1, padding=padding)]
    body += draw(st.sampled_from([[], [L.ReLU()], [L.BatchNorm(), L.SiLU()], [L.PReLU()]]))
    size, step = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    ceil, around = draw(st.booleans()), draw(st.integers(0, size - 1))
    kind = draw(st.sampled_from(["max", "mean", "counted", "adaptive"]))
    if kind == "max":
        body.append(L.MaxPool2d(size, step, padding=around, ceil_mode=ceil))
    elif kind == "adaptive":
        body.append(L.AdaptiveAvgPool2d((draw(st.integers(1, 5)), 2)))
    else:
        body.append(L.AvgPool2d(size, step, padding=around, ceil_mode=ceil, count_include_pad=kind == "counted"))
    return body, (height, draw(st.integers(12, 20)), channels)


@pytest.mark.usefixtures("every_line")
def test_bands_give_the_bits_of_the_whole(isa, threads, monkeypatch):
    @settings(max_examples=100)  # few outputs, which other kernels may take for few lines, are seldom drawn
    @given(pairs(), st.sampled_from([np.float32, np.float64]), st.integers(1, 3))
    def give(pair, dtype, batch):
        body, shape = pair
        frozen = frozen_of(*body, shape=shape, dtype=dtype)
        assert_equal_bits(frozen, monkeypatch, (1,))
        x = inputs(frozen, batch)[0]  # bands are of one image, so that the algorithm is that of one
        alone = [frozen(x[at : at + 1]) for at in range(batch)]
        assert frozen(x).tobytes() == np.concatenate(alone).tobytes()

    give()


@pytest.mark.usefixtures("every_line")
def test_a_shortcut_is_added_to_its_lines(isa, threads, monkeypatch):
    x = Input((30, 20, 16))
    y = L.ReLU()(L.Add()(x, L.Conv2d(16, 3, padding=1)(x)))
    frozen = fastconv.freeze(trained(Model(x, L.MaxPool2d(3, 2)(y))))
    assert len(banded(frozen)) == 1
    assert_equal_bits(frozen, monkeypatch)


@pytest.mark.usefixtures("every_line")
def test_bands_end_in_a_concatenation(isa, threads, monkeypatch):
    x = Input((30, 20, 8))
    y = L.MaxPool2d(2)(L.Conv2d(20, 3, padding=1)(x))
    z = L.AvgPool2d(2)(L.ReLU()(L.Conv2d(24, 3, padding=1)(x)))
    frozen = fastconv.freeze(trained(Model(x, L.Conv2d(4, 1)(L.Concat()(y, z)))))
    assert len(banded(frozen)) == 2
    assert_equal_bits(frozen, monkeypatch)


@pytest.mark.usefixtures("every_line")
def test_random_models_in_bands_give_the_bits_of_the_whole(monkeypatch):
    @given(strategies.models(depth=8), st.integers(1, 3))
    def give(model, batch):
        assert_equal_bits(fastconv.freeze(trained(model)), monkeypatch, (batch,))

    give()


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 50), st.data())
def test_a_cut_has_every_line_once_and_all_that_its_windows_need(lines, unit, count, data):
    x = np.random.default_rng(0).standard_normal((1, lines, 1, 1)).astype(np.float32)
    if data.draw(st.booleans()):
        size = data.draw(st.integers(1, 9))
        plan, want = adaptive_plan(x.shape, (size, 1)), adaptive_max_pool(x, (size, 1))
    else:
        kernel = data.draw(st.integers(1, lines))
        how = {
            "stride": (data.draw(st.integers(1, 4)), 1),
            "padding": ((data.draw(st.integers(0, kernel - 1)), data.draw(st.integers(0, kernel - 1))), (0, 0)),
            "ceil_mode": data.draw(st.booleans()),
        }
        plan = pool_plan(x.shape, (kernel, 1), how["stride"], how["padding"], 1, how["ceil_mode"])
        want = max_pool(x, (kernel, 1), **how)
    found = cut(plan, unit, count)
    assert [band.first for band in found] == [0, *(band.end for band in found[:-1])]
    assert [band.pooled_first for band in found] == [0, *(band.pooled_end for band in found[:-1])]
    assert (found[-1].end, found[-1].pooled_end) == (lines, want.shape[1])
    assert len(found) <= count and all(band.end % unit == 0 for band in found[:-1])
    for band in found:
        assert isinstance(band, Band) and 0 <= band.oldest <= band.first < band.end
        of_band = plan.of_lines(band.pooled_first, band.pooled_end, band.oldest, band.end).lines.windows()
        some = x[0, band.oldest : band.end, 0, 0]
        for i, (first, taps) in enumerate(zip(of_band.first, of_band.taps, strict=True)):
            assert some[first : first + taps].max() == want[0, band.pooled_first + i, 0, 0]
