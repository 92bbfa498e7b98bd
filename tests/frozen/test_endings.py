"""Shortcuts and bounds that a tile of a product sees to before it writes: at its edges, in groups, over lines, of two parts."""

from __future__ import annotations

import numpy as np
import pytest
from frozen_cases import inputs, trained

import fastconv
from fastconv import layers as L
from fastconv.model import Input, Model

#: Channels, outputs, taps, and what else is said of a convolution.
CONVOLUTIONS = [
    *((24, outputs, 1, {}) for outputs in (9, 16, 17, 24, 33, 40, 47, 100)),
    (3, 32, 3, {"padding": 1}),  # over lines
    (40, 20, 3, {"padding": 1, "stride": 2}),  # a sum of two parts
    (40, 48, 3, {"padding": 2, "dilation": 2}),
    (32, 32, 3, {"padding": 1, "groups": 8}),  # groups that share vectors
    (72, 72, 3, {"padding": 1, "groups": 3}),
    (60, 120, 1, {"groups": 3}),
    (1024, 40, 1, {}),  # neighbors that alias
    (40, 3, 3, {"padding": 1, "stride": 2}),  # dot products
    (60, 6, 3, {"padding": 1, "groups": 2}),
]

BOUNDS = {"relu": L.ReLU, "relu6": L.ReLU6, "clip": lambda: L.Clip(-0.25, None), "none": None}


@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_are_the_same_bits_as_of_layers_of_their_own(isa, bounds, dtype):
    for seed, (channels, outputs, taps, keywords) in enumerate(CONVOLUTIONS):
        layer = L.Conv2d(outputs, taps, **keywords)
        x, shortcut = Input((8, 5, channels)), Input(layer.output_shape((8, 5, channels)))
        y = L.Add()(layer(x), shortcut)
        model = trained(Model([x, shortcut], y if BOUNDS[bounds] is None else BOUNDS[bounds]()(y)), seed).astype(dtype)
        with fastconv.precision("exact"):
            frozen = fastconv.freeze(model)
            assert len(frozen.program.steps) == 1
            for batch in (1, 3):
                arrays = inputs(model, batch, seed)
                arrays[0][0, 3, 2, 0] = np.nan
                np.testing.assert_array_equal(frozen(*arrays), model(*arrays))
