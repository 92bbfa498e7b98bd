"""Every operation of fastconv.functional, there and back, on arrays large enough for four threads: one table for many tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from inspect import signature
from typing import Any, NamedTuple

import numpy as np

from fastconv import _kernels, functional
from fastconv._kernels.protocol import Kernels
from fastconv.functional.interpolate import Line, Rule

Arrays = tuple[np.ndarray, ...]


class Operation(NamedTuple):
    """Arrays of `shapes` go through `function` and, as its own gradient, back through its ``_backward``."""

    label: str
    function: str
    shapes: list[tuple[int, ...]]
    call: Callable[..., Arrays]

    def arrays(self, dtype: Any) -> Arrays:
        """Return random arrays of the operation's shapes, read-only: all tests share them."""
        return _random(tuple(self.shapes), np.dtype(dtype))

    def run(self, arrays: Arrays) -> Arrays:
        """Return the output and the gradients."""
        return tuple(np.asarray(array) for array in self.call(*arrays))


@cache
def _random(shapes: tuple[tuple[int, ...], ...], dtype: np.dtype) -> Arrays:
    rng = np.random.default_rng(0)
    arrays = tuple(rng.standard_normal(shape).astype(dtype) for shape in shapes)
    for array in arrays:
        array.flags.writeable = False
    return arrays


