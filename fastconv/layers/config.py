"""A layer as JSON: its registered name, its own name, and the arguments it was made with.

The arguments come from the signature of the constructor, so no layer writes them down a second time. They are JSON values or
layers, never code: reading them back can run nothing but the constructor of a registered layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np

from fastconv import registry

if TYPE_CHECKING:
    import inspect

    from fastconv.layers.base import Layer

_PLAIN = frozenset({int, bool, str, type(None)})  # most of what configs hold
_LEAVES = _PLAIN | {float}
_RESERVED = ("layer", "same_as")


def bound_arguments(
    cls: type, args: tuple[Any, ...], kwargs: dict[str, Any], is_layer: Callable[[Any], bool]
) -> dict[str, Any]:
    """Return the constructor's arguments by name, defaults included, as JSON values and layers.

    Raises `TypeError` for arguments that the constructor does not take, for one that is neither JSON nor a layer, naming
    class, argument and value, and for a constructor with ``*args`` or ``**kwargs``, whose arguments have no names to be saved
    under.
    """
    init: Any = cls.__init__  # type: ignore[misc]
    takes = _takes(init)
    if takes.unnamed is not None:
        raise TypeError(
            f"the constructor of {cls.__name__} takes {takes.unnamed!r}: spell its arguments out by name, "
            f"because they are what a model saves"
        )
    given = dict(zip(takes.positional, args, strict=False))
    if len(args) > len(given) or not (given.keys().isdisjoint(kwargs) and takes.names >= kwargs.keys()):
        _refuse(cls, takes, args, kwargs)
    given.update(kwargs)
    if not takes.required <= given.keys():
        _refuse(cls, takes, args, kwargs)
    values = {**takes.defaults, **given}  # in the order of the signature
    for name, value in values.items():
        if type(value) not in _PLAIN:
            try:
                values[name] = _json_value(value, is_layer)
            except TypeError as error:
                raise TypeError(f"{cls.__name__}: argument {name!r} {error}") from None
    return values


class _Takes(NamedTuple):
    """What a constructor takes: `defaults` have None for what is required; `unnamed` has no name to be saved under."""

    signature: inspect.Signature
    positional: list[str]
    names: frozenset[str]
    required: frozenset[str]
    defaults: dict[str, Any]
    unnamed: str | None


@lru_cache(maxsize=512)
def _takes(init: Callable[..., Any]) -> _Takes:
    import inspect

    signature = inspect.signature(init)
    parameters = list(signature.parameters.values())[1:]
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return _Takes(
        signature,
        [each.name for each in parameters if each.kind == named[0]],
        frozenset(each.name for each in parameters),
        frozenset(each.name for each in parameters if each.default is each.empty),
        {each.name: None if each.default is each.empty else each.default for each in parameters},
        next((str(each) for each in parameters if each.kind not in named), None),
    )


def _refuse(cls: type, takes: _Takes, args: tuple[Any, ...], kwargs: dict[str, Any]) -> NoReturn:
    """Raise `TypeError` for arguments that do not fit; Python itself would name the class whose constructor is inherited."""
    import inspect

    unknown = [f"got an unexpected keyword argument {name!r}" for name in kwargs if name not in takes.names]
    error: Any = "too many arguments"
    try:
        takes.signature.bind(None, *args, **kwargs)
    except TypeError as own:
        error = own
    shown = [each.replace(annotation=each.empty) for each in list(takes.signature.parameters.values())[1:]]
    raise TypeError(f"{cls.__name__}: {unknown[0] if unknown else error}; it takes {inspect.Signature(shown)}")


def _json_value(value: Any, is_layer: Callable[[Any], bool]) -> Any:
    """Return an argument as JSON values and layers; `TypeError` says what it must be where it is made of others."""
    kind = type(value)
    if kind in _PLAIN or (kind is float and math.isfinite(value)):
        return value
    if kind in (list, tuple) and _PLAIN.issuperset(map(type, value)):
        return list(value)
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)) or is_layer(value):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"must be finite, because JSON has no {value!r}")
        return value
    if isinstance(value, (list, tuple)):
        return [_json_value(item, is_layer) for item in value]
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str) or key in _RESERVED:
                raise TypeError(f"has the key {key!r}: keys are strings, other than {_RESERVED}")
        return {key: _json_value(item, is_layer) for key, item in value.items()}
    hint = " (an array: pass array.tolist())" if isinstance(value, np.ndarray) else ""
    raise TypeError(
        f"must be made of JSON values (None, bool, int, float, str, list, dict) or layers, "
        f"got {type(value).__name__} {value!r}{hint}"
    )


def layers_in(value: Any, path: str, is_layer: Callable[[Any], bool]) -> list[tuple[str, Any]]:
    """Return the layers in a config and where they are: ``inner``, or ``branches/0`` in a list.

    >>> from fastconv.layers import Layer, ReLU
    >>> found = layers_in({"inner": ReLU(), "rates": [1, ReLU()]}, "", lambda value: isinstance(value, Layer))
    >>> [path for path, _ in found]
    ['inner', 'rates/1']
    """
    if isinstance(value, dict):
        items: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    else:
        return [(path, value)] if is_layer(value) else []
    found = []
    for key, item in items:
        if type(item) not in _LEAVES and not (type(item) is list and _LEAVES.issuperset(map(type, item))):
            found += layers_in(item, f"{path}/{key}" if path else str(key), is_layer)
    return found


def to_spec(layer: Layer) -> dict[str, Any]:
    """Return a layer, and all layers inside it, as JSON values: ``{"layer": ..., "name": ..., "config": {...}}``.

    A layer that occurs twice is written once, so that its weights are still shared when it comes back.
    Raises `ValueError` for a layer whose class has no registered name.

    >>> from fastconv.layers import Conv2d
    >>> spec = to_spec(Conv2d(8, 3).named("stem"))
    >>> spec["layer"], spec["name"], spec["config"]["channels"]
    ('Conv2d', 'stem', 8)
    """
    return _Encoder().encode(layer)


class _Encoder:
    def __init__(self) -> None:
        self.numbers: dict[int, int] = {}

    def encode(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.encode(item) for item in value]
        if isinstance(value, dict):
            return {key: self.encode(item) for key, item in value.items()}
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if id(value) in self.numbers:
            return {"same_as": self.numbers[id(value)]}
        self.numbers[id(value)] = len(self.numbers)
        name = registry.layers.name_of(type(value))
        if name is None:
            kind = type(value)
            raise ValueError(
                f"{value.label} cannot be saved, because its class {kind.__module__}.{kind.__qualname__} is not registered: "
                f"decorate it with @fastconv.layers.register('yourpackage.{kind.__name__}')"
            )
        return {"layer": name, "name": value.name, "config": self.encode(value.config)}


def names_in(spec: Any) -> set[str]:
    """Return the registered names of all layers in a description.

    >>> names_in({"layer": "Sequential", "config": {"layers": [{"layer": "ReLU"}, {"layer": "acme.Swish"}]}}) == {
    ...     "Sequential", "ReLU", "acme.Swish"}
    True
    """
    if isinstance(spec, list):
        return {name for item in spec for name in names_in(item)}
    if not isinstance(spec, dict):
        return set()
    own = {spec["layer"]} if isinstance(spec.get("layer"), str) else set()
    return own.union(*(names_in(item) for item in spec.values()))


def from_spec(spec: dict[str, Any], *, allow_plugins: bool = True) -> Layer:
    """Return the (unbuilt) layer that `to_spec` described; ``"name"`` and ``"config"`` may be missing.

    Without `allow_plugins` it may hold only the layers of fastconv and those that the program itself has registered.

    Raises `LookupError` for a name that nobody offers, `fastconv.plugins.PluginLoadError` for one of a package that is broken,
    and `ValueError` or `TypeError`, naming the layer, for a description or arguments that are wrong.

    >>> from_spec({"layer": "MaxPool2d", "config": {"kernel_size": 3}})
    MaxPool2d(kernel_size=3)
    """
    if not isinstance(spec, dict) or "layer" not in spec:
        raise ValueError(f'a layer is described by {{"layer": name, "config": {{...}}}}, got {spec!r:.200}')
    layer: Layer = _Decoder(allow_plugins).decode(spec)
    return layer


class _Decoder:
    def __init__(self, allow_plugins: bool) -> None:
        self.allow_plugins = allow_plugins
        self.layers: list[Any] = []

    def decode(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.decode(item) for item in value]
        if not isinstance(value, dict):
            return value
        if "layer" in value:
            return self._layer(value)
        if "same_as" in value:
            return self._same(value["same_as"])
        return {key: self.decode(item) for key, item in value.items()}

    def _same(self, number: Any) -> Any:
        if not isinstance(number, int) or not 0 <= number < len(self.layers) or self.layers[number] is None:
            raise ValueError(f'"same_as" must be the number of an earlier layer, got {number!r}')
        return self.layers[number]

    def _layer(self, spec: dict[str, Any]) -> Any:
        unknown = sorted(set(spec) - {"layer", "name", "config"})
        if unknown:
            raise ValueError(f'a layer is described by "layer", "name" and "config", got also {unknown}')
        name, config = spec.get("name"), spec.get("config", {})
        if not isinstance(config, dict):
            raise ValueError(f'the "config" of a layer must be an object with its arguments, got {config!r:.200}')
        cls: Any = registry.layers.get(spec["layer"], plugins=self.allow_plugins)
        number = len(self.layers)
        self.layers.append(None)  # its number counts from here; what lies inside comes after
        arguments = self.decode(config)
        try:
            layer = cls.from_config(arguments)
            layer.name = name
        except (TypeError, ValueError) as error:
            called = f" {name!r}" if isinstance(name, str) else ""
            raise type(error)(f"layer{called} ({spec['layer']}) cannot be made from its config: {error}") from error
        self.layers[number] = layer
        return layer
