"""The loss, the data set and the network, found by their names as any user finds them."""

import numpy as np
import pytest

import fastconv
from fastconv import data, networks, plugins
from fastconv.training import CrossEntropy, get_loss


def test_everything_is_found():
    found = {plugin.name: plugin.error for plugin in plugins.entries() if plugin.package == "fastconv-petals"}
    assert found == dict.fromkeys(["petals.Swish", "petals.focal", "petals.flowers", "petals.tiny"])


def test_the_loss_is_cross_entropy_where_gamma_is_0():
    from petals.losses import Focal

    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(7, 3)), rng.integers(0, 3, 7)
    mine, theirs = Focal(gamma=0)(logits, labels), CrossEntropy()(logits, labels)
    assert mine[0] == pytest.approx(theirs[0])
    np.testing.assert_allclose(mine[1](2.0), theirs[1](2.0), atol=1e-12)
    with pytest.raises(ValueError, match=r"gamma must be 0 or a number of at least 1, got 0.5"):
        Focal(gamma=0.5)


def test_the_gradient_of_the_loss():
    rng = np.random.default_rng(0)
    logits, labels, direction = rng.normal(size=(7, 3)), rng.integers(0, 3, 7), rng.normal(size=(7, 3))
    loss, h = get_loss("petals.focal"), 1e-6
    slope = (loss(logits + h * direction, labels)[0] - loss(logits - h * direction, labels)[0]) / (2 * h)
    assert (loss(logits, labels)[1]() * direction).sum() == pytest.approx(slope, rel=1e-6)


def test_the_flowers_are_the_same_every_time():
    (x, y), (x_test, y_test), classes = data.load("petals.flowers")
    assert x.shape == (800, 24, 24, 3)
    assert x_test.shape == (200, 24, 24, 3)
    assert set(y) == set(y_test) == set(range(len(classes)))
    np.testing.assert_array_equal(x, data.load("petals.flowers").train[0])


def test_the_network_learns_the_flowers():
    train, test, classes = data.load("petals.flowers")
    model = networks.create("petals.tiny", (24, 24, 3), len(classes))
    model.fit(*train, epochs=5, batch_size=32, loss="petals.focal", optimizer=fastconv.Adam(0.01), verbose=False)
    assert model.evaluate(*test, loss="petals.focal")["accuracy"] > 0.5  # five classes: chance is 0.2


def test_a_saved_network_is_loaded_without_importing_anything(tmp_path):
    model = networks.create("petals.tiny", (24, 24, 3), 5)
    model.save(tmp_path / "model.safetensors")
    x = np.ones((1, 24, 24, 3), np.float32)
    np.testing.assert_array_equal(fastconv.load_model(tmp_path / "model.safetensors")(x), model(x))
