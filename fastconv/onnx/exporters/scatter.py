"""Layers that gather and scatter elements, find them, and take sizes as inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastconv import layers as L
from fastconv.onnx.exporters import exports
from fastconv.onnx.writer import Tensor, Writer

#: From which version on numbers at places are combined, by how.
_REDUCES = {"none": 13, "add": 16, "mul": 16, "max": 18, "min": 18}


def by_sample(w: Writer, sample: str, rows: str, batched: str, width: int, most: int | None) -> str:
    """Return rows ``(count, width)`` of samples ``(count, 1)``, in order, as those of each, filled up with -1.

    There are `most` for a sample, or as many as the fullest has; `batched` is a tensor with the batch.
    """
    zero, one = w.integers(0), w.integers(1)
    batch = w.call("Slice", w.call("Shape", batched), zero, one)
    flat = w.call("Squeeze", sample, one)
    ones = w.call("Expand", one, w.call("Shape", flat))
    counts = w.call("ScatterElements", w.call("Expand", zero, batch), flat, ones, axis=0, reduction="add")
    before, row = (w.call("CumSum", each, w.constant(0, dtype=np.int64), exclusive=1) for each in (counts, ones))
    position = w.call("Sub", row, w.call("Gather", before, flat))
    fullest = w.reduced("ReduceMax", counts, [0]) if most is None else w.integers(most)
    empty = w.call("Expand", w.integers(-1), w.call("Concat", batch, fullest, w.integers(width), axis=0))
    places = w.call("Concat", sample, w.call("Unsqueeze", position, one), axis=1)
    return w.call("ScatterND", empty, places, rows)


@exports(L.NonZero)
def non_zero(w: Writer, layer: Any, x: Tensor) -> Tensor:
    x, shape = w.plain(x), w.output_shape(layer, x)
    if w.single:
        found = w.call("NonZero", w.call("Squeeze", x.name, w.integers(0)))
        return w.array(w.call("Unsqueeze", found, w.integers(0)), shape, np.int64)
    w.require_opset(16)
    rows = w.call("Transpose", w.call("NonZero", x.name), perm=[1, 0])
    sample, places = w.node("Split", [rows, w.integers(1, x.rank - 1)], 2, axis=1)
    found = by_sample(w, sample, places, x.name, x.rank - 1, None)
    return w.array(w.call("Transpose", found, perm=[0, 2, 1]), shape, np.int64)


@exports(L.GatherElements)
def gather_elements(w: Writer, layer: Any, x: Tensor, indices: Tensor) -> Tensor:
    x, indices = all_samples(w, w.plain(x), w.plain(indices))
    shape = w.output_shape(layer, x, indices)
    return w.array(w.call("GatherElements", x.name, _long(w, indices), axis=x.axis(layer.axis)), shape, x.dtype)


@exports(L.GatherND)
def gather_nd(w: Writer, layer: Any, x: Tensor, indices: Tensor) -> Tensor:
    x, indices = all_samples(w, w.plain(x), w.plain(indices))
    shape = w.output_shape(layer, x, indices)
    return w.array(w.call("GatherND", x.name, _long(w, indices), batch_dims=layer.leading), shape, x.dtype)


@exports(L.ScatterElements)
def scatter_elements(w: Writer, layer: Any, *xs: Tensor) -> Tensor:
    x, indices, updates = all_samples(w, *map(w.plain, xs))
    how = _reduction(w, layer)
    name = w.call("ScatterElements", x.name, _long(w, indices), updates.name, axis=x.axis(layer.axis), **how)
    return w.like(x, name)


@exports(L.ScatterND)
def scatter_nd(w: Writer, layer: Any, *xs: Tensor) -> Tensor:
    x, indices, updates = all_samples(w, *map(w.plain, xs))
    rows = _long(w, indices)
    count = w.call("Squeeze", w.call("Slice", w.call("Shape", x.name), w.integers(0), w.integers(1)), w.integers(0))
    zero, one = (w.constant(np.array(n, np.int64)) for n in (0, 1))
    sample = w.call("Reshape", w.call("Range", zero, count, one), w.integers(-1, *[1] * len(indices.shape)))
    first = w.call("Slice", rows, w.integers(0), w.integers(1), w.integers(-1))
    places = w.call("Concat", w.call("Expand", sample, w.call("Shape", first)), rows, axis=indices.rank - 1)
    return w.like(x, w.call("ScatterND", x.name, places, updates.name, **_reduction(w, layer)))


def _reduction(w: Writer, layer: Any) -> dict[str, str]:
    w.require_opset(_REDUCES[layer.reduce])
    return {} if layer.reduce == "none" else {"reduction": layer.reduce}


def _long(w: Writer, indices: Tensor) -> str:
    return indices.name if indices.dtype == np.int64 else w.call("Cast", indices.name, to=7)


def all_samples(w: Writer, *xs: Tensor) -> tuple[Tensor, ...]:
    """Return tensors with a batch; a constant is there for each sample."""
    lead = next((x for x in xs if x.name not in w.constants), xs[0])
    return tuple(w.for_each_sample(x, lead) for x in xs)


@exports(L.ShapeOf)
def shape_of(w: Writer, layer: Any, x: Tensor) -> Tensor:
    sizes = w.call("Shape", x.name)
    row = w.call("Unsqueeze", w.call("Gather", sizes, w.integers(*map(x.axis, layer.axes))), w.integers(0))
    if not w.single:
        batch = w.call("Slice", sizes, w.integers(0), w.integers(1))
        row = w.call("Expand", row, w.call("Concat", batch, w.integers(1), axis=0))
    return w.array(row, (len(layer.axes),), np.int64)


@exports(L.DynamicArguments)
def dynamic_arguments(w: Writer, layer: Any, x: Tensor, *numbers: Tensor) -> Any:
    if type(layer.inner) not in _DYNAMIC:
        raise w.error(f"{type(layer.inner).__name__} is not written with arguments that come as inputs")
    rows = {}
    for name, each in zip(layer.arguments, numbers, strict=True):
        first = w.call("Slice", _long(w, each), w.integers(0), w.integers(1))
        rows[name] = w.call("Reshape", first, w.integers(-1))
    return _DYNAMIC[type(layer.inner)](w, layer.inner, x, rows)


def _dynamic_slice(w: Writer, layer: Any, x: Tensor, rows: dict[str, str]) -> Tensor:
    far = 2**31 - 1
    ends = {"start": [], "stop": []}  # type: dict[str, list[int]]
    steps = [1 if part.step is None else part.step for part in layer.slices]
    for part, step in zip(layer.slices, steps, strict=True):
        ends["start"].append(part.start if part.start is not None else 0 if step > 0 else far)
        ends["stop"].append(part.stop if part.stop is not None else far if step > 0 else -far)
    operands = [rows.get(name) or w.integers(*ends[name]) for name in ("start", "stop")]
    axes = w.integers(*(x.axis(axis) for axis in layer.axes))
    return w.like(x, w.call("Slice", x.name, *operands, axes, w.integers(*steps)), w.output_shape(layer, x))


def _dynamic_reshape(w: Writer, layer: Any, x: Tensor, rows: dict[str, str]) -> Tensor:
    x = w.plain(x)
    batch = w.call("Slice", w.call("Shape", x.name), w.integers(0), w.integers(1))
    target = w.call("Concat", batch, rows["shape"], axis=0)
    name = w.call("Reshape", x.name, target, allowzero=1 if w.opset >= 14 else None)
    return w.array(name, w.output_shape(layer, x), x.dtype)


def _dynamic_expand(w: Writer, layer: Any, x: Tensor, rows: dict[str, str]) -> Tensor:
    x = w.plain(x)
    sizes = w.call("Concat", w.integers(1), rows["shape"], axis=0)
    return w.array(w.call("Expand", x.name, sizes), w.output_shape(layer, x), x.dtype)


def _dynamic_top_k(w: Writer, layer: Any, x: Tensor, rows: dict[str, str]) -> list[Tensor]:
    axis, largest = x.axis(layer.axis), int(layer.largest)
    values, places = w.node("TopK", [x.name, rows["k"]], 2, axis=axis, largest=largest, sorted=1)
    shape, _ = w.output_shape(layer, x)
    return [w.like(x, values, shape), w.like(x, places, shape, np.int64)]


_DYNAMIC: dict[type[L.Layer], Callable[..., Any]] = {
    L.Slice: _dynamic_slice,
    L.Reshape: _dynamic_reshape,
    L.Expand: _dynamic_expand,
    L.TopK: _dynamic_top_k,
}
