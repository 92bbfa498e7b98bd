"""Operators that change shapes and move values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastconv import layers as L
from fastconv.onnx.builder import Builder, Operand
from fastconv.onnx.counting import guessed, with_arguments
from fastconv.onnx.errors import NeedsValueError, NotBatchedError, OnnxImportError
from fastconv.onnx.files import Node
from fastconv.onnx.operators.sizes import dynamic_expand, dynamic_slice
from fastconv.onnx.table import register
from fastconv.onnx.values import Constant, Value

#: Numbers of an image whose matrix is shuffled instead; larger ones are turned.
MOST_SHUFFLED = 2**20


@register("Transpose")
def transpose(b: Builder, node: Node, x: Operand) -> Any:
    x = b.value(x)
    rank = b.rank(x)
    perm = node.get("perm") or list(range(rank))[::-1]
    if sorted(perm) != list(range(rank)):
        raise OnnxImportError(f"{node.label}: perm must be the numbers from 0 to {rank - 1}, got {perm}")
    if b.batched and perm[0] != 0:
        raise NotBatchedError
    inner = [axis - b.offset for axis in perm[b.offset :]]
    x = b.settled(x)
    return x._replace(order=tuple(inner.index(axis) for axis in x.order))


@register("Reshape")
def reshape(b: Builder, node: Node, x: Operand, target: Operand | None = None) -> Any:
    x = b.value(x)
    if target is None:
        target = Constant(np.array(node.get("shape") or [], np.int64))
    both: list[tuple[int, ...]] = []
    if isinstance(target, Value) and target.counted:
        return _dynamic_shape(b, node, b.plain(x), target)
    targets = b.both(target, "shape")
    for whole, wanted in zip(b.shapes(x), targets, strict=True):
        sizes = list(wanted)
        written = b.batched and not b.open_batch and sizes and len(both) and targets[0] == targets[1]
        if written and sizes[0] == both[0][0] == b.batch[0]:
            sizes[0] = whole[0]  # the file's own batch, written as a number
        both.append(_resolved(node, whole, sizes, bool(node.get("allowzero", 0))))
    return _reshaped(b, x, *both)


def _dynamic_shape(b: Builder, node: Node, x: Value, target: Value) -> Value:
    """Return a value in a shape that is known when the model runs."""
    wanted = guessed(target)
    b.require(0 not in wanted[0], "0 in a shape that is known when the model runs is not supported")
    sizes = [_resolved(node, whole, each, True) for whole, each in zip(b.shapes(x), wanted, strict=True)]
    return with_arguments(b, x, (L.Reshape(sizes[0]), L.Reshape(sizes[1])), {"shape": target}, [x.dtype])[0]


def _resolved(node: Node, whole: Sequence[int], wanted: Sequence[int], allow_zero: bool) -> tuple[int, ...]:
    """Return the shape that is meant where 0 stands for the size at this place and -1 for what remains."""
    sizes = [whole[at] if n == 0 and not allow_zero and at < len(whole) else n for at, n in enumerate(wanted)]
    if sizes.count(-1) > 1 or min(sizes, default=0) < -1:
        raise OnnxImportError(f"{node.label}: {list(wanted)} is not a shape to reshape to")
    count = math.prod(whole)
    if -1 in sizes and (known := -math.prod(sizes)):
        sizes[sizes.index(-1)] = count // known
    if math.prod(sizes) != count or -1 in sizes:
        raise OnnxImportError(f"{node.label}: a tensor of shape {tuple(whole)} cannot be reshaped to {list(wanted)}")
    return tuple(sizes)


def _reshaped(b: Builder, x: Value, first: tuple[int, ...], second: tuple[int, ...]) -> Value:
    """Return a value in another shape, given for two sizes of the inputs."""
    if b.batched:
        if (first[:1], second[:1]) != ((b.batch[0],), (b.batch[1],)):
            raise NotBatchedError
        first, second = first[1:], second[1:]
    if first == x.shape and second == x.other_shape:
        return x
    flat = math.prod(x.shape)
    if b.batched and x.shuffle is None and first == (flat,) and flat <= MOST_SHUFFLED and not x.is_plain:
        # flattened as it lies; whoever multiplies by a matrix shuffles the matrix instead
        places = np.arange(flat).reshape(x.shape).transpose(x.order).ravel()
        shuffle = None if (places == np.arange(flat)).all() else places
        if x.shape == x.other_shape or shuffle is None:
            return b.one(L.Flatten(), x, (0,))._replace(shuffle=shuffle)
    return b.reshaped(b.plain(x), first, second)


@register("Flatten")
def flatten(b: Builder, node: Node, x: Operand) -> Any:
    x = b.value(x)
    rank = b.rank(x)
    axis = node.get("axis", 1)
    axis = axis + rank if axis < 0 else axis
    if not 0 <= axis <= rank:
        raise OnnxImportError(f"{node.label}: there is no axis {axis} in a tensor of {rank}")
    both = [(math.prod(whole[:axis]), math.prod(whole[axis:])) for whole in b.shapes(x)]
    return _reshaped(b, x, *both)


def flattened_from(b: Builder, x: Value, axis: int, call: Callable[[Value], Value]) -> Value:
    """Return what a function makes of a value whose axes from one on are one, with these axes again."""
    rank = b.rank(x)
    first = axis + rank if axis < 0 else axis
    b.require(0 <= first < max(rank, 1), f"there is no axis {axis} in a tensor of {rank}")
    if first == rank - 1:
        return call(x)
    if b.batched and first < 1:
        raise NotBatchedError
    x, first = b.plain(x), first - b.offset
    flat = ((*shape[:first], math.prod(shape[first:])) for shape in (x.shape, x.other_shape))
    return b.reshaped(call(b.reshaped(x, *flat)), x.shape, x.other_shape)


def _axes(b: Builder, node: Node, given: Operand | None) -> list[int] | None:
    """Return the axes that a node names, as an argument or, in newer files, as an operand."""
    return node.get("axes") if given is None else b.integers(given, "axes")


@register("Squeeze")
def squeeze(b: Builder, node: Node, x: Operand, axes: Operand | None = None) -> Any:
    x, named = b.value(x), _axes(b, node, axes)
    if named is None:
        first, second = b.shapes(x)
        named = [axis for axis, n in enumerate(first) if n == 1]
        if b.batched and 0 in named:
            raise NotBatchedError
        if any(second[axis] != 1 for axis in named):
            raise OnnxImportError(f"{node.label}: which axes go depends on the sizes of the inputs")
    return b.along(x, named, L.Squeeze, drop=True) if named else x


@register("Unsqueeze")
def unsqueeze(b: Builder, node: Node, x: Operand, axes: Operand | None = None) -> Any:
    x, named = b.plain(x), _axes(b, node, axes)
    if not named:
        raise OnnxImportError(f"{node.label} names no axes")
    rank = b.rank(x) + len(named)
    places = sorted(axis % rank if -rank <= axis < rank else rank for axis in named)
    if len(set(places)) < len(places) or places[-1] >= rank:
        raise OnnxImportError(f"{node.label}: axes {named} are none of a tensor of {rank}")
    if b.batched and places[0] == 0:
        raise NotBatchedError
    order = tuple(range(rank - b.offset))
    return b.one(L.Unsqueeze([1 + axis - b.offset for axis in places]), x, order)


@register("Concat")
def concat(b: Builder, node: Node, *xs: Operand) -> Any:
    xs = tuple(x for x in xs if not (isinstance(x, Constant) and x.array.size == 0)) or xs[:1]
    values = [x for x in xs if isinstance(x, Value)]
    if len({b.rank(x) for x in xs}) > 1:
        raise OnnxImportError(f"{node.label}: tensors of different rank cannot be joined")
    if len(xs) == 1:
        return xs[0]
    lead = next((x for x in values if not x.is_plain and x.shuffle is None), values[0])
    lead = b.settled(lead)
    inner = b.inner(lead, node.get("axis", 1 if node.opset < 4 else 0))
    operands: list[Operand] = []
    for x in xs:
        if isinstance(x, Value):
            operands.append(b.arranged(x, lead.order))
            continue
        operands.append(Constant(b.per_sample(x, x.rank).transpose(lead.order), None, x.learned))
    return b.call(L.Concat(1 + lead.order.index(inner)), operands, lead.order, [lead.dtype])


@register("Split")
def split(b: Builder, node: Node, x: Operand, parts: Operand | None = None) -> Any:
    x = b.settled(b.value(x))
    inner = b.inner(x, node.get("axis", 0))
    size = x.shape[inner]
    sizes = b.integers(parts, "split") if parts is not None else node.get("split")
    if sizes is None:
        count = node.get("num_outputs") or len(node.outputs)
        b.require(0 < count <= max(size, len(node.outputs)), f"it cannot split {size} numbers into {count}")
        if x.other_shape[inner] != size:
            raise OnnxImportError(f"{node.label}: how it splits depends on the sizes of the inputs")
        each = -(-size // count)
        sizes = [min(each, size - each * at) for at in range(count)]
    if len(sizes) == 1:
        return [x]
    filled = [n for n in sizes if n != 0]
    if len(filled) > 1:
        layer: L.Layer = L.Split(filled, 1 + x.order.index(inner))
        layer = L.Discrete(layer) if x.dtype.kind != "f" else layer
        made = iter(b.emit(layer, [x], [x.order] * len(filled), [x.dtype] * len(filled)))
    else:
        made = iter([x])
    return [next(made) if n else b.empty(x, {inner + b.offset: 0}) for n in sizes]


@register("Slice")
def slice_(
    b: Builder,
    node: Node,
    x: Operand,
    starts: Operand | None = None,
    ends: Operand | None = None,
    axes: Operand | None = None,
    steps: Operand | None = None,
) -> Any:
    dynamic_ends = {
        name: end for name, end in (("start", starts), ("stop", ends)) if isinstance(end, Value) and end.counted
    }
    if dynamic_ends:
        return dynamic_slice(b, node, (x, starts, ends, axes, steps), dynamic_ends)
    first = node.get("starts") if starts is None else b.integers(starts, "starts")
    last = node.get("ends") if ends is None else b.integers(ends, "ends")
    if first is None or last is None or len(first) != len(last):
        raise OnnxImportError(f"{node.label} must say where to start and where to end")
    named = _axes(b, node, axes)
    named = list(range(len(first))) if named is None else named
    step = [1] * len(first) if steps is None else b.integers(steps, "steps")
    x = b.settled(b.value(x))
    whole = b.shapes(x)
    kept: list[tuple[int, slice]] = []
    for axis, begin, end, each in zip(named, first, last, step, strict=True):
        place = b.axis(axis, b.rank(x))
        sizes = whole[0][place], whole[1][place]
        is_open = sizes[0] != sizes[1]
        part = _python_slice(begin if each > 0 or is_open else max(begin, -sizes[0]), end, each)
        if part in (slice(0, None, 1), slice(None, None, 1)) if is_open else range(sizes[0])[part] == range(sizes[0]):
            continue
        kept.append((place, part))
    if not kept:
        return x
    left = [[len(range(n[place])[part]) for n in whole] for place, part in kept]
    if not x.counted and [0, 0] in left:
        nothing = [place for (place, _), sizes in zip(kept, left, strict=True) if sizes == [0, 0]]
        if all(whole[0][place] != whole[1][place] for place in nothing):  # of what is longer something might be left
            raise NeedsValueError(f"{node.label}: whether anything is left depends on the sizes of the inputs", ())
        first, second = (
            {place: sizes[which] for (place, _), sizes in zip(kept, left, strict=True)} for which in (0, 1)
        )
        b.require(first == second, "how much is left depends on the sizes of the inputs")
        return b.empty(x, first)

    def make(places: list[int]) -> L.Layer:
        parts = [part for _, part in kept]
        ends = ([getattr(part, end) for part in parts] for end in ("start", "stop", "step"))
        return L.Slice(places, *ends, empty=x.counted)

    return b.along(x, [place for place, _ in kept], make)


def _python_slice(start: int, end: int, step: int) -> slice:
    """Return a slice as Python reads it; far beyond an end is the end."""
    far = 2**31 - 1
    if step > 0:
        return slice(start if start > -far else None, end if end < far else None, step)
    return slice(start if start < far else None, end if end > -far else None, step)


@register("Gather")
def gather(b: Builder, node: Node, x: Operand, indices: Operand) -> Any:
    axis = node.get("axis", 0)
    if isinstance(x, Constant):  # an embedding: rows of a matrix
        if b.batched and b.rank(indices) < 1:
            raise NotBatchedError
        inner = axis % x.rank
        indices = b.plain(indices)
        order = tuple(range(len(indices.order) + x.rank - 1))
        if b.batched and inner != 0:
            raise NotBatchedError
        return b.call(L.Gather(1 + inner), [x, indices], order, [x.dtype])
    x = b.plain(x)
    inner = b.inner(x, axis)
    if isinstance(indices, Value):
        if b.batched:
            raise NotBatchedError
        picked: Any = b.plain(indices)
        rank = len(picked.order)
    else:
        array = b.array(indices, "indices")
        size = x.shape[inner]
        b.require(array.dtype.kind in "iu", f"indices must be integers, got {array.dtype}")
        b.require(
            not array.size or (-size <= array.min() and array.max() < size),
            f"indices must be from {-size} to {size - 1}",
        )
        if not array.size:
            if b.batched:
                raise NotBatchedError
            return Constant(np.zeros((*x.shape[:inner], *array.shape, *x.shape[inner + 1 :]), x.dtype))
        picked, rank = Constant(array.astype(np.int64)), array.ndim
        if rank == 0:  # one entry: cut out
            at = int(array)
            cut = b.along(x, [axis], lambda places: L.Slice(places, at, at + 1 if at != -1 else None))
            return b.along(cut, [axis], L.Squeeze, drop=True)
    order = tuple(range(len(x.order) + rank - 1))
    return b.call(L.Gather(1 + inner), [x, picked], order, [x.dtype])


@register("Expand")
def expand(b: Builder, node: Node, x: Operand, target: Operand) -> Any:
    if isinstance(target, Value) and target.counted:
        return dynamic_expand(b, x, target)
    x = b.value(x)
    first, second = b.both(target, "shape")
    rank = max(len(first), b.rank(x))
    if b.batched and b.rank(x) < rank:
        raise NotBatchedError
    x = b.plain(b.widened(x, rank))
    whole = b.shapes(x)
    both = [np.broadcast_shapes(each, wanted) for each, wanted in zip(whole, (first, second), strict=True)]
    if b.batched:
        if (both[0][0], both[1][0]) != b.batch:
            raise NotBatchedError
        both = [each[1:] for each in both]
    stretched = [1 if n == m else m for n, m in zip(x.shape, both[0], strict=True)]
    again = [1 if n == m else m for n, m in zip(x.other_shape, both[1], strict=True)]
    if stretched != again:
        b.array(Constant(np.array(stretched), np.array(again)), "shape")
    return b.one(L.Expand(stretched), x) if any(n != 1 for n in stretched) else x


@register("Tile")
def tile(b: Builder, node: Node, x: Operand, repeats: Operand, axis: Operand | None = None) -> Any:
    x = b.settled(b.value(x))
    times = b.integers(repeats, "repeats")
    if axis is not None:  # as it was before version 6: how often, along which axis
        place, count = int(b.number(axis, "axis")), times[0]
        times = [count if at == place else 1 for at in range(b.rank(x))]
    b.require(
        len(times) == b.rank(x) and min(times, default=1) > 0,
        f"repeats must be one for each axis, at least 1, got {times}",
    )
    if b.batched and times[0] != 1:
        raise NotBatchedError
    inner = times[b.offset :]
    return b.one(L.Tile([inner[place] for place in x.order]), x) if any(n != 1 for n in inner) else x


_PAD_MODES = ("constant", "reflect", "edge", "wrap")


@register("Pad")
def pad(
    b: Builder,
    node: Node,
    x: Operand,
    pads: Operand | None = None,
    value: Operand | None = None,
    axes: Operand | None = None,
) -> Any:
    x = b.settled(b.value(x))
    rank = b.rank(x)
    amounts = b.integers(pads, "pads") if pads is not None else node.get("pads") or node.get("paddings")
    named = list(range(rank)) if axes is None else [axis % rank for axis in b.integers(axes, "axes")]
    mode = node.get("mode", "constant")
    b.require(amounts is not None and len(amounts) == 2 * len(named), f"pads must be two for each axis, got {amounts}")
    b.require(mode in _PAD_MODES, f"mode must be one of {', '.join(_PAD_MODES)}, got {mode!r}")
    pairs = [(0, 0)] * rank
    for at, axis in enumerate(named):
        pairs[axis] = (amounts[at], amounts[at + len(named)])
    if b.batched and pairs[0] != (0, 0):
        raise NotBatchedError
    if mode == "wrap" and min(map(min, pairs), default=0) < 0:  # what is cut off does not come again
        cut = [axis for axis, pair in enumerate(pairs) if min(pair) < 0]
        ends = [[max(0, -pairs[axis][0]) for axis in cut], [min(0, pairs[axis][1]) or None for axis in cut]]
        x = b.along(x, cut, lambda places: L.Slice(places, *ends))
        pairs = [(max(0, before), max(0, after)) for before, after in pairs]
    inner = pairs[b.offset :]
    fill = b.number(value, "constant_value", node.get("value", 0.0))
    if not any(pair != (0, 0) for pair in inner):
        return x
    fill = fill if math.isfinite(fill) else str(fill)
    return b.one(L.Pad([inner[place] for place in x.order], mode=mode, value=fill), x)
