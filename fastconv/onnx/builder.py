"""Applying layers to values: where axes are permuted, constants held, and integers kept apart.

What an operator's function gets is a `Builder` and a `Node`, and then a `Value`, `Constant` or None for each input. Axes come
in the file's numbering; the builder knows where they lie.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fastconv import layers as L
from fastconv.arrays import contiguous, copied, owned
from fastconv.layers.calls import connect, shape_of
from fastconv.layers.symbol import Shape, Symbol, several
from fastconv.layers.tree import walk
from fastconv.onnx.errors import NeedsValueError, NotBatchedError, OnnxImportError
from fastconv.onnx.files import Block
from fastconv.onnx.folding import Room
from fastconv.onnx.operands import Operand, Operands
from fastconv.onnx.values import Constant, Value, last_first, with_rank

#: More numbers than that no array of a sample has.
MOST_NUMBERS = 2**38

#: What names of layers have no place for.
_OTHER = re.compile(r"[^A-Za-z0-9_.-]+")


class Builder(Operands):
    """Makes layers and calls them on symbols.

    Attributes, beside those of `Operands`
    --------------------------------------
    release : callable
        Is told how many bytes of the file have been read.
    block : callable
        Converts the graph in an argument of a node, and returns its outputs.
    floats : dtype or None
        What the model computes with where the file mixes float32 and float64; None where it does not, or nobody knows yet.
    repeated : int
        How many nodes of graphs that are repeated have been converted.
    pooled : dict of shapes
        The size of the image in which places of the largest count, by the id of their symbol, where they say no image.
    """

    def __init__(
        self, *, batched: bool, batch: tuple[int, int], most_bytes: int, release: Callable[[int], None]
    ) -> None:
        super().__init__(batched=batched, batch=batch)
        self.made: list[Value] = []
        self.readers: dict[str, set[str]] = {}
        self.block: Callable[[Block, Mapping[str, Operand]], list[Operand]]
        self.floats: np.dtype[Any] | None = None
        self.room: Room  # for constants whose sizes are those of a value: a file may say any
        self.repeated = 0
        self.pooled: dict[int, Shape] = {}
        self._names: dict[str, int] = {}
        self._turned: dict[Any, Value] = {}
        self.computed: dict[int, tuple[Value, np.ndarray]] = {}
        self._bytes = most_bytes
        # arrays of layers that may still be the file's, by the id of their dict
        self._shared: dict[int, dict[str, np.ndarray]] = {}
        self.release = release

    def layer(self, layer: L.Layer, weights: dict[str, np.ndarray] | None = None, buffers: Any = None) -> L.Layer:
        """Give a layer its arrays and return it; what it has is no longer drawn when the model is built.

        The arrays are those of the file until `keep_arrays`.
        """
        for kind, arrays in ((layer.params, weights), (layer.buffers, buffers)):
            for name, array in (arrays or {}).items():
                self._bytes -= array.nbytes
                if self._bytes < 0:
                    raise OnnxImportError(
                        f"{self.node.label}: the weights take more memory than max_bytes allows, {array.shape} among them"
                    )
                kind[name] = array
                self._shared[id(kind)] = kind
        if weights or buffers:
            layer._built = True
        return layer

    def keep_arrays(self) -> None:
        """Let layers have their arrays for themselves, in the order in which kernels read them.

        For all of them together, at the end: weights that are moved drive out of the caches what converting a node needs.
        """
        for arrays in self._shared.values():
            for name, array in arrays.items():
                kept = array if array.flags.c_contiguous else contiguous(array, self.release).reshape(array.shape)
                # in place later: what a file has mapped must not change
                if not owned(kept):
                    kept = copied(kept)
                    self.release(kept.nbytes)
                arrays[name] = kept
        self._shared.clear()

    def give_back(self, layer: L.Layer) -> None:
        """Learn that a layer is not kept, nor its arrays."""
        for _, inner in walk(layer):
            for arrays in inner.own("params"), inner.own("buffers"):
                self._bytes += sum(array.nbytes for array in arrays.values())
                self._shared.pop(id(arrays), None)

    def emit(
        self,
        layer: L.Layer,
        values: Sequence[Value],
        orders: Sequence[tuple[int, ...]],
        dtypes: Sequence[Any],
        others: Sequence[Shape] | None = None,
    ) -> list[Value]:
        """Call a layer on values as they lie, and return its outputs, said to be in `orders`.

        Where the shapes of the outputs depend on numbers, `others` are those that are planned with for inputs of other sizes.
        """
        if layer.name is None and not isinstance(layer, L.Transpose):  # no node asks for those: they have numbers
            layer.name = self._name()
        try:
            made = connect(layer, [value.symbol for value in values])
            symbols = made if isinstance(made, tuple) else (made,)
            counted = others is not None or any(value.counted for value in values)
            others = self._others(layer, values, symbols) if others is None else others
        except (TypeError, ValueError) as error:
            raise OnnxImportError(f"{self.node.label}: {error}") from error
        for symbol in symbols:
            if math.prod(symbol.shape) > MOST_NUMBERS:
                raise OnnxImportError(f"{self.node.label}: no memory is large enough for shape {symbol.shape}")
        origins = frozenset().union(*[value.origins for value in values])
        made_values = [
            Value(symbol, order, self._own(dtype), tuple(shape), origins, None, counted)
            for symbol, order, dtype, shape in zip(symbols, orders, dtypes, others, strict=False)
        ]
        self.made += made_values
        return made_values

    def _others(self, layer: L.Layer, values: Sequence[Value], symbols: Sequence[Symbol]) -> Sequence[Shape]:
        """Return the shapes of what a layer makes for inputs of other sizes."""
        if all(value.other == value.symbol.shape for value in values):
            return [symbol.shape for symbol in symbols]
        other = shape_of(layer, [value.other for value in values])
        return other if several(other) else (other,)

    def of_shape(self, first: Shape, second: Shape, dtype: Any) -> Value | None:
        """Return a value that was made before and has these inner axes, for two sizes of the inputs."""
        for value in reversed(self.made):
            if value.dtype == dtype and (value.shape, value.other_shape) == (first, second) and value.shuffle is None:
                return value
        return None

    def of_size(self, sizes: Shape, others: Shape, dtype: Any) -> Value | None:
        """Return an image that was made before and is as large as that, for two sizes of the inputs, channels last."""
        for value in reversed(self.made):
            if value.dtype == dtype and len(value.order) == len(sizes) + 2 - self.offset and value.shuffle is None:
                spatial = self.spatial(value), self.spatial(value, other=True)
                if spatial == (sizes, others) and value.order == last_first(len(value.order), 1 - self.offset):
                    return value
        return None

    def _name(self) -> str:
        name = _OTHER.sub(".", self.node.name).strip(".-") or self.node.op.lower()
        name = name if name[0].isalpha() or name[0] == "_" else f"_{name}"
        self._names[name] = count = self._names.get(name, 0) + 1
        return name if count == 1 else f"{name}-{count}"

    def one(self, layer: L.Layer, x: Value, order: tuple[int, ...] | None = None, dtype: Any = None) -> Value:
        """Call a layer of one input on a value as it lies; integers go through it as such."""
        if x.dtype.kind != "f" and not layer.traits.takes_integers(0):
            layer = L.Discrete(layer)
        order = x.order if order is None else order
        return self.emit(layer, [x], [order], [x.dtype if dtype is None else dtype])[0]

    def elementwise(self, layer: L.Layer, x: Operand, dtype: Any = None) -> Value:
        """Call a layer that treats every number by itself, wherever it lies."""
        x = self.value(x)
        return self.one(layer, x, dtype=dtype)._replace(shuffle=x.shuffle)

    def cast(self, x: Operand, dtype: Any) -> Any:
        """Return an operand of another dtype; floats are those that the model computes with."""
        dtype = self._own(dtype)
        if x.dtype == dtype:
            return x
        if isinstance(x, Constant):
            return Constant(x.array.astype(dtype), None, x.learned)
        layer = L.Cast("float" if dtype.kind == "f" else dtype.name, source=x.dtype.name)
        return self.elementwise(layer, x, dtype=dtype)

    def _own(self, dtype: Any) -> np.dtype[Any]:
        dtype = np.dtype(dtype)
        return self.floats if dtype.kind == "f" and self.floats is not None else dtype

    def arranged(self, x: Value, order: tuple[int, ...]) -> Value:
        """Return a value whose array has its axes in `order`."""
        x = self.settled(x)
        if x.order == order:
            return x
        axes = tuple(1 + x.order.index(axis) for axis in order)  # one array may be several tensors of the file
        key = id(x.symbol), axes
        if key not in self._turned:
            self._turned[key] = self.one(L.Transpose(axes), x, order)
        return self._turned[key]._replace(order=order)

    def plain(self, x: Operand) -> Value:
        """Return a value whose array is as the file has it."""
        x = self.value(x)
        return self.arranged(x, tuple(range(len(x.order))))

    def last(self, x: Operand, axis: int) -> Value:
        """Return a value with an axis of the file's tensor last."""
        x = self.value(x)
        wanted = self.inner(x, axis)
        return self.arranged(x, (*(each for each in x.order if each != wanted), wanted))

    def channels_last(self, x: Operand) -> Value:
        """Return a value with axis 1 of the file's tensor last, and the others in their places before it."""
        x = self.value(x)
        if self.rank(x) < 2:
            raise OnnxImportError(
                f"{self.node.label} needs a tensor with a batch and channels, got {self.rank(x)} axes"
            )
        return self.arranged(x, last_first(len(x.order), 1 - self.offset))

    def settled(self, x: Value) -> Value:
        """Return a value whose last axis is in the file's order."""
        if x.shuffle is None:
            return x
        back = np.argsort(x.shuffle)
        given = L.Partial(L.Gather(-1), [[1, list(back.shape), "int64", False]])
        return self.one(self.layer(given, buffers={"input_1": back.astype(np.int64)}), x)

    def reshaped(self, x: Value, first: Shape, second: Shape | None) -> Value:
        """Return a plain value with other inner axes, given for two sizes of the inputs (None: they are the same)."""
        second = first if second is None else second
        order = tuple(range(len(first)))
        if len(first) == 1:
            return self.one(L.Flatten(), x, order)
        target: list[int | None] = [max(n, 1) for n in first]
        vary = [axis for axis, (n, m) in enumerate(zip(first, second, strict=True)) if n != m]
        if len(vary) == 1:
            target[vary[0]] = -1
            return self.one(L.Reshape(target), x, order)
        # sizes that the input has too are taken from it, in their order, and one is what remains
        copied, rest = list[int](), list[int]()
        sizes = list(zip(x.symbol.shape, x.other, strict=True))
        for axis in vary:
            wanted = first[axis], second[axis]
            start = copied[-1] if copied else 0
            if wanted in sizes[start:]:
                copied.append(sizes.index(wanted, start) + 1)
                target[axis] = None
            else:
                rest.append(axis)
        if len(rest) > 1:
            return self._reshaped_like(x, first, second)
        for axis in rest:
            target[axis] = -1
        return self.one(L.Reshape(target, copy=copied) if copied else L.Reshape(target), x, order)

    def _reshaped_like(self, x: Value, first: Shape, second: Shape) -> Value:
        """Return the same where several sizes are not those of the value, but of something that was made before."""
        order, sizes = tuple(range(len(first))), list(zip(first, second, strict=True))
        like = self.of_shape(first, second, x.dtype)
        if like is not None:
            return self.emit(L.ReshapeLike(), [x, self.plain(like)], [order], [x.dtype])[0]
        vary = [axis for axis, (n, m) in enumerate(sizes) if n != m]
        for rest in (-1, *vary):  # all of them, or all but one, which is what remains
            asked = [axis for axis in vary if axis != rest]
            for value in reversed(self.made):
                copy = _places([sizes[axis] for axis in asked], list(zip(value.symbol.shape, value.other, strict=True)))
                if value.dtype == x.dtype and value.shuffle is None and copy is not None:
                    target = [-1 if axis == rest else None if axis in asked else n for axis, n in enumerate(first)]
                    layer = L.ReshapeLike(target, copy=[1 + place for place in copy])
                    return self.emit(layer, [x, value], [order], [x.dtype])[0]
        raise NeedsValueError(f"{self.node.label}: its shape depends on several of the sizes of the inputs", ())

    def empty(self, x: Value, sizes: Mapping[int, int]) -> Constant:
        """Return what is left of a value of which nothing is left: a constant without numbers, of other `sizes` along axes."""
        if self.batched:
            raise NotBatchedError
        first, second = (np.zeros([sizes.get(axis, n) for axis, n in enumerate(s)], x.dtype) for s in self.shapes(x))
        self.require(first.size == second.size == 0, "how much is left depends on the sizes of the inputs")
        return Constant(first, None if first.shape == second.shape else second)

    def image(self, layer: L.Layer, x: Operand, dtypes: Sequence[Any] | None = None) -> list[Value]:
        """Call a layer of images ``(N, *spatial, C)`` and return its outputs, images too."""
        x = self.channels_last(x)
        if x.dtype.kind != "f":
            layer = L.Discrete(layer)
        layer = layer if self.batched else L.TimeDistributed(layer)
        dtypes = dtypes or [x.dtype]
        return self.emit(layer, [x], [x.order] * len(dtypes), dtypes)

    def call(
        self,
        layer: L.Layer,
        operands: Sequence[Operand | np.ndarray],
        order: tuple[int, ...],
        dtypes: Sequence[Any],
        others: Sequence[Shape] | None = None,
    ) -> list[Value]:
        """Call a layer on values as they lie and on arrays (without batch) that it holds from now on."""
        values = [x for x in operands if isinstance(x, Value)]
        if any(x.dtype.kind != "f" for at, x in enumerate(operands) if not layer.traits.takes_integers(at)):
            layer = L.Discrete(layer)
        held = []
        weights: dict[str, np.ndarray] = {}
        buffers: dict[str, np.ndarray] = {}
        for at, x in enumerate(operands):
            if isinstance(x, Value):
                continue
            array, learned = (x.array, x.learned) if isinstance(x, Constant) else (x, False)
            learned = learned and array.dtype.kind == "f" and array.size > 1
            kind = "float" if array.dtype.kind == "f" else array.dtype.name
            held.append([at, list(array.shape), kind, learned])
            (weights if learned else buffers)[f"input_{at}"] = array
        layer = L.Partial(layer, held) if held else layer
        made = self.emit(layer, values, [order] * len(dtypes), dtypes, others)
        self.layer(layer, weights, buffers)  # now that they fit: copies may be large
        return made

    def aligned(self, *operands: Operand) -> tuple[list[Operand], tuple[int, ...], np.ndarray | None]:
        """Return operands of one rank with their axes in the same places, the order of these, and a shuffle that all share."""
        rank = max(map(self.rank, operands))
        for x in operands:
            if isinstance(x, Value) and self.batched and self.rank(x) < rank:
                raise NotBatchedError
        wide = [self.widened(x, rank) for x in operands]
        values = [x for x in wide if isinstance(x, Value)]
        # the one that is turned least often leads: a large one that is not as the file has it
        lead = max(values, key=lambda x: (not x.is_plain, math.prod(x.symbol.shape)))
        shuffle = lead.shuffle
        if shuffle is not None and any(x.shuffle is None or (x.shuffle != shuffle).any() for x in values):
            lead, shuffle = self.settled(lead), None
        found: list[Operand] = []
        for x in wide:
            if isinstance(x, Value):
                found.append(x if shuffle is not None else self.arranged(x, lead.order))
            else:
                array = x.array.transpose(lead.order)
                if shuffle is not None and array.ndim and array.shape[-1] > 1:
                    array = array[..., shuffle]
                found.append(x._replace(array=array))
        return found, lead.order, shuffle

    def widened(self, x: Operand, rank: int) -> Operand:
        """Return an operand with axes of size 1 in front until it has `rank`; of a constant only the inner axes."""
        if isinstance(x, Value):
            missing = rank - self.rank(x)
            if missing <= 0:
                return x
            x = self.plain(x)
            return self.one(L.Unsqueeze(list(range(1, missing + 1))), x, tuple(range(len(x.order) + missing)))
        return x._replace(array=self.per_sample(x, rank), other=None)

    def per_sample(self, x: Constant, rank: int) -> np.ndarray:
        """Return a constant of `rank` axes without its batch, where there is one: it must be the same for every sample."""
        array, other = (with_rank(each, rank) for each in x.both)
        if self.batched and rank:
            lengths = len(array), len(other)
            if lengths == self.batch and (array == array[:1]).all() and (other == array[:1]).all():
                return np.asarray(array[0])  # repeated for each sample of the batch
            self.array(x, "operand")
            if len(array) != 1:
                raise NotBatchedError
            return np.asarray(array[0])
        return with_rank(self.array(x, "operand"), rank)

    def combine(self, layer: L.Layer, *operands: Operand, dtype: Any = None) -> Value:
        """Call a layer that combines numbers at the same places, axes of size 1 stretched."""
        found, order, shuffle = self.aligned(*operands)
        dtype = found[-1].dtype if dtype is None else dtype
        return self.call(layer, found, order, [dtype])[0]._replace(shuffle=shuffle)

    def along(
        self, x: Operand, axes: Sequence[int], make: Callable[[list[int]], L.Layer], *, drop: bool = False
    ) -> Value:
        """Call the layer that `make` returns for the places of axes of the file's tensor; with `drop` they disappear."""
        x = self.settled(self.value(x))
        inner = [self.inner(x, axis) for axis in axes]
        layer = make([1 + x.order.index(axis) for axis in inner])
        order = x.order
        if drop:
            order = tuple(axis - sum(gone < axis for gone in inner) for axis in x.order if axis not in inner)
        return self.one(layer, x, order)


def _places(wanted: Sequence[Any], among: Sequence[Any]) -> list[int] | None:
    """Return where things lie among others, in their order; None where one does not.

    >>> _places("ac", "abc"), _places("ca", "abc")
    ([0, 2], None)
    """
    found: list[int] = []
    for each in wanted:
        start = found[-1] + 1 if found else 0
        if each not in among[start:]:
            return None
        found.append(among.index(each, start))
    return found
