"""Blocks of mobile networks in one call: which steps are one, and that they give the same bits as one after the other."""

from __future__ import annotations

import math

import numpy as np
import pytest
from frozen_cases import assert_same_bits, inputs, trained, without
from hypothesis import given
from hypothesis import strategies as st

import fastconv
from fastconv import layers as L
from fastconv.frozen import blocks, portions
from fastconv.model import Input, Model
from fastconv.sequential import Sequential


def frozen_of(*body, shape=(56, 56, 24), dtype=np.float32):
    return fastconv.freeze(trained(Sequential(list(body), input_shape=shape).astype(dtype)))


def inverted(channels=144, outputs=24, kernel=3, stride=1, between=()):
    depthwise = L.DepthwiseConv2d(kernel, stride=stride, padding=kernel // 2, bias=False)
    return [
        *(L.Conv2d(channels, 1, bias=False), L.BatchNorm(), L.ReLU6()),
        *(depthwise, L.BatchNorm(), L.ReLU6(), *between, L.Conv2d(outputs, 1)),
    ]


def found(frozen, batch=1):
    """Return what is done in one call: how many steps, and what it has of expansion and projection."""
    plan = frozen._plan([(batch, *shape) for shape in frozen.input_shapes])
    return [(b.last - b.first + 1, b.expansion is not None, b.projection is not None) for b in plan.blocks.values()]


@pytest.fixture
def every_block(monkeypatch):
    """Join whatever can be joined, small as it is."""
    for name, value in {"SMALL": 0, "WEIGHT": math.inf, "TWICE": math.inf}.items():
        monkeypatch.setattr(blocks, name, value)


def apart(frozen, monkeypatch):
    """Return the same model, which stores what each step makes."""
    return without("blocks", frozen, monkeypatch, (1, 2, 3, 8))


def assert_equal_bits(frozen, monkeypatch, batches=(1, 2, 8)):
    assert_same_bits(frozen, apart(frozen, monkeypatch), batches)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("stride", [1, 2])
def test_an_inverted_residual_is_one_step(isa, dtype, stride, monkeypatch):
    for threads in (1, 2):
        with fastconv.num_threads(threads):
            frozen = frozen_of(*inverted(stride=stride), dtype=dtype)
            assert found(frozen) == [(3, True, True)]
            assert_equal_bits(frozen, monkeypatch, (1, 3, 8))


def test_its_shortcut_is_added(isa, threads, monkeypatch):
    x = Input((56, 56, 24))
    y = x
    for layer in inverted():
        y = layer(y)
    frozen = fastconv.freeze(trained(Model(x, L.Conv2d(8, 1)(L.Add()(x, y)))))
    assert found(frozen) == [(3, True, True)]
    assert_equal_bits(frozen, monkeypatch)


def test_gates_come_in_between(isa, threads, monkeypatch):
    x = Input((57, 56, 24))
    y = L.SiLU()(L.DepthwiseConv2d(5, padding=2)(L.SiLU()(L.Conv2d(96, 1)(x))))
    gate = L.Sigmoid()(L.Conv2d(96, 1)(L.SiLU()(L.Conv2d(8, 1)(L.GlobalAvgPool(keepdims=True)(y)))))
    for z in (L.Multiply()(y, gate), L.Multiply()(gate, y)):
        frozen = fastconv.freeze(trained(Model(x, L.Add()(x, L.Conv2d(24, 1)(z)))))
        expanded, gated = [(2, True, False)] if threads < 4 else [], [(2, False, True)] if threads > 1 else []
        assert found(frozen) == [*expanded, *gated]
        assert_equal_bits(frozen, monkeypatch, (1, 3))
    assert threads == 1 or "scale > product, add" in str(frozen.explain(repeats=1))


def test_products_of_images_are_no_gates():
    x = Input((56, 56, 24))
    with fastconv.num_threads(2):
        for other in (x, L.Conv2d(1, 1)(x), L.GlobalMaxPool(keepdims=True)(L.Conv2d(1, 1)(x))):
            assert found(fastconv.freeze(trained(Model(x, L.Conv2d(24, 1)(L.Multiply()(x, other)))))) == []


def test_a_separable_convolution_has_no_expansion(isa, threads, monkeypatch):
    frozen = frozen_of(L.DepthwiseConv2d(3, padding=1), L.ReLU(), L.Conv2d(64, 1), L.ReLU(), shape=(57, 61, 32))
    assert found(frozen) == [(2, False, True)]
    assert_equal_bits(frozen, monkeypatch)


def test_the_first_layers_of_a_network(isa, threads, monkeypatch):
    body = [
        L.Conv2d(32, 3, stride=2, padding=1),
        L.ReLU6(),
        L.DepthwiseConv2d(3, padding=1),
        L.ReLU6(),
        L.Conv2d(16, 1),
    ]
    frozen = frozen_of(*body, shape=(113, 111, 3))
    assert found(frozen) == [(3, True, True)]
    assert_equal_bits(frozen, monkeypatch)


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        (inverted(between=[L.Softmax()], channels=16), (56, 56, 24)),  # nothing else goes in between
        (inverted(), (14, 14, 24)),  # near anyway
        (inverted(960, 160), (7, 7, 160)),  # more weights than image
        ([L.Conv2d(64, 3, padding=1), L.DepthwiseConv2d(3), L.Conv2d(8, 1)], (56, 56, 64)),  # Winograd, and few outputs
        ([L.Conv2d(8, 1), L.DepthwiseConv2d(3)], (112, 112, 8)),  # less than a vector
        ([L.Conv2d(64, 1), L.DepthwiseConv2d(3, 2), L.Conv2d(16, 1)], (56, 56, 64)),  # two outputs for each channel
        ([L.Conv2d(64, 1), L.Conv2d(64, 3, groups=16), L.Conv2d(16, 1, stride=2)], (56, 56, 64)),
        ([L.Conv1d(64, 1), L.Conv1d(64, 3, groups=64), L.Conv1d(16, 1)], (9000, 16)),
        ([L.Conv2d(512, 1), L.DepthwiseConv2d(3)], (4, 400, 1)),  # lines that no cache holds
    ],
)
def test_others_are_done_one_by_one(body, shape):
    assert found(frozen_of(*body, shape=shape)) == []


