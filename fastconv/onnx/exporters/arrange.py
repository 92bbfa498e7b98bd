"""Layers that rearrange, join and reduce arrays, and matrix products."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastconv import layers as L
from fastconv.onnx.exporters import exports
from fastconv.onnx.writer import Tensor, Writer


@exports(L.Linear)
def linear(w: Writer, layer: Any, x: Tensor) -> Tensor:
    x = w.plain(x)
    weight = w.constant(layer.params["weight"], "weight")
    shape = w.output_shape(layer, x)
    if len(x.shape) == 1 and layer.bias:
        return w.array(w.call("Gemm", x.name, weight, w.constant(layer.params["bias"], "bias")), shape)
    name = w.call("MatMul", x.name, weight)
    if layer.bias:
        name = w.call("Add", name, w.constant(layer.params["bias"], "bias"))
    return w.array(name, shape)


@exports(L.Flatten)
def flatten(w: Writer, layer: Any, x: Tensor) -> Tensor:
    x = w.plain(x)
    return w.array(w.call("Flatten", x.name, axis=1), (math.prod(x.shape),), x.dtype)


@exports(L.Reshape)
def reshape(w: Writer, layer: Any, x: Tensor) -> Tensor:
    if layer.copy:
        return _in_shape_of(w, layer, x, x)
    x = w.plain(x)
    target = w.integers(0, *(layer.shape if -1 in layer.shape else w.output_shape(layer, x)))
    return w.array(w.call("Reshape", x.name, target), w.output_shape(layer, x), x.dtype)


@exports(L.ReshapeLike)
def reshape_like(w: Writer, layer: Any, x: Tensor, like: Tensor) -> Tensor:
    if not layer.whole:
        return _in_shape_of(w, layer, x, like)
    shape = w.call("Shape", w.plain(like).name)
    return w.array(w.call("Reshape", w.plain(x).name, shape), w.output_shape(layer, x, like), x.dtype)


def _in_shape_of(w: Writer, layer: Any, x: Tensor, like: Tensor) -> Tensor:
    """Return a tensor in a shape some of whose sizes are those of another one."""
    sizes, parts = w.call("Shape", like.name), [w.integers(0)]
    for at, n in enumerate(layer.shape):
        if at in layer.open:
            axis = like.axis(layer.copy[layer.open.index(at)])
            parts.append(w.call("Slice", sizes, w.integers(axis), w.integers(axis + 1)))
        else:
            parts.append(w.integers(n))
    target = w.call("Concat", *parts, axis=0)
    return w.array(w.call("Reshape", w.plain(x).name, target), layer.resolved(x.shape, like.shape), x.dtype)


@exports(L.Transpose)
def transpose(w: Writer, layer: Any, x: Tensor) -> Tensor:
    inner = [axis - 1 for axis in layer.axes]
    return x._replace(shape=w.output_shape(layer, x), order=tuple(inner.index(axis) for axis in x.order))


@exports(L.Unsqueeze)
def unsqueeze(w: Writer, layer: Any, x: Tensor) -> Tensor:
    x, shape = w.plain(x), w.output_shape(layer, x)
    axes = [axis % (len(shape) + 1) for axis in layer.axes]
    return w.array(w.call("Unsqueeze", x.name, w.integers(*axes)), shape, x.dtype)


@exports(L.Squeeze)
def squeeze(w: Writer, layer: Any, x: Tensor) -> Tensor:
    x = w.plain(x)
    axes = [axis % x.rank for axis in layer.axes]
    return w.array(w.call("Squeeze", x.name, w.integers(*axes)), w.output_shape(layer, x), x.dtype)


@exports(L.Slice)
def slice_(w: Writer, layer: Any, x: Tensor) -> Tensor:
    far = 2**31 - 1
    axes, ends = [x.axis(axis) for axis in layer.axes], []
    for part in layer.slices:
        step = 1 if part.step is None else part.step
        start = part.start if part.start is not None else 0 if step > 0 else far
        stop = part.stop if part.stop is not None else far if step > 0 else -far
        ends.append((start, stop, step))
    starts, stops, steps = zip(*ends, strict=True)
    operands = [w.integers(*each) for each in (starts, stops, axes, steps)]
    return w.like(x, w.call("Slice", x.name, *operands), w.output_shape(layer, x))


@exports(L.Gather)
def gather(w: Writer, layer: Any, x: Tensor, indices: Tensor) -> Tensor:
    x, indices = w.plain(x), w.plain(indices)
    axis, shape = x.axis(layer.axis), w.output_shape(layer, x, indices)
    if indices.name in w.constants:  # the same for every sample
        array = w.constants.pop(indices.name)[0]
        return w.array(w.call("Gather", x.name, w.constant(array, "indices", np.int64), axis=axis), shape, x.dtype)
    if w.single:
        name = w.call("Gather", x.name, w.call("Squeeze", indices.name, w.integers(0)), axis=axis)
        return w.array(name, shape, x.dtype)
    if x.name in w.constants and axis == 1:  # an embedding: rows of a table
        table = w.constants.pop(x.name)[0]
        return w.array(w.call("Gather", w.constant(table, "table", table.dtype), indices.name), shape, x.dtype)
    x = w.for_each_sample(x, indices)
    last = w.call("Unsqueeze", w.call("Cast", indices.name, to=7), w.integers(indices.rank))
    size = w.integers(x.shape[axis - 1])
    positive = w.call("Mod", w.call("Add", last, size), size)
    rest = [i for i in range(len(x.shape)) if i != axis - 1]
    moved = w.arranged(x, (axis - 1, *rest))
    name = w.call("GatherND", moved.name, positive, batch_dims=1)
    picked = len(indices.shape)  # (N, *picked, the other axes): the picked ones go to where the axis was
    places = [*range(axis - 1), *range(axis - 1 + picked, len(shape))]
    return Tensor(name, shape, (*range(axis - 1, axis - 1 + picked), *places), x.dtype)


@exports(L.Expand)
def expand(w: Writer, layer: Any, x: Tensor) -> Tensor:
    shape = w.output_shape(layer, x)
    sizes = w.integers(1, *(layer.shape[axis] for axis in x.order))
    return w.like(x, w.call("Expand", x.name, sizes), shape)


@exports(L.Tile)
def tile(w: Writer, layer: Any, x: Tensor) -> Tensor:
    times = w.integers(1, *(layer.repeats[axis] for axis in x.order))
    return w.like(x, w.call("Tile", x.name, times), w.output_shape(layer, x))


@exports(L.Split)
def split(w: Writer, layer: Any, x: Tensor) -> list[Tensor]:
    names = w.node("Split", [x.name, w.integers(*layer.sizes)], len(layer.sizes), axis=x.axis(layer.axis))
    return [w.like(x, name, shape) for name, shape in zip(names, w.output_shape(layer, x), strict=True)]


@exports(L.Concat)
def concat(w: Writer, layer: Any, *xs: Tensor) -> Tensor:
    lead = next((x for x in xs if x.name not in w.constants), xs[0])
    names = []
    for x in (w.arranged(x, lead.order) for x in xs):
        names.append(w.for_each_sample(x, lead).name)
    return w.like(lead, w.call("Concat", *names, axis=lead.axis(layer.axis)), w.output_shape(layer, *xs))


_REDUCED = {
    L.ReduceSum: "ReduceSum",
    L.ReduceMean: "ReduceMean",
    L.ReduceMax: "ReduceMax",
    L.ReduceMin: "ReduceMin",
    L.ReduceProd: "ReduceProd",
    L.ReduceL2: "ReduceL2",
}


@exports(*_REDUCED)
def reduce(w: Writer, layer: Any, x: Tensor) -> Tensor:
    op = _REDUCED[next(kind for kind in type(layer).__mro__ if kind in _REDUCED)]
    name = w.reduced(op, x.name, [x.axis(axis) for axis in layer.axes], layer.keepdims)
    gone = () if layer.keepdims else tuple(axis % x.rank - 1 for axis in layer.axes)
    return Tensor(name, w.output_shape(layer, x), _without(x.order, gone), x.dtype)


def _without(order: tuple[int, ...], gone: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(axis - sum(other < axis for other in gone) for axis in order if axis not in gone)


@exports(L.CumSum)
def cum_sum(w: Writer, layer: Any, x: Tensor) -> Tensor:
    axis = w.constant(np.array(x.axis(layer.axis), np.int64))
    return w.like(x, w.call("CumSum", x.name, axis, exclusive=int(layer.exclusive), reverse=int(layer.reverse)))


@exports(L.ArgMax)
def arg_max(w: Writer, layer: Any, x: Tensor) -> Tensor:
    arguments = {"axis": x.axis(layer.axis), "keepdims": int(layer.keepdims), "select_last_index": int(layer.last)}
    gone = () if layer.keepdims else (layer.axis % x.rank - 1,)
    name = w.call("ArgMax", x.name, **arguments)
    return Tensor(name, w.output_shape(layer, x), _without(x.order, gone), np.dtype(np.int64))


@exports(L.TopK)
def top_k(w: Writer, layer: Any, x: Tensor) -> list[Tensor]:
    axis = x.axis(layer.axis)
    all_of_them = layer.k is None
    count = w.call("Gather", w.call("Shape", x.name), w.integers(axis)) if all_of_them else w.integers(layer.k)
    values, places = w.node("TopK", [x.name, count], 2, axis=axis, largest=int(layer.largest), sorted=1)
    shape, _ = w.output_shape(layer, x)
    return [w.like(x, values, shape), w.like(x, places, shape, np.int64)]


@exports(L.MatMul)
def matmul(w: Writer, layer: Any, a: Tensor, b: Tensor) -> Tensor:
    shape = w.output_shape(layer, a, b)
    return w.array(w.call("MatMul", w.plain(a).name, w.plain(b).name), shape, a.dtype)


@exports(L.Einsum)
def einsum(w: Writer, layer: Any, *xs: Tensor) -> Tensor:
    terms, result, _ = layer._spelled([x.shape for x in xs])
    letters = "".join(terms)
    batch = next(letter for letter in "nNabcdefghijklmopqrstuvwxyz" if letter not in letters)
    equation = ",".join(batch + term for term in terms) + "->" + batch + result
    return w.array(w.call("Einsum", *(w.plain(x).name for x in xs), equation=equation), w.output_shape(layer, *xs))


@exports(L.AddCoords)
def add_coords(w: Writer, layer: Any, x: Tensor) -> Tensor:
    zeros = np.zeros((1, *x.shape), w.dtype)
    held = layer(zeros)[0][..., x.shape[-1] :]
    first = L.Slice(-1, 0, 1)
    nothing = w.call("Mul", slice_(w, first, x).name, w.constant(0.0))
    wide = w.call("Add", nothing, w.held(x, held, "coordinates"))
    return w.like(x, w.call("Concat", x.name, wide, axis=x.axis(-1)), w.output_shape(layer, x))


@exports(L.DepthToSpace, L.SpaceToDepth)
def blocks(w: Writer, layer: Any, x: Tensor) -> Tensor:
    x, shape = w.channels_first(x), w.output_shape(layer, x)
    if isinstance(layer, L.DepthToSpace):
        return w.like(x, w.call("DepthToSpace", x.name, blocksize=layer.block, mode=layer.order), shape)
    if layer.order == "DCR":
        return w.like(x, w.call("SpaceToDepth", x.name, blocksize=layer.block), shape)
    h, wide, c = x.shape
    block = layer.block
    parts = w.call("Reshape", x.name, w.integers(0, c, h // block, block, wide // block, block))
    turned = w.call("Transpose", parts, perm=[0, 1, 3, 5, 2, 4])
    return w.like(x, w.call("Reshape", turned, w.integers(0, shape[-1], *shape[:-1])), shape)


@exports(L.Fold)
def fold(w: Writer, layer: Any, x: Tensor) -> Tensor:
    w.require_opset(18)
    x, rank = w.arranged(x, (1, 0)), len(layer.size)
    line = rank == 1  # as an image of one row: of lines ONNX Runtime 1.32 takes other windows where they are dilated
    size, kernel, stride, dilation = (
        (1,) * line + each for each in (layer.size, layer.kernel, layer.stride, layer.dilation)
    )
    pads = [pair[end] for end in (0, 1) for pair in ((0, 0),) * line + layer.padding]
    operands = w.integers(*size), w.integers(*kernel)
    made = w.call("Col2Im", x.name, *operands, strides=stride, dilations=dilation, pads=pads)
    made = w.call("Squeeze", made, w.integers(2)) if line else made
    return Tensor(made, w.output_shape(layer, x), (rank, *range(rank)), x.dtype)


@exports(L.ZeroPad, L.Pad)
def pad(w: Writer, layer: Any, x: Tensor) -> Tensor:
    zeros = isinstance(layer, L.ZeroPad)
    pairs = [*layer._pairs(x.shape), (0, 0)] if zeros else layer.padding
    mode = "constant" if zeros else layer.mode
    if mode == "wrap":
        w.require_opset(19)
    lie = [pairs[axis] for axis in x.order]
    if mode in ("reflect", "wrap") and any(max(pair) >= x.shape[axis] for pair, axis in zip(lie, x.order, strict=True)):
        return _picked(w, layer, x, pairs)
    pads = w.integers(0, *(before for before, _ in lie), 0, *(after for _, after in lie))
    value = [w.constant(0.0 if zeros else layer.value, dtype=x.dtype)] if mode == "constant" else []
    return w.like(x, w.call("Pad", x.name, pads, *value, mode=mode), w.output_shape(layer, x))


def _picked(w: Writer, layer: Any, x: Tensor, pairs: Any) -> Tensor:
    """Pad by more than there is: pick what every place shows, along one axis after the other."""
    name = x.name
    for axis, pair in enumerate(pairs):
        if tuple(pair) != (0, 0):
            row = np.arange(x.shape[axis], dtype=np.float64)[None]
            places = L.Pad([tuple(pair)], mode=layer.mode)(row)[0].astype(np.int64)
            name = w.call("Gather", name, w.constant(places, "places", np.int64), axis=x.axis(axis + 1))
    return w.like(x, name, w.output_shape(layer, x))
