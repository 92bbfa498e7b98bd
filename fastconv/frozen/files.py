"""Frozen models as files: safetensors, with the steps as JSON in the metadata, as model files (fastconv/saving.py).

Reading one runs no code but that of known operations and registered layers. An array that several steps share is written once.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from fastconv.frozen.foreign import Foreign
from fastconv.frozen.model import FrozenModel
from fastconv.frozen.operation import OPERATIONS, Array, Operation, decode, encode, fields
from fastconv.frozen.program import Program, Step
from fastconv.frozen.unbatched import FrozenUnbatched
from fastconv.layers.base import Layer
from fastconv.layers.calls import FLOATS, ensure_built
from fastconv.layers.config import from_spec, to_spec
from fastconv.layers.symbol import input_shape_of
from fastconv.layers.tree import collect
from fastconv.loading import describe
from fastconv.provenance import advice, provenance
from fastconv.saving import ModelFileError, load, save


def save_frozen(model: FrozenModel, path: str | os.PathLike[str]) -> None:
    """Write a frozen model to a file, at once or not at all.

    Raises
    ------
    ValueError
        For a layer of somebody else that is not registered.
    OSError
        Where the file cannot be written; a file that was there stays as it was.
    """
    program = model.program
    names: dict[int, str] = {}
    tensors: dict[str, Array] = {}

    def name_of(array: Array, name: str) -> str:
        if id(array) not in names:
            names[id(array)] = name
            tensors[name] = array
        return names[id(array)]

    steps = [_encoded(step, f"{at}", name_of) for at, step in enumerate(program.steps)]
    description: dict[str, Any] = {
        "input_shapes": [list(shape) for shape in program.input_shapes],
        "input_names": list(program.input_names),
        "free": [list(axes) for axes in program.free],
        "dtype": str(program.dtype),
        "steps": steps,
        "outputs": list(program.outputs),
        "label": program.label,
    }
    if isinstance(model, FrozenUnbatched):
        fixed = {str(at): name_of(array, f"output/{at}") for at, array in model.fixed.items()}
        description["arrays"] = {"inputs": model.named_inputs, "outputs": model.named_outputs, "fixed": fixed}
    origins = provenance({"layers": [step["layer"] for step in steps if "layer" in step]})
    save(path, tensors, {"frozen": description, **({"plugins": origins} if origins else {})})


def load_frozen(path: str | os.PathLike[str], *, allow_plugins: bool = True) -> FrozenModel:
    """Return the frozen model in a file that ``frozen.save`` wrote; its outputs are the same to the last bit.

    Parameters
    ----------
    path : str or path
    allow_plugins : bool
        As for `fastconv.load_model`.

    Raises
    ------
    ModelFileError
        For a file that is cut short, not ours, of another version, damaged, or holds a model that is not frozen; for an unknown
        layer (the message says which package had it), one of a package that is broken or not allowed.
    OSError
        Where the file cannot be read.

    Examples
    --------
    >>> import numpy as np, tempfile, os
    >>> from fastconv import Sequential, freeze
    >>> from fastconv.layers import Linear
    >>> frozen, x = freeze(Sequential([Linear(3)], input_shape=(2,))), np.ones((1, 2), np.float32)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     frozen.save(os.path.join(folder, "frozen.safetensors"))
    ...     again = load_frozen(os.path.join(folder, "frozen.safetensors"))
    >>> bool((again(x) == frozen(x)).all())
    True
    """
    tensors, metadata = load(path)
    if "frozen" not in metadata:
        kind = (
            "a model that is not frozen: fastconv.freeze(fastconv.load_model(path))" if "model" in metadata else "none"
        )
        raise ModelFileError(f"{os.fspath(path)}: load_frozen reads frozen models, and it holds {kind}")
    try:
        frozen = _decoded(metadata["frozen"], tensors, allow_plugins)
        if frozen.program.outputs:
            frozen.prepare()  # checks every shape and every constant
    except (
        Exception,
        SystemExit,
    ) as error:  # a description by somebody else may make a layer's constructor raise anything
        what = describe(error) if isinstance(error, SystemExit) else error
        said = advice(_specs(metadata["frozen"]), metadata.get("plugins"))
        raise ModelFileError(f"{os.fspath(path)}: {what}{said}") from error
    return frozen


def _encoded(step: Step, path: str, name_of: Any) -> dict[str, Any]:
    operation = step.operation
    written: dict[str, Any] = {"operation": operation.kind}
    if isinstance(operation, Foreign):
        written["layer"] = to_spec(operation.layer)
        written["shapes"] = [list(shape) for shape in operation.shapes]
        written["arrays"] = {
            kind: {
                name: name_of(array, f"{path}/{kind}/{name}") for name, array in collect(operation.layer, kind).items()
            }
            for kind in ("params", "buffers")
        }
    else:
        written["fields"] = {
            name: encode(value, lambda array, name=name: name_of(array, f"{path}/{name}"))  # type: ignore[misc]
            for name, value in fields(operation).items()
        }
    return {**written, "reads": list(step.reads), "writes": list(step.writes), "layers": list(step.layers)}


def _decoded(description: Any, tensors: dict[str, Array], allow_plugins: bool) -> FrozenModel:
    program = _program(description, tensors, allow_plugins)
    if "arrays" not in description:
        return FrozenModel(program)
    ends = description["arrays"]
    fixed = {int(at): tensors[name] for at, name in ends["fixed"].items()}
    if any(item.keys() - {"free", "dtype"} != {"name", "shape", "used"} for item in ends["inputs"]):
        raise ValueError("it does not say which arrays it takes")
    return FrozenUnbatched(program, ends["inputs"], ends["outputs"], fixed)


def _program(description: Any, tensors: dict[str, Array], allow_plugins: bool) -> Program:
    needed = {"input_shapes", "input_names", "dtype", "steps", "outputs", "label"}
    if not isinstance(description, dict) or needed - set(description):
        raise ValueError("its description is not that of a frozen model")
    dtype = np.dtype(description["dtype"])
    if dtype not in FLOATS:
        raise ValueError(f"a frozen model computes in float32 or float64, not {dtype}")
    shapes = tuple(input_shape_of(tuple(shape)) for shape in description["input_shapes"])
    names = tuple(name if name is None else str(name) for name in description["input_names"])
    if len(names) != len(shapes):
        raise ValueError(f"it has {len(shapes)} inputs and {len(names)} names for them")
    free = tuple(_values(axes) for axes in description.get("free", ()))
    if free and len(free) != len(shapes):
        raise ValueError(f"it has {len(shapes)} inputs and says of {len(free)} which axes are open")
    known = set(range(len(shapes)))
    steps = []
    for spec in description["steps"]:
        steps.append(_step(spec, known, tensors, dtype, allow_plugins))
        known.update(steps[-1].writes)
    outputs = _values(description["outputs"])
    if not (outputs or "arrays" in description) or not known.issuperset(outputs):
        raise ValueError(f"its outputs {outputs} are not all computed")
    return Program(shapes, names, dtype, tuple(steps), outputs, str(description["label"]), free=free)


def _step(spec: Any, known: set[int], tensors: dict[str, Array], dtype: np.dtype[Any], allow_plugins: bool) -> Step:
    reads, writes = _values(spec["reads"]), _values(spec["writes"])
    if not known.issuperset(reads) or known.intersection(writes) or len(set(writes)) != len(writes) or not writes:
        raise ValueError(f"a step reads {reads} and writes {writes}: it must read what is there and write what is not")
    operation: Operation
    if spec["operation"] == Foreign.kind:
        operation = _foreign(spec, tensors, dtype, allow_plugins)
    elif spec["operation"] in OPERATIONS:
        cls = OPERATIONS[spec["operation"]]
        floats, others = (
            {name: array for name, array in tensors.items() if array.dtype in dtypes}
            for dtypes in ((dtype,), (np.dtype(np.int64), np.dtype(bool)))
        )
        operation = cls(
            **{
                key: decode(value, others if key in cls.index_fields else floats)
                for key, value in spec["fields"].items()
            }
        )
    else:
        raise ValueError(f"there is no operation {spec['operation']!r:.80} in this version of fastconv")
    return Step(operation, reads, writes, tuple(map(str, spec["layers"])))


def _foreign(spec: Any, tensors: dict[str, Array], dtype: np.dtype[Any], allow_plugins: bool) -> Foreign:
    layer: Layer = from_spec(spec["layer"], allow_plugins=allow_plugins).astype(dtype)
    shapes = [input_shape_of(tuple(shape)) for shape in spec["shapes"]]
    ensure_built(layer, shapes, np.random.default_rng(0))
    for kind in ("params", "buffers"):
        names = spec["arrays"][kind]
        arrays = collect(layer, kind)
        if set(names) != set(arrays):
            raise ValueError(f"{layer.label} has the {kind} {sorted(arrays)}, and the file has {sorted(names)}")
        for name, array in arrays.items():
            found = tensors.get(names[name])
            if found is None or (found.shape, found.dtype) != (array.shape, array.dtype):
                got = "none" if found is None else f"{found.dtype} of shape {found.shape}"
                raise ValueError(
                    f"the array {name!r} of {layer.label} must be {array.dtype} of shape {array.shape}, the file has {got}"
                )
            array[...] = found
    return Foreign(layer, shapes)


def _values(numbers: Any) -> tuple[int, ...]:
    if not isinstance(numbers, list) or any(isinstance(n, bool) or not isinstance(n, int) or n < 0 for n in numbers):
        raise ValueError(f"values are numbers from 0 on, got {numbers!r:.80}")
    return tuple(numbers)


def _specs(description: Any) -> dict[str, Any]:
    steps = description.get("steps") if isinstance(description, dict) else None
    listed = steps if isinstance(steps, list) else []
    return {"layers": [step["layer"] for step in listed if isinstance(step, dict) and "layer" in step]}
