"""fastconv.cython_api as the compiled code of another package uses it: with every instruction set, from one build."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import fastconv
from fastconv import reference

pytest.importorskip("Cython")
if not shutil.which("cc"):
    pytest.skip("no C compiler", allow_module_level=True)

SOURCE = Path(__file__).with_name("cython_consumer.pyx")
PAGE = Path(__file__).resolve().parents[1] / "docs" / "writing-a-layer.md"

BUILD = """
    import sys
    from Cython.Build import cythonize
    from setuptools import Extension, setup
    import fastconv

    include = [fastconv.get_include()]
    extensions = [Extension(name, [f"{name}.pyx"], include_dirs=include) for name in ("cython_consumer", "from_the_docs")]
    setup(ext_modules=cythonize(extensions, language_level=3), script_args=["-q", "build_ext", "--inplace"])
"""


@pytest.fixture(scope="module")
def consumer(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The module of ``cython_consumer.pyx``, built for plain processors as anybody would."""
    folder = tmp_path_factory.mktemp("consumer")
    (folder / SOURCE.name).write_text(SOURCE.read_text())
    (shown,) = re.findall(r"^```cython\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (folder / "from_the_docs.pyx").write_text(shown)
    (folder / "setup.py").write_text(textwrap.dedent(BUILD))
    environment = os.environ | {"PYTHONPATH": str(Path(fastconv.__file__).parents[1]), "CFLAGS": "-O1"}
    done = subprocess.run([sys.executable, "setup.py"], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return load("cython_consumer", folder)


def load(name: str, folder: Path) -> ModuleType:
    (path,) = (path for path in folder.iterdir() if path.name.startswith(f"{name}.") and path.suffix == ".so")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_example_of_the_documentation(consumer: ModuleType) -> None:
    example = load("from_the_docs", Path(consumer.__file__ or "").parent)
    a, b = draw((5, 300), np.float32), draw((300, 7), np.float32, 1)
    y = np.empty((5, 7), np.float32)
    example.matmul(a, b, y)
    close(y, a.astype(np.float64) @ b)


def draw(shape: tuple[int, ...], dtype: Any, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def close(found: np.ndarray, expected: np.ndarray) -> None:
    limit = 1e-5 if found.dtype == np.float32 else 1e-12
    np.testing.assert_allclose(found, expected, rtol=0, atol=limit * max(1.0, float(np.abs(expected).max(initial=0))))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_table_is_that_of_the_instruction_set_in_use(consumer: ModuleType, isa: str, dtype: Any) -> None:
    described = fastconv._kernels.modules[np.dtype(dtype)].describe()
    told = consumer.describe(np.ones(1, dtype))
    assert told["version"] == 1
    assert told["tile"] == described["tile"]
    assert told["lanes"] * np.dtype(dtype).itemsize == described["vector_bytes"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("m", "n", "k"), [(1, 1, 1), (13, 33, 289), (230, 65, 7), (15, 1, 600), (5, 3, 0), (0, 3, 4), (3, 0, 4)]
)
def test_matmul(consumer: ModuleType, isa: str, threads: int, dtype: Any, m: int, n: int, k: int) -> None:
    a, b, bias = draw((max(m, 1), k + 2), dtype), draw((k, n), dtype, 1), draw((max(n, 1),), dtype, 2)
    expected = a[:m, :k].astype(np.float64) @ b
    for transposed in (False, True):
        right = np.ascontiguousarray(b.T) if transposed else b
        right = right if right.size else np.zeros((n, 1) if transposed else (1, n), dtype)
        if not right.size:
            continue
        y = np.full((m, n + 1), 7, dtype)
        if not y.size:
            continue
        consumer.matmul(a, right, None, y, k, transposed, threads)
        close(y[:, :n], expected)
        assert (y[:, n] == 7).all()
        consumer.matmul(a, right, bias, y, k, transposed, threads)
        close(y[:, :n], expected + bias[:n])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("m", "n", "k"), [(1, 1, 1), (700, 33, 40), (4500, 3, 5), (3, 130, 300)])
def test_matmul_transposed(consumer: ModuleType, isa: str, threads: int, dtype: Any, m: int, n: int, k: int) -> None:
    a, b = draw((m, k), dtype), draw((m, n), dtype, 1)
    y = np.full((k, n + 1), 7, dtype)
    consumer.matmul_transposed(a, b, y, threads)
    close(y[:, :n], a.astype(np.float64).T @ b)
    assert (y[:, n] == 7).all()
    again = np.empty_like(y)
    consumer.matmul_transposed(a, b, again, 1)
    np.testing.assert_array_equal(again[:, :n], y[:, :n])


@pytest.mark.parametrize(
    ("stride", "before", "dilation", "groups", "kernel", "channels", "outputs"),
    [
        (1, 1, 1, 1, 3, 5, 33),
        (2, 0, 1, 1, 3, 3, 8),
        (1, 2, 2, 2, 3, 4, 6),
        (3, 4, 1, 1, 7, 40, 17),
        (1, 0, 1, 1, 1, 8, 2),
    ],
)
def test_conv_and_its_parts(
    consumer: ModuleType,
    isa: str,
    stride: int,
    before: int,
    dilation: int,
    groups: int,
    kernel: int,
    channels: int,
    outputs: int,
) -> None:
    for dtype in (np.float32, np.float64):
        x = draw((2, 11, 9, channels), dtype)
        weight, bias = draw((kernel, kernel, channels // groups, outputs), dtype, 1), draw((outputs,), dtype, 2)
        options = {"stride": stride, "padding": before, "dilation": dilation, "groups": groups}
        expected = reference.conv(x.astype(np.float64), weight.astype(np.float64), **options)
        y = np.empty(expected.shape, dtype)
        consumer.conv(x, weight, None, y, stride, before, dilation, groups, 3)
        close(y, expected)
        consumer.conv(x, weight, bias, y, stride, before, dilation, groups, 2)
        close(y, expected + bias)
        if groups == 1:
            parts = np.full_like(y, np.nan)
            consumer.conv_by_tiles(x, weight, parts, stride, before, dilation)
            close(parts, expected)


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_parallel_runs_each_task_once(consumer: ModuleType, threads: int, count: int) -> None:
    y = np.zeros(count)
    consumer.squares(y, threads)
    np.testing.assert_array_equal(y, np.arange(count, dtype=np.float64) ** 2)


def test_the_number_of_threads_is_fastconvs(consumer: ModuleType) -> None:
    with fastconv.num_threads(3):
        assert consumer.threads_for(10**9) == 3
        assert consumer.threads_for(10) == 1


def test_an_instruction_set_is_chosen_when_fastconv_is_imported(consumer: ModuleType, tmp_path: Path) -> None:
    program = (
        "import sys; sys.path[:0] = sys.argv[1:]; import numpy, cython_consumer as c; print(c.describe(numpy.ones(1)))"
    )
    folder = Path(consumer.__file__ or "").parent
    for isa in fastconv._kernels.usable_isas():
        environment = os.environ | {"PYTHONPATH": str(Path(fastconv.__file__).parents[1]), "FASTCONV_ISA": isa}
        command = [sys.executable, "-c", program, str(folder)]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        module = fastconv._kernels.load(isa)[np.dtype(np.float64)]
        assert f"'tile': {module.describe()['tile']}" in done.stdout


def test_versions_that_do_not_fit() -> None:
    from fastconv import cython_api

    cython_api.check(1)
    with pytest.raises(
        ImportError, match=r"compiled for version 2 of fastconv.cython_api, .* has version 1: upgrade fastconv"
    ):
        cython_api.check(2)
    with pytest.raises(
        ImportError, match=r"compiled for version 0 .* supports versions 1 to 1: upgrade the package that it"
    ):
        cython_api.check(0)


def test_the_headers_are_where_get_include_says() -> None:
    include = Path(fastconv.get_include())
    assert (include / "fastconv" / "api.h").is_file()
    source = '#include "fastconv/simd.h"\nint lanes(void) { vec v = broadcast(2); return v[0] * LANES; }\n'
    command = ["cc", "-std=gnu11", f"-I{include}", "-DFASTCONV_REAL=double", "-x", "c", "-", "-fsyntax-only"]
    done = subprocess.run(command, input=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
