"""API: config, copies, shapes, the smallest inputs, and wrong ones."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv.layers import Layer, from_spec, to_spec
from fastconv.layers.base import is_layer
from fastconv.layers.calls import ensure_built, shape_of
from fastconv.layers.config import layers_in
from fastconv.layers.symbol import Shape
from fastconv.layers.symbol import several as several_shapes
from fastconv.layers.tree import collect, walk
from fastconv.testing.cases import Case, Passed, numbered, state_of
from fastconv.testing.checks.registry import check
from fastconv.testing.compare import require_all, require_same
from fastconv.testing.generators import global_generators_kept
from fastconv.testing.result import CheckFailed


def declared(layer: Layer, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    """Return the shapes of all outputs that a layer declares."""
    shape = shape_of(layer, shapes)
    return tuple(shape) if several_shapes(shape) else (shape,)


@check("API")
def config_round_trip(case: Case) -> None:
    """The config is JSON, and the layer made of it again is the same.

    Constructor arguments are the config: JSON values or layers, kept as they came. Do not change them in the constructor.
    """
    layer = copy.deepcopy(case.entry.layer)
    spec = json.loads(json.dumps(to_spec(layer), allow_nan=False))
    again = from_spec(spec)
    if type(again) is not type(layer):
        raise CheckFailed(f"the config makes a {type(again).__name__} again, expected a {type(layer).__name__}")
    if to_spec(again) != spec:
        raise CheckFailed(
            f"the layer made of its config has another config: {again.config!r}, expected {layer.config!r}"
        )
    fresh = copy.deepcopy(layer) if not layer.built else from_spec(spec)
    passes = [_fresh_pass(case, each) for each in (fresh, again)]
    require_all(passes[1].arrays(), passes[0].arrays(), None, " of the layer made of its config")


def _fresh_pass(case: Case, layer: Layer) -> Passed:
    ensure_built(layer, case.shapes, np.random.default_rng(case.seed))
    _require_all_known(layer)
    return case.passed(layer, case.inputs(layer.dtype))


def _require_all_known(layer: Layer) -> None:
    """Raise `CheckFailed` where a layer inside another is kept in an attribute that nobody else knows of."""
    known = {id(inner) for _, inner in walk(layer)}
    for _, inner in walk(layer):
        for name, value in vars(inner).items():
            for _, hidden in layers_in(value, "", is_layer):
                if id(hidden) not in known and state_of(hidden, "params", "buffers"):
                    raise CheckFailed(
                        f"the attribute {name!r} of {inner.label} holds a {type(hidden).__name__} with arrays that are neither "
                        f"trained nor saved nor cast: take it as an argument of the constructor, or let `children` return it"
                    )


@check("API")
def copies_are_independent(case: Case) -> None:
    """A deep copy computes the same, and changing the parameters of one does not change the other.

    What a layer needs belongs into `params`, `buffers` and its constructor arguments, not into a module or a class.
    """
    layer, xs = case.layer(), case.inputs()
    before = {name: array.copy() for name, array in collect(layer, "params").items()}
    twin = copy.deepcopy(layer)
    want = case.passed(copy.deepcopy(layer), xs).arrays()
    for array in collect(twin, "params").values():
        array += 1
    for name, array in collect(layer, "params").items():
        require_same(
            array, before[name], f"after the copy's parameters were changed, parameter {name!r} of the original"
        )
    require_all(case.passed(layer, xs).arrays(), want, None, " of a deep copy")


@check("API")
def build_is_repeatable(case: Case) -> None:
    """The first values come from the generator that `build` gets: the same seed gives the same parameters, in float32.

    Draw from `rng`, never from `numpy.random` itself, so that a seed decides the whole model.
    """
    if case.entry.layer.built:
        return
    made = []
    with global_generators_kept("build", "the generator that it is given"):
        for _ in range(2):
            layer = copy.deepcopy(case.entry.layer).astype(np.float32)
            ensure_built(layer, case.shapes, np.random.default_rng(case.seed))
            made.append(state_of(layer, "params", "buffers"))
    for name, array in made[0].items():
        if array.dtype.kind == "f" and array.dtype != np.float32:
            raise CheckFailed(f"{name} was built in {array.dtype}, expected float32: a model casts it where it must")
    require_all(made[1], made[0], None, ", built a second time with the same seed,")


@check("API", doubtful=True)
def output_shape(case: Case) -> None:
    """`output_shape` tells the shape that really comes out, for every size of the image and of the batch.

    Where shapes cannot be computed (a rank, a size, channels that do not fit), raise `ValueError` in `output_shape`.
    """
    try:
        _require_shapes(case)
    except CheckFailed:
        raise
    except Exception as error:
        raise CheckFailed(
            f"output_shape takes these inputs, and a pass raises {type(error).__name__}: {error}"
        ) from error


def _require_shapes(case: Case) -> Passed:
    layer, xs = case.layer(), case.inputs()
    want = tuple((case.batch, *shape) for shape in declared(layer, case.shapes))
    result = case.passed(layer, xs)
    got = tuple(y.shape for y in result.ys)
    if got != want:
        raise CheckFailed(f"the output has shape {_listed(got)}, output_shape says {_listed(want)}")
    floats = [x.dtype.kind == "f" for x in xs]  # who takes integers may return None for them
    shapes = [x.shape if differs else None for x, differs in zip(xs, floats, strict=True)]
    back = [
        np.shape(dx) if differs and dx is not None else None for dx, differs in zip(result.dxs, floats, strict=False)
    ]
    if back != shapes:
        raise CheckFailed(f"the gradient of the input has shape {_listed(back)}, expected {_listed(shapes)}")
    for name, array in result.arrays().items():
        if not np.isfinite(array).all():
            raise CheckFailed(
                f"{name} is not finite: declare where inputs make sense with traits = Traits(domain=(low, high)), "
                f"or guard the computation"
            )
    return result


def _listed(shapes: Any) -> str:
    return " and ".join(map(str, shapes))


@check("API")
def empty_batch(case: Case) -> None:
    """A batch of no images goes there and back: outputs of no images, gradients of zeros.

    Means over the batch divide by its size: look at the shape first.
    """
    result = _require_shapes(case._replace(batch=0))
    for name, gradient in result.gradients.items():
        if gradient.any():
            raise CheckFailed(
                f"the gradient of parameter {name!r} is {gradient.ravel()[0]} for no images, expected zeros"
            )


@check("API")
def batch_of_one(case: Case) -> None:
    """A single image keeps its batch axis.

    `squeeze()` without an axis is the usual culprit.
    """
    _require_shapes(case._replace(batch=1))


@check("API")
def one_pixel(case: Case) -> None:
    """Images of one pixel work, or `output_shape` refuses them with a `ValueError` that names the layer.

    A window larger than the image must be noticed before it is computed.
    """
    shapes = tuple((*(1 for _ in shape[:-1]), *shape[-1:]) for shape in case.shapes)
    if case.entry.layer.built:
        return
    small = case._replace(shapes=shapes)
    try:
        shape_of(copy.deepcopy(case.entry.layer), shapes)
    except Exception as error:
        _require_typed(error, case.entry.layer, f"an image of one pixel, {_listed(shapes)}")
        return
    _require_shapes(small)


@check("API")
def wrong_rank(case: Case) -> None:
    """An input with an axis too many or too few is refused, naming the layer, or computed as `output_shape` says.

    Raise `ValueError` where the rank is wrong: NumPy would often broadcast it to something else.
    """
    for change in (lambda x: x[:, None], lambda x: x.reshape(-1, *x.shape[2:]) if x.ndim > 1 else x):
        _refused_or_right(case, change, "another number of axes")


@check("API")
def wrong_channels(case: Case) -> None:
    """An input with other channels than the layer was built for is refused, naming the layer, or computed as it should be.

    A parameter of one channel broadcasts: compare `x.shape[-1]` with the parameter's, as `require_channels` does in
    `fastconv.layers.checks`.
    """
    _refused_or_right(case, lambda x: np.concatenate([x, x[..., :1]], axis=-1), "one channel more")
    if case.shapes[0] and case.shapes[0][-1] > 1:
        _refused_or_right(case, lambda x: np.ascontiguousarray(x[..., :1]), "one channel")


def _refused_or_right(case: Case, change: Any, what: str) -> None:
    layer = case.layer(np.float32)
    first, *rest = case._replace(batch=2).inputs(np.float32)
    xs = [change(first), *rest]
    shapes = [x.shape[1:] for x in xs]
    try:
        ys, _ = case.forward(layer, xs)
    except Exception as error:
        _require_typed(error, layer, f"{what}, an input of shape {xs[0].shape}")
        return
    try:
        want = tuple((len(xs[0]), *shape) for shape in declared(layer, shapes))
    except Exception as error:
        raise CheckFailed(
            f"an input of shape {xs[0].shape} is computed to {_listed(y.shape for y in ys)}, although output_shape refuses it "
            f"({error}): forward must raise a ValueError"
        ) from error
    got = tuple(y.shape for y in ys)
    if got != want:
        raise CheckFailed(
            f"built for {_listed(case.shapes)}, with {what} it makes {_listed(got)} of {_listed(x.shape for x in xs)}, and "
            f"output_shape says {_listed(want)}: raise a ValueError that names the shape expected"
        )


@check("API")
def wrong_dtype(case: Case) -> None:
    """Integers, complex numbers and a float of another width than the parameters are refused with a `TypeError`.

    `fastconv` sees to that before `forward` is called. A layer that declares `Traits(integers=True)` gets integers as they
    come: those of fewer bits give the same, or a `TypeError`.
    """
    layer = case.layer(np.float32)
    xs = case._replace(batch=2).inputs(np.float32)
    wrong: list[Any] = [np.float16, np.complex64]
    if case.traits.integers:
        _require_any_integers(case, layer)
    else:
        wrong.append(np.int64)
    if collect(layer, "params") and xs[0].dtype.kind == "f":
        wrong.append(np.float64)
    for dtype in wrong:
        try:
            case.forward(layer, [x.astype(dtype) for x in xs])
        except Exception as error:
            _require_typed(error, layer, f"an input of {np.dtype(dtype)}", TypeError)
        else:
            raise CheckFailed(f"an input of {np.dtype(dtype)} is computed, expected a TypeError")


def _require_any_integers(case: Case, layer: Layer) -> None:
    xs = case._replace(batch=2).inputs(np.float32)
    if any(x.dtype.kind == "f" or not x.size for x in xs):
        return
    want, _ = case.forward(copy.deepcopy(layer), xs)
    for dtype in (np.int32, np.int16, np.int8):
        if all(np.array_equal(x.astype(dtype), x) for x in xs):
            try:
                ys, _ = case.forward(copy.deepcopy(layer), [x.astype(dtype) for x in xs])
            except Exception as error:
                _require_typed(error, layer, f"an input of {np.dtype(dtype)}", TypeError)
            else:
                if case.traits.discrete:  # whose integers may have the bits of those that came
                    ys = tuple(y.astype(each.dtype) for y, each in zip(ys, want, strict=True))
                require_all(numbered("the output", ys), numbered("the output", want), None, f" for {np.dtype(dtype)}")


def _require_typed(error: Exception, layer: Layer, what: str, kinds: Any = (TypeError, ValueError)) -> None:
    expected = "a TypeError" if kinds is TypeError else "a ValueError"
    said = f"{type(error).__name__}: {error}"
    if not isinstance(error, kinds):
        raise CheckFailed(
            f"{what} raises {said}; expected {expected} that says what came and what was expected"
        ) from error
    names = {str(word) for _, each in walk(layer) for word in (each.label, type(each).__name__)}
    text = " ".join([str(error), *getattr(error, "__notes__", [])])
    if not any(name in text for name in names):
        raise CheckFailed(f"{what} raises {said}; expected the layer to be named") from error
