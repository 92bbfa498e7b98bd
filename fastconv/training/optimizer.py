"""What all optimizers share: the step over every parameter, clipping, schedules, the state that is saved.

Parameters are updated in place. fastconv's own rules are kernels that go over all parameters once. Those of others are passes
of NumPy, block by block: a block of the parameter, its gradient and its state lie in the cache meanwhile, and the two scratch
blocks are the only memory a step uses.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from fastconv.data.check import whole
from fastconv.lasting import lasting
from fastconv.training.names import Described, at_least_zero, optimizers, positive
from fastconv.training.schedules import Schedule

#: Elements of a block. Parameter, gradient, two arrays of state and two of scratch are 1.5 MB of float32 then, about what a
#: second-level cache holds.
BLOCK = 65_536


class _State(NamedTuple):
    """The arrays of one parameter's state: their shape, and they themselves, flat, by name."""

    shape: tuple[int, ...]
    arrays: dict[str, np.ndarray]


class Update(NamedTuple):
    """A parameter, its gradient and its state, all flat, of one length and dtype."""

    param: np.ndarray
    grad: np.ndarray
    state: dict[str, np.ndarray]


class Preparation(NamedTuple):
    """What becomes of a gradient before the rule sees it, and of the parameter: ``param *= keep``, and ``grad * factor``,
    brought into ``-limit .. limit``, plus ``decay * param``.
    """

    factor: float
    limit: float
    decay: float
    keep: float


AS_IT_IS = Preparation(1.0, math.inf, 0.0, 1.0)


