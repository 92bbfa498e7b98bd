"""Fit, evaluate, predict, value_and_grad: what goes in, what comes out, what is refused."""

from __future__ import annotations

import io
import time
from typing import Any

import numpy as np
import pytest
from small_training import fingerprint, network, stripes

import fastconv
from fastconv import layers as L
from fastconv.data import Batches, DataError, Flip, Mixup
from fastconv.training import (
    MSE,
    SGD,
    Adam,
    AdamW,
    Callback,
    Progress,
    RMSprop,
    Run,
    TerminateOnNaN,
    evaluate,
    fit,
    predict,
    value_and_grad,
)
from fastconv.training.progress import _clock

X, Y = stripes()


def quick(model: Any, x: Any = X, y: Any = Y, **options: Any) -> Any:
    return fit(model, x, y, **{"epochs": 1, "batch_size": 32, "verbose": False, **options})


@pytest.mark.parametrize("optimizer", [SGD(0.1, momentum=0.9), Adam(0.01), AdamW(0.01), RMSprop(0.01)], ids=repr)
def test_a_tiny_network_learns(optimizer: Any) -> None:
    model = network(dropout=False)
    history = model.fit(
        X, Y, epochs=12, batch_size=16, optimizer=optimizer, validation_data=stripes(seed=1), verbose=False
    )
    assert history["loss"][-1] < history["loss"][0]
    assert history["accuracy"][-1] > 0.9 and history["val_accuracy"][-1] > 0.85
    results = model.evaluate(*stripes(seed=1))
    assert results == pytest.approx(
        {"loss": history["val_loss"][-1], "accuracy": history["val_accuracy"][-1]}, rel=1e-5
    )


def test_images_are_scaled_wherever_they_go_in() -> None:
    model = network()
    quick(model)
    floats = X / np.float32(255)
    np.testing.assert_array_equal(model.predict(X), model.predict(floats))
    np.testing.assert_array_equal(model.predict(X, batch_size=7), model.predict(X))
    np.testing.assert_array_equal(model.predict(X), model(floats))
    assert model.evaluate(X, Y) == model.evaluate(floats, Y)
    values = [model.value_and_grad("cross_entropy", x, Y, training=False)[0] for x in (X, floats)]
    assert values[0] == values[1]
    again = network()
    quick(again, floats)
    assert fingerprint(again) == fingerprint(model)


def test_evaluate_is_the_mean_over_samples() -> None:
    model = network()
    model.build((8, 8, 1))
    logits = model.predict(X)
    shifted = logits - logits.max(1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(Y)), Y]
    results = evaluate(model, X, Y, batch_size=36)
    assert results["loss"] == pytest.approx(losses.mean(), rel=1e-5)
    assert results["accuracy"] == pytest.approx((logits.argmax(1) == Y).mean())


def test_predict_without_samples() -> None:
    model = network()
    model.build((8, 8, 1))
    assert predict(model, X[:0]).shape == (0, 2)
    assert predict(model, X[:1]).shape == (1, 2)


def test_the_pieces_for_a_loop_of_ones_own() -> None:
    by_fit, by_hand = network(dropout=False), network(dropout=False)
    quick(by_fit, optimizer=Adam(), epochs=2, seed=3)
    batches, optimizer = Batches(X, Y, batch_size=32, seed=3), Adam()
    quick(by_hand, optimizer=SGD(0.0), seed=3)  # builds it with the same first weights
    for name, array in by_hand.buffers.items():
        array[...] = 1 if name.endswith("var") else 0
    for _ in range(2):
        for x, y in batches:
            _, grads = value_and_grad(by_hand, "cross_entropy", x, y)
            optimizer.step(by_hand.params, grads)
    assert {name: array.tobytes() for name, array in by_hand.params.items()} == {
        name: array.tobytes() for name, array in by_fit.params.items()
    }


def test_value_and_grad_against_finite_differences() -> None:
    model = fastconv.Sequential([L.Conv2d(2, 3), L.Tanh(), L.Flatten(), L.Linear(2)]).astype(np.float64)
    x = np.random.default_rng(0).normal(size=(3, 5, 5, 1))
    y = np.array([0, 1, 1])
    value, grads = value_and_grad(model, "cross_entropy", x, y)
    assert isinstance(value, float)
    for name, array in model.params.items():
        index = tuple(n // 2 for n in array.shape)
        ends = []
        for step in (1e-6, -2e-6):
            array[index] += step
            ends.append(value_and_grad(model, "cross_entropy", x, y)[0])
        array[index] += 1e-6
        assert grads[name][index] == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5, abs=1e-9)


