"""Frozen models: a model compiled for inference, callable from many threads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastconv import _kernels
from fastconv._kernels._memory import signature
from fastconv.accuracy import current_mode, is_exact
from fastconv.arrays import as_array, is_foreign
from fastconv.collector import collector_waits
from fastconv.frozen.foreign import Foreign
from fastconv.frozen.lower import lower
from fastconv.frozen.moves import Transpose
from fastconv.frozen.operation import constants
from fastconv.frozen.passes import optimized
from fastconv.frozen.plan import Plan
from fastconv.frozen.program import Program
from fastconv.frozen.weighted import let_go
from fastconv.functional.frozen_weight import Weight
from fastconv.layers.checks import with_batch
from fastconv.layers.symbol import Shape
from fastconv.layers.tree import walk
from fastconv.layers.wrap import Cast
from fastconv.model import Model
from fastconv.unbatched import Unbatched

if TYPE_CHECKING:
    from fastconv.frozen.explanation import Explanation

#: Shapes of inputs that a frozen model remembers its plans for.
MOST_PLANS = 8


@collector_waits()
def freeze(model: Model, *, copy: bool = True, keep: bool = True) -> FrozenModel:
    """Compile a model for inference.

    Constants are folded into weights, activations and sums are fused into the steps before them, layers that do nothing in
    evaluation are removed, and all values between the steps share one block of memory. Layers that the compiler does not know
    run as they are.

    Parameters
    ----------
    model : Model
        Built, or with known input shapes. It is not changed, and training it further does not change the frozen model.
    copy : bool
        False shares the weights that the compiler does not change with the model: half the memory, for a model that is not
        trained further, since that would change only some of the frozen model's weights.
    keep : bool
        False gives the model up: the compiler takes its weights, or changes them in place, which takes the least memory and
        time. Calling or saving the model afterwards gives meaningless results.

    Returns
    -------
    FrozenModel
        Called like the model; equal to its evaluation up to rounding.

    Raises
    ------
    TypeError
        For anything but a model.
    ValueError
        For a model that does not know its input.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import Sequential, freeze
    >>> from fastconv.layers import BatchNorm, Conv2d, ReLU
    >>> model = Sequential([Conv2d(8, 3), BatchNorm(), ReLU()], input_shape=(28, 28, 1))
    >>> frozen = freeze(model)
    >>> x = np.ones((2, 28, 28, 1), np.float32)
    >>> bool(abs(frozen(x) - model(x)).max() < 1e-5), len(frozen.program.steps)
    (True, 1)
    """
    if isinstance(model, Unbatched) and type(model).forward is Unbatched.forward:
        return _unbatched(model, copy=copy, keep=keep)
    if not isinstance(model, Model):
        raise TypeError(f"only a model can be frozen, got {model!r:.200}: put a layer into a Sequential")
    if type(model).forward is not Model.forward:
        raise TypeError(f"a {type(model).__name__} does more than run its layers, so it cannot be frozen")
    if not model.built:
        _ = model.params  # builds a model that knows its input
    if not model.built:
        raise ValueError("the model is not built yet, so there is nothing to freeze: call it, or build((28, 28, 1))")
    frozen = FrozenModel(_program(model, copy=copy, keep=keep))
    _make_ready(frozen, model, keep=keep)
    return frozen


def _program(model: Model, *, copy: bool, keep: bool) -> Program:
    return optimized(lower(model, copy=copy and keep), own=copy or not keep)


def _unbatched(model: Unbatched, *, copy: bool, keep: bool) -> FrozenModel:
    from fastconv.frozen.unbatched import FrozenUnbatched

    _ = model.params  # builds it
    nothing = Program((), (), np.dtype(np.float32), (), (), model.label)
    program = nothing if model.body is None else _program(model.body, copy=copy, keep=keep)
    fixed = {
        at: model.own("buffers")[f"output_{at}"].copy()
        for at, item in enumerate(model.named_outputs)
        if "from" not in item
    }
    frozen = FrozenUnbatched(program, model.named_inputs, model.named_outputs, fixed)
    if model.body is not None and program.outputs:
        _make_ready(frozen, model.body, keep=keep)
    return frozen


def _make_ready(frozen: FrozenModel, model: Model, *, keep: bool) -> None:
    if not keep:
        _give_up(model, frozen.program)
    frozen.prepare()


def _give_up(model: Model, program: Program) -> None:
    """Take from a model the weights that a program packs, so that nobody else holds their memory."""
    operations = [step.operation for step in program.steps]
    weights = [getattr(operation, "weight", None) for operation in operations]
    taken = {id(weight.array()) for weight in weights if isinstance(weight, Weight)}
    used = {id(layer) for each in operations if isinstance(each, Foreign) for _, layer in walk(each.layer)}
    for _, layer in walk(model):
        params = {} if id(layer) in used else layer.own("params")
        for name, array in params.items():
            if id(array) in taken:
                params[name] = np.broadcast_to(array.dtype.type(0), array.shape)


class FrozenModel:
    """A model compiled by `fastconv.freeze`, or loaded by `fastconv.load_frozen`.

    Call it with arrays as the model: one for each input, with the batch axis, any batch size; it returns a new array, or a
    tuple for several outputs. Many Python threads may call it at once: each call has memory of its own.

    Attributes
    ----------
    program : fastconv.frozen.program.Program
        The steps.
    dtype : numpy.dtype
        Of inputs and outputs, float32 or float64.
    input_shapes : tuple of shapes
        What it was built for, without the batch axis. Images of another size may do, as for the model.
    """

    def __init__(self, program: Program) -> None:
        self.program = let_go(program)
        self.dtype = program.dtype
        self.input_shapes = program.input_shapes
        # integers may come only to inputs that layers of others alone take
        self._floats = [_takes_floats(program, value) for value in range(len(program.input_shapes))]
        self._casts = [_cast(program, value) for value in range(len(program.input_shapes))]
        self._channel_axes = [_channel_axis(program, value) for value in range(len(program.input_shapes))]
        self._plans: dict[tuple[Any, ...], Plan] = {}
        self._calls: dict[bytes | None, Plan] = {}  # the same by the signatures of calls that have been checked

    def __call__(self, *xs: Any) -> Any:
        """Return the output, a new array, or a tuple of them.

        Raises `TypeError` and `ValueError` for inputs that the model does not take, as the model does.
        """
        call = signature(*xs, current_mode(), _kernels.isa)
        plan = self._calls.get(call)
        if plan is None:
            xs = tuple(self.checked(xs))
            plan = self._plan([x.shape for x in xs])
            if call is not None:
                self._calls[call] = plan
        results = plan.run(xs)
        return tuple(results) if len(results) > 1 else results[0]

    def prepare(self, *shapes: Sequence[int], batch: int = 1) -> None:
        """Plan for inputs of these shapes, without the batch axis, and pack the weights.

        Where left out, the shapes are those that the model was built for.
        The first call with a shape that nobody has prepared does it. `freeze` prepares one sample.
        """
        self._planned(shapes, batch).make_ready()

    def predict(self, x: Any, *, batch_size: int = 64) -> Any:
        """Return the outputs for all samples, computed batch by batch, as `Model.predict`.

        `x` is what `Model.predict` takes: uint8 images are scaled, a tuple holds several inputs. No samples give no rows.
        """
        from fastconv.training.passes import predict_batches

        return predict_batches(self, self.dtype, x, batch_size=batch_size)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the frozen model to a file that `fastconv.load_frozen` reads; see `fastconv.frozen.files.save_frozen`."""
        from fastconv.frozen.files import save_frozen

        save_frozen(self, path)

    def explain(self, *inputs: Any, batch: int = 1, repeats: int = 20) -> Explanation:
        """Return what each step does, which layers became part of it, and how long it takes.

        Parameters
        ----------
        inputs : tuples of int or arrays, one for each input
            Shapes without the batch axis, for random numbers, or what to call the model with. Where left out, the shapes that
            the model was built for.
        batch : int
            Of the random numbers.
        repeats : int
            Calls to time; of each step the median counts.
        """
        from fastconv.frozen.explanation import explain

        return explain(self, inputs or self.input_shapes, batch, repeats)

    def arena_bytes(self, *shapes: Sequence[int], batch: int = 1) -> int:
        """Return the bytes that all values between the steps take together during one call, for inputs of these shapes."""
        return self._planned(shapes, batch).arena_bytes

    @property
    def constant_bytes(self) -> int:
        """The bytes of all weights and other constants of the compiled steps, each counted once."""
        arrays = {id(array): array.nbytes for step in self.program.steps for array in constants(step.operation)}
        return sum(arrays.values())

    def checked(self, xs: Sequence[Any]) -> list[np.ndarray]:
        """Return inputs as a plan takes them; raises what a call raises for those that are not arrays or of another dtype."""
        return [self._checked(at, x) for at, x in enumerate(xs)]

    def _planned(self, shapes: Sequence[Sequence[int]], batch: int) -> Plan:
        sizes = [tuple(shape) for shape in shapes] or list(self.input_shapes)
        return self._plan([(batch, *size) for size in sizes])

    def _plan(self, shapes: Sequence[Shape]) -> Plan:
        key = (*shapes, is_exact(), _kernels.isa)
        plan = self._plans.get(key)
        if plan is None:
            self._require_shapes(shapes)
            # made twice where two threads come at once; either will do, and no lock can be left behind in a forked child
            plan = self._plans[key] = Plan(self.program, shapes)
            for old in list(self._plans)[:-MOST_PLANS]:
                self._plans.pop(old, None)
                self._calls.clear()
        return plan

    def _checked(self, at: int, x: Any) -> np.ndarray:
        """Return input number `at` as the plan takes it; `TypeError` for what is not an array, or of another dtype."""
        if is_foreign(x):
            x = as_array(x, f"input {at + 1} of {self._label}")
        if not isinstance(x, np.ndarray):
            raise TypeError(f"{self._label} takes arrays with a batch axis, got {type(x).__name__}")
        if x.dtype.kind == "f" and x.dtype != self.dtype and x.dtype.name != (*self._casts, None)[: at + 1][-1]:
            raise TypeError(
                f"{self._label} is {self.dtype} and got an input of {x.dtype}: cast it, with x.astype(numpy.{self.dtype})"
            )
        if x.dtype != self.dtype and at < len(self._floats) and self._floats[at]:
            raise TypeError(
                f"x must be a {self.dtype} array, got {x.dtype} of shape {x.shape}: "
                f"cast it, with x.astype(numpy.{self.dtype})"
            )
        return np.asarray(x, order="C")

    @property
    def _label(self) -> str:
        return f"the frozen {self.program.label.removeprefix('the ')}"

    def _require_shapes(self, shapes: Sequence[Shape]) -> None:
        wanted, names = self.input_shapes, self.program.input_names
        if len(shapes) != len(wanted):
            raise ValueError(f"{self._label} takes {len(wanted)} inputs, got {len(shapes)}")
        for at, (shape, model_shape) in enumerate(zip(shapes, wanted, strict=True)):
            axis = self._channel_axes[at] % max(len(shape), 1)
            fixed = model_shape and axis - 1 not in (self.program.free or [()] * len(wanted))[at]
            if len(shape) != len(model_shape) + 1 or (fixed and shape[axis] != (0, *model_shape)[axis]):
                which = f"input {names[at]!r}" if names[at] else f"input {at + 1}"
                raise ValueError(
                    f"{self._label} takes {which} with shape {with_batch(model_shape)} (another size of the image may do, "
                    f"other axes or channels do not), got {shape}"
                )
        if len({shape[0] for shape in shapes}) > 1:
            raise ValueError(f"the inputs must have one batch size, got shapes {', '.join(map(str, shapes))}")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_plans": {}, "_calls": {}}  # copies and other processes plan for themselves

    def __repr__(self) -> str:
        inputs = ", ".join(map(with_batch, self.input_shapes))
        return f"FrozenModel({len(self.program.steps)} steps, inputs {inputs}, {self.dtype})"


def _takes_floats(program: Program, value: int) -> bool:
    reading = [step.operation for step in program.steps if value in step.reads]
    return not all(isinstance(operation, Foreign) for operation in reading)


def _cast(program: Program, value: int) -> str | None:
    """Return the dtype of an input that a `Cast` alone reads, where it says what comes in."""
    reading = [step.operation for step in program.steps if value in step.reads]
    if len(reading) > 1 or value in program.outputs:
        return None
    layers = [operation.layer for operation in reading if isinstance(operation, Foreign)]
    return next((layer.source for layer in layers if isinstance(layer, Cast)), None)


def _channel_axis(program: Program, value: int) -> int:
    """Return where the channels of an input are, counted with the batch: last, unless a transposition brings others there."""
    turns = [step.operation for step in program.steps if value in step.reads and isinstance(step.operation, Transpose)]
    return turns[0].axes[-1] if turns else -1
