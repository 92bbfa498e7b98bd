"""The same calls in PyTorch, as its users make them; for gradients the functions that its automatic differentiation calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.case import Case, Engine, draw
from benchmarks.tensors import images, memory_format

Call = Callable[[], Any]

aten = torch.ops.aten
F = torch.nn.functional

#: Activation -> forward, and its gradient from dy, x and y.
ACTIVATIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "relu": (F.relu, lambda dy, x, y: aten.threshold_backward(dy, y, 0)),
    "leaky_relu": (F.leaky_relu, lambda dy, x, y: aten.leaky_relu_backward(dy, x, 0.01, False)),
    "silu": (F.silu, lambda dy, x, y: aten.silu_backward(dy, x)),
    "gelu": (F.gelu, lambda dy, x, y: aten.gelu_backward(dy, x)),
    "sigmoid": (torch.sigmoid, lambda dy, x, y: aten.sigmoid_backward(dy, y)),
    "tanh": (torch.tanh, lambda dy, x, y: aten.tanh_backward(dy, y)),
    "hard_swish": (F.hardswish, lambda dy, x, y: aten.hardswish_backward(dy, x)),
    "hard_sigmoid": (F.hardsigmoid, lambda dy, x, y: aten.hardsigmoid_backward(dy, x)),
}


def prepare(engine: Engine, case: Case, way: str) -> Call | None:
    """Return the call that makes this pass, or None where arrays of this rank have no such memory format."""
    torch.set_num_threads(engine.threads)
    if engine.layout == "channels_last" and len(case.size) < 2:
        return None
    if case.op == "network":
        from benchmarks import theirs_networks

        return theirs_networks.prepare(engine, case, way)
    x = images(case.input_shape, engine)
    dy = images(case.output_shape, engine, seed=1)
    if case.op == "linear":
        return _linear(case, way, x, dy, engine)
    if case.op in ("conv", "conv_transpose"):
        return _conv(case, way, x, dy, engine)
    return _plain(case, way, x, dy, engine)


def inference(function: Callable[..., Any], *arguments: Any, **options: Any) -> Call:
    """Return a call without anything recorded for a backward pass."""

    def call() -> Any:
        with torch.inference_mode():
            return function(*arguments, **options)

    return call


def _linear(case: Case, way: str, x: torch.Tensor, dy: torch.Tensor, engine: Engine) -> Call:
    weight = torch.from_numpy(draw((case.outputs, case.channels), engine.dtype, seed=2))
    if way == "forward":
        return inference(F.linear, x, weight)
    parts = {"backward_input": (True, False), "backward_weight": (False, True), "backward": (True, True)}[way]

    def backward() -> tuple[Any, Any]:
        return dy @ weight if parts[0] else None, dy.T @ x if parts[1] else None

    return inference(backward)


def _conv(case: Case, way: str, x: torch.Tensor, dy: torch.Tensor, engine: Engine) -> Call:
    rank, transposed = len(case.size), case.op == "conv_transpose"
    first = (case.channels, case.outputs // case.groups) if transposed else (case.outputs, case.channels // case.groups)
    weight = torch.from_numpy(draw((*first, *case.kernel), engine.dtype, seed=2))
    weight = weight.contiguous(memory_format=memory_format(engine, rank + 2))
    dilation = (case.dilation,) * rank
    if way == "forward":
        function = getattr(F, f"conv_transpose{rank}d" if transposed else f"conv{rank}d")
        options = {"stride": case.stride, "padding": case.padding, "dilation": dilation, "groups": case.groups}
        return inference(function, x, weight, **options)
    mask = [way != "backward_weight", way != "backward_input", False]
    none = (0,) * rank
    return inference(
        aten.convolution_backward,
        *(dy, x, weight, None, case.stride, case.padding, dilation, transposed, none, case.groups, mask),
    )


def _plain(case: Case, way: str, x: torch.Tensor, dy: torch.Tensor, engine: Engine) -> Call:
    rank, forward = len(case.size), way == "forward"
    if case.op == "activation":
        function, gradient = ACTIVATIONS[case.name]
        return inference(function, x) if forward else inference(gradient, dy, x, function(x))
    if case.op == "batch_norm":
        scale, bias = (torch.from_numpy(draw((case.channels,), engine.dtype, seed=seed)) for seed in (2, 3))
        if forward:
            return inference(F.batch_norm, x, None, None, scale, bias, training=True)
        _, mean, inverse = aten.native_batch_norm(x, scale, bias, None, None, True, 0.1, 1e-5)
        return inference(
            aten.native_batch_norm_backward, dy, x, scale, None, None, mean, inverse, True, 1e-5, [True, True, True]
        )
    if case.op == "global_avg_pool":
        if forward:
            return inference(getattr(F, f"adaptive_avg_pool{rank}d"), x, 1)
        pixels = x[0, 0].numel()
        return inference(lambda: dy.expand(x.shape) / pixels)  # how the gradient of a mean is defined there
    return _pool(case, forward, x, dy)


def _pool(case: Case, forward: bool, x: torch.Tensor, dy: torch.Tensor) -> Call:
    rank = len(case.size)
    window = (case.kernel, case.stride, case.padding)
    if case.op == "avg_pool":
        if forward:
            return inference(getattr(F, f"avg_pool{rank}d"), x, *window, count_include_pad=False)
        return inference(getattr(aten, f"avg_pool{rank}d_backward"), dy, x, *window, False, False, None)
    if forward:
        return inference(getattr(F, f"max_pool{rank}d"), x, *window)
    if rank == 1:  # there a line is an image of one row
        x, dy, rank = x.unsqueeze(2), dy.unsqueeze(2), 2
        window = tuple((least, *each) for least, each in zip((1, 1, 0), window, strict=True))
    _, chosen = getattr(aten, f"max_pool{rank}d_with_indices")(x, *window)
    return inference(
        getattr(aten, f"max_pool{rank}d_with_indices_backward"), dy, x, *window, (1,) * rank, False, chosen
    )
