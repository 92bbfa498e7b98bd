"""From a file to a graph: parsed, validated and sorted before anything is built, since files may be broken or hostile."""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastconv.onnx.errors import OnnxImportError, require_onnx
from fastconv.onnx.functions import to_write_out, written_out
from fastconv.onnx.wire import slim

#: The oldest set of operators whose meaning is known here.
OLDEST_OPSET = 1

#: More axes than that no array has.
MOST_AXES = 32

#: Bytes of the largest message of protocol buffers.
MOST_PARSED = 2**31 - 1

#: Bytes of a file that has been read that may stay in memory.
MOST_MAPPED = 2**22

#: What runs: the dtypes of arrays that reach layers. Constants may be of others until they are cast.
DTYPES = tuple(map(np.dtype, ("float32", "float64", "int32", "int64", "bool")))

#: What an argument is, by its kind: numbers of onnx.AttributeProto.AttributeType. Tensors and graphs are more.
_ARGUMENTS: dict[int, Callable[[Any], Any]] = {
    1: lambda item: item.f,
    2: lambda item: item.i,
    3: lambda item: item.s.decode("utf-8", "replace"),
    6: lambda item: list(item.floats),
    7: lambda item: list(item.ints),
    8: lambda item: [text.decode("utf-8", "replace") for text in item.strings],
}
_TENSOR, _GRAPH = 4, 5

#: Those dtypes by the numbers of onnx.TensorProto.DataType; one that is not said is float32.
_NUMBERED = dict(zip((1, 11, 6, 7, 9, 0), (*DTYPES, DTYPES[0]), strict=True))

_STORED = {dtype: dtype.newbyteorder("<") for dtype in DTYPES}


class Node(NamedTuple):
    """One use of an operator: its name, what it reads and writes ("" for what is left out), and its arguments."""

    op: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    opset: int

    @property
    def key(self) -> str:
        """The name of the operator as the table of operators has it."""
        return self.op if self.domain in ("", "ai.onnx") else f"{self.domain}.{self.op}"

    @property
    def label(self) -> str:
        """How messages call it."""
        return f"node {self.name!r} ({self.key})" if self.name else f"the {self.key} that makes {self.outputs[:1]}"

    def get(self, name: str, default: Any = None) -> Any:
        """Return an argument, or what it is where it is left out."""
        return self.attributes.get(name, default)


class Block(NamedTuple):
    """A graph in an argument of a node: what it is given, what it reads of the graph around it, and what it returns."""

    nodes: list[Node]
    inputs: list[str]
    reads: list[str]
    outputs: list[str]
    constants: dict[str, np.ndarray]


class Tensor(NamedTuple):
    """What a file says about an input or output: its shape (None for what may vary, or altogether unknown) and dtype.

    `names` are what it calls sizes that may vary, "" where it does not.
    """

    name: str
    shape: tuple[int | None, ...] | None
    dtype: np.dtype[Any]
    names: tuple[str, ...] = ()


def _nothing(count: int) -> None:
    """Release nothing."""


class _Pages:
    """The memory into which a file is mapped: it does not count as ours for long where it has been read."""

    def __init__(self, content: mmap.mmap) -> None:
        self._content = content
        self._read = 0

    def __call__(self, count: int) -> None:
        self._read += count
        if self._read >= MOST_MAPPED:
            self._content.madvise(mmap.MADV_DONTNEED)  # what is needed again is read again
            self._read = 0


class File(NamedTuple):
    """A graph as it lies in a file, its nodes in an order in which each comes after what it reads.

    Large constants are views of the file, which is mapped into memory; `release` is told how many bytes of it have been read.
    """

    nodes: list[Node]
    inputs: list[Tensor]
    outputs: list[Tensor]
    constants: dict[str, np.ndarray]
    opset: int
    producer: str = ""
    release: Callable[[int], None] = _nothing


