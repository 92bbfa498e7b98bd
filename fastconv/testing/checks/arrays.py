"""Arrays: memory order, arguments left alone, outputs of their own, dtypes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastconv.layers import Layer
from fastconv.layers.tree import collect
from fastconv.testing.cases import Arrays, Case, Passed
from fastconv.testing.checks.registry import check
from fastconv.testing.compare import FLOAT32, FLOAT64, require_all, require_close, require_same
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
        require_all(got.arrays(), want, FLOAT64, f" for an input {order}")


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
        raise CheckFailed(f"with a read-only gradient of the output the way back raises: {error}") from error
    require_all(got.arrays(), want, FLOAT64, " for read-only arrays")


@check("Arrays")
def arguments_unchanged(case: Case) -> None:
    """A pass changes neither its inputs, nor the parameters, nor the gradient it is given, nor the output it returned.

    Write `y = x * 2`, not `x *= 2`; in the way back copy `dy` before changing it. Evaluation changes no buffer either.
    """
    layer, xs = case.layer(), case.inputs()
    watched = {"the input": list(xs), "a parameter": list(collect(layer, "params").values())}
    if not case.training:
        watched["a buffer"] = list(collect(layer, "buffers").values())
    before = {what: [array.copy() for array in arrays] for what, arrays in watched.items()}
    ys, backward = case.forward(layer, xs)
    _require_kept(watched, before, "forward")
    dys = case.cotangents(ys)
    watched |= {"the output": list(ys), "the gradient that comes in": list(dys)}
    before = {what: [array.copy() for array in arrays] for what, arrays in watched.items()}
    case.back(layer, ys, backward, dys)
    _require_kept(watched, before, "the way back")


def _require_kept(watched: dict[str, list[np.ndarray]], before: dict[str, list[np.ndarray]], culprit: str) -> None:
    for what, arrays in watched.items():
        for array, copied in zip(arrays, before[what], strict=True):
            require_same(array, copied, f"{what}, which {culprit} changes,")


@check("Arrays")
def outputs_are_new(case: Case) -> None:
    """Outputs and gradients share no memory with parameters or with those of an earlier pass, nor outputs with the input.

    Who gets an array may write into it. Where the output is a view of the input, as in `Flatten`, declare
    `traits = Traits(shares_input=True)`.
    """
    layer, xs = case.layer(), case.inputs()
    state = {
        f"{word} {name!r}": array
        for kind, word in (("params", "parameter"), ("buffers", "buffer"))
        for name, array in collect(layer, kind).items()
    }
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
        xs = case.inputs(dtype)
        arrays = case.passed(layer, xs).arrays()
        for kind, word in (("params", "parameter"), ("buffers", "buffer")):
            arrays |= {
                f"{word} {name!r}": array for name, array in collect(layer, kind).items() if array.dtype.kind == "f"
            }
        for what, array in arrays.items():
            if array.dtype != dtype:
                raise CheckFailed(f"{what} is {array.dtype} for an input of {np.dtype(dtype)}")


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
    scale = max((float(np.abs(array).max(initial=0.0)) for array in want.values()), default=0.0)
    for what, array in want.items():
        if what in got:
            require_close(got[what], array, f"{what} in float32", FLOAT32, scale=scale)
