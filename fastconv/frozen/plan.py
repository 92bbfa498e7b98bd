"""A program for inputs of one shape: every call of a kernel decided, every value at its place.

A `Plan` is shared by all threads and never changes. Who runs it takes a `Workspace`: the plan bound to a block of memory of its
own, which nobody else uses meanwhile, and goes back into the pool afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from fastconv import _kernels
from fastconv._kernels._memory import empty
from fastconv.frozen.foreign import Foreign
from fastconv.frozen.memory import Life, arrange
from fastconv.frozen.places import parts_in_place
from fastconv.frozen.portions import Portion, portions
from fastconv.frozen.program import Program, Step
from fastconv.functional.calls import Call, View
from fastconv.layers.symbol import Shape
from fastconv.threads import get_num_threads, threads_for

#: Workspaces that a plan keeps for calls to come; more calls than this at once make theirs anew.
MOST_WORKSPACES = 8


class StepPlan(NamedTuple):
    """A step with the shapes it meets and the calls that do it; a layer of others has none."""

    step: Step
    read_shapes: tuple[Shape, ...]
    write_shapes: tuple[Shape, ...]
    calls: tuple[Call, ...]


class Taker(NamedTuple):
    """Where an array outside of the arena goes: a place among arguments, the shape there, and which images of it."""

    args: list[Any]
    place: int
    shape: Shape
    images: slice | None


class Plan:
    """A program for inputs of these shapes (with the batch), on the instruction set and with the precision of this moment."""

    def __init__(self, program: Program, input_shapes: Sequence[Shape]) -> None:
        self.dtype = program.dtype
        self.shapes = program.shapes(*map(tuple, input_shapes))
        self.inputs = len(input_shapes)
        self.outputs = program.outputs
        self.batch = input_shapes[0][0] if input_shapes else 0
        self.portions = portions(program.steps, self.shapes, self.batch, self.dtype.itemsize)
        met = [portion for portion in self.portions for _ in range(portion.first, portion.end)]
        read = [
            [portion.shape(self.shapes[value]) for value in step.reads]
            for step, portion in zip(program.steps, met, strict=True)
        ]
        views = {value: View(value, shape) for value, shape in self.shapes.items()}
        views.update(parts_in_place(program, self.shapes, read))
        self.steps = [self._planned(step, portion, views) for step, portion in zip(program.steps, met, strict=True)]
        self._roots = self._find_roots({value: view.value for value, view in views.items()})
        self.own = self._outputs_of_their_own()
        self.images_within = self._find_images_within()
        self.places, self.arena_bytes = self._arrange()
        self._pool: list[Workspace] = []

    def _planned(self, step: Step, portion: Portion, views: dict[int, View]) -> StepPlan:
        """Return a step with the calls that do it for as many images as its portion takes at a time."""
        read, made = (tuple(self.shapes[value] for value in values) for values in (step.reads, step.writes))
        calls: Sequence[Call] = ()
        if not step.operation.is_view(*read) and not isinstance(step.operation, Foreign):
            reads, writes = (
                [views[value]._replace(shape=portion.shape(views[value].shape)) for value in values]
                for values in (step.reads, step.writes)
            )
            calls = step.operation.calls(_kernels.modules[self.dtype], reads, writes)
        return StepPlan(step, read, made, tuple(calls))

    def _find_roots(self, roots: dict[int, int]) -> dict[int, int]:
        """Return, for each value, the value in whose memory it is; `roots` knows of parts of concatenations."""
        for step, read, *_ in self.steps:
            if step.operation.is_view(*read):
                roots[step.writes[0]] = roots[step.reads[0]]
        return roots

    def root(self, value: int) -> int:
        """Return the value in whose memory a value is."""
        return self._roots[value]

    def may_differ(self, step: Step, value: int) -> bool:
        """Return whether the shape of what a layer makes may depend on the numbers: as many places as were found."""
        layer = step.operation.layer if isinstance(step.operation, Foreign) else None
        return layer is not None and layer.traits.discrete and all(value not in each.reads for each, *_ in self.steps)

    def foreign(self) -> set[int]:
        """Return the values that layers of others make."""
        return {value for step, *_ in self.steps if isinstance(step.operation, Foreign) for value in step.writes}

    def _outputs_of_their_own(self) -> dict[int, int]:
        """Return the values that are written into an output: value to number of the output. The other outputs are copies."""
        own: dict[int, int] = {}
        elsewhere = self.foreign() | set(range(self.inputs))
        for number, value in enumerate(self.outputs):
            root = self.root(value)
            if root not in elsewhere:
                own.setdefault(root, number)
        return own

    def _find_images_within(self) -> dict[int, int]:
        """Return the roots that only a portion in parts knows, and how many images of them there are at a time."""
        users: dict[int, set[Portion]] = {}
        for portion in self.portions:
            for step, *_ in self.steps[portion.first : portion.end]:
                for value in (*step.reads, *step.writes):
                    users.setdefault(self.root(value), set()).add(portion)
        outside = {*range(self.inputs), *map(self.root, self.outputs)}
        alone = {root: next(iter(of)) for root, of in users.items() if len(of) == 1 and root not in outside}
        return {root: portion.images for root, portion in alone.items() if portion.images is not None}

    def _arrange(self) -> tuple[dict[int, int], int]:
        """Return the offset of each value that lies in the arena, and the bytes of the arena."""
        outside = set(range(self.inputs)) | set(self.own) | self.foreign()
        first: dict[int, int] = {}
        last: dict[int, int] = {}
        for portion in self.portions:
            for at in range(portion.first, portion.end):
                for value in (*self.steps[at].step.reads, *self.steps[at].step.writes):
                    root = self.root(value)
                    # what goes into parts, or comes out, is there from the first part to the last
                    whole = portion.images is not None and root not in self.images_within
                    first.setdefault(root, portion.first if whole else at)
                    last[root] = portion.end - 1 if whole else at
        for value in self.outputs:
            last[self.root(value)] = len(self.steps)
        self._write_in_place(outside, last)
        for value, root in self._roots.items():
            first[root] = min(first.get(root, len(self.steps)), first.get(value, len(self.steps)))
            last[root] = max(last.get(root, -1), last.get(value, -1))
        roots = sorted({root for root in self._roots.values() if root not in outside})
        images = [self.images_within.get(root, self.shapes[root][0]) for root in roots]
        lives = [
            Life(count * self.bytes_of_an_image(root), first[root], last[root])
            for root, count in zip(roots, images, strict=True)
        ]
        offsets, total = arrange(lives)
        return dict(zip(roots, offsets, strict=True)), total

    def _write_in_place(self, outside: set[int], last: dict[int, int]) -> None:
        """Let operations that may do so write over an input that nobody reads any more."""
        for at, (step, *_) in enumerate(self.steps):
            if not step.operation.in_place or self.root(step.writes[0]) in outside:
                continue
            (value,) = step.writes
            for read in step.reads[:2]:  # a third factor is read when the output is already written
                root = self.root(read)
                if root in outside or last[root] != at or self.shapes[read] != self.shapes[value]:
                    continue
                if self.images_within.get(root) != self.images_within.get(value):
                    continue
                last[root] = max(last[root], last[value])
                for each, of in self._roots.items():
                    if of == value:
                        self._roots[each] = root
                break

    def bytes_of_an_image(self, value: int) -> int:
        """Return the bytes that a value takes for each image of the batch."""
        return math.prod(self.shapes[value][1:]) * self.dtype.itemsize

    def run(self, xs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return new arrays with the outputs for inputs that have been checked."""
        workspace = self.workspace()
        try:
            return workspace.run(xs)
        finally:
            self.give_back(workspace)

    def workspace(self) -> Workspace:
        """Return a workspace from the pool, or a new one."""
        try:
            return self._pool.pop()
        except IndexError:
            return Workspace(self)

    def give_back(self, workspace: Workspace) -> None:
        """Put a workspace into the pool."""
        workspace.forget()
        if len(self._pool) < MOST_WORKSPACES:
            self._pool.append(workspace)


