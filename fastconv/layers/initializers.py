"""First values of parameters: random, with a variance that keeps signals alive through many layers, or constant.

An output that sums `fan_in` products has the variance of its inputs when the weights have variance ``1 / fan_in``; ``2 /
fan_in`` makes up for a rectifier, which throws half of the signal away. Going back, `fan_out` takes its place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv.arguments import real_number

# name: (numerator of the variance, which fan divides it, distribution)
_SCALED = {
    "he_normal": (2.0, "in", "normal"),
    "he_uniform": (2.0, "in", "uniform"),
    "glorot_normal": (1.0, "mean", "normal"),
    "glorot_uniform": (1.0, "mean", "uniform"),
    "lecun_normal": (1.0, "in", "normal"),
    "lecun_uniform": (1.0, "in", "uniform"),
}

# name: its arguments and their defaults
_PLAIN = {
    "zeros": {},
    "ones": {},
    "constant": {"value": 0.0},
    "normal": {"mean": 0.0, "std": 0.01},
    "uniform": {"low": -0.01, "high": 0.01},
}

NAMES = (*_SCALED, *_PLAIN)


def initialize(
    initializer: Any, shape: Sequence[int], rng: np.random.Generator, *, fan_in: int = 1, fan_out: int = 1
) -> np.ndarray:
    """Return a new float32 array of `shape`.

    Parameters
    ----------
    initializer : str, float or dict
        A name: "he_normal", "he_uniform" (He et al., ICCV 2015, equation 10), "glorot_normal", "glorot_uniform" (Glorot and
        Bengio, AISTATS 2010, equation 16), "lecun_normal", "lecun_uniform" (LeCun et al., Efficient backprop, 1998,
        section 4.6), "zeros", "ones". A number: that constant. Or a dict with a name and its arguments:
        ``{"name": "constant", "value": 0.5}``, ``{"name": "normal", "mean": 0, "std": 0.01}``,
        ``{"name": "uniform", "low": -0.1, "high": 0.1}``.
    shape : tuple of int
    rng : numpy.random.Generator
    fan_in, fan_out : int
        How many inputs an output sums, and how many outputs an input reaches.

    Raises
    ------
    TypeError, ValueError
        For what is not an initializer, naming those that are.

    Examples
    --------
    >>> import numpy as np
    >>> initialize({"name": "constant", "value": 0.5}, (2,), np.random.default_rng(0))
    array([0.5, 0.5], dtype=float32)
    >>> weight = initialize("he_normal", (100, 100), np.random.default_rng(0), fan_in=100)
    >>> round(float(weight.var()), 3)  # 2 / fan_in
    0.02
    """
    name, arguments = checked_initializer(initializer)
    shape = tuple(shape)
    if name in _SCALED:
        numerator, fan, distribution = _SCALED[name]
        divisor = {"in": fan_in, "mean": (fan_in + fan_out) / 2}[fan]
        deviation = math.sqrt(numerator / max(divisor, 1))
        if distribution == "normal":
            return _normal(rng, shape, 0.0, deviation)
        bound = math.sqrt(3.0) * deviation  # a uniform distribution of that width has this deviation
        return _uniform(rng, shape, -bound, bound)
    if name == "normal":
        return _normal(rng, shape, arguments["mean"], arguments["std"])
    if name == "uniform":
        return _uniform(rng, shape, arguments["low"], arguments["high"])
    return np.full(shape, {"zeros": 0.0, "ones": 1.0}.get(name, arguments.get("value")), np.float32)


def checked_initializer(initializer: Any) -> tuple[str, dict[str, float]]:
    """Return the name and the arguments that `initializer` stands for; raise where it stands for nothing.

    >>> checked_initializer(0.5)
    ('constant', {'value': 0.5})
    """
    if isinstance(initializer, str) and initializer in NAMES:
        return initializer, dict(_PLAIN.get(initializer, {}))
    if isinstance(initializer, (int, float)) and not isinstance(initializer, bool):
        return "constant", {"value": real_number(initializer, "an initializer")}
    if isinstance(initializer, dict):
        arguments = {key: value for key, value in initializer.items() if key != "name"}
        name = initializer.get("name")
    elif isinstance(initializer, str):
        name, arguments = initializer, {}
    else:
        raise TypeError(f"an initializer is a name, a number or a dict, got {initializer!r}")
    if name not in NAMES:
        raise ValueError(f"there is no initializer {name!r}; choose one of {', '.join(NAMES)}")
    defaults: dict[str, float] = _PLAIN.get(name, {})
    for key, value in arguments.items():
        if key not in defaults:
            raise ValueError(f"initializer {name!r} takes {sorted(defaults) or 'no arguments'}, got {key!r}")
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"{key!r} of initializer {name!r} must be a number, got {value!r}")
    return name, {**defaults, **arguments}


def _normal(rng: np.random.Generator, shape: tuple[int, ...], mean: float, deviation: float) -> np.ndarray:
    values = rng.standard_normal(shape, dtype=np.float32)
    values *= np.float32(deviation)
    values += np.float32(mean)
    return values


def _uniform(rng: np.random.Generator, shape: tuple[int, ...], low: float, high: float) -> np.ndarray:
    values = rng.random(shape, dtype=np.float32)
    values *= np.float32(high - low)
    values += np.float32(low)
    return values