def _weighted(label: str, function: str, shapes: list[tuple[int, ...]], **keywords: Any) -> Operation:
    """An operation on (x, weight, bias)."""

    def call(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> Arrays:
        y = getattr(functional, function)(x, weight, bias, **keywords)
        return (y, *getattr(functional, f"{function}_backward")(y, x, weight, **keywords))

    return Operation(f"{function}: {label}", function, shapes, call)


def _of_x(
    label: str, function: str, *arguments: Any, shape: tuple[int, ...] = (2, 50, 52, 40), **keywords: Any
) -> Operation:
    """An operation on x whose backward pass takes dy and x."""

    def call(x: np.ndarray) -> Arrays:
        y = getattr(functional, function)(x, *arguments, **keywords)
        return y, getattr(functional, f"{function}_backward")(y, x, *arguments, **keywords)

    return Operation(f"{function}: {label}", function, [shape], call)


def _indexed(label: str, function: str, *arguments: Any, shape: tuple[int, ...], **keywords: Any) -> Operation:
    """A pooling of x that keeps the indices of maxima, which its backward pass takes with dy."""

    def call(x: np.ndarray) -> Arrays:
        y, indices = getattr(functional, function)(x, *arguments, **keywords)
        return y, getattr(functional, f"{function}_backward")(y, indices)

    return Operation(f"{function}: {label}", function, [shape], call)


def _of_shape(
    label: str, function: str, *arguments: Any, shape: tuple[int, ...] = (2, 50, 52, 40), **keywords: Any
) -> Operation:
    """An operation on x whose backward pass takes dy and the shape of x."""

    def call(x: np.ndarray) -> Arrays:
        y = getattr(functional, function)(x, *arguments, **keywords)
        return y, getattr(functional, f"{function}_backward")(y, x.shape, *arguments, **keywords)

    return Operation(f"{function}: {label}", function, [shape], call)


def _of_y(function: str) -> Operation:
    """An operation on x whose backward pass takes dy and y."""

    def call(x: np.ndarray) -> Arrays:
        y = getattr(functional, function)(x)
        return y, getattr(functional, f"{function}_backward")(x, y)

    return Operation(function, function, [(40, 5203)], call)


def _batch_norm(x: np.ndarray, scale: np.ndarray, bias: np.ndarray) -> Arrays:
    y, mean, var = functional.batch_norm(x, scale, bias)
    evaluated, _, _ = functional.batch_norm(x, scale, bias, mean=mean, var=var)
    return y, evaluated, mean, var, *functional.batch_norm_backward(y, x, scale, mean, var)


def _batch_norm_relu(x: np.ndarray, scale: np.ndarray, bias: np.ndarray) -> Arrays:
    y, mean, var = functional.batch_norm_relu(x, scale, bias)
    evaluated, _, _ = functional.batch_norm_relu(x, scale, bias, residual=x, mean=mean, var=var)
    return y, evaluated, mean, var, *functional.batch_norm_relu_backward(x, x, scale, bias, mean, var)


def _norm_relu_pool(x: np.ndarray, scale: np.ndarray, bias: np.ndarray) -> Arrays:
    y, mean, var, maxima = functional.batch_norm_relu_max_pool(x, scale, bias, 3, stride=2, padding=1)
    back = functional.batch_norm_relu_max_pool_backward(y, x, scale, bias, mean, var, maxima)
    return y, mean, var, *back


def _group_norm(x: np.ndarray, scale: np.ndarray, bias: np.ndarray) -> Arrays:
    y = functional.group_norm(x, 8, scale, bias)
    return y, *functional.group_norm_backward(y, x, 8, scale)


def _group_norm_known(x: np.ndarray, scale: np.ndarray, bias: np.ndarray) -> Arrays:
    y, mean, var = functional.group_norm_with_statistics(x, 8, scale, bias)
    return y, mean, var, *functional.group_norm_with_statistics_backward(y, x, 8, scale, mean, var)


def _layer_norm(x: np.ndarray, scale: np.ndarray, bias: np.ndarray) -> Arrays:
    y = functional.layer_norm(x, scale, bias)
    return y, *functional.layer_norm_backward(y, x, scale)


def _cross_entropy(logits: np.ndarray) -> Arrays:
    labels = np.arange(len(logits)) % logits.shape[1]
    return functional.cross_entropy(logits, labels), functional.cross_entropy_backward(logits, labels)


ACTIVATIONS = (
    "relu", "relu6", "leaky_relu", "elu", "selu", "gelu", "silu", "hard_swish", "hard_sigmoid", "sigmoid", "tanh", "softplus",
)  # fmt: skip

OPERATIONS = [
    _weighted("3x3", "conv", [(2, 53, 55, 20), (3, 3, 20, 40), (40,)], padding=1),
    _weighted("one input channel", "conv", [(2, 40, 41, 1), (5, 5, 1, 20), (20,)], padding="same"),
    _weighted("strided, dilated, grouped", "conv", [(2, 41, 40, 24), (3, 2, 8, 36), (36,)], stride=2, dilation=2, groups=3),
    _weighted("1x1", "conv", [(2, 19, 21, 70), (1, 1, 70, 90), (90,)]),
    _weighted("few pixels, many channels", "conv", [(1, 4, 4, 130), (3, 3, 130, 520), (520,)], padding=1),
    _weighted("rank 1", "conv", [(3, 801, 17), (5, 17, 33), (33,)], stride=2, padding=((3, 1),)),
    _weighted("rank 3", "conv", [(1, 9, 11, 10, 12), (3, 3, 3, 12, 20), (20,)], padding=1),
    _weighted("depthwise", "conv", [(2, 41, 40, 39), (3, 3, 1, 39), (39,)], stride=(1, 2), padding=1, groups=39),
    _weighted("depthwise, three channels", "conv", [(2, 90, 90, 3), (5, 5, 1, 3), (3,)], padding=2, groups=3),
    _weighted("stride 2", "conv_transpose", [(2, 17, 18, 30), (4, 4, 25, 30), (25,)], stride=2, padding=1),
    _weighted("groups", "conv_transpose", [(2, 301, 24), (3, 10, 24), (20,)], stride=3, output_padding=1, groups=2),
    _weighted("depthwise", "conv_transpose", [(2, 30, 31, 20), (3, 3, 1, 20), (20,)], stride=2, groups=20),
    _weighted("", "linear", [(301, 111), (111, 95), (95,)]),
    _weighted("one row", "linear", [(1, 1111), (1111, 795), (795,)]),
    _weighted("few rows", "linear", [(7, 1111), (1111, 795), (795,)]),
    _weighted("", "locally_connected", [(5, 12, 13, 9), (12, 13, 3, 3, 9, 20), (12, 13, 20)], padding="same"),
    _of_x("3x3", "max_pool", 3, stride=2, padding=1),
    _of_x("overlapping, dilated", "max_pool", (2, 3), stride=1, dilation=2),
    _of_x("rank 1", "max_pool", 5, stride=2, ceil_mode=True, shape=(3, 2003, 40)),
    _indexed("3x3", "max_pool_with_indices", 3, stride=1, padding=1, shape=(2, 50, 52, 72)),
    _indexed("few channels", "max_pool_with_indices", (2, 3), shape=(2, 180, 180, 3)),
    _of_shape("2x2", "avg_pool", 2),
    _of_shape("overlapping, padding counted", "avg_pool", 5, stride=2, padding=2, count_include_pad=True),
    _of_shape("rank 3", "avg_pool", (1, 2, 3), stride=1, shape=(1, 20, 21, 22, 30)),
    _of_x("", "adaptive_max_pool", (7, 9)),
    _indexed("", "adaptive_max_pool_with_indices", (7, 9), shape=(2, 50, 52, 40)),
    _of_shape("", "adaptive_avg_pool", (7, 9)),
    _of_shape("global", "adaptive_avg_pool", 1),
    _of_x("3-norm", "lp_pool", (2, 3), p=3, stride=2, padding=1),
    _of_shape("reflected", "pad", [(0, 0), (3, 1), (0, 2), (0, 1)], mode="reflect"),
    _of_shape("constant", "pad", [(0, 0), (3, -1), (-2, 2), (0, 0)], shape=(2, 30, 31, 20)),
    _of_shape("cubic", "interpolate", [None, Line(31), Line(70), None], Rule("cubic"), shape=(2, 50, 52, 20)),
    _of_shape("nearest", "upsample", 2),
    _of_shape("bilinear", "upsample", (2, 3), mode="bilinear"),
    Operation("batch_norm", "batch_norm", [(2, 50, 52, 40), (40,), (40,)], _batch_norm),
    Operation("batch_norm_relu", "batch_norm_relu", [(2, 50, 52, 40), (40,), (40,)], _batch_norm_relu),
    Operation("batch_norm_relu_max_pool", "batch_norm_relu_max_pool", [(2, 50, 52, 40), (40,), (40,)], _norm_relu_pool),
    Operation("group_norm", "group_norm", [(5, 50, 52, 40), (40,), (40,)], _group_norm),
    Operation("group_norm_with_statistics", "group_norm_with_statistics", [(5, 50, 52, 40), (40,), (40,)], _group_norm_known),
    Operation("layer_norm", "layer_norm", [(2, 50, 52, 40), (40,), (40,)], _layer_norm),
    _of_x("approximate", "gelu", approximate=True),
    *(_of_x("", name) for name in ACTIVATIONS),
    _of_y("softmax"),
    _of_y("log_softmax"),
    Operation("cross_entropy", "cross_entropy", [(4003, 53)], _cross_entropy),
]  # fmt: skip


class _Recorder:
    """A kernel module that writes down each call: the kernel's name and its threads (None for what takes no threads)."""

    def __init__(self, module: Any, calls: list[tuple[str, int | None]]) -> None:
        self.module, self.calls = module, calls

    def __getattr__(self, name: str) -> Any:
        kernel = getattr(self.module, name)
        threaded = "threads" in signature(getattr(Kernels, name)).parameters

        def call(*arguments: Any) -> Any:
            self.calls.append((name, arguments[-1] if threaded else None))
            return kernel(*arguments)

        return call


@contextmanager
def recorded() -> Iterator[list[tuple[str, int | None]]]:
    """Write down every kernel that runs in the ``with`` block, with the number of its threads."""
    before, calls = dict(_kernels.modules), []
    for dtype, module in before.items():
        _kernels.modules[dtype] = _Recorder(module, calls)
    try:
        yield calls
    finally:
        _kernels.modules.update(before)