class Optimizer(Described):
    """Base of all optimizers; one of your own names its state in `slots` and defines `update`.

    Parameters
    ----------
    learning_rate : float or Schedule
    weight_decay : float
        Adds ``weight_decay * parameter`` to the clipped gradient, or, where the class says `decoupled_weight_decay`,
        subtracts ``rate * weight_decay * parameter`` from the parameter before the step.
    clip_norm : float, optional
        Gradients are scaled down together so that their common Euclidean norm is at most this (Pascanu et al., ICML
        2013).
    clip_value : float, optional
        Every entry of a gradient is brought into ``-clip_value .. clip_value``, after `clip_norm`.

    Attributes
    ----------
    steps : int
        Steps taken so far.
    last_rate : float
        The learning rate of the last step.
    steps_per_epoch : int
        What a schedule's time is measured in; 1 unless `fit` runs the optimizer.

    Examples
    --------
    >>> from fastconv.training import register_optimizer
    >>> @register_optimizer("example.SignSGD")
    ... class SignSGD(Optimizer):
    ...     def update(self, param, grad, state, rate, scratch):
    ...         np.sign(grad, out=scratch)
    ...         scratch *= rate
    ...         param -= scratch
    >>> weight = np.array([1.0, 2.0], np.float32)
    >>> SignSGD(0.5).step({"weight": weight}, {"weight": np.array([3.0, -4.0], np.float32)})
    >>> weight
    array([0.5, 2.5], dtype=float32)
    """

    #: Names of the arrays, of zeros at first, that are kept for each parameter.
    slots: tuple[str, ...] = ()

    #: Whether the weight decay is a step of its own, or part of the gradient.
    decoupled_weight_decay = False

    def __init__(
        self,
        learning_rate: float | Schedule,
        *,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        self.learning_rate = learning_rate
        self.weight_decay = at_least_zero(weight_decay, "weight_decay")
        self.clip_norm = None if clip_norm is None else positive(clip_norm, "clip_norm")
        self.clip_value = None if clip_value is None else positive(clip_value, "clip_value")
        self.steps = 0
        self.last_rate = 0.0
        self.steps_per_epoch = 1
        self._states: dict[str, _State] = {}
        self._scratch: dict[np.dtype, tuple[np.ndarray, np.ndarray]] = {}

    @property
    def learning_rate(self) -> float | Schedule:
        """A number or a schedule; may be changed at any time."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float | Schedule) -> None:
        self._learning_rate = value if isinstance(value, Schedule) else at_least_zero(value, "learning_rate")

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        if isinstance(self._learning_rate, Schedule):
            return self._learning_rate(self.steps / self.steps_per_epoch)
        return self._learning_rate

    def plan(self, *, steps_per_epoch: int, epochs: int) -> None:
        """Say how long training will be, so that a schedule's time is in epochs; `fit` does."""
        self.steps_per_epoch = steps_per_epoch
        if isinstance(self._learning_rate, Schedule):
            self._learning_rate.epochs = epochs

    def observe(self, logs: dict[str, float]) -> None:
        """Tell the schedule the results of an epoch; `fit` does."""
        if isinstance(self._learning_rate, Schedule):
            self._learning_rate.observe(logs)

    def step(self, params: dict[str, np.ndarray], grads: dict[str, np.ndarray]) -> None:
        """Update `params` in place by `grads`; parameters without a gradient stay as they are, gradients always do.

        Raises `ValueError` for a gradient whose parameter is not there or has another shape or dtype; then nothing has
        changed.
        """
        for name, grad in grads.items():
            if name not in params:
                raise ValueError(f"grads has {name!r}, which is not among the {len(params)} parameters")
            param = params[name]
            if grad.shape != param.shape or grad.dtype != param.dtype:
                raise ValueError(
                    f"the gradient of {name!r} must be {param.dtype} of shape {param.shape} like the parameter, "
                    f"got {grad.dtype} of shape {grad.shape}"
                )
            self._state(name, param)
        rate = self.last_rate = self.rate
        decay, decoupled = self.weight_decay, self.decoupled_weight_decay
        how = Preparation(
            factor=1.0 if self.clip_norm is None else self._factor(grads),
            limit=math.inf if self.clip_value is None else self.clip_value,
            decay=0.0 if decoupled else decay,
            keep=1 - rate * decay if decoupled else 1.0,
        )
        self.steps += 1
        updates: dict[np.dtype, list[Update]] = {}
        scattered: list[tuple[np.ndarray, np.ndarray]] = []
        for name, grad in grads.items():
            param = params[name]
            flat = param.ravel()
            if not param.flags.c_contiguous:  # does not lie in one piece, and is updated in a copy
                scattered.append((param, flat))
            updates.setdefault(grad.dtype, []).append(Update(flat, grad.ravel(), self._states[name].arrays))
        for some in updates.values():
            self._follow(some, rate, how)
        for param, flat in scattered:
            param[...] = flat.reshape(param.shape)

    def update(
        self, param: np.ndarray, grad: np.ndarray, state: dict[str, np.ndarray], rate: float, scratch: np.ndarray
    ) -> None:
        """Change `param` and `state` in place, by `grad` (clipped, decay added) and the learning rate `rate`; `steps`
        counts this step.

        All arrays are flat, of one dtype and length: a block of a parameter. The rule must be elementwise. `grad` must
        be left as it is; `scratch` holds anything and may be written to.
        """
        raise NotImplementedError(f"{type(self).__name__} must define update(param, grad, state, rate, scratch)")

    def state_dict(self) -> dict[str, Any]:
        """Return all that a later run needs to go on, as numbers, strings and arrays (the live ones)."""
        rate = self._learning_rate
        return {
            "optimizer": self._name(),
            "steps": self.steps,
            "learning_rate": rate.state_dict() if isinstance(rate, Schedule) else rate,
            "schedule": type(rate).__name__ if isinstance(rate, Schedule) else None,
            "arrays": {
                slot: {name: state.arrays[slot].reshape(state.shape) for name, state in self._states.items()}
                for slot in self.slots
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned; the arrays are copied.

        Raises `ValueError` where it is the state of another optimizer, keeps other arrays, or has another kind of
        schedule.
        """
        rate = self._learning_rate
        schedule = type(rate).__name__ if isinstance(rate, Schedule) else None
        for what, mine in (("optimizer", self._name()), ("schedule", schedule)):
            if what not in state or state[what] != mine:
                raise ValueError(f"this is the state of the {what} {state.get(what)!r}, and here it is {mine!r}")
        if set(state["arrays"]) != set(self.slots):
            raise ValueError(
                f"this is a state with the arrays {sorted(state['arrays'])}, and {self!r} keeps {sorted(self.slots)}"
            )
        arrays = state["arrays"]
        shapes: dict[str, tuple[int, ...]] = {}
        for slot in self.slots:
            for name, array in arrays[slot].items():
                if array.shape != shapes.setdefault(name, array.shape):
                    raise ValueError(f"the state of {name!r} has arrays of shapes {shapes[name]} and {array.shape}")
        self.steps = whole(state["steps"], "steps")
        if isinstance(rate, Schedule):
            rate.load_state_dict(state["learning_rate"])
        else:
            self.learning_rate = state["learning_rate"]
        self._states = {
            name: _State(shape, {slot: arrays[slot][name].flatten() for slot in self.slots})
            for name, shape in shapes.items()
        }

    def _name(self) -> str:
        return optimizers.name_of(type(self)) or type(self).__name__

    def _state(self, name: str, param: np.ndarray) -> None:
        state = self._states.get(name)
        if state is None:
            self._states[name] = _State(param.shape, {slot: _zeros(param.size, param.dtype) for slot in self.slots})
        elif state.shape != param.shape or any(array.dtype != param.dtype for array in state.arrays.values()):
            dtype = next((array.dtype for array in state.arrays.values()), param.dtype)
            raise ValueError(
                f"the parameter {name!r} is {param.dtype} of shape {param.shape}, "
                f"but the optimizer's state of it {dtype} of shape {state.shape}: use a new optimizer"
            )

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "update" in cls.__dict__ and "_follow" not in cls.__dict__:
            cls._follow = Optimizer._follow  # type: ignore[method-assign]  # not the kernel of a rule that was replaced

    def _follow(self, updates: list[Update], rate: float, how: Preparation) -> None:
        """Change parameters of one dtype and their states by the rule, after what `how` says."""
        for param, grad, state in updates:
            first, second = self._scratch_of(param.dtype)
            for start in range(0, param.size, BLOCK):
                rows = slice(start, min(start + BLOCK, param.size))
                block, size = grad[rows], rows.stop - start
                if how.factor != 1.0:
                    block = np.multiply(block, how.factor, out=first[:size])
                if how.limit != math.inf:
                    block = np.clip(block, -how.limit, how.limit, out=first[:size])
                if how.keep != 1.0:
                    param[rows] *= how.keep
                if how.decay:
                    np.multiply(param[rows], how.decay, out=second[:size])
                    block = np.add(block, second[:size], out=first[:size])
                part = {slot: array[rows] for slot, array in state.items()}
                self.update(param[rows], block, part, rate, second[:size])

    def _factor(self, grads: dict[str, np.ndarray]) -> float:
        """Return what all gradients are to be multiplied by so that their norm is at most `clip_norm`."""
        total = 0.0
        for grad in grads.values():
            # not a dot product: its rounding may depend on the number of threads of the BLAS
            scratch, _ = self._scratch_of(grad.dtype)
            flat = grad.reshape(-1)
            for start in range(0, flat.size, BLOCK):
                block = flat[start : start + BLOCK]
                total += float(np.multiply(block, block, out=scratch[: block.size]).sum())
        norm = math.sqrt(total)
        assert self.clip_norm is not None
        return self.clip_norm / norm if norm > self.clip_norm else 1.0

    def _scratch_of(self, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
        if dtype not in self._scratch:
            self._scratch[dtype] = np.empty(BLOCK, dtype), np.empty(BLOCK, dtype)
        return self._scratch[dtype]


def _zeros(items: int, dtype: np.dtype) -> np.ndarray:
    array = lasting((items,), dtype)
    array[...] = 0
    return array
