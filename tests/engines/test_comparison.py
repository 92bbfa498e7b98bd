"""Engines in turn: with engines that only sleep, so that what comes out is known."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the onnx package is not installed")

from fastconv.engines import Comparison, Engine, EngineError, Measured, Network, compare
from fastconv.engines.comparison import largest_difference
from fastconv.engines.process import EngineProcess

FAKES = str(Path(__file__).with_name("fake_openers.py"))
OURS = Engine("fastconv", program=FAKES)


@pytest.fixture
def network(tmp_path: Path) -> Network:
    (tmp_path / "net.onnx").write_bytes(b"no engine here reads it")
    return Network("net", tmp_path / "net.onnx", {"x": np.ones((2, 3), np.float32)}, {})


def fake(name: str, **settings: object) -> Engine:
    return Engine(name, 1, tuple(settings.items()), FAKES)


def test_each_engine_is_measured(network: Network) -> None:
    team = [OURS, fake("slow", spinning=True), fake("slow", spinning=False), fake("silent")]
    found = compare(network, team, rounds=2, seconds=0.0, starts=2)
    assert (found.network, found.batch, found.threads, found.difference) == ("net", 2, 1, 0.0)
    assert [each.engine for each in found.engines] == ["fastconv", "slow", "silent"]
    ours, slow, _ = found.engines
    assert 0.002 <= ours.least <= ours.seconds and ours.calls == 2 and ours.settings == ""
    assert slow.seconds >= 0.004 and slow.settings == "spinning"  # the faster of its two settings
    assert min(ours.load, ours.first, ours.import_) > 0 and ours.first >= 0.002
    assert 0 < ours.before <= ours.peak
    assert found.best is found.engines[2] and found.ratio == found.best.seconds / ours.seconds
    assert found.errors == []
    assert 0 <= found.disturbance <= 1 or math.isnan(found.disturbance)


def test_they_work_in_turn_and_the_first_calls_do_not_count(network: Network, tmp_path: Path) -> None:
    log = str(tmp_path / "log")
    found = compare(network, [fake("fastconv", log=log), fake("slow", log=log)], rounds=3, seconds=0.0, starts=1)
    calls = [(pid, float(begin), float(end)) for pid, begin, end in map(str.split, Path(log).read_text().splitlines())]
    pids = list(dict.fromkeys(pid for pid, _, _ in calls))
    assert len(pids) == 2
    begins, ends = zip(*sorted((begin, end) for _, begin, end in calls), strict=True)
    assert all(end <= begin for end, begin in zip(ends, begins[1:], strict=False))  # never two at once
    order = [pid for pid, _, _ in calls]
    turn = 1 + 3  # a call to time after three that warm up
    assert order == [
        pids[0],
        pids[1],
        *[pids[0]] * turn,
        *[pids[1]] * 2 * turn,
        *[pids[0]] * 2 * turn,
        *[pids[1]] * turn,
    ]
    assert [each.calls for each in found.engines] == [3, 3]


def test_each_start_is_a_fresh_process(network: Network, tmp_path: Path) -> None:
    log = tmp_path / "log"
    compare(network, [fake("fastconv", log=str(log))], rounds=1, seconds=0.0, starts=3)
    pids = [line.split()[0] for line in log.read_text().splitlines()]
    assert len(set(pids)) == 3 and len(pids) == 3 + 4  # the last one stays for its turn


def test_slow_calls_have_fewer_turns(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastconv.engines.comparison.SLOW", 0.001)
    (ours,) = compare(network, [OURS], rounds=9, seconds=0.0, starts=1).engines
    assert ours.calls == 3


def test_engines_that_fail_do_not_stop_the_others(network: Network) -> None:
    found = compare(network, [OURS, fake("refusing"), fake("dying"), fake("slow")], rounds=2, seconds=0.0, starts=1)
    assert [bool(each.error) for each in found.engines] == [False, True, True, False]
    assert found.errors == [
        "refusing: ValueError: it does not like this file",
        "dying: its process ended with code 3: out of luck",
    ]
    assert found.best is not None and found.best.engine == "slow"


def test_a_setting_that_fails_is_not_the_best(network: Network) -> None:
    team = [OURS, fake("choosy", spinning=False), fake("choosy", spinning=True)]
    found = compare(network, team, rounds=1, seconds=0.0, starts=1)
    assert found.errors == [] and found.best is not None and found.best.settings == "spinning"


def test_without_figures_of_ours_there_is_no_ratio(network: Network) -> None:
    found = compare(network, [fake("refusing"), fake("slow")], rounds=1, seconds=0.0, starts=1)
    assert found.ratio is None and found.best is None and len(found.others) == 1
    alone = compare(network, [OURS], rounds=1, seconds=0.0, starts=1)
    assert alone.ratio is None and alone.difference == 0.0


def test_outputs_are_compared(network: Network) -> None:
    assert compare(network, [OURS, fake("wrong")], rounds=1, seconds=0.0, starts=1).difference == pytest.approx(1 / 3)


def test_what_happens_is_told(network: Network) -> None:
    told: list[str] = []
    compare(network, [OURS, fake("slow")], rounds=1, seconds=0.0, starts=2, progress=told.append)
    loading = [
        "fastconv: loading, 1 of 2",
        "slow: loading, 1 of 2",
        "slow: loading, 2 of 2",
        "fastconv: loading, 2 of 2",
    ]
    assert told == [*loading, "fastconv: turn 1 of 1", "slow: turn 1 of 1"]


def test_a_comparison_survives_json() -> None:
    found = Comparison("net", 8, 2, (Measured("fastconv", seconds=1.0), Measured("other", error="no")), 0.5, 0.25)
    assert Comparison.from_dict(json.loads(json.dumps(found.as_dict()))) == found
    assert found.ratio is None
    unknown = found._replace(difference=math.inf, disturbance=math.nan)
    written = json.dumps(unknown.as_dict(), allow_nan=False)
    read = Comparison.from_dict(json.loads(written))
    assert math.isnan(read.difference) and math.isnan(read.disturbance) and read.engines == found.engines


def test_differences_of_outputs() -> None:
    zeros, ones = np.zeros(2), np.ones(2, np.float32)
    assert largest_difference([[zeros, ones], [zeros, ones]]) == 0.0
    assert largest_difference([[ones], [ones], [0.5 * ones]]) == 0.5
    assert largest_difference([[ones], [np.ones(3)]]) == math.inf
    assert math.isnan(largest_difference([[ones], [np.array([1.0, math.nan])]]))
    assert largest_difference([[np.zeros(0)], [np.zeros(0)]]) == 0.0


def test_a_process_says_why_it_cannot_and_ends() -> None:
    with EngineProcess(OURS) as process:
        with pytest.raises(EngineError, match="AttributeError: 'Worker' object has no attribute 'dance'"):
            process.ask("dance")
        assert process.ask("memory")["peak"] > 1e6
        with pytest.raises(EngineError, match="FileNotFoundError"):
            process.ask("start", program="/no/such/program.py", function="open_it", threads=1, settings={})
    with pytest.raises(ValueError, match="closed"):
        process.ask("memory")


def test_names_of_engines() -> None:
    assert str(fake("slow", spinning=False, channels_last=True)) == "slow not spinning channels last"
