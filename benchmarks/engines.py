"""``python -m benchmarks engines``: frozen networks against ONNX Runtime, OpenVINO and PyTorch.

Each engine lives in a process of its own, and the processes take turns: ``fastconv bench`` measures one file the same way. Long
runs can be cut into pieces: ``--output NAME --resume --limit SECONDS`` goes on where the last run stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import engine_networks, engine_report, machine
from fastconv.engines import Comparison, Engine, compare, engines, network
from fastconv.engines.engine import OURS, others, version


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    names = engine_networks.NAMES
    parser.add_argument(
        "--networks", nargs="+", choices=names, default=names, metavar="NAME", help=f"of {', '.join(names)}"
    )
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8], help="images of a call (1 8)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    usual = ["onnxruntime", "openvino"]
    parser.add_argument("--engines", nargs="+", choices=others(), default=usual, help=f"{' '.join(usual)} unless given")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each engine (5)")
    parser.add_argument("--seconds", type=float, default=0.2, help="of a turn, at least one call (0.2)")
    parser.add_argument(
        "--starts", type=int, default=3, help="fresh processes of each engine, to load and call once (3)"
    )
    parser.add_argument(
        "--files", type=Path, metavar="FOLDER", help="keep the ONNX files there, or take them from there"
    )
    parser.add_argument("--output", type=Path, metavar="NAME", help="write NAME.json, NAME.md and NAME.png")
    parser.add_argument("--resume", action="store_true", help="keep what NAME.json has and measure the rest")
    parser.add_argument("--limit", type=float, metavar="SECONDS", help="begin nothing when the run has taken so long")


def run(options: argparse.Namespace) -> None:
    """Measure, print, write."""
    start, facts = time.perf_counter(), facts_of(options)
    results: list[Comparison] = []
    overheads: dict[str, float] = {}
    if options.output and options.resume and options.output.with_suffix(".json").exists():
        results, overheads, before = load(options.output.with_suffix(".json"))
        if before != facts:
            raise SystemExit(f"{options.output}.json was measured elsewhere ({before}); leave out --resume")
    teams = {threads: engines(options.engines, threads) for threads in options.threads}
    with tempfile.TemporaryDirectory() as folder:
        for name, batch, threads in missing(options, results):
            if options.limit is not None and time.perf_counter() - start > options.limit:
                print("the time is over: run again with --resume for the rest")
                break
            path = file_of(name, options.files or Path(folder))
            results.append(measured(name, path, batch, teams[threads], options, Path(folder)))
            print(engine_report.line(results[-1]), flush=True)
            if (name, batch) == ("lenet", 1):
                overheads[str(threads)] = overhead(path, threads)
            if options.output:
                save(options.output.with_suffix(".json"), results, overheads, facts)
    print(f"\n{engine_report.markdown(results, overheads, facts)}")
    if options.output and results:
        report = engine_report.markdown(results, overheads, facts)
        options.output.with_suffix(".md").write_text(report, encoding="utf-8")
        engine_report.chart(options.output.with_suffix(".png"), results)
        print(f"wrote {options.output}.json, .md and .png")


def missing(options: argparse.Namespace, results: list[Comparison]) -> list[tuple[str, int, int]]:
    """Return what is to be measured yet: network, batch, threads; one network after the other."""
    done = {(result.network, result.batch, result.threads) for result in results}
    wanted = [(n, batch, threads) for n in options.networks for batch in options.batches for threads in options.threads]
    return [each for each in wanted if each not in done]


def file_of(name: str, folder: Path) -> Path:
    """Return the file of a network in a folder, written if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.onnx"
    engine_networks.write(name, path)
    return path


def measured(
    name: str, path: Path, batch: int, team: list[Engine], options: argparse.Namespace, folder: Path
) -> Comparison:
    """Return what the engines take for a network."""
    return compare(
        network(path, folder, name=name, batch=batch),
        team,
        rounds=options.rounds,
        seconds=options.seconds,
        starts=options.starts,
    )


def overhead(path: Path, threads: int) -> float:
    """Return the seconds of a call of one sample that are spent outside of kernels."""
    import fastconv
    from fastconv.onnx import load

    with fastconv.num_threads(threads):
        return fastconv.freeze(load(path)).explain(repeats=200).overhead


def facts_of(options: argparse.Namespace) -> dict[str, str]:
    """Return the machine and the versions."""
    versions = [f"{name} {version(name)}" for name in (OURS, *options.engines)]
    return {
        "processor": f"{machine.processor()}, {os.cpu_count()} cores",
        "dtype": "float32",
        "versions": ", ".join([*versions, f"Python {platform.python_version()}"]),
    }


def save(path: Path, results: list[Comparison], overheads: dict[str, float], facts: dict[str, str]) -> None:
    """Write the results as JSON: what every other form is made from."""
    content = {"machine": facts, "overheads": overheads, "results": [result.as_dict() for result in results]}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def load(path: Path) -> tuple[list[Comparison], dict[str, float], dict[str, str]]:
    """Read what `save` wrote."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return [Comparison.from_dict(item) for item in content["results"]], content["overheads"], content["machine"]
