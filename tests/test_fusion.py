"""Steps that become one: which do, and the same bits as one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastconv import networks
from fastconv.fusion import Fused, NormReLUPool
from fastconv.layers import Add, BatchNorm, Context, Conv2d, GlobalAvgPool, Layer, Linear, MaxPool2d, ReLU
from fastconv.model import Input, Model


class OneByOne(BatchNorm):
    """A subclass, which no graph fuses."""


def fused_layers(model: Model) -> list[Fused]:
    return [step.runs for step in model.graph.program.steps if isinstance(step.runs, Fused)]


def chain(norm: type[BatchNorm]) -> Model:
    x = Input((6, 6, 3))
    return Model(x, Linear(2)(ReLU()(norm()(Conv2d(5, 3)(x)))))


def residual(norm: type[BatchNorm], *, first: bool = True) -> Model:
    x = Input((6, 6, 3))
    a = Conv2d(5, 3, padding=1)(x)
    b = norm()(Conv2d(5, 3, padding=1)(a))
    y = ReLU()(Add()(b, a) if first else Add()(a, b))
    return Model(x, Add()(y, a))  # a is read three times, once before and once after


def two_norms(norm: type[BatchNorm]) -> Model:
    x = Input((6, 6, 3))
    return Model(x, ReLU()(Add()(norm()(Conv2d(4, 1)(x)), norm()(Conv2d(4, 1)(x)))))


def stretched(norm: type[BatchNorm]) -> Model:
    x = Input((6, 6, 3))
    gate = Linear(4)(GlobalAvgPool(keepdims=True)(x))
    return Model(x, ReLU()(Add()(norm()(Conv2d(4, 1)(x)), gate)))


def read_again_later(norm: type[BatchNorm]) -> Model:
    """What the normalization reads is read once more between it and the sum."""
    x = Input((6, 6, 3))
    a = Conv2d(4, 1)(x)
    b = norm()(a)
    return Model(x, ReLU()(Add()(b, Conv2d(4, 3, padding=1)(a))))


def pooled(norm: type[BatchNorm], channels: int = 20) -> Model:
    x = Input((6, 6, 3))
    return Model(x, Linear(2)(MaxPool2d(3, 2, padding=1)(ReLU()(norm()(Conv2d(channels, 3)(x))))))


def pooled_and_read(norm: type[BatchNorm]) -> Model:
    """The pooling is not the only one to read what comes out of the ReLU; the other is of a sum."""
    x = Input((6, 6, 3))
    y = ReLU()(norm()(Conv2d(20, 3, padding=1)(x)))
    z = ReLU()(Add()(norm()(Conv2d(20, 1)(x)), y))
    return Model(x, [MaxPool2d(2)(y), MaxPool2d(2)(z)])


def without(norm: type[BatchNorm]) -> Model:
    """Nothing to fuse: read twice, an output, a sum of three, a sum of itself, used twice."""
    x = Input((6, 6, 3))
    a = norm()(x)
    b = norm()(ReLU()(a))
    c = norm()(Add()(a, b))
    d = ReLU()(Add()(norm()(x), norm()(c), x))
    e = norm()(d)
    shared = norm()
    return Model(x, [b, ReLU()(b), ReLU()(Add()(e, e)), ReLU()(shared(x)), ReLU()(shared(d))])


MODELS = {
    "chain": (chain, 1),
    "residual": (residual, 1),
    "residual, the norm second": (lambda norm: residual(norm, first=False), 1),
    "two norms": (two_norms, 1),
    "stretched": (stretched, 1),
    "read again later": (read_again_later, 1),
    "pooled": (pooled, 1),
    "pooled, of few channels": (lambda norm: pooled(norm, 3), 1),
    "pooled and read": (pooled_and_read, 2),
    "without": (without, 0),
}


def results(model: Model, training: bool) -> list[Any]:
    model.build(rng=np.random.default_rng(0))
    rng = np.random.default_rng(1)
    for buffer in model.buffers.values():
        buffer += rng.random(buffer.shape, np.float32)
    y, backward = model.forward(Context(training), rng.standard_normal((3, 6, 6, 3)).astype(np.float32))
    ys = y if isinstance(y, tuple) else (y,)
    dys = tuple(rng.standard_normal(y.shape).astype(np.float32) for y in ys)
    dx, gradients = backward(dys if isinstance(y, tuple) else dys[0])
    return [*ys, dx, *gradients.values(), *model.buffers.values()]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_the_same_bits_as_one_by_one(name: str, training: bool) -> None:
    build, count = MODELS[name]
    fused, plain = build(BatchNorm), build(OneByOne)
    assert (len(fused_layers(fused)), len(fused_layers(plain))) == (count, 0)
    rounded = name == "pooled"  # its gradients are sums over the maxima alone
    for got, want in zip(results(fused, training), results(plain, training), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5 * rounded, atol=1e-6 * rounded)


def test_the_built_in_networks() -> None:
    assert len(fused_layers(networks.create("resnet20", (32, 32, 3), 10))) == 19
    fused = fused_layers(networks.create("vgg-small", (32, 32, 3), 10))
    assert [isinstance(layer, NormReLUPool) for layer in fused] == [False, True] * 3


def test_the_layers_stay_what_they_are() -> None:
    model = residual(BatchNorm)
    assert [type(layer) for layer in model.layers] == [Conv2d, Conv2d, BatchNorm, Add, ReLU, Add]
    assert [type(layer) for layer in Model.from_config(model.config).layers] == [type(layer) for layer in model.layers]
    assert "batchnorm_1/scale" in model.params


def test_errors_name_the_normalization() -> None:
    class Broken(Layer):
        def output_shape(self, shape: Any) -> Any:
            return shape

        def forward(self, ctx: Context, x: np.ndarray) -> Any:
            return x[..., :2], lambda dy: (dy, {})

    x = Input((6, 6, 3))
    model = Model(x, ReLU()(BatchNorm().named("here")(Broken()(x))))
    with pytest.raises(ValueError, match=r"in layer 'here' \(BatchNorm\): "):
        model(np.zeros((1, 6, 6, 3), np.float32))
