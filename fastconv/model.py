"""`Model`: a graph of layers, and itself a layer.

It is any directed acyclic graph between symbols made by `Input`; `fastconv.sequential` has the chain. Training lives a floor
above, in `fastconv.training`: `fit`, `evaluate`, `predict` and `value_and_grad` import it when they are called, which is the
one place where an import points up, so that a model can be trained with one method call.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from fastconv.graph import Graph
from fastconv.layers.base import Backward, Layer, is_layer
from fastconv.layers.calls import FLOATS, arrays_of
from fastconv.layers.checks import with_batch
from fastconv.layers.config import bound_arguments
from fastconv.layers.context import Context
from fastconv.layers.symbol import Input, Shape, Symbol, input_shape_of
from fastconv.layers.traits import Traits
from fastconv.layers.tree import collect, name_layers, other_places, walk
from fastconv.registry import layers as registry

__all__ = ["Input", "Model"]

if TYPE_CHECKING:
    from fastconv.summary import Summary

Self = TypeVar("Self", bound="Model")


@registry.register("Model")
class Model(Layer):
    """The layers between some input symbols and some output symbols.

    Parameters
    ----------
    inputs, outputs : symbol, or list of symbols
        `inputs` were made by `Input`, `outputs` by calling layers. With several inputs the model is called with several
        arrays; with several outputs it returns a tuple.
    output_names : list of str, optional
        What the outputs are called, as inputs are by ``Input(name=...)``.

    Raises
    ------
    TypeError, ValueError
        For what is not a symbol, an input that is missing, named twice or not connected, and two layers of one name.

    Notes
    -----
    Layers without a name get one, ``conv2d_1``, ``conv2d_2`` in the order of their use. Parameters are made at the first
    call, or by ``build(rng=numpy.random.default_rng(seed))``; what runs before without one uses the seed 0.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import Add, Conv2d, GlobalAvgPool, Linear, ReLU
    >>> x = Input((28, 28, 1))
    >>> y = Conv2d(8, 3, padding="same")(x)
    >>> y = Add()(y, ReLU()(Conv2d(8, 3, padding="same")(y)))
    >>> model = Model(x, Linear(10)(GlobalAvgPool()(y)))
    >>> model(np.zeros((2, 28, 28, 1), np.float32)).shape
    (2, 10)
    >>> list(model.params)[:2]
    ['conv2d_1/weight', 'conv2d_1/bias']
    """

    takes_numbers = True

    #: A subclass with a constructor of its own has that one's arguments as its config, any other model its graph
    _own_constructor: ClassVar[bool] = False
    _graph: Graph | None = None
    _rng: np.random.Generator | None = None
    _built_for: Sequence[Shape] | None = None

    def __init_subclass__(cls) -> None:
        if "__init__" in vars(cls) and "_own_constructor" not in vars(cls):
            cls._own_constructor = True

    def __init__(
        self,
        inputs: Symbol | Sequence[Symbol],
        outputs: Symbol | Sequence[Symbol],
        *,
        output_names: Sequence[str | None] | None = None,
    ) -> None:
        self._graph = Graph(_listed(inputs), _listed(outputs), output_names)
        name_layers(self._graph.layers)
        if not self._own_constructor:
            self.config = self._graph.config()

    def _prepare(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # params and buffers are those of the layers inside
        self.config = bound_arguments(type(self), args, kwargs, is_layer) if self._own_constructor else {}

    @classmethod
    def from_config(cls: type[Self], config: dict[str, Any]) -> Self:
        """Return the unbuilt model that ``model.config`` described."""
        if cls._own_constructor:
            return cls(**config)
        graph = Graph.from_config(config)
        return cls(*graph.symbols, output_names=graph.output_names)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers of the model itself, in the order of their use; nested models count as one."""
        return tuple(self.graph.layers)

    @property
    def inputs(self) -> tuple[Symbol, ...]:
        """The symbols of the inputs, to build further models on."""
        return self.graph.symbols[0]

    @property
    def outputs(self) -> tuple[Symbol, ...]:
        """The symbols of the outputs, to build further models on: ``Model(base.inputs, Linear(3)(base.outputs[0]))``."""
        return self.graph.symbols[1]

    def output_of(self, layer: Layer | str) -> Any:
        """Return the symbol of what a layer of the model, or the one of this name, makes: to build another model on.

        A tuple for a layer with several outputs. Raises `ValueError`, listing the layers, for one that is not used just once.

        >>> from fastconv.layers import Conv2d, GlobalAvgPool, Linear
        >>> from fastconv.sequential import Sequential
        >>> base = Sequential([Conv2d(8, 3), GlobalAvgPool().named("features"), Linear(10)], input_shape=(9, 9, 1))
        >>> Model(base.inputs, Linear(3)(base.output_of("features")))  # with the layers of base, and another last one
        Model(conv2d_1, features, linear_1)
        """
        return self.graph.output_of(layer)

    @property
    def input_names(self) -> list[str | None]:
        """What the inputs are called; None for one that has no name."""
        return list(self.graph.input_names)

    @property
    def output_names(self) -> list[str | None]:
        """What the outputs are called; None for one that has no name."""
        return list(self.graph.output_names)

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        """The shapes of the inputs, without the batch axis, that the model was built for, or will be if nothing is said.

        Empty for a `Sequential` that has met no input yet.
        """
        return tuple(self._built_for or (self._graph.input_shapes if self._graph else ()))

    # typed loosely as in Layer: here both are computed, and live in the layers inside
    @property
    def params(self) -> dict[str, np.ndarray]:  # type: ignore[override]
        """Every learned array as ``"layer/param"`` (``"block/layer/param"`` in nested models), live: change it in place."""
        self._build_if_known()
        return collect(self, "params")

    @property
    def buffers(self) -> dict[str, np.ndarray]:  # type: ignore[override]
        """Every array that is saved and not trained, named like `params`, live."""
        self._build_if_known()
        return collect(self, "buffers")

    def own(self, kind: str) -> dict[str, np.ndarray]:
        return {}

    def children(self) -> list[tuple[str, Layer]]:
        return [(str(layer.name), layer) for layer in self._members()]

    def _members(self) -> Sequence[Layer]:
        return self._graph.layers if self._graph else ()

    @property
    def traits(self) -> Traits:
        return self._graph.traits if self._graph else Traits()

    @property
    def label(self) -> str:
        return super().label if self._name else "the model"

    @property
    def dtype(self) -> np.dtype[Any]:
        for member in self._members():  # one after the other: the first with parameters is enough
            for _, layer in walk(member):
                if layer.own("params"):
                    return layer.dtype
        return self._dtype

    @property
    def built(self) -> bool:
        return self._built

    def build(self: Self, *shapes: Shape, rng: np.random.Generator | None = None) -> Self:  # type: ignore[override]
        """Make the parameters of all layers that have none yet, and return the model.

        Parameters
        ----------
        shapes : tuple of int, one for each input
            Without the batch axis. They may be left out where the model knows them, from `Input` or ``input_shape=``.
        rng : numpy.random.Generator, optional
            What the first values are drawn from, and what seeds the model's own generator; ``default_rng(0)`` if left out.

        Raises
        ------
        ValueError
            For shapes of another rank or other channels than the model's, or none where it does not know them.
        """
        if rng is not None and not isinstance(rng, np.random.Generator):
            raise TypeError(f"rng must be a numpy.random.Generator, as made by numpy.random.default_rng, got {rng!r}")
        given = [input_shape_of(shape) for shape in shapes] or list(self.input_shapes)
        if not given:
            raise ValueError(
                f"{self.label} does not know its input: give the shape, as in build((28, 28, 1)), or input_shape="
            )
        self._connect(given)
        self._require_inputs(given)
        if rng is None and self.graph.draws:
            rng = np.random.default_rng(0)  # not sooner: importing numpy.random takes memory and time
        self.graph.build(given, rng)
        self._built = True
        self._built_for = given
        self._rng = None if rng is None else np.random.default_rng(int(rng.integers(2**63)))
        if self._dtype != FLOATS[0]:
            self.astype(self._dtype)
        return self

    def _connect(self, shapes: Sequence[Shape]) -> None:
        """Make the graph for inputs of these shapes, where there is none yet."""

    def _build_if_known(self) -> None:
        if not self._built and self._graph is not None:
            self.build()

    @property
    def graph(self) -> Graph:
        """The plan of the computation; `ValueError` where the model does not know its input yet."""
        if self._graph is None:
            raise ValueError(
                f"{self.label} does not know its input yet: call it, build((28, 28, 1)), or give input_shape="
            )
        return self._graph

    def _require_inputs(self, shapes: Sequence[Shape], whole: Sequence[Shape] = ()) -> None:
        graph = self.graph
        if len(shapes) != len(graph.input_shapes):
            raise ValueError(f"{self.label} takes {len(graph.input_shapes)} inputs, got {len(shapes)}")
        for at, (shape, wanted) in enumerate(zip(shapes, graph.input_shapes, strict=True)):
            axis = graph.channel_axes[at] % max(len(shape), 1)
            fixed = shape and axis not in graph.free[at]
            if len(shape) != len(wanted) or (fixed and shape[axis] != wanted[axis]):
                which = f"input {graph.input_names[at]!r}" if graph.input_names[at] else f"input {at + 1}"
                raise ValueError(
                    f"{self.label} takes {which} with shape {with_batch(wanted)} (another size of the image may do, "
                    f"other axes or channels do not), got {whole[at] if whole else with_batch(shape)}"
                )

    def _require_dtype(self, xs: Sequence[np.ndarray], casts: Sequence[str | None]) -> None:
        dtype = self.dtype
        for x, cast in zip(xs, casts, strict=True):
            if x.dtype != dtype and x.dtype.kind == "f" and x.dtype.name != cast:
                raise TypeError(
                    f"{self.label} is {dtype} and got an input of {x.dtype}: "
                    f"cast one of them, with x.astype(numpy.{dtype}) or model.astype(numpy.{x.dtype})"
                )

    def output_shape(self, *shapes: Shape) -> Any:
        self._connect(shapes)
        self._require_inputs(shapes)
        graph = self.graph
        slots = graph.shapes(*shapes)
        outputs = tuple(slots[slot] for slot in graph.outputs)
        return outputs if len(outputs) > 1 else outputs[0]

    def forward(self, ctx: Context, *xs: np.ndarray) -> tuple[Any, Backward]:
        """Return ``(y, backward)``; ``backward(dy)`` returns the gradients of the inputs and those of `params`, by name.

        `y` and `dy` are tuples for several outputs; a `dy` may be None for an output that the loss does not use. A parameter
        that no gradient reaches has one of zeros, and one that is not trainable has none. The backward pass can be used once:
        it drops what it has used.
        """
        shapes = [x.shape[1:] for x in xs]
        self._connect(shapes)
        self._require_inputs(shapes, [x.shape for x in xs])
        if not self._built:
            self.build(*shapes)
        self._require_dtype(xs, self.graph.casts)
        if not ctx.has_rng:
            ctx = ctx.replace(rng=self.rng)
        outputs, graph_backward = self.graph.program.forward(ctx, xs)
        several = len(outputs) > 1

        def backward(dy: Any) -> tuple[Any, dict[str, np.ndarray]]:
            dxs, by_layer = graph_backward(dy if several else (dy,))
            gradients = self._named_gradients(by_layer)
            return tuple(dxs) if len(dxs) > 1 else dxs[0], gradients

        return tuple(outputs) if several else outputs[0], backward

    def _named_gradients(self, by_layer: dict[int, dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        members = self._members()
        canonical = other_places(self) if any(layer.children() for layer in members) else {}
        gradients: dict[str, np.ndarray] = {}
        for layer in members:
            for key, gradient in by_layer.get(id(layer), {}).items():
                name = f"{layer.name}/{key}"
                if canonical:
                    path, _, param = name.rpartition("/")
                    name = f"{canonical.get(path, path)}/{param}"
                gradients[name] = gradients[name] + gradient if name in gradients else gradient
        params = collect(self, "params", trainable=True)
        return {name: gradients[name] if name in gradients else np.zeros_like(param) for name, param in params.items()}

    def __call__(self, *xs: Any) -> Any:
        """Return the output: symbols for symbols, arrays for arrays, in evaluation mode."""
        if xs and all(isinstance(x, Symbol) for x in xs):
            return super().__call__(*xs)
        return self.forward(Context(input_grad=False, inference=True), *arrays_of(self, xs))[0]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(str(layer.name) for layer in self._members())})"

    def window(self, *shapes: Shape) -> Any:
        from fastconv.summary import model_window

        return model_window(self, *shapes)

    def multiply_adds(self, *shapes: Shape) -> int:
        graph = self.graph
        slots = graph.shapes(*shapes)
        return sum(step.layer.multiply_adds(*(slots[slot] for slot in step.reads)) for step in graph.steps)

    @property
    def rng(self) -> np.random.Generator:
        """The generator that dropout and its like draw from, where the pass brings none of its own."""
        if self._rng is None:
            self._rng = np.random.default_rng(0)
        return self._rng

    @property
    def rng_state(self) -> dict[str, Any]:
        """Where `rng` stands, as JSON values; assign it to go on from there."""
        return dict(self.rng.bit_generator.state)

    @rng_state.setter
    def rng_state(self, state: dict[str, Any]) -> None:
        rng = np.random.default_rng(0)
        try:
            rng.bit_generator.state = state
        except (TypeError, ValueError, KeyError) as error:
            raise ValueError(f"rng_state must be what model.rng_state returned, got {state!r:.200}") from error
        self._rng = rng

    def context(self, *, training: bool, input_grad: bool = False) -> Context:
        """Return the context of one pass that draws from the model's own generator.

        >>> from fastconv.layers import Dropout
        >>> from fastconv.sequential import Sequential
        >>> Sequential([Dropout()], input_shape=(4,)).context(training=True).training
        True
        """
        return Context(training, self.rng, input_grad)

    def summary(self) -> Summary:
        """Return a table of the layers: names, output shapes, parameters, multiply-adds and receptive fields.

        It prints as text, and as a table in a notebook; see `fastconv.summary.Summary`.
        """
        from fastconv.summary import summarize

        return summarize(self)

    def save(self, path: str | os.PathLike[str], *, optimizer: Any = None, extra: dict[str, Any] | None = None) -> None:
        """Write the model to a file that `fastconv.load_model` reads; see `fastconv.saving.save_model`."""
        from fastconv.saving import save_model

        save_model(self, path, optimizer=optimizer, extra=extra)

    def fit(self, x: Any, y: Any = None, **options: Any) -> Any:
        """Train the model and return a `History`; the arguments are those of `fastconv.training.fit`."""
        from fastconv import training

        return training.fit(self, x, y, **options)

    def evaluate(self, x: Any, y: Any = None, **options: Any) -> Any:
        """Return the loss and the metrics on data; the arguments are those of `fastconv.training.evaluate`."""
        from fastconv import training

        return training.evaluate(self, x, y, **options)

    def predict(self, x: Any, **options: Any) -> Any:
        """Return the outputs for data, batch by batch; the arguments are those of `fastconv.training.predict`."""
        from fastconv import training

        return training.predict(self, x, **options)

    def value_and_grad(self, loss: Any, x: Any, y: Any, **options: Any) -> Any:
        """Return the loss and the gradient of every parameter; see `fastconv.training.value_and_grad`."""
        from fastconv import training

        return training.value_and_grad(self, loss, x, y, **options)


def _listed(symbols: Any) -> list[Any]:
    return list(symbols) if isinstance(symbols, (list, tuple)) else [symbols]
