"""Elementwise arithmetic of two or more arrays: difference, quotient, power, maximum, choice, comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv.layers.base import Backward, Layer
from fastconv.layers.checks import require_numbers
from fastconv.layers.context import Context
from fastconv.layers.merge import Broadcast, per_input, unstretched
from fastconv.layers.symbol import Shape
from fastconv.layers.traits import Traits
from fastconv.registry import layers

Gradients = tuple[Any, dict[str, np.ndarray]]


class _Pair(Broadcast):
    """Two inputs; axes of size 1 (not the batch) are broadcast."""

    def output_shape(self, *shapes: Shape) -> Shape:
        if len(shapes) != 2:
            raise ValueError(f"{type(self).__name__} takes two inputs, got {len(shapes)}")
        return super().output_shape(*shapes)


@layers.register("Subtract")
class Subtract(_Pair):
    """``a - b`` for inputs ``(N, ..., C)``; axes of size 1 (not the batch) are broadcast.

    >>> import numpy as np
    >>> Subtract()(np.array([[5.0, 7.0]]), np.array([[1.0, 2.0]]))
    array([[4., 5.]])
    """

    traits = Traits(linear=True)

    def forward(self, ctx: Context, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, Backward]:
        self.check((a, b))
        shapes = a.shape, b.shape
        return a - b, lambda dy: ((unstretched(dy, shapes[0]), unstretched(-dy, shapes[1])), {})


@layers.register("Divide")
class Divide(_Pair):
    """``a / b`` for inputs ``(N, ..., C)``; axes of size 1 (not the batch) are broadcast.

    >>> import numpy as np
    >>> Divide()(np.array([[6.0, 7.0]]), np.array([[3.0, 2.0]]))
    array([[2. , 3.5]])
    """

    traits = Traits(domain=(0.2, 4.0))

    def forward(self, ctx: Context, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, Backward]:
        self.check((a, b))
        with np.errstate(all="ignore"):
            y = a / b if a.dtype.kind == "f" else np.trunc(a / b).astype(a.dtype)

        def backward(dy: np.ndarray) -> Gradients:
            with np.errstate(all="ignore"):
                da = dy / b
                return (unstretched(da, a.shape), unstretched(-da * y, b.shape)), {}

        return y, backward


@layers.register("Modulo")
class Modulo(_Pair):
    """The remainder of ``a`` divided by ``b``; axes of size 1 (not the batch) are broadcast.

    It has the sign of ``b``, or where it is `truncated`, that of ``a``.

    >>> import numpy as np
    >>> Modulo()(np.array([[5.0, -5.0]]), np.array([[3.0, 3.0]]))
    array([[2., 1.]])
    """

    traits = Traits(domain=(0.3, 2.0), kinks=lambda a, b: float(np.abs(a / b - np.rint(a / b)).min(initial=1.0)))

    def __init__(self, *, truncated: bool = False) -> None:
        self.truncated = bool(truncated)

    def forward(self, ctx: Context, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, Backward]:
        self.check((a, b))
        with np.errstate(all="ignore"):
            y = np.fmod(a, b) if self.truncated else np.mod(a, b)

        def backward(dy: np.ndarray) -> Gradients:
            with np.errstate(all="ignore"):
                times = np.rint((a - y) / b)
            return (unstretched(dy, a.shape), unstretched(-dy * times, b.shape)), {}

        return y, backward


@layers.register("Power")
class Power(_Pair):
    """``a ** b`` for inputs ``(N, ..., C)``; axes of size 1 (not the batch) are broadcast.

    The gradient of an exponent is 0 where the base is not positive.

    >>> import numpy as np
    >>> Power()(np.array([[3.0, 4.0]]), np.array([[2.0, 0.5]]))
    array([[9., 2.]])
    """

    traits = Traits(domain=(0.2, 2.0))

    def forward(self, ctx: Context, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, Backward]:
        self.check((a, b))
        with np.errstate(all="ignore"):
            y = a**b

        def backward(dy: np.ndarray) -> Gradients:
            with np.errstate(all="ignore"):
                da = np.where(b == 0, 0, dy * b * a ** (b - 1))
                db = dy * y * np.log(np.where(a > 0, a, 1))
            return (unstretched(da, a.shape), unstretched(db, b.shape)), {}

        return y, backward


class _Extreme(Broadcast):
    """The largest or the smallest of the inputs; of equal ones the first takes the gradient."""

    traits = Traits(kinks="ties")

    def choose(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def forward(self, ctx: Context, *xs: np.ndarray) -> tuple[np.ndarray, Backward]:
        self.check(xs)
        y = xs[0].copy() if len(xs) == 1 else self.choose(xs[0], xs[1])
        for x in xs[2:]:
            y = self.choose(y, x)

        def backward(dy: np.ndarray) -> Gradients:
            free, gradients = np.ones(y.shape, bool), []
            for x in xs:
                mine = free & ((x == y) | np.isnan(x))
                free &= ~mine
                gradients.append(unstretched(np.where(mine, dy, 0), x.shape))
            return per_input(gradients), {}

        return y, backward


@layers.register("Maximum")
class Maximum(_Extreme):
    """The largest of the inputs, elementwise; axes of size 1 (not the batch) are broadcast.

    >>> import numpy as np
    >>> Maximum()(np.array([[1.0, 5.0]]), np.array([[3.0, 4.0]]))
    array([[3., 5.]])
    """

    def choose(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.maximum(a, b)


@layers.register("Minimum")
class Minimum(_Extreme):
    """The smallest of the inputs, elementwise; axes of size 1 (not the batch) are broadcast.

    >>> import numpy as np
    >>> Minimum()(np.array([[1.0, 5.0]]), np.array([[3.0, 4.0]]))
    array([[1., 4.]])
    """

    def choose(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.minimum(a, b)


@layers.register("Where")
class Where(Broadcast):
    """``a`` where `condition` is true or not 0, else ``b``; axes of size 1 (not the batch) are broadcast.

    The condition may be booleans or integers.

    >>> import numpy as np
    >>> Where()(np.array([[True, False]]), np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]]))
    array([[1., 4.]])
    """

    traits = Traits(integers=(0,))

    def output_shape(self, *shapes: Shape) -> Shape:
        if len(shapes) != 3:
            raise ValueError(f"Where takes a condition and two inputs, got {len(shapes)} inputs")
        return super().output_shape(*shapes)

    def forward(self, ctx: Context, condition: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, Backward]:
        self.output_shape(*(x.shape[1:] for x in (condition, a, b)))
        require_numbers(condition)
        self.check((a, b))
        if len(condition) != len(a):
            raise ValueError(f"the inputs must have one batch size, got {len(condition)} and {len(a)}")
        first = condition != 0

        def backward(dy: np.ndarray) -> Gradients:
            da, db = np.where(first, dy, 0), np.where(first, 0, dy)
            return (None, unstretched(da, a.shape), unstretched(db, b.shape)), {}

        return np.where(first, a, b), backward


_COMPARE = {
    "equal": np.equal,
    "greater": np.greater,
    "less": np.less,
    "greater_or_equal": np.greater_equal,
    "less_or_equal": np.less_equal,
}


@layers.register("Compare")
class Compare(_Pair):
    """Whether ``a`` is `relation`, "equal" or "greater" for instance, compared with ``b``, as booleans; no gradient passes.

    The others are "less", "greater_or_equal" and "less_or_equal".

    >>> import numpy as np
    >>> Compare("less")(np.array([[1.0, 5.0]]), np.array([[3.0, 4.0]]))
    array([[ True, False]])
    """

    traits = Traits(discrete=True, kinks="ties")

    def __init__(self, relation: str) -> None:
        if not isinstance(relation, str) or relation not in _COMPARE:
            raise ValueError(f"relation must be one of {', '.join(_COMPARE)}, got {relation!r}")
        self.relation = relation

    @classmethod
    def examples(cls) -> Sequence[Layer]:
        return [cls(relation) for relation in _COMPARE]

    def forward(self, ctx: Context, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, Backward]:
        self.check((a, b))
        return _COMPARE[self.relation](a, b), lambda dy: ((np.zeros_like(a), np.zeros_like(b)), {})
