"""What every test may use: the profile of hypothesis, and the fixtures `isa` and `threads` that each kernel test runs over."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# Read by OpenMP when it is loaded: threads without work sleep, so that several test processes do not spin against each other.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import fastconv
from fastconv import _kernels

# A fixture stays as it is for all examples of a test: `isa` and `threads` are meant to.
settings.register_profile(
    "fastconv", deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.register_profile("ci", settings.get_profile("fastconv"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "fastconv")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with tests that take long come first, so that no processor has a long one left when the others are done."""
    long = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture(params=_kernels.usable_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test with the kernels of each instruction set that was built and that this processor offers."""
    before = _kernels.isa
    _kernels.use(request.param)
    yield request.param
    _kernels.use(before)


@pytest.fixture(params=[1, 2, 3, 4])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Run the test on 1 to 4 threads; here even the smallest work is worth one."""
    monkeypatch.setattr("fastconv.threads.WORTH_A_THREAD", 1)
    with fastconv.num_threads(request.param):
        yield request.param
