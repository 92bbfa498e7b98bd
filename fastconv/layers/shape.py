"""Layers that change the shape: flatten, reshape, pad, upsample, and coordinates as channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv import functional as F
from fastconv.arguments import boolean, ntuple
from fastconv.geometry import padding_pairs
from fastconv.layers.base import Backward, Layer
from fastconv.layers.checks import axes_of, inner_axis, require_floats, spatial_shape
from fastconv.layers.context import Context
from fastconv.layers.symbol import Shape
from fastconv.layers.traits import Traits
from fastconv.registry import layers


@layers.register("Flatten")
class Flatten(Layer):
    """The elements of a sample in one row: ``(N, ...)`` to ``(N, product)``. The output may share the input's memory.

    >>> import numpy as np
    >>> Flatten()(np.zeros((2, 4, 4, 3))).shape
    (2, 48)
    """

    takes_numbers = True

    traits = Traits(linear=True, shares_input=True)

    def output_shape(self, shape: Shape) -> Shape:
        return (math.prod(shape),)

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        return _reshaped(x, self.output_shape(x.shape[1:]))

    def window(self, *shapes: Shape) -> None:
        return None


class _Reshaping(Layer):
    """What has a shape to be, some of whose entries are lengths of axes of an array."""

    takes_numbers = True

    def __init__(self, shape: Any, *, copy: Sequence[int] | None = None) -> None:
        if not isinstance(shape, (tuple, list)):
            raise TypeError(f"shape must be a tuple of integers, without the batch, got {shape!r}")
        self.copy = axes_of(() if copy is None else copy, "copy")
        self.open = tuple(at for at, n in enumerate(shape) if n is None)
        if len(self.open) != len(self.copy):
            raise ValueError(f"copy must name one axis for each None in shape, got {copy!r} for {shape!r}")
        self.shape = ntuple(tuple(1 if n is None else n for n in shape), len(shape), "shape", minimum=-1)
        if self.shape.count(-1) > 1:
            raise ValueError(f"shape must have at most one -1, got {shape!r}")

    def resolved(self, shape: Shape, like: Shape) -> Shape:
        """Return the shape to be for an input of `shape`, with the lengths of another one."""
        wanted = list(self.shape)
        for at, axis in zip(self.open, self.copy, strict=True):
            wanted[at] = like[inner_axis(axis, 1 + len(like), "copy") - 1]
        total, known = math.prod(shape), math.prod(n for n in wanted if n != -1)
        if (total % known if known else total) or (-1 not in wanted and total != known):
            raise ValueError(
                f"an input of shape (N, {', '.join(map(str, shape))}) cannot be reshaped to {tuple(wanted)}"
            )
        return tuple(total // max(known, 1) if n == -1 else n for n in wanted)

    def window(self, *shapes: Shape) -> None:
        return None


@layers.register("Reshape")
class Reshape(_Reshaping):
    """The same numbers in another shape, row-major: ``(N, ...)`` to ``(N, *shape)``. The output may share the input's memory.

    One entry of `shape` may be -1: what remains. Those that are None are as long as the axes of the input that `copy` names,
    one for each, where 0 is the batch.

    >>> import numpy as np
    >>> Reshape((7, 7, -1))(np.zeros((2, 490))).shape
    (2, 7, 7, 10)
    >>> Reshape((None, None, 2, -1), copy=(1, 2))(np.zeros((1, 5, 6, 8))).shape
    (1, 5, 6, 2, 4)
    """

    traits = Traits(linear=True, shares_input=True)

    def output_shape(self, shape: Shape) -> Shape:
        return self.resolved(shape, shape)

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        return _reshaped(x, self.output_shape(x.shape[1:]))


@layers.register("ReshapeLike")
class ReshapeLike(_Reshaping):
    """The same numbers in the shape of another array, the second input. The output may share the first input's memory.

    Where a `shape` is given it is as in `Reshape`, but the axes that `copy` names are those of the second input.

    >>> import numpy as np
    >>> ReshapeLike()(np.zeros((2, 12)), np.zeros((2, 3, 4))).shape
    (2, 3, 4)
    >>> ReshapeLike((None, None, -1), copy=(1, 2))(np.zeros((2, 12)), np.zeros((2, 3, 2, 8))).shape
    (2, 3, 2, 2)
    """

    traits = Traits(linear=True, shares_input=True)

    @classmethod
    def examples(cls) -> Sequence[Any]:
        return [(cls(), [(12,), (3, 4)]), (cls((None, -1, None), copy=(1, 3)), [(12,), (3, 5, 2)])]

    def __init__(self, shape: Any = None, *, copy: Sequence[int] | None = None) -> None:
        self.whole = shape is None and copy is None
        super().__init__(() if self.whole else shape, copy=copy)

    def output_shape(self, *shapes: Shape) -> Shape:
        if len(shapes) != 2 or (self.whole and math.prod(shapes[0]) != math.prod(shapes[1])):
            raise ValueError(f"ReshapeLike takes two inputs{' with as many numbers' * self.whole}, got shapes {shapes}")
        return shapes[1] if self.whole else self.resolved(*shapes)

    def forward(self, ctx: Context, x: np.ndarray, like: np.ndarray) -> tuple[np.ndarray, Backward]:
        shape, dtype = like.shape, like.dtype
        y, backward = _reshaped(x, self.output_shape(x.shape[1:], shape[1:]))
        return y, lambda dy: ((backward(dy)[0], np.zeros(shape, dtype)), {})


def _reshaped(x: np.ndarray, shape: Shape) -> tuple[np.ndarray, Backward]:
    before = x.shape
    return x.reshape(len(x), *shape), lambda dy: (dy.reshape(before), {})


@layers.register("ZeroPad")
class ZeroPad(Layer):
    """Zeros around the image: ``(N, *spatial, C)``, `padding` pixels (an int, one or a pair (before, after) for each axis).

    >>> import numpy as np
    >>> ZeroPad(((0, 1), (2, 2)))(np.zeros((1, 8, 8, 3))).shape
    (1, 9, 12, 3)
    """

    traits = Traits(linear=True)

    def __init__(self, padding: Any = 1) -> None:
        if isinstance(padding, str):
            raise TypeError(f"padding must be an integer or a tuple, got {padding!r}")
        rank = len(padding) if isinstance(padding, (tuple, list)) else 1
        padding_pairs(padding, *[(1,) * rank] * 4)
        self.padding = padding

    def _pairs(self, shape: Shape) -> tuple[tuple[int, int], ...]:
        size = spatial_shape(shape)
        ones = (1,) * len(size)
        return padding_pairs(self.padding, size, ones, ones, ones)

    def output_shape(self, shape: Shape) -> Shape:
        pairs = self._pairs(shape)
        return (*(n + before + after for n, (before, after) in zip(shape, pairs, strict=False)), shape[-1])

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        require_floats(x)
        pairs = self._pairs(x.shape[1:])
        inside = (slice(None), *(slice(a, n + a) for n, (a, _) in zip(x.shape[1:-1], pairs, strict=True)))
        return np.pad(x, ((0, 0), *pairs, (0, 0))), lambda dy: (dy[inside], {})


@layers.register("Upsample")
class Upsample(Layer):
    """Make each spatial axis `scale` times as long: ``(N, *spatial, C)`` to ``(N, *(spatial * scale), C)``.

    Parameters
    ----------
    scale : int or tuple of int
    mode : "nearest" or "bilinear"
        Repeat pixels, or draw straight lines between their centres along every axis (the outermost stay as they are).

    See Also
    --------
    fastconv.functional.upsample : the same as a function, with the formula.

    Examples
    --------
    >>> import numpy as np
    >>> Upsample(2, mode="bilinear")(np.array([[[0.0], [4.0]]]))[0, :, 0]
    array([0., 1., 3., 4.])
    """

    traits = Traits(linear=True)

    def __init__(self, scale: Any = 2, *, mode: str = "nearest") -> None:
        ntuple(scale, len(scale) if isinstance(scale, (tuple, list)) else 1, "scale")
        if mode not in ("nearest", "bilinear"):
            raise ValueError(f'mode must be "nearest" or "bilinear", got {mode!r}')
        self.scale = scale
        self.mode = mode

    def output_shape(self, shape: Shape) -> Shape:
        size = spatial_shape(shape)
        scale = ntuple(self.scale, len(size), "scale")
        return (*(n * s for n, s in zip(size, scale, strict=True)), shape[-1])

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        shape = x.shape
        spatial_shape(shape[1:])
        y = F.upsample(x, self.scale, mode=self.mode)
        return y, lambda dy: (F.upsample_backward(dy, shape, self.scale, mode=self.mode), {})

    def window(self, *shapes: Shape) -> list[tuple[Any, Any]]:
        from fractions import Fraction

        span = 1 if self.mode == "nearest" else 2
        return [(span, Fraction(1, s)) for s in ntuple(self.scale, len(shapes[0]) - 1, "scale")]


@layers.register("AddCoords")
class AddCoords(Layer):
    """Append the position of each pixel as channels, from -1 to 1 along each axis: a convolution then knows where it is.

    ``(N, *spatial, C)`` to ``(N, *spatial, C + rank)``, one channel for each spatial axis, in the order of the axes; `radius`
    appends the distance from the centre too. Source: Liu et al., An intriguing failing of convolutional neural networks and
    the CoordConv solution, NeurIPS 2018, section 3.

    >>> import numpy as np
    >>> AddCoords()(np.zeros((1, 3, 5, 1)))[0, 1, :, 1:]
    array([[ 0. , -1. ],
           [ 0. , -0.5],
           [ 0. ,  0. ],
           [ 0. ,  0.5],
           [ 0. ,  1. ]])
    """

    traits = Traits(linear=True)

    def __init__(self, *, radius: bool = False) -> None:
        self.radius = boolean(radius, "radius")

    def output_shape(self, shape: Shape) -> Shape:
        return (*shape[:-1], shape[-1] + len(spatial_shape(shape)) + self.radius)

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        require_floats(x)
        size, channels = spatial_shape(x.shape[1:]), x.shape[-1]
        axes = (np.linspace(-1, 1, n, dtype=x.dtype) if n > 1 else np.zeros(1, x.dtype) for n in size)
        coordinates = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)  # (*spatial, rank)
        y = np.empty((len(x), *self.output_shape(x.shape[1:])), x.dtype)
        y[..., :channels] = x
        y[..., channels : channels + len(size)] = coordinates
        if self.radius:
            y[..., -1] = np.sqrt(np.square(coordinates).sum(axis=-1))
        return y, lambda dy: (dy[..., :channels], {})
