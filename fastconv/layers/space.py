"""Padding in every mode, resizing to any size, local response normalization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv import functional as F
from fastconv.arguments import are_pairs, is_list, real_number
from fastconv.functional.interpolate import COORDINATES, MODES, ROUNDING, Line, Rule, image_lines
from fastconv.functional.pad import MODES as PAD_MODES
from fastconv.functional.pad import pad_pairs, pad_shape, padded
from fastconv.layers.base import Backward, Layer
from fastconv.layers.checks import number, positive, require_last_axis, sizes, spatial_shape
from fastconv.layers.context import Context
from fastconv.layers.pool import Pool
from fastconv.layers.symbol import Shape
from fastconv.layers.traits import Traits
from fastconv.registry import layers

Gradients = tuple[Any, dict[str, np.ndarray]]


@layers.register("Pad")
class Pad(Layer):
    """More entries before and after those along each axis: a number, or the image mirrored, repeated or continued.

    Parameters
    ----------
    padding : list of pairs
        (before, after) for each axis but the batch, the channels too; negative ones cut off.
    mode : "constant", "reflect", "edge" or "wrap"
        See `fastconv.functional.pad`.
    value : float, "inf", "-inf" or "nan"
        What "constant" puts there.

    Examples
    --------
    >>> import numpy as np
    >>> Pad([(1, 2)], mode="edge")(np.array([[1.0, 2.0]]))
    array([[1., 1., 2., 2., 2.]])
    """

    traits = Traits(linear=True)

    @classmethod
    def examples(cls) -> Sequence[Any]:
        return [(cls([(1, 2), (0, 1)]), [(3, 4)]), (cls([(1, 2), (0, 0)], mode="reflect"), [(3, 4)])]

    def __init__(self, padding: Sequence[Any], *, mode: str = "constant", value: Any = 0.0) -> None:
        if mode not in PAD_MODES:
            raise ValueError(f"mode must be one of {', '.join(PAD_MODES)}, got {mode!r}")
        if not are_pairs(padding):
            raise TypeError(f"padding must be a pair (before, after) for each axis but the batch, got {padding!r}")
        self.padding = [tuple(pair) for pair in padding]
        self.mode = mode
        self.value = float(value) if value in ("inf", "-inf", "nan") else number(value, "value")

    def output_shape(self, shape: Shape) -> Shape:
        return pad_shape(shape, pad_pairs(shape, self.padding, self.mode))

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        pairs, shape = ((0, 0), *pad_pairs(x.shape[1:], self.padding, self.mode)), x.shape
        return padded(x, pairs, self.mode, self.value), lambda dy: (
            F.pad_backward(dy, shape, pairs, mode=self.mode),
            {},
        )


@layers.register("Resize")
class Resize(Layer):
    """The image ``(N, *spatial, C)`` in another size: by a scale for each spatial axis, or to a size.

    Parameters
    ----------
    scale : list of float or None
        For each spatial axis; the output has ``floor(size * scale)`` pixels.
    size : list of int or None
        Pixels of the output along each spatial axis. With a `scale` too that says how far apart they are, where it is not
        quite the quotient of the sizes; one of the two is given.
    mode : "nearest", "linear" or "cubic"
    coordinates : str
        Where an output lies in the input, such as "half_pixel", "asymmetric" or "align_corners"; this, `rounding`, `cubic`,
        `exclude_outside`, `antialias` and `outside` are those of `fastconv.functional.interpolate.Rule`.
    region : list of pairs, optional
        Of "tf_crop_and_resize": where the region begins and ends along each spatial axis, 0 to 1 being the image.

    See Also
    --------
    fastconv.layers.Upsample : whole factors, faster.

    Examples
    --------
    >>> import numpy as np
    >>> Resize(size=[3], mode="linear")(np.array([[[0.0], [3.0]]]))[0, :, 0]
    array([0. , 1.5, 3. ])
    """

    traits = Traits(linear=True)

    @classmethod
    def examples(cls) -> Sequence[Any]:
        return [(cls([1.5]), [(6, 4)]), (cls(size=[4, 3], mode="linear"), [(6, 5, 4)])]

    def __init__(
        self,
        scale: Sequence[float] | None = None,
        size: Sequence[int] | None = None,
        *,
        mode: str = "nearest",
        coordinates: str = "half_pixel",
        rounding: str = "round_prefer_floor",
        cubic: float = -0.75,
        exclude_outside: bool = False,
        antialias: bool = False,
        outside: float = 0.0,
        region: Sequence[Any] | None = None,
    ) -> None:
        if scale is None and size is None:
            raise ValueError("scale or size must be given, got neither")
        for value, allowed, name in (
            (mode, MODES, "mode"), (coordinates, COORDINATES, "coordinates"), (rounding, ROUNDING, "rounding")
        ):  # fmt: skip
            if value not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
        if scale is not None and not is_list(scale):
            raise TypeError(f"scale must be a list of numbers, one for each spatial axis, got {scale!r}")
        if region is not None and not are_pairs(region):
            raise TypeError(f"region must be a pair (start, end) for each spatial axis, got {region!r}")
        self.scale = None if scale is None else [number(item, "scale", low=0.0) for item in scale]
        self.size = None if size is None else list(sizes(size, "size"))
        self.region = None if region is None else [(number(a, "region"), number(b, "region")) for a, b in region]
        curve, beyond = real_number(cubic, "cubic"), real_number(outside, "outside")
        self.rule = Rule(mode, coordinates, rounding, curve, bool(exclude_outside), bool(antialias), beyond)

    def _lines(self, shape: Shape) -> list[Line | None]:
        """Return the line of every axis of the array."""
        spatial_shape(shape)
        return image_lines((1, *shape), self.scale, self.size, self.region, self.rule)

    def output_shape(self, shape: Shape) -> Shape:
        return tuple(n if line is None else line.size for n, line in zip(shape, self._lines(shape)[1:], strict=True))

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        lines, shape = self._lines(x.shape[1:]), x.shape
        return F.interpolate(x, lines, self.rule), lambda dy: (F.interpolate_backward(dy, shape, lines, self.rule), {})


@layers.register("ResizeLike")
class ResizeLike(Layer):
    """The image ``(N, *spatial, C)`` in the size of another one, the second input, whose numbers do not matter.

    The other arguments are those of `Resize`.

    >>> import numpy as np
    >>> ResizeLike(mode="linear")(np.zeros((1, 4, 3, 2)), np.zeros((1, 9, 7, 5))).shape
    (1, 9, 7, 2)
    """

    traits = Traits(linear=True)

    def __init__(
        self,
        *,
        mode: str = "nearest",
        coordinates: str = "half_pixel",
        rounding: str = "round_prefer_floor",
        cubic: float = -0.75,
        exclude_outside: bool = False,
        antialias: bool = False,
    ) -> None:
        self.arguments: dict[str, Any] = {
            "mode": mode, "coordinates": coordinates, "rounding": rounding, "cubic": cubic,
            "exclude_outside": exclude_outside, "antialias": antialias,
        }  # fmt: skip
        Resize(size=[1], **self.arguments)

    @classmethod
    def examples(cls) -> Sequence[Any]:
        return [(cls(mode="linear"), [(4, 3), (7, 2)])]

    def output_shape(self, *shapes: Shape) -> Shape:
        if len(shapes) != 2 or len(shapes[0]) != len(shapes[1]):
            raise ValueError(f"ResizeLike takes two images of one rank, got shapes {shapes}")
        return Resize(size=spatial_shape(shapes[1]), **self.arguments).output_shape(shapes[0])

    def forward(self, ctx: Context, x: np.ndarray, like: np.ndarray) -> tuple[np.ndarray, Backward]:
        self.output_shape(x.shape[1:], like.shape[1:])
        y, backward = Resize(size=spatial_shape(like.shape[1:]), **self.arguments).forward(ctx, x)
        shape, dtype = like.shape, like.dtype
        return y, lambda dy: ((backward(dy)[0], np.zeros(shape, dtype)), {})


@layers.register("LocalResponseNorm")
class LocalResponseNorm(Layer):
    """Each number of ``(N, ..., C)`` divided by those of the `size` channels around it.

    ``y[c] = x[c] / (bias + alpha / size * sum of x[d]**2) ** beta``, d from ``c - floor((size - 1) / 2)`` to
    ``c + ceil((size - 1) / 2)``. Source: Krizhevsky et al., ImageNet classification with deep convolutional neural networks,
    NeurIPS 2012, section 3.3.

    >>> import numpy as np
    >>> LocalResponseNorm(3, alpha=3.0, beta=1.0)(np.array([[1.0, 2.0, 0.0]])).round(3)
    array([[0.167, 0.333, 0.   ]])
    """

    def __init__(self, size: int, *, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0) -> None:
        self.size = positive(size, "size")
        self.alpha, self.beta = number(alpha, "alpha", low=0.0), number(beta, "beta")
        self.bias = number(bias, "bias", low=0.0)

    def output_shape(self, shape: Shape) -> Shape:
        require_last_axis(shape)
        return shape

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        self.output_shape(x.shape[1:])
        before = (self.size - 1) // 2
        base = self.bias + self.alpha / self.size * _around(np.square(x), before, self.size)
        power = base**-self.beta

        def backward(dy: np.ndarray) -> Gradients:
            shared = _around(dy * x * power / base, self.size - 1 - before, self.size)  # who is around whom, turned
            return dy * power - 2 * self.alpha * self.beta / self.size * x * shared, {}

        return x * power, backward


def _around(x: np.ndarray, before: int, size: int) -> np.ndarray:
    """Return the sums of `size` channels from `before` in front of each."""
    channels = x.shape[-1]
    total = np.zeros_like(x)
    for offset in range(max(-before, 1 - channels), min(size - before, channels)):
        inside = slice(max(0, -offset), channels - max(0, offset))
        total[..., inside] += x[..., max(0, offset) : channels - max(0, -offset)]
    return total


class _LpPool(Pool):
    def __init__(
        self,
        kernel_size: Any = 2,
        stride: Any = None,
        *,
        p: int = 2,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
    ) -> None:
        self.p = positive(p, "p")
        self.window_arguments(kernel_size, stride, padding, dilation, ceil_mode)

    @property
    def traits(self) -> Traits:
        return Traits(domain=(0.3, 4.0))

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        self.output_shape(x.shape[1:])
        arguments: dict[str, Any] = {
            "p": self.p,
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "ceil_mode": self.ceil_mode,
        }
        y = F.lp_pool(x, self.kernel, **arguments)
        return y, lambda dy: (F.lp_pool_backward(dy, x, self.kernel, **arguments), {})


@layers.register("LpPool1d")
class LpPool1d(_LpPool):
    """The p-norm of each window of ``(N, L, C)``; the arguments are those of `LpPool2d`.

    >>> import numpy as np
    >>> LpPool1d(2)(np.array([[[3.0], [4.0]]]))[0, :, 0]
    array([5.])
    """

    rank = 1


@layers.register("LpPool2d")
class LpPool2d(_LpPool):
    """The p-norm of each window of ``(N, H, W, C)``, for each channel: ``(sum of |x| ** p) ** (1 / p)``.

    The arguments are those of `MaxPool2d`, and `p`.

    >>> import numpy as np
    >>> LpPool2d(2)(np.ones((1, 4, 4, 1)))[0, 0, 0]
    array([2.])
    """

    rank = 2


@layers.register("LpPool3d")
class LpPool3d(_LpPool):
    """The p-norm of each window of ``(N, D, H, W, C)``; the arguments are those of `LpPool2d`.

    >>> import numpy as np
    >>> LpPool3d(2, p=1)(np.ones((1, 2, 2, 2, 1)))[0, 0, 0, 0]
    array([8.])
    """

    rank = 3
