"""Losses: values by hand, gradients by finite differences, and targets that cannot be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gradients import assert_gradient

import fastconv
from fastconv import layers as L
from fastconv.data import DataError
from fastconv.training import (
    MSE,
    BinaryCrossEntropy,
    CrossEntropy,
    Huber,
    Loss,
    LossPerOutput,
    get_loss,
    register_loss,
)

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(5, 4)) * 3
LABELS = np.array([0, 3, 1, 1, 2])
PROBABILITIES = RNG.dirichlet(np.ones(4), 5)

CASES = [
    (CrossEntropy(), LABELS),
    (CrossEntropy(), PROBABILITIES),
    (CrossEntropy(label_smoothing=0.1), LABELS),
    (CrossEntropy(label_smoothing=0.1), PROBABILITIES),
    (BinaryCrossEntropy(), PROBABILITIES),
    (BinaryCrossEntropy(), (PROBABILITIES > 0.3).astype(np.int64)),
    (BinaryCrossEntropy(), PROBABILITIES > 0.3),
    (MSE(), PROBABILITIES),
    (Huber(), PROBABILITIES),
    (Huber(delta=0.5), PROBABILITIES),
]


@pytest.mark.parametrize(("loss", "target"), CASES, ids=lambda value: repr(value)[:40])
def test_the_backward_pass(loss: Loss, target: np.ndarray) -> None:
    _, backward = loss(LOGITS, target)
    one = np.ones(())
    assert_gradient(backward(), lambda x: loss(x, target)[0], LOGITS, one)
    np.testing.assert_allclose(backward(3.0), 3 * backward(), rtol=1e-12)


@pytest.mark.parametrize(("loss", "target"), CASES, ids=lambda value: repr(value)[:40])
def test_float32_stays_float32(loss: Loss, target: np.ndarray) -> None:
    if target.dtype.kind == "f":
        target = target.astype(np.float32)
    value, backward = loss(LOGITS.astype(np.float32), target)
    assert value.dtype == np.float32 and backward(2.0).dtype == np.float32
    double = target.astype(np.float64) if target.dtype.kind == "f" else target
    np.testing.assert_allclose(value, loss(LOGITS, double)[0], rtol=1e-5)


def test_values_by_hand() -> None:
    x, t = np.array([[1.0, -2.0, 0.0]]), np.array([[0.0, 1.0, 0.5]])
    assert MSE()(x, t)[0] == pytest.approx((1 + 9 + 0.25) / 3)
    assert Huber()(x, t)[0] == pytest.approx((0.5 + 2.5 + 0.125) / 3)
    assert Huber(delta=2)(x, t)[0] == pytest.approx((0.5 + 4 + 0.125) / 3)
    p = 1 / (1 + np.exp(-x))
    assert BinaryCrossEntropy()(x, t)[0] == pytest.approx(-(t * np.log(p) + (1 - t) * np.log(1 - p)).mean())
    assert CrossEntropy()(np.log([[0.25, 0.75]]), np.array([0]))[0] == pytest.approx(np.log(4))


def test_extreme_logits_do_not_overflow() -> None:
    x = np.array([[1e4, -1e4]], np.float32)
    for target in (np.array([[1, 0]]), np.array([[0, 1]])):
        value, backward = BinaryCrossEntropy()(x, target)
        assert value in (0, 1e4) and np.isfinite(backward()).all()


@pytest.mark.parametrize("target", [0, 1])
def test_what_a_sure_and_right_logit_loses_is_not_rounded_away(target: int) -> None:
    logit = np.array([[20.0 if target else -20.0]], np.float32)
    assert BinaryCrossEntropy()(logit, np.array([[target]]))[0] == pytest.approx(np.log1p(np.exp(-20)), rel=1e-6)


def test_accuracy() -> None:
    logits = np.array([[2.0, 1.0], [0.0, 1.0], [3.0, 0.0], [0.0, 4.0]])
    assert CrossEntropy().metrics(logits, np.array([0, 1, 1, 1])) == {"accuracy": 0.75}
    assert CrossEntropy().metrics(logits, np.eye(2)[[0, 0, 1, 1]]) == {"accuracy": 0.5}
    assert BinaryCrossEntropy().metrics(logits - 1.5, (logits > 2).astype(int)) == {"accuracy": 0.875}
    assert MSE().metrics(logits, logits) == {}


def test_one_loss_for_each_output() -> None:
    both = get_loss(("cross_entropy", MSE()))
    assert isinstance(both, LossPerOutput)
    value, backward = both((LOGITS, LOGITS), (LABELS, PROBABILITIES))
    first, second = CrossEntropy()(LOGITS, LABELS), MSE()(LOGITS, PROBABILITIES)
    assert value == pytest.approx(first[0] + second[0])
    for got, way in zip(backward(2.0), (first[1], second[1]), strict=True):
        np.testing.assert_allclose(got, way(2.0))
    assert set(both.metrics((LOGITS, LOGITS), (LABELS, PROBABILITIES))) == {"accuracy[0]"}
    with pytest.raises(ValueError, match="2 losses need a tuple of 2 outputs, got one, ndarray"):
        both(LOGITS, (LABELS, PROBABILITIES))
    with pytest.raises(ValueError, match="2 losses need a tuple of 2 targets, got a tuple of 1"):
        both((LOGITS, LOGITS), (LABELS,))
    with pytest.raises(DataError, match=r"y\[0\]\[1\] is label 7"):
        both.check((np.array([0, 7]), PROBABILITIES[:2]), ((4,), (4,)))


def test_shapes_are_not_broadcast() -> None:
    for loss in (MSE(), Huber(), BinaryCrossEntropy()):
        with pytest.raises(ValueError, match=r"target must have the shape of the prediction, \(5, 1\), got \(5,\)"):
            loss(LOGITS[:, :1], np.zeros(5))


@pytest.mark.parametrize(
    ("loss", "target", "shape", "message"),
    [
        (CrossEntropy(), np.array([0, 10]), (10,), r"y\[1\] is label 10; with 10 classes the labels are 0 to 9"),
        (CrossEntropy(), np.zeros((4, 1), int), (10,), r"y must be integer labels of shape \(N,\), got shape \(4, 1\)"),
        (CrossEntropy(), np.eye(3, dtype=int), (3,), r"got shape \(3, 3\): of one-hot rows, take y.argmax\(-1\)"),
        (CrossEntropy(), np.zeros(4, int), (5, 5, 3), r"y must be integer labels of shape \(N, 5, 5\)"),
        (
            CrossEntropy(),
            np.zeros((4, 3)),
            (10,),
            r"y must be integer labels, or probabilities .*\(N, 10\), got float64 of shape \(4, 3\)",
        ),
        (CrossEntropy(), np.full((2, 2), 0.7), (2,), r"y\[0\] must be probabilities"),
        (BinaryCrossEntropy(), np.array([[0.0], [1.5]]), (1,), r"y\[1, 0\] is 1.5; targets are from 0 to 1"),
        (
            BinaryCrossEntropy(),
            np.zeros(3),
            (1,),
            r"y must be probabilities in the shape .*\(N, 1\), got float64 of shape \(3,\)",
        ),
        (
            MSE(),
            np.zeros(3),
            (2,),
            r"y must be numbers in the shape of the model's output, \(N, 2\), got float64 of shape \(3,\)",
        ),
        (Huber(), np.zeros(3), (2,), "y must be numbers"),
    ],
)
def test_targets_that_cannot_be(loss: Loss, target: np.ndarray, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        loss.check(target, shape)


def test_by_name() -> None:
    for name, kind in {
        "cross_entropy": CrossEntropy,
        "binary_cross_entropy": BinaryCrossEntropy,
        "mse": MSE,
        "huber": Huber,
    }.items():
        assert type(get_loss(name)) is kind
    known = "binary_cross_entropy, cross_entropy, huber, mse"
    with pytest.raises(ValueError, match=rf"there is no loss named 'hinge'; there are: {known}"):
        get_loss("hinge")
    with pytest.raises(TypeError, match=r"must be a name or an object of fastconv.training.Loss, .*: call it"):
        get_loss(MSE)
    assert repr(Huber(delta=2)) == "Huber(delta=2.0)"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CrossEntropy(label_smoothing=1.5), "label_smoothing must be from 0 to 1, got 1.5"),
        (lambda: Huber(delta=0), "delta must be a number greater than 0, got 0"),
        (lambda: Huber(delta="big"), "delta must be a number greater than 0, got 'big'"),
    ],
)
def test_arguments(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_loss_of_ones_own() -> None:
    @register_loss("tests.Zero")
    class Zero(Loss):
        def __call__(self, prediction: Any, target: Any) -> Any:
            return prediction.sum() * 0, lambda dvalue=1.0: np.zeros_like(prediction)

    assert get_loss("tests.Zero")(LOGITS, LABELS)[0] == 0
    assert Zero().metrics(LOGITS, LABELS) == {}
    with pytest.raises(NotImplementedError, match="Loss must define __call__"):
        Loss()(LOGITS, LABELS)


def test_a_loss_without_a_constructor_can_be_trained_with() -> None:
    class Mean(Loss):
        def __call__(self, prediction: np.ndarray, target: np.ndarray) -> tuple[Any, Any]:
            return prediction.mean(), lambda dvalue=1.0: np.full_like(prediction, dvalue / prediction.size)

    assert repr(Mean()) == "Mean()"
    model = fastconv.Sequential([L.Linear(2)])
    history = model.fit(np.ones((4, 3), np.float32), np.zeros(4, int), loss=Mean(), epochs=2, verbose=False)
    assert history["loss"][1] < history["loss"][0]
