"""check_layer: its arguments, what it raises and returns, and what it tries where nobody says anything."""

from __future__ import annotations

import copy
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from programs import run_program
from testing.broken_layers import Plain, Sound
from testing.broken_passes import CachesOnSelf, ClipsGradients, HasItsOwnGenerator

from fastconv import layers as L
from fastconv.layers import register
from fastconv.layers.tree import collect
from fastconv.model import Input, Model
from fastconv.sequential import Sequential
from fastconv.testing import CHECKS, CheckResult, LayerCheckError, check_layer, strategies
from fastconv.testing.inference import entries_of, examples_of, shapes_for
from fastconv.testing.runner import run_check


def test_failures_are_raised_together_with_all_results():
    with pytest.raises(LayerCheckError, match="layer CachesOnSelf fails") as caught:
        check_layer(CachesOnSelf(), max_examples=5)
    assert [result.name for result in caught.value.results] == list(CHECKS)
    assert "two_passes (State): " in str(caught.value)


def test_what_many_checks_say_in_the_same_words_is_printed_once():
    @register("test.Unfinished")
    class Unfinished(Plain):
        def forward(self, ctx, x):
            raise ArithmeticError("not written yet")

    with pytest.raises(LayerCheckError) as caught:
        check_layer(Unfinished(), max_examples=2)
    text = str(caught.value)
    assert "batch_of_one (API): the same as config_round_trip" in text
    assert text.count("ArithmeticError: in layer Unfinished: not written yet") < 8


def test_failures_are_returned_or_warned_about_instead():
    results = check_layer(ClipsGradients(), max_examples=5, on_fail="return")
    assert {"backward_is_linear", "input_gradient"} == {result.name for result in results if result.status == "failed"}
    with pytest.warns(UserWarning, match="layer ClipsGradients fails"):
        warned = check_layer(ClipsGradients(), max_examples=5, on_fail="warn")
    assert [result.status for result in warned] == [result.status for result in results]


def test_expected_failures_are_none():
    reasons = {"backward_is_linear": "it clips on purpose", "input_gradient": "it clips on purpose"}
    results = check_layer(ClipsGradients(), max_examples=5, expected_failures=reasons)
    assert {r.name: r.message for r in results if r.status == "expected failure"} == reasons


def test_an_expected_failure_that_passes_is_reported():
    with pytest.raises(LayerCheckError, match=r"adjoint.*it was expected to fail \(because\) and passes"):
        check_layer(L.Linear(2), max_examples=3, expected_failures={"adjoint": "because"})


def test_a_skipped_check_stays_skipped_although_it_was_expected_to_fail():
    results = check_layer(Sound(), max_examples=2, expected_failures={"fresh_process": "because"})
    assert {r.name: r.status for r in results}["fresh_process"] == "skipped"


@pytest.mark.parametrize(
    ("keywords", "error", "match"),
    [
        ({"on_fail": "explode"}, ValueError, "on_fail must be .*got 'explode'"),
        (
            {"expected_failures": {"gradient": "x"}},
            ValueError,
            "names 'gradient', which is not a check; there are config_",
        ),
        ({"expected_failures": {"adjoint": ""}}, TypeError, "must be the reason in words, got ''"),
        ({"input_shapes": "big"}, TypeError, "input_shapes must be a shape .* got 'big'"),
        ({"max_examples": 0}, ValueError, "max_examples must be at least 1, got 0"),
    ],
)
def test_wrong_arguments(keywords, error, match):
    with pytest.raises(error, match=match):
        check_layer(Sound(), **keywords)


@pytest.mark.parametrize("layer", ["Conv2d", int, None])
def test_what_is_no_layer(layer):
    with pytest.raises(TypeError, match="layer must be a layer or a class of layers, got"):
        check_layer(layer)


def test_the_layer_itself_is_left_alone():
    layer = L.BatchNorm()
    before = copy.deepcopy(vars(layer))
    check_layer(layer, max_examples=3)
    assert vars(layer) == before


