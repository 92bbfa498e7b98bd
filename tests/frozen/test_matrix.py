"""Products of two values."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv
from fastconv import layers as L
from fastconv.frozen import matrix
from fastconv.model import Input, Model

SHAPES = [
    ((5, 7), (7, 4)),
    ((1, 1), (1, 1)),
    ((3, 17, 33), (3, 33, 16)),
    ((1, 5, 7), (3, 7, 4)),
    ((3, 5, 7), (1, 7, 4)),
    ((2, 3, 5, 7), (2, 1, 7, 33)),
    ((2, 1, 5, 7), (1, 3, 7, 2)),
]


def product(a, b):
    x, y = Input(a), Input(b)
    return Model([x, y], L.MatMul()(x, y)).build()


def arrays(batch, *shapes, dtype=np.float32):
    rng = np.random.default_rng(0)
    return [rng.standard_normal((batch, *shape)).astype(dtype) for shape in shapes]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("a", "b"), SHAPES)
def test_it_multiplies_as_the_layer(a, b, dtype, isa):
    model = product(a, b).astype(dtype)
    frozen = fastconv.freeze(model)
    assert [step.operation.kind for step in frozen.program.steps] == ["matmul"]
    for batch in (1, 3):
        xs = arrays(batch, a, b, dtype=dtype)
        np.testing.assert_allclose(frozen(*xs), model(*xs), rtol=0, atol=1e-5 if dtype == np.float32 else 1e-13)


@pytest.mark.parametrize("most", [0, matrix.MOST_PAIRS])
@pytest.mark.parametrize(("a", "b"), SHAPES)
def test_a_sample_does_not_know_the_others(a, b, most, monkeypatch):
    monkeypatch.setattr(matrix, "MOST_PAIRS", most)
    frozen = fastconv.freeze(product(a, b))
    xs = arrays(5, a, b)
    with fastconv.num_threads(2):
        together = frozen(*xs)
    for at in range(5):
        np.testing.assert_array_equal(frozen(*(x[at : at + 1] for x in xs))[0], together[at])


def test_attention_has_no_layer_that_is_not_compiled(tmp_path):
    q, k, v = (Input((2, 9, 8)) for _ in range(3))
    scores = L.Softmax()(L.MatMul()(q, L.Transpose((1, 3, 2))(k)))
    model = Model([q, k, v], L.ReLU()(L.MatMul()(scores, v))).build()
    frozen = fastconv.freeze(model)
    assert "layer" not in [step.operation.kind for step in frozen.program.steps]
    xs = arrays(2, (2, 9, 8), (2, 9, 8), (2, 9, 8))
    np.testing.assert_allclose(frozen(*xs), model(*xs), atol=1e-6)
    frozen.save(tmp_path / "attention.safetensors")
    np.testing.assert_array_equal(fastconv.load_frozen(tmp_path / "attention.safetensors")(*xs), frozen(*xs))
    steps = frozen.explain(*xs).steps
    assert steps[-2].algorithm == "product x 4"
    assert steps[-2].multiply_adds == 2 * 2 * 9 * 9 * 8


@pytest.mark.parametrize("shapes", [((2, 5, 7), (2, 6, 4)), ((2, 5, 7), (3, 7, 4)), ((2, 5), (2, 5))])
def test_what_are_no_matrices(shapes):
    with pytest.raises(ValueError, match=r"cannot be multiplied as matrices|a product takes"):
        matrix.MatMul().output_shape(*shapes)
