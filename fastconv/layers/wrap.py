"""Layers around another layer: with some inputs fixed, along an axis, on integers; and casts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv.arguments import integer, is_list
from fastconv.layers.activation import Softmax
from fastconv.layers.base import Backward, Layer, is_layer
from fastconv.layers.calls import ensure_built, shape_of
from fastconv.layers.checks import require_numbers, with_batch
from fastconv.layers.context import Context
from fastconv.layers.merge import Add
from fastconv.layers.symbol import Shape, several
from fastconv.layers.traits import Traits
from fastconv.layers.tree import collect
from fastconv.registry import layers

Gradients = tuple[Any, dict[str, np.ndarray]]

#: What an array that a layer holds may be made of; floats take the dtype of the model.
DTYPES = ("float", "int32", "int64", "bool")


class _Wrapper(Layer):
    """What wrappers share: the layer inside, `inner`, is built with them, and its parameters are ``inner/...``."""

    inner: Layer

    @property
    def takes_numbers(self) -> bool:  # type: ignore[override]
        return self.inner.takes_numbers

    def _take(self, inner: Any) -> None:
        if not is_layer(inner):
            raise TypeError(f"inner must be a layer, got {inner!r:.200}")
        self.inner = inner

    def inner_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        """Return the shapes that the layer inside gets."""
        return list(shapes)

    def build(self, *shapes: Shape, rng: np.random.Generator) -> None:
        ensure_built(self.inner, self.inner_shapes(shapes), rng)

    @property
    def built(self) -> bool:
        return self._built

    def window(self, *shapes: Shape) -> Any:
        return None

    def multiply_adds(self, *shapes: Shape) -> int:
        return self.inner.multiply_adds(*self.inner_shapes(shapes))


def _prefixed(gradients: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {f"inner/{name}": gradient for name, gradient in gradients.items()}


@layers.register("Partial")
class Partial(_Wrapper):
    """A layer of several inputs, some of which are fixed or learned arrays, the same for every sample.

    What is held is called ``input_1`` for the second input. Learned ones start at 0.

    Parameters
    ----------
    inner : layer
        Takes at least one input more than are held.
    held : list of [int, shape, dtype, bool]
        For each held input: which it is, its shape without the batch, "float", "int32", "int64" or "bool", and whether it is
        learned (only floats can be).

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import Add
    >>> layer = Partial(Add(), [[1, [3], "float", True]])
    >>> y = layer(np.zeros((2, 3), np.float32))
    >>> layer.params["input_1"][:] = 5
    >>> layer(np.zeros((2, 3), np.float32))
    array([[5., 5., 5.],
           [5., 5., 5.]], dtype=float32)
    """

    @classmethod
    def examples(cls) -> Sequence[Any]:
        return [(cls(Add(), [[1, [4], "float", True]]), [(4,)])]

    def __init__(self, inner: Any, held: Sequence[Any]) -> None:
        self._take(inner)
        self.held: dict[int, tuple[Shape, str, bool]] = {}
        if not is_list(held) or not all(is_list(item) and len(item) == 4 and is_list(item[1]) for item in held):
            raise TypeError(f"held must be [number, shape, kind, whether it is learned] of each, got {held!r}")
        for item in held:
            at, shape, dtype, learned = item
            if dtype not in DTYPES or (learned and dtype != "float"):
                raise ValueError(f"held must say one of {', '.join(DTYPES)}, learned only floats, got {item!r}")
            self.held[integer(at, "held")] = tuple(shape), dtype, bool(learned)
        if not self.held or min(self.held) < 0:
            raise ValueError(f"held must name at least one input, by its number, got {held!r}")

    @property
    def traits(self) -> Traits:
        traits = self.inner.traits
        free = [at for at in range(len(self.held) + 8) if at not in self.held]
        kinds = tuple(at for at, number in enumerate(free) if traits.takes_integers(number))
        # where two inputs were compared, a tie with a held number is no place that can be kept away from
        kinks = self._distance if traits.kinks == "ties" else traits.kinks
        return traits._replace(integers=kinds or False, linear=False, kinks=kinks)

    def _distance(self, *xs: np.ndarray) -> float:
        every = [array[:1] if array.dtype.kind == "f" else None for array in self._all(xs)]
        wide = [x for x in every if x is not None]
        return min(
            (float(np.abs(a - b).min(initial=np.inf)) for i, a in enumerate(wide) for b in wide[:i]), default=np.inf
        )

    def _all(self, xs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the inputs of the layer inside: `xs`, and what is held, stretched over the batch."""
        free, every = list(xs), list[np.ndarray]()
        while free or len(every) in self.held:
            at = len(every)
            if at in self.held:
                shape = self.held[at][0]
                every.append(np.broadcast_to(self._array(at), (len(xs[0]), *shape)))
            else:
                every.append(free.pop(0))
        return every

    def _array(self, at: int) -> np.ndarray:
        name = f"input_{at}"
        return self.params[name] if name in self.params else self.buffers[name]

    def inner_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        free, every = list(shapes), list[Shape]()
        while free or len(every) in self.held:
            at = len(every)
            every.append(self.held[at][0] if at in self.held else free.pop(0))
        return every

    def build(self, *shapes: Shape, rng: np.random.Generator) -> None:
        super().build(*shapes, rng=rng)
        for at, (shape, dtype, learned) in self.held.items():
            arrays = self.params if learned else self.buffers
            arrays[f"input_{at}"] = np.zeros(shape, np.float32 if dtype == "float" else dtype)

    def output_shape(self, *shapes: Shape) -> Any:
        return shape_of(self.inner, self.inner_shapes(shapes))

    def forward(self, ctx: Context, *xs: np.ndarray) -> tuple[Any, Backward]:
        if not xs:
            raise ValueError("there must be at least one input")
        y, inner_backward = self.inner.forward(ctx, *self._all(xs))

        def backward(dy: Any) -> Gradients:
            dxs, gradients = inner_backward(dy)
            dxs = dxs if isinstance(dxs, tuple) else (dxs,)
            gradients = _prefixed(gradients)
            for at, (_, _, learned) in self.held.items():
                if learned:
                    gradients[f"input_{at}"] = dxs[at].sum(axis=0)
            free = tuple(dx for at, dx in enumerate(dxs) if at not in self.held)
            return free if len(free) > 1 else free[0], gradients

        return y, backward


