"""From a model to a program: layers become operations, nested models are flattened, constants are copied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastconv import layers as L
from fastconv.arguments import ntuple
from fastconv.arrays import contiguous
from fastconv.frozen import moves, normalization
from fastconv.frozen import unweighted as ops
from fastconv.frozen.activations import ACTIVATIONS
from fastconv.frozen.counted import counted, model_of
from fastconv.frozen.foreign import Foreign, snapshot
from fastconv.frozen.matrix import MatMul
from fastconv.frozen.operation import Array, Operation
from fastconv.frozen.pooling import AdaptivePool, Pool
from fastconv.frozen.program import Program, Step
from fastconv.frozen.resizing import Resize
from fastconv.frozen.together import Apart, Together
from fastconv.frozen.weighted import Conv, ConvTranspose, Linear, Local
from fastconv.functional._validate import flat_arguments
from fastconv.functional.calls import Activation
from fastconv.functional.pad import pad_pairs
from fastconv.functional.resize import RULES as UPSAMPLING
from fastconv.geometry import padding_pairs
from fastconv.graph import Graph
from fastconv.layers.base import Layer
from fastconv.layers.checks import inner_axes, inner_axis
from fastconv.layers.symbol import Shape
from fastconv.model import Model

#: Copies an array of a layer, once for all that use it.
Constant = Callable[[Array], Array]

#: The operations of a layer, one after the other; the first takes all of its inputs. `shape` is its first input's, no batch.
#: None where the compiler does not know it with these arguments.
Rule = Callable[[Any, Shape, Constant], list[Operation] | None]


def lower(model: Model, *, copy: bool = True) -> Program:
    """Return the program of a built model in evaluation; unless told otherwise it shares no memory with the model."""
    graph = model.graph
    lowering = _Lowering(len(graph.input_shapes), model.dtype, copy=copy)
    outputs = lowering.graph(graph, range(len(graph.input_shapes)), model.input_shapes, "")
    shapes, names = tuple(tuple(shape) for shape in model.input_shapes), tuple(graph.input_names)
    return Program(
        shapes, names, model.dtype, tuple(lowering.steps), tuple(outputs), model.label, free=tuple(graph.free)
    )


class _Lowering:
    def __init__(self, inputs: int, dtype: Any, *, copy: bool) -> None:
        self._dtype, self._copy = dtype, copy
        self.steps: list[Step] = []
        self._values = inputs
        self._copies: dict[int, tuple[Any, Any]] = {}  # the original too: its id is taken as long as it lives
        self._floats: set[int] = set()  # values that are of the model's dtype for sure
        self._batched = True  # not where entries are a batch

    def graph(self, graph: Graph, inputs: Sequence[int], shapes: Sequence[Shape], path: str) -> list[int]:
        """Add the steps of a graph, and return the values of its outputs."""
        slots: dict[int, int] = dict(enumerate(inputs))
        sizes = graph.shapes(*shapes)
        last = counted(graph)
        for step in graph.steps:
            if step in last:
                continue
            reads = [slots[slot] for slot in step.reads]
            name = f"{path}{step.layer.name}"
            made = self._layer(step.layer, reads, [sizes[slot] for slot in step.reads], name, len(step.writes))
            slots.update(zip(step.writes, made, strict=True))
        if last:
            model, some, found = model_of(last, graph, sizes, self._dtype)
            layer = self._copied(model, snapshot)
            foreign = Foreign(layer, [sizes[slot] for slot in some])
            made = self._add(foreign, [slots[slot] for slot in some], f"{path}{model.name}", len(found))
            slots.update(zip(found, made, strict=True))
        return [slots[slot] for slot in graph.outputs]

    def _layer(
        self, layer: Layer, reads: Sequence[int], shapes: Sequence[Shape], name: str, outputs: int
    ) -> Sequence[int]:
        if isinstance(layer, Model) and type(layer).forward is Model.forward:
            return self.graph(layer.graph, reads, shapes, f"{name}/")
        rule = RULES.get(type(layer))  # not a subclass, which may compute something else
        operations = None
        if type(layer) is L.Split:
            return self._parts(layer, reads, shapes[0], name)
        floats = self._floats.issuperset(reads) or not layer.traits.integers
        if type(layer) is L.TimeDistributed and self._batched and floats:
            return self._each(layer, reads, shapes, name, outputs)
        alike = type(layer) is not L.Partial or all(each == shapes[0] for each in shapes)  # else one might stretch
        if rule is not None and floats and alike:
            operations = rule(layer, shapes[0], self._constant)
        if operations is None:
            return self._add(Foreign(self._copied(layer, snapshot), shapes), reads, name, outputs)
        made: Sequence[int] = tuple(reads)
        for operation in operations:
            made = self._combined(operation, made, name)
            self._floats.update(made)
        return made

    def _parts(self, layer: L.Split, reads: Sequence[int], shape: Shape, name: str) -> tuple[int, ...]:
        made: list[int] = []
        axis, end = inner_axis(layer.axis, 1 + len(shape)), 0
        for size in layer.sizes:
            made += self._add(moves.Slice(((axis, end, end + size, None),)), reads, name)
            end += size
        self._floats.update(made)
        return tuple(made)

    def _each(
        self, layer: L.TimeDistributed, reads: Sequence[int], shapes: Sequence[Shape], name: str, outputs: int
    ) -> tuple[int, ...]:
        together = [value for each in reads for value in self._add(Together(), (each,), name)]
        self._floats.update(new for new, old in zip(together, reads, strict=True) if old in self._floats)
        self._batched = False
        made = self._layer(layer.inner, together, layer.inner_shapes(shapes), name, outputs)
        self._batched = True
        apart = tuple(value for each in made for value in self._add(Apart(shapes[0][0]), (each,), name))
        self._floats.update(new for new, old in zip(apart, made, strict=True) if old in self._floats)
        return apart

    def _add(self, operation: Operation, reads: Sequence[int], name: str, outputs: int = 1) -> tuple[int, ...]:
        writes = tuple(range(self._values, self._values + outputs))
        self._values += outputs
        self.steps.append(Step(operation, tuple(reads), writes, (name,)))
        return writes

    def _combined(self, operation: Operation, reads: Sequence[int], name: str) -> tuple[int, ...]:
        """Add an operation of any number of values; a sum takes two at a time, in order, as the layer does."""
        if len(reads) == 1 and isinstance(operation, (ops.Sum, ops.Product, ops.Concat)):
            return self._add(ops.Identity(), reads, name)
        if not isinstance(operation, ops.Sum):
            return self._add(operation, reads, name)
        total = reads[0]
        for value in reads[1:]:
            (total,) = self._add(operation, (total, value), name)
        return (total,)

    def _constant(self, array: Array) -> Array:
        return self._copied(
            array, lambda original: np.array(original, order="C") if self._copy else contiguous(original)
        )

    def _copied(self, original: Any, copy: Callable[[Any], Any]) -> Any:
        if id(original) not in self._copies:
            self._copies[id(original)] = copy(original), original
        return self._copies[id(original)][0]


def _bias(layer: Any, constant: Constant) -> Array | None:
    return constant(layer.params["bias"]) if "bias" in layer.params else None


def _window(layer: Any) -> dict[str, Any]:
    return {name: flat_arguments(getattr(layer, name), name) for name in ("stride", "padding", "dilation")}


def _conv(layer: Any, shape: Shape, constant: Constant) -> list[Operation]:
    weight = constant(layer.params["weight"])
    return [Conv(weight, _bias(layer, constant), **_window(layer), groups=layer.groups)]


def _depthwise(layer: Any, shape: Shape, constant: Constant) -> list[Operation]:
    weight = constant(layer.params["weight"])
    return [Conv(weight, _bias(layer, constant), **_window(layer), groups=weight.shape[-1] // layer.multiplier)]


def _separable(layer: Any, shape: Shape, constant: Constant) -> list[Operation]:
    depthwise, pointwise = (constant(layer.params[name]) for name in ("depthwise", "pointwise"))
    first = Conv(depthwise, **_window(layer), groups=depthwise.shape[-1] // layer.multiplier)
    return [first, Conv(pointwise, _bias(layer, constant))]


def _conv_transpose(layer: Any, shape: Shape, constant: Constant) -> list[Operation]:
    weight, bias = constant(layer.params["weight"]), _bias(layer, constant)
    extra = flat_arguments(layer.output_padding, "output_padding")
    return [ConvTranspose(weight, bias, **_window(layer), output_padding=extra, groups=layer.groups)]


def _linear(layer: Any, shape: Shape, constant: Constant) -> list[Operation]:
    return [Linear(constant(layer.params["weight"]), _bias(layer, constant))]


def _local(layer: Any, shape: Shape, constant: Constant) -> list[Operation]:
    window = _window(layer)
    del window["dilation"]
    return [Local(constant(layer.params["weight"]), _bias(layer, constant), **window)]


def _batch_norm(layer: Any, shape: Shape, constant: Constant) -> list[Operation]:
    wide = {
        name: array.astype(np.float64) for arrays in (layer.params, layer.buffers) for name, array in arrays.items()
    }
    with np.errstate(all="ignore"):  # a variance of 0 without eps is infinite here as it is in the layer
        factor = wide["scale"] / np.sqrt(wide["var"] + layer.eps)
        shift = wide["bias"] - wide["mean"] * factor
        return [ops.Scale(factor.astype(layer.dtype), shift.astype(layer.dtype))]


def _activation(layer: Any, shape: Shape, constant: Constant) -> list[Operation]:
    return [ops.Activate(ACTIVATIONS[type(layer)](layer))]


def _layer_norm(layer: Any, shape: Shape, constant: Constant) -> list[Operation]:
    return [normalization.LayerNorm(constant(layer.params["scale"]), constant(layer.params["bias"]), layer.eps)]


def _group_norm(layer: Any, shape: Shape, constant: Constant) -> list[Operation]:
    return [
        normalization.GroupNorm(
            layer.groups, constant(layer.params["scale"]), constant(layer.params["bias"]), layer.eps
        )
    ]


def _pool(how: str, layer: Any) -> list[Operation]:
    window = {name: flat_arguments(getattr(layer, name), name) for name in ("stride", "padding", "dilation")}
    count = getattr(layer, "count_include_pad", False)
    return [Pool(how, layer.kernel, **window, ceil_mode=layer.ceil_mode, count_include_pad=count)]


def _global_pool(how: str, layer: Any, shape: Shape) -> list[Operation]:
    return [AdaptivePool(how, (1,) * (len(shape) - 1) if layer.keepdims else ())]


def _reduce(how: str, layer: Any, shape: Shape) -> list[Operation] | None:
    """Return the pooling that it is where it goes over all pixels and leaves the channels."""
    image = 2 <= len(shape) <= 4 and 0 not in shape
    if not image or sorted(inner_axes(layer.axes, 1 + len(shape))) != list(range(1, len(shape))):
        return None
    return _global_pool(how, layer, shape)


def _slice(layer: Any, shape: Shape, constant: Constant) -> list[Operation]:
    axes = inner_axes(layer.axes, 1 + len(shape))
    parts = zip(axes, layer.slices, strict=True)
    return [moves.Slice(tuple((axis, part.start, part.stop, part.step) for axis, part in parts))]


def _pad_entries(layer: Any, shape: Shape, constant: Constant) -> list[Operation] | None:
    pairs = pad_pairs(shape, layer.padding, layer.mode)
    zeros = layer.mode == "constant" and layer.value == 0 and all(n >= 0 for pair in pairs for n in pair)
    return [ops.Pad(tuple(pairs[:-1]))] if zeros and 2 <= len(shape) <= 4 and not any(pairs[-1]) else None


def _pad(layer: Any, shape: Shape, constant: Constant) -> list[Operation]:
    ones = (1,) * (len(shape) - 1)
    return [ops.Pad(padding_pairs(flat_arguments(layer.padding, "padding"), shape[:-1], ones, ones, ones))]


def _upsample(layer: Any, shape: Shape, constant: Constant) -> list[Operation]:
    scale = ntuple(layer.scale, len(shape) - 1, "scale")
    return [Resize(tuple(UPSAMPLING[layer.mode]), tuple(map(float, scale)))]


def _resize(layer: Any, shape: Shape, constant: Constant) -> list[Operation]:
    scale, size, region = (None if each is None else tuple(each) for each in (layer.scale, layer.size, layer.region))
    return [Resize(tuple(layer.rule), scale, size, region)]


def _resize_like(layer: Any, shape: Shape, constant: Constant) -> list[Operation]:
    return [Resize(tuple(L.Resize(size=[1], **layer.arguments).rule))]


def _clip(layer: Any, shape: Shape, constant: Constant) -> list[Operation]:
    low = -np.inf if layer.low is None else layer.low
    high = np.inf if layer.high is None else layer.high
    named = {(0.0, np.inf): Activation("relu"), (0.0, 6.0): Activation("relu6")}
    return [ops.Activate(named.get((low, high), Activation("clip", low, high)))]


def _scale_shift(layer: Any, shape: Shape, constant: Constant) -> list[Operation] | None:
    ones = np.ones(shape[-1:], layer.dtype)
    return [ops.Scale(ones * layer.scale, ones * layer.shift)] if shape else None


def _partial(layer: Any, shape: Shape, constant: Constant) -> list[Operation] | None:
    """Return what a layer of two inputs does to the one that is free where the other is a number for each channel."""
    if list(layer.held) not in ([0], [1]):
        return None
    (at,) = layer.held
    held = {**layer.params, **layer.buffers}[f"input_{at}"]
    kind = type(layer.inner)
    if kind is L.Gather and at == 1 and layer.inner.axis in (-1, len(shape)) and held.ndim == 1 and shape:
        inside = held.size and -shape[-1] <= held.min() and held.max() < shape[-1]
        return [moves.Pick(held.astype(np.int64))] if inside else None
    if held.dtype.kind != "f" or not shape or held.ndim != len(shape) or held.size not in (1, shape[-1]):
        return None
    if held.size > 1 and held.shape[-1] != held.size:
        return None
    if (kind, at) not in _SCALES:
        return None
    factor, shift = (np.empty(shape[-1:], held.dtype) for _ in range(2))
    with np.errstate(all="ignore"):
        factor[...], shift[...] = _SCALES[kind, at](held.ravel().astype(np.float64))
    return [ops.Scale(factor, shift)] if np.isfinite(factor).all() and np.isfinite(shift).all() else None


#: Factor and shift of one of two inputs, for the numbers that the other one is: by the layer, and which of the two that is.
_SCALES: dict[tuple[type[Layer], int], Callable[[Array], tuple[Any, Any]]] = {
    (L.Add, 0): lambda held: (1, held),
    (L.Add, 1): lambda held: (1, held),
    (L.Multiply, 0): lambda held: (held, 0),
    (L.Multiply, 1): lambda held: (held, 0),
    (L.Subtract, 0): lambda held: (-1, held),
    (L.Subtract, 1): lambda held: (1, -held),
    (L.Divide, 1): lambda held: (1 / held, 0),
}


def _local_response_norm(layer: Any, shape: Shape, constant: Constant) -> list[Operation]:
    return [normalization.LocalResponseNorm(layer.size, layer.alpha, layer.beta, layer.bias)]


RULES: dict[type[Layer], Rule] = {
    **dict.fromkeys((L.Conv1d, L.Conv2d, L.Conv3d), _conv),
    **dict.fromkeys((L.ConvTranspose1d, L.ConvTranspose2d, L.ConvTranspose3d), _conv_transpose),
    **dict.fromkeys((L.LocallyConnected1d, L.LocallyConnected2d), _local),
    **dict.fromkeys(ACTIVATIONS, _activation),
    **{cls: (lambda layer, shape, constant: _pool("max", layer)) for cls in (L.MaxPool1d, L.MaxPool2d, L.MaxPool3d)},
    **{cls: (lambda layer, shape, constant: _pool("avg", layer)) for cls in (L.AvgPool1d, L.AvgPool2d, L.AvgPool3d)},
    **{
        cls: (lambda layer, shape, constant: [AdaptivePool("max", layer.output_size)])
        for cls in (L.AdaptiveMaxPool1d, L.AdaptiveMaxPool2d, L.AdaptiveMaxPool3d)
    },
    **{
        cls: (lambda layer, shape, constant: [AdaptivePool("avg", layer.output_size)])
        for cls in (L.AdaptiveAvgPool1d, L.AdaptiveAvgPool2d, L.AdaptiveAvgPool3d)
    },
    L.GlobalMaxPool: lambda layer, shape, constant: _global_pool("max", layer, shape),
    L.GlobalAvgPool: lambda layer, shape, constant: _global_pool("avg", layer, shape),
    L.ReduceMax: lambda layer, shape, constant: _reduce("max", layer, shape),
    L.ReduceMean: lambda layer, shape, constant: _reduce("avg", layer, shape),
    L.DepthwiseConv2d: _depthwise,
    L.SeparableConv2d: _separable,
    L.Linear: _linear,
    L.BatchNorm: _batch_norm,
    L.LayerNorm: _layer_norm,
    L.GroupNorm: _group_norm,
    L.Softmax: lambda layer, shape, constant: [normalization.Softmax()],
    L.Dropout: lambda layer, shape, constant: [ops.Identity()],
    L.StochasticDepth: lambda layer, shape, constant: [ops.Identity()],
    L.SpatialDropout: lambda layer, shape, constant: [ops.Identity()],
    L.AlphaDropout: lambda layer, shape, constant: [ops.Identity()],
    L.Flatten: lambda layer, shape, constant: [ops.Reshape((-1,))],
    L.Transpose: lambda layer, shape, constant: [moves.Transpose((0, *layer.axes))],
    L.Clip: _clip,
    L.ScaleShift: _scale_shift,
    L.Partial: _partial,
    L.MatMul: lambda layer, shape, constant: [MatMul()],
    L.LocalResponseNorm: _local_response_norm,
    L.Slice: _slice,
    L.Squeeze: lambda layer, shape, constant: [ops.Squeeze(inner_axes(layer.axes, 1 + len(shape)))],
    L.Unsqueeze: lambda layer, shape, constant: [
        ops.Unsqueeze(inner_axes(layer.axes, 1 + len(shape) + len(layer.axes)))
    ],
    L.Pad: _pad_entries,
    L.Subtract: lambda layer, shape, constant: [ops.Pair("difference")],
    L.Divide: lambda layer, shape, constant: [ops.Pair("quotient")],
    L.Reshape: lambda layer, shape, constant: None if layer.copy else [ops.Reshape(layer.shape)],
    L.ZeroPad: _pad,
    L.Upsample: _upsample,
    L.Resize: _resize,
    L.ResizeLike: _resize_like,
    L.Add: lambda layer, shape, constant: [ops.Sum()],
    L.Multiply: lambda layer, shape, constant: [ops.Product()],
    L.Concat: lambda layer, shape, constant: [ops.Concat(layer.axis)],
}
