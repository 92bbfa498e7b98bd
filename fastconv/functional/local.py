"""Locally connected layers: windows like those of a convolution, but a weight of its own at each position."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastconv import geometry
from fastconv.arguments import check_elements, ntuple
from fastconv.functional._conv_plan import spatial3
from fastconv.functional._validate import (
    flat_arguments,
    float_array,
    images,
    kernels_for,
    require_shape,
    require_wrt,
)
from fastconv.functional.conv import Gradients
from fastconv.threads import threads_for


class LocalPlan(NamedTuple):
    y_shape: tuple[int, ...]
    weight3: tuple[int, ...]  # (D' * H' * W', T, R, S, C, O)
    axes: NDArray[np.int64]
    phases: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
    multiply_adds: int


@lru_cache(maxsize=256, typed=True)
def local_plan(x_shape: tuple[int, ...], weight_shape: tuple[int, ...], stride: Any, padding: Any) -> LocalPlan:
    rank = len(x_shape) - 2
    if len(weight_shape) != 2 * rank + 2 or 0 in weight_shape:
        raise ValueError(
            f"weight must have shape (*output, *kernel, C, O), {2 * rank + 2} axes of at least 1 for an x with {rank} "
            f"spatial axes, got {weight_shape}"
        )
    out, kernel, (channels, outputs) = weight_shape[:rank], weight_shape[rank : 2 * rank], weight_shape[-2:]
    if channels != x_shape[-1]:
        raise ValueError(
            f"weight must have shape (*output, *kernel, C, O) with C = {x_shape[-1]}, the channels of x, got {weight_shape}"
        )
    stride, ones = ntuple(stride, rank, "stride"), (1,) * rank
    pairs = geometry.padding_pairs(padding, x_shape[1:-1], kernel, stride, ones)
    expected = geometry.conv_output(x_shape[1:-1], kernel, stride, pairs, ones)
    if out != expected:
        raise ValueError(
            f"weight must have a kernel for each output position: shape (*{expected}, *{kernel}, C, O), got {weight_shape}"
        )
    check_elements(weight_shape, "weight")
    arguments = [(1, 1, 1, 1, 0, 1)] * (3 - rank) + [
        (n, p, k, s, before, 1)
        for n, p, k, s, (before, _) in zip(x_shape[1:-1], out, kernel, stride, pairs, strict=True)
    ]
    d, h, w = (geometry.records(geometry.adjoint_axes(*a)) for a in arguments)
    y_shape = (x_shape[0], *out, outputs)
    check_elements(y_shape, "the output")
    return LocalPlan(
        y_shape,
        (math.prod(out), *(1,) * (3 - rank), *kernel, channels, outputs),
        geometry.records([geometry.forward_axis(*a) for a in arguments]),
        (d, h, w),
        x_shape[0] * math.prod(weight_shape),
    )


def locally_connected(
    x: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None, *, stride: Any = 1, padding: Any = 0
) -> NDArray[Any]:
    """Convolve with weights that are not shared: each output position has a kernel of its own.

    ``y[n, p, q, o] = bias[p, q, o] + sum_{r, s, c} x[n, p * stride + r - before, ..., c] * weight[p, q, r, s, c, o]``
    (LeCun 1989, "Generalization and network design strategies": local connections without shared weights).

    Parameters
    ----------
    x : array (N, *spatial, C), float32 or float64
    weight : array (*output, *kernel, C, O), dtype of x
    bias : array (*output, O), dtype of x, optional
    stride, padding
        As for `conv`.

    Returns
    -------
    array (N, *output, O), dtype of x

    Raises
    ------
    TypeError, ValueError
        As `conv`; and where weight has not one kernel for each output position.

    Examples
    --------
    >>> import numpy as np
    >>> weight = np.arange(3.0).reshape(3, 1, 1, 1)  # three positions, kernel 1, one channel in and out
    >>> locally_connected(np.ones((1, 3, 1)), weight)[0, :, 0]
    array([0., 1., 2.])
    """
    x = images(x, "x")
    weight = float_array(weight, "weight", like=x)
    plan = local_plan(x.shape, weight.shape, flat_arguments(stride, "stride"), flat_arguments(padding, "padding"))
    if bias is not None:
        bias = float_array(bias, "bias", like=x)
        require_shape(bias, plan.y_shape[1:], "bias", "one value for each output")
    y = np.zeros(plan.y_shape, x.dtype)
    if x.size == 0:
        return y if bias is None else y + bias
    kernels_for(x).local_forward(
        spatial3(x), weight.reshape(plan.weight3), spatial3(y), plan.axes, threads_for(plan.multiply_adds)
    )
    if bias is not None:
        y += bias
    return y


def locally_connected_backward(
    dy: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike,
    *,
    stride: Any = 1,
    padding: Any = 0,
    wrt: Sequence[str] = ("x", "weight", "bias"),
) -> Gradients:
    """Return the gradients of `locally_connected` with respect to x, weight and bias.

    Parameters
    ----------
    dy : array (N, *output, O), dtype of x
    x, weight, stride, padding
        As given to `locally_connected`.
    wrt : some of "x", "weight", "bias"
        What is left out is not computed and returned as None.

    Returns
    -------
    dx (shape of x), dweight (shape of weight), dbias (*output, O)

    Raises
    ------
    TypeError, ValueError
        As `locally_connected`, and where dy has not the shape of the output.

    Examples
    --------
    >>> import numpy as np
    >>> weight = np.arange(3.0).reshape(3, 1, 1, 1)
    >>> dx, dweight, dbias = locally_connected_backward(np.ones((2, 3, 1)), np.ones((2, 3, 1)), weight)
    >>> dx[0, :, 0], dweight[:, 0, 0, 0], dbias[:, 0]
    (array([0., 1., 2.]), array([2., 2., 2.]), array([2., 2., 2.]))
    """
    x = images(x, "x")
    weight, dy = float_array(weight, "weight", like=x), float_array(dy, "dy", like=x)
    wrt = require_wrt(wrt)
    plan = local_plan(x.shape, weight.shape, flat_arguments(stride, "stride"), flat_arguments(padding, "padding"))
    require_shape(dy, plan.y_shape, "dy", "the shape of the output")
    kernels, threads = kernels_for(x), threads_for(plan.multiply_adds)
    dx = dweight = None
    if "x" in wrt:
        dx = np.zeros(x.shape, x.dtype)
        if x.size and all(map(len, plan.phases)):
            kernels.local_backward_input(
                spatial3(dy), weight.reshape(plan.weight3), spatial3(dx), *plan.phases, threads
            )
    if "weight" in wrt:
        dweight = np.zeros(weight.shape, x.dtype)
        if x.size:
            kernels.local_backward_weight(spatial3(x), spatial3(dy), dweight.reshape(plan.weight3), plan.axes, threads)
    return dx, dweight, dy.sum(axis=0) if "bias" in wrt else None