@layers.register("TimeDistributed")
class TimeDistributed(_Wrapper):
    """A layer applied to every entry along the first axis: ``(N, T, ...)`` is for the layer inside a batch of ``N * T``.

    With several inputs each has that axis. In training a layer inside that mixes samples sees all of them.

    >>> import numpy as np
    >>> from fastconv.layers import Conv2d
    >>> TimeDistributed(Conv2d(4, 3))(np.zeros((2, 5, 8, 8, 3), np.float32)).shape
    (2, 5, 6, 6, 4)
    """

    @classmethod
    def examples(cls) -> Sequence[Any]:
        return [(cls(Softmax()), [(3, 4)])]

    def __init__(self, inner: Any) -> None:
        self._take(inner)

    @property
    def traits(self) -> Traits:
        traits: Traits = self.inner.traits
        return traits

    def inner_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        if not all(shapes) or len({shape[0] for shape in shapes}) > 1:
            raise ValueError(f"x must have shape (N, T, ...), got {' and '.join(map(with_batch, shapes))}")
        return [shape[1:] for shape in shapes]

    def output_shape(self, *shapes: Shape) -> Any:
        out = shape_of(self.inner, self.inner_shapes(shapes))
        first = shapes[0][0]
        return tuple((first, *shape) for shape in out) if several(out) else (first, *out)

    def forward(self, ctx: Context, *xs: np.ndarray) -> tuple[Any, Backward]:
        self.inner_shapes([x.shape[1:] for x in xs])
        outer = xs[0].shape[:2]
        y, inner_backward = self.inner.forward(ctx, *(_merged(x) for x in xs))

        def backward(dy: Any) -> Gradients:
            dxs, gradients = inner_backward(tuple(map(_merged, dy)) if isinstance(dy, tuple) else _merged(dy))
            return _apart(dxs, outer), _prefixed(gradients)

        return _apart(y, outer), backward