def read(source: Any) -> File:
    """Return the graph of a path, the bytes of a file, or a ModelProto."""
    onnx = require_onnx()
    folder: Path | None = None
    content: Any = b""
    data: dict[int, memoryview] = {}
    model = source if isinstance(source, onnx.ModelProto) else None
    if model is None:
        if isinstance(source, (bytes, bytearray, memoryview)):
            content = bytes(source)
        elif isinstance(source, (str, os.PathLike)):
            folder = Path(source).resolve().parent
            content = _mapped(source)
        else:
            raise TypeError(f"an ONNX model is a path, bytes or a ModelProto, got {type(source).__name__}")
    name = f"{os.fspath(source)}: " if folder else ""
    try:
        if model is None:
            model, data = _parsed(onnx, memoryview(content))
        file = _graph(onnx, model, folder, data)
    except OnnxImportError as error:
        raise OnnxImportError(f"{name}{error}") from error
    except Exception as error:  # what protobuf hands over may be of other types than the format says
        raise OnnxImportError(f"{name}the file is broken: {type(error).__name__}: {error}") from error
    if data and hasattr(content, "madvise"):
        file = file._replace(release=_Pages(content))
    return file


def _mapped(path: str | os.PathLike[str]) -> mmap.mmap | bytes:
    with open(path, "rb") as file:
        try:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (ValueError, OSError):  # an empty file, or none that can be mapped
            return file.read()


def _parsed(onnx: Any, content: memoryview) -> tuple[Any, dict[int, memoryview]]:
    """Return the message in a file, and the numbers of large initializers, which it lacks, by their places."""
    less = slim(onnx, content)
    model = _message(onnx, content if less is None else less.content, len(content))
    if less is not None and to_write_out(model):  # in the whole message
        model, less = _message(onnx, content, len(content)), None
    return model, {} if less is None else less.data


def _message(onnx: Any, content: memoryview | bytes, size: int) -> Any:
    """Return a message, of a file of so many bytes."""
    if len(content) > MOST_PARSED:
        raise OnnxImportError(
            f"this is not an ONNX file, whose graph may have at most {MOST_PARSED} bytes: {len(content)} of its {size} "
            f"are not in large tensors"
        )
    try:
        return onnx.ModelProto.FromString(bytes(content))
    except Exception as error:  # protobuf has an error class for each of its implementations
        raise OnnxImportError(f"this is not an ONNX file, or it is truncated ({size} bytes): {error}") from error


def _graph(onnx: Any, model: Any, folder: Path | None, data: dict[int, memoryview]) -> File:
    if not model.HasField("graph") or not model.graph.output:
        raise OnnxImportError("this is no ONNX model: it has no graph with outputs")
    opsets = {item.domain or "ai.onnx": item.version for item in model.opset_import}
    opset, newest = opsets.get("ai.onnx", 1), onnx.defs.onnx_opset_version()
    if not OLDEST_OPSET <= opset <= newest:
        raise OnnxImportError(
            f"the file uses version {opset} of the operators; known are {OLDEST_OPSET} to {newest} (onnx {onnx.__version__})"
        )
    if to_write_out(model):
        model = written_out(onnx, model)
    graph = model.graph
    if len(graph.sparse_initializer):
        raise OnnxImportError("the file has sparse tensors, which are not supported")
    constants: dict[str, np.ndarray] = {}
    for at, tensor in enumerate(graph.initializer):
        if tensor.name in constants:
            raise OnnxImportError(f"two initializers are called {tensor.name!r}")
        constants[tensor.name] = array_of(onnx, tensor, folder, data.get(at))
    _texts(constants)
    inputs = [_tensor(onnx, value, "input") for value in graph.input if value.name not in constants]
    nodes = [_node(onnx, node, opsets, folder) for node in graph.node]
    zipped = {name for node in nodes if node.key == "ai.onnx.ml.ZipMap" for name in node.outputs}
    outputs = [
        Tensor(_text(value.name), None, np.dtype(np.float32))
        if value.name in zipped
        else _tensor(onnx, value, "output")
        for value in graph.output
    ]
    ordered = in_order(nodes, [each.name for each in inputs], constants, [each.name for each in outputs])
    return File(
        ordered, inputs, outputs, constants, opset, " ".join((model.producer_name, model.producer_version)).strip()
    )


