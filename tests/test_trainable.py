"""Layers that are not trained: no gradients, evaluation in training too, nothing changed; and new ends for models."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv
from fastconv import layers as L
from fastconv.layers.tree import collect
from fastconv.unbatched import Unbatched

RNG = np.random.default_rng(0)
X = RNG.standard_normal((8, 6, 6, 2)).astype(np.float32)
Y = np.arange(8) % 3


def network() -> fastconv.Sequential:
    """Return a network with batch normalization and dropout; its second half is a nested model."""
    head = fastconv.Sequential([L.Conv2d(4, 1), L.BatchNorm(), L.Dropout(0.5), L.GlobalAvgPool(), L.Linear(3)])
    layers = [L.Conv2d(4, 3), L.BatchNorm(), L.ReLU(), head.named("head")]
    model = fastconv.Sequential(layers, input_shape=(6, 6, 2)).build()
    for name, array in model.buffers.items():  # statistics that those of the batch are not
        array += 0.5 + name.count("mean")
    return model


def gradients(model: fastconv.Model, **options: Any) -> dict[str, np.ndarray]:
    return model.value_and_grad("cross_entropy", X, Y, rng=np.random.default_rng(1), **options)[1]


def test_what_is_not_trainable_has_no_gradient_and_the_rest_has_the_same() -> None:
    whole = gradients(network(), training=False)
    for frozen in ([], [0], [0, 1], [3], [1, 3], [0, 3]):
        model = network()
        for at in frozen:
            model.layers[at].trainable = False
        found = gradients(model, training=False)
        names = {model.layers[at].name for at in frozen}
        assert list(found) == [name for name in whole if name.partition("/")[0] not in names]
        for name, gradient in found.items():
            np.testing.assert_array_equal(gradient, whole[name])


def test_inside_nested_models_and_layers_too() -> None:
    model = network()
    model.trainable = False
    assert not model.trainable and not any(layer.trainable for layer in model.layers)
    assert gradients(model) == {}
    last = model.layers[-1].layers[-1]
    last.trainable = True
    assert model.trainable and model.layers[-1].trainable and not model.layers[0].trainable
    assert set(gradients(model)) == {"head/linear_1/weight", "head/linear_1/bias"}
    model.layers[-1].trainable = True
    assert len(gradients(model)) == 6
    wrapped = L.TimeDistributed(L.ReLU())
    wrapped.trainable = False
    assert not wrapped.trainable and not wrapped.inner.trainable


def test_what_is_not_trainable_evaluates_in_training() -> None:
    model = network()
    model.trainable = False
    before = {name: array.copy() for name, array in model.buffers.items()}
    y, _ = model.forward(model.context(training=True), X)
    np.testing.assert_array_equal(y, model(X))
    for name, array in model.buffers.items():
        np.testing.assert_array_equal(array, before[name])
    model.layers[-1].trainable = True  # a normalization that moves, a dropout that drops, after layers that do not
    y, _ = model.forward(model.context(training=True), X)
    assert abs(y - model(X)).max() > 0.01
    moved = [name for name, array in model.buffers.items() if not np.array_equal(array, before[name])]
    assert moved == ["head/batchnorm_1/mean", "head/batchnorm_1/var"]


def test_gradients_go_through_what_is_not_trainable() -> None:
    model = network()
    model.layers[1].trainable = False  # between layers that learn; with ReLU it is one step of the plan
    model.layers[3].trainable = False
    found = gradients(model)
    assert list(found) == ["conv2d_1/weight", "conv2d_1/bias"]
    same = network()
    for name, gradient in gradients(same, training=False).items():
        if name in found:
            np.testing.assert_array_equal(found[name], gradient)


@pytest.mark.parametrize("optimizer", [fastconv.SGD(0.1, momentum=0.9, weight_decay=0.1), fastconv.AdamW(0.1)])
def test_training_leaves_it_bit_for_bit(optimizer: Any) -> None:
    model = network()
    for layer in model.layers[:2]:
        layer.trainable = False
    before = {name: array.copy() for name, array in {**model.params, **model.buffers}.items()}
    model.fit(X, Y, epochs=3, batch_size=4, optimizer=optimizer, verbose=False)
    for name, array in {**model.params, **model.buffers}.items():
        assert np.array_equal(array, before[name]) == (not name.startswith("head")), name
    assert set(optimizer.state_dict()["arrays"].popitem()[1]) == set(collect(model, "params", trainable=True))


def test_a_run_that_was_stopped_goes_on(tmp_path: Path) -> None:
    def trained(model: fastconv.Model, epochs: int, **options: Any) -> dict[str, np.ndarray]:
        model.layers[0].trainable = False
        model.fit(X, Y, epochs=epochs, batch_size=4, verbose=False, **options)
        return model.params

    trained(network(), 2, checkpoint=tmp_path / "run")
    resumed = trained(network(), 4, resume=tmp_path / "run")
    for name, array in trained(network(), 4).items():
        np.testing.assert_array_equal(resumed[name], array)


def test_copies_know_it_and_files_do_not(tmp_path: Path) -> None:
    model = network()
    gradients(model)
    model.layers[0].trainable = False
    for same in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert list(gradients(same)) == list(gradients(model)) and len(gradients(same)) == 8
    model.save(tmp_path / "model")
    assert fastconv.load_model(tmp_path / "model").layers[0].trainable


def test_a_model_without_a_batch() -> None:
    x = fastconv.Input((3, 4))
    body = fastconv.Model(x, L.ReLU()(L.Linear(2)(L.LayerNorm()(x))))
    model = Unbatched(body, [{"name": "x", "shape": [3, 4], "used": True}], [{"name": "y", "from": 0}]).build()
    model.layers[0].trainable = False
    y, backward = model.forward(model.context(training=True), np.ones((3, 4), np.float32))
    assert set(backward(y)[1]) == {"body/linear_1/weight", "body/linear_1/bias"}


def test_nothing_to_train_is_said() -> None:
    model = network()
    model.trainable = False
    with pytest.raises(ValueError, match="the model has parameters, and none of its layers is trainable"):
        model.fit(X, Y, epochs=1)
    with pytest.raises(TypeError, match="trainable must be True or False, got 'yes'"):
        model.trainable = "yes"  # type: ignore[assignment]


def test_a_new_end_shares_the_layers_before_it() -> None:
    base = network()
    for end in (base.layers[2], "relu_1"):
        model = fastconv.Model(base.inputs, L.Linear(5)(L.GlobalAvgPool()(base.output_of(end))))
        assert model(X).shape == (8, 5)
        assert model.layers[0] is base.layers[0]
        model.fit(X, Y, epochs=1, verbose=False)
        assert np.array_equal(base.params["conv2d_1/weight"], model.params["conv2d_1/weight"])
    again = pickle.loads(pickle.dumps(base))  # whose symbols are made anew
    assert again.output_of("batchnorm_1").shape == (4, 4, 4)


def test_outputs_that_are_not_there() -> None:
    base = network()
    with pytest.raises(
        ValueError, match=r"layer 'pool' is used 0 times in the model; its layers are conv2d_1, batchnorm_1"
    ):
        base.output_of("pool")
    with pytest.raises(ValueError, match=r"layer ReLU is used 0 times"):
        base.output_of(L.ReLU())
    x, layer = fastconv.Input((4,)), L.Linear(4)
    twice = fastconv.Model(x, layer(L.ReLU()(layer(x))))
    with pytest.raises(ValueError, match=r"layer 'linear_1' \(Linear\) is used 2 times"):
        twice.output_of(layer)
    split = fastconv.Model(x, L.Add()(*L.Split([2, 2])(x)))
    assert [symbol.shape for symbol in split.output_of("split_1")] == [(2,), (2,)]
