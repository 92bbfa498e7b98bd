"""PyTorch modules that its exporter leaves out, refuses or ties to one image size: how they are written instead.

While a module is written, those inside it that are listed here compute the same with other operators, or are nodes of an
operator of our own that names a layer. Nothing of it stays.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fastconv import layers as L
from fastconv.layers import Layer, from_spec, to_spec
from fastconv.onnx.builder import Builder, Operand
from fastconv.onnx.errors import OnnxImportError
from fastconv.onnx.files import Node
from fastconv.onnx.table import register

#: The operator that is a layer of images, as its attribute ``spec`` describes it.
OPERATOR = "fastconv.Layer"

#: What it may be: layers of one input without parameters.
_ALLOWED = (
    *(L.AlphaDropout, L.SpatialDropout, L.LocalResponseNorm),
    *(L.AdaptiveAvgPool1d, L.AdaptiveAvgPool2d, L.AdaptiveAvgPool3d),
    *(L.AdaptiveMaxPool1d, L.AdaptiveMaxPool2d, L.AdaptiveMaxPool3d),
)

Function = Callable[..., Any]


@register(OPERATOR)
def layer_node(b: Builder, node: Node, x: Operand) -> Any:
    layer = from_spec(json.loads(node.get("spec", "null")), allow_plugins=False)
    if not isinstance(layer, _ALLOWED):
        raise OnnxImportError(f"{node.label}: it cannot be a {type(layer).__name__}")
    layer.name = None
    return b.image(layer, x)


@contextmanager
def rewritten(torch: Any, module: Any) -> Iterator[None]:
    """Write a module, and those inside it, as they are said to be here; they are as before afterwards."""
    changed = []
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # attention is a single operator there that has no counterpart
    try:
        for inner in module.modules():
            forward = _forward(torch, inner) or (_of_inputs_alone(module.forward) if inner is module else None)
            if forward is not None and "forward" not in vars(inner):
                inner.forward = forward
                changed.append(inner)
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for inner in changed:
            del inner.forward


def _forward(torch: Any, module: Any) -> Function | None:
    """Return what is called in the place of a module's ``forward``; None where that is written well."""
    found = _layer(torch.nn, module)
    if found is not None:
        return _named(torch, module.forward, *found)
    nn = torch.nn
    if type(module) is nn.Bilinear:
        return lambda x, z: _bilinear(torch, module, x, z)
    if type(module) is nn.EmbeddingBag and module.max_norm is None:
        otherwise = module.forward
        return lambda x, *more: otherwise(x, *more) if more or x.ndim < 2 else _bag(torch, module, x)
    ways: dict[type, Function] = {
        nn.ChannelShuffle: _shuffled,
        nn.Threshold: _thresholded,
        nn.LocalResponseNorm: _even_windows,
    }
    if getattr(module, "track_running_stats", False):
        ways.update(dict.fromkeys((nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d), _by_running_statistics))
    if hasattr(nn, "RMSNorm"):  # PyTorch 2.4
        ways[nn.RMSNorm] = _by_root_mean_square
    way = ways.get(type(module))
    return None if way is None else lambda x: way(torch, module, x)


def _of_inputs_alone(forward: Function) -> Function:
    """Return a function without optional arguments, whose defaults PyTorch would make tensors of."""
    return lambda *xs: forward(*xs)


def _layer(nn: Any, module: Any) -> tuple[Layer, int | None] | None:
    """Return the layer that a module is, and how many axes its images have (None: any number)."""
    kind = type(module)
    if kind is nn.AlphaDropout and module.p < 1:
        return L.AlphaDropout(module.p), None
    if kind is nn.LocalResponseNorm and module.size % 2:  # the windows of even sizes lie elsewhere
        return L.LocalResponseNorm(module.size, alpha=module.alpha, beta=module.beta, bias=module.k), None
    for rank in (1, 2, 3):
        if kind is getattr(nn, f"Dropout{rank}d") and module.p < 1:
            return L.SpatialDropout(module.p), rank
        for name in (f"AdaptiveAvgPool{rank}d", f"AdaptiveMaxPool{rank}d"):
            if kind is getattr(nn, name) and not getattr(module, "return_indices", False):
                given = module.output_size
                sizes = tuple(given) if isinstance(given, (tuple, list)) else (given,) * rank
                if None not in sizes and set(sizes) != {1}:  # one pixel of each channel is an operator
                    return getattr(L, name)(sizes), rank
    return None


