"""The reference's activations, softmax, losses, normalizations and resizing."""

from __future__ import annotations

import numpy as np
import pytest
from gradients import assert_gradient
from scipy import ndimage, special

from fastconv import reference

ACTIVATIONS = {
    # formulas of SciPy and NumPy that are not ours, for moderate x
    "relu": (lambda x: x * (x > 0), {}),
    "relu6": (lambda x: np.minimum(x * (x > 0), 6), {}),
    "leaky_relu": (lambda x: np.where(x > 0, x, 0.2 * x), {"slope": 0.2}),
    "elu": (lambda x: np.where(x > 0, x, 0.7 * (np.exp(x) - 1)), {"alpha": 0.7}),
    "selu": (lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * (np.exp(x) - 1)), {}),
    "gelu": (lambda x: x * special.ndtr(x), {}),
    "silu": (lambda x: x * special.expit(x), {}),
    "hard_swish": (lambda x: x * np.clip(x / 6 + 0.5, 0, 1), {}),
    "hard_sigmoid": (lambda x: np.clip(x / 6 + 0.5, 0, 1), {}),
    "sigmoid": (special.expit, {}),
    "tanh": (lambda x: 2 * special.expit(2 * x) - 1, {}),
    "softplus": (lambda x: np.logaddexp(0, x), {}),
}
FORMS = [*((name, keywords) for name, (_, keywords) in ACTIVATIONS.items()), ("gelu", {"approximate": True})]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_equals_its_formula(name):
    formula, keywords = ACTIVATIONS[name]
    x = np.linspace(-8, 8, 161)
    np.testing.assert_allclose(getattr(reference, name)(x, **keywords), formula(x), rtol=1e-12, atol=1e-15)


def test_the_approximate_gelu_is_close_to_the_exact():
    x = np.linspace(-8, 8, 161)
    np.testing.assert_allclose(reference.gelu(x, approximate=True), reference.gelu(x), atol=5e-4)
    inner = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
    np.testing.assert_allclose(reference.gelu(x, approximate=True), 0.5 * x * (1 + np.tanh(inner)), atol=1e-12)


@pytest.mark.parametrize(("name", "keywords"), FORMS)
def test_activation_backward_is_the_gradient(name, keywords):
    x = np.linspace(-6.05, 6.05, 60)  # beside the kinks at 0, 3 and 6, not on them
    dy = np.random.default_rng(0).standard_normal(60)
    dx = getattr(reference, name + "_backward")(dy, x, **keywords)
    assert_gradient(dx, lambda x: getattr(reference, name)(x, **keywords), x, dy)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "keywords"), FORMS)
def test_activations_take_any_number(name, keywords, dtype):
    huge = np.finfo(dtype).max / 2  # selu makes it larger
    x = np.array([-np.inf, -huge, -1e4, -100, -30, -3, -0.0, 0, 3, 30, 100, 1e4, huge, np.inf, np.nan], dtype)
    y = getattr(reference, name)(x, **keywords)
    dx = getattr(reference, name + "_backward")(np.ones_like(x), x, **keywords)
    assert y.dtype == dx.dtype == dtype
    assert not np.isnan(y[:-1]).any()
    assert np.isnan(y[-1])
    assert np.isfinite(dx[:-1]).all()


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_softmax_equals_scipy(axis):
    x = np.random.default_rng(0).standard_normal((3, 4, 2)) * 10
    np.testing.assert_allclose(reference.softmax(x, axis=axis), special.softmax(x, axis=axis))
    np.testing.assert_allclose(reference.log_softmax(x, axis=axis), special.log_softmax(x, axis=axis))


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("axis", [-1, 0])
def test_softmax_backward_is_the_gradient(name, axis):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((3, 4)), rng.standard_normal((3, 4))
    forward = getattr(reference, name)
    dx = getattr(reference, name + "_backward")(dy, forward(x, axis=axis), axis=axis)
    assert_gradient(dx, lambda x: forward(x, axis=axis), x, dy)


def test_softmax_of_large_scores_does_not_overflow():
    x = np.array([1e30, 0.0, -1e30, -np.inf])
    np.testing.assert_array_equal(reference.softmax(x), [1, 0, 0, 0])
    np.testing.assert_array_equal(reference.log_softmax(x), [0, -1e30, -2e30, -np.inf])


def test_cross_entropy_by_hand():
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]))
    labels = np.array([0, 1])
    want = -(np.log(0.5) + np.log(0.8)) / 2
    np.testing.assert_allclose(reference.cross_entropy(logits, labels), want)
    np.testing.assert_allclose(reference.cross_entropy(logits, np.eye(3)[labels]), want)
    smooth = -(0.9 * np.log(0.5) + 0.1 * np.log([0.5, 0.25, 0.25]).mean())
    np.testing.assert_allclose(reference.cross_entropy(logits[:1], labels[:1], label_smoothing=0.1), smooth)
    assert reference.cross_entropy(np.zeros((0, 3)), np.zeros(0, int)) == 0
    assert reference.cross_entropy(np.array([[0.0, -np.inf]]), np.array([[1.0, 0.0]])) == 0


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("kind", ["integer", "probability", "weights"])
def test_cross_entropy_backward_is_the_gradient(smoothing, kind):
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((2, 3, 4))
    labels = rng.integers(0, 4, (2, 3)) if kind == "integer" else rng.random((2, 3, 4))
    if kind == "probability":
        labels /= labels.sum(axis=-1, keepdims=True)
    dlogits = reference.cross_entropy_backward(logits, labels, label_smoothing=smoothing)
    assert_gradient(
        dlogits, lambda z: reference.cross_entropy(z, labels, label_smoothing=smoothing), logits, np.ones(())
    )


