"""The optimizers: how a parameter follows its gradient.

Every rule is the formula of its docstring in passes over one block, each pass with its output in place. ``p`` is the
parameter, ``g`` its gradient, clipped and with the weight decay added, ``t`` the number of the step from 1; state
starts at zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv.training.names import optimizers, positive, resolve, share
from fastconv.training.optimizer import Optimizer
from fastconv.training.schedules import Schedule

State = dict[str, np.ndarray]

optimizers.base = Optimizer


@optimizers.register("sgd")
class SGD(Optimizer):
    """Gradient descent: ``p -= rate * g``; with momentum ``v = momentum * v + g; p -= rate * v``.

    Parameters
    ----------
    learning_rate : float or Schedule
    momentum : float, from 0 to 1 (excluded)
    nesterov : bool
        ``p -= rate * (g + momentum * v)`` instead (Sutskever et al., ICML 2013).
    weight_decay, clip_norm, clip_value
        See `Optimizer`.
    """

    def __init__(
        self,
        learning_rate: float | Schedule = 0.01,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        super().__init__(learning_rate, weight_decay=weight_decay, clip_norm=clip_norm, clip_value=clip_value)
        self.momentum = share(momentum, "momentum")
        self.nesterov = nesterov
        if nesterov and not momentum:
            raise ValueError("nesterov needs a momentum greater than 0, got momentum=0")
        self.slots = ("velocity",) if momentum else ()

    def update(self, param: np.ndarray, grad: np.ndarray, state: State, rate: float, scratch: np.ndarray) -> None:
        if not self.momentum:
            param -= np.multiply(grad, rate, out=scratch)
            return
        velocity = state["velocity"]
        velocity *= self.momentum
        velocity += grad
        if self.nesterov:
            np.multiply(velocity, self.momentum, out=scratch)
            scratch += grad
            scratch *= rate
        else:
            np.multiply(velocity, rate, out=scratch)
        param -= scratch


@optimizers.register("adam")
class Adam(Optimizer):
    """Steps of about the learning rate, whatever the gradient's scale.

    ``m = b1 * m + (1 - b1) * g; v = b2 * v + (1 - b2) * g**2``;
    ``p -= rate * (m / (1 - b1**t)) / (sqrt(v / (1 - b2**t)) + eps)``.
    Source: Kingma and Ba, Adam: a method for stochastic optimization, ICLR 2015.

    Parameters
    ----------
    learning_rate : float or Schedule
    betas : (float, float)
        b1 and b2, each from 0 to 1 (excluded).
    eps : float
    weight_decay, clip_norm, clip_value
        See `Optimizer`; `AdamW` is the variant whose weight decay stays out of the gradient.
    """

    # m / (1 - b1) and v / (1 - b2): the factors go into two numbers of the step, which saves two passes
    slots = ("mean", "square")

    def __init__(
        self,
        learning_rate: float | Schedule = 0.001,
        *,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        super().__init__(learning_rate, weight_decay=weight_decay, clip_norm=clip_norm, clip_value=clip_value)
        if len(betas) != 2:
            raise ValueError(f"betas must be two numbers, got {betas!r}")
        self.betas = share(betas[0], "betas[0]"), share(betas[1], "betas[1]")
        self.eps = positive(eps, "eps")

    def update(self, param: np.ndarray, grad: np.ndarray, state: State, rate: float, scratch: np.ndarray) -> None:
        mean, square = state["mean"], state["square"]
        (b1, b2), t = self.betas, self.steps
        mean *= b1
        mean += grad
        square *= b2
        square += np.multiply(grad, grad, out=scratch)
        root = math.sqrt((1 - b2) / (1 - b2**t))  # sqrt(v / (1 - b2**t)) is root * sqrt(square)
        np.sqrt(square, out=scratch)
        scratch += self.eps / root
        np.divide(mean, scratch, out=scratch)
        scratch *= rate * (1 - b1) / (1 - b1**t) / root
        param -= scratch


@optimizers.register("adamw")
class AdamW(Adam):
    """`Adam` with the weight decay applied to the parameter, not through the gradient: ``p -= rate * weight_decay *
    p``.

    Source: Loshchilov and Hutter, Decoupled weight decay regularization, ICLR 2019. The arguments are those of `Adam`.
    """

    decoupled_weight_decay = True

    def __init__(
        self,
        learning_rate: float | Schedule = 0.001,
        *,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        super().__init__(
            learning_rate, betas=betas, eps=eps, weight_decay=weight_decay, clip_norm=clip_norm, clip_value=clip_value
        )


@optimizers.register("rmsprop")
class RMSprop(Optimizer):
    """The gradient divided by a running root of its mean square: ``v = decay * v + (1 - decay) * g**2; u = g / (sqrt(v)
    + eps)``.

    ``p -= rate * u``; with momentum ``b = momentum * b + u; p -= rate * b``. Source: Tieleman and Hinton, Neural
    networks for machine learning, lecture 6.5, 2012.

    Parameters
    ----------
    learning_rate : float or Schedule
    decay : float, from 0 to 1 (excluded)
    eps : float
    momentum : float, from 0 to 1 (excluded)
    weight_decay, clip_norm, clip_value
        See `Optimizer`.
    """

    def __init__(
        self,
        learning_rate: float | Schedule = 0.001,
        *,
        decay: float = 0.99,
        eps: float = 1e-8,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        super().__init__(learning_rate, weight_decay=weight_decay, clip_norm=clip_norm, clip_value=clip_value)
        self.decay = share(decay, "decay")
        self.eps = positive(eps, "eps")
        self.momentum = share(momentum, "momentum")
        self.slots = ("square", "velocity") if momentum else ("square",)

    def update(self, param: np.ndarray, grad: np.ndarray, state: State, rate: float, scratch: np.ndarray) -> None:
        square = state["square"]
        square *= self.decay
        np.multiply(grad, grad, out=scratch)
        scratch *= 1 - self.decay
        square += scratch
        np.sqrt(square, out=scratch)
        scratch += self.eps
        np.divide(grad, scratch, out=scratch)
        if self.momentum:
            velocity = state["velocity"]
            velocity *= self.momentum
            velocity += scratch
            np.multiply(velocity, rate, out=scratch)
        else:
            scratch *= rate
        param -= scratch


def get_optimizer(optimizer: Any) -> Optimizer:
    """Return the optimizer that an object or a name stands for.

    >>> get_optimizer("sgd").rate
    0.01
    """
    found: Optimizer = resolve(optimizers, optimizer, Optimizer)
    return found
