"""Schedules: their values at the times that matter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastconv.training import Cosine, OneCycle, ReduceOnPlateau, Schedule, StepDecay


def test_step_decay() -> None:
    schedule = StepDecay(0.5, every=10, factor=0.1)
    assert [schedule(time) for time in (0, 9.99, 10, 25)] == pytest.approx([0.5, 0.5, 0.05, 0.005])
    schedule = StepDecay(0.5, every=[2, 3], factor=0.5)
    assert [schedule(time) for time in (0, 2, 2.5, 3, 99)] == pytest.approx([0.5, 0.25, 0.25, 0.125, 0.125])


def test_cosine() -> None:
    schedule = Cosine(0.2, length=11, warmup=1, final=0.02)
    assert [schedule(time) for time in (0, 0.5, 1, 6, 11, 50)] == pytest.approx([0, 0.1, 0.2, 0.11, 0.02, 0.02])
    times = np.linspace(1, 11, 50)
    assert (np.diff([schedule(time) for time in times]) < 0).all()
    assert Cosine(0.1, length=5)(0) == pytest.approx(0.1)
    assert Cosine(0.1, length=2, warmup=2)(2) == pytest.approx(0)


def test_one_cycle() -> None:
    schedule = OneCycle(1.0, length=10)
    assert [schedule(time) for time in (0, 1.5, 3, 6.5, 10)] == pytest.approx([0.04, 0.52, 1, 0.500005, 1e-5])
    assert OneCycle(1.0, length=10, rise=0)(0) == pytest.approx(1)
    assert OneCycle(0.3, length=4, rise=0.5, start_divisor=3, final_divisor=30)(4) == pytest.approx(0.01)


def test_the_length_is_that_of_fit_unless_given() -> None:
    schedule = Cosine(0.1)
    with pytest.raises(ValueError, match=r"Cosine\(peak=0.1, length=None.*\) needs length"):
        schedule(1)
    schedule.epochs = 4
    assert schedule(2) == pytest.approx(0.05)
    given = Cosine(0.1, length=2)
    given.epochs = 4
    assert given(2) == pytest.approx(0)


def plateau(values: list[float], **options: Any) -> list[float]:
    schedule = ReduceOnPlateau(1.0, factor=0.5, patience=1, **options)
    rates = []
    for value in values:
        schedule.observe({schedule.monitor: value})
        rates.append(schedule(0))
    return rates


def test_reduce_on_plateau() -> None:
    assert plateau([3, 2, 2, 2, 2, 2, 1]) == [1, 1, 1, 0.5, 0.5, 0.25, 0.25]
    assert plateau([3, 2.99995, 2.99992, 2.5]) == [1, 1, 0.5, 0.5]
    assert plateau([0.1, 0.2, 0.3, 0.3, 0.3], monitor="val_accuracy") == [1, 1, 1, 1, 0.5]
    assert plateau([3, 4, 5, 6], monitor="score", mode="max") == [1, 1, 1, 1]
    assert plateau([1, 1, 1, 1, 1, 1, 1], minimum=0.3) == [1, 1, 0.5, 0.5, 0.3, 0.3, 0.3]
    assert plateau([1, float("nan"), float("nan")]) == [1, 1, 0.5]


def test_its_state_goes_on() -> None:
    first, second = ReduceOnPlateau(1.0, patience=1), ReduceOnPlateau(1.0, patience=1)
    for value in (2.0, 2.0):
        first.observe({"val_loss": value})
    second.load_state_dict(first.state_dict())
    for schedule in (first, second):
        schedule.observe({"val_loss": 2.0})
        assert schedule(0) == pytest.approx(0.1)


def test_a_result_that_is_not_there() -> None:
    with pytest.raises(
        ValueError, match=r"no result 'val_loss' to monitor; the epoch has 'loss' \(val_... needs valid"
    ):
        ReduceOnPlateau(0.1).observe({"loss": 1.0})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StepDecay(0, every=1), "rate must be a number greater than 0, got 0"),
        (lambda: StepDecay(1, every=0), "every must be a number greater than 0"),
        (lambda: StepDecay(1, every=(3, 2)), r"every must be a number or increasing times, got \(3, 2\)"),
        (lambda: Cosine(0.1, warmup=-1), "warmup must be a number at least 0"),
        (lambda: Cosine(0.1, length=0), "length must be a number greater than 0"),
        (lambda: OneCycle(0.1, rise=1), "rise must be a number at least 0 and below 1"),
        (lambda: ReduceOnPlateau(0.1, factor=1), "factor must be a number at least 0 and below 1"),
        (lambda: ReduceOnPlateau(0.1, mode="low"), 'mode must be "min", "max" or None, got \'low\''),
        (lambda: ReduceOnPlateau(0.1, patience=-1), "patience must be at least 0"),
    ],
)
def test_arguments(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_schedule_of_ones_own() -> None:
    class Half(Schedule):
        def __call__(self, time: float) -> float:
            return 0.5**time

    assert Half()(2) == 0.25 and Half().state_dict() == {}
    with pytest.raises(NotImplementedError, match="Schedule must define __call__"):
        Schedule()(0)
