"""What every layer promises, run over every registered layer."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradients import assert_gradient
from layers.cases import ALL, CASES, IDS, Case, as_tuple, built, context, inputs

import fastconv.layers
from fastconv.branch import Branch
from fastconv.layers import Layer, from_spec, to_spec
from fastconv.layers.tree import collect
from fastconv.model import Input, Model
from fastconv.saving import load_model

every_layer = pytest.mark.parametrize(("name", "case"), ALL, ids=IDS)


def passed(layer: Layer, ctx: Any, xs: list[np.ndarray]) -> tuple[Any, ...]:
    return as_tuple(layer.forward(ctx, *xs)[0])


def cotangents(ys: tuple[np.ndarray, ...]) -> Any:
    rng = np.random.default_rng(3)
    dys = tuple(rng.standard_normal(y.shape).astype(y.dtype) if y.dtype.kind == "f" else np.zeros(y.shape) for y in ys)
    return dys if len(dys) > 1 else dys[0]


def of_floats(dxs: Any, xs: list[np.ndarray]) -> list[np.ndarray]:
    """Return the gradients of the inputs that are floats; those of integers are None or zero."""
    return [dx for dx, x in zip(as_tuple(dxs), xs, strict=True) if x.dtype.kind == "f"]


def test_the_table_has_every_layer() -> None:
    builtin = {entry.name for entry in fastconv.layers.entries() if entry.source == "fastconv"}
    assert builtin == set(CASES)


@every_layer
def test_output_shape_is_the_real_shape(name: str, case: Case) -> None:
    layer = built(case)
    declared = layer.output_shape(*case.shapes)
    declared = declared if isinstance(declared[0], tuple) else (declared,)
    for batch in (0, 1, 3):
        for training in (False, True):
            ys = passed(layer, context(training), inputs(case, batch))
            assert tuple(y.shape for y in ys) == tuple((batch, *shape) for shape in declared)


@every_layer
@pytest.mark.parametrize("training", [False, True])
def test_gradients_are_those_of_finite_differences(name: str, case: Case, training: bool) -> None:
    layer = built(case)
    xs = inputs(case)
    ys, backward = layer.forward(context(training), *xs)
    dys = cotangents(as_tuple(ys))
    dxs, gradients = backward(dys)
    frozen = copy.deepcopy(layer)

    def flat(ys: tuple[np.ndarray, ...]) -> np.ndarray:
        return np.concatenate([y.ravel().astype(np.float64) for y in ys])

    dy = flat(as_tuple(dys))
    for at, dx in enumerate(as_tuple(dxs)):
        if xs[at].dtype.kind != "f":
            continue

        def of_input(x: np.ndarray, at: int = at) -> np.ndarray:
            return flat(passed(copy.deepcopy(frozen), context(training), [*xs[:at], x, *xs[at + 1 :]]))

        assert_gradient(dx, of_input, xs[at], dy)
    params = collect(layer, "params")
    assert set(gradients) == set(params)
    for key, gradient in gradients.items():

        def of_param(value: np.ndarray, key: str = key) -> np.ndarray:
            other = copy.deepcopy(frozen)
            collect(other, "params")[key][...] = value
            return flat(passed(other, context(training), xs))

        assert_gradient(gradient, of_param, params[key], dy)


@every_layer
@pytest.mark.parametrize("batch", [0, 1])
def test_small_batches_go_back(name: str, case: Case, batch: int) -> None:
    layer = built(case)
    xs = inputs(case, batch)
    for training in (False, True):
        ys, backward = layer.forward(context(training), *xs)
        dxs, gradients = backward(cotangents(as_tuple(ys)))
        assert [dx.shape for dx in of_floats(dxs, xs)] == [x.shape for x in xs if x.dtype.kind == "f"]
        params = collect(layer, "params")
        assert {key: g.shape for key, g in gradients.items()} == {key: p.shape for key, p in params.items()}
        assert all(np.isfinite(g).all() for g in gradients.values())


@every_layer
def test_without_the_gradient_of_the_input_the_others_are_the_same(name: str, case: Case) -> None:
    layer = built(case)
    xs = inputs(case)
    expected = None
    for input_grad in (True, False):
        y, backward = layer.forward(context(input_grad=input_grad), *xs)
        _, gradients = backward(cotangents(as_tuple(y)))
        if expected is None:
            expected = gradients
        for key, gradient in gradients.items():
            np.testing.assert_array_equal(gradient, expected[key])


@every_layer
def test_config_comes_back_through_json(name: str, case: Case) -> None:
    layer = case.make().named("it")
    spec = json.loads(json.dumps(to_spec(layer), allow_nan=False))
    again = from_spec(spec)
    assert type(again) is type(layer)
    assert again.name == "it"
    assert to_spec(again) == spec
    xs = inputs(case, dtype=np.float32)
    for each in (layer, again):
        each.build(*case.shapes, rng=np.random.default_rng(5))
    for y, z in zip(passed(layer, context(), xs), passed(again, context(), xs), strict=True):
        np.testing.assert_array_equal(y, z)


@every_layer
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_saved_and_loaded_it_is_the_same_to_the_last_bit(name: str, case: Case, dtype: Any, tmp_path: Path) -> None:
    layer = built(case, dtype)
    symbols = [Input(shape) for shape in case.shapes]
    model = Model(symbols, layer(*symbols)).astype(dtype)
    model.save(tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert again.dtype == dtype
    for kind in ("params", "buffers"):
        ours, theirs = getattr(model, kind), getattr(again, kind)
        assert list(ours) == list(theirs)
        for key in ours:
            assert ours[key].dtype == theirs[key].dtype
            assert ours[key].dtype == dtype or ours[key].dtype.kind != "f"
            np.testing.assert_array_equal(ours[key], theirs[key])
    xs = inputs(case, dtype=dtype)
    for y, z in zip(as_tuple(model(*xs)), as_tuple(again(*xs)), strict=True):
        assert y.tobytes() == z.tobytes()


@every_layer
def test_copies_by_deepcopy_and_pickle_are_independent(name: str, case: Case) -> None:
    layer = built(case)
    xs = inputs(case)
    expected = passed(layer, context(False), xs)
    for again in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        for array in collect(layer, "params").values():
            array += 1
        for y, z in zip(expected, passed(again, context(False), xs), strict=True):
            np.testing.assert_array_equal(y, z)
        for array in collect(layer, "params").values():
            array -= 1


@every_layer
def test_inputs_gradients_and_parameters_are_not_changed(name: str, case: Case) -> None:
    layer = built(case)
    xs = inputs(case)
    params = {key: array.copy() for key, array in collect(layer, "params").items()}
    originals = [x.copy() for x in xs]
    for x in xs:
        x.flags.writeable = False
    for training in (False, True):
        ys, backward = layer.forward(context(training), *xs)
        dys = cotangents(as_tuple(ys))
        kept = [dy.copy() for dy in as_tuple(dys)]
        outputs = [y.copy() for y in as_tuple(ys)]
        for dy in as_tuple(dys):
            dy.flags.writeable = False
        backward(dys)
        for before, after in zip([*originals, *kept, *outputs], [*xs, *as_tuple(dys), *as_tuple(ys)], strict=True):
            np.testing.assert_array_equal(before, after)
    for key, array in collect(layer, "params").items():
        np.testing.assert_array_equal(array, params[key])
        assert not any(np.shares_memory(array, y) for y in as_tuple(ys))


@every_layer
def test_any_memory_order_gives_the_same(name: str, case: Case) -> None:
    layer = built(case)
    xs = inputs(case)
    strided = [np.repeat(x, 2, axis=-1)[..., ::2] for x in xs]
    turned = [np.asfortranarray(x) for x in xs]
    expected = passed(layer, context(), xs)
    for others in (strided, turned):
        for y, z in zip(expected, passed(layer, context(), others), strict=True):
            np.testing.assert_allclose(y, z, rtol=1e-14)


@every_layer
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_stays(name: str, case: Case, dtype: Any) -> None:
    layer = built(case, dtype)
    xs = inputs(case, dtype=dtype)
    ys, backward = layer.forward(context(), *xs)
    dxs, gradients = backward(cotangents(as_tuple(ys)))
    buffers = [array for array in collect(layer, "buffers").values() if array.dtype.kind == "f"]
    outputs = [y for y in as_tuple(ys) if y.dtype.kind == "f" or not layer.traits.discrete]
    for array in [*outputs, *of_floats(dxs, xs), *gradients.values(), *buffers]:
        assert array.dtype == dtype


@every_layer
def test_twice_forward_then_both_backward_in_either_order(name: str, case: Case) -> None:
    def passes(order: list[int]) -> list[Any]:
        layer = built(case)
        ways = []
        for seed in (0, 1):
            ys, backward = layer.forward(context(), *inputs(case, seed=seed))
            ways.append((backward, cotangents(as_tuple(ys))))
        results: dict[int, Any] = {}
        for at in order:
            backward, dys = ways[at]
            results[at] = backward(dys)
        return [results[0], results[1]]

    for (dxs, gradients), (other_dxs, other_gradients) in zip(passes([0, 1]), passes([1, 0]), strict=True):
        for dx, other in zip(as_tuple(dxs), as_tuple(other_dxs), strict=True):
            np.testing.assert_array_equal(dx, other) if dx is not None else None
        for key in gradients:
            np.testing.assert_array_equal(gradients[key], other_gradients[key])


def takes_integers(case: Case) -> bool:
    return case.make().traits.integers is True


@pytest.mark.parametrize(("name", "case"), [each for each in ALL if takes_integers(each[1])])
def test_integers_are_taken_where_the_layer_says_so(name: str, case: Case) -> None:
    y = built(case, np.float32)(*[x.astype(np.int64) for x in inputs(case, dtype=np.float32)])
    assert y.shape == (len(inputs(case)[0]), *built(case, np.float32).output_shape(*case.shapes))


@pytest.mark.parametrize(("name", "case"), [each for each in ALL if not takes_integers(each[1])])
def test_another_dtype_is_an_error_that_names_the_layer(name: str, case: Case) -> None:
    layer = built(case, np.float32).named("culprit")
    xs = inputs(case, dtype=np.float32)
    # a model leaves it to the first layer that takes no integers
    with pytest.raises(TypeError, match="layer '.*_1'" if isinstance(layer, Model) else "culprit"):
        layer(*[x.astype(np.int64) for x in xs])
    if (collect(layer, "params") or len(xs) > 1) and not case.integers:
        with pytest.raises(TypeError, match="culprit"):
            layer(xs[0].astype(np.float64), *xs[1:])


@pytest.mark.parametrize(
    ("name", "case"),
    [each for each in ALL if not each[1].takes_any_rank],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_another_rank_is_an_error_that_names_the_layer(name: str, case: Case) -> None:
    layer = built(case, np.float32).named("culprit")
    deeper = [x[:, None, None, None] for x in inputs(case, dtype=np.float32)]
    flat = [x.ravel() for x in inputs(case, dtype=np.float32)]
    with pytest.raises(ValueError, match="culprit"):
        layer(*deeper[:1], *inputs(case, dtype=np.float32)[1:])
    with pytest.raises((ValueError, TypeError), match="culprit"):
        layer(*flat)


@every_layer
def test_symbols_and_arrays_agree(name: str, case: Case) -> None:
    layer = case.make()
    made = layer(*[Input(shape) for shape in case.shapes])
    xs = inputs(case, dtype=np.float32)
    ys = as_tuple(layer(*xs))
    assert [symbol.shape for symbol in as_tuple(made)] == [y.shape[1:] for y in ys]


@every_layer
def test_repr_makes_it_again(name: str, case: Case) -> None:
    layer = case.make()
    if isinstance(layer, (Branch, Model)):
        assert repr(layer).startswith(name)
    else:
        again = eval(repr(layer), vars(fastconv.layers))
        assert to_spec(again) == to_spec(layer)


@every_layer
def test_multiply_adds_and_window_are_numbers(name: str, case: Case) -> None:
    layer = case.make()
    assert layer.multiply_adds(*case.shapes) >= 0
    windows = layer.window(*case.shapes)
    assert windows is None or all(span >= 1 and stride > 0 for span, stride in windows)
