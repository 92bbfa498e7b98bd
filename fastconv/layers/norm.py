"""Normalization layers: over the batch, over the channels of a pixel, over groups of channels of an image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastconv import functional as F
from fastconv.layers.base import Backward, Layer
from fastconv.layers.checks import number, positive, require_channels, require_last_axis, spatial_shape
from fastconv.layers.context import Context
from fastconv.layers.symbol import Shape
from fastconv.layers.traits import Traits
from fastconv.registry import layers


class _Norm(Layer):
    """What comes out has the shape of what went in, with a learned scale and bias for each channel."""

    def build(self, shape: Shape, rng: np.random.Generator) -> None:
        self.output_shape(shape)
        self.params["scale"] = np.ones(shape[-1], np.float32)
        self.params["bias"] = np.zeros(shape[-1], np.float32)

    def output_shape(self, shape: Shape) -> Shape:
        require_last_axis(shape)
        return shape


@layers.register("BatchNorm")
class BatchNorm(_Norm):
    """Normalize each channel of ``(N, ..., C)`` to mean 0 and variance 1, then scale and shift it by learned parameters.

    In training the mean and the variance are those of the batch, over all axes but the last, and the running ones move:
    ``running = momentum * running + (1 - momentum) * batch``, the variance with the divisor ``n - 1``. In evaluation the
    running ones are used. Parameters ``scale`` and ``bias``, buffers ``mean`` and ``var``, all ``(C,)``.

    Parameters
    ----------
    momentum : float
        How much of the running statistics stays at each step, 0 to 1.
    eps : float
        Added to the variance.

    References
    ----------
    Ioffe and Szegedy, Batch normalization, ICML 2015, algorithms 1 and 2.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import Context
    >>> layer = BatchNorm(momentum=0.5, eps=0.0)
    >>> x = np.array([[1.0], [3.0]], np.float32)
    >>> layer(x)[:, 0]  # evaluation: nothing was learned yet
    array([1., 3.], dtype=float32)
    >>> y, backward = layer.forward(Context(training=True), x)
    >>> y[:, 0], layer.buffers["mean"], layer.buffers["var"]
    (array([-1.,  1.], dtype=float32), array([1.], dtype=float32), array([1.5], dtype=float32))
    """

    traits = Traits(mixes_samples=True)

    def __init__(self, *, momentum: float = 0.9, eps: float = 1e-5) -> None:
        self.momentum = number(momentum, "momentum", low=0.0, high=1.0)
        self.eps = number(eps, "eps", low=0.0)

    def build(self, shape: Shape, rng: np.random.Generator) -> None:
        super().build(shape, rng)
        self.buffers["mean"] = np.zeros(shape[-1], np.float32)
        self.buffers["var"] = np.ones(shape[-1], np.float32)

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        y, statistics = self.normalized(F.batch_norm, ctx, x)
        scale = self.params["scale"]

        def backward(dy: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
            dx, dscale, dbias = F.batch_norm_backward(dy, x, scale, **statistics)
            return dx, {"scale": dscale, "bias": dbias}

        return y, backward

    def normalized(
        self, function: Callable[..., Any], ctx: Context, x: np.ndarray, *arguments: Any, **keywords: Any
    ) -> tuple[Any, ...]:
        """Return the output of `function`, `functional.batch_norm` or one that does more, and what its backward pass takes.

        What `function` returns after y, mean and var comes last.
        """
        scale, bias = self.params["scale"], self.params["bias"]
        require_channels(x, len(scale))
        of_batch = ctx.training and x.size > 0  # an empty batch has no statistics
        if of_batch:
            y, mean, var, *more = function(x, scale, bias, *arguments, eps=self.eps, **keywords)
            self._remember(mean, var, x.size // len(scale))
        else:
            # copies: a later step in training changes the buffers, and the backward pass must not see it
            mean, var = self.buffers["mean"].copy(), self.buffers["var"].copy()
            y, _, _, *more = function(x, scale, bias, *arguments, mean=mean, var=var, eps=self.eps, **keywords)
        return y, {"mean": mean, "var": var, "eps": self.eps, "batch_statistics": of_batch}, *more

    def _remember(self, mean: np.ndarray, var: np.ndarray, count: int) -> None:
        unbiased = var * (count / max(count - 1, 1))
        for name, batch in (("mean", mean), ("var", unbiased)):
            running = self.buffers[name]
            running *= self.momentum
            running += (1 - self.momentum) * batch


@layers.register("LayerNorm")
class LayerNorm(_Norm):
    """Normalize each pixel of ``(N, ..., C)`` over its channels, then scale and shift each channel.

    Parameters ``scale`` and ``bias``, both ``(C,)``. Source: Ba, Kiros and Hinton, Layer normalization, 2016, section 3.

    >>> import numpy as np
    >>> LayerNorm(eps=0.0)(np.array([[1.0, 3.0], [10.0, 30.0]], np.float32))
    array([[-1.,  1.],
           [-1.,  1.]], dtype=float32)
    """

    def __init__(self, *, eps: float = 1e-5) -> None:
        self.eps = number(eps, "eps", low=0.0)

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        scale, bias = self.params["scale"], self.params["bias"]
        require_channels(x, len(scale))
        y = F.layer_norm(x, scale, bias, eps=self.eps)

        def backward(dy: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
            dx, dscale, dbias = F.layer_norm_backward(dy, x, scale, eps=self.eps)
            return dx, {"scale": dscale, "bias": dbias}

        return y, backward


@layers.register("GroupNorm")
class GroupNorm(_Norm):
    """Normalize each image of ``(N, *spatial, C)`` over its pixels and each of `groups` groups of channels.

    Parameters ``scale`` and ``bias``, both ``(C,)``; `groups` divides C. Source: Wu and He, Group normalization, ECCV 2018,
    section 3.

    >>> import numpy as np
    >>> GroupNorm(2)(np.zeros((1, 8, 8, 4), np.float32)).shape
    (1, 8, 8, 4)
    """

    def __init__(self, groups: int, *, eps: float = 1e-5) -> None:
        self.groups = positive(groups, "groups")
        self.eps = number(eps, "eps", low=0.0)

    def output_shape(self, shape: Shape) -> Shape:
        spatial_shape(shape)
        if shape[-1] % self.groups:
            raise ValueError(
                f"the input's channels must be a multiple of groups, got {shape[-1]} with groups {self.groups}"
            )
        return shape

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        scale, bias = self.params["scale"], self.params["bias"]
        require_channels(x, len(scale))
        spatial_shape(x.shape[1:])
        y, mean, var = F.group_norm_with_statistics(x, self.groups, scale, bias, eps=self.eps)

        def backward(dy: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
            given = x, self.groups, scale, mean, var
            dx, dscale, dbias = F.group_norm_with_statistics_backward(dy, *given, eps=self.eps)
            return dx, {"scale": dscale, "bias": dbias}

        return y, backward
