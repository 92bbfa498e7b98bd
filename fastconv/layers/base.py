"""The layer: parameters, and one function that returns its output and the way back.

What a layer author writes is in the class docstring of `Layer`; the rest of this file is what the machinery above needs.
"""

from __future__ import annotations

import copyreg
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np

from fastconv.arrays import as_array, is_foreign
from fastconv.layers.config import bound_arguments, layers_in
from fastconv.layers.context import Context
from fastconv.layers.symbol import Node, Shape, Symbol, several
from fastconv.layers.traits import Traits
from fastconv.layers.tree import collect, walk
from fastconv.registry import layers as registry
from fastconv.version import __version__

Backward = Callable[[Any], tuple[Any, dict[str, np.ndarray]]]
Self = TypeVar("Self", bound="Layer")

#: The version of what this file promises to layers of other packages, and the oldest one that still works: a class written for
#: any version in between is taken. docs/plugins.md says when they grow.
API_VERSION, OLDEST_API_VERSION = 1, 1

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


class Layer:
    """The base of every layer.

    A subclass writes up to four methods. Shapes are without the batch axis, arrays are with it::

        class Scale(Layer):
            def __init__(self, *, start=1.0):            # the arguments are the config: JSON values, or layers
                self.start = start

            def build(self, shape, rng):                 # make the parameters, in float32
                self.params["scale"] = np.full(shape[-1], self.start, np.float32)

            def output_shape(self, shape):               # several outputs: a tuple of shapes
                return shape

            def forward(self, ctx, x):                   # several inputs: forward(self, ctx, a, b)
                scale = self.params["scale"]
                def backward(dy):
                    axes = tuple(range(x.ndim - 1))
                    return dy * scale, {"scale": (dy * x).sum(axis=axes)}
                return x * scale, backward

    ``backward(dy)`` returns the gradient of the input (a tuple for several inputs) and the gradient of every parameter.
    A layer that holds others as arguments returns theirs under their path, ``"inner/weight"``.

    Attributes
    ----------
    params : dict of arrays
        What training changes.
    buffers : dict of arrays
        What is saved and not trained, such as running statistics.
    config : dict
        The arguments of the constructor by name, defaults included.
    name : str or None
        What the layer is called in a model. A model names the layers that have no name.
    dtype : numpy.dtype
        float32, until `astype` changes it.
    api_version : int
        Of the class: the version of the layer API that it was written for, ``fastconv.layers.API_VERSION`` at that time; the
        first, where it does not say.
    traits : Traits
        Of the class: what nobody can see from outside, for `fastconv.testing`; see `fastconv.layers.Traits`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import Linear
    >>> layer = Linear(3, initializer="ones")
    >>> layer(np.array([[1.0, 2.0]], np.float32))
    array([[3., 3., 3.]], dtype=float32)
    >>> layer.config["features"], layer.params["weight"].shape
    (3, (2, 3))
    """

    api_version: ClassVar[int] = 1
    #: Whether a sample may be a single number, so that an input may be (N,)
    takes_numbers: bool = False
    traits: Any = Traits()  # or a property, where it depends on the arguments

    params: dict[str, np.ndarray]
    buffers: dict[str, np.ndarray]
    config: dict[str, Any]

    _name: str | None = None
    _dtype: np.dtype[Any] = FLOATS[0]
    _built: bool = False
    _trainable: bool = True
    _inner: list[tuple[str, Layer]]

    def __new__(cls: type[Self], *args: Any, **kwargs: Any) -> Self:
        self = super().__new__(cls)
        self._prepare(args, kwargs)
        return self

    def _prepare(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.params = {}
        self.buffers = {}
        self.config = bound_arguments(type(self), args, kwargs, is_layer)
        self._inner = layers_in(self.config, "", is_layer)

    def __init__(self) -> None:
        """Do nothing: a constructor may call it or not."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Copy and pickle by the attributes: a class that is called without its arguments refuses them in `__new__`."""
        way = super().__reduce_ex__(protocol)
        return (object.__new__, *way[1:]) if way[0] is copyreg.__newobj__ else way  # type: ignore[attr-defined]

    @classmethod
    def from_config(cls: type[Self], config: dict[str, Any]) -> Self:
        """Return a new, unbuilt layer made with the arguments of `config`."""
        return cls(**config)

    @classmethod
    def examples(cls) -> Sequence[Any]:
        """Return layers of this class that are worth testing, unbuilt; by default `fastconv.testing` thinks some up.

        An item is a layer, or a pair of a layer and the shapes of its inputs, ``(Scale(), [(8, 8, 3)])``.
        """
        return ()

    # the three below are typed loosely, so that a subclass may name its inputs
    def build(self, *shapes: Any, **keywords: Any) -> None:
        """Make the parameters for inputs of `shapes`, drawing from the generator ``rng``; by default there are none."""

    def output_shape(self, *shapes: Any, **keywords: Any) -> Any:
        """Return the shape of the output for inputs of `shapes`, all without the batch axis."""
        raise NotImplementedError(f"{type(self).__name__} must define output_shape(self, shape)")

    def forward(self, ctx: Any, *xs: Any, **keywords: Any) -> tuple[Any, Backward]:
        """Return ``(y, backward)`` for the input arrays `xs`."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(self, ctx, x)")

    def multiply_adds(self, *shapes: Shape) -> int:
        """Return how many multiplications (each with its addition) one sample takes; 0 for what is no matrix product."""
        return 0

    def window(self, *shapes: Shape) -> Sequence[tuple[Any, Any]] | None:
        """Return what one output sees of the input along each spatial axis, or None where it sees everything.

        Each pair is (how many inputs it spans, how far the windows of neighbours are apart); the default is ``(1, 1)``.
        """
        return [(1, 1)] * (len(shapes[0]) - 1)

    @property
    def name(self) -> str | None:
        """What the layer is called; letters, digits and ``_ - .``, not beginning with a dot or a dash."""
        return self._name

    @name.setter
    def name(self, name: str | None) -> None:
        if name is not None and not isinstance(name, str):
            raise TypeError(f"the name of a layer must be a string, got {name!r}")
        if name is not None and not (name.replace("-", "_").replace(".", "_").isidentifier() and name[0] not in "-."):
            raise ValueError(
                f"the name of a layer must be letters, digits and '_', '-' or '.', beginning with a letter, got {name!r}"
            )
        self._name = name

    def named(self: Self, name: str) -> Self:
        """Set the name and return the layer, for use inside a list of layers.

        >>> from fastconv.layers import ReLU
        >>> ReLU().named("bend").name
        'bend'
        """
        self.name = name
        return self

    @property
    def label(self) -> str:
        """How messages call the layer."""
        kind = type(self).__name__
        return f"layer {self._name!r} ({kind})" if self._name else f"layer {kind}"

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the parameters, and of the arrays that a layer with parameters takes."""
        return next((array.dtype for array in self.params.values()), self._dtype)

    @property
    def built(self) -> bool:
        """Whether the parameters exist."""
        return self._built or bool(self.params) or bool(self.buffers)

    @property
    def trainable(self) -> bool:
        """Whether training changes this layer, or one inside it; True at first. Set it for all layers inside, too.

        What is not trainable has no gradients, and is in evaluation in training too: batch normalization keeps its running
        statistics, dropout drops nothing. Files do not say it: a model that is loaded is trainable.

        >>> from fastconv.layers import Conv2d, GlobalAvgPool, Linear
        >>> from fastconv.sequential import Sequential
        >>> model = Sequential([Conv2d(8, 3), GlobalAvgPool(), Linear(2)], input_shape=(9, 9, 1))
        >>> model.trainable = False
        >>> model.layers[-1].trainable = True
        >>> list(model.value_and_grad("cross_entropy", np.ones((1, 9, 9, 1)), np.array([1]))[1])
        ['linear_1/weight', 'linear_1/bias']
        """
        children = self.children()
        if not children or self.own("params"):
            return self._trainable
        return any(child.trainable for _, child in children)

    @trainable.setter
    def trainable(self, value: bool) -> None:
        if not isinstance(value, (bool, np.bool_)):
            raise TypeError(f"trainable must be True or False, got {value!r}")
        for _, layer in walk(self):
            layer._trainable = bool(value)

    def children(self) -> list[tuple[str, Layer]]:
        """Return the layers inside this one, each with its path: by default those among the arguments."""
        return self._inner

    def astype(self: Self, dtype: Any) -> Self:
        """Cast the parameters and buffers (those that are no integers) to float32 or float64, and return the layer.

        A layer that is not built yet will be built in that dtype.

        >>> import numpy as np
        >>> from fastconv.layers import Linear
        >>> Linear(3).astype(np.float64)(np.ones((1, 2))).dtype
        dtype('float64')
        """
        wanted = np.dtype(dtype)
        if wanted not in FLOATS:
            raise TypeError(f"a layer computes in float32 or float64, got dtype {wanted}")
        for _, layer in walk(self):
            layer._dtype = wanted
            for arrays in layer.own("params"), layer.own("buffers"):
                for key, array in arrays.items():
                    if array.dtype.kind == "f":
                        arrays[key] = array.astype(wanted, copy=False)
        return self

    def own(self, kind: str) -> dict[str, np.ndarray]:
        """Return the arrays of `kind` ("params" or "buffers") that are this layer's itself, not those of layers inside."""
        arrays: dict[str, np.ndarray] = getattr(self, kind)
        return arrays

    def __call__(self, *xs: Any) -> Any:
        """Return the output: symbols for symbols, arrays for arrays.

        On symbols it adds a node to the model that is being described. On arrays it computes in evaluation mode; a layer
        that is not built yet builds itself for these arrays, with ``numpy.random.default_rng(0)``. Tensors of other libraries
        are taken as arrays, uncopied where they lie in this machine's memory.
        """
        symbolic = [isinstance(x, Symbol) for x in xs]
        if xs and all(symbolic):
            return connect(self, xs)
        xs = arrays_of(self, xs)
        ensure_built(self, [x.shape[1:] for x in xs], np.random.default_rng(0))
        return run(self, Context(input_grad=False, inference=True), xs)[0]

    def __repr__(self) -> str:
        import inspect

        init: Any = type(self).__init__
        parameters = inspect.signature(init).parameters
        given = (
            f"{key}={value!r}"
            for key, value in self.config.items()
            if key in parameters and parameters[key].default != value
        )
        return f"{type(self).__name__}({', '.join(given)})"


def check_api_version(cls: type[Layer]) -> None:
    """Raise `ValueError`, saying what to upgrade, for a class that was written for another version of the layer API."""
    version = cls.api_version
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ValueError(f"api_version of {cls.__qualname__} must be an integer of at least 1, got {version!r}")
    if version > API_VERSION:
        raise ValueError(
            f"{cls.__qualname__} was written for version {version} of the layer API, and this fastconv {__version__} has "
            f"version {API_VERSION}: upgrade fastconv"
        )
    if version < OLDEST_API_VERSION:
        raise ValueError(
            f"{cls.__qualname__} was written for version {version} of the layer API, and this fastconv {__version__} supports "
            f"versions {OLDEST_API_VERSION} to {API_VERSION}: upgrade the package that {cls.__qualname__} comes from"
        )


registry.base = Layer
registry.check = check_api_version


def is_layer(value: Any) -> bool:
    """Return whether `value` is a layer."""
    return isinstance(value, Layer)


def arrays_of(layer: Layer, xs: tuple[Any, ...]) -> tuple[np.ndarray, ...]:
    """Return the inputs of a call as arrays; raise `TypeError`, naming the layer, for what is none."""
    if all(isinstance(x, np.ndarray) for x in xs):
        return xs
    for x in xs:
        if isinstance(x, Symbol) or not (isinstance(x, np.ndarray) or is_foreign(x)):
            raise TypeError(
                f"{layer.label} takes arrays with a batch axis, or symbols made by Input, "
                f"got {', '.join(type(x).__name__ for x in xs)}"
            )
    return tuple(as_array(x, f"the input of {layer.label}") for x in xs)


def connect(layer: Layer, inputs: Sequence[Symbol]) -> Any:
    """Add a node to the graph that `inputs` belong to, and return its symbol (a tuple for several outputs)."""
    shape = shape_of(layer, [x.shape for x in inputs])
    node = Node(layer, inputs, shape if several(shape) else [shape])
    return node.outputs if several(shape) else node.outputs[0]


def shape_of(layer: Layer, shapes: Sequence[Shape]) -> Any:
    """Return ``layer.output_shape(*shapes)``, checked to be a shape or a tuple of shapes; errors name the layer."""
    try:
        shape = layer.output_shape(*shapes)
        return tuple(_shape(item) for item in shape) if several(shape) else _shape(shape)
    except Exception as error:
        _say_where(error, layer)
        raise


def _shape(shape: Any) -> Shape:
    if not isinstance(shape, (tuple, list)) or not all(isinstance(n, (int, np.integer)) and n >= 1 for n in shape):
        raise ValueError(f"output_shape must return a tuple of integers, each at least 1, got {shape!r}")
    return tuple(int(n) for n in shape)


def ensure_built(layer: Layer, shapes: Sequence[Shape], rng: np.random.Generator) -> None:
    """Build a layer that is not built yet, and cast it to its dtype; errors name the layer."""
    if layer.built:
        return
    try:
        layer.build(*shapes, rng=rng)
    except Exception as error:
        _say_where(error, layer)
        raise
    layer._built = True
    if layer._dtype != FLOATS[0]:
        layer.astype(layer._dtype)


def run(layer: Layer, ctx: Context, xs: Sequence[np.ndarray]) -> tuple[Any, Backward]:
    """Return ``layer.forward(ctx, *xs)``, checked to be a pair; errors name the layer."""
    _require_inputs(layer, xs)
    try:
        result = layer.forward(ctx, *xs)
    except Exception as error:
        _say_where(error, layer)
        raise
    if not (isinstance(result, tuple) and len(result) == 2 and callable(result[1])):
        raise TypeError(f"forward of {layer.label} must return (y, backward), got {_described(result)}")
    y = result[0]
    if not isinstance(y, np.ndarray) and not (isinstance(y, tuple) and all(isinstance(part, np.ndarray) for part in y)):
        raise TypeError(
            f"forward of {layer.label} must return an array first, or a tuple of arrays, got {_described(y)}"
        )
    return result


def _require_inputs(layer: Layer, xs: Sequence[np.ndarray]) -> None:
    """Raise for what no layer takes: other dtypes than declared, floats of two widths, no axis of channels."""
    params = layer.own("params")
    dtype = next(iter(params.values())).dtype if params else None
    for at, x in enumerate(xs):
        if x.dtype not in FLOATS and x.dtype.newbyteorder("=") not in FLOATS:
            integers = layer.traits.takes_integers(at)
            if not (integers and x.dtype.kind in "iub"):
                raise TypeError(
                    f"in {layer.label}: x must be a float32 or float64 array{' or one of integers' if integers else ''}, "
                    f"got {x.dtype} of shape {x.shape}: cast it, with x.astype(numpy.{layer.dtype})"
                )
        elif dtype is not None and x.dtype != dtype:
            raise TypeError(
                f"{layer.label} is {dtype} and got an input of {x.dtype}: "
                f"cast one of them, with x.astype(numpy.{dtype}) or model.astype(numpy.{x.dtype})"
            )
        elif x.ndim < 2 and not layer.takes_numbers:
            raise ValueError(f"in {layer.label}: x must have shape (N, ..., C), got (N,)")
    if len(xs) > 1 and len({x.dtype for x in xs if x.dtype.kind == "f"}) > 1:
        raise TypeError(
            f"in {layer.label}: the inputs must have one dtype, got {' and '.join(str(x.dtype) for x in xs)}"
        )


def run_backward(layer: Layer, backward: Backward, dy: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """Return ``backward(dy)``, checked to have the gradient of every parameter; errors name the layer."""
    try:
        result = backward(dy)
    except Exception as error:
        _say_where(error, layer)
        raise
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)):
        raise TypeError(
            f"backward of {layer.label} must return the gradient of its input and a dict of parameter gradients, "
            f"got {_described(result)}"
        )
    _check_gradients(layer, result[1])
    return result


