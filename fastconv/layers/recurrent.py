"""Recurrent layers: the step of each; `fastconv.layers.recurrence` runs it along the sequence."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastconv import functional as F
from fastconv.arguments import boolean
from fastconv.layers.context import Context
from fastconv.layers.recurrence import Arrays, Recurrent, StepBack
from fastconv.layers.symbol import Shape
from fastconv.layers.traits import Traits
from fastconv.registry import layers


def _sigmoid(x: np.ndarray) -> np.ndarray:
    y = np.tanh(0.5 * x)  # which never overflows
    y += 1
    y *= 0.5
    return y


@layers.register("RNN")
class RNN(Recurrent):
    """``h[t] = tanh(x[t] @ weight + bias + h[t - 1] @ recurrent + recurrent_bias)``, along sequences ``(N, T, C)``.

    Parameters
    ----------
    features : int
        Numbers of the state.
    activation : "tanh" or "relu"
    direction : "forward", "backward" or "both"
        With "both" the outputs of both are side by side, ``(N, T, 2 * features)``; parameters of the backward direction end in
        ``_reverse``.
    states : bool
        Whether the state at the end, ``(N, directions, features)``, is a second output.
    lengths : bool
        Whether a second input, integers ``(N,)``, says how many steps each sequence has; behind them outputs are zeros.

    Raises
    ------
    ValueError
        For inputs that are not ``(N, T, C)`` and at most one state ``(N, directions, features)`` to begin with.

    Notes
    -----
    Source: Elman, Finding structure in time, Cognitive Science 1990.

    Examples
    --------
    >>> import numpy as np
    >>> RNN(3, direction="both")(np.zeros((2, 5, 4), np.float32)).shape
    (2, 5, 6)
    """

    gates = 1

    def __init__(
        self,
        features: int,
        *,
        activation: str = "tanh",
        direction: str = "forward",
        states: bool = False,
        lengths: bool = False,
    ) -> None:
        self._take(features, direction, states, lengths)
        if activation not in ("tanh", "relu"):
            raise ValueError(f'activation must be "tanh" or "relu", got {activation!r}')
        self.activation = activation

    @property
    def traits(self) -> Traits:
        return super().traits._replace(kinks=self._distance) if self.activation == "relu" else super().traits

    def _distance(self, *xs: np.ndarray) -> float:
        y = self.forward(Context(inference=True), *xs)[0] if self.params else np.ones(1)
        y = y[0] if isinstance(y, tuple) else y
        return float(y[y > 0].min(initial=1.0))

    def step(self, given: np.ndarray, product: np.ndarray, states: Arrays, way: str) -> tuple[Arrays, StepBack]:
        relu = self.activation == "relu"
        before = given + product
        h = np.maximum(before, 0) if relu else np.tanh(before)

        def back(dstates: Arrays) -> Any:
            dbefore = np.where(h > 0, dstates[0], 0) if relu else dstates[0] * (1 - h * h)
            return dbefore, dbefore, [np.zeros_like(h)], {}

        return [h], back


@layers.register("GRU")
class GRU(Recurrent):
    """The gated recurrent unit, along sequences ``(N, T, C)``.

    With ``a = x[t] @ weight + bias`` and ``b = h[t - 1] @ recurrent + recurrent_bias``, three blocks of `features` columns:
    ``r = sigmoid(a0 + b0)``, ``z = sigmoid(a1 + b1)``, ``n = tanh(a2 + r * b2)``, ``h[t] = (1 - z) * n + z * h[t - 1]``.
    Without `reset_after` the state is reset before the product: ``n = tanh(a2 + (r * h[t - 1]) @ recurrent2 +
    recurrent_bias2)``.

    Parameters
    ----------
    features : int
        Numbers of the state.
    reset_after : bool
    direction : "forward", "backward" or "both"
        With "both" the outputs of both are side by side, ``(N, T, 2 * features)``; parameters of the backward direction end in
        ``_reverse``.
    states : bool
        Whether the state at the end, ``(N, directions, features)``, is a second output.
    lengths : bool
        Whether a second input, integers ``(N,)``, says how many steps each sequence has; behind them outputs are zeros.

    Raises
    ------
    ValueError
        For inputs that are not ``(N, T, C)`` and at most one state ``(N, directions, features)`` to begin with.

    Notes
    -----
    Source: Cho et al., Learning phrase representations using RNN encoder-decoder, EMNLP 2014, section 2.3.

    Examples
    --------
    >>> import numpy as np
    >>> y, state = GRU(3, states=True)(np.zeros((2, 5, 4), np.float32))
    >>> y.shape, state.shape, bool((y[:, -1] == state[:, 0]).all())
    ((2, 5, 3), (2, 1, 3), True)
    """

    gates = 3

    def __init__(
        self,
        features: int,
        *,
        reset_after: bool = True,
        direction: str = "forward",
        states: bool = False,
        lengths: bool = False,
    ) -> None:
        self._take(features, direction, states, lengths)
        self.reset_after = boolean(reset_after, "reset_after")

    def step(self, given: np.ndarray, product: np.ndarray, states: Arrays, way: str) -> tuple[Arrays, StepBack]:
        if not self.reset_after:
            return self._reset_before(given, product, states, way)
        f = self.features
        h = states[0]
        gates = _sigmoid(given[:, : 2 * f] + product[:, : 2 * f])
        r, z = gates[:, :f], gates[:, f:]
        n = np.tanh(given[:, 2 * f :] + r * product[:, 2 * f :])
        after = n + z * (h - n)

        def back(dstates: Arrays) -> Any:
            dh = dstates[0]
            dn = dh * (1 - z) * (1 - n * n)
            dr, dz = dn * product[:, 2 * f :] * r * (1 - r), dh * (h - n) * z * (1 - z)
            dgiven = np.concatenate([dr, dz, dn], axis=1)
            return dgiven, np.concatenate([dr, dz, dn * r], axis=1), [dh * z], {}

        return [after], back

    def _reset_before(
        self, given: np.ndarray, product: np.ndarray, states: Arrays, way: str
    ) -> tuple[Arrays, StepBack]:
        f, h = self.features, states[0]
        last = np.ascontiguousarray(self.params["recurrent" + way][:, 2 * f :])
        bias = self.params["recurrent_bias" + way][2 * f :]
        gates = _sigmoid(given[:, : 2 * f] + product[:, : 2 * f])
        r, z = gates[:, :f], gates[:, f:]
        kept = r * h
        n = np.tanh(given[:, 2 * f :] + F.linear(kept, last, bias))
        after = n + z * (h - n)

        def back(dstates: Arrays) -> Any:
            dh = dstates[0]
            dn = dh * (1 - z) * (1 - n * n)
            dkept, dlast, dbias = F.linear_backward(dn, kept, last)
            dr, dz = dkept * h * r * (1 - r), dh * (h - n) * z * (1 - z)
            dgiven = np.concatenate([dr, dz, dn], axis=1)
            own = {
                "recurrent": np.pad(dlast, ((0, 0), (2 * f, 0))),  # type: ignore[arg-type]
                "recurrent_bias": np.pad(dbias, (2 * f, 0)),  # type: ignore[arg-type]
            }
            return dgiven, np.concatenate([dr, dz, np.zeros_like(dn)], axis=1), [dh * z + dkept * r], own

        return [after], back


@layers.register("LSTM")
class LSTM(Recurrent):
    """Long short-term memory, along sequences ``(N, T, C)``.

    With ``a = x[t] @ weight + bias + h[t - 1] @ recurrent + recurrent_bias``, four blocks of `features` columns: ``i, f, o =
    sigmoid(a0), sigmoid(a1), sigmoid(a3)``, ``c[t] = f * c[t - 1] + i * tanh(a2)``, ``h[t] = o * tanh(c[t])``. With `peepholes`
    the gates see the cell: ``a0`` and ``a1`` grow by ``c[t - 1] * peephole``, ``a3`` by ``c[t] * peephole``, three blocks.

    Parameters
    ----------
    features : int
        Numbers of the state and of the cell.
    peepholes : bool
    direction : "forward", "backward" or "both"
        With "both" the outputs of both are side by side, ``(N, T, 2 * features)``; parameters of the backward direction end in
        ``_reverse``.
    states : bool
        Whether state and cell at the end, ``(N, directions, features)`` each, are further outputs.
    lengths : bool
        Whether a second input, integers ``(N,)``, says how many steps each sequence has; behind them outputs are zeros.

    Raises
    ------
    ValueError
        For inputs that are not ``(N, T, C)``, and none or both of state and cell, ``(N, directions, features)``, to begin with.

    Notes
    -----
    Source: Hochreiter and Schmidhuber, Long short-term memory, Neural Computation 1997; with a gate to forget: Gers et al.,
    Neural Computation 2000.

    Examples
    --------
    >>> import numpy as np
    >>> y, state, cell = LSTM(3, states=True)(np.zeros((2, 5, 4), np.float32))
    >>> y.shape, state.shape, cell.shape
    ((2, 5, 3), (2, 1, 3), (2, 1, 3))
    """

    gates, kinds = 4, 2

    def __init__(
        self,
        features: int,
        *,
        peepholes: bool = False,
        direction: str = "forward",
        states: bool = False,
        lengths: bool = False,
    ) -> None:
        self._take(features, direction, states, lengths)
        self.peepholes = boolean(peepholes, "peepholes")

    def build(self, *shapes: Shape, rng: np.random.Generator) -> None:
        super().build(*shapes, rng=rng)
        bound = 1 / math.sqrt(self.features)
        for way in self.ways if self.peepholes else ():
            self.params["peephole" + way] = rng.uniform(-bound, bound, 3 * self.features).astype(np.float32)

    def step(self, given: np.ndarray, product: np.ndarray, states: Arrays, way: str) -> tuple[Arrays, StepBack]:
        f, c = self.features, states[1]
        a = given + product
        peephole = self.params["peephole" + way].reshape(3, f) if self.peepholes else None
        if peephole is not None:
            a[:, :f] += c * peephole[0]
            a[:, f : 2 * f] += c * peephole[1]
        both = _sigmoid(a[:, : 2 * f])
        i, forget, g = both[:, :f], both[:, f:], np.tanh(a[:, 2 * f : 3 * f])
        cell = forget * c + i * g
        if peephole is not None:
            a[:, 3 * f :] += cell * peephole[2]
        o, bent = _sigmoid(a[:, 3 * f :]), np.tanh(cell)

        def back(dstates: Arrays) -> Any:
            dh, dcell = dstates
            do = dh * bent * o * (1 - o)
            dcell = dcell + dh * o * (1 - bent * bent)
            if peephole is not None:
                dcell = dcell + do * peephole[2]
            di, df, dg = dcell * g * i * (1 - i), dcell * c * forget * (1 - forget), dcell * i * (1 - g * g)
            da, dc, own = np.concatenate([di, df, dg, do], axis=1), dcell * forget, {}
            if peephole is not None:
                dc = dc + di * peephole[0] + df * peephole[1]
                sums = [(di * c).sum(axis=0), (df * c).sum(axis=0), (do * cell).sum(axis=0)]
                own = {"peephole": np.concatenate(sums)}
            return da, da, [np.zeros_like(dh), dc], own

        return [o * bent, cell], back
