"""Tables, JSON, Markdown and the chart, from timings that nobody measured."""

from __future__ import annotations

import json

import pytest

from benchmarks import __main__, report
from benchmarks.report import Result

MACHINE = {"processor": "none", "versions": "none"}

RESULTS = [
    Result(
        "3x3", "one", "forward", 1, "VGG-16", 1e-3, {"contiguous": 4e-3, "channels_last": 2e-3}, 10**8, 0, 2e11, 1e10
    ),
    Result("3x3", "two", "forward", 1, "VGG-16", 1e-3, {"contiguous": 8e-3}, 10**8, 0, 2e11, 1e10),
    Result("norm", "three", "backward", 1, "", 2e-6, {"contiguous": 1e-6}, 0, 10**4, 2e11, 1e10),
    Result("3x3", "one", "forward", 2, "VGG-16", 1e-3, {"contiguous": 1e-3}, 10**8, 0, 4e11, 1e10),
]


def test_the_better_alternative_counts():
    assert RESULTS[0].ratio == 2.0
    assert RESULTS[0].share == 0.5
    assert RESULTS[2].share == 0.5
    assert RESULTS[2].slow and not RESULTS[3].slow
    assert not RESULTS[2]._replace(against="avx2").slow


def test_a_row_says_it_all():
    assert report.row(RESULTS[0]) == ("one", "forward", "1.00", "2.00 ch", "100 GFLOP/s", "50%", "2.00")
    assert report.row(RESULTS[2]) == ("three", "backward", "0.0020", "0.0010 co", "5 GB/s", "50%", "0.50 *")


def test_the_summary_has_means_and_targets():
    lines = report.summary(RESULTS, 1).splitlines()
    assert [cell.strip() for cell in lines[2].split("|")[2:-1]] == ["compute", "2", "4.00", "2.50", "yes", "2.00", "0"]
    assert [cell.strip() for cell in lines[3].split("|")[2:-1]] == ["memory", "1", "0.50", "1.20", "no", "0.50", "1"]
    assert len({len(line) for line in lines}) == 1


def test_results_are_written_and_read(tmp_path, capsys):
    report.write(tmp_path / "all", RESULTS, MACHINE)
    assert report.load(tmp_path / "all.json") == (RESULTS, MACHINE)
    assert json.loads((tmp_path / "all.json").read_text())["machine"] == MACHINE
    text = (tmp_path / "all.md").read_text()
    assert "## 1 thread\n" in text and "## 2 threads\n" in text and "| three " in text
    assert (tmp_path / "all.png").stat().st_size > 10_000


def test_several_runs_make_one_report(tmp_path, capsys):
    report.save(tmp_path / "a.json", RESULTS[:3], MACHINE)
    report.save(tmp_path / "b.json", [RESULTS[0]._replace(ours=4e-3), RESULTS[3]], MACHINE)
    files = [str(tmp_path / name) for name in ("a.json", "b.json")]
    __main__.main(["report", *files, "--worst", "2", "--output", str(tmp_path / "both")])
    results, _ = report.load(tmp_path / "both.json")
    assert len(results) == 4
    assert results[0].ours == 4e-3  # the last run counts
    assert "lowest ratios" in capsys.readouterr().out


def test_runs_on_different_machines_are_not_mixed(tmp_path):
    report.save(tmp_path / "a.json", RESULTS, MACHINE)
    report.save(tmp_path / "b.json", RESULTS, MACHINE | {"processor": "another"})
    with pytest.raises(SystemExit, match="measured differently"):
        __main__.main(["report", str(tmp_path / "a.json"), str(tmp_path / "b.json")])
