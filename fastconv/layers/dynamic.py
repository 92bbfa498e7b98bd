"""Layers for dynamic sizes: the shape of an array as numbers, and layers that take some of their arguments as inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv.arguments import is_list
from fastconv.layers.arrange import Slice
from fastconv.layers.base import Backward, Layer, is_layer
from fastconv.layers.calls import shape_of
from fastconv.layers.checks import axes_of, inner_axes, with_batch
from fastconv.layers.context import Context
from fastconv.layers.symbol import Shape
from fastconv.layers.traits import Traits
from fastconv.layers.tree import collect
from fastconv.registry import layers

Gradients = tuple[Any, dict[str, np.ndarray]]


@layers.register("ShapeOf")
class ShapeOf(Layer):
    """How long the axes `axes` are: ``(N, ...)`` to ``(N, len(axes))``, int64, the same for every sample; no gradient passes.

    >>> import numpy as np
    >>> ShapeOf((1, 3))(np.zeros((2, 5, 6, 7)))
    array([[5, 7],
           [5, 7]])
    """

    traits = Traits(integers=True, discrete=True)

    @classmethod
    def examples(cls) -> Sequence[Any]:
        return [(cls((1, -1)), [(4, 3)])]

    def __init__(self, axes: Any) -> None:
        self.axes = axes_of(axes)

    def output_shape(self, shape: Shape) -> Shape:
        inner_axes(self.axes, 1 + len(shape))
        return (len(self.axes),)

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        axes, nothing = inner_axes(self.axes, x.ndim), (x.shape, x.dtype) if x.dtype.kind == "f" else None
        sizes = np.array([[x.shape[axis] for axis in axes]], np.int64)
        return sizes.repeat(len(x), axis=0), lambda dy: (None if nothing is None else np.zeros(*nothing), {})

    def window(self, *shapes: Shape) -> None:
        return None


@layers.register("DynamicArguments")
class DynamicArguments(Layer):
    """A layer that takes some of its arguments as further inputs, integers: sizes and positions known only when it runs.

    Each is a number ``(N,)`` or a row of numbers ``(N, k)``, as the argument of `inner` is, and the same for all samples. What
    `inner` itself has for them is what shapes are planned with.

    Parameters
    ----------
    inner : layer
        Takes one input, and has no parameters.
    arguments : list of str
        Which of its arguments the further inputs are, in their order.

    Raises
    ------
    ValueError
        Where samples are given different values.

    Examples
    --------
    >>> import numpy as np
    >>> layer = DynamicArguments(Slice(1, 0, 2), ["stop"])
    >>> layer(np.arange(5.0).reshape(1, 5), np.array([3]))
    array([[0., 1., 2.]])
    """

    @classmethod
    def examples(cls) -> Sequence[Any]:
        return [(cls(Slice(1, 1), ["start"]), [(4, 3), ()])]

    def __init__(self, inner: Any, arguments: Sequence[str]) -> None:
        if not is_layer(inner) or collect(inner, "params"):
            raise TypeError(f"inner must be a layer without parameters, got {inner!r:.200}")
        if not is_list(arguments) or not all(isinstance(name, str) for name in arguments):
            raise TypeError(f"arguments must be a list of names, got {arguments!r}")
        self.inner, self.arguments = inner, tuple(arguments)
        unknown = [name for name in self.arguments if name not in inner.config]
        if unknown or not self.arguments:
            raise ValueError(f"arguments must name arguments of {type(inner).__name__}, got {list(arguments)}")

    def children(self) -> list[tuple[str, Layer]]:
        return []  # what is inside has nothing to build, and another takes its place when it runs

    @property
    def takes_numbers(self) -> bool:  # type: ignore[override]
        return bool(self.inner.takes_numbers)

    @property
    def traits(self) -> Traits:
        inner: Traits = self.inner.traits
        kinds = tuple(at for at in range(1 + len(self.arguments)) if at or inner.takes_integers(0))
        return inner._replace(integers=kinds, domain=(1.0, 2.0), counts=True)

    def output_shape(self, *shapes: Shape) -> Any:
        self._require_shapes(shapes)
        return shape_of(self.inner, shapes[:1])

    def _require_shapes(self, shapes: Sequence[Shape]) -> None:
        planned = [self.inner.config[name] for name in self.arguments]
        wanted = [(len(value),) if isinstance(value, (list, tuple)) else () for value in planned]
        if list(shapes[1:]) != wanted:
            named = ", ".join(f"{name} {with_batch(shape)}" for name, shape in zip(self.arguments, wanted, strict=True))
            raise ValueError(
                f"DynamicArguments takes an input and {named}, got {' and '.join(map(with_batch, shapes))}"
            )

    def forward(self, ctx: Context, x: np.ndarray, *numbers: np.ndarray) -> tuple[Any, Backward]:
        self._require_shapes([array.shape[1:] for array in (x, *numbers)])
        given = {name: self._value(name, array) for name, array in zip(self.arguments, numbers, strict=True)}
        y, backward = type(self.inner)(**{**self.inner.config, **given}).forward(ctx, x)
        return y, lambda dy: ((backward(dy)[0], *(None for _ in numbers)), {})

    def _value(self, name: str, array: np.ndarray) -> Any:
        if array.dtype.kind not in "iu":
            raise TypeError(f"{name} must be integers, got {array.dtype} of shape {array.shape}")
        if len(array) > 1 and (array != array[:1]).any():
            raise ValueError(f"{name} must be the same for all samples, got {array.tolist()!s:.200}")
        return array[0].tolist() if len(array) else self.inner.config[name]

    def window(self, *shapes: Shape) -> None:
        return None