def test_evaluation_mode_of_value_and_grad() -> None:
    model = network()
    model.build((8, 8, 1))
    values = {value_and_grad(model, "cross_entropy", X, Y, training=False)[0] for _ in range(2)}
    assert len(values) == 1
    rng = np.random.default_rng
    drawn = [value_and_grad(model, "cross_entropy", X, Y, rng=rng(seed))[0] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def two_headed() -> Any:
    image, extra = fastconv.Input((8, 8, 1)), fastconv.Input((3,))
    features = L.Flatten()(L.Conv2d(2, 3)(image))
    both = L.Concat()(features, extra)
    return fastconv.Model([image, extra], [L.Linear(2)(both), L.Linear(1)(both)])


def test_several_inputs_and_outputs() -> None:
    rng = np.random.default_rng(0)
    extra, size = rng.random((len(X), 3)), rng.random((len(X), 1))
    model = two_headed()
    history = quick(
        model, (X, extra), (Y, size), loss=("cross_entropy", "mse"), epochs=3, validation_data=((X, extra), (Y, size))
    )
    assert {"loss", "accuracy[0]", "val_loss", "val_accuracy[0]"} <= set(history.keys())
    assert history["loss"][-1] < history["loss"][0]
    logits, sizes = model.predict((X, extra), batch_size=10)
    assert logits.shape == (len(X), 2) and sizes.shape == (len(X), 1)
    with pytest.raises(DataError, match=r"y\[1\] must be numbers in the shape of the model's output, \(N, 1\)"):
        quick(two_headed(), (X, extra), (Y, size[:, 0]), loss=("cross_entropy", "mse"))
    message = r"the model has 2 outputs, so loss must be a tuple with one for each, got CrossEntropy"
    for run in (
        lambda: quick(two_headed(), (X, extra), (Y, size)),
        lambda: evaluate(model, (X, extra), (Y, size)),
        lambda: value_and_grad(model, "cross_entropy", (X, extra), (Y, size)),
    ):
        with pytest.raises(ValueError, match=message):
            run()


def test_ready_batches() -> None:
    by_arrays, by_batches, by_stranger = network(), network(), network()
    quick(by_arrays, augment=[Flip(), Mixup(classes=2)], seed=2)
    batches = Batches(X, Y, batch_size=32, augment=[Flip(), Mixup(classes=2)], seed=2)
    quick(by_batches, batches, None, seed=2, validation_data=Batches(X, Y, shuffle=False))

    class Stranger:
        """Not ours, but with epochs and a length."""

        def epoch(self, number: int) -> Any:
            return batches.epoch(number)

        def __len__(self) -> int:
            return len(batches)

    quick(by_stranger, Stranger(), None, seed=2)
    assert fingerprint(by_arrays) == fingerprint(by_batches) == fingerprint(by_stranger)
    assert evaluate(by_batches, batches)["accuracy"] >= 0
    with pytest.raises(ValueError, match="x has batches, so y must be left out"):
        quick(network(), batches, Y)


def test_float64() -> None:
    model = network().astype(np.float64)
    quick(model, optimizer="adam")
    assert all(array.dtype == np.float64 for array in model.params.values())
    assert model.predict(X).dtype == np.float64


def test_another_loss_and_regression() -> None:
    model = fastconv.Sequential([L.Linear(1)])
    x = np.random.default_rng(0).normal(size=(100, 2))
    y = x @ [[2.0], [-1.0]] + 0.5
    history = quick(model, x, y, loss=MSE(), optimizer=SGD(0.1), epochs=30)
    assert history["loss"][-1] < 1e-3 and "accuracy" not in history
    weight = next(array for name, array in model.params.items() if name.endswith("weight"))
    np.testing.assert_allclose(weight[:, 0], [2, -1], atol=0.05)


def nan_at(index: tuple[int, ...]) -> np.ndarray:
    x = X / np.float32(255)
    x[index] = np.nan
    return x


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"y": np.where(np.arange(len(Y)) == 17, 2, Y)}, DataError, r"y\[17\] is label 2; with 2 classes"),
        ({"y": Y[:50]}, DataError, "x has 96, y has 50"),
        ({"y": None}, DataError, "y is missing"),
        ({"x": X[:0], "y": Y[:0]}, DataError, "x has no samples"),
        ({"x": nan_at((5, 2, 3, 0))}, DataError, r"x\[5\] holds nan at position \(2, 3, 0\)"),
        ({"x": X.astype(int)}, TypeError, "x must be uint8 or floats, got int64"),
        ({"validation_data": (X, Y + 1)}, DataError, r"in validation_data: y\[\d+\] is label 2"),
        ({"validation_data": (X[:0], Y[:0])}, DataError, "in validation_data: x has no samples"),
        ({"validation_data": (X, Y[:3])}, DataError, "in validation_data: .* x has 96, y has 3"),
        ({"validation_data": (X[..., 0], Y)}, ValueError, r"in validation_data: the model takes input 1"),
        ({"y": tuple(Y.tolist())}, TypeError, r"y\[0\] must be an array .* a tuple stands for several arrays"),
        ({"y": Y.astype(float)}, DataError, r"got float64 of shape \(96,\)"),
        ({"callbacks": TerminateOnNaN()}, TypeError, "callbacks must be a list of callbacks, got one"),
        ({"callbacks": True}, TypeError, "callbacks must be a list of callbacks, got True"),
        ({"augment": 3}, TypeError, "augment must be an augmentation or a list of them, got 3"),
        ({"checkpoint": True}, TypeError, "checkpoint must be a path, got True"),
        ({"resume": 0}, TypeError, "resume must be a path, got 0"),
        ({"validation_data": X}, TypeError, r"validation_data must be a pair \(x, y\) or Batches, got ndarray"),
        ({"epochs": 0}, ValueError, "epochs must be at least 1, got 0"),
        ({"epochs": 1.5}, TypeError, "epochs must be an integer, got 1.5"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
        ({"seed": -1}, ValueError, "seed must be at least 0"),
        ({"seed": "lucky"}, TypeError, "seed must be an integer, got 'lucky'"),
        ({"loss": "hinge"}, ValueError, "there is no loss named 'hinge'; there are: binary_cross_entropy, "),
        ({"optimizer": "lion"}, ValueError, "there is no optimizer named 'lion'; there are: adam, "),
        ({"augment": Flip}, TypeError, r"an augmentation is an object like Flip\(\)"),
        ({"x": X[:, :, :, 0]}, ValueError, r"\(N, 8, 8\)|\(32, 8, 8\)|must have shape"),
    ],
)
def test_what_is_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        quick(network(), **{"x": X, "y": Y, **arguments})