@pytest.mark.parametrize("shape", [(5, 3), (2, 4, 3), (2, 3, 2, 3)])
def test_batch_norm_is_normal_and_its_backward_the_gradient(shape):
    rng = np.random.default_rng(0)
    x, scale, bias = rng.standard_normal(shape) * 3 + 5, rng.standard_normal(3), rng.standard_normal(3)
    dy = rng.standard_normal(shape)
    plain, mean, var = reference.batch_norm(x, np.ones(3), np.zeros(3), eps=0.0)
    rows = x.reshape(-1, 3)
    np.testing.assert_allclose(mean, rows.mean(axis=0))
    np.testing.assert_allclose(var, np.cov(rows.T, bias=True).diagonal())
    np.testing.assert_allclose(plain.reshape(-1, 3).std(axis=0), 1)
    dx, dscale, dbias = reference.batch_norm_backward(dy, x, scale, mean, var, eps=1e-3)
    assert_gradient(dx, lambda x: reference.batch_norm(x, scale, bias, eps=1e-3)[0], x, dy)
    assert_gradient(dscale, lambda scale: reference.batch_norm(x, scale, bias, eps=1e-3)[0], scale, dy)
    assert_gradient(dbias, lambda bias: reference.batch_norm(x, scale, bias, eps=1e-3)[0], bias, dy)


def test_batch_norm_with_given_statistics():
    rng = np.random.default_rng(0)
    x, scale, bias, dy = rng.standard_normal((4, 3)), rng.standard_normal(3), np.ones(3), rng.standard_normal((4, 3))
    given = {"mean": np.array([1.0, 2, 3]), "var": np.array([4.0, 9, 16])}
    y, mean, var = reference.batch_norm(x, scale, bias, eps=0.0, **given)
    np.testing.assert_allclose(y, (x - [1, 2, 3]) / [2, 3, 4] * scale + 1)
    assert mean is given["mean"]
    assert var is given["var"]
    gradients = reference.batch_norm_backward(dy, x, scale, mean, var, batch_statistics=False)
    assert_gradient(gradients[0], lambda x: reference.batch_norm(x, scale, bias, **given)[0], x, dy)
    assert_gradient(gradients[1], lambda scale: reference.batch_norm(x, scale, bias, **given)[0], scale, dy)


@pytest.mark.parametrize("shape", [(2, 4), (2, 3, 4), (2, 2, 3, 4)])
def test_layer_and_group_norm_backward_are_the_gradients(shape):
    rng = np.random.default_rng(0)
    x, scale, bias, dy = rng.standard_normal(shape), rng.standard_normal(4), rng.standard_normal(4), None
    dy = rng.standard_normal(shape)
    dx, dscale, dbias = reference.layer_norm_backward(dy, x, scale)
    assert_gradient(dx, lambda x: reference.layer_norm(x, scale, bias), x, dy)
    assert_gradient(dscale, lambda scale: reference.layer_norm(x, scale, bias), scale, dy)
    assert_gradient(dbias, lambda bias: reference.layer_norm(x, scale, bias), bias, dy)
    dx, dscale, dbias = reference.group_norm_backward(dy, x, 2, scale)
    assert_gradient(dx, lambda x: reference.group_norm(x, 2, scale, bias), x, dy)
    assert_gradient(dscale, lambda scale: reference.group_norm(x, 2, scale, bias), scale, dy)
    assert_gradient(dbias, lambda bias: reference.group_norm(x, 2, scale, bias), bias, dy)


def test_the_norms_agree_where_they_average_over_the_same():
    x, one, zero = np.random.default_rng(0).standard_normal((3, 4)), np.ones(4), np.zeros(4)
    np.testing.assert_allclose(reference.group_norm(x, 1, one, zero), reference.layer_norm(x, one, zero))
    np.testing.assert_allclose(reference.layer_norm(x, one, zero), reference.batch_norm(x.T, one[:3], zero[:3])[0].T)


def test_upsample_by_hand():
    x = np.array([[0.0, 4.0], [8.0, 12.0]]).reshape(1, 2, 2, 1)
    nearest = reference.upsample(x, (1, 2))[0, ..., 0]
    np.testing.assert_array_equal(nearest, [[0, 0, 4, 4], [8, 8, 12, 12]])
    linear = reference.upsample(x, 2, mode="bilinear")[0, ..., 0]
    np.testing.assert_array_equal(linear, [[0, 1, 3, 4], [2, 3, 5, 6], [6, 7, 9, 10], [8, 9, 11, 12]])


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_bilinear_equals_scipy(factor):
    x = np.random.default_rng(0).standard_normal(5)
    centres = (np.arange(5 * factor) + 0.5) / factor - 0.5
    want = ndimage.map_coordinates(x, [centres], order=1, mode="nearest")
    np.testing.assert_allclose(reference.upsample(x.reshape(1, 5, 1), factor, mode="bilinear")[0, :, 0], want)


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@pytest.mark.parametrize(("shape", "scale"), [((2, 3, 2), 2), ((1, 1, 3, 2), (3, 2)), ((1, 2, 1, 2, 1), 2)])
def test_upsample_backward_is_the_gradient(shape, scale, mode):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape)
    dy = rng.standard_normal(reference.upsample(x, scale).shape)
    dx = reference.upsample_backward(dy, shape, scale, mode=mode)
    assert_gradient(dx, lambda x: reference.upsample(x, scale, mode=mode), x, dy)
