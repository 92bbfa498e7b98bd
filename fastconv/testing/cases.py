"""One example of a check: a layer, input shapes, a batch, a mode, and the seed of everything else."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fastconv.layers import Context, Layer, Traits
from fastconv.layers.calls import ensure_built, run, run_backward
from fastconv.layers.symbol import Shape
from fastconv.layers.tree import collect, walk

Arrays = tuple[np.ndarray, ...]

#: So many numbers are written out in messages.
_FEW = 12

#: Inputs keep this far away from where a layer says that it cannot be differentiated.
AWAY = 0.05


class Entry(NamedTuple):
    """A layer that nobody changes, and shapes of its inputs.

    `typical` suits it; `variants` are drawn from, the smallest first; `doubtful` are those that `output_shape` takes although a
    pass with them fails. One check says so, the others look elsewhere.
    """

    layer: Layer
    typical: tuple[Shape, ...]
    variants: list[tuple[Shape, ...]]
    doubtful: list[tuple[Shape, ...]]
    reference: Any = None


class Passed(NamedTuple):
    """What came out of one pass: the outputs, and with a backward pass the gradients of the inputs and the parameters."""

    ys: Arrays
    dxs: tuple[Any, ...] = ()
    gradients: dict[str, np.ndarray] = {}  # noqa: RUF012 - a default that nobody changes

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all arrays by what they are called in messages."""
        named = numbered("the output", self.ys) | numbered("the gradient of the input", self.dxs)
        return named | {f"the gradient of parameter {name!r}": array for name, array in self.gradients.items()}


