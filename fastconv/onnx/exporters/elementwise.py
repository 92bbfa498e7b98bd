"""Elementwise layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastconv import layers as L
from fastconv.onnx.exporters import exports
from fastconv.onnx.writer import Tensor, Writer

#: Layers that are one operator, with the arguments of its node.
_SAME: dict[type[L.Layer], tuple[str, Callable[[Any], dict[str, Any]]]] = {
    L.ReLU: ("Relu", lambda layer: {}),
    L.LeakyReLU: ("LeakyRelu", lambda layer: {"alpha": layer.slope}),
    L.ELU: ("Elu", lambda layer: {"alpha": layer.alpha}),
    L.Sigmoid: ("Sigmoid", lambda layer: {}),
    L.Tanh: ("Tanh", lambda layer: {}),
    L.Softplus: ("Softplus", lambda layer: {}),
    L.Softsign: ("Softsign", lambda layer: {}),
    L.Abs: ("Abs", lambda layer: {}),
    L.Exp: ("Exp", lambda layer: {}),
    L.Log: ("Log", lambda layer: {}),
    L.Sqrt: ("Sqrt", lambda layer: {}),
    L.Reciprocal: ("Reciprocal", lambda layer: {}),
    L.Erf: ("Erf", lambda layer: {}),
    L.ThresholdedReLU: ("ThresholdedRelu", lambda layer: {"alpha": layer.threshold}),
    L.HardSigmoid: ("HardSigmoid", lambda layer: {"alpha": 1 / 6, "beta": 0.5}),
    L.SELU: ("Selu", lambda layer: {}),
    L.Sign: ("Sign", lambda layer: {}),
    L.Floor: ("Floor", lambda layer: {}),
    L.Ceil: ("Ceil", lambda layer: {}),
    L.Round: ("Round", lambda layer: {}),
    L.Sin: ("Sin", lambda layer: {}),
    L.Cos: ("Cos", lambda layer: {}),
    L.Tan: ("Tan", lambda layer: {}),
    L.Arcsin: ("Asin", lambda layer: {}),
    L.Arccos: ("Acos", lambda layer: {}),
    L.Arctan: ("Atan", lambda layer: {}),
    L.Sinh: ("Sinh", lambda layer: {}),
    L.Cosh: ("Cosh", lambda layer: {}),
    L.Arcsinh: ("Asinh", lambda layer: {}),
    L.Arccosh: ("Acosh", lambda layer: {}),
    L.Arctanh: ("Atanh", lambda layer: {}),
}


@exports(*_SAME)
def same(w: Writer, layer: Any, x: Tensor) -> Tensor:
    op, attributes = _SAME[next(kind for kind in type(layer).__mro__ if kind in _SAME)]
    return w.like(x, w.call(op, x.name, **attributes(layer)))


@exports(L.GELU)
def gelu(w: Writer, layer: Any, x: Tensor) -> Tensor:
    if w.opset >= 20:
        return w.like(x, w.call("Gelu", x.name, approximate="tanh" if layer.approximate else "none"))
    half = w.call("Mul", x.name, w.constant(0.5))
    if layer.approximate:
        cube = w.call("Mul", w.call("Mul", x.name, x.name), x.name)
        inner = w.call("Add", x.name, w.call("Mul", cube, w.constant(0.044715)))
        bent = w.call("Tanh", w.call("Mul", inner, w.constant(np.sqrt(2 / np.pi))))
    else:
        bent = w.call("Erf", w.call("Mul", x.name, w.constant(np.sqrt(0.5))))
    return w.like(x, w.call("Mul", half, w.call("Add", bent, w.constant(1.0))))


@exports(L.SiLU)
def silu(w: Writer, layer: Any, x: Tensor) -> Tensor:
    return w.like(x, w.call("Mul", x.name, w.call("Sigmoid", x.name)))


@exports(L.HardSwish)
def hard_swish(w: Writer, layer: Any, x: Tensor) -> Tensor:
    if w.opset >= 14:
        return w.like(x, w.call("HardSwish", x.name))
    return w.like(x, w.call("Mul", x.name, w.call("HardSigmoid", x.name, alpha=1 / 6, beta=0.5)))


@exports(L.Mish)
def mish(w: Writer, layer: Any, x: Tensor) -> Tensor:
    return w.like(x, w.call("Mul", x.name, w.call("Tanh", w.call("Softplus", x.name))))


@exports(L.CELU)
def celu(w: Writer, layer: Any, x: Tensor) -> Tensor:
    alpha = w.constant(layer.alpha)
    below = w.call("Min", w.call("Div", x.name, alpha), w.constant(80.0))
    bent = w.call("Mul", w.call("Sub", w.call("Exp", below), w.constant(1.0)), alpha)
    parts = w.call("Max", x.name, w.constant(0.0)), w.call("Min", bent, w.constant(0.0))
    return w.like(x, w.call("Add", *parts))


@exports(L.Clip)
def clip(w: Writer, layer: Any, x: Tensor) -> Tensor:
    bounds = ["" if bound is None else w.constant(bound, dtype=x.dtype) for bound in (layer.low, layer.high)]
    return w.like(x, w.call("Clip", x.name, *bounds))


@exports(L.ScaleShift)
def scale_shift(w: Writer, layer: Any, x: Tensor) -> Tensor:
    name = x.name
    if layer.scale != 1 or layer.shift == 0:
        name = w.call("Mul", name, w.constant(layer.scale, dtype=x.dtype))
    if layer.shift != 0:
        name = w.call("Add", name, w.constant(layer.shift, dtype=x.dtype))
    return w.like(x, name)


@exports(L.Square)
def square(w: Writer, layer: Any, x: Tensor) -> Tensor:
    return w.like(x, w.call("Mul", x.name, x.name))


@exports(L.PReLU)
def prelu(w: Writer, layer: Any, x: Tensor) -> Tensor:
    return w.like(x, w.call("PRelu", x.name, w.held(x, layer.params["slope"], "slope")))


@exports(L.Dropout)
def dropout(w: Writer, layer: Any, x: Tensor) -> Tensor:
    return w.like(x, w.call("Dropout", x.name, w.constant(layer.rate, dtype=np.float32)))


@exports(L.AlphaDropout, L.SpatialDropout, L.StochasticDepth)
def dropped_in_training(w: Writer, layer: Any, x: Tensor) -> Tensor:
    return w.like(x, w.call("Identity", x.name))


@exports(L.ReLU6)
def relu6(w: Writer, layer: Any, x: Tensor) -> Tensor:
    return w.like(x, w.call("Clip", x.name, w.constant(0.0), w.constant(6.0)))


@exports(L.FixedDropout)
def fixed_dropout(w: Writer, layer: Any, x: Tensor) -> Tensor:
    ones = np.ones((1, *x.shape), w.dtype)
    return w.like(x, w.call("Mul", x.name, w.held(x, layer(ones)[0], "kept")))


@exports(L.Softmax, L.LogSoftmax)
def softmax(w: Writer, layer: Any, x: Tensor) -> Tensor:
    op = "Softmax" if isinstance(layer, L.Softmax) else "LogSoftmax"
    return w.like(x, w.call(op, x.name, axis=x.axis(-1)))


@exports(L.Cast)
def cast(w: Writer, layer: Any, x: Tensor) -> Tensor:
    dtype = w.dtype if layer.asked == "float" else layer.dtype_out
    number = w.onnx.helper.np_dtype_to_tensor_dtype(dtype)
    return w.like(x, w.call("Cast", x.name, to=number), dtype=dtype)


@exports(L.Not)
def not_(w: Writer, layer: Any, x: Tensor) -> Tensor:
    return w.like(x, w.call("Not", _truth(w, x)), dtype=bool)


_COMBINED = {
    L.Add: "Add",
    L.Multiply: "Mul",
    L.Subtract: "Sub",
    L.Divide: "Div",
    L.Power: "Pow",
    L.Maximum: "Max",
    L.Minimum: "Min",
}


def combined(w: Writer, layer: Any, xs: tuple[Tensor, ...]) -> tuple[list[Tensor], Tensor]:
    """Return tensors that lie as the largest of them does, and what the output is like."""
    lead = max(xs, key=lambda x: int(np.prod(x.shape)))
    turned = [w.arranged(x, lead.order) for x in xs]
    return turned, w.like(lead, "", w.output_shape(layer, *xs))


@exports(*_COMBINED)
def combine(w: Writer, layer: Any, *xs: Tensor) -> Tensor:
    op = _COMBINED[next(kind for kind in type(layer).__mro__ if kind in _COMBINED)]
    turned, out = combined(w, layer, xs)
    name = turned[0].name
    for x in turned[1:]:
        name = w.call(op, name, x.name)
    return out._replace(name=w.call("Identity", name) if len(xs) == 1 else name)


@exports(L.Modulo)
def modulo(w: Writer, layer: Any, *xs: Tensor) -> Tensor:
    turned, out = combined(w, layer, xs)
    a, b = (x.name for x in turned)
    if layer.truncated or xs[0].dtype.kind != "f":
        return out._replace(name=w.call("Mod", a, b, fmod=int(layer.truncated)))
    rest = w.call("Mod", a, b, fmod=1)  # which has the sign of a
    return out._replace(name=w.call("Mod", w.call("Add", rest, b), b, fmod=1))


_COMPARE = {
    "equal": "Equal",
    "greater": "Greater",
    "less": "Less",
    "greater_or_equal": "GreaterOrEqual",
    "less_or_equal": "LessOrEqual",
}


@exports(L.Compare)
def compare(w: Writer, layer: Any, *xs: Tensor) -> Tensor:
    turned, out = combined(w, layer, xs)
    op = _COMPARE[layer.relation]
    return out._replace(name=w.call(op, *(x.name for x in turned)), dtype=np.dtype(bool))


def _truth(w: Writer, x: Tensor) -> str:
    """Return a tensor as booleans."""
    if x.dtype == bool:
        return x.name
    return w.call("Cast", x.name, to=w.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(bool)))


@exports(L.Logic)
def logic(w: Writer, layer: Any, *xs: Tensor) -> Tensor:
    turned, out = combined(w, layer, xs)
    name = w.call(layer.relation.capitalize(), *(_truth(w, x) for x in turned))
    return out._replace(name=name, dtype=np.dtype(bool))


@exports(L.Where)
def where(w: Writer, layer: Any, *xs: Tensor) -> Tensor:
    turned, out = combined(w, layer, xs)
    return out._replace(name=w.call("Where", _truth(w, turned[0]), turned[1].name, turned[2].name), dtype=xs[1].dtype)
