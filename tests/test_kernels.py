"""The variants of the kernels: all are there, each is what it says, each runs, and the choice among them is clear."""

from __future__ import annotations

import inspect
import os
import platform
import re
from pathlib import Path

import numpy as np
import pytest
from operations import OPERATIONS, recorded
from programs import run_program

from fastconv import _kernels, functional
from fastconv._kernels import _cpu
from fastconv._kernels.protocol import Kernels

VECTOR_BYTES = {"baseline": 16, "avx2": 32, "avx512": 64}
CHECKOUT = Path(__file__).parents[1] / "fastconv/_kernels"  # whose sources every variant is built from


def kernels_of(module):
    """Return the names of the public functions of a kernel module."""
    return {name for name, value in vars(module).items() if callable(value) and not name.startswith("_")}


def written_kernels():
    """Return the kernels in the sources, which modules keep no signatures of: name to names of parameters and docstring."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in CHECKOUT.glob("*.pxi"))
    found = re.findall(r'^def (\w+)\(([^)]*)\):\n    """(.+)', text, re.MULTILINE)
    return {
        name: ([each.split()[-1] for each in re.sub(r"\[[^]]*\]", "", written).split(",") if each.strip(" \n/")], says)
        for name, written, says in found
    }


def test_every_variant_is_built():
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    assert _kernels.built_isas() == (list(_kernels.ISAS) if x86 else ["baseline"])
    assert _kernels.offered_isas()[0] == "baseline"
    assert set(_kernels.offered_isas()) <= set(_kernels.ISAS)


def test_kernels_of_which_the_processor_lacks_instructions_are_not_usable(monkeypatch):
    monkeypatch.setattr(_kernels, "built_isas", lambda: ["baseline", "avx2", "avx512"])
    monkeypatch.setattr(_kernels, "offered_isas", lambda: ["baseline", "avx2"])
    assert _kernels.usable_isas() == ["baseline", "avx2"]


def test_every_variant_has_its_stub():
    stubs = {path.stem for path in CHECKOUT.glob("_*_f??.pyx")}
    assert stubs == {f"_{isa}_{dtype}" for isa in _kernels.ISAS for dtype in ("f32", "f64")}
    assert {path.read_text() for path in CHECKOUT.glob("_*_f??.pyx")} == {'include "kernels.pxi"\n'}


def test_the_package_says_what_every_file_is_for():
    files = {path.name for ending in ("*.pxi", "*.h", "*.pyx") for path in CHECKOUT.glob(ending)}
    variants = {path.name for path in CHECKOUT.glob("_*_f??.pyx")}
    named = set(re.findall(r"``(\w+\.\w+)``", str(_kernels.__doc__)))
    assert files - variants <= named
    assert named - {"setup.py"} <= files | {path.name for path in CHECKOUT.glob("*.py")}


def test_a_variant_is_what_its_name_says(isa):
    for dtype, module in _kernels.modules.items():
        assert module.__name__ == f"fastconv._kernels._{isa}_f{8 * dtype.itemsize}"
        described = module.describe()
        assert described["vector_bytes"] == VECTOR_BYTES[isa]
        rows, columns = described["tile"]
        assert columns * dtype.itemsize == 2 * VECTOR_BYTES[isa]
        assert rows >= 2
        assert described["openmp"] == _kernels.has_openmp


def test_every_variant_has_the_kernels_of_the_protocol(isa):
    methods = {
        name: [parameter for parameter in inspect.signature(method).parameters if parameter != "self"]
        for name, method in vars(Kernels).items()
        if inspect.isfunction(method) and not name.startswith("_")
    }
    assert {name: parameters for name, (parameters, _) in written_kernels().items()} == methods
    for module in _kernels.modules.values():
        assert kernels_of(module) == set(methods)


#: What a variant is, what it lends to other packages, and the yardstick of the benchmarks.
NOT_OPERATIONS = {"describe", "api", "keep_apart", "multiply_add_peak"}

