"""What recurrent layers share: a state along a sequence ``(N, T, C)``, step by step, and its gradient backward."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from fastconv import functional as F
from fastconv.arguments import boolean, positive
from fastconv.layers.base import Backward, Layer
from fastconv.layers.checks import require_channels, require_floats, with_batch
from fastconv.layers.context import Context
from fastconv.layers.symbol import Shape
from fastconv.layers.traits import Traits

DIRECTIONS = {"forward": ("",), "backward": ("_reverse",), "both": ("", "_reverse")}

Arrays = list[np.ndarray]
#: From the gradients of the states after a step to those of what comes in, of what the recurrent product made, of the states
#: before the step, and of parameters: of the last two what does not come through that product.
StepBack = Callable[[Arrays], tuple[np.ndarray, np.ndarray, Arrays, dict[str, np.ndarray]]]


class Recurrent(Layer):
    """What `RNN`, `GRU` and `LSTM` share.

    ``(N, T, C)`` becomes ``(N, T, features)``, or ``(N, T, 2 * features)`` in both directions, the output at each step; that of
    the backward direction begins at the end. The states at the beginning are zeros, or further inputs ``(N, directions,
    features)``. With `states` the states at the end are further outputs, of that shape too.

    With `lengths` the second input, integers ``(N,)``, says how many steps each sequence has: after them outputs are zeros,
    the states at the end are those after the last step, and the backward direction begins there.
    """

    #: How many blocks of `features` columns the matrices have, and how many states go along.
    gates: ClassVar[int]
    kinds: ClassVar[int] = 1

    features: int
    direction: str
    states: bool
    lengths: bool

    takes_numbers = True

    def _take(self, features: Any, direction: str, states: Any, lengths: Any) -> None:
        self.features = positive(features, "features")
        if not isinstance(direction, str) or direction not in DIRECTIONS:
            raise ValueError(f"direction must be one of {', '.join(DIRECTIONS)}, got {direction!r}")
        self.direction, self.states = direction, boolean(states, "states")
        self.lengths = boolean(lengths, "lengths")

    @property
    def traits(self) -> Traits:
        return (
            Traits(integers=(1,), domain=(0.0, 2.0)) if self.lengths else Traits()
        )  # lengths of 0 and 1, for one step too

    @classmethod
    def examples(cls) -> Sequence[Any]:
        both: Any = cls.from_config({"features": 2, "direction": "both", "states": True})
        several: Any = cls.from_config({"features": 2, "direction": "both", "states": True, "lengths": True})
        return [
            (cls.from_config({"features": 3}), [(4, 2)]),
            (both, [(3, 2), *[(2, 2)] * cls.kinds]),
            (several, [(3, 2), ()]),
        ]

    @property
    def ways(self) -> tuple[str, ...]:
        """What the names of parameters end with, for each direction."""
        return DIRECTIONS[self.direction] if self.direction == "both" else ("",)

    def build(self, *shapes: Shape, rng: np.random.Generator) -> None:
        self.output_shape(*shapes)
        bound, columns = 1 / math.sqrt(self.features), self.gates * self.features
        for way in self.ways:
            for name, rows in (
                ("weight", shapes[0][-1]),
                ("recurrent", self.features),
                ("bias", 0),
                ("recurrent_bias", 0),
            ):
                shape = (rows, columns) if rows else (columns,)
                self.params[name + way] = rng.uniform(-bound, bound, shape).astype(np.float32)

    def output_shape(self, *shapes: Shape) -> Any:
        state = (len(self.ways), self.features)
        lengths = [()] if self.lengths else []
        fits = bool(shapes) and len(shapes[0]) == 2 and list(shapes[1:]) in (lengths, [*lengths, *[state] * self.kinds])
        if not fits:
            kinds = "" if self.kinds == 1 else f" of {self.kinds} kinds"
            raise ValueError(
                f"{type(self).__name__} takes (N, T, C){', lengths (N,)' if lengths else ''}, and states at the beginning "
                f"{with_batch(state)}{kinds} or none, got {' and '.join(map(with_batch, shapes))}"
            )
        y = (shapes[0][0], len(self.ways) * self.features)
        return (y, *[state] * self.kinds) if self.states else y

    def multiply_adds(self, *shapes: Shape) -> int:
        steps, channels = shapes[0]
        return len(self.ways) * steps * (channels + self.features) * self.gates * self.features

    def window(self, *shapes: Shape) -> None:
        return None

    def forward(self, ctx: Context, x: np.ndarray, *more: np.ndarray) -> tuple[Any, Backward]:
        self.output_shape(x.shape[1:], *(each.shape[1:] for each in more))
        live, initial = (_steps_of(x, more[0]), more[1:]) if self.lengths else (None, more)
        require_floats(x, *initial)
        require_channels(x, self.params["weight"].shape[0])
        if any(len(each) != len(x) for each in initial):
            raise ValueError(
                f"states must be for as many samples as x, {len(x)}, got {[len(each) for each in initial]}"
            )
        start = initial or (np.zeros((len(x), len(self.ways), self.features), x.dtype),) * self.kinds
        scans = [
            _Scan(self, ctx, x, way, [state[:, at] for state in start], live, backward=self._is_backward(way))
            for at, way in enumerate(self.ways)
        ]
        y = np.concatenate([scan.y for scan in scans], axis=-1)
        ends = [np.stack([scan.ends[kind] for scan in scans], axis=1) for kind in range(self.kinds)]

        def backward(dy: Any) -> tuple[Any, dict[str, np.ndarray]]:
            dends: Sequence[Any] = dy[1:] if self.states else [None] * self.kinds
            dy = dy[0] if self.states else dy
            dxs, dstarts, gradients = [], [], {}
            for at, scan in enumerate(scans):
                part = dy[..., at * self.features : (at + 1) * self.features]
                dx, dstart, own = scan.back(part, [None if each is None else each[:, at] for each in dends])
                dxs.append(dx)
                dstarts.append(dstart)
                gradients.update({name + scan.way: gradient for name, gradient in own.items()})
            dx = dxs[0] if len(dxs) == 1 else dxs[0] + dxs[1]
            if not more:
                return dx, gradients
            back = [np.stack(parts, axis=1) for parts in zip(*dstarts, strict=True)] if initial else []
            return (dx, *([None] if self.lengths else []), *back), gradients

        return (y, *ends) if self.states else y, backward

    def _is_backward(self, way: str) -> bool:
        return bool(way) or self.direction == "backward"

    def step(self, given: np.ndarray, product: np.ndarray, states: Arrays, way: str) -> tuple[Arrays, StepBack]:
        """Return the states after a step, the output first, and the backward pass.

        `given` is what the input makes for the gates, with both biases, `product` what the state before does, ``(N, gates *
        features)`` each.
        """
        raise NotImplementedError


def _steps_of(x: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return which steps of sequences ``(N, T, C)`` are some of theirs, ``(N, T, 1)``; raise for what cannot be lengths."""
    if lengths.dtype.kind not in "iu" or len(lengths) != len(x):
        raise TypeError(
            f"lengths must be integers, one for each of {len(x)} sequences, got {lengths.dtype} of shape {lengths.shape}"
        )
    if lengths.min(initial=0) < 0 or lengths.max(initial=0) > x.shape[1]:
        raise ValueError(f"lengths must be from 0 to the {x.shape[1]} steps that there are, got {lengths!r:.80}")
    return (np.arange(x.shape[1]) < lengths[:, None])[..., None]


