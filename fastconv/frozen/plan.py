"""A program planned for inputs of one shape: every kernel call and the memory of every value.

A `Plan` is shared by all threads and never changes. Who runs it takes a `Workspace`: the plan bound to a block of memory of its
own, which nobody else uses meanwhile, and goes back into the pool afterwards.
"""

from __future__ import annotations

import itertools
import math
import mmap
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fastconv import _kernels
from fastconv.frozen.bands import banded
from fastconv.frozen.blocks import Block, blocks
from fastconv.frozen.foreign import Foreign
from fastconv.frozen.memory import Life, arrange
from fastconv.frozen.places import parts_in_place
from fastconv.frozen.portions import Portion, portions
from fastconv.frozen.program import Program, Step
from fastconv.frozen.workspace import Workspace
from fastconv.functional.calls import Call, View
from fastconv.functional.frozen_weight import use_all
from fastconv.layers.symbol import Shape

#: Workspaces that a plan keeps for calls to come; more calls than this at once make theirs anew.
MOST_WORKSPACES = 8

#: Bytes of a workspace that is made before somebody calls: a model of images of any size may never meet those of its plan.
MOST_READY = 1 << 26


class StepPlan(NamedTuple):
    """A step with the shapes it meets and the calls that do it; a layer of others has none.

    What goes over bands of lines has its calls for each of them, for one image.
    """

    step: Step
    read_shapes: tuple[Shape, ...]
    write_shapes: tuple[Shape, ...]
    calls: tuple[Call, ...]
    bands: tuple[tuple[Call, ...], ...] = ()


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
        places = parts_in_place(program, self.shapes, read)
        #: Of each value what a call gets: an array, or some channels of one.
        self.views = {value: View(value, shape) for value, shape in self.shapes.items()} | places
        self.steps = [self._planned(step, portion) for step, portion in zip(program.steps, met, strict=True)]
        self.banded = banded(program, self.shapes, met, self.dtype.itemsize, places)
        for at in self.banded:
            self._plan_bands(at)
        #: Values of which no more lines are stored than a band needs: their lines.
        self.buffers = {self.steps[at].step.writes[0]: pair.lines for at, pair in self.banded.items()}
        self.blocks = blocks(program, self.shapes, met, self.dtype.itemsize, self.buffers.keys() | places.keys())
        #: Steps that the last one of their block does, which stores nothing of them.
        self.within = {at: block.last for block in self.blocks.values() for at in range(block.first, block.last)}
        for block in self.blocks.values():
            self._plan_block(block, met[block.first])
        self.buffers |= {self.steps[at].step.writes[0]: 0 for at in self.within}
        self._roots = self._find_roots({value: view.value for value, view in self.views.items()})
        self.own = self._outputs_of_their_own()
        self.images_within = self._find_images_within()
        self.places, self.arena_bytes = self._arrange()
        self._pool: list[Workspace] = []

    def _planned(self, step: Step, portion: Portion) -> StepPlan:
        """Return a step with the calls that do it for as many images as its portion takes at a time."""
        read, made = (tuple(self.shapes[value] for value in values) for values in (step.reads, step.writes))
        calls: Sequence[Call] = ()
        if not step.operation.is_view(*read) and not isinstance(step.operation, Foreign):
            reads, writes = (
                [portion.view(self.views[value]) for value in values] for values in (step.reads, step.writes)
            )
            calls = step.operation.calls(_kernels.modules[self.dtype], reads, writes)
        return StepPlan(step, read, made, tuple(calls))

    def _plan_bands(self, at: int) -> None:
        """Let two steps go over bands of the lines of an image."""
        conv, pooling = (self.steps[at + i].step for i in (0, 1))
        of_an_image = {
            value: self.views[value]._replace(shape=(1, *self.shapes[value][1:]))
            for value in (*conv.reads, *conv.writes, *pooling.writes)
        }
        reads, (made,), (pooled,) = (
            [of_an_image[each] for each in of] for of in (conv.reads, conv.writes, pooling.writes)
        )
        calls = self.banded[at].calls(_kernels.modules[self.dtype], reads, made, pooled)
        for place, of_step in enumerate(calls, at):
            self.steps[place] = self.steps[place]._replace(calls=(), bands=tuple(of_step))

    def _plan_block(self, block: Block, portion: Portion) -> None:
        """Let the last step of a block do all of it."""
        steps = [each.step for each in self.steps[block.first : block.last + 1]]
        *reads, (y,) = (
            [portion.view(self.views[value]) for value in values]
            for values in (*(step.reads for step in steps), steps[-1].writes)
        )
        calls = tuple(block.calls(_kernels.modules[self.dtype], reads, y))
        for at in range(block.first, block.last + 1):
            self.steps[at] = self.steps[at]._replace(calls=calls if at == block.last else ())

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
        return layer is not None and layer.traits.counts and all(value not in each.reads for each, *_ in self.steps)

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
        if all(portion.images is None for portion in self.portions):
            return {}
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
                # what goes into bands, or comes out, is there from the first band to the last
                begin, end = at - (at - 1 in self.banded), self.within.get(at, at + (at in self.banded))
                for value in (*self.steps[at].step.reads, *self.steps[at].step.writes):
                    root = self.root(value)
                    # and so is what goes into parts, or comes out
                    whole = portion.images is not None and root not in self.images_within
                    first.setdefault(root, portion.first if whole else begin)
                    last[root] = portion.end - 1 if whole else end
        for value in self.outputs:
            last[self.root(value)] = len(self.steps)
        self._write_in_place(outside, last)
        for value, root in self._roots.items():
            first[root] = min(first.get(root, len(self.steps)), first.get(value, len(self.steps)))
            last[root] = max(last.get(root, -1), last.get(value, -1))
        roots = sorted({root for root in self._roots.values() if root not in outside})
        lives = [Life(self._bytes_in_arena(root), first[root], last[root]) for root in roots]
        offsets, total = arrange(lives)
        return dict(zip(roots, offsets, strict=True)), total

    def _write_in_place(self, outside: set[int], last: dict[int, int]) -> None:
        """Let operations that may do so write over an input that nobody reads any more."""
        within: dict[int, list[int]] = {}  # root: the values in its memory
        for each, root in self._roots.items():
            within.setdefault(root, []).append(each)
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
                within[root] += within[value]
                for each in within.pop(value):
                    self._roots[each] = root
                break

    def _bytes_in_arena(self, root: int) -> int:
        if root in self.buffers:
            return self.bytes_of_an_image(root) // self.shapes[root][1] * self.buffers[root]
        return self.images_within.get(root, self.shapes[root][0]) * self.bytes_of_an_image(root)

    def bytes_of_an_image(self, value: int) -> int:
        """Return the bytes that a value takes for each image of the batch."""
        return math.prod(self.shapes[value][1:]) * self.dtype.itemsize

    def make_ready(self) -> None:
        """Pack the weights and make a workspace, all of whose pages the system has handed out: the first call does not wait."""
        for step in self.steps:
            for call in itertools.chain(step.calls, *step.bands):
                use_all(call.args)
        if self.arena_bytes <= MOST_READY:
            workspace = self.workspace()
            workspace.arena[:: mmap.PAGESIZE] = 0
            self.give_back(workspace)

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