def _tensor(onnx: Any, value: Any, what: str) -> Tensor:
    if value.type.WhichOneof("value") not in ("tensor_type", None):
        kind = value.type.WhichOneof("value").removesuffix("_type")
        raise OnnxImportError(f"the {what} {value.name!r} is a {kind}, and only tensors are supported")
    kind = value.type.tensor_type
    shape: tuple[int | None, ...] | None = None
    names: tuple[str, ...] = ()
    if kind.HasField("shape"):
        names = tuple(str(dim.dim_param) for dim in kind.shape.dim)
        shape = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim)
        if len(shape) > MOST_AXES or any(n is not None and not 0 <= n < 2**31 for n in shape):
            raise OnnxImportError(f"the {what} {value.name!r} cannot have the shape {shape}")
    if not value.name:
        raise OnnxImportError(f"an {what} of the graph has no name")
    return Tensor(_text(value.name), shape, _dtype(onnx, kind.elem_type, f"the {what} {value.name!r}"), names)


def _text(value: Any) -> str:
    """Return a name; what is not text comes from protobuf as bytes."""
    if not isinstance(value, str):
        raise OnnxImportError(f"a name in the file is not text: {value!r:.80}")
    return value


def _texts(values: Any) -> tuple[str, ...]:
    """Return several of them."""
    texts = tuple(values)
    if not {str}.issuperset(map(type, texts)):
        for each in texts:
            _text(each)
    return texts


def _dtype(onnx: Any, number: int, what: str) -> np.dtype[Any]:
    if number in _NUMBERED:
        return _NUMBERED[number]
    try:
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(number))
    except (KeyError, TypeError, ValueError) as error:
        raise OnnxImportError(f"{what} has an unknown dtype, number {number}") from error


def array_of(onnx: Any, tensor: Any, folder: Path | None, data: memoryview | None = None) -> np.ndarray:
    """Return a tensor of a file as an array, which may be a read-only view of the file's bytes.

    `data` are its numbers where they are not in the message.
    """
    dims, plain = tuple(tensor.dims), _NUMBERED.get(tensor.data_type)
    raw = tensor.raw_data if data is None else data  # a copy each time it is asked for
    fits = plain is not None and len(dims) <= MOST_AXES and min(dims, default=0) >= 0
    if plain is None or not fits or tensor.data_location or tensor.HasField("segment"):
        return _unusual(onnx, tensor, dims, folder, raw)
    if len(raw) != math.prod(dims) * plain.itemsize:
        return _unusual(onnx, tensor, dims, folder, raw)
    array: np.ndarray = np.frombuffer(raw, _STORED[plain]).reshape(dims)
    return array if array.dtype == plain else array.astype(plain)


def _unusual(onnx: Any, tensor: Any, dims: tuple[int, ...], folder: Path | None, raw: bytes | memoryview) -> np.ndarray:
    """Return a tensor whose numbers are not simply its `raw` bytes."""
    what = f"the tensor {tensor.name!r}"
    dtype = _dtype(onnx, tensor.data_type, what)
    if len(dims) > MOST_AXES or any(n < 0 for n in dims):
        raise OnnxImportError(f"{what} cannot have the shape {dims}")
    if dtype.kind not in "fiub" or tensor.HasField("segment"):
        raise OnnxImportError(f"{what} holds strings or is in parts, which is not supported")
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return _external(tensor, dims, dtype, folder)
    if isinstance(raw, memoryview):
        tensor.raw_data = raw.tobytes()
    most = 2 * max(len(raw), 8 * tensor.ByteSize())  # packed bits and small integers take less
    if math.prod(dims) > most:
        raise OnnxImportError(f"{what} says that its shape is {dims}, and the file is shorter than that")
    try:
        return np.asarray(onnx.numpy_helper.to_array(tensor))
    except Exception as error:
        raise OnnxImportError(f"{what} of shape {dims} is broken: {error}") from error