class _Scan:
    """One way along the sequences, and back. What is not `live` of a sequence leaves its states as they are."""

    def __init__(
        self,
        layer: Recurrent,
        ctx: Context,
        x: np.ndarray,
        way: str,
        states: Arrays,
        live: np.ndarray | None,
        *,
        backward: bool,
    ) -> None:
        self.layer, self.way, self.turn = layer, way, slice(None, None, -1 if backward else 1)
        params = layer.params
        self.weight, self.recurrent = params["weight" + way], params["recurrent" + way]
        self.x = np.ascontiguousarray(x[:, self.turn])
        self.live = None if live is None else live[:, self.turn]
        given = F.linear(self.x, self.weight, params["bias" + way])
        bias, self.steps = params["recurrent_bias" + way], list[StepBack]()
        self.before, outputs = np.empty((2, *x.shape[:2], layer.features), x.dtype)
        for at in range(x.shape[1]):
            product = F.linear(np.ascontiguousarray(states[0]), self.recurrent, bias)
            self.before[:, at] = states[0]
            made, back = layer.step(given[:, at], product, states, way)
            if self.live is None:
                outputs[:, at], states = made[0], made
            else:
                here = self.live[:, at]
                outputs[:, at] = np.where(here, made[0], 0)
                states = [np.where(here, after, before) for after, before in zip(made, states, strict=True)]
            if not ctx.inference:
                self.steps.append(back)
        self.y, self.ends = outputs[:, self.turn], states

    def back(self, dy: np.ndarray, dends: Sequence[Any]) -> tuple[np.ndarray, Arrays, dict[str, np.ndarray]]:
        """Return the gradients of x, of the states at the beginning, and of the parameters."""
        layer, dy = self.layer, dy[:, self.turn]
        zeros = np.zeros((len(dy), layer.features), dy.dtype)
        dstates = [zeros if each is None else each for each in dends]
        columns = layer.gates * layer.features
        dgiven = np.empty((*dy.shape[:2], columns), dy.dtype)
        dproducts, others = np.empty_like(dgiven), dict[str, Any]()
        for at in reversed(range(dy.shape[1])):
            passed: Arrays | None = None
            dout = dy[:, at]
            if self.live is not None:  # what comes to the states of a sequence that has ended goes on to those before
                here = self.live[:, at]
                passed = [np.where(here, 0, each) for each in dstates]
                dstates, dout = [np.where(here, each, 0) for each in dstates], np.where(here, dout, 0)
            dstates = [dstates[0] + dout, *dstates[1:]]
            dgiven[:, at], dproduct, dstates, own = self.steps[at](dstates)
            dproducts[:, at] = dproduct
            through, _, _ = F.linear_backward(
                np.ascontiguousarray(dproduct), np.ascontiguousarray(self.before[:, at]), self.recurrent, wrt=("x",)
            )
            dstates = [dstates[0] + through, *dstates[1:]]
            if passed is not None:
                dstates = [one + other for one, other in zip(dstates, passed, strict=True)]
            for name, gradient in own.items():
                others[name] = others[name] + gradient if name in others else gradient
        dx, dweight, dbias = F.linear_backward(dgiven, self.x, self.weight)
        _, drecurrent, drecurrent_bias = F.linear_backward(
            dproducts, self.before, self.recurrent, wrt=("weight", "bias")
        )
        gradients = {"weight": dweight, "recurrent": drecurrent, "bias": dbias, "recurrent_bias": drecurrent_bias}
        for name, gradient in others.items():
            gradients[name] = gradients[name] + gradient if name in gradients else gradient
        return np.ascontiguousarray(dx[:, self.turn]), dstates, gradients  # type: ignore[index, return-value]