def _merged(x: np.ndarray) -> np.ndarray:
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])


def _apart(value: Any, outer: tuple[int, ...]) -> Any:
    if isinstance(value, tuple):
        return tuple(_apart(part, outer) for part in value)
    return None if value is None else value.reshape(*outer, *value.shape[1:])


@layers.register("Discrete")
class Discrete(_Wrapper):
    """A layer without parameters on integers or booleans, which gives such numbers; no gradient passes.

    >>> import numpy as np
    >>> from fastconv.layers import Add
    >>> Discrete(Add())(np.array([[1, 2]]), np.array([[3, 4]]))
    array([[4, 6]])
    """

    @classmethod
    def examples(cls) -> Sequence[Any]:
        return [(cls(Add()), [(3, 4), (3, 4)])]

    def __init__(self, inner: Any) -> None:
        self._take(inner)
        if collect(inner, "params"):
            raise ValueError(f"inner must have no parameters, got {inner!r}")

    @property
    def traits(self) -> Traits:
        inner = self.inner.traits
        shares, counts = inner.shares_input, inner.counts
        return Traits(integers=True, discrete=True, shares_input=shares, domain=(0.0, 3.0), counts=counts)

    def output_shape(self, *shapes: Shape) -> Any:
        return shape_of(self.inner, shapes)

    def forward(self, ctx: Context, *xs: np.ndarray) -> tuple[Any, Backward]:
        for x in xs:
            if x.dtype.kind not in "iub":
                raise TypeError(f"x must be integers or booleans, got {x.dtype} of shape {x.shape}")
        y, _ = self.inner.forward(ctx, *xs)
        return y, lambda dy: (tuple(None for _ in xs) if len(xs) > 1 else None, {})


@layers.register("Cast")
class Cast(Layer):
    """The same numbers in another dtype: "float32", "float64", "int32", "int64" or "bool"; floats are cut off, not rounded.

    "float" is that of the model, whichever it is. Between floats the gradient is cast back, else none passes. `source` says
    which dtype comes in, where that is known, as an input of an ONNX file; floats of another width than the model's, too.

    >>> import numpy as np
    >>> Cast("int64")(np.array([[1.7, -1.7]]))
    array([[ 1, -1]])
    """

    takes_numbers = True

    traits = Traits(integers=True, discrete=True, shares_input=True)

    def __init__(self, dtype: str, *, source: str | None = None) -> None:
        known = ("float32", "float64", *DTYPES)
        for name, value in (("dtype", dtype), ("source", source)):
            if value not in known and (name, value) != ("source", None):
                raise ValueError(f"{name} must be float, float32, float64, int32, int64 or bool, got {value!r}")
        self.asked = dtype
        self.source = source

    @property
    def dtype_out(self) -> np.dtype[Any]:
        """The dtype of the output."""
        return self.dtype if self.asked == "float" else np.dtype(self.asked)

    @classmethod
    def examples(cls) -> Sequence[Layer]:
        return [cls("int32"), cls("bool")]

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def forward(self, ctx: Context, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        require_numbers(x)
        with np.errstate(invalid="ignore", over="ignore"):
            y = x.astype(self.dtype_out, copy=False)
        before, passes = x.dtype, x.dtype.kind == "f" and y.dtype.kind == "f"

        def backward(dy: np.ndarray) -> Gradients:
            if x.dtype.kind != "f":
                return None, {}
            return dy.astype(before) if passes else np.zeros(x.shape, before), {}

        return y, backward