def _external(tensor: Any, dims: tuple[int, ...], dtype: np.dtype[Any], folder: Path | None) -> np.ndarray:
    what = f"the tensor {tensor.name!r}"
    if folder is None:
        raise OnnxImportError(f"{what} lies in another file: load the model by its path, not from bytes")
    entries = {item.key: item.value for item in tensor.external_data}
    location = entries.get("location", "")
    try:
        place = (folder / location).resolve()
        offset, length = int(entries.get("offset") or 0), math.prod(dims) * dtype.itemsize
        said = int(entries.get("length") or length)
    except (OSError, ValueError, RuntimeError) as error:
        raise OnnxImportError(f"{what} does not say where it lies: {error}") from error
    if not location or not place.is_relative_to(folder) or not place.is_file():
        raise OnnxImportError(f"{what} should lie in {location!r}, which is not a file in the folder of the model")
    if said != length or offset < 0 or offset + length > place.stat().st_size:
        raise OnnxImportError(f"{what} of shape {dims} has {length} bytes, which are not in {location!r} from {offset}")
    if length == 0:
        return np.zeros(dims, dtype)
    return np.memmap(place, dtype.newbyteorder("<"), "r", offset, dims)


def _node(onnx: Any, node: Any, opsets: dict[str, int], folder: Path | None) -> Node:
    attributes: dict[str, Any] = {}
    reads, writes = _texts(node.input), _texts(node.output)
    for item in node.attribute:
        name, kind = _text(item.name), item.type
        if kind in _ARGUMENTS:
            attributes[name] = _ARGUMENTS[kind](item)
        elif kind == _TENSOR:
            attributes[name] = array_of(onnx, item.t, folder)
        elif kind == _GRAPH:
            attributes[name] = block = _block(onnx, item.g, opsets, folder)
            reads += tuple(name for name in block.reads if name not in reads)
        else:
            attributes[name] = None  # a type or the like: who has one is no operator that is known
    op, domain, name = _texts((node.op_type, node.domain, node.name))
    domain = domain if domain != "ai.onnx" else ""
    version = opsets.get(domain or "ai.onnx", 1)
    return Node(op, domain, name or "/".join(writes[:1]), reads, writes, attributes, version)


def _block(onnx: Any, graph: Any, opsets: dict[str, int], folder: Path | None) -> Block:
    if len(graph.sparse_initializer):
        raise OnnxImportError("the file has sparse tensors, which are not supported")
    constants = {_text(tensor.name): array_of(onnx, tensor, folder) for tensor in graph.initializer}
    inputs = [_text(value.name) for value in graph.input if value.name not in constants]
    outputs = [_text(value.name) for value in graph.output]
    nodes = [_node(onnx, node, opsets, folder) for node in graph.node]
    own = {"", *inputs, *constants, *(name for node in nodes for name in node.outputs)}
    read = dict.fromkeys(name for names in (*(node.inputs for node in nodes), outputs) for name in names)
    reads = [name for name in read if name not in own]
    return Block(in_order(nodes, [*inputs, *reads], constants, outputs), inputs, reads, outputs, constants)


def in_order(nodes: list[Node], inputs: list[str], constants: dict[str, np.ndarray], outputs: list[str]) -> list[Node]:
    """Return the nodes that outputs need, each after what it reads; refuse cycles and names that nothing makes."""
    known = {"", *inputs, *constants}
    if len(set(inputs)) < len(inputs):
        raise OnnxImportError("two inputs of the graph have one name")
    maker: dict[str, Node] = {}
    for node in nodes:
        for name in node.outputs:
            if name in maker or (name in known and name):
                raise OnnxImportError(f"{name!r} is made twice, again by {node.label}")
            if name:
                maker[name] = node
    ordered: list[Node] = []
    begun: set[int] = set()
    # nodes that wait for what they read, each for the next one, and what is still to be looked for
    path: list[tuple[Node | None, Iterator[str]]] = [(None, iter(outputs))]
    while path:
        reader, names = path[-1]
        for name in names:
            if name not in known:
                break
        else:
            path.pop()
            if reader is not None:
                ordered.append(reader)
                known.update(reader.outputs)
            continue
        if name not in maker:
            what = "an output of the graph" if reader is None else reader.label
            raise OnnxImportError(f"{name!r}, which {what} reads, is made by nothing")
        node = maker[name]
        if id(node) in begun:
            unknown = next(n for n in node.inputs if n not in known)
            raise OnnxImportError(f"the graph has a cycle through {node.label}, which reads {unknown!r}")
        begun.add(id(node))
        path.append((node, iter(node.inputs)))
    return ordered
