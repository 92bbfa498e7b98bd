"""Layers around other layers, and models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv import layers as L
from fastconv.branch import Branch
from fastconv.model import Model
from fastconv.onnx.exporters import exports
from fastconv.onnx.writer import Tensor, Writer, plain_order
from fastconv.unbatched import Unbatched


@exports(L.Partial)
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


@exports(L.TimeDistributed)
def each(w: Writer, layer: Any, *xs: Tensor) -> list[Tensor]:
    first = xs[0].shape[0]
    merged = []
    for x in map(w.plain, xs):
        merged.append(w.array(w.merged(x), x.shape[1:], x.dtype))
    made = []
    for y in map(w.plain, w.write(layer.inner, merged, f"{w.path}/inner")):
        made.append(w.array(w.apart(y.name, first, *y.shape), (first, *y.shape), y.dtype))
    return made


@exports(L.Discrete)
def discrete(w: Writer, layer: Any, *xs: Tensor) -> Any:
    return w.write(layer.inner, xs, f"{w.path}/inner")


@exports(Branch)
def branch(w: Writer, layer: Any, which: Tensor, *xs: Tensor) -> list[Tensor]:
    shapes = w.output_shape(layer, which, *xs)
    shapes = shapes if len(layer.then.named_outputs) > 1 else (shapes,)
    truth = which.name if which.dtype == bool else w.call("Cast", which.name, to=9)
    written = {name: lambda name=name: _inside(w, getattr(layer, name), xs, f"{w.path}/{name}") for name in _BRANCHES}
    if w.single:
        graphs = {
            f"{name.removesuffix('otherwise') or 'else'}_branch": w.block(name, each) for name, each in written.items()
        }
        names = w.node("If", [truth], len(shapes), **graphs)
        dtypes = [x.dtype for x in written["otherwise"]()]
        return [w.array(name, shape, dtype) for name, shape, dtype in zip(names, shapes, dtypes, strict=True)]
    pairs = zip(*(map(w.plain, written[name]()) for name in _BRANCHES), strict=True)
    made = []
    for (a, b), shape in zip(pairs, shapes, strict=True):
        if a.shape != b.shape:
            raise w.error("its models return arrays of different shapes, which samples of a batch cannot have")
        rows = w.call("Reshape", truth, w.integers(-1, *[1] * len(shape)))
        made.append(w.array(w.call("Where", rows, a.name, b.name), shape, a.dtype))
    return made


_BRANCHES = ("then", "otherwise")


def _inside(w: Writer, layer: Any, xs: Sequence[Tensor], path: str) -> list[Tensor]:
    """Write a model without a batch that is inside another, whose batch is its."""
    used = [x for item, x in zip(layer.named_inputs, xs, strict=True) if item["used"]]
    made = [w.plain(y) for y in w.write(layer.body, used, f"{path}/body")] if layer.body is not None else []
    outputs = []
    for at, item in enumerate(layer.named_outputs):
        if "from" in item:
            outputs.append(made[item["from"]])
        else:
            array = layer.own("buffers")[f"output_{at}"]
            outputs.append(w.array(w.constant(array[None], "constant", array.dtype), array.shape, array.dtype))
    return outputs


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