def test_a_built_layer_keeps_its_parameters_and_shapes():
    seen = set()

    @register("test.Spy")
    class Spy(Sound):
        def forward(self, ctx, x):
            seen.add((x.shape[1:], float(self.params["scale"][0])))
            return super().forward(ctx, x)

    layer = Spy()
    layer.build((4, 3), rng=np.random.default_rng(0))
    entries = entries_of(layer, (4, 3))
    assert entries[0].variants == [((4, 3),)]
    check_layer(layer, input_shapes=(4, 3), max_examples=3, expected_failures={}, on_fail="return")
    assert ((4, 3), float(layer.params["scale"][0])) in seen
    assert collect(layer, "params")["scale"].dtype == np.float32


def test_the_same_layer_gets_the_same_examples():
    drawn = []

    @register("test.Recorder")
    class Recorder(Plain):
        def forward(self, ctx, x):
            drawn.append(x.shape)
            return super().forward(ctx, x)

    check_layer(Recorder(), max_examples=4)
    first = list(drawn)
    drawn.clear()
    check_layer(Recorder(), max_examples=4)
    assert drawn == first


def test_shapes_are_found_for_every_layer_that_can_be_made_by_guessing():
    shapes = {
        entry.name: [e.typical for e in entries_of(L.get(entry.name))]
        for entry in L.entries()
        if entry.source == "fastconv" and entry.name not in ("Model", "Sequential", "Unbatched")
    }
    assert set(shapes["Conv1d"]) == {((6, 4),)}
    assert set(shapes["Conv3d"]) == {((6, 5, 7, 4),)}
    assert shapes["Concat"] == [((6, 5, 4), (6, 5, 4))]
    assert shapes["LayerNorm"] == [((6, 5, 4),)]


def test_shapes_of_a_layer_for_any_rank_have_all_ranks():
    _, variants = shapes_for(L.ReLU())
    assert {len(shapes[0]) for shapes in variants} == {1, 2, 3, 4}


def test_inputs_of_several_shapes_are_tried():
    _, variants = shapes_for(L.Concat())
    assert any(a != b for a, b in variants)


def test_a_layer_whose_shapes_nobody_finds():
    class Picky(Plain):
        def output_shape(self, shape):
            if shape != (11, 13, 9):
                raise ValueError("x must have shape (N, 11, 13, 9)")
            return shape

        def forward(self, ctx, x):
            self.output_shape(x.shape[1:])
            return super().forward(ctx, x)

    with pytest.raises(
        ValueError, match=r"no input shapes were found that output_shape of layer Picky takes: give input_shapes"
    ):
        check_layer(Picky())
    register("test.Picky")(Picky)
    results = check_layer(Picky(), input_shapes=[(11, 13, 9)], max_examples=1, on_fail="return")
    assert all(result.ok for result in results)


def test_a_layer_that_cannot_be_copied():
    class Locked(Plain):
        def __init__(self):
            super().__init__()
            self.lock = threading.Lock()

    with pytest.raises(ValueError, match=r"the first one tried: TypeError: cannot pickle '_thread.lock' object"):
        check_layer(Locked())


def test_a_class_that_nobody_can_make():
    class Demanding(Plain):
        def __init__(self, mode):
            if mode != "exact words":
                raise ValueError("mode must be exact words")

    with pytest.raises(ValueError, match=r"write a classmethod examples\(cls\).*mode must be exact words"):
        check_layer(Demanding)


def test_a_class_says_what_to_test():
    class Chosen(Sound):
        @classmethod
        def examples(cls):
            return [(cls(), [(3, 2)]), cls()]

    assert len(examples_of(Chosen)) == 2
    first, second = entries_of(Chosen)
    assert (first.typical, second.typical) == (((3, 2),), ((6, 5, 4),))


def test_a_network_with_kinks_inside_passes():
    x = Input((5, 5, 2))
    y = L.ReLU()(L.Conv2d(4, 3, padding=1)(x))
    y = L.Add()(y, L.HardSwish()(L.BatchNorm()(L.Conv2d(4, 3, padding=1)(y))))
    y = L.Linear(3)(L.Flatten()(L.MaxPool2d()(L.Dropout(0.2)(y))))
    results = check_layer(Model(x, y), max_examples=5)
    assert {r.name: r.status for r in results}["parameter_gradients"] == "passed"