def test_only_models_are_trained() -> None:
    with pytest.raises(TypeError, match="model must be a fastconv model, got Linear: put a layer into a Sequential"):
        quick(L.Linear(2))


def test_an_error_in_a_batch_comes_out_and_training_ends_properly() -> None:
    ended: list[int] = []

    class End(Callback):
        def on_train_end(self, run: Run) -> None:
            ended.append(run.epoch)

    def fail(x: Any, y: Any, draws: Any) -> Any:
        raise OSError("no more coffee")

    with pytest.raises(OSError, match="no more coffee"):
        quick(network(), augment=fail, callbacks=[End()])
    assert len(ended) <= 1  # the network is built from the first batch, before anything begins
    model = network()
    model.build((8, 8, 1))
    with pytest.raises(OSError, match="no more coffee"):
        quick(model, augment=fail, callbacks=[End()])
    assert ended == [1]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_one_line_for_each_epoch_where_the_output_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    quick(network(), epochs=2, verbose=True, validation_data=(X, Y))
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert len(lines) == 2 and captured.err == ""
    assert lines[0].startswith("epoch 1/2  loss ") and "accuracy 0." in lines[0] and "val_accuracy 0." in lines[0]
    assert lines[0].endswith(" s")
    quick(network())
    assert capsys.readouterr().out == ""


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastconv.training.progress._OFTEN", 0.0)
    monkeypatch.setenv("COLUMNS", "150")
    terminal = Terminal()

    class Slowly(Callback):
        def on_batch_end(self, run: Run) -> None:
            time.sleep(0.06)

    quick(network(), epochs=2, callbacks=[Slowly(), Progress(terminal)])
    shown = terminal.getvalue()
    assert "epoch 1/2:   0%|" in shown and "epoch 2/2: 100%|" in shown and "3/3" in shown
    assert "loss " in shown and "accuracy 0." in shown and ", all 0:" in shown
    assert "\n" in shown and "learning_rate" not in shown


def test_the_end_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    class Stop(Callback):
        def on_epoch_end(self, run: Run) -> None:
            run.stop("enough")

    history = quick(network(), epochs=3, verbose=True, callbacks=[Stop()])
    assert capsys.readouterr().out.splitlines()[-1] == "stopped: enough"
    assert len(history) == 1 and history.stopped == "enough"


def test_the_clock() -> None:
    assert [_clock(seconds) for seconds in (0.4, 59.6, 3600, 36_061)] == ["0:00", "1:00", "1:00:00", "10:01:01"]
