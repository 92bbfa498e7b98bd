"""The collector of circles waits and goes on."""

from __future__ import annotations

import gc

import pytest

from fastconv.collector import collector_waits


def test_it_waits_and_goes_on_after_errors_too() -> None:
    assert gc.isenabled()
    with pytest.raises(ValueError, match="inside"), collector_waits():
        assert not gc.isenabled()
        raise ValueError("inside")
    assert gc.isenabled()


def test_one_within_another_leaves_it_at_rest() -> None:
    @collector_waits()
    def inner() -> None:
        """Do nothing."""

    with collector_waits():
        inner()
        assert not gc.isenabled()
    assert gc.isenabled() and inner.__doc__ == "Do nothing."


def test_who_had_it_off_keeps_it_off() -> None:
    gc.disable()
    try:
        with collector_waits():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
