"""From layers to nodes: names, constants, and axes that are permuted only where an operator needs another order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastconv.layers import Layer
from fastconv.layers.symbol import Shape, several
from fastconv.onnx.errors import OnnxExportError, require_onnx


class Tensor(NamedTuple):
    """A tensor of the file: its name, and of the array that it stands for the shape without batch and where its axes lie.

    Axis ``i + 1`` of the tensor is axis ``order[i] + 1`` of the array; axis 0 is the batch of both. `batch` is 1 for a constant
    that is the same for all samples.
    """

    name: str
    shape: Shape
    order: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def rank(self) -> int:
        """How many axes the tensor has, with the batch."""
        return 1 + len(self.order)

    def axis(self, axis: int) -> int:
        """Return where an axis of the array, which counts the batch as 0, lies in the tensor."""
        inner = axis % self.rank - 1
        return 0 if inner < 0 else 1 + self.order.index(inner)


def plain_order(rank: int) -> tuple[int, ...]:
    """Return the order of a tensor of `rank` inner axes that lies as the array does."""
    return tuple(range(rank))


class Writer:
    """Collects nodes and constants; what a layer's function, or its method ``to_onnx(self, writer, *inputs)``, gets.

    Attributes
    ----------
    opset : int
        The version of the operators that the file is for.
    single : bool
        Whether the batch is always one sample, that of a model without a batch.
    is_open : bool
        Whether more than the batch is of any size in the model's inputs.
    layer : Layer
        The layer that is written at the moment.
    """

    def __init__(self, opset: int, dtype: np.dtype[Any], *, single: bool = False, is_open: bool = False) -> None:
        self.onnx = require_onnx()
        self.is_open = is_open
        self.opset, self.dtype, self.single = opset, dtype, single
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}
        self.layer: Any = None
        self.path = ""
        self._names: dict[str, int] = {}
        self._turned: dict[tuple[str, tuple[int, ...]], str] = {}

    def error(self, why: str) -> OnnxExportError:
        """Return the error that says why the layer cannot be written."""
        return OnnxExportError(f"{self.layer.label} cannot be written as ONNX: {why}")

    def require_opset(self, opset: int) -> None:
        """Raise `OnnxExportError` where the file is for an older version of the operators."""
        if self.opset < opset:
            raise self.error(f"it needs opset {opset}, and the file is for {self.opset}: save(..., opset={opset})")

    def unique(self, name: str) -> str:
        """Return a name that nothing has yet."""
        self._names[name] = count = self._names.get(name, 0) + 1
        return name if count == 1 else self.unique(f"{name}_{count}")

    def constant(self, array: Any, name: str = "constant", dtype: Any = None) -> str:
        """Put an array into the file and return its name; floats get the dtype of the model."""
        array = np.asarray(array, dtype)
        if array.dtype.kind == "f" and dtype is None:
            array = array.astype(self.dtype)
        full = self.unique(f"{self.path}/{name}".lstrip("/"))
        self.constants[full] = np.ascontiguousarray(array) if array.ndim else array
        return full

    def integers(self, *numbers: int) -> str:
        """Put a row of integers into the file and return its name."""
        return self.constant(np.array(numbers, np.int64), "integers")

    def node(self, op: str, inputs: Sequence[str], outputs: int = 1, domain: str = "", **attributes: Any) -> list[str]:
        """Add a node and return the names of its outputs."""
        name = self.unique(self.path or op.lower())
        made = [f"{name}:{at}" if outputs > 1 else f"{name}:out" for at in range(outputs)]
        given = {key: value for key, value in attributes.items() if value is not None}
        self.nodes.append(self.onnx.helper.make_node(op, list(inputs), made, name=name, domain=domain, **given))
        return made

    def call(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Add a node of one output and return its name."""
        return self.node(op, inputs, **attributes)[0]

    def arranged(self, x: Tensor, order: Sequence[int]) -> Tensor:
        """Return a tensor whose axes lie in `order`."""
        wanted = tuple(order)
        if x.order == wanted:
            return x
        perm = (0, *(1 + x.order.index(axis) for axis in wanted))
        key = x.name, perm  # of a transposed array the tensor is the same, in another order
        if key not in self._turned:
            self._turned[key] = self.call("Transpose", x.name, perm=list(perm))
        return x._replace(name=self._turned[key], order=wanted)

    def plain(self, x: Tensor) -> Tensor:
        """Return a tensor that lies as its array does."""
        return self.arranged(x, plain_order(len(x.shape)))

    def channels_first(self, x: Tensor) -> Tensor:
        """Return an image with its channels, the last axis of the array, behind the batch."""
        rank = len(x.shape)
        return self.arranged(x, (rank - 1, *range(rank - 1)))

    def like(self, x: Tensor, name: str, shape: Shape | None = None, dtype: Any = None) -> Tensor:
        """Return a tensor that lies as `x` does."""
        return Tensor(name, x.shape if shape is None else tuple(shape), x.order, np.dtype(dtype or x.dtype))

    def array(self, name: str, shape: Shape, dtype: Any = None) -> Tensor:
        """Return a tensor that lies as its array does."""
        return Tensor(name, tuple(shape), plain_order(len(shape)), np.dtype(dtype or self.dtype))

    def held(self, x: Tensor, array: np.ndarray, name: str = "constant") -> str:
        """Put an array (without batch, of the rank of x) into the file as x lies, and return its name."""
        wide = array.reshape([1] * (len(x.order) - array.ndim) + list(array.shape))
        dtype = None if array.dtype.kind == "f" else array.dtype
        return self.constant(wide.transpose(x.order)[None], name, dtype)

    def for_each_sample(self, x: Tensor, like: Tensor) -> Tensor:
        """Return a tensor with as many samples as another; a constant is one for all."""
        if x.name not in self.constants:
            return x
        count = self.call("Slice", self.call("Shape", like.name), self.integers(0), self.integers(1))
        sizes = self.call("Concat", count, self.integers(*(x.shape[axis] for axis in x.order)), axis=0)
        return x._replace(name=self.call("Expand", x.name, sizes))

    def merged(self, x: Tensor) -> str:
        """Return what lies along the first axis of all samples, one after the other: ``(N, T, ...)`` as ``(N * T, ...)``."""
        x = self.plain(x)
        if self.single:  # T may be any
            return self.call("Squeeze", x.name, self.integers(0))
        return self.call("Reshape", x.name, self.integers(-1, *x.shape[1:]))

    def apart(self, name: str, *sizes: int) -> str:
        """Return ``(N * T, ...)`` as ``(N, T, ...)`` again; `sizes` are those of a sample."""
        if self.single:
            return self.call("Unsqueeze", name, self.integers(0))
        return self.call("Reshape", name, self.integers(-1, *sizes))

    def reshaped(self, x: Tensor, shape: Shape) -> Tensor:
        """Return a tensor in another shape, the batch left as it is."""
        x = self.plain(x)
        return self.array(self.call("Reshape", x.name, self.integers(0, *shape)), shape, x.dtype)

    def reduced(self, op: str, name: str, axes: Sequence[int], keepdims: bool = True) -> str:
        """Add a reduction along axes of the tensor, which newer versions take as an operand."""
        if self.opset >= (13 if op == "ReduceSum" else 18):
            return self.call(op, name, self.integers(*axes), keepdims=int(keepdims))
        return self.call(op, name, axes=list(axes), keepdims=int(keepdims))

    def output_shape(self, layer: Layer, *inputs: Tensor) -> Any:
        """Return the shape, or the shapes, of what a layer makes of tensors."""
        shape = layer.output_shape(*(x.shape for x in inputs))
        return tuple(map(tuple, shape)) if several(shape) else tuple(shape)

    def block(self, name: str, write: Callable[[], Sequence[Tensor]]) -> Any:
        """Return a graph for an argument of a node, of the nodes that `write` adds, with the outputs that it returns."""
        before, self.nodes = self.nodes, []
        turned = dict(self._turned)
        try:
            made = [self.plain(x) for x in write()]
            outputs = []
            for x in made:
                called = self.unique(f"{self.path}/{name}".lstrip("/"))
                self.nodes.append(self.onnx.helper.make_node("Identity", [x.name], [called], name=called))
                kind = self.onnx.helper.np_dtype_to_tensor_dtype(x.dtype)
                outputs.append(self.onnx.helper.make_tensor_value_info(called, kind, None))
            return self.onnx.helper.make_graph(self.nodes, name, [], outputs)
        finally:
            self.nodes, self._turned = before, turned

    def write(self, layer: Layer, inputs: Sequence[Tensor], path: str) -> list[Tensor]:
        """Write a layer, whatever it is, and return its outputs."""
        from fastconv.onnx.exporters import function_of

        before = self.layer, self.path
        self.layer, self.path = layer, path
        try:
            made = function_of(self, layer)(self, layer, *inputs)
        except OnnxExportError:
            raise
        except (TypeError, ValueError, KeyError) as error:
            raise self.error(f"{type(error).__name__}: {error}") from error
        finally:
            self.layer, self.path = before
        return list(made) if isinstance(made, (list, tuple)) and not isinstance(made, Tensor) else [made]
