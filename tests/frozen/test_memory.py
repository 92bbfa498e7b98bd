"""The arena: values that live at one time lie apart, and memory is used again."""

from __future__ import annotations

import numpy as np
import pytest
from frozen_cases import inputs, trained
from hypothesis import given
from hypothesis import strategies as st

import fastconv
from fastconv import layers as L
from fastconv import networks
from fastconv.frozen.lower import lower
from fastconv.frozen.memory import ALIGNMENT, Life, arrange
from fastconv.frozen.plan import Plan
from fastconv.frozen.program import Program
from fastconv.frozen.unweighted import Concat
from fastconv.model import Input, Model
from fastconv.sequential import Sequential
from fastconv.testing import strategies

LIVES = st.lists(
    st.tuples(st.integers(0, 1000), st.integers(0, 10), st.integers(0, 5)).map(lambda t: Life(t[0], t[1], t[1] + t[2])),
    max_size=12,
)


@given(LIVES)
def test_what_lives_together_lies_apart(lives):
    offsets, total = arrange(lives)
    for i, a in enumerate(lives):
        assert offsets[i] % ALIGNMENT == 0
        assert offsets[i] + a.size <= total
        for j, b in enumerate(lives[:i]):
            if a.size and b.size and a.first <= b.last and b.first <= a.last:
                assert offsets[i] + a.size <= offsets[j] or offsets[j] + b.size <= offsets[i]


@given(LIVES)
def test_it_is_never_larger_than_all_apart_nor_smaller_than_what_lives_at_once(lives):
    _, total = arrange(lives)
    rounded = [-(-life.size // ALIGNMENT) * ALIGNMENT for life in lives]
    at_once = [
        sum(r for r, life in zip(rounded, lives, strict=True) if life.first <= t <= life.last) for t in range(16)
    ]
    assert max(at_once) <= total <= sum(rounded)


def test_a_chain_takes_two_places():
    assert arrange([Life(100, t, t + 1) for t in range(6)]) == ([0, 128, 0, 128, 0, 128], 256)


@given(strategies.models(depth=8), st.booleans())
def test_every_value_is_whole_until_its_last_reader_has_run(model, compiled):
    """Each step writes its own number into its output; whoever reads finds the number of the step that wrote."""
    program: Program = lower(trained(model))
    if compiled:
        program = fastconv.freeze(model).program
    plan = Plan(program, [(2, *shape) for shape in program.input_shapes])
    arena = np.full(plan.arena_bytes, -1, np.int64)
    made: dict[int, np.ndarray] = {}
    for at, (step, read_shapes, *_) in enumerate(plan.steps):
        for value in step.reads:
            if value in made:
                np.testing.assert_array_equal(arena[span(plan, value)], made[value])
        for value in step.writes:
            if plan.root(value) not in plan.places:
                continue
            where = span(plan, value)
            before = arena[where]
            if not step.operation.is_view(*read_shapes):
                arena[where] = at
            if isinstance(step.operation, Concat):  # what is in its place already is not written again
                there = [span(plan, read) for read in step.reads if plan.views[read].width]
                written = np.isin(where, np.concatenate([each.ravel() for each in there])) if there else False
                arena[where] = np.where(written, before, at)
            made[value] = arena[where]


def span(plan, value):
    """Return where the bytes of a value lie in the arena, which may be some channels of every pixel of another."""
    view, size = plan.views[value], plan.dtype.itemsize
    width = view.width or plan.shapes[value][-1]
    rows = np.arange(0, view.size * width // max(view.shape[-1], 1), width)
    channels = np.arange(view.first * size, (view.first + view.shape[-1]) * size)
    return plan.places[plan.root(value)] + np.add.outer(rows * size, channels)


def test_activations_are_written_over_what_nobody_reads_any_more():
    model = trained(Sequential([L.MaxPool2d(1), L.Tanh(), L.Sigmoid(), L.MaxPool2d(1)], input_shape=(8, 8, 4)))
    assert fastconv.freeze(model).arena_bytes() == 8 * 8 * 4 * 4


def test_networks_need_far_less_than_the_sum_of_their_values():
    frozen = fastconv.freeze(networks.create("resnet20", (32, 32, 3), 10))
    explanation = frozen.explain(repeats=1)
    assert explanation.arena_bytes == frozen.arena_bytes() < explanation.separate_bytes / 4
    assert frozen.arena_bytes(batch=8) == 8 * frozen.arena_bytes()


def test_the_arena_is_used_again():
    frozen = fastconv.freeze(networks.create("lenet", (28, 28, 1), 10))
    (x,) = inputs(frozen)
    frozen(x)
    plan = list(frozen._plans.values())[-1]
    (workspace,) = plan._pool
    frozen(x)
    assert plan._pool == [workspace]
    assert not any(array is x for _, args in workspace.calls for array in args)  # nothing of the caller's is kept


@pytest.mark.parametrize("combine", [L.Add, L.Subtract, L.Multiply, L.Divide, L.Maximum, L.Minimum])
@pytest.mark.parametrize("shape", [(17,), (33,), (1, 1, 17), (3, 17), (5, 4, 19)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_combines_two_values_may_write_over_either(isa, combine, shape, dtype):
    rng = np.random.default_rng(0)
    x = rng.uniform(0.5, 2.0, (3, *shape)).astype(dtype)
    for first_is_made in (True, False):
        given, made = Input(shape), L.Softplus()
        pair = (made(given), given) if first_is_made else (given, made(given))
        model = Model(given, L.Tanh()(combine()(*pair))).astype(dtype)  # a step after it, or it would be the output
        np.testing.assert_allclose(fastconv.freeze(model)(x), model(x), rtol=1e-5)
