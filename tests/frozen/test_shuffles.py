"""Channels that are shuffled between groups stay where they are, where that is the same."""

from __future__ import annotations

import numpy as np
import pytest
from frozen_cases import assert_equal_models, trained

import fastconv
from fastconv import layers as L
from fastconv.frozen.files import load_frozen
from fastconv.saving import ModelFileError
from fastconv.sequential import Sequential


def shuffle(parts, size, channels):
    """Return the layers that shuffle channels, as files spell it."""
    return (
        L.Transpose((3, 1, 2)),
        L.Reshape((parts, channels // parts, *size)),
        L.Transpose((2, 1, 3, 4)),
        L.Reshape((channels, *size)),
        L.Transpose((2, 3, 1)),
    )


def frozen_steps(*layers, shape, dtype=np.float32):
    """Return the frozen operations of the layers in a row, after comparing their outputs."""
    model = trained(Sequential(list(layers), input_shape=shape).astype(dtype))
    frozen = fastconv.freeze(model)
    for batch in (0, 1, 3):
        assert_equal_models(frozen, model, batch=batch)
    return [step.operation for step in frozen.program.steps]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("parts", "groups", "channels", "outputs"),
    [(4, 4, 16, 32), (3, 3, 12, 9), (4, 4, 136, 136), (2, 4, 24, 4), (5, 2, 20, 40), (12, 2, 24, 66), (4, 2, 8, 6)],
)
def test_groups_take_the_channels_of_parts_in_turn(isa, threads, dtype, parts, groups, channels, outputs):
    size = (9, 7)
    layers = (
        L.Conv2d(channels, 1, groups=parts),
        L.BatchNorm(),
        L.ReLU(),
        *shuffle(parts, size, channels),
        L.DepthwiseConv2d(3, padding=1),
        L.BatchNorm(),
        L.PReLU(),
        L.Conv2d(outputs, 1, groups=groups),
        L.ReLU(),
    )
    steps = frozen_steps(*layers, shape=(*size, 2 * parts), dtype=dtype)
    assert [step.kind for step in steps] == ["conv"] * 3
    assert [step.parts for step in steps] == [1, 1, parts]


def test_a_shuffle_at_once_before_groups(threads):
    layers = L.ReLU(), *shuffle(3, (5, 4), 18), L.Conv2d(36, 1, groups=2, bias=False)
    steps = frozen_steps(*layers, shape=(5, 4, 18))
    assert [step.kind for step in steps] == ["activate", "conv"]
    assert steps[1].parts == 3


@pytest.mark.parametrize(
    "after",
    [
        (L.Conv2d(18, 1),),
        (L.Conv2d(18, 3, groups=2),),
        (L.Conv2d(18, 1, groups=2, stride=2),),
        (L.Conv2d(18, 1, groups=2, padding=1),),
        (L.MaxPool2d(2), L.Conv2d(18, 1, groups=2)),
        (L.DepthwiseConv2d(3, 2), L.Conv2d(18, 1, groups=2)),
        (L.DepthwiseConv2d(3),),
        (),
    ],
    ids=repr,
)
def test_shuffles_before_anything_else_stay(after):
    steps = frozen_steps(L.ReLU(), *shuffle(3, (6, 6), 18), *after, shape=(6, 6, 18))
    assert [step.kind for step in steps[:2]] == ["activate", "pick"]


def test_images_of_other_sizes_and_a_file(tmp_path):
    rng = np.random.default_rng(0)
    places = np.arange(24).reshape(3, 8).T.ravel()
    model = Sequential([L.Conv2d(24, 1, groups=3), L.Conv2d(24, 1, groups=3)], input_shape=(4, 4, 24)).build()
    first, second = (layer.params for layer in model.layers)
    frozen = fastconv.freeze(
        Sequential([model.layers[0], *shuffle(3, (4, 4), 24), model.layers[1]], input_shape=(4, 4, 24)).build()
    )
    x = rng.standard_normal((2, 9, 5, 24), np.float32)
    middle = fastconv.functional.conv(x, first["weight"], first["bias"], groups=3)[..., places]
    want = fastconv.functional.conv(np.ascontiguousarray(middle), second["weight"], second["bias"], groups=3)
    np.testing.assert_allclose(frozen(x), want, rtol=1e-5, atol=1e-5)
    frozen.save(tmp_path / "frozen.safetensors")
    np.testing.assert_array_equal(load_frozen(tmp_path / "frozen.safetensors")(x), frozen(x))


@pytest.mark.parametrize("parts", [0, 5, "3"])
def test_files_with_parts_that_do_not_divide_are_refused(tmp_path, parts):
    model = Sequential([L.ReLU(), *shuffle(3, (4, 4), 24), L.Conv2d(24, 1, groups=3)], input_shape=(4, 4, 24))
    frozen = fastconv.freeze(model.build())
    step = frozen.program.steps[-1]
    changed = step._replace(operation=step.operation.replace(parts=parts))
    broken = type(frozen)(frozen.program.with_steps([*frozen.program.steps[:-1], changed]))
    broken.save(tmp_path / "frozen.safetensors")
    with pytest.raises(ModelFileError, match="parts must be"):
        load_frozen(tmp_path / "frozen.safetensors")


def test_parts_of_a_weight_of_several_taps_are_refused():
    conv = fastconv.freeze(Sequential([L.Conv2d(24, 3, groups=3)], input_shape=(4, 4, 24)).build()).program.steps[0]
    with pytest.raises(ValueError, match="parts must be 1 for a weight of shape"):
        conv.operation.replace(parts=3).output_shape((1, 4, 4, 24))
