"""Matrix products, and Einstein summation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv.layers.base import Backward, Layer
from fastconv.layers.checks import require_floats, with_batch
from fastconv.layers.context import Context
from fastconv.layers.merge import per_input, unstretched
from fastconv.layers.symbol import Shape
from fastconv.registry import layers

Gradients = tuple[Any, dict[str, np.ndarray]]

#: What an equation may call axes, and what the layer calls the batch.
_LETTERS, _BATCH = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXY", "Z"


@layers.register("MatMul")
class MatMul(Layer):
    """The matrix product of two inputs: ``(N, ..., m, k)`` and ``(N, ..., k, n)`` to ``(N, ..., m, n)``.

    Axes of size 1 before the last two (not the batch) are broadcast.

    >>> import numpy as np
    >>> MatMul()(np.ones((2, 3, 4)), np.ones((2, 4, 5))).shape
    (2, 3, 5)
    """

    def output_shape(self, *shapes: Shape) -> Shape:
        if len(shapes) != 2 or len(shapes[0]) != len(shapes[1]) or len(shapes[0]) < 2:
            raise ValueError(f"MatMul takes (N, ..., m, k) and (N, ..., k, n), got {_listed(shapes)}")
        a, b = shapes
        if a[-1] != b[-2] or any(1 != n != m != 1 for n, m in zip(a[:-2], b[:-2], strict=True)):
            raise ValueError(f"these cannot be multiplied as matrices: {_listed(shapes)}")
        return (*(m if n == 1 else n for n, m in zip(a[:-2], b[:-2], strict=True)), a[-2], b[-1])

    def forward(self, ctx: Context, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, Backward]:
        self.output_shape(a.shape[1:], b.shape[1:])
        require_floats(a, b)
        if len(a) != len(b):
            raise ValueError(f"the inputs must have one batch size, got {a.shape} and {b.shape}")

        def backward(dy: np.ndarray) -> Gradients:
            da, db = dy @ np.swapaxes(b, -1, -2), np.swapaxes(a, -1, -2) @ dy
            return (unstretched(da, a.shape), unstretched(db, b.shape)), {}

        return a @ b, backward

    def multiply_adds(self, *shapes: Shape) -> int:
        return math.prod(self.output_shape(*shapes)) * shapes[0][-1]


@layers.register("Einsum")
class Einsum(Layer):
    """Products and sums of the inputs by Einstein's convention, as in `numpy.einsum`; the batch is not written.

    ``"ij,jk->ik"`` multiplies ``(N, i, j)`` by ``(N, j, k)``. Letters that are not behind the arrow are summed over, without
    an arrow those that occur twice; ``...`` stands for axes that all inputs have.

    >>> import numpy as np
    >>> Einsum("ij,jk->ik")(np.ones((2, 3, 4)), np.ones((2, 4, 5))).shape
    (2, 3, 5)
    """

    takes_numbers = True

    def __init__(self, equation: str) -> None:
        if not isinstance(equation, str):
            raise TypeError(f"equation must be a string, got {equation!r}")
        left, arrow, right = equation.replace(" ", "").partition("->")
        terms = left.split(",")
        for term in (*terms, right):
            if term.count("...") > 1 or not all(letter in _LETTERS for letter in term.replace("...", "", 1)):
                raise ValueError(
                    f"equation must be made of letters before {_BATCH!r}, ',', '...' and '->', got {equation!r}"
                )
        if not arrow:
            letters = left.replace(",", "").replace("...", "")
            right = ("..." if "..." in left else "") + "".join(sorted(x for x in letters if letters.count(x) == 1))
        self.equation, self._terms, self._result = equation, terms, right

    @classmethod
    def examples(cls) -> Sequence[Any]:
        return [(cls("ij,jk->ik"), [(2, 3), (3, 4)]), (cls("...i,i"), [(2, 3), (3,)]), (cls("iij->j"), [(2, 2, 3)])]

    def _spelled(self, shapes: Sequence[Shape]) -> tuple[list[str], str, dict[str, int]]:
        """Return the terms and the result with letters for the dots, and the size of every letter."""
        if len(shapes) != len(self._terms):
            raise ValueError(f"{self.equation!r} takes {len(self._terms)} inputs, got {len(shapes)}")
        free = [letter for letter in _LETTERS if letter not in self.equation]
        most = max(len(shape) - len(term.replace("...", "")) for shape, term in zip(shapes, self._terms, strict=True))
        terms, sizes = list[str](), dict[str, int]()
        for shape, term in zip(shapes, self._terms, strict=True):
            rest = len(shape) - len(term.replace("...", ""))
            if rest < 0 or (rest and "..." not in term):
                raise ValueError(f"{term!r} of {self.equation!r} does not fit {with_batch(shape)}")
            terms.append(term.replace("...", "".join(free[most - rest : most])))
            for letter, size in zip(terms[-1], shape, strict=True):
                known = sizes.setdefault(letter, size)
                if known != size and (letter not in free or 1 not in (known, size)):
                    raise ValueError(f"axes {letter!r} of {self.equation!r} differ: {sizes[letter]} and {size}")
                sizes[letter] = max(size, sizes[letter])
        result = self._result.replace("...", "".join(free[:most]))
        if not set(result) <= set(sizes) or len(set(result)) < len(result):
            raise ValueError(f"the result of {self.equation!r} must be made of letters of its inputs, each once")
        return terms, result, sizes

    def output_shape(self, *shapes: Shape) -> Shape:
        _, result, sizes = self._spelled(shapes)
        return tuple(sizes[letter] for letter in result)

    def forward(self, ctx: Context, *xs: np.ndarray) -> tuple[np.ndarray, Backward]:
        terms, result, sizes = self._spelled([x.shape[1:] for x in xs])
        require_floats(*xs)
        equation = ",".join(_BATCH + term for term in terms) + "->" + _BATCH + result
        y = np.einsum(equation, *xs, optimize=len(xs) > 1)

        def backward(dy: np.ndarray) -> Gradients:
            return per_input([_gradient(at, terms, result, sizes, xs, dy) for at in range(len(xs))]), {}

        return np.array(y, order="C"), backward


def _gradient(
    at: int, terms: list[str], result: str, sizes: dict[str, int], xs: Sequence[np.ndarray], dy: np.ndarray
) -> np.ndarray:
    """Return the gradient of one input: the product of all the others and dy, along its own axes."""
    others = [term for i, term in enumerate(terms) if i != at]
    known = set(result).union(*others)
    own = "".join(dict.fromkeys(terms[at]))  # a letter that it has twice, once
    seen = "".join(letter for letter in own if letter in known)
    equation = ",".join(_BATCH + term for term in (result, *others)) + "->" + _BATCH + seen
    part = np.einsum(equation, dy, *(x for i, x in enumerate(xs) if i != at), optimize=True)
    found = dict(zip(seen, part.shape[1:], strict=True))
    wide = part.reshape(len(dy), *(found.get(letter, 1) for letter in own))
    part = np.broadcast_to(wide, (len(dy), *(sizes[letter] for letter in own)))
    dx = np.zeros((len(dy), *(sizes[letter] for letter in terms[at])), dy.dtype)
    np.einsum(f"{_BATCH}{terms[at]}->{_BATCH}{own}", dx)[...] = part  # a view of its diagonal
    return unstretched(dx, xs[at].shape)


def _listed(shapes: Sequence[Shape]) -> str:
    return " and ".join(map(with_batch, shapes))
