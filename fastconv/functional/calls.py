"""Kernel calls that are decided before their arrays exist: what a frozen model is made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from numpy.typing import NDArray

from fastconv.functional.activation import CHEAP, DEAR

#: Activations that wait for memory, not for their arithmetic.
_CHEAP = {"relu", "relu6", "leaky_relu", "prelu", "hard_swish", "hard_sigmoid"}


class View(NamedTuple):
    """An array to come: the number of a value, and the shape in which a call takes it.

    With a `width` it is channels of an array of so many, from channel `first` on: a call gets that array. It begins at element
    `start` of its image.
    """

    value: int
    shape: tuple[int, ...]
    first: int = 0
    width: int = 0
    start: int = 0

    @property
    def whole_shape(self) -> tuple[int, ...]:
        """The shape of the array that a call gets."""
        return (*self.shape[:-1], self.width) if self.width else self.shape

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    def reshape(self, *shape: int) -> View:
        """Return a view of the same value in another shape."""
        return self._replace(shape=shape)

    def lines(self, first: int, end: int) -> View:
        """Return a view of lines ``first .. end - 1`` of an image, whose shape is (1, H, W, C)."""
        line = math.prod(self.whole_shape[2:])
        return self._replace(shape=(1, end - first, *self.shape[2:]), start=self.start + first * line)

    def spatial3(self) -> View:
        """Return a view (N, D, H, W, C) of an array (N, *spatial, C) with one to three spatial axes."""
        return self.reshape(self.shape[0], *(1,) * (5 - len(self.shape)), *self.shape[1:])


class Call(NamedTuple):
    """``kernel(*args)``, where views stand for arrays; with `work`, the number of threads for it is one more argument.

    `algorithm` is what `explain` calls it.
    """

    algorithm: str
    kernel: Callable[..., Any]
    args: tuple[Any, ...]
    work: int | None = None


class Activation(NamedTuple):
    """A function of each number, as the kernels know it: its name and parameters, or "prelu" and a slope for each channel."""

    name: str
    a: float = 0.0
    b: float = 0.0
    slope: NDArray[Any] | None = None

    @property
    def cost(self) -> int:
        """What a number counts in multiply-adds where threads share them."""
        return CHEAP if self.name in _CHEAP else DEAR


def activate(kernels: Any, activation: Activation, x: View, y: View) -> list[Call]:
    """Return the calls for ``y = f(x)``; y may be x."""
    if not y.size:
        return []
    work = activation.cost * y.size
    if activation.slope is not None:
        return [Call("prelu", kernels.prelu_forward, (x, activation.slope, y), work)]
    arguments = activation.name, activation.a, activation.b
    return [Call(activation.name, kernels.activation_forward, (x, y, *arguments), work)]


def activated_sum(kernels: Any, activation: Activation | None, x: View, residual: View, y: View) -> list[Call]:
    """Return the calls for ``y = f(x + residual)``, all of one shape; y may be either of them."""
    if not y.size:
        return []
    if activation is None or activation.slope is not None:
        sums = [Call("add", kernels.activated_sum, (x, residual, y, None, 0.0, 0.0), y.size)]
        return sums if activation is None else sums + activate(kernels, activation, y, y)
    arguments = activation.name, activation.a, activation.b
    work = (1 + activation.cost) * y.size
    return [Call(f"add, {activation.name}", kernels.activated_sum, (x, residual, y, *arguments), work)]


def epilogue(kernels: Any, activation: Activation | None, residual: View | None, y: View) -> list[Call]:
    """Return the calls for ``y = f(y + residual)`` in place."""
    if residual is not None:
        return activated_sum(kernels, activation, y, residual, y)
    return [] if activation is None else activate(kernels, activation, y, y)
