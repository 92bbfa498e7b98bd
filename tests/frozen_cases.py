"""What several tests of frozen models share: models with statistics as after training, and the comparison with the model."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv.frozen import FrozenModel, plan
from fastconv.model import Model

#: The built-in networks for small images, and some of each other family: those of VGG are hundreds of MB of the same layers.
SMALL = ("cnn-small", "lenet", "vgg-small", "resnet20", "mobilenet-small")
PUBLISHED = {
    "resnet18": 33,
    "resnet50": 33,
    "mobilenet_v2": 33,
    "mobilenet_v3_small": 33,
    "efficientnet_b0": 33,
    "densenet121": 32,
    "squeezenet1_1": 33,
    "unet": 32,
}

#: The largest difference over the largest output.
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}


def trained(model: Model, seed: int = 0) -> Model:
    """Build `model` with parameters and running statistics that are none of those a fresh model has."""
    rng = np.random.default_rng(seed)
    model.build(rng=rng)
    for name, array in (*model.params.items(), *model.buffers.items()):
        if name.endswith("/var"):
            array[...] = rng.uniform(0.5, 2, array.shape)
        elif name.endswith("/scale"):
            array[...] = rng.uniform(0.5, 1.5, array.shape) * rng.choice([-1, 1], array.shape)
        elif name.endswith(("/bias", "/mean", "/slope")):
            array[...] = rng.normal(0, 0.5, array.shape)
    return model


def inputs(model: Any, batch: int = 2, seed: int = 0) -> list[np.ndarray]:
    """Return random arrays for the inputs of a model, frozen or not."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((batch, *shape)).astype(model.dtype) for shape in model.input_shapes]


def listed(y: Any) -> list[np.ndarray]:
    """Return the outputs as a list."""
    return list(y) if isinstance(y, tuple) else [y]


def assert_equal_models(frozen: FrozenModel, model: Model, *, batch: int = 2, seed: int = 0) -> None:
    """Assert that both compute the same from random inputs, and that neither changes what it is given."""
    xs = inputs(model, batch, seed)
    before = [x.copy() for x in xs]
    assert_equal_outputs(frozen(*xs), model(*xs))
    assert all((x == copy).all() for x, copy in zip(xs, before, strict=True))


def assert_equal_outputs(got: Any, want: Any) -> None:
    """Assert that outputs are equal but for rounding, of the same shapes and dtypes, and arrays of their own."""
    assert isinstance(got, tuple) == isinstance(want, tuple)
    assert len(listed(got)) == len(listed(want))
    for y, z in zip(listed(got), listed(want), strict=True):
        assert (y.shape, y.dtype) == (z.shape, z.dtype)
        assert y.flags.writeable
        if z.size:
            np.testing.assert_allclose(y, z, rtol=0, atol=TOLERANCE.get(str(z.dtype), 0) * max(abs(z).max(), 1e-3))


def without(choice, frozen, monkeypatch, batches):
    """Return the same model, planned without what the planner's function `choice` finds: each step stores what it makes."""
    with monkeypatch.context() as patch:
        patch.setattr(plan, choice, lambda *arguments: {})
        model = FrozenModel(frozen.program)
        for batch in batches:
            model._plan([(batch, *shape) for shape in model.input_shapes])
    return model


def assert_same_bits(frozen, other, batches):
    """Both give the same bits, at the first call and, with packed weights, at the second."""
    for batch in batches:
        xs = inputs(frozen, batch)
        for _ in range(2):
            for y, z in zip(listed(frozen(*xs)), listed(other(*xs)), strict=True):
                assert y.tobytes() == z.tobytes()
