"""A layer that runs one of two models, depending on a condition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv.layers.base import Backward, Layer
from fastconv.layers.calls import ensure_built
from fastconv.layers.checks import require_numbers, with_batch
from fastconv.layers.context import Context
from fastconv.layers.symbol import Shape
from fastconv.layers.traits import Traits
from fastconv.layers.tree import collect
from fastconv.registry import layers as registry
from fastconv.unbatched import Unbatched


@registry.register("Branch")
class Branch(Layer):
    """For each sample one of two models: `then` where the first input ``(N,)`` is true or not 0, else `otherwise`.

    Both are models without a batch, take what the further inputs ``(N, ...)`` have for one sample, and return as many outputs,
    of as many axes; where their shapes differ, the samples of a batch must agree. The backward pass is that of the model that
    ran. Shapes are planned with those of `then`, or of `otherwise` where `then` returns an array without numbers.

    Parameters
    ----------
    then, otherwise : fastconv.unbatched.Unbatched

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import Tanh
    >>> from fastconv.model import Input, Model
    >>> def model(layer):
    ...     x = Input((2,))
    ...     return Unbatched(Model(x, layer(x)), [{"name": "x", "shape": [2], "used": True}], [{"name": "y", "from": 0}])
    >>> from fastconv.layers import ScaleShift
    >>> Branch(model(ScaleShift(10.0)), model(ScaleShift(-1.0)))(np.array([1, 0]), np.ones((2, 2), np.float32))
    array([[10., 10.],
           [-1., -1.]], dtype=float32)
    """

    takes_numbers = True

    def __init__(self, then: Any, otherwise: Any) -> None:
        for name, model in (("then", then), ("otherwise", otherwise)):
            if not isinstance(model, Unbatched):
                raise TypeError(f"{name} must be a model without a batch, got {model!r:.200}")
        counts = [(len(model.named_inputs), len(model.named_outputs)) for model in (then, otherwise)]
        if counts[0] != counts[1]:
            raise ValueError(f"both models must have as many inputs and outputs, got {counts[0]} and {counts[1]}")
        self.then, self.otherwise = then, otherwise

    @classmethod
    def examples(cls) -> Sequence[Any]:
        from fastconv.layers import Linear, ScaleShift
        from fastconv.model import Input, Model

        def model(layer: Layer) -> Unbatched:
            x = Input((3, 4))
            inputs = [{"name": "x", "shape": [3, 4], "used": True}]
            return Unbatched(Model(x, layer(x)), inputs, [{"name": "y", "from": 0}])

        return [(cls(model(Linear(4)), model(ScaleShift(2.0, 1.0))), [(), (3, 4)])]

    @property
    def traits(self) -> Traits:
        models = self.then, self.otherwise
        kinds = {1 + at for model in models for at in _integers(model)}
        return Traits(
            integers=(0, *sorted(kinds)), discrete=any(model.traits.discrete for model in models), counts=True
        )

    @property
    def built(self) -> bool:
        return self._built

    def build(self, *shapes: Shape, rng: np.random.Generator) -> None:
        for model in (self.then, self.otherwise):
            ensure_built(model, model.input_shapes, rng)

    def output_shape(self, *shapes: Shape) -> Any:
        if len(shapes) != 1 + len(self.then.named_inputs) or shapes[0]:
            raise ValueError(
                f"Branch takes a number for each sample and {len(self.then.named_inputs)} inputs, got "
                f"{' and '.join(map(with_batch, shapes))}"
            )
        planned = [_planned(model, shapes[1:]) for model in (self.then, self.otherwise)]
        if any(len(a) != len(b) for a, b in zip(*planned, strict=True)):
            raise ValueError(f"both models must return arrays of as many axes, got {planned[0]} and {planned[1]}")
        found = tuple(b if 0 in a else a for a, b in zip(*planned, strict=True))
        return found if len(found) > 1 else found[0]

    def forward(self, ctx: Context, which: np.ndarray, *xs: np.ndarray) -> tuple[Any, Backward]:
        require_numbers(which)
        if which.ndim != 1 or len(xs) != len(self.then.named_inputs) or any(len(x) != len(which) for x in xs):
            self.output_shape(*(x.shape[1:] for x in (which, *xs)))
            raise ValueError(f"the inputs must have one batch size, got {[len(x) for x in (which, *xs)]}")
        names = ["then" if truth else "otherwise" for truth in which != 0]
        passes = [getattr(self, name).forward(ctx, *(x[n] for x in xs)) for n, name in enumerate(names)]
        several = len(self.then.named_outputs) > 1
        ys = self._stacked([y if several else (y,) for y, _ in passes], which, xs)

        def backward(dy: Any) -> tuple[Any, dict[str, np.ndarray]]:
            dxs: list[Any] = [None if x.dtype.kind != "f" else np.zeros_like(x) for x in xs]
            gradients = {name: np.zeros_like(array) for name, array in collect(self, "params", trainable=True).items()}
            for n, (name, (_, inner_backward)) in enumerate(zip(names, passes, strict=True)):
                given = tuple(None if part is None else part[n] for part in dy) if several else dy[n]
                back, own = inner_backward(given)
                for dx, part in zip(dxs, back if len(xs) > 1 else (back,), strict=True):
                    if dx is not None and part is not None:
                        dx[n] = part
                for key, gradient in own.items():
                    gradients[f"{name}/{key}"] += gradient
            none = np.zeros_like(which) if which.dtype.kind == "f" else None
            return (none, *dxs), gradients

        return tuple(ys) if several else ys[0], backward

    def _stacked(self, found: list[Any], which: np.ndarray, xs: Sequence[np.ndarray]) -> list[np.ndarray]:
        if not found:
            shapes: Any = self.output_shape((), *(x.shape[1:] for x in xs))
            shapes = shapes if len(self.then.named_outputs) > 1 else (shapes,)
            return [np.zeros((0, *shape), self.dtype) for shape in shapes]
        return [np.stack(parts) for parts in zip(*found, strict=True)]

    def window(self, *shapes: Shape) -> None:
        return None


def _integers(model: Unbatched) -> set[int]:
    """Return which inputs of a model without a batch are read as integers, or not at all."""
    used = [at for at, item in enumerate(model.named_inputs) if item["used"]]
    free = set(range(len(model.named_inputs))) - set(used)
    steps = model.body.graph.steps if model.body is not None else []
    return free | {
        used[slot]
        for step in steps
        for at, slot in enumerate(step.reads)
        if slot < len(used) and step.layer.traits.takes_integers(at)
    }


def _planned(model: Unbatched, shapes: Sequence[Shape]) -> list[Shape]:
    """Return the shapes of the outputs of a model without a batch, whole."""
    used = [shape for item, shape in zip(model.named_inputs, shapes, strict=True) if item["used"]]
    made: Any = model.body.output_shape(*used) if model.body is not None else ()
    made = made if made and isinstance(made[0], tuple) else (made,)
    return [made[item["from"]] if "from" in item else tuple(item["shape"]) for item in model.named_outputs]