class Workspace:
    """A plan bound to memory: a list of kernels and their arguments. One call at a time may use it.

    Arguments that are no array of the arena (inputs, outputs, what layers of others made) are filled in at each call.
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
                    self._bind_step(at, images)
        self._outputs = [(number, plan.shapes[root]) for root, number in plan.own.items()]
        self._own = {number: root for root, number in plan.own.items()}

    def _bind_step(self, at: int, images: slice | None) -> None:
        step, *_, calls = self._plan.steps[at]
        if isinstance(step.operation, Foreign):
            views = tuple(View(value, self._plan.shapes[value]) for value in step.reads)
            self._bind(at, Call("layer", partial(self._run_foreign, step), views), self._foreign_takers, None)
        for call in calls:
            self._bind(at, call, self._takers, images)

    def _bind(self, at: int, call: Call, takers: dict[int, list[Taker]], images: slice | None) -> None:
        args: list[Any] = []
        for place, argument in enumerate(call.args):
            if not isinstance(argument, View):
                args.append(argument)
                continue
            root = self._plan.root(argument.value)
            if root in self._plan.places:
                offset = self._plan.places[root]
                if images is not None and root not in self._plan.images_within:
                    offset += images.start * self._plan.bytes_of_an_image(root)
                args.append(np.ndarray(argument.whole_shape, self._plan.dtype, self.arena, offset))
            else:
                args.append(None)
                takers.setdefault(root, []).append(Taker(args, place, argument.whole_shape, images))
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
        for value, x in enumerate(xs):
            self._give(self._takers, value, x)
            self._give(self._foreign_takers, value, x)
        dtype = self._plan.dtype
        for number, shape in self._outputs:
            y = empty(shape, dtype)
            self._made[self._own[number]] = y
            self._give(self._takers, self._own[number], y)
            self._give(self._foreign_takers, self._own[number], y)

    def _give(self, takers: dict[int, list[Taker]], value: int, array: np.ndarray) -> None:
        for args, place, shape, images in takers.get(value, ()):
            part = array if images is None else array[images]
            args[place] = part if part.shape == shape else part.reshape(shape)

    def results(self, xs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the outputs, each an array of its own."""
        plan, results, given = self._plan, [], set()
        for value in plan.outputs:
            root, shape = plan.root(value), plan.shapes[value]
            array = xs[root] if root < plan.inputs else self._made[root]
            if root != value:
                array = array.reshape(shape)
            results.append(array.copy() if root in given or root < plan.inputs else array)
            given.add(root)
        return results

    def forget(self) -> None:
        """Let go of the arrays of the last call."""
        for takers in (*self._takers.values(), *self._foreign_takers.values()):
            for args, place, *_ in takers:
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
            self._give(self._foreign_takers, value, y)
            if value in self._takers:
                self._give(self._takers, value, _as_floats(y, plan.dtype, step))


def _as_floats(y: np.ndarray, dtype: np.dtype[Any], step: Step) -> np.ndarray:
    if y.dtype.kind != "f":
        raise TypeError(f"the next layer takes a float32 or float64 array, and {step.label} returned {y.dtype}")
    return np.ascontiguousarray(y, dtype)
