"""Calls of a layer by models and users: inputs and outputs are checked, and errors name the layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastconv.arrays import as_array, is_foreign
from fastconv.layers.context import Context
from fastconv.layers.symbol import Node, Shape, Symbol, several
from fastconv.layers.tree import collect

if TYPE_CHECKING:
    from fastconv.layers.base import Backward, Layer

#: The dtypes that layers compute in.
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def arrays_of(layer: Layer, xs: tuple[Any, ...]) -> tuple[np.ndarray, ...]:
    """Return the inputs of a call as arrays; raise `TypeError`, naming the layer, for what is none."""
    if all(isinstance(x, np.ndarray) for x in xs):
        return xs
    for x in xs:
        if isinstance(x, Symbol) or not (isinstance(x, np.ndarray) or is_foreign(x)):
            raise TypeError(
                f"{layer.label} takes arrays with a batch axis, or symbols made by Input, "
                f"got {', '.join(type(x).__name__ for x in xs)}"
            )
    return tuple(as_array(x, f"the input of {layer.label}") for x in xs)


def connect(layer: Layer, inputs: Sequence[Symbol]) -> Any:
    """Add a node to the graph that `inputs` belong to, and return its symbol (a tuple for several outputs)."""
    shape = shape_of(layer, [x.shape for x in inputs])
    many = several(shape)
    made = Node(layer, inputs, shape if many else (shape,)).outputs
    return made if many else made[0]


def shape_of(layer: Layer, shapes: Sequence[Shape]) -> Any:
    """Return ``layer.output_shape(*shapes)``, checked to be a shape or a tuple of shapes; errors name the layer."""
    try:
        shape = layer.output_shape(*shapes)
        return tuple(_shape(item) for item in shape) if several(shape) else _shape(shape)
    except Exception as error:
        _say_where(error, layer)
        raise


def _shape(shape: Any) -> Shape:
    if type(shape) is tuple and {int}.issuperset(map(type, shape)) and min(shape, default=1) >= 1:
        return shape
    if not isinstance(shape, (tuple, list)) or not all(isinstance(n, (int, np.integer)) and n >= 1 for n in shape):
        raise ValueError(f"output_shape must return a tuple of integers, each at least 1, got {shape!r}")
    return tuple(int(n) for n in shape)


def ensure_built(layer: Layer, shapes: Sequence[Shape], rng: np.random.Generator | None) -> None:
    """Build a layer that is not built yet, and cast it to its dtype; errors name the layer."""
    if layer.built:
        return
    try:
        layer.build(*shapes, rng=rng)
    except Exception as error:
        _say_where(error, layer)
        raise
    layer._built = True
    if layer._dtype != FLOATS[0]:
        layer.astype(layer._dtype)


def run(layer: Layer, ctx: Context, xs: Sequence[np.ndarray]) -> tuple[Any, Backward]:
    """Return ``layer.forward(ctx, *xs)``, checked to be a pair; errors name the layer."""
    _require_inputs(layer, xs)
    try:
        result = layer.forward(ctx, *xs)
    except Exception as error:
        _say_where(error, layer)
        raise
    if not (isinstance(result, tuple) and len(result) == 2 and callable(result[1])):
        raise TypeError(f"forward of {layer.label} must return (y, backward), got {_described(result)}")
    y = result[0]
    if not isinstance(y, np.ndarray) and not (isinstance(y, tuple) and all(isinstance(part, np.ndarray) for part in y)):
        raise TypeError(
            f"forward of {layer.label} must return an array first, or a tuple of arrays, got {_described(y)}"
        )
    return result


def _require_inputs(layer: Layer, xs: Sequence[np.ndarray]) -> None:
    """Raise for what no layer takes: other dtypes than declared, floats of two widths, no axis of channels."""
    params = layer.own("params")
    dtype = next(iter(params.values())).dtype if params else None
    if len(xs) == 1 and xs[0].dtype is (FLOATS[0] if dtype is None else dtype) and xs[0].ndim > 1:
        return  # as nearly always
    for at, x in enumerate(xs):
        if x.dtype not in FLOATS and x.dtype.newbyteorder("=") not in FLOATS:
            integers = layer.traits.takes_integers(at)
            if not (integers and x.dtype.kind in "iub"):
                raise TypeError(
                    f"in {layer.label}: x must be a float32 or float64 array{' or one of integers' if integers else ''}, "
                    f"got {x.dtype} of shape {x.shape}: cast it, with x.astype(numpy.{layer.dtype})"
                )
        elif dtype is not None and x.dtype != dtype:
            raise TypeError(
                f"{layer.label} is {dtype} and got an input of {x.dtype}: "
                f"cast one of them, with x.astype(numpy.{dtype}) or model.astype(numpy.{x.dtype})"
            )
        elif x.ndim < 2 and not layer.takes_numbers:
            raise ValueError(f"in {layer.label}: x must have shape (N, ..., C), got (N,)")
    if len(xs) > 1 and len({x.dtype for x in xs if x.dtype.kind == "f"}) > 1:
        raise TypeError(
            f"in {layer.label}: the inputs must have one dtype, got {' and '.join(str(x.dtype) for x in xs)}"
        )


def run_backward(layer: Layer, backward: Backward, dy: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """Return ``backward(dy)``, checked to have the gradient of every parameter; errors name the layer."""
    try:
        result = backward(dy)
    except Exception as error:
        _say_where(error, layer)
        raise
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)):
        raise TypeError(
            f"backward of {layer.label} must return the gradient of its input and a dict of parameter gradients, "
            f"got {_described(result)}"
        )
    _check_gradients(layer, result[1])
    return result


def _check_gradients(layer: Layer, gradients: dict[str, np.ndarray]) -> None:
    params = layer.own("params")
    missing: set[str] = set()
    if gradients.keys() != params.keys():
        params = collect(layer, "params")  # with those of the layers inside
        missing = set(collect(layer, "params", trainable=True)) - set(gradients)
    unknown = set(gradients) - set(params)
    if missing or unknown:
        raise ValueError(
            f"backward of {layer.label} must return one gradient for each parameter: "
            f"missing {sorted(missing)}, unknown {sorted(unknown)}"
        )
    for name, gradient in gradients.items():
        if gradient.shape != params[name].shape:
            raise ValueError(
                f"backward of {layer.label} must return a gradient of shape {params[name].shape} for its parameter {name!r}, "
                f"got {gradient.shape}"
            )


def _described(value: Any) -> str:
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}: ({', '.join(type(item).__name__ for item in value)})"
    return type(value).__name__


def _say_where(error: Exception, layer: Layer) -> None:
    """Put the layer in front of the message of `error`, which stays the same object, with its type and its traceback."""
    if len(error.args) == 1 and isinstance(error.args[0], str):
        if error.args[0].startswith(layer.label):  # a model has said so itself
            return
        error.args = (f"in {layer.label}: {error.args[0]}",)
    elif hasattr(error, "add_note"):  # Python 3.11
        error.add_note(f"in {layer.label}")
