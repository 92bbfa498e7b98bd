"""Layers around other layers, and models."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv import layers as L
from fastconv.model import Model
from fastconv.onnx.exporters import exports
from fastconv.onnx.writer import Tensor, Writer, plain_order
from fastconv.unbatched import Unbatched


@exports(L.Given)
def given(w: Writer, layer: Any, *xs: Tensor) -> Any:
    free, every = list(xs), list[Tensor]()
    while free or len(every) in layer.held:
        at = len(every)
        if at not in layer.held:
            every.append(free.pop(0))
            continue
        array = layer._array(at)
        dtype = None if array.dtype.kind == "f" else array.dtype
        name = w.constant(array[None], f"input_{at}", dtype)
        every.append(Tensor(name, array.shape, plain_order(array.ndim), np.dtype(dtype or w.dtype)))
    return w.write(layer.inner, every, f"{w.path}/inner")


@exports(L.Each)
def each(w: Writer, layer: Any, *xs: Tensor) -> list[Tensor]:
    first = xs[0].shape[0]
    merged = []
    for x in map(w.plain, xs):
        name = w.call("Reshape", x.name, w.integers(-1, *x.shape[1:]))
        merged.append(w.array(name, x.shape[1:], x.dtype))
    made = []
    for y in map(w.plain, w.write(layer.inner, merged, f"{w.path}/inner")):
        name = w.call("Reshape", y.name, w.integers(-1, first, *y.shape))
        made.append(w.array(name, (first, *y.shape), y.dtype))
    return made


@exports(L.Discrete)
def discrete(w: Writer, layer: Any, *xs: Tensor) -> Any:
    return w.write(layer.inner, xs, f"{w.path}/inner")


@exports(Model)
def model(w: Writer, layer: Any, *xs: Tensor) -> list[Tensor]:
    if isinstance(layer, Unbatched):
        raise w.error("a model without a batch cannot be inside another one")
    graph = layer.graph
    slots: dict[int, Tensor] = dict(enumerate(xs))
    for step in graph.steps:
        name = str(step.layer.name)
        made = w.write(step.layer, [slots[slot] for slot in step.reads], f"{w.path}/{name}" if w.path else name)
        slots.update(zip(step.writes, made, strict=True))
    return [slots[slot] for slot in graph.outputs]