class Case(NamedTuple):
    """One example: what a check gets. Every method starts from the same layer, untouched, and from the same seed.

    Layer and inputs are of `dtype` where nothing else is asked for.
    """

    entry: Entry
    shapes: tuple[Shape, ...]
    batch: int = 2
    training: bool = False
    seed: int = 0
    dtype: Any = np.float64

    @property
    def label(self) -> str:
        """How messages call the layer."""
        return self.entry.layer.label

    @property
    def traits(self) -> Traits:
        """What the layer declares, together with what the layers inside it do."""
        inner = [layer.traits for _, layer in walk(self.entry.layer)]
        own: Traits = self.entry.layer.traits
        return own._replace(
            mixes_samples=any(traits.mixes_samples for traits in inner),
            shares_input=any(traits.shares_input for traits in inner),
        )

    def layer(self, dtype: Any = None) -> Layer:
        """Return a copy of the layer, built, with parameters that are neither 0 nor 1, where errors hide.

        What came built keeps its parameters. float32 and float64 have the same ones.
        """
        layer = copy.deepcopy(self.entry.layer)
        if not layer.built:
            layer.astype(np.float32)
            ensure_built(layer, self.shapes, np.random.default_rng(self.seed + 1))
            rng = np.random.default_rng(self.seed + 2)
            for array in collect(layer, "params").values():
                array += rng.uniform(0.1, 0.5, array.shape).astype(array.dtype)
            if collect(layer, "buffers"):  # as training leaves them
                xs = [x.astype(np.float32) if x.dtype.kind == "f" else x for x in self._replace(batch=3).inputs()]
                run(layer, Context(True, np.random.default_rng(self.seed + 3)), xs)
        return layer.astype(dtype or self.dtype)

    def inputs(self, dtype: Any = None) -> Arrays:
        """Return random inputs away from the layer's kinks, the same numbers in both dtypes."""
        rng = np.random.default_rng(self.seed)
        return tuple(
            self._input(rng, at, (self.batch, *shape), dtype or self.dtype) for at, shape in enumerate(self.shapes)
        )

    def _input(self, rng: np.random.Generator, at: int, shape: Shape, dtype: Any) -> np.ndarray:
        traits = self.traits
        low, high = traits.domain
        size = int(np.prod(shape))
        if traits.takes_integers(at) and (traits.discrete or not self.entry.layer.children()):
            return rng.integers(int(low), int(high), shape)
        if traits.kinks == "ties":  # no two are close
            spaced = np.arange(size) + rng.uniform(0.2, 0.8)
            values = rng.permutation(low + (high - low) * spaced / max(size, 1))
        else:
            values = rng.uniform(low, high, size)
        for kink in traits.kinks if isinstance(traits.kinks, tuple) else ():
            near = np.abs(values - kink) < AWAY
            values[near] = kink + np.where(values[near] < kink, -AWAY, AWAY)
        return values.reshape(shape).astype(np.float32).astype(dtype)

    def context(self, *, input_grad: bool = True) -> Context:
        """Return the context of one pass, with its own generator."""
        return Context(self.training, np.random.default_rng(self.seed + 4), input_grad)

    def cotangents(self, ys: Arrays, number: int = 0) -> Arrays:
        """Return random gradients of the outputs; another `number` gives others."""
        rng = np.random.default_rng((self.seed, number))
        return tuple(rng.standard_normal(y.shape).astype(np.float32).astype(y.dtype) for y in ys)

    def passed(self, layer: Layer, xs: Sequence[np.ndarray], *, input_grad: bool = True, number: int = 0) -> Passed:
        """Return what one pass there and back gives."""
        ys, backward = self.forward(layer, xs, input_grad=input_grad)
        return self.back(layer, ys, backward, self.cotangents(ys, number))

    def forward(self, layer: Layer, xs: Sequence[np.ndarray], *, input_grad: bool = True) -> tuple[Arrays, Any]:
        """Return the outputs of one pass, as a tuple, and its backward pass."""
        y, backward = run(layer, self.context(input_grad=input_grad), xs)
        return several(y), backward

    def back(self, layer: Layer, ys: Arrays, backward: Any, dys: Arrays) -> Passed:
        """Return the outputs and what the backward pass makes of `dys`."""
        dx, gradients = run_backward(layer, backward, dys if len(dys) > 1 else dys[0])
        return Passed(ys, several(dx), gradients)

    def describe(self) -> str:
        """Return the example in words that let somebody write it down again, its numbers too where they are few."""
        inputs = " and ".join(str((self.batch, *shape)) for shape in self.shapes)
        mode = "training" if self.training else "evaluation"
        if self.dtype != np.float64:
            mode += f", {np.dtype(self.dtype)}"
        words = f"{self.entry.layer!r} on {'inputs' if len(self.shapes) > 1 else 'an input'} of shape {inputs}, {mode}"
        xs = self.inputs()
        if not 0 < sum(x.size for x in xs) <= _FEW:
            return words
        numbers = " and ".join(np.array2string(x, precision=6, separator=", ").replace("\n", "") for x in xs)
        return f"{words}: {numbers}"


def several(value: Any) -> tuple[Any, ...]:
    """Return a tuple: `value` if it is one, else one that holds it.

    >>> several(1), several((1, 2))
    ((1,), (1, 2))
    """
    return value if isinstance(value, tuple) else (value,)


def state_of(layer: Layer, *kinds: str) -> dict[str, np.ndarray]:
    """Return the live arrays of some kinds, "params" and "buffers", in a layer and those inside, by what messages call them.

    >>> from fastconv.layers import Linear
    >>> layer = Linear(2)
    >>> _ = layer(np.ones((1, 3), np.float32))
    >>> list(state_of(layer, "params", "buffers"))
    ["parameter 'weight'", "parameter 'bias'"]
    """
    words = {"params": "parameter", "buffers": "buffer"}
    return {f"{words[kind]} {name!r}": array for kind in kinds for name, array in collect(layer, kind).items()}


def numbered(what: str, arrays: tuple[Any, ...]) -> dict[str, Any]:
    """Return arrays by what messages call them, with their number where there are several; None is left out.

    >>> numbered("the input", (7,)), numbered("the input", (7, None, 9))
    ({'the input': 7}, {'the input 1': 7, 'the input 3': 9})
    """
    named = {f"{what} {at}" if len(arrays) > 1 else what: array for at, array in enumerate(arrays, 1)}
    return {name: array for name, array in named.items() if array is not None}
