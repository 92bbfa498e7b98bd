"""A plan bound to memory: what a call of a frozen model runs in."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastconv import _kernels
from fastconv._kernels._memory import empty
from fastconv.frozen.foreign import Foreign
from fastconv.frozen.program import Step
from fastconv.functional.calls import Call, View
from fastconv.layers.symbol import Shape
from fastconv.threads import get_num_threads, threads_for

if TYPE_CHECKING:
    from fastconv.frozen.plan import Plan


class Taker(NamedTuple):
    """Where an array outside of the arena goes: a place among arguments, the shape and size there, which of how many images,
    from which element.
    """

    args: list[Any]
    place: int
    shape: Shape
    size: int
    images: slice | None
    batch: int
    start: int


class Workspace:
    """A plan bound to memory: a list of kernels and their arguments. One call at a time may use it.

    Arguments that are not arrays of the arena (inputs, outputs, what layers of others made) are filled in at each call.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.arena = empty((plan.arena_bytes,), np.dtype(np.uint8))
        self._threads = 0
        self._works: list[tuple[list[Any], int]] = []
        # value: who takes it, of layers of others, and of kernels
        self._foreign_takers: dict[int, list[Taker]] = {}
        self._takers: dict[int, list[Taker]] = {}
        self._made: dict[int, np.ndarray] = {}
        self.calls: list[tuple[Callable[..., Any], list[Any]]] = []
        self.steps: list[int] = []  # the step of each call
        for portion in plan.portions:
            for images in portion.parts(plan.batch):
                for at in range(portion.first, portion.end):
                    if plan.steps[at].bands:
                        self._bind_bands(at, images or slice(0, plan.shapes[plan.steps[at].step.writes[0]][0]))
                    else:
                        self._bind_step(at, images)
        both = (self._takers, self._foreign_takers)
        given = [(value, [taker for takers in both for taker in takers.get(value, ())]) for value in range(plan.inputs)]
        self._inputs = [(value, takers) for value, takers in given if takers]
        self._outputs = [
            (root, plan.shapes[root], [taker for takers in both for taker in takers.get(root, ())]) for root in plan.own
        ]
        self._filled = [taker[:2] for takers in both for each in takers.values() for taker in each]
        self._results = list(self._find_results())

    def _bind_step(self, at: int, images: slice | None) -> None:
        step, *_ = self._plan.steps[at]
        if isinstance(step.operation, Foreign):
            views = tuple(View(value, self._plan.shapes[value]) for value in step.reads)
            self._bind(at, Call("layer", partial(self._run_foreign, step), views), self._foreign_takers, None, 0)
        for call in self._plan.steps[at].calls:
            self._bind(at, call, self._takers, images, images.start if images else 0)

    def _bind_bands(self, at: int, images: slice) -> None:
        """Bind two steps in turn, band by band of one image after the other: where the first of them is."""
        if at not in self._plan.banded:
            return
        bands = list(zip(*(self._plan.steps[place].bands for place in (at, at + 1)), strict=True))
        for image in range(images.start, images.stop):
            for band in bands:
                for place, calls in enumerate(band, at):
                    for call in calls:
                        self._bind(place, call, self._takers, slice(image, image + 1), images.start)

    def _bind(self, at: int, call: Call, takers: dict[int, list[Taker]], images: slice | None, part: int) -> None:
        """Bind a call for some images, None for all; `part` is the first one of those that its portion takes at a time."""
        plan = self._plan
        args: list[Any] = []
        for place, argument in enumerate(call.args):
            if not isinstance(argument, View):
                args.append(argument)
                continue
            root = plan.root(argument.value)
            if root in plan.places:
                offset = plan.places[root] + argument.start * plan.dtype.itemsize
                if images is not None and root not in plan.buffers:
                    before = images.start - (part if root in plan.images_within else 0)
                    offset += before * plan.bytes_of_an_image(argument.value)
                args.append(np.ndarray(argument.whole_shape, plan.dtype, self.arena, offset))
            else:
                args.append(None)
                batch, shape = plan.shapes[argument.value][0], argument.whole_shape
                taker = Taker(args, place, shape, math.prod(shape), images, batch, argument.start)
                takers.setdefault(root, []).append(taker)
        if call.work is not None:
            args.append(1)
            self._works.append((args, call.work))
        self.calls.append((call.kernel, args))
        self.steps.append(at)

    def run(self, xs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the outputs for inputs `xs`, C contiguous and of the plan's shapes."""
        self.prepare(xs)
        for kernel, args in self.calls:
            kernel(*args)
        return self.results(xs)

    def prepare(self, xs: Sequence[np.ndarray]) -> None:
        """Fill in the inputs, new arrays for the outputs, and the number of threads."""
        threads = get_num_threads()
        if threads != self._threads:
            for args, work in self._works:
                args[-1] = threads_for(work)
            self._threads = threads
        if threads > 1:
            _kernels.keep_apart(threads)
        for value, takers in self._inputs:
            _give(takers, xs[value])
        dtype = self._plan.dtype
        for root, shape, takers in self._outputs:
            y = self._made[root] = empty(shape, dtype)
            _give(takers, y)

    def results(self, xs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the outputs, each an array of its own."""
        results = []
        for root, shape, copies in self._results:
            array = self._made[root] if root in self._made else xs[root]
            if shape is not None:
                array = array.reshape(shape)
            results.append(array.copy() if copies else array)
        return results

    def _find_results(self) -> Iterator[tuple[int, Shape | None, bool]]:
        """Yield, of each output, the value whose array it is, its shape if it is another, and whether it is a copy."""
        plan, given = self._plan, set[int]()
        for value in plan.outputs:
            root = plan.root(value)
            yield root, plan.shapes[value] if root != value else None, root in given or root < plan.inputs
            given.add(root)

    def forget(self) -> None:
        """Let go of the arrays of the last call."""
        for args, place in self._filled:
            args[place] = None
        self._made.clear()

    def _run_foreign(self, step: Step, *xs: np.ndarray) -> None:
        plan, operation = self._plan, step.operation
        assert isinstance(operation, Foreign)
        made = operation.run(*xs)
        if len(made) != len(step.writes):
            raise ValueError(
                f"in {step.label}: forward must return {len(step.writes)} outputs, as output_shape says, got {len(made)}"
            )
        for value, y in zip(step.writes, made, strict=True):
            if y.shape != plan.shapes[value] and not plan.may_differ(step, value):
                raise ValueError(
                    f"in {step.label}: forward returned an array of shape {y.shape}, and output_shape says {plan.shapes[value]}"
                )
            # what shares memory with the arena will be overwritten, and an input belongs to the caller
            shared = any(np.may_share_memory(y, x) for x in (self.arena, *xs))
            self._made[value] = y = y.copy() if shared else y
            _give(self._foreign_takers.get(value, ()), y)
            if value in self._takers:
                _give(self._takers[value], _as_floats(y, plan.dtype, step))


def _give(takers: Sequence[Taker], array: np.ndarray) -> None:
    """Fill in an array where it goes."""
    for args, place, shape, size, images, batch, start in takers:
        part = array
        if images is not None:
            part = (array if len(array) == batch else array.reshape(batch, -1))[images]
        if part.shape != shape:
            whole = part if part.size == size else part.reshape(-1)[start : start + size]
            part = whole.reshape(shape)
        args[place] = part


def _as_floats(y: np.ndarray, dtype: np.dtype[Any], step: Step) -> np.ndarray:
    if y.dtype.kind != "f":
        raise TypeError(f"the next layer takes a float32 or float64 array, and {step.label} returned {y.dtype}")
    return np.ascontiguousarray(y, dtype)
