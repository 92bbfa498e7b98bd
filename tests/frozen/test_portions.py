"""Large batches go a few images at a time through steps whose images are large and whose weights are small."""

from __future__ import annotations

import numpy as np
import pytest
from frozen_cases import trained
from hypothesis import assume, given
from hypothesis import strategies as st

import fastconv
from fastconv import layers as L
from fastconv.frozen import portions as module
from fastconv.frozen.plan import Plan
from fastconv.frozen.portions import Portion, portions
from fastconv.frozen.program import Program
from fastconv.frozen.unweighted import Concat
from fastconv.sequential import Sequential
from fastconv.testing import strategies


def planned(model, batch):
    program = fastconv.freeze(trained(model)).program
    shapes = program.shapes(*((batch, *shape) for shape in program.input_shapes))
    return portions(program.steps, shapes, batch, program.dtype.itemsize)


def narrow(size, channels, *more):
    body = [L.Conv2d(channels, 1), L.DepthwiseConv2d(3, padding=1), L.Conv2d(8, 1)]
    return Sequential([*body, *more], input_shape=(size, size, 8))


def test_large_images_go_one_by_one_and_small_ones_together():
    assert planned(narrow(128, 64), 8) == [Portion(0, 3, 1)]
    assert planned(narrow(32, 64), 8) == [Portion(0, 3)]
    assert planned(narrow(32, 64), 64) == [Portion(0, 3, 8)]


def test_one_image_is_whole():
    assert planned(narrow(256, 64), 1) == [Portion(0, 3)]


def test_a_batch_without_a_divisor_near_what_would_do_is_whole():
    assert planned(narrow(32, 64), 61) == [Portion(0, 3)]
    assert planned(narrow(128, 64), 61) == [Portion(0, 3, 1)]


def test_small_steps_go_along_only_in_between_and_large_weights_end_a_run():
    assert planned(narrow(128, 64, L.MaxPool2d(128), L.Conv2d(16, 1)), 8) == [Portion(0, 3, 1), Portion(3, 5)]
    more = L.Flatten(), L.Linear(4)
    assert planned(narrow(128, 64, *more), 8)[-1].images is None


def test_parts_are_all_of_the_batch():
    assert Portion(0, 3, 2).parts(6) == [slice(0, 2), slice(2, 4), slice(4, 6)]
    assert Portion(0, 3).parts(6) == [None]


@pytest.fixture
def everything_is_far(monkeypatch):
    monkeypatch.setattr(module, "FAR", 0)
    monkeypatch.setattr(module, "SMALL", 0)
    monkeypatch.setattr(module, "SHORTEST", 2)
    monkeypatch.setattr(module, "MUCH", 1 << 40)
    monkeypatch.setattr(module, "ALIKE", 1 << 40)


@pytest.mark.parametrize("served", [1, 1 << 12, 1 << 14])
@pytest.mark.usefixtures("everything_is_far")
def test_a_batch_in_parts_gives_what_its_images_give(served, monkeypatch):
    monkeypatch.setattr(module, "SERVED", served)

    @given(strategies.models(depth=8), st.sampled_from([2, 3, 4]))
    def gives(model, batch):
        frozen = fastconv.freeze(trained(model))
        rng = np.random.default_rng(0)
        xs = [rng.standard_normal((batch, *shape)).astype(frozen.dtype) for shape in frozen.input_shapes]
        whole = frozen(*xs)
        for image in range(batch):
            one = frozen(*(x[image : image + 1] for x in xs))
            for all_of, of_one in zip(_listed(whole), _listed(one), strict=True):
                scale = abs(of_one).max(initial=1)
                assert abs(all_of[image : image + 1] - of_one).max(initial=0) <= 1e-4 * scale

    gives()


@pytest.mark.usefixtures("everything_is_far")
def test_what_lives_at_once_lies_apart_in_every_part(monkeypatch):
    """Each step writes its number and an image's into its output; whoever reads finds what was written last for it."""
    monkeypatch.setattr(module, "SERVED", 1)

    @given(strategies.models(depth=8))
    def apart(model):
        program: Program = fastconv.freeze(trained(model)).program
        plan = Plan(program, [(4, *shape) for shape in program.input_shapes])
        assume(not any(isinstance(step.operation, Concat) for step in program.steps))  # parts of them lie in them
        arena = np.full(plan.arena_bytes, -1, np.int64)
        written: dict[tuple[int, int], int] = {}
        for portion in plan.portions:
            for part in portion.parts(plan.batch):
                images = part or slice(0, plan.batch)
                for at in range(portion.first, portion.end):
                    step, read_shapes, *_ = plan.steps[at]
                    if step.operation.is_view(*read_shapes):
                        for image in range(images.start, images.stop):
                            written[step.writes[0], image] = written.get((step.reads[0], image), -1)
                        continue
                    for value in step.reads:
                        for image in range(images.start, images.stop):
                            if plan.root(value) in plan.places:
                                assert (arena[_span(plan, value, image, images)] == written[value, image]).all()
                    for value in step.writes:
                        for image in range(images.start, images.stop):
                            written[value, image] = 100 * at + image
                            if plan.root(value) in plan.places:
                                arena[_span(plan, value, image, images)] = 100 * at + image

    apart()


def _span(plan, value, image, images):
    root = plan.root(value)
    each = plan.bytes_of_an_image(root)
    start = plan.places[root] + each * (image - images.start if root in plan.images_within else image)
    return slice(start, start + each)


def _listed(outputs):
    return outputs if isinstance(outputs, tuple) else (outputs,)
