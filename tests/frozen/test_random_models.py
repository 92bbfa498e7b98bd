"""Whole random networks: what is frozen computes what the model computes."""

from __future__ import annotations

import numpy as np
from frozen_cases import assert_equal_models, trained
from hypothesis import given
from hypothesis import strategies as st

import fastconv
from fastconv.testing import strategies

SEEDS = st.integers(0, 1000)


@given(strategies.models(depth=6), SEEDS, st.sampled_from([np.float32, np.float64]), st.integers(0, 3))
def test_a_frozen_model_computes_what_the_model_computes(model, seed, dtype, batch):
    model = trained(model.astype(dtype), seed)
    assert_equal_models(fastconv.freeze(model), model, batch=batch, seed=seed)


@given(strategies.models(depth=6), SEEDS)
def test_saved_and_loaded_it_computes_the_same_bits(tmp_path_factory, model, seed):
    frozen = fastconv.freeze(trained(model, seed))
    path = tmp_path_factory.mktemp("frozen") / "model"
    frozen.save(path)
    x = np.random.default_rng(seed).standard_normal((2, *frozen.input_shapes[0])).astype(np.float32)
    again = fastconv.load_frozen(path)
    assert again(x).tobytes() == frozen(x).tobytes()
    assert repr(again) == repr(frozen)


@given(strategies.models(depth=6), SEEDS)
def test_passes_change_no_output_shape_and_no_value_is_read_before_it_is_written(model, seed):
    from fastconv.frozen.lower import lower
    from fastconv.frozen.passes import PASSES

    program = lower(trained(model, seed))
    wanted = [program.example_shapes()[value] for value in program.outputs]
    for each in PASSES:
        program = each(program)
        known = set(range(len(program.input_shapes)))
        for step in program.steps:
            assert known.issuperset(step.reads), each.__name__
            assert not known.intersection(step.writes)
            known.update(step.writes)
        assert [program.example_shapes()[value] for value in program.outputs] == wanted, each.__name__
