"""What the function of an operator can ask about its operands: arrays and numbers of known ones, the order of axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv.layers.calls import FLOATS
from fastconv.layers.symbol import Shape
from fastconv.onnx.errors import NeedsValueError, NotBatchedError, OnnxImportError
from fastconv.onnx.files import Node
from fastconv.onnx.values import Constant, Value

Operand = Value | Constant


class Operands:
    """The operands of one node after the other.

    Attributes
    ----------
    batched : bool
        Whether the first axis of every tensor is the batch of the model. Where it is not, arrays have a batch of one in front.
    batch : (int, int)
        How long the batch axis of the file is, for two sizes of the inputs.
    open_batch : bool
        Whether the file leaves it open, so that it writes its length nowhere as a number.
    node, operands
        The node that is being converted, and its inputs.
    """

    def __init__(self, *, batched: bool, batch: tuple[int, int]) -> None:
        self.batched = batched
        self.batch = batch
        self.open_batch = False
        self.node = Node("", "", "", (), (), {}, 1)
        self.operands: Sequence[Operand | None] = ()

    #: What `isinstance` asks about an operand.
    constant = Constant

    @property
    def offset(self) -> int:
        """How many axes of a tensor are not among the inner ones: the batch, or none."""
        return int(self.batched)

    def rank(self, x: Operand) -> int:
        """Return how many axes the file's tensor has."""
        return x.rank if isinstance(x, Constant) else len(x.order) + self.offset

    def shapes(self, x: Value) -> tuple[Shape, Shape]:
        """Return the whole shape of the file's tensor, for two sizes of the inputs."""
        a, b = self.batch
        return ((a, *x.shape), (b, *x.other_shape)) if self.batched else (x.shape, x.other_shape)

    def axis(self, axis: int, rank: int) -> int:
        """Return an axis of a tensor of this rank, counted from the front."""
        self.require(-rank <= axis < rank, f"there is no axis {axis} in a tensor of {rank}")
        return axis % rank

    def inner(self, x: Value, axis: int) -> int:
        """Return an axis of the file's tensor as an inner axis; the batch is none."""
        axis = self.axis(axis, self.rank(x)) - self.offset
        if axis < 0:
            raise NotBatchedError
        return axis

    def stored(self, x: Value, axis: int) -> int:
        """Return where an axis of the file's tensor lies in the array, whose axis 0 is the batch."""
        return 1 + x.order.index(self.inner(x, axis))

    def array(self, x: Operand | None, what: str) -> np.ndarray:
        """Return the array of an operand that must be known, and the same for all sizes of the inputs."""
        if isinstance(x, Value):
            names = () if x.counted else x.origins
            raise NeedsValueError(f"{self.node.label}: {what} must be known when the model is made", names)
        if x is None:
            raise OnnxImportError(f"{self.node.label} lacks its {what}")
        if x.other is not None and not np.array_equal(x.array, x.other):
            raise NeedsValueError(f"{self.node.label}: {what} depends on the sizes of the inputs", ())
        return x.array

    def integers(self, x: Operand | None, what: str) -> list[int]:
        """Return a known operand as a list of integers."""
        array = self.array(x, what)
        if array.dtype.kind not in "iu" or array.ndim > 1:
            raise OnnxImportError(
                f"{self.node.label}: {what} must be integers, got {array.dtype} of shape {array.shape}"
            )
        found: list[int] = array.ravel().tolist()
        return found

    def both(self, x: Operand, what: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return a known operand of integers for two sizes of the inputs."""
        if isinstance(x, Value):
            self.integers(x, what)
        array, other = x.both  # type: ignore[union-attr]
        first = tuple(self.integers(Constant(array), what))
        return first, first if other is array else tuple(self.integers(Constant(other), what))

    def number(self, x: Operand | None, what: str, default: Any = None) -> Any:
        """Return a known operand of one number as Python has it; `default` where it is left out."""
        if x is None:
            return default
        array = self.array(x, what)
        if array.size != 1:
            raise OnnxImportError(f"{self.node.label}: {what} must be one number, got shape {array.shape}")
        return array.ravel()[0].item()

    def weight(self, x: Operand | None, what: str, rank: int | None = None) -> np.ndarray:
        """Return a known operand as an array of floats of `rank` axes."""
        array = self.array(x, what)
        if array.dtype not in FLOATS or (rank is not None and array.ndim != rank):
            raise OnnxImportError(
                f"{self.node.label}: {what} must be float32 or float64{f' of {rank} axes' if rank is not None else ''}, "
                f"got {array.dtype} of shape {array.shape}"
            )
        return array

    def value(self, x: Operand) -> Value:
        """Return a value; a constant is none."""
        if isinstance(x, Value):
            return x
        names = frozenset().union(*(other.origins for other in self.operands if isinstance(other, Value)))
        if names:
            raise NeedsValueError(f"{self.node.label}: its other operands must be known as the first one is", names)
        raise OnnxImportError(f"{self.node.label}: this operator of constants alone is not supported")

    def require(self, right: Any, what: str) -> None:
        """Raise `OnnxImportError` that names the node unless something is right."""
        if not right:
            raise OnnxImportError(f"{self.node.label}: {what}")

    def channels(self, x: Value) -> int:
        """Return the size of axis 1 of the file's tensor."""
        return x.shape[1 - self.offset]

    def spatial(self, x: Value, *, other: bool = False) -> Shape:
        """Return the sizes of the axes after the channels; of `other` sizes of the inputs where that is asked for."""
        return (x.other_shape if other else x.shape)[2 - self.offset :]
