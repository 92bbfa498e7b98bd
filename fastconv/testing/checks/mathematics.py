"""Mathematics, in float64: gradients against central differences, linearity, samples by themselves, modes, the reference."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np

from fastconv.layers import Context, Layer
from fastconv.layers.calls import run
from fastconv.layers.tree import collect, walk
from fastconv.testing.cases import Arrays, Case, several
from fastconv.testing.checks.registry import check
from fastconv.testing.compare import FLOAT64, require_all, require_close, require_same
from fastconv.testing.differences import require_slope
from fastconv.testing.generators import global_generators_kept, seeds_used
from fastconv.testing.result import CheckFailed, CheckSkipped
from fastconv.testing.smooth import same_piece


@check("Mathematics")
def input_gradient(case: Case) -> None:
    """The gradient of every input is the slope that central differences find along a random direction.

    Check the formula of `backward`, at the borders of the image too. Where the layer has kinks, declare them with
    `traits = Traits(kinks=(0.0,))`.
    """
    layer, xs = case.layer(), case.inputs()
    if all(x.dtype.kind != "f" for x in xs):
        raise CheckSkipped("its inputs are integers")
    result = case.passed(copy.deepcopy(layer), xs)
    for at, (x, dx) in enumerate(zip(xs, result.dxs, strict=True)):

        def moved(value: np.ndarray, at: int = at) -> tuple[Layer, Arrays]:
            return layer, (*xs[:at], value, *xs[at + 1 :])

        if x.dtype.kind != "f":
            continue
        what = f"the gradient of input {at + 1}" if len(xs) > 1 else "the gradient of the input"
        if dx is None:
            raise CheckFailed(f"{what} is None, although ctx.input_grad is true")
        _require_gradient(case, x, dx, moved, what)


@check("Mathematics")
def parameter_gradients(case: Case) -> None:
    """The gradient of every parameter is the slope that central differences find along a random direction.

    A parameter that is used twice gets the sum of both gradients; one that broadcasts gets the sum over where it went.
    """
    layer, xs = case.layer(), case.inputs()
    if not collect(layer, "params"):
        raise CheckSkipped("it has no parameters")
    gradients = case.passed(copy.deepcopy(layer), xs).gradients
    for name, param in collect(layer, "params").items():

        def moved(value: np.ndarray, name: str = name) -> tuple[Layer, Arrays]:
            other = copy.deepcopy(layer)
            collect(other, "params")[name][...] = value
            return other, xs

        _require_gradient(case, param.copy(), gradients[name], moved, f"the gradient of parameter {name!r}")


def _require_gradient(
    case: Case, at: np.ndarray, gradient: np.ndarray, moved: Callable[[np.ndarray], tuple[Layer, Arrays]], what: str
) -> None:
    dys = case.cotangents(case.forward(copy.deepcopy(moved(at)[0]), case.inputs())[0])

    def value(place: np.ndarray) -> float:
        layer, xs = moved(place)
        ys, _ = case.forward(copy.deepcopy(layer), xs)
        return float(sum(np.vdot(dy, y) for dy, y in zip(dys, ys, strict=True)))

    def smooth(*places: np.ndarray) -> bool:
        return same_piece(case, [moved(place) for place in places])

    require_slope(value, at, gradient, np.random.default_rng(case.seed + 5), what, smooth)


@check("Mathematics")
def backward_is_linear(case: Case) -> None:
    """The backward pass is linear in its argument: `backward(2 a - 3 b) = 2 backward(a) - 3 backward(b)`.

    It is the derivative at a point, so it must not clip, normalize, or look at the size of `dy`.
    """
    layer, xs = case.layer(), case.inputs()
    ys, _ = case.forward(copy.deepcopy(layer), xs)
    first, second = case.cotangents(ys, 1), case.cotangents(ys, 2)
    both = tuple(2 * a - 3 * b for a, b in zip(first, second, strict=True))
    a, b, got = (
        case.back(layer, *case.forward(copy.deepcopy(layer), xs), dys).arrays() for dys in (first, second, both)
    )
    for what in [what for what in got if what.startswith("the gradient")]:
        scale = float(max(np.abs(a[what]).max(initial=0), np.abs(b[what]).max(initial=0)))
        require_close(got[what], 2 * a[what] - 3 * b[what], f"{what} for 2 a - 3 b", FLOAT64, scale=scale)


@check("Mathematics")
def adjoint(case: Case) -> None:
    """For a layer that declares `linear`, the backward pass is the adjoint: `<dy, f(x) - f(0)> = <backward(dy), x>`.

    It holds to the last digits, where central differences only come close. Take the declaration out if there is more than a
    linear map and a constant.
    """
    if not case.traits.linear:
        raise CheckSkipped("it does not declare traits = Traits(linear=True)")
    layer, xs = case.layer(), case.inputs()
    floats = [x.dtype.kind == "f" for x in xs]
    at_zero, _ = case.forward(
        copy.deepcopy(layer), [np.zeros_like(x) if differs else x for x, differs in zip(xs, floats, strict=True)]
    )
    result = case.passed(layer, xs)
    dys = case.cotangents(result.ys)
    linear = [y - zero for y, zero in zip(result.ys, at_zero, strict=True)]
    there = sum(float(np.vdot(dy, y)) for dy, y in zip(dys, linear, strict=True))
    back = sum(float(np.vdot(dx, x)) for dx, x, differs in zip(result.dxs, xs, floats, strict=True) if differs)
    size = sum(float(np.vdot(np.abs(dy), np.abs(y))) for dy, y in zip(dys, result.ys, strict=True))
    if not abs(there - back) <= FLOAT64 * max(size, 1e-30):
        raise CheckFailed(
            f"<dy, f(x) - f(0)> is {there!r} and <backward(dy), x> is {back!r}, a difference of {there - back:.4g}"
        )


@check("Mathematics")
def samples_apart(case: Case) -> None:
    """What comes out for one image does not depend on the others of its batch.

    In evaluation each image alone gives the same; in training changing one image changes no other's output. Reduce over all
    axes but the first. Where a layer mixes images in training, declare `traits = Traits(mixes_samples=True)`.
    """
    case = case._replace(batch=3)
    layer, xs = case.layer(), case.inputs()
    if case.training and case.traits.mixes_samples:
        return
    ys, backward = case.forward(copy.deepcopy(layer), xs)
    dys = case.cotangents(ys)
    if case.training:
        fresh = case._replace(seed=case.seed + 1).inputs()
        others = tuple(np.concatenate([x[:1], other[1:]]) for x, other in zip(xs, fresh, strict=True))
        for y, other in zip(ys, case.forward(copy.deepcopy(layer), others)[0], strict=True):
            require_close(other[:1], y[:1], "the output for the first image, when the others change,", FLOAT64)
        return
    whole = case.back(layer, ys, backward, dys)
    for i in range(case.batch):
        each = slice(i, i + 1)
        part_ys, way = case.forward(copy.deepcopy(layer), [x[each] for x in xs])
        part = case.back(layer, part_ys, way, tuple(dy[each] for dy in dys))
        for name, alone, among in (("output", part.ys, whole.ys), ("gradient of the input", part.dxs, whole.dxs)):
            for got, want in zip(alone, among, strict=True):
                if got is not None:
                    require_close(got, want[each], f"the {name} for image {i} alone", FLOAT64)


@check("Mathematics")
def training_and_evaluation(case: Case) -> None:
    """Evaluation draws no random numbers and always gives the same; training draws from `ctx.rng` alone.

    So the same seed gives the same weights. Do not use `numpy.random` or a generator of your own.
    """
    layer, xs = case.layer(), case.inputs()
    if not case.training:
        with global_generators_kept("evaluation", "no random numbers"):
            try:
                ys = several(run(layer, Context(), xs)[0])  # no generator: who draws raises
            except RuntimeError as error:
                raise CheckFailed(f"evaluation without a generator raises: {error}") from error
            for y, second in zip(ys, case.forward(layer, xs)[0], strict=True):
                require_same(second, y, "the output of evaluation, a second time,")
        return
    with global_generators_kept("training", "ctx.rng"):
        want = case.passed(copy.deepcopy(layer), xs).arrays()
        again = case.passed(copy.deepcopy(layer), xs).arrays()
    require_all(again, want, None, " in training, with the same generator again,")
    state = _kept(layer)
    case.passed(layer, xs)
    _put_back(state)
    again = case.passed(layer, xs).arrays()
    require_all(again, want, None, " in training, with the same generator, parameters and buffers again,")
    _require_no_fixed_seed(case, layer, xs)


def _kept(layer: Layer) -> list[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """Return the dicts of arrays in a layer, each with a copy of what it holds."""
    owned = [inner.own(kind) for _, inner in walk(layer) for kind in ("params", "buffers")]
    return [(arrays, {name: array.copy() for name, array in arrays.items()}) for arrays in owned]


def _put_back(state: list[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]) -> None:
    for arrays, copies in state:
        arrays.clear()
        arrays.update(copies)


def _require_no_fixed_seed(case: Case, layer: Layer, xs: Arrays) -> None:
    """Raise `CheckFailed` where training alone makes a generator whose seed `ctx.rng` does not decide."""

    def seeds(*, training: bool, seed: int) -> list[str]:
        each = case._replace(training=training, seed=seed)
        return seeds_used(lambda: each.forward(copy.deepcopy(layer), xs))

    fixed = set(seeds(training=True, seed=case.seed)) & set(seeds(training=True, seed=case.seed + 1))
    fixed -= set(seeds(training=False, seed=case.seed))
    if fixed:
        raise CheckFailed(
            f"training makes a generator of its own in every pass, with the seed {min(fixed)}, which draws the same numbers "
            f"each time; expected ctx.rng"
        )


@check("Mathematics")
def unwanted_input_gradient(case: Case) -> None:
    """Where nobody wants the gradient of the input, those of the parameters are the same.

    With `ctx.input_grad` false, `backward` may return None for the input, and nothing else may change.
    """
    layer, xs = case.layer(), case.inputs()
    if not collect(layer, "params"):
        raise CheckSkipped("it has no parameters")
    want = case.passed(copy.deepcopy(layer), xs)
    got = case.passed(layer, xs, input_grad=False)
    for name, gradient in want.gradients.items():
        what = f"without the gradient of the input, that of parameter {name!r}"
        require_close(got.gradients[name], gradient, what, FLOAT64)


@check("Mathematics")
def equals_reference(case: Case) -> None:
    """In evaluation the layer computes what `reference(*inputs, **params)` does.

    The reference is NumPy that anybody can read, such as a function of `fastconv.reference`.
    """
    reference = case.entry.reference
    if reference is None:
        raise CheckSkipped("no reference was given to check_layer")
    case = case._replace(training=False)
    layer, xs = case.layer(), case.inputs()
    ys, _ = case.forward(layer, xs)
    want = several(reference(*(x.copy() for x in xs), **collect(layer, "params")))
    if len(want) != len(ys):
        raise CheckFailed(f"there are {len(ys)} outputs, the reference has {len(want)}")
    for y, expected in zip(ys, want, strict=True):
        require_close(y, np.asarray(expected), "the output, compared with the reference,", FLOAT64)
