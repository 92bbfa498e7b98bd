"""The harness and the calls that it times: each runs once, in fastconv alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import __main__, groups, ours, report, turns
from benchmarks.case import Case, Engine, draw
from benchmarks.cases import conv, linear, pool, up
from benchmarks.turns import Turns, block

#: One case of each operation, dimension and activation in the table, on tiny images.
TINY = {
    (case.op, case.name, len(case.size)): replace(case, size=(16,) * len(case.size), batch=2)
    for tasks in groups.select(batches=[1]).values()
    for case, _ in tasks
    if case.groups == 1 and case.op != "network"
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", TINY.values(), ids=str)
def test_every_pass_of_every_operation_can_be_called(case, dtype):
    kernel = tuple(min(k, 5) for k in case.kernel)
    case = replace(case, channels=4, outputs=min(case.outputs, 4), kernel=kernel)
    for way in groups.ways_of(case):
        result = ours.prepare(Engine("fastconv", dtype=dtype), case, way)()
        arrays = [array for array in (result if isinstance(result, tuple) else (result,)) if array is not None]
        assert arrays and all(array.dtype == dtype for array in arrays)
        if way == "forward":
            assert arrays[0].shape == case.output_shape
        if way in ("backward", "backward_input"):
            assert arrays[0].shape == case.input_shape


@pytest.mark.parametrize("way", ["inference", "step"])
def test_a_network_can_be_called(way):
    ours.prepare(Engine("fastconv"), Case("network", (28, 28), 1, 10, name="lenet", batch=2), way)()


def test_gradients_are_computed_one_by_one_or_together():
    for case in (conv(6, 2, 3), up(6, 2, 3, 2), linear(2, 3)):
        results = {way: ours.prepare(Engine("fastconv"), case, way)() for way in groups.GRADIENTS}
        dx, dweight, _ = results["backward"]
        np.testing.assert_array_equal(results["backward_input"][0], dx)
        np.testing.assert_array_equal(results["backward_weight"][1], dweight)
        assert results["backward_input"][1] is None and results["backward_weight"][0] is None


def test_a_block_does_not_count_its_first_calls():
    calls = []
    took = block(lambda: calls.append("call"), 0.0, before=lambda: calls.append("before"))
    assert calls == ["call"] * turns.WARM_UP + ["before", "call"]
    assert len(took) == 1


def test_arrays_are_drawn_the_same_for_everybody():
    first = draw((2, 3), np.float32)
    np.testing.assert_array_equal(first, draw((2, 3), np.float32))
    assert not np.array_equal(first, draw((2, 3), np.float32, seed=1))


def test_engines_measure_in_processes_of_their_own():
    engines = [Engine("fastconv"), Engine("fastconv", isa="baseline", dtype="float64")]
    with Turns(engines, rounds=2, seconds=0.0) as measuring:
        timings = measuring.measure(pool(8, 4), "forward")
        assert set(timings) == set(engines)
        assert all(0 < timing.least <= timing.median and timing.calls == 2 for timing in timings.values())
        with pytest.raises(RuntimeError, match=r"failed at 1 x 8x8 unheard_of.*AttributeError"):
            measuring.measure(replace(pool(8, 4), op="activation", kernel=(), name="unheard_of"), "forward")
        assert measuring.measure(pool(8, 4), "forward", only=engines[0]).keys() == {engines[0]}


def test_the_environment_holds_both_libraries_to_an_instruction_set():
    held = turns.variables(Engine("torch", isa="avx2", threads=2))
    assert held["ONEDNN_MAX_CPU_ISA"] == "AVX2" and held["FASTCONV_ISA"] == "avx2" and held["OMP_NUM_THREADS"] == "2"


def test_one_command_measures_and_writes(tmp_path, capsys):
    words = "cases --groups small --networks LeNet --batches 1 --passes forward --threads 1 --rounds 1 --seconds 0"
    command = [*words.split(), "--against", "baseline", "--output", str(tmp_path / "out")]
    __main__.main([*command, "--limit", "0"])
    assert "the time is over" in capsys.readouterr().out
    __main__.main(command)
    results, machine = report.load(tmp_path / "out.json")
    assert {result.case for result in results} >= {"1 x 28x28 conv 1 -> 6 5x5", "1 rows linear 84 -> 10"}
    assert all(
        result.ours > 0 and result.share > 0 and list(result.others) == ["float32 baseline"] for result in results
    )
    assert machine["against"] == "fastconv, baseline"
    capsys.readouterr()
    __main__.main([*command, "--resume"])
    assert capsys.readouterr().out.startswith("\n0 cases")
    assert report.load(tmp_path / "out.json")[0] == results


def test_a_dry_run_says_how_long(capsys):
    __main__.main(["cases", "--quick", "--dry-run"])
    out = capsys.readouterr().out
    assert "cases on 1 thread(s), about" in out and "cases on 2 thread(s), about" in out


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("case", TINY.values(), ids=str)
def test_both_libraries_are_asked_for_the_same(case, layout):
    pytest.importorskip("torch")
    from benchmarks import theirs

    case = replace(case, channels=4, outputs=min(case.outputs, 4), kernel=tuple(min(k, 5) for k in case.kernel))
    for way in groups.ways_of(case):
        call = theirs.prepare(Engine("torch", layout), case, way)
        if call is None:
            assert layout == "channels_last" and len(case.size) < 2
            continue
        results = [ours.prepare(Engine("fastconv"), case, way)(), call()]
        first, second = (
            [r for r in (result if isinstance(result, tuple) else (result,)) if r is not None] for result in results
        )
        assert sum(array.size for array in first[:1]) == sum(tensor.numel() for tensor in second[:1])


def test_both_libraries_train_the_same_networks():
    pytest.importorskip("torch")
    from benchmarks.theirs_networks import BUILDERS
    from fastconv import networks

    for name, build in BUILDERS.items():
        model = networks.create(name, (32, 32, 3), 10)
        model.build((32, 32, 3), rng=np.random.default_rng(0))
        theirs = sorted(parameter.numel() for parameter in build(3, 32, 10).parameters())
        assert sorted(array.size for array in model.params.values()) == theirs, name
