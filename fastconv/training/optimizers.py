"""The optimizers: how a parameter follows its gradient.

Every rule is the formula of its docstring, a kernel that goes over all parameters once, in place. ``p`` is the parameter, ``g``
its gradient, clipped and with the weight decay added, ``t`` the number of the step from 1; state starts at zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv.arguments import is_list
from fastconv.functional._validate import kernels_for
from fastconv.threads import threads_for
from fastconv.training.names import optimizers, positive, resolve, share
from fastconv.training.optimizer import AS_IT_IS, Optimizer, Preparation, Update
from fastconv.training.schedules import Schedule

State = dict[str, np.ndarray]

#: What a number of a parameter costs in multiply-adds, about.
COST = 2

optimizers.base = Optimizer


def _lists(updates: list[Update]) -> tuple[list[np.ndarray], list[np.ndarray], list[State], int]:
    """Return the parameters, the gradients and the states, and the threads for all of them."""
    params = [update.param for update in updates]
    threads = threads_for(COST * sum(param.size for param in params))
    return params, [update.grad for update in updates], [update.state for update in updates], threads


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
        SGD._follow(self, [Update(param, grad, state)], rate, AS_IT_IS)  # not that of a subclass, which may call this

    def _follow(self, updates: list[Update], rate: float, how: Preparation) -> None:
        params, grads, states, threads = _lists(updates)
        velocities = [state["velocity"] for state in states] if self.momentum else None
        kernels_for(params[0]).sgd_step(
            params, grads, velocities, *how[:3], rate, self.momentum, self.nesterov, threads
        )


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
        if not is_list(betas) or len(betas) != 2:
            raise ValueError(f"betas must be two numbers, got {betas!r}")
        self.betas = share(betas[0], "betas[0]"), share(betas[1], "betas[1]")
        self.eps = positive(eps, "eps")

    def update(self, param: np.ndarray, grad: np.ndarray, state: State, rate: float, scratch: np.ndarray) -> None:
        Adam._follow(self, [Update(param, grad, state)], rate, AS_IT_IS)  # not that of a subclass, which may call this

    def _follow(self, updates: list[Update], rate: float, how: Preparation) -> None:
        params, grads, states, threads = _lists(updates)
        means, squares = ([state[slot] for state in states] for slot in self.slots)
        (b1, b2), t = self.betas, self.steps
        root = math.sqrt((1 - b2) / (1 - b2**t))  # sqrt(v / (1 - b2**t)) is root * sqrt(square)
        rate = rate * (1 - b1) / (1 - b1**t) / root
        kernels_for(params[0]).adam_step(params, grads, means, squares, *how, rate, b1, b2, self.eps / root, threads)


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
        RMSprop._follow(
            self, [Update(param, grad, state)], rate, AS_IT_IS
        )  # not that of a subclass, which may call this

    def _follow(self, updates: list[Update], rate: float, how: Preparation) -> None:
        params, grads, states, threads = _lists(updates)
        squares = [state["square"] for state in states]
        velocities = [state["velocity"] for state in states] if self.momentum else None
        kernels_for(params[0]).rmsprop_step(
            params, grads, squares, velocities, *how[:3], rate, self.decay, self.eps, self.momentum, threads
        )


def get_optimizer(optimizer: Any) -> Optimizer:
    """Return the optimizer that an object or a name stands for.

    >>> get_optimizer("sgd").rate
    0.01
    """
    found: Optimizer = resolve(optimizers, optimizer, Optimizer)
    return found
