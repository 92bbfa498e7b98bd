"""State: what a layer keeps between passes (nothing), and what a file keeps of it (everything)."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from fastconv.layers import Context, Layer
from fastconv.layers.calls import ensure_built, run
from fastconv.layers.tree import walk
from fastconv.model import Input, Model
from fastconv.saving import ModelFileError, load, load_model, save
from fastconv.testing.cases import Case, several, state_of
from fastconv.testing.checks.registry import check
from fastconv.testing.compare import require_all, require_same
from fastconv.testing.contents import contents
from fastconv.testing.processes import require_known_elsewhere, run_elsewhere
from fastconv.testing.result import CheckFailed, CheckSkipped


@check("State")
def two_passes(case: Case) -> None:
    """Two passes forward and then both backward passes, in either order, give what each gives by itself.

    A layer may be used twice in one model. What the backward pass needs lives in its closure, not on `self`.
    """
    other = case._replace(seed=case.seed + 1, batch=case.batch + 1)
    passes = [(case, case.inputs()), (other, other.inputs())]
    built = case.layer()
    results = []
    for first, second in ((0, 1), (1, 0)):
        layer = copy.deepcopy(built)
        made = [each.forward(layer, xs) for each, xs in passes]
        found: dict[int, Any] = {}
        for at in (first, second):
            ys, backward = made[at]
            found[at] = passes[at][0].back(layer, ys, backward, passes[at][0].cotangents(ys)).arrays()
        results.append(found)
    layer = copy.deepcopy(built)
    for at, (each, xs) in enumerate(passes):
        ys, backward = each.forward(layer, xs)
        alone = each.back(layer, ys, backward, each.cotangents(ys)).arrays()
        for order, found in zip(("the same", "the opposite"), results, strict=True):
            suffix = f" of pass {at + 1} of two, after both backward passes in {order} order,"
            require_all(found[at], alone, None, suffix)


@check("State")
def nothing_on_self(case: Case) -> None:
    """A pass leaves the attributes of the layer and of its class as they are, and what is in them.

    The closure is the place for what the backward pass needs, `buffers` the place for what training remembers. A table for each
    size of the image belongs into `functools.lru_cache`.
    """
    layer = case.layer()
    case.passed(layer, case.inputs())  # a model may seed its generator now
    before = _attributes(layer)
    other = case._replace(seed=case.seed + 1, batch=case.batch + 1)
    other.passed(layer, other.inputs())
    for name, (value, held) in _attributes(layer).items():
        if name not in before or before[name][1] != held:
            raise CheckFailed(f"a pass changes {name}, which is now a {type(value).__name__}")


def _attributes(layer: Layer) -> dict[str, tuple[Any, Any]]:
    """Return every attribute of a layer, those inside and their classes, by what messages call it, with its `contents`."""
    found = {}
    for path, inner in walk(layer):
        where = f" of {path}" if path else ""
        for name, value in vars(inner).items():
            if name not in ("params", "buffers"):  # other checks look at these
                found[f"the attribute {name!r}{where}"] = value, contents(value)
        for cls in type(inner).__mro__:
            for name, value in vars(cls).items():
                if not name.startswith("__"):
                    found[f"{name!r} of the class {cls.__name__}"] = value, contents(value)
    return found


def _model(case: Case, dtype: Any) -> Model:
    """Return a model of the layer alone, built, after a step of training: what it remembers is in the file, too."""
    layer = case.layer(dtype)
    symbols = [Input(shape) for shape in case.shapes]
    model = Model(symbols, layer(*symbols)).build().astype(dtype)
    run(model, Context(True, np.random.default_rng(case.seed)), case._replace(batch=3).inputs(dtype))
    return model


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
        ours, theirs = (state_of(each, "params", "buffers") for each in (model, again))
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
    _require_as_built(case)
    model = _model(case, np.float32)
    arrays = {**model.params, **model.buffers}
    if not arrays:
        raise CheckSkipped("it has no parameters and no buffers")
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
        return {name: f"{a.dtype} of shape {a.shape}" for name, a in state_of(layer, "params", "buffers").items()}

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
            raise CheckFailed(f"{name} was made by build as {made}, and after a pass it is {now}")