@settings(max_examples=3, derandomize=True, database=None, suppress_health_check=[HealthCheck.nested_given])
@given(strategies.models(shape=(4, 3), depth=3))
def test_random_networks_pass(model):
    check_layer(model, max_examples=2)


def test_kinks_may_be_a_function_of_the_inputs():
    @register("test.Larger")
    class Larger(Plain):
        """The larger of two inputs."""

        traits = L.Traits(kinks=lambda a, b: np.abs(a - b).min())

        def output_shape(self, a, b):
            if a != b:
                raise ValueError("the inputs must have one shape")
            return a

        def forward(self, ctx, a, b):
            self.output_shape(a.shape[1:], b.shape[1:])
            if len(a) != len(b):
                raise ValueError("the inputs must have one batch size")
            return np.maximum(a, b), lambda dy: ((np.where(a > b, dy, 0), np.where(a > b, 0, dy)), {})

    status = {result.name: result.status for result in check_layer(Larger())}
    assert status["input_gradient"] == "passed"
    y, z = Input((4,)), Input((4,))
    check_layer(Model([y, z], Larger()(L.Linear(3)(y), L.Linear(3)(z))), max_examples=5)


def test_a_gradient_that_no_example_can_show_is_skipped():
    @register("test.Rough")
    class Rough(Plain):
        traits = L.Traits(kinks=lambda x: 0.0)

    results = {result.name: result for result in check_layer(Rough(), max_examples=3)}
    assert results["input_gradient"].status == "skipped"
    assert "no example was found that keeps away" in results["input_gradient"].message


def test_inputs_lie_where_the_layer_says():
    @register("test.Log")
    class Log(Plain):
        traits = L.Traits(domain=(0.1, 3.0))

        def forward(self, ctx, x):
            return np.log(x), lambda dy: (dy / x, {})

    check_layer(Log())


def test_what_fails_now_and_then_fails():
    check = CHECKS["input_gradient"]
    assert run_check(check, entries_of(HasItsOwnGenerator()), 25).status == "failed"


def test_a_model_takes_integers_where_a_layer_in_it_does():
    class Rows(Plain):
        traits = L.Traits(integers=True)

        def forward(self, ctx, x):
            return 0.5 * x, lambda dy: (None, {})

    x = np.ones((1, 3), np.int64)
    inner = Sequential([Rows(), L.Tanh()])
    assert Sequential([inner])(x).shape == (1, 3)
    with pytest.raises(TypeError, match=r"in layer 'sequential_1'.*must be a float32 or float64 array, got int64"):
        Sequential([Sequential([L.Tanh()])])(x)


def test_without_hypothesis_the_extra_is_named():
    run_program("""
import sys
sys.modules["hypothesis"] = None
from fastconv.layers import ReLU
from fastconv import testing
for use in (lambda: testing.check_layer(ReLU()), lambda: testing.strategies):
    try:
        use()
    except ImportError as error:
        assert "pip install 'fastconv[test]'" in str(error), error
    else:
        raise SystemExit("no error")
""")


def test_no_test_runner_is_needed():
    run_program("""
import sys
sys.modules["pytest"] = None
from fastconv.layers import ReLU
from fastconv.testing import check_layer
assert all(result.ok for result in check_layer(ReLU(), max_examples=2))
""")


def test_results_print_as_a_line():
    assert str(CheckResult("fork", "Concurrency", "passed")) == "passed   fork"
    assert not CheckResult("fork", "Concurrency", "unexpected pass").ok
    assert CheckResult("fork", "Concurrency", "expected failure").ok


@pytest.mark.parametrize("error", [KeyError("boo"), SystemExit(3)])
def test_a_layer_that_ends_the_program_is_a_failure(error):
    class Ends(Plain):
        @classmethod
        def examples(cls):
            raise error

        def forward(self, ctx, x):
            raise error

    with pytest.raises(ValueError, match=rf"examples of Ends cannot be had: {type(error).__name__}: "):
        check_layer(Ends)
    results = check_layer(Ends(), input_shapes=[(2,)], max_examples=2, on_fail="return")
    assert type(error).__name__ in {result.name: result.message for result in results}["output_shape"]
