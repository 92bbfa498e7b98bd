"""Models without a batch axis: the first axis of their arrays is like any other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastconv.graph import Graph
from fastconv.layers.arrange import Squeeze, Unsqueeze
from fastconv.layers.base import Backward, Layer
from fastconv.layers.calls import shape_of
from fastconv.layers.context import Context
from fastconv.layers.symbol import Shape, several
from fastconv.layers.traits import Traits
from fastconv.model import Input, Model
from fastconv.registry import layers as registry

if TYPE_CHECKING:
    from fastconv.summary import Summary


@registry.register("Unbatched")
class Unbatched(Model):
    """A model around another, whose batch of one is put on before and taken off after it.

    What is for other models the batch is here an axis like any other: the arrays are given to the model inside as ``x[None]``,
    so inputs may be numbers and outputs may have any shape. Some inputs may not be used, and some outputs may be constants.

    Parameters
    ----------
    body : Model or None
        None where every output is a constant.
    inputs : list of dict
        For each input its ``"name"``, its typical ``"shape"`` and whether it is ``"used"``; ``"free"`` are axes of any size,
        and ``"dtype"`` is what it was in the file that the model comes from.
    outputs : list of dict
        For each output its ``"name"`` and ``"from"``, the number of the output of `body`, and ``"free"`` as for inputs; for a
        constant its ``"shape"`` and ``"dtype"``; it is then a buffer, ``"output_0"`` for the first.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import ReduceSum
    >>> from fastconv.model import Input
    >>> x = Input((3, 2))
    >>> body = Model(x, ReduceSum((1, 2))(x))
    >>> model = Unbatched(body, [{"name": "x", "shape": [3, 2], "used": True}], [{"name": "y", "from": 0}])
    >>> model(np.ones((3, 2), np.float32))
    array(6., dtype=float32)
    """

    def __init__(self, body: Any, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        if body is not None and not isinstance(body, Model):
            raise TypeError(f"body must be a model or None, got {body!r:.200}")
        self.body = body
        self.named_inputs = [dict(item) for item in inputs]
        self.named_outputs = [dict(item) for item in outputs]
        if body is not None and body.name is None:
            body.name = "body"
        self._fixed: dict[str, np.ndarray] = {
            f"output_{at}": np.zeros(item["shape"], item["dtype"])
            for at, item in enumerate(self.named_outputs)
            if "from" not in item
        }

    @property
    def input_names(self) -> list[str | None]:
        return [str(item["name"]) for item in self.named_inputs]

    @property
    def output_names(self) -> list[str | None]:
        return [str(item["name"]) for item in self.named_outputs]

    @property
    def layers(self) -> tuple[Layer, ...]:
        return self.body.layers if self.body is not None else ()

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        return tuple(tuple(item["shape"])[1:] for item in self.named_inputs)

    @property
    def traits(self) -> Traits:
        inner = self.body.traits if self.body is not None else Traits()
        return Traits(integers=bool(inner.integers), discrete=inner.discrete, mixes_samples=True, counts=inner.counts)

    @property
    def graph(self) -> Graph:
        if self.body is None:
            raise ValueError(f"{self.label} computes nothing: its outputs are constants")
        return self.body.graph

    def own(self, kind: str) -> dict[str, np.ndarray]:
        return self._fixed if kind == "buffers" else {}

    def _members(self) -> Sequence[Layer]:
        return [self.body] if self.body is not None else []

    def build(self, *shapes: Shape, rng: np.random.Generator | None = None) -> Unbatched:  # type: ignore[override]
        if self.body is not None:
            self.body.build(rng=rng)
        self._built = True
        return self

    def _build_if_known(self) -> None:
        if not self._built:
            self.build()

    def batched(self) -> Model:
        """Return a model of the same layers that takes any number of samples, and computes each as this one does by itself.

        That is for arrays whose first axis is a batch of one: files that were written for one image, in which axes are merged
        into the batch and out of it, as the windows of a Swin transformer.

        Raises `ValueError` where the first axis of an input or output is not 1, an input is not used, or an output is constant.

        Examples
        --------
        >>> import numpy as np
        >>> from fastconv.layers import Reshape
        >>> from fastconv.model import Input
        >>> x = Input((1, 4, 3))
        >>> body = Model(x, Reshape((1, 12))(Reshape((2, 2, 3))(x)))
        >>> model = Unbatched(body, [{"name": "x", "shape": [1, 4, 3], "used": True}], [{"name": "y", "from": 0}])
        >>> model.batched()(np.ones((5, 4, 3), np.float32)).shape
        (5, 12)
        """
        self._build_if_known()
        whole = [tuple(item["shape"]) for item in self.named_inputs]
        if self.body is None or not all(item["used"] for item in self.named_inputs):
            raise ValueError(f"{self.label} has inputs that it does not use, so there is nothing to batch")
        made = shape_of(self.body, whole)
        shapes = list(made) if several(made) else [made]
        sources = [item.get("from") for item in self.named_outputs]
        if None in sources or any(shape[:1] != (1,) for shape in (*whole, *shapes)):
            raise ValueError(
                f"the first axis of all inputs and outputs must be a batch of one, got inputs {whole} and outputs {shapes}"
            )
        xs = [Input(shape[1:], name=item["name"]) for shape, item in zip(whole, self.named_inputs, strict=True)]
        ys = self.body(*(Unsqueeze(1)(x) for x in xs))
        ys = ys if isinstance(ys, tuple) else (ys,)
        outputs = [Squeeze(1)(ys[source]) for source in sources if source is not None]
        model = Model(xs, outputs, output_names=[str(item["name"]) for item in self.named_outputs])
        return model.astype(self.dtype).build()

    def output_shape(self, *shapes: Shape) -> Any:
        """Return the shapes of the outputs without their first axis, for inputs whose first axes have their typical sizes."""
        inner: Any = self.body.output_shape(*self._whole(shapes)) if self.body is not None else ()
        inner = inner if inner and isinstance(inner[0], tuple) else (inner,)
        found = [inner[item["from"]] if "from" in item else tuple(item["shape"]) for item in self.named_outputs]
        return tuple(shape[1:] for shape in found) if len(found) > 1 else found[0][1:]

    def _whole(self, shapes: Sequence[Shape]) -> list[Shape]:
        """Return the shapes of the inputs that the model inside gets, with their first axes."""
        if len(shapes) != len(self.named_inputs):
            raise ValueError(f"{self.label} takes {len(self.named_inputs)} inputs, got {len(shapes)}")
        pairs = zip(self.named_inputs, shapes, strict=True)
        return [(*item["shape"][:1], *shape) for item, shape in pairs if item["used"]]

    def summary(self) -> Summary:
        """Return the table of the model inside, whose batch of one is on the way here only."""
        return super().summary() if self.body is None else self.body.summary()

    def multiply_adds(self, *shapes: Shape) -> int:
        return self.body.multiply_adds(*self._whole(shapes)) if self.body is not None else 0

    def window(self, *shapes: Shape) -> Any:
        return None

    def forward(self, ctx: Context, *xs: np.ndarray) -> tuple[Any, Backward]:
        if len(xs) != len(self.named_inputs):
            raise ValueError(f"{self.label} takes {len(self.named_inputs)} inputs, got {len(xs)}")
        for item, x in zip(self.named_inputs, xs, strict=True):
            if x.ndim != len(item["shape"]):
                raise ValueError(
                    f"{self.label} takes input {item['name']!r} with {len(item['shape'])} axes, got shape {x.shape}"
                )
        self._build_if_known()
        used = [at for at, item in enumerate(self.named_inputs) if item["used"]]
        ys: tuple[Any, ...] = ()
        if self.body is not None:
            self._require_dtype([xs[at] for at in used], self.body.graph.casts)
            if not ctx.has_rng:
                ctx = ctx.replace(rng=self.rng)
            y, inner = self.body.forward(ctx, *(xs[at][None] for at in used))
            ys = y if isinstance(y, tuple) else (y,)
        sources = [item.get("from") for item in self.named_outputs]
        found = tuple(
            _one(ys[source]) if source is not None else self._fixed[f"output_{at}"].copy()
            for at, source in enumerate(sources)
        )

        def backward(dy: Any) -> tuple[Any, dict[str, np.ndarray]]:
            dys = dy if len(sources) > 1 else (dy,)
            dxs: list[Any] = [None] * len(xs)
            gradients: dict[str, np.ndarray] = {}
            if self.body is not None:
                given: list[Any] = [None] * len(ys)
                for source, part in zip(sources, dys, strict=True):
                    if source is not None and part is not None:
                        given[source] = part[None] if given[source] is None else given[source] + part[None]
                back, gradients = inner(tuple(given) if len(given) > 1 else given[0])
                for at, dx in zip(used, back if len(used) > 1 else (back,), strict=True):
                    dxs[at] = None if dx is None else dx[0]
            prefix = self.body.name if self.body is not None else ""
            named = {f"{prefix}/{name}": gradient for name, gradient in gradients.items()}
            return tuple(dxs) if len(dxs) > 1 else dxs[0], named

        return found if len(found) > 1 else found[0], backward


def _one(y: np.ndarray) -> np.ndarray:
    """Return the only sample of a batch, as an array where it is a number too."""
    if len(y) != 1:
        raise ValueError(f"the model inside must return a batch of one, got shape {y.shape}")
    return y.reshape(y.shape[1:])
