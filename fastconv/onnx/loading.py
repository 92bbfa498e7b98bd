"""From ONNX files to models."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np

import fastconv.onnx.operators  # noqa: F401 - which fills the table
from fastconv import layers as L
from fastconv.collector import collector_waits
from fastconv.layers.symbol import Symbol
from fastconv.model import Model
from fastconv.onnx.builder import Builder, Operand
from fastconv.onnx.counting import folded_open, running
from fastconv.onnx.errors import NeedsValueError, NotBatchedError, OnnxImportError
from fastconv.onnx.files import DTYPES, Block, File, Node, Tensor, read
from fastconv.onnx.folding import Room, fold, foldable
from fastconv.onnx.patterns import joined
from fastconv.onnx.planned import Sizes, planned
from fastconv.onnx.table import lookup
from fastconv.onnx.values import Constant, Parts, Value
from fastconv.unbatched import Unbatched

#: The memory that weights may take, in bytes.
MOST_BYTES = 4 * 2**30

#: Operators that compute nothing, so that it does not matter with what.
_MOVES = frozenset({"Cast", "CastLike", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})


@collector_waits()
def load(
    source: Any,
    *,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    constants: Mapping[str, Any] | None = None,
    max_bytes: int = MOST_BYTES,
) -> Model:
    """Return the model in an ONNX file: layers that train, save and run like any others.

    Its inputs and outputs are the file's, in the file's order, layout (channels first) and by its names; inside everything is
    channels last. Where the first axis of all inputs is the batch throughout, any batch may be given, whatever the file says.
    Otherwise the model is a `fastconv.unbatched.Unbatched` one, which takes the arrays as they are.

    Parameters
    ----------
    source : path, bytes, onnx.ModelProto, or what `fastconv.onnx.files.read` made of one of them
    input_shapes : dict of tuple of int, optional
        By the name of the input, for sizes that the file leaves open: the whole shape, with the batch. Other sizes may still be
        used later if nothing in the graph depends on them.
    constants : dict of array, optional
        Inputs of the file that are not inputs of the model: weights, or shapes given from outside.
    max_bytes : int
        The most memory that the weights may take.

    Returns
    -------
    Model
        Built. ``model.input_names`` and ``model.output_names`` are the file's.

    Raises
    ------
    OnnxImportError
        For files that are not ONNX, truncated, broken or hostile, and for unsupported operators: one error that lists
        them.
    OSError
        Where the file cannot be read.
    ImportError
        Where the onnx package is not installed.
    """
    file = source if isinstance(source, File) else read(source)
    try:
        return convert(file, input_shapes=input_shapes, constants=constants, max_bytes=max_bytes)
    except NeedsValueError as error:
        hint = (
            f": give it with load(..., constants={{{error.names[0]!r}: array}})"
            if error.names
            else ": give all of them with load(..., input_shapes={name: shape})"
        )
        raise OnnxImportError(f"{error}{hint}") from None
    except OnnxImportError as error:
        some = [each for each in file.inputs if each.shape and None in each.shape and each.dtype in DTYPES]
        if not some or input_shapes or error.unsupported:
            raise
        guessed = {name: shapes[0] for name, shapes in planned(some).items()}
        raise OnnxImportError(
            f"{error} (sizes that the file leaves open were taken to be {guessed}: give others with load(..., input_shapes=))"
        ) from error


def convert(
    file: File,
    *,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    constants: Mapping[str, Any] | None = None,
    max_bytes: int = MOST_BYTES,
) -> Model:
    """Return the model of a graph, with a batch where it has one; `NeedsValueError` for an operand that must be known."""
    fixed = {name: np.asarray(value) for name, value in (constants or {}).items()}
    unknown = sorted((set(fixed) | set(input_shapes or {})) - {each.name for each in file.inputs})
    if unknown:
        raise OnnxImportError(f"the file has no input {unknown[0]!r}; it has {[each.name for each in file.inputs]}")
    file = joined(file)
    require_operators(file, fixed)
    free = [each for each in file.inputs if each.name not in fixed]
    shapes = planned(free, input_shapes)
    if _may_be_batched(free, shapes):
        try:
            return _converted(file, fixed, shapes, batched=True, most_bytes=max_bytes)
        except (NotBatchedError, OnnxImportError):
            pass  # where it is the file that is wrong, the second attempt says so
        except NeedsValueError as error:
            if error.names:
                raise
    try:
        return _converted(file, fixed, shapes, batched=False, most_bytes=max_bytes)
    except NotBatchedError as error:  # an argument that nothing fits
        raise OnnxImportError("the file has a node whose axes are those of no tensor") from error


def _converted(
    file: File, fixed: Mapping[str, np.ndarray], shapes: Mapping[str, Sizes], *, batched: bool, most_bytes: int
) -> Model:
    """Return a model that computes with floats of one kind: of two in a file, casts at its ends take and return the other."""
    conversion = _Conversion(file, fixed, shapes, batched=batched, most_bytes=most_bytes)
    outputs = conversion.outputs()
    if len(conversion.floats) > 1:
        # what only casts bring into float64 and back needs none of it
        floats, dtypes = DTYPES[int(conversion.doubles)], [x.dtype for x in outputs]
        del conversion, outputs  # with their weights
        conversion = _Conversion(file, fixed, shapes, batched=batched, most_bytes=most_bytes, floats=floats)
        outputs = conversion.outputs(dtypes)
    return conversion.model(outputs)


def missing_operators(file: File, fixed: Mapping[str, Any]) -> list[tuple[Node, str | None]]:
    """Return the nodes whose operators nobody knows, and what else there is to say about each."""
    return _missing(file.nodes, {"", *file.constants, *fixed})


def _missing(nodes: Sequence[Node], known: set[str]) -> list[tuple[Node, str | None]]:
    missing: list[tuple[Node, str | None]] = []
    for node in nodes:
        if (node.op in ("Shape", "Size") and not node.domain) or (foldable(node) and known.issuperset(node.inputs)):
            known.update(node.outputs)
            continue
        function, why = lookup(node)
        if function is None:
            missing.append((node, why))
        for block in node.attributes.values():
            if isinstance(block, Block):
                missing.extend(_missing(block.nodes, known | set(block.constants)))
    return missing


def require_operators(file: File, fixed: Mapping[str, Any]) -> None:
    """Raise one `OnnxImportError` that lists every node whose operator is missing."""
    missing = missing_operators(file, fixed)
    if missing:
        listed = "".join(f"\n  {node.key}: node {node.name!r}{f' ({why})' if why else ''}" for node, why in missing)
        raise OnnxImportError(
            f"{len(missing)} of {len(file.nodes)} nodes have operators that are not supported:{listed}\n"
            f"Add one with @fastconv.onnx.register({_registered(missing[0][0])!r}), or as an entry point in fastconv.onnx_ops; "
            f"docs/onnx.md shows how.",
            [(node.key, node.name) for node, _ in missing],
        )


def _registered(node: Node) -> str:
    return node.key if node.domain not in ("", "ai.onnx") else f"ai.onnx.{node.op}"


def _may_be_batched(inputs: Sequence[Tensor], shapes: Mapping[str, Sizes]) -> bool:
    firsts = {shapes[each.name][0][:1] for each in inputs}
    return len(firsts) == 1 and firsts != {()} and not any(0 in a[1:] for a, _ in shapes.values())


class _Conversion:
    """One attempt: with a batch, or without."""

    def __init__(
        self,
        file: File,
        fixed: Mapping[str, np.ndarray],
        shapes: Mapping[str, Sizes],
        *,
        batched: bool,
        most_bytes: int,
        floats: np.dtype[Any] | None = None,
    ) -> None:
        self.file, self.batched = file, batched
        self.floats: set[np.dtype[Any]] = set()  # of tensors that layers make or take
        self.doubles = False  # whether anything is computed in float64
        self.inputs = [each for each in file.inputs if each.name in shapes]
        self.shapes = shapes
        batch = (1, 1)
        if batched:
            first = max(shapes[self.inputs[0].name][0][0], 1)
            batch = first, first + 1  # whatever the file says
        self.builder = Builder(batched=batched, batch=batch, most_bytes=most_bytes, release=file.release)
        self.builder.open_batch = any(each.shape is None or None in each.shape[:1] for each in self.inputs)
        for node in file.nodes:
            for name in node.inputs:
                self.builder.readers.setdefault(name, set()).add(node.op)
        for each in file.outputs:
            self.builder.readers.setdefault(each.name, set()).add("")
        self.builder.block = self._block
        self.builder.floats = floats
        self.values: MutableMapping[str, Value | Constant] = {
            **{name: Constant(array, None, True) for name, array in file.constants.items()},
            **{name: Constant(array) for name, array in fixed.items()},
        }
        self.room = self.builder.room = Room(sum(array.size for array in (*file.constants.values(), *fixed.values())))
        self.symbols = {each.name: self._input(each) for each in self.inputs}

    def _input(self, tensor: Tensor) -> Symbol:
        skip = int(self.batched)
        if 0 in self.shapes[tensor.name][0][skip:]:  # of an array without numbers everything is known
            self.values[tensor.name] = Constant(np.zeros(self.shapes[tensor.name][0], tensor.dtype))
        a, b = (tuple(max(n, 1) for n in shape[skip:]) for shape in self.shapes[tensor.name])
        dtype = None if tensor.dtype.kind == "f" else tensor.dtype.name
        free = [axis for axis, (n, m) in enumerate(zip(a, b, strict=True)) if n != m]
        symbol = Symbol(a, name=tensor.name, free=free, dtype=dtype)
        value = Value(symbol, tuple(range(len(a))), tensor.dtype, b, frozenset({tensor.name}))
        if self.builder.floats is not None and tensor.dtype.kind == "f" and tensor.dtype != self.builder.floats:
            self.builder.node = Node("Cast", "", tensor.name, (), (), {}, 1)
            value = self.builder.cast(value, self.builder.floats)
        self.values.setdefault(tensor.name, value)
        return symbol

    def outputs(self, dtypes: Sequence[np.dtype[Any]] | None = None) -> list[Value | Constant]:
        """Return the outputs of the file, floats as `dtypes` say, where given."""
        for node in self.file.nodes:
            self._convert(node)
        self.builder.node = Node("output", "", "output", (), (), {}, 1)
        outputs = [self._output(each) for each in self.file.outputs]
        used = frozenset().union(*(value.origins for value in outputs if isinstance(value, Value)))
        self.floats |= {each.dtype for each in self.inputs if each.name in used and each.dtype.kind == "f"}
        for tensor, value in zip(self.file.outputs, outputs, strict=True):
            if isinstance(value, Value) and value.dtype.kind == "f" and value.dtype not in DTYPES:
                raise OnnxImportError(
                    f"the output {tensor.name!r} is computed in {value.dtype}; models have float32 and float64"
                )
        return [
            self.builder.elementwise(L.Cast(dtype.name), x)
            if isinstance(x, Value) and dtype.kind == "f" and dtype != x.dtype
            else x
            for x, dtype in zip(outputs, dtypes or [x.dtype for x in outputs], strict=True)
        ]

    def model(self, outputs: Sequence[Value | Constant]) -> Model:
        """Return the model that makes the outputs."""
        model = self._batched(outputs) if self.batched else self._unbatched(outputs)
        self.builder.keep_arrays()
        floats = self.builder.floats or next(iter(self.floats), None)
        if floats == np.float64 or self.builder.floats is not None:
            model.astype(floats)
        return model.build()

    def _convert(self, node: Node) -> None:
        operands = [self.values[name] if name else None for name in node.inputs]
        self.builder.node, self.builder.operands = node, operands
        try:
            made = self._folded(node, operands)
            if made is None:
                function, _ = lookup(node)
                if function is None:
                    raise OnnxImportError(f"{node.label}: the operator is not supported")
                made = function(self.builder, node, *(running(self.builder, x) for x in operands))
        except (OnnxImportError, NotBatchedError, NeedsValueError):
            raise
        except Exception as error:  # an operator's function may meet anything in a file that somebody has made up
            raise OnnxImportError(f"{node.label} cannot be converted: {type(error).__name__}: {error}") from error
        found = made if isinstance(made, list) else [made]
        if len(found) < len(node.outputs) - node.outputs.count(""):
            raise OnnxImportError(f"{node.label}: output {len(found) + 1} is not supported")
        self._note_floats(node, {x.dtype for x in (*operands, *found) if isinstance(x, Value)})
        for name, value in zip(node.outputs, found, strict=False):
            if name:
                self.values[name] = value

    def _note_floats(self, node: Node, dtypes: set[np.dtype[Any]]) -> None:
        self.floats.update(each for each in dtypes if each.kind == "f")
        self.doubles = self.doubles or (DTYPES[1] in dtypes and node.op not in _MOVES)

    def _folded(self, node: Node, operands: Sequence[Value | Constant | None]) -> list[Constant] | None:
        """Return what a node makes of constants, or None where it must run."""
        if not foldable(node):
            return None
        constants = [x for x in operands if x is None or isinstance(x, Constant)]
        if len(constants) < len(operands):
            return None
        given = [x for x in constants if x is not None]
        varies = any(x.other is not None for x in given)
        if node.op == "Resize" and varies:
            return None  # what is learned for each place of an image has the size of an image while the model runs
        if any(x.open is not None for x in given):
            return folded_open(node, constants, self.room)
        first = fold(node, [None if x is None else x.array for x in constants], self.room)
        if not varies:
            learned = any(x.learned for x in given) and first[0].dtype.kind == "f"
            learned = learned or node.op == "ConstantOfShape"
            return [Constant(array, None, learned) for array in first]
        second = fold(node, [None if x is None else x.both[1] for x in constants], self.room)
        return [
            Constant(a, None if a.shape == b.shape and (a == b).all() else b)
            for a, b in zip(first, second, strict=True)
        ]

    def _block(self, block: Block, given: Mapping[str, Operand]) -> list[Operand]:
        """Return the outputs of the graph in a node, which may read what is around it."""
        before, node, operands = self.values, self.builder.node, self.builder.operands
        own = {name: Constant(array, None, True) for name, array in block.constants.items()}
        self.values = ChainMap({**own, **given}, before)
        try:
            for each in block.nodes:
                self._convert(each)
            return [self.values[name] for name in block.outputs]
        finally:
            self.values = before
            self.builder.node, self.builder.operands = node, operands

    def _output(self, tensor: Tensor) -> Value | Constant:
        value: Any = running(self.builder, self.values[tensor.name])
        if isinstance(value, Parts):
            raise OnnxImportError(f"output {tensor.name!r} is a sequence; a model returns arrays")
        if isinstance(value, Constant):
            self.builder.array(value, f"output {tensor.name!r}")
            return value
        return self.builder.plain(value)

    def _batched(self, outputs: Sequence[Value | Constant]) -> Model:
        symbols = [value.symbol for value in outputs if isinstance(value, Value)]
        if len(symbols) < len(outputs):
            raise NotBatchedError
        try:
            names = [each.name for each in self.file.outputs]
            return Model(list(self.symbols.values()), symbols, output_names=names)
        except ValueError as error:
            if "is not connected" in str(error):
                raise NotBatchedError from None
            raise OnnxImportError(str(error)) from error

    def _unbatched(self, outputs: Sequence[Value | Constant]) -> Model:
        made = [value for value in outputs if isinstance(value, Value)]
        used = frozenset().union(*(value.origins for value in made))
        body = Model([self.symbols[n] for n in self.symbols if n in used], [v.symbol for v in made]) if made else None
        inputs = [
            {
                "name": each.name,
                "shape": [max(n, 1) for n in self.shapes[each.name][0]],
                "used": each.name in used,
                "dtype": each.dtype.name,
                **_free(self.symbols[each.name].free),
            }
            for each in self.inputs
        ]
        named: list[dict[str, Any]] = []
        numbers = iter(range(len(made)))
        for each, value in zip(self.file.outputs, outputs, strict=True):
            if isinstance(value, Value):
                named.append({"name": each.name, "from": next(numbers), **_free(value.free)})
            else:
                array = value.array
                named.append({"name": each.name, "shape": list(array.shape), "dtype": array.dtype.name})
        model = Unbatched(body, inputs, named)
        for at, value in enumerate(outputs):
            if isinstance(value, Constant):
                model.own("buffers")[f"output_{at}"][...] = value.array
        return model


def _free(axes: Sequence[int]) -> dict[str, list[int]]:
    """Return how a model without a batch says which axes are of any size."""
    return {"free": list(axes)} if axes else {}
