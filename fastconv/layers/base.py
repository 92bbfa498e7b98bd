"""The layer: parameters, and one function that returns its output and the backward pass.

What a layer author writes is in the class docstring of `Layer`; how a layer is called, and what is checked then, in
`fastconv.layers.calls`.
"""

from __future__ import annotations

import copyreg
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np

from fastconv.layers.calls import FLOATS, arrays_of, connect, ensure_built, run
from fastconv.layers.config import bound_arguments, layers_in
from fastconv.layers.context import Context
from fastconv.layers.symbol import Shape, Symbol
from fastconv.layers.traits import Traits
from fastconv.layers.tree import walk
from fastconv.registry import layers as registry
from fastconv.version import __version__

Backward = Callable[[Any], tuple[Any, dict[str, np.ndarray]]]
Self = TypeVar("Self", bound="Layer")

#: The version of what this file promises to layers of other packages, and the oldest one that still works: a class written for
#: any version in between is taken. docs/plugins.md says when they grow.
API_VERSION, OLDEST_API_VERSION = 1, 1


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
        """Return how many multiplications (each with its addition) one sample takes; 0 for what is not a matrix product."""
        return 0

    def window(self, *shapes: Shape) -> Sequence[tuple[Any, Any]] | None:
        """Return what one output sees of the input along each spatial axis, or None where it sees everything.

        Each pair is (how many inputs it spans, how far the windows of neighbors are apart); the default is ``(1, 1)``.
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
        """Cast the parameters and buffers (those that are not integers) to float32 or float64, and return the layer.

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
