"""Models without a batch axis whose arrays have a batch of one, for any number of samples."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv
from fastconv import layers as L
from fastconv.model import Input, Model
from fastconv.unbatched import Unbatched


def windows():
    """Cut an image into windows, which are a batch for the file, let each attend to itself, and give scores for the image."""
    x = Input((1, 8, 8, 4))
    y = L.ReLU()(L.TimeDistributed(L.BatchNorm())(L.TimeDistributed(L.Conv2d(6, 3, padding=1))(x)))
    y = L.Reshape((4, 16, 6))(L.Transpose((1, 3, 2, 4, 5))(L.Reshape((2, 4, 2, 4, 6))(y)))
    y = L.Add()(y, L.MatMul()(L.Softmax()(L.MatMul()(y, L.Transpose((1, 3, 2))(y))), y))
    body = Model(x, L.Linear(3)(L.Reshape((1, 4 * 16 * 6))(y)))
    inputs = [{"name": "x", "shape": [1, 8, 8, 4], "used": True}]
    return Unbatched(body, inputs, [{"name": "y", "from": 0}]).build(rng=np.random.default_rng(0))


def images(n, dtype=np.float32):
    return np.random.default_rng(1).standard_normal((n, 8, 8, 4)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_each_sample_is_computed_as_if_alone(dtype):
    model = windows().astype(dtype)
    batched = model.batched()
    assert batched.dtype == dtype
    assert (batched.input_names, batched.output_names) == (["x"], ["y"])
    x = images(5, dtype)
    want = np.concatenate([model(x[at : at + 1]) for at in range(5)])
    np.testing.assert_allclose(batched(x), want, rtol=0, atol=1e-5)
    np.testing.assert_allclose(fastconv.freeze(batched)(x), want, rtol=0, atol=1e-5)
    assert batched(x[:0]).shape == (0, 3)


def test_it_trains_the_layers_of_the_model():
    model = windows()
    batched = model.batched()
    x, labels = images(32), np.arange(32) % 3
    before = model(x[:1])
    history = batched.fit(x, labels, loss="cross_entropy", optimizer="adam", epochs=3, verbose=False)
    assert history["loss"][-1] < history["loss"][0]
    assert abs(model(x[:1]) - before).max() > 1e-4  # the same parameters


def test_it_is_saved_and_loaded(tmp_path):
    batched = windows().batched()
    batched.save(tmp_path / "model")
    np.testing.assert_array_equal(fastconv.load_model(tmp_path / "model")(images(2)), batched(images(2)))


@pytest.mark.parametrize(
    ("shape", "connect", "inputs", "outputs", "said"),
    [
        ((2, 3), L.ReLU(), 1, [{"name": "y", "from": 0}], "must be a batch of one"),
        ((1, 3), L.Reshape((3, 1)), 1, [{"name": "y", "from": 0}], "must be a batch of one"),
        ((1, 3), L.ReLU(), 2, [{"name": "y", "from": 0}], "inputs that it does not use"),
        ((1, 3), L.ReLU(), 1, [{"name": "y", "shape": [1], "dtype": "int64"}], "must be a batch of one"),
    ],
)
def test_what_has_no_batch_of_one_is_refused(shape, connect, inputs, outputs, said):
    x = Input(shape)
    named = [{"name": f"x{at}", "shape": list(shape), "used": at == 0} for at in range(inputs)]
    with pytest.raises(ValueError, match=said):
        Unbatched(Model(x, connect(x)), named, outputs).batched()
