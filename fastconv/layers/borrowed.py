"""Layers whose backward pass comes from elsewhere: from central differences, for prototypes, or from PyTorch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from fastconv.layers.base import Backward, Layer
from fastconv.layers.context import Context


class Prototype(Layer):
    """A layer without a backward pass of its own: a function in NumPy, whose derivatives are measured.

    A subclass defines ``compute(self, params, *xs)``, which returns the output, or a tuple of them, and reads its parameters
    from `params`, not from ``self``; `build` and `output_shape` are those of any layer. Each entry of the parameters, and each
    entry of a sample, costs two calls of `compute`: it is for trying an idea on small images, before its backward pass is
    written. Where the samples of a batch depend on each other, the class says so with ``traits = Traits(mixes_samples=True)``,
    and each entry of each sample costs two calls.

    `compute` gets float64 for the measurement, so that the gradients of a float32 model are as exact as float32 can be.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import Context
    >>> class Mish(Prototype):
    ...     def output_shape(self, shape):
    ...         return shape
    ...
    ...     def compute(self, params, x):
    ...         return x * np.tanh(np.log1p(np.exp(x)))
    >>> y, backward = Mish().forward(Context(), np.zeros((1, 2)))
    >>> dx, _ = backward(np.ones((1, 2)))
    >>> dx.round(6)
    array([[0.6, 0.6]])
    """

    def compute(self, params: dict[str, np.ndarray], *xs: Any) -> Any:
        """Return the output for the input arrays `xs`."""
        raise NotImplementedError(f"{type(self).__name__} must define compute(self, params, x)")

    def forward(self, ctx: Context, *xs: np.ndarray, **keywords: Any) -> tuple[Any, Backward]:
        params = self.params
        y = self.compute(params, *xs)

        def backward(dy: Any) -> tuple[Any, dict[str, np.ndarray]]:
            wide = [np.array(x, np.float64, order="C") for x in xs]
            wide_params = {name: np.array(param, np.float64, order="C") for name, param in params.items()}
            dys = [np.asarray(each, np.float64) for each in _listed(dy)]

            def outputs() -> list[np.ndarray]:
                return [np.array(each, np.float64) for each in _listed(self.compute(wide_params, *wide))]

            alone = not self.traits.mixes_samples
            dxs = [
                _slopes(x, outputs, dys, each_sample=alone).astype(given.dtype)
                for x, given in zip(wide, xs, strict=True)
            ]
            gradients = {
                name: _slopes(param, outputs, dys, each_sample=False).astype(params[name].dtype)
                for name, param in wide_params.items()
            }
            return dxs[0] if len(dxs) == 1 else tuple(dxs), gradients

        return y, backward


def _slopes(array: np.ndarray, outputs: Any, dys: Sequence[np.ndarray], *, each_sample: bool) -> np.ndarray:
    """Return ``d sum(dy * y) / d array`` by central differences; with `each_sample` for one entry of every sample at once."""
    gradient = np.zeros_like(array)
    if not array.size:
        return gradient
    moved = array.reshape(len(array), -1).T if each_sample else array.reshape(-1, 1)
    slots = gradient.reshape(len(array), -1).T if each_sample else gradient.reshape(-1, 1)
    for entry, slot in zip(moved, slots, strict=True):  # views: what is written to them is in the array
        before = entry.copy()
        # the cube root of the precision: what rounding and curvature add to the error is least there
        step = 6e-6 * np.maximum(1.0, np.abs(before))
        above, below = before + step, before - step
        entry[...] = above
        ahead = outputs()
        entry[...] = below
        behind = outputs()
        entry[...] = before
        for dy, high, low in zip(dys, ahead, behind, strict=True):
            change = dy * (high - low)
            total = change.reshape(len(change), -1).sum(axis=1) if each_sample else change.sum()
            slot += total / (above - below)
    return gradient


class TorchLayer(Layer):
    """A layer whose backward pass is found by PyTorch's automatic differentiation; needs ``pip install 'fastconv[torch]'``.

    A subclass defines ``compute(self, params, *xs)`` on tensors: `params` is a dict of them, and the arrays come channels
    last, as they are. It returns a tensor, or a tuple of them. `build` makes the parameters as in any layer, in NumPy.

    Examples
    --------
    >>> class Mish(TorchLayer):
    ...     def output_shape(self, shape):
    ...         return shape
    ...
    ...     def compute(self, params, x):
    ...         import torch
    ...
    ...         return torch.nn.functional.mish(x)
    """

    def compute(self, params: dict[str, Any], *xs: Any) -> Any:
        """Return the output for the input tensors `xs`."""
        raise NotImplementedError(f"{type(self).__name__} must define compute(self, params, x)")

    def forward(self, ctx: Context, *xs: np.ndarray, **keywords: Any) -> tuple[Any, Backward]:
        torch = _torch()
        needs_grad = not ctx.inference
        inputs = [_tensor(torch, x).requires_grad_(needs_grad and ctx.input_grad) for x in xs]
        params = {name: _tensor(torch, param).requires_grad_(needs_grad) for name, param in self.params.items()}
        with torch.set_grad_enabled(needs_grad):
            outputs = _listed(self.compute(params, *inputs))
        ys = tuple(y.detach().contiguous().numpy() for y in outputs)

        def backward(dy: Any) -> tuple[Any, dict[str, np.ndarray]]:
            wanted = [tensor for tensor in (*inputs, *params.values()) if tensor.requires_grad]
            reached = [
                (y, _tensor(torch, each)) for y, each in zip(outputs, _listed(dy), strict=True) if y.requires_grad
            ]
            found: list[Any] = [None] * len(wanted)
            if reached and wanted:
                found = torch.autograd.grad(
                    [y for y, _ in reached], wanted, [each for _, each in reached], retain_graph=True, allow_unused=True
                )
            gradients = iter(
                np.zeros(tensor.shape, tensor.detach().numpy().dtype) if grad is None else np.array(grad.numpy())
                for tensor, grad in zip(wanted, found, strict=True)
            )
            dxs = [next(gradients) if x.requires_grad else None for x in inputs]
            return dxs[0] if len(dxs) == 1 else tuple(dxs), {name: next(gradients) for name in params}

        return ys[0] if len(ys) == 1 else ys, backward


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            "this layer computes with PyTorch, which is not installed: pip install 'fastconv[torch]'"
        ) from error
    _one_thread_after_a_fork(torch)
    return torch


@cache
def _one_thread_after_a_fork(torch: Any) -> None:
    """Let a forked child compute on one thread: PyTorch's others stay in the parent, and it would wait for them for ever."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


def _tensor(torch: Any, array: np.ndarray) -> Any:
    """Return a copy as a tensor: whatever `compute` does to it in place does not reach the array."""
    return torch.from_numpy(np.array(array, order="C"))


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (tuple, list)) else [value]
