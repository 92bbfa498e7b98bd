"""From models to ONNX files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv.layers.symbol import Shape
from fastconv.model import Model
from fastconv.onnx.errors import OnnxExportError, require_onnx
from fastconv.onnx.writer import Tensor, Writer, plain_order
from fastconv.saving import write_atomically
from fastconv.unbatched import Unbatched
from fastconv.version import __version__

#: The versions of the operators that files can be for, and the one they are for where nothing is said.
OLDEST, USUAL = 13, 20


def save(model: Model, path: str | os.PathLike[str], *, opset: int = USUAL) -> None:
    """Write a model as an ONNX file, for inference: it takes and returns the same arrays, with any batch size.

    Parameters
    ----------
    model : Model
        Built.
    path : str or path
        An existing file is replaced once the new one is complete.
    opset : int
        The opset version, 13 or newer. Some layers need a newer one, and say so.

    Raises
    ------
    OnnxExportError
        For a layer without a counterpart in ONNX; the message names it. A layer of your own defines how it is written with a
        method ``to_onnx(self, writer, *inputs)``.
    ValueError, TypeError
        For a model that is not built, and for anything but a model.
    OSError
        Where the file cannot be written.
    """
    write_atomically(path, to_proto(model, opset=opset).SerializeToString())


def to_proto(model: Model, *, opset: int = USUAL) -> Any:
    """Return a model as a checked ``onnx.ModelProto``; raises what `save` raises."""
    onnx = require_onnx()
    if not isinstance(model, Model):
        raise TypeError(f"only a model can be saved, got {model!r:.200}: put a layer into a Sequential")
    if isinstance(opset, bool) or not isinstance(opset, int) or not OLDEST <= opset <= onnx.defs.onnx_opset_version():
        raise ValueError(f"opset must be from {OLDEST} to {onnx.defs.onnx_opset_version()}, got {opset!r}")
    _ = model.params  # which builds it, where its shape is known
    if not model.built:
        raise ValueError("the model is not built yet, so its shapes are unknown: call it, or build((28, 28, 1))")
    w = Writer(opset, model.dtype, single=isinstance(model, Unbatched), is_open=_is_open(model))
    w.layer = model
    inputs, outputs = (_whole if isinstance(model, Unbatched) else _batched)(w, model)
    graph = onnx.helper.make_graph(
        w.nodes,
        model.name or "model",
        [_info(onnx, name, tensor.dtype, shape) for name, tensor, shape in inputs],
        [_info(onnx, name, dtype, shape) for name, dtype, shape in outputs],
        [onnx.numpy_helper.from_array(array, name) for name, array in w.constants.items()],
    )
    proto = onnx.helper.make_model(
        graph,
        opset_imports=[onnx.helper.make_opsetid(domain, opset if not domain else 1) for domain in _domains(w)],
        producer_name="fastconv",
        producer_version=__version__,
        ir_version=onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", opset)]),
    )
    try:
        onnx.checker.check_model(proto, full_check=True)
    except Exception as error:
        raise OnnxExportError(f"the file would not be valid ONNX: {error}") from error
    return proto


def _is_open(model: Model) -> bool:
    if isinstance(model, Unbatched):
        return any(axis for item in model.named_inputs for axis in item.get("free", ()))
    return any(model.graph.free)


def _domains(w: Writer) -> list[str]:
    return ["", *sorted({node.domain for node in w.nodes} - {""})]


def _info(onnx: Any, name: str, dtype: Any, shape: Any) -> Any:
    return onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)


def _inputs(w: Writer, model: Model, shapes: Any) -> list[Tensor]:
    names = [w.unique(name or f"input_{at + 1}") for at, name in enumerate(model.input_names)]
    return [
        Tensor(name, tuple(shape), plain_order(len(shape)), dtype)
        for name, shape, dtype in zip(names, shapes, _input_dtypes(w, model), strict=True)
    ]


def _input_dtypes(w: Writer, model: Model) -> list[np.dtype[Any]]:
    """Return the dtypes of the inputs: as the model or a cast says, int64 where all readers take integers, or floats."""
    found = []
    for slot, (dtype, cast) in enumerate(zip(model.graph.dtypes, model.graph.casts, strict=True)):
        cast = dtype or cast
        readers = [(step.layer, at) for step in model.graph.steps for at, each in enumerate(step.reads) if each == slot]
        integers = bool(readers) and all(layer.traits.takes_integers(at) for layer, at in readers)
        found.append(np.dtype(cast) if cast not in (None, "float") else np.dtype(np.int64) if integers else w.dtype)
    return found


def _batched(w: Writer, model: Model) -> tuple[list[Any], list[Any]]:
    xs = _inputs(w, model, model.input_shapes)
    made = [w.plain(y) for y in w.write(model, xs, "")]
    ends = [*xs, *made]
    given, outputs = list[Any](), list[Any]()
    for at, (x, other) in enumerate(zip(ends, _at_other_sizes(w, model) or [x.shape for x in ends], strict=True)):
        name = x.name
        if at >= len(xs):
            name = w.unique(model.output_names[at - len(xs)] or f"output_{at - len(xs) + 1}")
            w.nodes.append(w.onnx.helper.make_node("Identity", [x.name], [name], name=w.unique("output")))
        free = [axis for axis, (n, m) in enumerate(zip(x.shape, other, strict=True)) if n != m]
        dims = ["N", *_dims(name, x.shape, {"free": free})]
        (given if at < len(xs) else outputs).append((name, x if at < len(xs) else x.dtype, dims))
    return given, outputs


def _at_other_sizes(w: Writer, model: Model) -> list[Shape] | None:
    """Return the shapes of all inputs and outputs for other sizes of what is open; None where the nodes depend on them."""
    graph = model.graph
    if not any(graph.free):
        return None
    again = Writer(w.opset, w.dtype, is_open=True)
    again.layer = model
    pairs = zip(model.input_shapes, graph.free, strict=True)
    xs = _inputs(again, model, [_doubled(shape, free) for shape, free in pairs])
    try:
        made = [again.plain(y) for y in again.write(model, xs, "")]
    except (OnnxExportError, ValueError):
        return None
    return [x.shape for x in (*xs, *made)] if _are_alike(w, again) else None


def _doubled(shape: Sequence[int], free: Sequence[int]) -> Shape:
    return tuple(2 * n if axis in free else n for axis, n in enumerate(shape))


def _are_alike(w: Writer, other: Writer) -> bool:
    """Return whether two writers have written the same nodes and constants."""
    same = other.nodes == w.nodes and other.constants.keys() == w.constants.keys()
    return same and all(np.array_equal(array, w.constants[name]) for name, array in other.constants.items())


def _whole(w: Writer, model: Any) -> tuple[list[Any], list[Any]]:
    """Write a model without a batch; sizes that are open stay so where the nodes do not depend on them."""
    inputs = model.named_inputs
    given, outputs = _written_whole(w, model, [tuple(item["shape"]) for item in inputs])
    is_open = any(item.get("free") for item in inputs)
    if is_open:
        again = Writer(w.opset, w.dtype, single=True, is_open=w.is_open)
        again.layer = model
        try:
            _written_whole(again, model, [_doubled(item["shape"], item.get("free", ())) for item in inputs])
            is_open = _are_alike(w, again)
        except (OnnxExportError, ValueError):
            is_open = False
    ends = [
        [(x.name, x, _dims(x.name, x.shape, item if is_open else {})) for x, item in zip(some, items, strict=True)]
        for some, items in ((given, inputs), (outputs, model.named_outputs))
    ]
    return ends[0], [(name, y.dtype, dims) for name, y, dims in ends[1]]


def _written_whole(w: Writer, model: Any, shapes: Sequence[Shape]) -> tuple[list[Tensor], list[Tensor]]:
    """Return the inputs and outputs of a model: a batch of one is put on before and taken off after what is inside."""
    dtypes = _input_dtypes(w, model.body) if model.body is not None else []
    given, xs = list[Tensor](), list[Tensor]()
    for item, shape in zip(model.named_inputs, shapes, strict=True):
        name = w.unique(str(item["name"]))
        dtype = dtypes[len(xs)] if item["used"] else w.dtype
        found = _as_said(Tensor(name, shape, plain_order(len(shape)), dtype), item.get("dtype"), w)
        given.append(found)
        if item["used"]:
            xs.append(found._replace(name=w.call("Unsqueeze", name, w.integers(0))))
    made = [w.plain(y) for y in w.write(model.body, xs, "")] if model.body is not None else []
    outputs = []
    for at, item in enumerate(model.named_outputs):
        called = w.unique(str(item["name"]))
        if "from" in item:
            y = made[item["from"]]
            w.nodes.append(
                w.onnx.helper.make_node("Squeeze", [y.name, w.integers(0)], [called], name=w.unique("output"))
            )
            outputs.append(y._replace(name=called))
        else:
            array = model.own("buffers")[f"output_{at}"]
            held = w.constant(array, "constant", array.dtype)
            w.nodes.append(w.onnx.helper.make_node("Identity", [held], [called], name=w.unique("output")))
            outputs.append(Tensor(called, array.shape, plain_order(array.ndim), array.dtype))
    return given, outputs


def _dims(name: str, shape: Sequence[int], item: dict[str, Any]) -> list[Any]:
    """Return a shape as the file says it: sizes that may be others have names."""
    return [f"{name}_{axis}" if axis in item.get("free", ()) else n for axis, n in enumerate(shape)]


def _as_said(x: Tensor, dtype: str | None, w: Writer) -> Tensor:
    """Return an input with the dtype that the model says it has, where it does; floats are those that its layers take."""
    if dtype is None or (dtype.startswith("float") and x.dtype.kind == "f"):
        return x
    return x._replace(dtype=w.dtype if dtype.startswith("float") else np.dtype(dtype))
