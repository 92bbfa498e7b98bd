"""State: what a layer keeps between passes (nothing), and what a file keeps of it (everything)."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from fastconv.layers import Layer
from fastconv.layers.base import ensure_built
from fastconv.layers.tree import collect, walk
from fastconv.model import Input, Model
from fastconv.saving import ModelFileError, load, load_model, save
from fastconv.testing.cases import Case, several
from fastconv.testing.checks.registry import check
from fastconv.testing.compare import require_all, require_same
from fastconv.testing.processes import require_known_elsewhere, run_elsewhere
from fastconv.testing.result import CheckFailed, CheckSkipped


@check("State")
def two_passes(case: Case) -> None:
    """Two passes forward and then both ways back, in either order, give what each gives by itself.

    A layer may be used twice in one model. What the way back needs lives in its closure, not on `self`.
    """
    other = case._replace(seed=case.seed + 1)
    passes = [(case, case.inputs()), (other, other.inputs())]
    built = case.layer()
    results = []
    for first, second in ((0, 1), (1, 0)):
        layer = copy.deepcopy(built)
        made = [each.forward(layer, xs) for each, xs in passes]
        found: dict[int, Any] = {}
        for at in (first, second):
            ys, backward = made[at]
            found[at] = case.back(layer, ys, backward, case.cotangents(ys)).arrays()
        results.append(found)
    layer = copy.deepcopy(built)
    for at, (each, xs) in enumerate(passes):
        ys, backward = each.forward(layer, xs)
        alone = case.back(layer, ys, backward, case.cotangents(ys)).arrays()
        for order, found in zip(("the same", "the opposite"), results, strict=True):
            suffix = f" of pass {at + 1} of two, after both ways back in {order} order,"
            require_all(found[at], alone, None, suffix)


@check("State")
def nothing_on_self(case: Case) -> None:
    """A pass leaves the attributes of the layer as they are.

    The closure is the place for what the way back needs, `buffers` the place for what training remembers. A table for each
    size of the image belongs into `functools.lru_cache`.
    """
    layer = case.layer()
    case.passed(layer, case.inputs())  # a model may seed its generator now
    before = {path: dict(vars(inner)) for path, inner in walk(layer)}
    other = case._replace(seed=case.seed + 1)
    other.passed(layer, other.inputs())
    for path, inner in walk(layer):
        for name, value in vars(inner).items():
            if name not in before[path] or before[path][name] is not value:
                where = f" of {path}" if path else ""
                raise CheckFailed(
                    f"a pass changes the attribute {name!r}{where}, which is now a {type(value).__name__}"
                )


def _model(case: Case, dtype: Any) -> Model:
    layer = case.layer(dtype)
    symbols = [Input(shape) for shape in case.shapes]
    return Model(symbols, layer(*symbols)).build().astype(dtype)


@check("State", once=True)
def save_and_load(case: Case) -> None:
    """A saved model comes back with the same arrays, and computes the same to the last bit.

    Register the class with a name, make all parameters in `build` and none in the constructor or in `forward`.
    """
    for dtype in (np.float32, np.float64):
        model, xs = _model(case, dtype), case.inputs(dtype)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.safetensors"
            model.save(path)
            again = load_model(path)
        for kind, word in (("params", "parameter"), ("buffers", "buffer")):
            ours, theirs = ({f"{word} {name!r}": a for name, a in getattr(m, kind).items()} for m in (model, again))
            require_all(theirs, ours, None, ", saved and loaded,")
        for y, z in zip(several(model(*xs)), several(again(*xs)), strict=True):
            require_same(z, y, "the output of the loaded model")


@check("State", once=True)
def fresh_process(case: Case) -> None:
    """A model file can be loaded in a new process that has not imported the package: fastconv finds it by its metadata.

    The package names the layer in `[project.entry-points."fastconv.layers"]` of its pyproject.toml.
    """
    model, xs = _model(case, np.float32), case.inputs(np.float32)
    require_known_elsewhere(model)
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model.safetensors")
        results = run_elsewhere(Path(folder), xs)
    for y, z in zip(several(model(*xs)), results, strict=True):
        require_same(z, y, "the output in a new process")


@check("State", once=True)
def strict_loading(case: Case) -> None:
    """A file with an array of another shape, one too few or one too many is refused, and the error names the array.

    So no parameter may change its name, shape or dtype after `build`.
    """
    model = _model(case, np.float32)
    arrays = {**model.params, **model.buffers}
    if not arrays:
        raise CheckSkipped("it has no parameters and no buffers")
    _require_as_built(case)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        model.save(path)
        tensors, metadata = load(path)
        name = next(iter(arrays))
        version = metadata.pop("version", None)
        del version  # `save` writes it again
        wrong = {
            "an array of another shape": {**tensors, name: np.zeros((*arrays[name].shape, 2), arrays[name].dtype)},
            "one array missing": {key: array for key, array in tensors.items() if key != name},
            "an array too many": {**tensors, "surplus": np.zeros(1, np.float32)},
        }
        for what, changed in wrong.items():
            save(path, changed, metadata)
            named = "surplus" if "surplus" in changed else name
            try:
                load_model(path)
            except ModelFileError as error:
                if named not in str(error):
                    raise CheckFailed(f"a file with {what} is refused without naming {named!r}: {error}") from error
            else:
                raise CheckFailed(f"a file with {what}, {named!r}, is loaded, expected a ModelFileError")


def _require_as_built(case: Case) -> None:
    def kinds(layer: Layer) -> dict[str, str]:
        return {
            key: f"{a.dtype} of shape {a.shape}"
            for kind in ("params", "buffers")
            for key, a in collect(layer, kind).items()
        }

    layer = copy.deepcopy(case.entry.layer)
    ensure_built(layer, case.shapes, np.random.default_rng(0))
    before = kinds(layer)
    for training in (True, False):
        each = case._replace(training=training)
        each.passed(layer, each.inputs(layer.dtype))
    after = kinds(layer)
    for name in sorted({*before, *after}):
        made, now = before.get(name, "not there"), after.get(name, "not there")
        if made != now:
            raise CheckFailed(f"the array {name!r} was made by build as {made}, and after a pass it is {now}")
