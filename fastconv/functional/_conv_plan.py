"""Everything about a convolution that follows from shapes and arguments, computed once.

All operations run on arrays with three spatial axes; a lower rank has axes of size 1 in front.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastconv import geometry
from fastconv.arguments import check_elements, ntuple
from fastconv.functional._conv_algorithm import Algorithm, choose
from fastconv.functional._conv_cost import exchanges_from
from fastconv.functional._conv_problem import Problem


class Adjoint(NamedTuple):
    """What follows from shapes for the adjoint of a convolution."""

    algorithm: Algorithm
    phases: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]  # per axis (phases, 10)
    reached: bool  # whether the phases write every pixel of x


class WeightGradient(NamedTuple):
    """What follows from shapes for the gradient of the weight."""

    algorithm: Algorithm
    exchanged: int | None  # lanes of a vector from which on x and dy change roles


class ConvPlan(NamedTuple):
    """A convolution of an input (N, *spatial, C) with a weight (*kernel, C // groups, O), all shapes known and checked.

    What its backward pass needs is found when somebody asks for it.
    """

    x_shape: tuple[int, ...]
    weight_shape: tuple[int, ...]
    y_shape: tuple[int, ...]
    sizes: tuple[int, int, int, int]  # N, C, O, groups, where C counts what `_without_whole_axes` makes channels
    empty: bool  # whether there is nothing to multiply: no images, no pixels or no outputs
    multiply_adds: int
    forward: Algorithm
    axes: NDArray[np.int64]  # (3, 10): geometry.Axis of the forward product
    problem: Problem  # of the forward product
    windows: tuple[tuple[int, ...], ...]  # of three axes: what `geometry.forward_axis` takes
    asked: str | None  # the `wish`
    transposed: bool  # whether it is the adjoint that has to be as it was asked for

    @property
    def adjoint(self) -> Adjoint:
        """How the adjoint is computed."""
        return _adjoint(self.problem, self.windows, self.asked, self.transposed)

    @property
    def weight_gradient(self) -> WeightGradient:
        """How the gradient of the weight is computed."""
        return _weight_gradient(self.problem, self.asked)

    def adjoint_bias(self, bias: NDArray[Any] | None) -> NDArray[Any] | None:
        """Return what kernels add to an array of `x_shape`: the bias (C,) of each of the pixels that count as channels."""
        pixels = self.sizes[1] // self.x_shape[-1]
        return bias if bias is None or pixels == 1 else np.tile(bias, pixels)


@lru_cache(maxsize=1024, typed=True)
def conv_plan(
    x_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    algorithm: str | None,
) -> ConvPlan:
    """Check shapes and arguments and return the plan; every error names the argument. `algorithm` is a `wish`."""
    size, kernel, stride, dilation = _check(x_shape, weight_shape, stride, dilation, groups)
    pairs = geometry.padding_pairs(padding, size, kernel, stride, dilation)
    out = geometry.conv_output(size, kernel, stride, pairs, dilation)
    y_shape = (x_shape[0], *out, weight_shape[-1])
    return _plan(x_shape, weight_shape, y_shape, stride, pairs, dilation, groups, algorithm, transposed=False)


@lru_cache(maxsize=1024, typed=True)
def conv_transpose_plan(
    x_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    stride: Any,
    padding: Any,
    output_padding: Any,
    dilation: Any,
    groups: int,
    algorithm: str | None,
) -> ConvPlan:
    """Return the plan of the convolution whose adjoint takes an array of `x_shape`: x is its output."""
    rank = len(x_shape) - 2
    _check_weight_rank(weight_shape, rank)
    if weight_shape[-1] != x_shape[-1]:
        raise ValueError(
            f"weight must have shape (*kernel, O // groups, C) with C = {x_shape[-1]}, the channels of x, "
            f"got {weight_shape}"
        )
    if x_shape[-1] % groups:
        raise ValueError(f"groups must divide the channels of x, {x_shape[-1]}, got {groups}")
    kernel = weight_shape[:rank]
    stride = ntuple(stride, rank, "stride")
    dilation = ntuple(dilation, rank, "dilation")
    output_padding = ntuple(output_padding, rank, "output_padding", minimum=0)
    pairs = geometry.conv_transpose_padding(padding, kernel, stride, dilation, output_padding)
    size = x_shape[1:-1]
    if min(size) < 1:
        raise ValueError(f"x must have at least one pixel along each spatial axis, got shape {x_shape}")
    out = geometry.conv_transpose_output(size, kernel, stride, pairs, dilation, output_padding)
    y_shape = (x_shape[0], *out, weight_shape[-2] * groups)
    check_elements(y_shape, "the output")
    return _plan(y_shape, weight_shape, x_shape, stride, pairs, dilation, groups, algorithm, transposed=True)


def _check_weight_rank(weight_shape: tuple[int, ...], rank: int) -> None:
    if len(weight_shape) != rank + 2:
        raise ValueError(
            f"weight must have {rank + 2} axes for an x with {rank} spatial axes "
            f"((*kernel, channels in, channels out)), got shape {weight_shape}"
        )
    if 0 in weight_shape:
        raise ValueError(f"weight must have at least one element along every axis, got shape {weight_shape}")


def _check(
    x_shape: tuple[int, ...], weight_shape: tuple[int, ...], stride: Any, dilation: Any, groups: int
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    rank, channels = len(x_shape) - 2, x_shape[-1]
    _check_weight_rank(weight_shape, rank)
    stride = ntuple(stride, rank, "stride")
    dilation = ntuple(dilation, rank, "dilation")
    if channels % groups or weight_shape[-1] % groups:
        raise ValueError(
            f"groups must divide the channels of x, {channels}, and of weight's last axis, {weight_shape[-1]}, got {groups}"
        )
    if weight_shape[-2] * groups != channels:
        raise ValueError(
            f"weight must have shape (*kernel, C // groups, O) with C // groups = {channels // groups} "
            f"(x has {channels} channels, groups is {groups}), got {weight_shape}"
        )
    return x_shape[1:-1], weight_shape[:rank], stride, dilation


def _plan(
    x_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    y_shape: tuple[int, ...],
    stride: tuple[int, ...],
    pairs: geometry.Pairs,
    dilation: tuple[int, ...],
    groups: int,
    algorithm: str | None,
    *,
    transposed: bool,
) -> ConvPlan:
    """Make the plan of a convolution, or of its adjoint if `transposed`, or of the backward pass of one of them."""
    for shape, name in ((x_shape, "the input"), (y_shape, "the output"), (weight_shape, "weight")):
        check_elements(shape, name)
    padded = [before + n + after for n, (before, after) in zip(x_shape[1:-1], pairs, strict=True)]
    for line in padded:  # kernels count along a padded line in elements
        check_elements((line, max(x_shape[-1], y_shape[-1])), "a line of the padded image")
    rank = len(x_shape) - 2
    arguments = [(1, 1, 1, 1, 0, 1)] * (3 - rank) + [
        # a step to a second window or tap that is not there may be as long as it likes
        (n, p, k, min(s, most), before, min(d, most))
        for n, p, k, s, (before, _), d, most in zip(
            x_shape[1:-1], y_shape[1:-1], weight_shape[:rank], stride, pairs, dilation, padded, strict=True
        )
    ]
    channels = weight_shape[-2]
    if groups == 1 and algorithm != "winograd":
        arguments, channels = _without_whole_axes(arguments, channels)
    axes = geometry.records([geometry.forward_axis(*a) for a in arguments])
    multiply_adds = math.prod(y_shape) * math.prod(weight_shape[:-1])
    _, outs, taps, strides, _, dilations = zip(*arguments, strict=True)
    cols = weight_shape[-1] // groups
    asked = max(dilations) > 1 or math.prod(taps) == 1
    inside = math.prod(geometry.share_inside(*a) for a in arguments) if asked else 1.0
    forward = Problem(x_shape[0], outs, taps, strides, dilations, channels, cols, groups, multiply_adds, inside)
    plan = ConvPlan(
        x_shape,
        weight_shape,
        y_shape,
        (x_shape[0], channels * groups, y_shape[-1], groups),
        0 in x_shape or 0 in y_shape,
        multiply_adds,
        choose(forward, algorithm, strict=not transposed),
        axes,
        forward,
        tuple(arguments),
        algorithm,
        transposed,
    )
    if transposed:
        _ = plan.adjoint  # raises where the algorithm cannot compute it
    return plan


@lru_cache(maxsize=1024)
def _adjoint(
    forward: Problem, windows: tuple[tuple[int, ...], ...], algorithm: str | None, transposed: bool
) -> Adjoint:
    backward = forward._replace(outputs=tuple(n for n, *_ in windows), depth=forward.cols, cols=forward.depth)
    phases = [geometry.adjoint_axes(*window) for window in windows]
    reached = all(sum(axis.rows for axis in each) == n for each, (n, *_) in zip(phases, windows, strict=True))
    d, h, w = map(geometry.records, phases)
    return Adjoint(choose(backward, algorithm, adjoint=True, strict=transposed), (d, h, w), reached)


@lru_cache(maxsize=1024)
def _weight_gradient(forward: Problem, algorithm: str | None) -> WeightGradient:
    found = choose(forward, algorithm, weight_gradient=True, strict=False)
    return WeightGradient(found, exchanges_from(forward) if found.name == "product" else None)


def _without_whole_axes(arguments: list[tuple[int, ...]], channels: int) -> tuple[list[tuple[int, ...]], int]:
    """Return the arguments and the channels if pixels under windows that are as long as the image count as channels.

    Those lie one after the other in x as in the weight: a window as large as the image is a linear layer, and kernels for one
    row or a few read its weight once. From the last axis to the first one that is not whole.
    """
    merged = list(arguments)
    for at in (2, 1, 0):
        size, outs, taps, _, before, dilation = arguments[at]
        if (size, outs, before) != (taps, 1, 0) or (dilation > 1 and taps > 1):
            break
        merged[at], channels = (1, 1, 1, 1, 0, 1), channels * taps
    return merged, channels


def lines_of(plan: ConvPlan, first: int, end: int) -> ConvPlan:
    """Return the plan of lines ``first .. end - 1`` of the output of a plan for images, forward, by the same algorithm."""
    axes = plan.axes.copy()
    stride, origin = (geometry.Axis._fields.index(name) for name in ("stride", "origin"))
    axes[1, geometry.Axis._fields.index("rows")] = end - first
    axes[1, origin] += first * axes[1, stride]
    n, lines, *rest = plan.y_shape
    return plan._replace(
        y_shape=(n, end - first, *rest), axes=axes, multiply_adds=plan.multiply_adds // lines * (end - first)
    )


def spatial3(array: NDArray[Any]) -> NDArray[Any]:
    """Return a view (N, D, H, W, C) of an array (N, *spatial, C) with one to three spatial axes."""
    return array.reshape(array.shape[0], *(1,) * (5 - array.ndim), *array.shape[1:])


def weight3(weight: NDArray[Any]) -> NDArray[Any]:
    """Return a view (T, R, S, C // groups, O) of a weight (*kernel, C // groups, O)."""
    return weight.reshape((1,) * (5 - weight.ndim) + weight.shape)
