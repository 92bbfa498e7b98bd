"""Softmax, log softmax and cross entropy: equal to the reference and to SciPy, stable, and their gradients."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from gradients import assert_gradient
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import DTYPES, EDGES, SEEDS
from scipy import special

from fastconv import functional, reference

CLASSES = st.sampled_from([*EDGES, 100])


@settings(max_examples=20)
@given(batch=st.lists(st.integers(0, 4), max_size=2), classes=CLASSES, data=st.data(), dtype=DTYPES, seed=SEEDS)
def test_softmax_equals_scipy_and_the_reference(isa, threads, batch, classes, data, dtype, seed):
    shape = data.draw(st.permutations([*batch, classes]))
    axis = data.draw(st.sampled_from([i for i, n in enumerate(shape) if n]))
    axis = data.draw(st.sampled_from([axis, axis - len(shape)]))
    rng = np.random.default_rng(seed)
    x, dy = (8 * rng.standard_normal(shape)).astype(dtype), rng.standard_normal(shape).astype(dtype)
    tolerance = 32 * np.finfo(dtype).eps
    for name in ("softmax", "log_softmax"):
        y = getattr(functional, name)(x, axis=axis)
        want = getattr(special, name)(x.astype(np.float64), axis=axis)
        np.testing.assert_allclose(y, want, rtol=tolerance, atol=tolerance)
        dx = getattr(functional, f"{name}_backward")(dy, y, axis=axis)
        want = getattr(reference, f"{name}_backward")(dy.astype(np.float64), y.astype(np.float64), axis=axis)
        np.testing.assert_allclose(dx, want, rtol=tolerance, atol=classes * tolerance)
        assert y.shape == dx.shape == x.shape
        assert y.dtype == dx.dtype == dtype
        assert y.flags.c_contiguous


@pytest.mark.parametrize("classes", [1, 3, 17])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_probabilities_sum_to_one_and_do_not_change_with_a_shift(isa, classes, dtype):
    x = np.random.default_rng(0).integers(-9, 10, (50, classes)).astype(dtype)
    y = functional.softmax(x)
    np.testing.assert_allclose(y.sum(axis=1), 1, rtol=8 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(functional.softmax(x + 1000), y)


@pytest.mark.parametrize("classes", [1, 2, 3, 17, 32, 64, 65])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_row_does_not_depend_on_those_beside_it(isa, threads, classes, dtype):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 37, classes)).astype(dtype), rng.standard_normal((2, 37, classes)).astype(dtype)
    labels = rng.integers(0, classes, (2, 37))
    for name in ("softmax", "log_softmax"):
        forward, backward = getattr(functional, name), getattr(functional, f"{name}_backward")
        y = forward(x)
        dx = backward(dy, y)
        turned = forward(np.ascontiguousarray(x.transpose(0, 2, 1)), axis=1)
        tolerance = 64 * np.finfo(dtype).eps
        np.testing.assert_allclose(turned.transpose(0, 2, 1), y, rtol=tolerance, atol=tolerance)
        for i in (0, 15, 36):
            np.testing.assert_array_equal(forward(x[1:, i]), y[1:, i])
            np.testing.assert_array_equal(backward(dy[1:, i], y[1:, i]), dx[1:, i])
    for smoothing in (0.0, 0.1, 1.0):
        each = [functional.cross_entropy(x[:, i], labels[:, i], label_smoothing=smoothing) for i in range(37)]
        whole = functional.cross_entropy(x, labels, label_smoothing=smoothing)
        np.testing.assert_allclose(np.mean(each), whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_of_any_size(isa, dtype):
    x = np.array([1e30, 0.0, -1e30, -np.inf] * 5, dtype)
    np.testing.assert_array_equal(functional.softmax(x), np.array([1, 0, 0, 0] * 5, dtype) / 5)
    logs = functional.log_softmax(x)
    np.testing.assert_allclose(logs[:1], -np.log(5), rtol=1e-6)
    np.testing.assert_allclose(logs[1:4], [-1e30, -2e30, -np.inf], rtol=1e-6)
    for nothing in (np.full(20, -np.inf, dtype), np.array([np.inf, 0], dtype), np.array([np.nan, 0], dtype)):
        assert np.isnan(functional.softmax(nothing)).any()
        assert np.isnan(functional.log_softmax(nothing)).any()


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("axis", [-1, 0])
def test_softmax_against_finite_differences(isa, name, axis):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((3, 5)), rng.standard_normal((3, 5))
    forward = getattr(functional, name)
    dx = getattr(functional, f"{name}_backward")(dy, forward(x, axis=axis), axis=axis)
    assert_gradient(dx, lambda x: forward(x, axis=axis), x, dy)


@st.composite
def predictions(draw):
    """Draw logits and labels, integers of any type or probabilities."""
    shape = (draw(st.integers(0, 4)), *draw(st.lists(st.integers(1, 3), max_size=2)), draw(CLASSES))
    rng = np.random.default_rng(draw(SEEDS))
    logits = (5 * rng.standard_normal(shape)).astype(draw(DTYPES))
    if draw(st.booleans()):
        dtype = draw(st.sampled_from([np.int64, np.int8, np.uint8, np.uint64]))
        return logits, rng.integers(0, shape[-1], shape[:-1]).astype(dtype)
    weights = rng.random(shape) + 0.01
    return logits, (weights / weights.sum(axis=-1, keepdims=True)).astype(logits.dtype)


@settings(max_examples=30)
@given(case=predictions(), smoothing=st.sampled_from([0.0, 0.1, 1.0]))
def test_cross_entropy_equals_the_reference(isa, case, smoothing):
    logits, labels = case
    exact = labels if np.issubdtype(labels.dtype, np.integer) else labels.astype(np.float64)
    loss = functional.cross_entropy(logits, labels, label_smoothing=smoothing)
    want = reference.cross_entropy(logits.astype(np.float64), exact, label_smoothing=smoothing)
    tolerance = 32 * np.finfo(logits.dtype).eps
    np.testing.assert_allclose(loss, want, rtol=tolerance, atol=tolerance)
    assert loss.shape == ()
    assert loss.dtype == logits.dtype
    got = functional.cross_entropy_backward(logits, labels, label_smoothing=smoothing)
    want = reference.cross_entropy_backward(logits.astype(np.float64), exact, label_smoothing=smoothing)
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)
    assert got.dtype == logits.dtype


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("kind", ["integer", "probability", "weights"])
def test_cross_entropy_against_finite_differences(kind, smoothing):
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((2, 3, 4))
    labels = rng.integers(0, 4, (2, 3)) if kind == "integer" else rng.random((2, 3, 4))
    if kind == "probability":
        labels /= labels.sum(axis=-1, keepdims=True)
    dlogits = functional.cross_entropy_backward(logits, labels, label_smoothing=smoothing)
    loss = lambda z: functional.cross_entropy(z, labels, label_smoothing=smoothing)  # noqa: E731
    assert_gradient(dlogits, loss, logits, np.ones(()))


def test_cross_entropy_of_certain_and_of_impossible_predictions():
    logits = np.array([[1e30, 0, -np.inf]])
    assert functional.cross_entropy(logits, np.array([0])) == 0
    assert functional.cross_entropy(logits, np.array([1])) == pytest.approx(1e30)
    assert functional.cross_entropy(logits, np.array([2])) == np.inf
    assert functional.cross_entropy(logits, np.array([[1.0, 0, 0]])) == 0
    np.testing.assert_array_equal(functional.cross_entropy_backward(logits, np.array([2])), [[1, 0, -1]])
    assert functional.cross_entropy(logits, np.array([2]), label_smoothing=1.0) == np.inf  # of all classes alike


def test_no_predictions_cost_nothing():
    logits, labels = np.ones((0, 3), np.float32), np.ones(0, int)
    assert functional.cross_entropy(logits, labels) == 0
    assert functional.cross_entropy_backward(logits, labels).shape == (0, 3)


def test_any_memory_order_and_read_only_arrays_which_stay_as_they_are():
    rng = np.random.default_rng(0)
    x, dy, labels = rng.standard_normal((4, 5)), rng.random((4, 5)), rng.integers(0, 5, 4)

    def everything(x, dy, labels):
        y = functional.softmax(x)
        return (
            y,
            functional.softmax_backward(dy, y),
            functional.log_softmax(x, axis=0),
            functional.log_softmax_backward(dy, functional.log_softmax(x)),
            functional.cross_entropy(x, labels),
            functional.cross_entropy_backward(x, labels, label_smoothing=0.1),
            functional.cross_entropy(x, dy),
            functional.cross_entropy_backward(x, dy),
        )

    want = everything(x, dy, labels)
    for order in (
        np.asfortranarray,
        lambda a: np.repeat(a, 2, axis=0)[::2],
        lambda a: a.astype(a.dtype.newbyteorder()),
    ):
        others = [order(array) for array in (x, dy, labels)]
        for array in others:
            array.flags.writeable = False
        for got, expected in zip(everything(*others), want, strict=True):
            np.testing.assert_array_equal(got, expected)
        for array, original in zip(others, (x, dy, labels), strict=True):
            np.testing.assert_array_equal(array, original)


Z, L = np.ones((4, 3)), np.array([0, 1, 2, 0])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: functional.softmax(L), TypeError, "x must be a float32 or float64 array, got int64"),
        (lambda: functional.softmax(np.float64(1)), ValueError, "axis must be one of the 0 axes of x, got -1"),
        (lambda: functional.softmax(Z, axis=2), ValueError, "axis must be one of the 2 axes of x, got 2"),
        (lambda: functional.softmax(Z, axis=1.0), TypeError, r"axis must be an integer, got 1\.0"),
        (lambda: functional.softmax(Z, axis=True), TypeError, "axis must be an integer, got True"),
        (lambda: functional.softmax(Z[:, :0]), ValueError, r"at least one element along axis -1, got shape \(4, 0\)"),
        (lambda: functional.log_softmax(Z, axis=-3), ValueError, "axis must be one of the 2 axes of x, got -3"),
        (lambda: functional.softmax_backward(Z[:1], Z), ValueError, r"dy must have shape \(4, 3\) \(the shape of y\), got"),
        (lambda: functional.softmax_backward(Z.astype(np.float32), Z), TypeError, "dy must have the dtype of y, float64"),
        (lambda: functional.softmax_backward(Z, L), TypeError, "y must be a float32 or float64 array, got int64"),
        (lambda: functional.log_softmax_backward(Z[:1], Z), ValueError, r"dy must have shape \(4, 3\)"),
        (lambda: functional.log_softmax_backward(Z, Z, axis=5), ValueError, "axis must be one of the 2 axes of y, got 5"),
    ],
)  # fmt: skip
def test_errors_of_softmax(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("function", [functional.cross_entropy, functional.cross_entropy_backward])
@pytest.mark.parametrize(
    ("logits", "labels", "keywords", "error", "message"),
    [
        (Z.astype(int), L, {}, TypeError, "logits must be a float32 or float64 array, got int64"),
        (Z[0], L, {}, ValueError, r"logits must have shape \(N, ..., classes\), at least one class, got \(3,\)"),
        (Z[:, :0], L, {}, ValueError, r"at least one class, got \(4, 0\)"),
        (Z, L[:3], {}, ValueError, r"labels must have shape \(4,\) \(the shape of logits without the classes\), got \(3,\)"),
        (Z, L[:, None], {}, ValueError, r"labels must have shape \(4,\) .*got \(4, 1\)"),
        (Z, np.array([0, 1, 3, -1]), {}, ValueError, r"labels must be from 0 to 2, the classes of logits: labels\[2\] is 3"),
        (Z, np.array([0, -1, 3, 1]), {}, ValueError, r"labels\[1\] is -1"),
        (Z[None], np.array([[0, 1, 2, 7]]), {}, ValueError, r"labels\[\(0, 3\)\] is 7"),
        (Z, np.array([0, 1, 2, 2**63], np.uint64), {}, ValueError, r"labels\[3\] is 9223372036854775808"),
        (Z, Z[:1], {}, ValueError, r"labels must have shape \(4, 3\) \(the shape of logits\), got \(1, 3\)"),
        (Z, Z.astype(np.float32), {}, TypeError, "labels must be integers, or probabilities of dtype float64, got float32"),
        (Z, L > 0, {}, TypeError, "labels must be integers, or probabilities of dtype float64, got bool"),
        (Z, 2 * Z, {}, ValueError, r"labels must be probabilities, from 0 to 1: labels\[\(0, 0\)\] is 2"),
        (Z, Z * np.nan, {}, ValueError, r"labels\[\(0, 0\)\] is nan"),
        (Z, L, {"label_smoothing": 1.5}, ValueError, r"label_smoothing must be from 0 to 1, got 1\.5"),
        (Z, L, {"label_smoothing": float("nan")}, ValueError, "label_smoothing must be from 0 to 1, got nan"),
        (Z, L, {"label_smoothing": "0.1"}, TypeError, "label_smoothing must be a real number, got '0.1'"),
    ],
)  # fmt: skip
def test_errors_of_cross_entropy(function, logits, labels, keywords, error, message):
    with pytest.raises(error, match=message):
        function(logits, labels, **keywords)


def test_nothing_warns_of_overflow():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        functional.cross_entropy(np.array([[1e308, -1e308]]), np.array([0]))
        functional.softmax(np.array([[-1e308, 1e308]]))