def _check_gradients(layer: Layer, gradients: dict[str, np.ndarray]) -> None:
    params = layer.own("params")
    missing: set[str] = set()
    if gradients.keys() != params.keys():
        params = collect(layer, "params")  # with those of the layers inside
        missing = set(collect(layer, "params", trainable=True)) - set(gradients)
    unknown = set(gradients) - set(params)
    if missing or unknown:
        raise ValueError(
            f"backward of {layer.label} must return one gradient for each parameter: "
            f"missing {sorted(missing)}, unknown {sorted(unknown)}"
        )
    for name, gradient in gradients.items():
        if gradient.shape != params[name].shape:
            raise ValueError(
                f"backward of {layer.label} must return a gradient of shape {params[name].shape} for its parameter {name!r}, "
                f"got {gradient.shape}"
            )


def _described(value: Any) -> str:
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}: ({', '.join(type(item).__name__ for item in value)})"
    return type(value).__name__


def _say_where(error: Exception, layer: Layer) -> None:
    """Put the layer in front of the message of `error`, which stays the same object, with its type and its traceback."""
    if len(error.args) == 1 and isinstance(error.args[0], str):
        if error.args[0].startswith(layer.label):  # a model has said so itself
            return
        error.args = (f"in {layer.label}: {error.args[0]}",)
    elif hasattr(error, "add_note"):  # Python 3.11
        error.add_note(f"in {layer.label}")