def _named(torch: Any, otherwise: Function, layer: Layer, rank: int | None) -> Function:
    """Return a function that is `otherwise`, and written as the node of a layer for a batch of images of `rank` axes."""
    spec = json.dumps(to_spec(layer))
    domain, _, op = OPERATOR.partition(".")

    def forward(x: Any) -> Any:
        if x.ndim < 3 or rank not in (None, x.ndim - 2):
            return otherwise(x)
        *spatial, channels = layer.output_shape((*x.shape[2:], x.shape[1]))

        class Named(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: Any) -> Any:
                return otherwise(x).clone()  # a trace needs another tensor than x

            @staticmethod
            def symbolic(g: Any, x: Any) -> Any:
                made = g.op(f"{domain}::{op}", x, spec_s=spec)
                return made.setType(x.type().with_sizes([None, channels, *spatial]))

        return Named.apply(x)

    return forward


def _even_windows(torch: Any, module: Any, x: Any) -> Any:
    """Normalize by windows that reach one channel further back than on: the channels are turned round for the layer."""
    layer = L.LocalResponseNorm(module.size, alpha=module.alpha, beta=module.beta, bias=module.k)
    arguments = module.size, module.alpha, module.beta, module.k

    def otherwise(turned: Any) -> Any:
        return torch.nn.functional.local_response_norm(turned.flip(1), *arguments).flip(1)

    return _named(torch, otherwise, layer, None)(x.flip(1)).flip(1)


def _bilinear(torch: Any, module: Any, x: Any, z: Any) -> Any:
    pairs = (x.unsqueeze(-1) * z.unsqueeze(-2)).flatten(-2)
    return torch.nn.functional.linear(pairs, module.weight.flatten(1), module.bias)


def _bag(torch: Any, module: Any, x: Any) -> Any:
    """Sum, average or take the largest of the vectors of each row of places; the padding is left out."""
    rows = torch.nn.functional.embedding(x, module.weight)
    counts = torch.ones_like(x) if module.padding_idx is None else (x != module.padding_idx).to(x.dtype)
    there = counts.unsqueeze(-1).to(rows.dtype)
    if module.mode == "max":
        largest = torch.where(there > 0, rows, torch.full((), torch.finfo(rows.dtype).min, dtype=rows.dtype)).amax(1)
        return largest * there.amax(1)
    total = (rows * there).sum(1)
    return total if module.mode == "sum" else total / there.sum(1).clamp(min=1)


def _shuffled(torch: Any, module: Any, x: Any) -> Any:
    apart = x.reshape(-1, module.groups, x.shape[1] // module.groups, *x.shape[2:])
    return apart.transpose(1, 2).reshape(-1, *x.shape[1:])


def _thresholded(torch: Any, module: Any, x: Any) -> Any:
    return torch.where(x > module.threshold, x, torch.full((), module.value, dtype=x.dtype))


def _by_running_statistics(torch: Any, module: Any, x: Any) -> Any:
    arrays = module.running_mean, module.running_var, module.weight, module.bias
    return torch.nn.functional.batch_norm(x, *arrays, training=False, eps=module.eps)


def _by_root_mean_square(torch: Any, module: Any, x: Any) -> Any:
    eps = torch.finfo(x.dtype).eps if module.eps is None else module.eps
    axes = [-1 - at for at in range(len(module.normalized_shape))]
    y = x * torch.rsqrt((x * x).mean(axes, keepdim=True) + eps)
    return y if module.weight is None else y * module.weight