#: Run by tests/training/test_optimizers.py and tests/layers/test_dropout.py; those of frozen models by
#: tests/functional/test_calls.py and tests/frozen/test_blocks.py; those of Huber's loss, joined channels and detectors by
#: tests/functional/test_huber.py, test_channels.py and test_boxes.py.
ELSEWHERE = {
    *("sgd_step", "adam_step", "rmsprop_step", "dropout"),
    *("activated_sum", "prelu_forward", "conv_frozen", "packed_items", "pack_weight", "mobile_block"),
    *("transpose", "pick_channels", "copy_columns", "join_columns"),
    *("local_response_norm", "keep_boxes", "huber"),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_kernel_of_every_variant_runs(isa, dtype):
    ran = set()
    for operation in OPERATIONS:
        with recorded() as calls:
            operation.run(operation.arrays(dtype))
        ran |= {name for name, _ in calls}
    assert ran == kernels_of(_kernels.modules[np.dtype(dtype)]) - NOT_OPERATIONS - ELSEWHERE


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_yardstick_multiplies_and_adds_as_often_as_it_says(isa, dtype):
    kernels = _kernels.modules[np.dtype(dtype)]
    lanes = kernels.describe()["vector_bytes"] // np.dtype(dtype).itemsize
    y = np.zeros((3, 12 * lanes), dtype)
    kernels.multiply_add_peak(y, 3, 2)
    np.testing.assert_array_equal(y, 1.75)  # ((0 / 2 + 1) / 2 + 1) / 2 + 1


def test_kernels_say_what_they_compute():
    assert {name for name, (_, says) in written_kernels().items() if says} == kernels_of(
        _kernels.modules[np.dtype(np.float32)]
    )


@pytest.mark.parametrize(
    ("wanted", "built", "offered", "chosen"),
    [
        (None, ["baseline", "avx2", "avx512"], ["baseline", "avx2", "avx512"], "avx512"),
        ("", ["baseline", "avx2", "avx512"], ["baseline", "avx2"], "avx2"),
        (None, ["baseline"], ["baseline", "avx2"], "baseline"),
        ("baseline", ["baseline", "avx2"], ["baseline", "avx2"], "baseline"),
        ("avx2", ["baseline", "avx2", "avx512"], ["baseline", "avx2", "avx512"], "avx2"),
    ],
)
def test_the_best_usable_one_is_chosen_or_the_one_wanted(wanted, built, offered, chosen):
    assert _kernels.choose_isa(wanted, built, offered) == chosen


@pytest.mark.parametrize(
    ("wanted", "built", "offered", "message"),
    [
        ("avx", ["baseline"], ["baseline"], "FASTCONV_ISA must be one of baseline, avx2, avx512, got 'avx'"),
        ("AVX2", ["baseline", "avx2"], ["baseline", "avx2"], "FASTCONV_ISA must be one of .*got 'AVX2'"),
        (
            "avx512", ["baseline", "avx2", "avx512"], ["baseline", "avx2"],
            "FASTCONV_ISA=avx512: this processor does not offer it; usable here: baseline, avx2",
        ),
        (
            "avx2", ["baseline"], ["baseline", "avx2"],
            "FASTCONV_ISA=avx2: this installation has no kernels for it; usable here: baseline",
        ),
        (None, [], ["baseline"], "this installation of fastconv has no kernels: install it again"),
    ],
)  # fmt: skip
def test_what_cannot_be_chosen_is_said_clearly(wanted, built, offered, message):
    with pytest.raises(ImportError, match=message):
        _kernels.choose_isa(wanted, built, offered)


def test_the_environment_forces_an_instruction_set(isa):
    code = (
        "import sys, numpy as np, fastconv\n"
        "from fastconv.functional import linear\n"
        "y = linear(np.ones((3, 4)), np.ones((4, 5)))\n"
        "assert (y == 4).all()\n"
        "modules = [name for name in sys.modules if name.endswith(('_f32', '_f64'))]\n"
        "print(fastconv._kernels.isa, *sorted(modules))"
    )
    done = run_program(code, FASTCONV_ISA=isa)
    assert done.stdout.split() == [isa, f"fastconv._kernels._{isa}_f32", f"fastconv._kernels._{isa}_f64"]


@pytest.mark.parametrize(
    "code",
    [
        "import fastconv.functional",
        "from fastconv import functional",
        "import fastconv; fastconv.functional",
        "import fastconv; fastconv.set_num_threads(1)",
        "from fastconv.layers import Conv2d",
    ],
)
def test_an_unknown_instruction_set_fails_at_the_first_import_that_needs_kernels(code):
    done = run_program(code, FASTCONV_ISA="sse9", check=False)
    assert done.returncode == 1
    assert re.search("ImportError: FASTCONV_ISA must be one of baseline, avx2, avx512, got 'sse9'", done.stderr)


def test_an_instruction_set_that_the_processor_lacks_fails_at_import():
    code = (
        # stands in for an older processor: the compiled module that asks it is replaced before fastconv is imported
        "import sys, types\n"
        "older = types.ModuleType('fastconv._kernels._cpu')\n"
        "older.offered_isas = lambda: ['baseline']\n"
        "sys.modules['fastconv._kernels._cpu'] = older\n"
        "from fastconv import _kernels\n"
        "print(_kernels.isa)"
    )
    done = run_program(code, FASTCONV_ISA="avx512", check=False)
    assert done.returncode == 1
    assert re.search(r"ImportError: FASTCONV_ISA=avx512: this .*; usable here: baseline\n", done.stderr)
    done = run_program(code)
    assert done.stdout.strip() == "baseline"


def test_use_switches_and_refuses(isa):
    assert _kernels.isa == isa
    with pytest.raises(ImportError, match="FASTCONV_ISA must be one of"):
        _kernels.use("neon")
    assert _kernels.isa == isa
    y = functional.linear(np.ones((2, 3), np.float32), np.ones((3, 2), np.float32))
    np.testing.assert_array_equal(y, np.full((2, 2), 3))


def test_idle_threads_go_to_sleep_soon_and_the_environment_stays_as_it_was(monkeypatch):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    with _kernels.short_waits():
        assert 1_000 <= int(os.environ["GOMP_SPINCOUNT"]) < 1_000_000
    assert "GOMP_SPINCOUNT" not in os.environ


def test_how_often_a_waiting_thread_looks_follows_the_time():
    assert _cpu.spins(0.0) == 100
    few, many = _cpu.spins(100.0), _cpu.spins(10_000.0)
    assert few % 100 == many % 100 == 0
    assert 1_000 <= few < many


@pytest.mark.parametrize("name, value", [("OMP_WAIT_POLICY", "active"), ("GOMP_SPINCOUNT", "7")])
def test_how_threads_wait_is_the_users_choice(monkeypatch, name, value):
    for other in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, value)
    before = dict(os.environ)
    with _kernels.short_waits():
        assert dict(os.environ) == before
    assert dict(os.environ) == before
