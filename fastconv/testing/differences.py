"""Central differences: the numeric gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import numpy as np

from fastconv.testing.result import CheckFailed

#: How far to each side; float64 has digits for about 1e-11 of the value then.
STEP = 1e-5

#: How well the slope and the gradient agree, relative to the sum of what they are made of.
TOLERANCE = 1e-6

#: Of larger arrays not every number is looked at, which takes four passes: one that is wrong is found by halving.
_MOST_PLACES = 200


def require_slope(
    value: Callable[[np.ndarray], float],
    at: np.ndarray,
    gradient: np.ndarray,
    rng: np.random.Generator,
    what: str,
    smooth: Callable[..., bool] = lambda *places: True,
) -> None:
    """Raise `CheckFailed` unless `gradient` is that of `value` at a place, along a direction drawn from `rng`.

    ``(value(at + h v) - value(at - h v)) / 2h`` for two steps ``h`` is extrapolated to zero; how far the steps disagree tells
    how curved the function is. `smooth` tells whether there is no kink between places; examples with one are passed over.

    >>> import numpy as np
    >>> x = np.array([1.0, 2.0])
    >>> require_slope(lambda x: float((x**2).sum()), x, 2 * x, np.random.default_rng(0), "dx")
    >>> require_slope(lambda x: float((x**2).sum()), x, np.array([2.0, 3.0]), np.random.default_rng(0), "dx")
    Traceback (most recent call last):
    ...
    fastconv.testing.result.CheckFailed: dx is wrong at index (1,): got 3.0, expected 4 (central differences), an error of 1
    """
    if np.shape(gradient) != at.shape:
        raise CheckFailed(f"{what} has shape {np.shape(gradient)}, expected {at.shape}")
    if not at.size:
        return
    direction = rng.uniform(0.5, 1.0, at.shape) * rng.choice([-1.0, 1.0], at.shape)
    if not smooth(at, at + STEP * direction, at - STEP * direction):
        from hypothesis import reject

        reject()
    slope, doubt, rounding = _slope(value, at, direction)
    terms = gradient * direction
    limit = TOLERANCE * float(np.abs(terms).sum()) + 2 * doubt + rounding
    if abs(float(terms.sum()) - slope) <= limit:  # false for NaN
        return
    _fail(value, at, gradient, direction, slope, what)


def _slope(value: Callable[[np.ndarray], float], at: np.ndarray, direction: np.ndarray) -> tuple[float, float, float]:
    """Return the slope along a direction, how far it is off because the function is curved, and because of rounding."""
    values = [(value(at + h * direction), value(at - h * direction)) for h in (STEP, STEP / 2)]
    wide, narrow = ((above - below) / (2 * h) for (above, below), h in zip(values, (STEP, STEP / 2), strict=True))
    slope = (4 * narrow - wide) / 3
    return slope, abs(slope - narrow), 1e-14 / STEP * max(abs(v) for pair in values for v in pair) + 1e-10


def _fail(
    value: Callable[[np.ndarray], float],
    at: np.ndarray,
    gradient: np.ndarray,
    direction: np.ndarray,
    want: float,
    what: str,
) -> NoReturn:
    got = float((gradient * direction).sum())
    along = (
        f"{what} along a random direction is {got:.9g}, expected {want:.9g} (central differences), "
        f"an error of {abs(got - want):.4g}"
    )
    if at.size > _MOST_PLACES:
        index = _halved(value, at, gradient, direction)
        slope = _slope_at(value, at, index)
        raise CheckFailed(
            f"{along}; it is wrong at index {index}: got {gradient[index].item()!r}, expected {slope:.6g}"
            if abs(gradient[index] - slope) > 1e-5 * (1 + abs(slope))
            else along
        )
    numeric = np.empty(at.shape)
    for index in np.ndindex(at.shape):
        numeric[index] = _slope_at(value, at, index)
    error = np.abs(gradient - numeric)
    worst = tuple(int(i) for i in np.unravel_index(int(np.argmax(np.nan_to_num(error, nan=np.inf))), at.shape))
    wrong = int((~(error <= 1e-5 * (1 + np.abs(numeric)))).sum())
    if not wrong:
        raise CheckFailed(along)
    more = f" ({wrong - 1} more of {at.size} numbers are wrong)" if wrong > 1 else ""
    raise CheckFailed(
        f"{what} is wrong at index {worst}: got {gradient[worst].item()!r}, "
        f"expected {numeric[worst]:.6g} (central differences), an error of {error[worst]:.4g}{more}"
    )


def _slope_at(value: Callable[[np.ndarray], float], at: np.ndarray, index: tuple[int, ...]) -> float:
    unit = np.zeros(at.shape)
    unit[index] = 1.0
    return _slope(value, at, unit)[0]


def _halved(
    value: Callable[[np.ndarray], float], at: np.ndarray, gradient: np.ndarray, direction: np.ndarray
) -> tuple[int, ...]:
    """Return the index that is left when the half whose slope is worse is halved again and again."""

    def error(places: np.ndarray) -> float:
        part = np.zeros(at.shape)
        part.flat[places] = direction.flat[places]
        return float(np.nan_to_num(abs((gradient * part).sum() - _slope(value, at, part)[0]), nan=np.inf))

    places = np.arange(at.size)
    while len(places) > 1:
        places = max(np.array_split(places, 2), key=error)
    return tuple(int(i) for i in np.unravel_index(int(places[0]), at.shape))
