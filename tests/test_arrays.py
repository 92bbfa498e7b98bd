"""Arrays of other libraries: taken wherever an array is, uncopied, and refused in one sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastconv import functional
from fastconv import layers as L
from fastconv.arrays import as_array
from fastconv.frozen import freeze
from fastconv.model import Input, Model
from fastconv.sequential import Sequential
from fastconv.unbatched import Unbatched


class ByDLPack:
    """An array of a library that has DLPack alone."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack__(self, **keywords: Any) -> Any:
        return self.array.__dlpack__(**keywords)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


class ByNumPy:
    """An array of a library that has NumPy's protocol alone."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.array


class Elsewhere:
    """An array on a device that NumPy cannot read."""

    def __dlpack__(self, **keywords: Any) -> Any:
        raise BufferError("its numbers are on the moon")

    def __dlpack_device__(self) -> Any:
        return (2, 0)


KINDS = [ByDLPack, ByNumPy]
X = np.random.default_rng(0).standard_normal((4, 6, 6, 2)).astype(np.float32)


def network() -> Sequential:
    return Sequential([L.Conv2d(3, 3), L.ReLU(), L.Flatten(), L.Linear(2)], input_shape=(6, 6, 2))


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_copied(kind: Any) -> None:
    assert np.shares_memory(as_array(kind(X), "x"), X)
    assert as_array(X, "x") is X
    weight = np.ones((1, 1, 2, 2), np.float32)
    # a layer that returns its input shows that the numbers are those of the caller
    assert np.shares_memory(L.Flatten()(kind(X)), X)
    np.testing.assert_array_equal(functional.conv(kind(X), kind(weight)), functional.conv(X, weight))


@pytest.mark.parametrize("kind", KINDS)
def test_layers_models_and_training_take_them(kind: Any) -> None:
    model, y = network(), np.array([0, 1, 1, 0])
    np.testing.assert_array_equal(L.ReLU()(kind(X)), L.ReLU()(X))
    np.testing.assert_array_equal(L.Add()(kind(X), X), X + X)
    np.testing.assert_array_equal(model(kind(X)), model(X))
    np.testing.assert_array_equal(model.predict(kind(X)), model.predict(X))
    assert model.evaluate(kind(X), kind(y)) == model.evaluate(X, y)
    loss, gradients = model.value_and_grad("cross_entropy", kind(X), kind(y))
    want, wanted = model.value_and_grad("cross_entropy", X, y)
    assert loss == want
    for name, gradient in wanted.items():
        np.testing.assert_array_equal(gradients[name], gradient)
    histories = [network().fit(*data, epochs=1, verbose=0) for data in ((X, y), (kind(X), kind(y)))]
    assert histories[0]["loss"] == histories[1]["loss"]


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_models_take_them(kind: Any) -> None:
    frozen = freeze(network().build())
    np.testing.assert_array_equal(frozen(kind(X)), frozen(X))
    np.testing.assert_array_equal(frozen.predict(kind(X)), frozen(X))
    x = Input((6, 6, 2))
    named = [{"name": "x", "shape": [6, 6, 2], "used": True}], [{"name": "y", "from": 0}]
    unbatched = freeze(Unbatched(Model(x, L.ReLU()(x)), *named).build())
    np.testing.assert_array_equal(unbatched(kind(X[0])), np.maximum(X[0], 0))
    with pytest.raises(TypeError, match="is float32 and got an input of float64"):
        frozen(kind(X.astype(np.float64)))
    with pytest.raises(
        TypeError, match="input 1 of the frozen model cannot be read as an array, a Elsewhere says: its n"
    ):
        frozen(Elsewhere())


def test_what_cannot_be_read_says_why() -> None:
    with pytest.raises(
        TypeError, match="the input of layer ReLU cannot be read as an array, a Elsewhere says: its numbers"
    ):
        L.ReLU()(Elsewhere())
    with pytest.raises(TypeError, match="the input of the model cannot be read as an array"):
        network()(Elsewhere())
    with pytest.raises(
        TypeError, match="weight cannot be read as an array, a Elsewhere says: its numbers are on the moon"
    ):
        functional.conv(X, Elsewhere())


def test_what_is_no_array_is_refused_as_before() -> None:
    for wrong in ([[1.0]], None, "x", Input((6, 6, 2))):
        with pytest.raises(
            TypeError, match="layer Add takes arrays with a batch axis, or symbols made by Input, got ndarray"
        ):
            L.Add()(X, wrong)
        with pytest.raises(TypeError, match="the model takes arrays with a batch axis"):
            network()(X, wrong)
    with pytest.raises(ValueError, match="x must be an array"):
        functional.relu([[1.0], [1.0, 2.0]])
    with pytest.raises(TypeError, match=r"x must be a float32 or float64 array, got int64"):
        L.ReLU()(ByDLPack(np.arange(3)))


def test_outputs_and_weights_go_out_by_dlpack() -> None:
    model = network()
    for array in (model(X), *model.params.values()):
        out = np.from_dlpack(array)
        assert np.shares_memory(out, array)
