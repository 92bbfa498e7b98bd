"""Arrays: memory order, unchanged arguments, new outputs, dtypes."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np

from fastconv.layers import Layer
from fastconv.layers.tree import collect
from fastconv.testing.cases import Arrays, Case, Passed, numbered, state_of
from fastconv.testing.checks.registry import check
from fastconv.testing.compare import FLOAT32, largest, require_all, require_rounded, require_same
from fastconv.testing.result import CheckFailed


def _strided(x: np.ndarray) -> np.ndarray:
    return np.repeat(x, 2, axis=-1)[..., ::2]


def _backwards(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x[..., ::-1])[..., ::-1]


def _cut_out(x: np.ndarray) -> np.ndarray:
    inside = (slice(None), *[slice(1, -1)] * (x.ndim - 1))
    return np.pad(x, [(0, 0), *[(1, 1)] * (x.ndim - 1)])[inside]


_ORDERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "in Fortran order": np.asfortranarray,
    "with every second number of a larger array": _strided,
    "with channels stored backwards": _backwards,
    "cut out of a larger image": _cut_out,
}


@check("Arrays")
def memory_order(case: Case) -> None:
    """However inputs and the incoming gradient lie in memory, the same comes out.

    Index arrays, do not assume that they are contiguous; `numpy.ascontiguousarray` copies where they are not.
    """
    layer, xs = case.layer(), case.inputs()
    want = _fresh(case, layer, xs, lambda array: array).arrays()
    for order, changed in _ORDERS.items():
        got = _fresh(case, layer, tuple(map(changed, xs)), changed)
        require_rounded(got.arrays(), want, case.dtype, f" for an input {order}")


def _fresh(case: Case, layer: Layer, xs: Arrays, changed: Callable[[np.ndarray], np.ndarray]) -> Passed:
    ys, backward = case.forward(layer, xs)
    return case.back(layer, ys, backward, tuple(map(changed, case.cotangents(ys))))


@check("Arrays")
def read_only(case: Case) -> None:
    """Read-only inputs and gradients are enough, as memory-mapped files and shared arrays give them.

    Do not write into an argument, not even to put it back: another thread may read it.
    """
    layer, xs = case.layer(), case.inputs()
    want = case.passed(layer, xs).arrays()
    for x in xs:
        x.flags.writeable = False
    ys, backward = case.forward(layer, xs)
    dys = case.cotangents(ys)
    for dy in dys:
        dy.flags.writeable = False
    try:
        got = case.back(layer, ys, backward, dys)
    except ValueError as error:
        raise CheckFailed(f"with a read-only gradient of the output the backward pass raises: {error}") from error
    require_rounded(got.arrays(), want, case.dtype, " for read-only arrays")


@check("Arrays")
def arguments_unchanged(case: Case) -> None:
    """A pass changes neither its inputs, nor the parameters, nor the gradient it is given, nor the output it returned.

    Write `y = x * 2`, not `x *= 2`; in the backward pass copy `dy` before changing it. Evaluation changes no buffer either.
    """
    layer, xs = case.layer(), case.inputs()

    def held() -> dict[str, np.ndarray]:  # found anew: an array may have been replaced by another
        return numbered("the input", xs) | state_of(layer, "params", *([] if case.training else ["buffers"]))

    before = _copied(held())
    ys, backward = case.forward(layer, xs)
    _require_kept(held(), before, "forward")
    dys = case.cotangents(ys)
    others = numbered("the output", ys) | numbered("the gradient that comes in", dys)
    before |= _copied(others)
    case.back(layer, ys, backward, dys)
    _require_kept(held() | others, before, "the backward pass")


def _copied(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in arrays.items()}


def _require_kept(arrays: dict[str, np.ndarray], before: dict[str, np.ndarray], culprit: str) -> None:
    for name, array in arrays.items():
        if name not in before:
            raise CheckFailed(f"{culprit} makes {name}, which was not there: make it in build")
        require_same(array, before[name], f"{name}, which {culprit} changes,")


@check("Arrays")
def outputs_are_new(case: Case) -> None:
    """Outputs and gradients share no memory with parameters or with those of an earlier pass, nor outputs with the input.

    Who gets an array may write into it. Where the output is a view of the input, as in `Flatten`, declare
    `traits = Traits(shares_input=True)`.
    """
    layer, xs = case.layer(), case.inputs()
    state = state_of(layer, "params", "buffers")
    first = case.passed(layer, xs).arrays()
    others = tuple(x.copy() for x in xs)
    second = case.passed(layer, others).arrays()
    for what, array in second.items():
        for name, other in state.items():
            if np.shares_memory(array, other):
                raise CheckFailed(f"{what} shares memory with {name}: return a copy")
        for name, other in first.items():
            if np.shares_memory(array, other):
                raise CheckFailed(f"{what} shares memory with {name} of an earlier pass: make a new array for each")
        if what.startswith("the output") and not case.traits.shares_input:
            for x in others:
                if np.shares_memory(array, x):
                    raise CheckFailed(
                        f"{what} shares memory with the input: return a copy, or declare traits = Traits(shares_input=True)"
                    )


@check("Arrays")
def dtype_stays(case: Case) -> None:
    """float32 stays float32 and float64 stays float64, in outputs, gradients, parameters and buffers.

    A Python number keeps the dtype, `numpy.float64(2)` and integers that become floats do not.
    """
    for dtype in (np.float32, np.float64):
        layer = case.layer(dtype)
        arrays = case.passed(layer, case.inputs(dtype)).arrays()
        state = state_of(layer, "params", "buffers")
        arrays |= {what: array for what, array in state.items() if array.dtype.kind == "f"}
        for what, array in arrays.items():
            if array.dtype != dtype and not (case.traits.discrete and array.dtype.kind in "iub"):
                raise CheckFailed(f"{what} is {array.dtype} for an input of {np.dtype(dtype)}")
    _require_digits(case._replace(dtype=np.float64))


#: A step that float32 cannot see, and one that it can, relative to the number that moves.
_FINE, _COARSE = 1e-9, 3e-6

#: What float64 rounds, beside a number, and float32 does not see: a change by less is no answer to a step.
_ROUNDING = 1e-10


def _require_digits(case: Case) -> None:
    """Raise `CheckFailed` for what is float64 in name: it moves with what it is computed from no finer than float32."""
    layer = case.layer()
    still = _moved(case, layer, "", 0.0)
    for source in ("the inputs", "the parameters", "the incoming gradient"):
        fine, coarse = (_moved(case, layer, source, step) for step in (_FINE, _COARSE))
        for what, array in still.items():
            changed = np.count_nonzero(~np.isclose(coarse[what], array, rtol=_ROUNDING, atol=0))
            if np.array_equal(fine[what], array) and changed > array.size / 10:
                raise CheckFailed(
                    f"{what} is float64, and follows {source} no finer than float32: a step of {_FINE:g} leaves it as it "
                    f"is, one of {_COARSE:g} does not; something on the way is cast to float32"
                )


def _moved(case: Case, layer: Layer, source: str, step: float) -> dict[str, np.ndarray]:
    """Return the arrays of a pass whose `source` is moved by a relative step, which the same numbers decide each time."""
    rng = np.random.default_rng(case.seed + 6)

    def move(array: np.ndarray, which: str) -> np.ndarray:
        if which != source or array.dtype.kind != "f":
            return array
        return array * (1 - step * rng.uniform(0.5, 1.0, array.shape))

    layer = copy.deepcopy(layer)
    xs = tuple(move(x, "the inputs") for x in case.inputs())
    for array in collect(layer, "params").values():
        array[...] = move(array, "the parameters")
    ys, backward = case.forward(layer, xs)
    dys = tuple(move(dy, "the incoming gradient") for dy in case.cotangents(ys))
    return case.back(layer, ys, backward, dys).arrays()


@check("Arrays")
def float32_is_accurate(case: Case) -> None:
    """In float32 the same comes out as in float64, up to 1e-4 of the largest number.

    Subtract large numbers before, not after, they are squared or exponentiated; sum with `numpy.sum`, not in a loop.
    """
    results = []
    for dtype in (np.float32, np.float64):
        layer = case.layer(dtype)
        ys, backward = case.forward(layer, case.inputs(dtype))
        results.append(case.back(layer, ys, backward, case.cotangents(ys)).arrays())
    got, want = results
    require_all(got, want, FLOAT32, " in float32", scale=largest(want))