def test_what_others_read_is_stored():
    x = Input((56, 56, 24))
    y = L.Conv2d(96, 1)(x)
    z = L.DepthwiseConv2d(3, padding=1)(y)
    assert found(fastconv.freeze(trained(Model(x, [z, y])))) == []
    assert found(fastconv.freeze(trained(Model(x, [L.Conv2d(16, 1)(z), z])))) == [(2, True, False)]
    assert found(fastconv.freeze(trained(Model(x, L.Concat()(L.Conv2d(16, 1)(z), x))))) == [(2, True, False)]


def test_weights_that_are_not_finite_go_alone():
    model = trained(Sequential(inverted(), input_shape=(56, 56, 24)))
    next(array for name, array in model.params.items() if "depthwise" in name)[0, 0, 0, 3] = np.inf
    with np.errstate(all="ignore"):
        assert found(fastconv.freeze(model)) == []


def test_many_threads_would_compute_much_twice():
    body = inverted(kernel=5), (28, 28, 40)
    with fastconv.num_threads(2):
        assert found(frozen_of(*body[0], shape=body[1])) == [(3, True, True)]
    with fastconv.num_threads(4):
        frozen = frozen_of(*body[0], shape=body[1])
        assert found(frozen) == [(2, False, True)]
        assert found(frozen, batch=4) == [(3, True, True)]


def test_the_table_and_the_arena_have_one_step(monkeypatch):
    frozen = frozen_of(*inverted(), *inverted())
    one, two = frozen.explain(repeats=1).steps
    assert one.algorithm == "product, relu6 > depthwise, relu6 > product"
    assert one.layers == tuple(layer for step in frozen.program.steps[:3] for layer in step.layers)
    assert one.multiply_adds == 56 * 56 * 144 * (24 + 9 + 24)
    assert one.seconds > 0 and two.share < 1
    assert frozen.arena_bytes() == 56 * 56 * 24 * 4
    assert apart(frozen, monkeypatch).arena_bytes() == 56 * 56 * (144 + 144 + 24) * 4


@st.composite
def drawn(draw):
    """Draw a block with all that may be in it, and the shape of its image."""
    channels = draw(st.sampled_from([16, 17, 24, 40, 144]))
    ends = st.sampled_from([[], [L.ReLU], [L.BatchNorm, L.SiLU], [L.PReLU], [L.HardSwish]])
    activations = ends.map(lambda classes: [each() for each in classes])
    kernel, stride, dilation = draw(st.integers(1, 5)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
    body = []
    if draw(st.booleans()):
        size = draw(st.integers(1, 3))
        body += [L.Conv2d(channels, size, padding=draw(st.integers(0, 1)), stride=draw(st.integers(1, 2)))]
        body += draw(activations)
    padding = draw(st.integers(0, 2 * kernel))
    dilated = {"dilation": dilation} if stride == 1 else {"stride": stride}
    body += [L.DepthwiseConv2d(kernel, padding=padding, **dilated), *draw(activations)]
    if draw(st.booleans()):
        body += [L.Conv2d(draw(st.sampled_from([16, 20, 32, 33])), 1), *draw(activations)]
    inputs_ = draw(st.sampled_from([1, 3, 16, 20])) if isinstance(body[0], L.Conv2d) else channels
    return body, (draw(st.integers(19, 70)), draw(st.integers(19, 70)), inputs_)  # the widest kernels fit


@pytest.mark.usefixtures("every_block")
def test_blocks_give_the_bits_of_the_steps(isa, threads, monkeypatch):
    @given(drawn(), st.sampled_from([np.float32, np.float64]), st.integers(1, 3))
    def give(block, dtype, batch):
        body, shape = block
        frozen = frozen_of(*body, shape=shape, dtype=dtype)
        assert_equal_bits(frozen, monkeypatch, (1, batch))
        x = inputs(frozen, batch)[0]
        alone = [frozen(x[at : at + 1]) for at in range(batch)]
        assert frozen(x).tobytes() == np.concatenate(alone).tobytes()

    with fastconv.precision("exact"):  # the choice of Winograd's algorithm depends on the batch
        give()


@pytest.mark.usefixtures("every_block")
def test_parts_of_a_batch(threads, monkeypatch):
    monkeypatch.setattr(portions, "FAR", 0)
    monkeypatch.setattr(portions, "MUCH", math.inf)
    monkeypatch.setattr(portions, "SMALL", 0)
    monkeypatch.setattr(portions, "SERVED", 1 << 16)
    frozen = frozen_of(*inverted(48, 16), *inverted(48, 16, stride=2), shape=(20, 20, 16))
    plan = frozen._plan([(8, 20, 20, 16)])
    assert len(plan.blocks) == 2 and any(portion.images is not None for portion in plan.portions)
    assert_equal_bits(frozen, monkeypatch)
