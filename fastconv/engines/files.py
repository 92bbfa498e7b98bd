"""What all engines load: an ONNX file with a chosen batch size, and arrays for its inputs."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastconv.onnx.errors import require_onnx
from fastconv.onnx.files import Tensor, read

#: The most numbers of an input: more are a typing error.
MOST_NUMBERS = 2**31

#: In the shape of a Reshape: as many as the array has that comes in.
SAME = 0


class Network(NamedTuple):
    """An ONNX file, arrays for its inputs by name, and the sizes of its open axes by theirs."""

    name: str
    path: Path
    inputs: dict[str, np.ndarray]
    sizes: dict[str, int]

    @property
    def batch(self) -> int:
        """How many samples the first input has."""
        first = next(iter(self.inputs.values()), np.zeros(1))
        return int(first.shape[0]) if first.ndim else 1


def network(
    path: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    name: str = "",
    batch: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> Network:
    """Return an ONNX file with random inputs.

    Parameters
    ----------
    path : path
    folder : path
        Where another file is written if this one fixes another batch.
    name : str
        What to call it; the file's where left out.
    batch : int, optional
        Where left out, what the file says, or 1.
    shapes : dict of tuple of int, optional
        Of inputs by name, without the batch, where the file leaves them open.

    Raises
    ------
    fastconv.onnx.OnnxImportError
        For what is not an ONNX file, or a broken one.
    ValueError
        For a shape that is not known, or does not fit.
    OSError, ImportError
        For a file that cannot be read, and where the onnx package is missing.
    """
    onnx = require_onnx()
    path, tensors = Path(path), read(path).inputs
    unknown = sorted(set(shapes or {}) - {tensor.name for tensor in tensors})
    if unknown:
        raise ValueError(f"{path} has no input {unknown[0]!r}; it has {', '.join(tensor.name for tensor in tensors)}")
    if batch is not None and any(tensor.shape and tensor.shape[0] not in (None, batch) for tensor in tensors):
        model = onnx.load(str(path))
        free_batch(model)
        name, path = name or path.name, Path(folder) / f"{path.stem}_any_batch.onnx"
        onnx.save(model, str(path))
        tensors = read(path).inputs
    rng, given = np.random.default_rng(0), shapes or {}
    inputs = {
        tensor.name: random(tensor, _shape(path, tensor, batch, given.get(tensor.name)), rng) for tensor in tensors
    }
    graph = onnx.load(str(path), load_external_data=False).graph
    return Network(name or path.name, path, inputs, _sizes(graph, inputs))


def _shape(path: Path, tensor: Tensor, batch: int | None, given: Sequence[int] | None) -> tuple[int, ...]:
    said = tensor.shape
    if said is None and given is None:
        raise ValueError(
            f"{path} does not say which shape its input {tensor.name!r} has: "
            f"give it, without the batch (--shape {tensor.name}=...)"
        )
    if said is None:
        said = (None,) * (1 + len(given or ()))
    if said == ():
        return ()
    rest = said[1:] if given is None else tuple(given)
    if len(rest) != len(said) - 1 or any(m not in (None, n) for n, m in zip(rest, said[1:], strict=True)):
        words = _words(said), _words(("N", *rest))
        raise ValueError(f"the input {tensor.name!r} of {path} has shape {words[0]}, which {words[1]} does not fit")
    if None in rest:
        raise ValueError(
            f"{path} leaves the shape of its input {tensor.name!r} open, {_words(said)}: "
            f"give it, without the batch (--shape {tensor.name}=...)"
        )
    shape = (batch or said[0] or 1, *(n for n in rest if n is not None))
    if math.prod(shape) > MOST_NUMBERS:
        raise ValueError(
            f"the input {tensor.name!r} of {path} would have the shape {_words(shape)}, which is too large"
        )
    return shape


def _words(shape: Sequence[Any]) -> str:
    return " x ".join("any" if n is None else str(n) for n in shape)


def random(tensor: Tensor, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Return an array for an input: normally distributed numbers, or zeros for integers, which may be places in something."""
    if tensor.dtype.kind == "f":
        return rng.standard_normal(shape).astype(tensor.dtype)
    return np.zeros(shape, tensor.dtype)


def _sizes(graph: Any, inputs: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Return the sizes of the axes that have a name instead of one."""
    sizes = {}
    for value in graph.input:
        if value.name in inputs:
            for dim, size in zip(value.type.tensor_type.shape.dim, inputs[value.name].shape, strict=False):
                if dim.dim_param:
                    sizes[dim.dim_param] = size
    return sizes


def free_batch(model: Any) -> None:
    """Leave the first axis of all inputs and outputs of an ONNX model open, which it fixes.

    A Reshape that makes an array of this batch of something else keeps what it was given instead.
    """
    onnx = require_onnx()
    graph = model.graph
    held = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in held]
    fixed = {value.type.tensor_type.shape.dim[0].dim_value for value in inputs if value.type.tensor_type.shape.dim}
    fixed.discard(0)  # open already
    used = {dim.dim_param for value in inputs for dim in value.type.tensor_type.shape.dim}
    name = next(name for name in ("N", *(f"N{number}" for number in range(len(used) + 1))) if name not in used)
    for value in (*inputs, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if dims and dims[0].dim_value in fixed:
            dims[0].dim_param = name
    del graph.value_info[:]  # says what shapes were
    shapes = _held_shapes(graph)
    varying = {value.name for value in inputs}
    for node in graph.node:
        if not varying.intersection(node.input):
            continue
        varying.update(node.output)
        if node.op_type != "Reshape":
            continue
        for attribute in node.attribute:  # of the first versions
            if attribute.name == "shape" and attribute.ints and attribute.ints[0] in fixed:
                attribute.ints[0] = SAME
        shape = shapes.get(node.input[1], []) if len(node.input) > 1 else []
        if shape and shape[0] in fixed:
            node.input[1] = f"{node.output[0]}:shape"  # other nodes may read the old one
            array = np.array([SAME, *shape[1:]], np.int64)
            graph.initializer.append(onnx.numpy_helper.from_array(array, node.input[1]))


def _held_shapes(graph: Any) -> dict[str, list[int]]:
    """Return the lists of integers that a graph holds."""
    numpy_helper, kind = require_onnx().numpy_helper, require_onnx().TensorProto.INT64
    found = {}
    tensors = [(tensor.name, tensor) for tensor in graph.initializer]
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value_ints":
                    found[node.output[0]] = list(attribute.ints)
                elif attribute.name == "value":
                    tensors.append((node.output[0], attribute.t))
    for name, tensor in tensors:
        if tensor.data_type == kind and len(tensor.dims) == 1:
            found[name] = numpy_helper.to_array(tensor).tolist()
    return found
