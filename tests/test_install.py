"""fastconv as others get it: the sdist, the wheel that is built from it, and an environment with nothing else in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import fastconv

ROOT = Path(__file__).resolve().parents[1]
MEGABYTE = 1_000_000
#: Where somebody built the sdist, and the wheel from it, for these tests and others: it takes minutes.
BUILT = os.environ.get("FASTCONV_DIST")


def run(*command: object, cwd: Path, timeout: float = 1800, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command outside the checkout, with no trace of it in the environment; fail with what it printed."""
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    result = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert result.returncode == 0, f"{command}\n{result.stdout[-4000:]}\n{result.stderr[-4000:]}"
    return result


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip where pip reaches no package index: a build environment of its own cannot be set up there."""
    folder = tmp_path_factory.mktemp("index")
    probe = subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), "setuptools>=77"],
        capture_output=True,
        text=True,
    )
    if probe.returncode:
        pytest.skip(f"pip reaches no package index: {probe.stderr.strip()[-200:]}")


@pytest.fixture(scope="module")
def sdist(index: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, built from a copy of the checkout without anything that was built in it before."""
    if BUILT:
        (archive,) = Path(BUILT).glob("*.tar.gz")
        return archive
    folder = tmp_path_factory.mktemp("sdist")
    leftovers = shutil.ignore_patterns(".*", "build", "dist", "runs", "*.egg-info", "*.so", "*.c", "__pycache__")
    shutil.copytree(ROOT, folder / "checkout", ignore=leftovers)
    run(sys.executable, "-m", "build", "--sdist", "--outdir", folder / "dist", folder / "checkout", cwd=folder)
    (archive,) = (folder / "dist").iterdir()
    return archive


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that is built from the sdist alone."""
    if BUILT:
        (path,) = Path(BUILT).glob("*.whl")
        return path
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, sdist, cwd=folder)
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts of an environment that holds the wheel and its hard dependencies, nothing more."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    run(folder / "bin" / "python", "-m", "pip", "install", "-q", wheel, cwd=folder)
    return folder / "bin"


@pytest.mark.slow
def test_sdist_holds_the_sources_and_nothing_that_was_built(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for needed in (
        "setup.py",
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "fastconv/_kernels/tile.pxi",
        "fastconv/_kernels/simd.h",
    ):
        assert needed in names
    assert not [name for name in names if name.endswith((".so", ".c", ".pyc", ".o"))]


@pytest.mark.slow
def test_wheel_is_small_and_holds_what_runs(wheel: Path) -> None:
    assert wheel.stat().st_size <= 4 * MEGABYTE
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for needed in (
        "fastconv/py.typed",
        "fastconv/cython_api.pxd",
        "fastconv/include/fastconv/api.h",
        "fastconv/include/fastconv/simd.h",
        "fastconv/_kernels/simd.h",
        "fastconv/cli/template/pyproject.toml.in",
        "fastconv/cli/template/_dot_gitignore.in",
        "fastconv/cli/template/_dot_github/workflows/test.yml.in",
        "fastconv/cli/template/src/__MODULE__/layers.py.in",
    ):
        assert needed in names
    assert any(name.startswith("fastconv/data/embedded/") and "NOTICE" in name for name in names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if name.endswith((".c", ".o", ".html", ".pyc"))]
    assert not [name for name in names if not name.startswith("fastconv")], "only the package itself"
    expected = {"fastconv", "fastconv_pytest.py", f"fastconv-{fastconv.__version__}.dist-info"}
    assert {name.partition("/")[0] for name in names} == expected


@pytest.mark.slow
def test_installed_alone_it_trains_without_the_extras(installed: Path, tmp_path: Path) -> None:
    info = run(installed / "fastconv", "info", cwd=tmp_path)
    assert fastconv.__version__ in info.stdout
    train = run(installed / "fastconv", "train", "--epochs", "1", "--out", "run", "--model", "lenet", cwd=tmp_path)
    assert "pip install 'fastconv[plot]'" in train.stdout + train.stderr
    assert (tmp_path / "run" / "model.safetensors").is_file()
    assert not list((tmp_path / "run").glob("*.png"))
    again = run(installed / "python", "-m", "fastconv", "evaluate", "run", cwd=tmp_path)
    assert "accuracy" in again.stdout


@pytest.mark.slow
def test_every_instruction_set_of_this_machine_is_in_the_wheel(installed: Path, tmp_path: Path) -> None:
    code = "from fastconv import _kernels as k; print(set(k.offered_isas()) - set(k.built_isas()), k.isa)"
    assert run(installed / "python", "-c", code, cwd=tmp_path).stdout.startswith("set()")


def test_the_tests_import_the_installed_package_and_not_the_checkout(tmp_path: Path) -> None:
    """`pytest` in a checkout, where fastconv is installed elsewhere, must not find the sources, whose kernels are not built."""
    pytest_script = Path(sys.executable).with_name("pytest")
    if not pytest_script.exists():
        pytest.skip("no pytest script beside the interpreter")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "fastconv").mkdir()
    (tmp_path / "fastconv" / "__init__.py").write_text("raise RuntimeError('the checkout was imported')\n")
    (tmp_path / "tests").mkdir()
    expected = Path(fastconv.__file__).resolve()
    (tmp_path / "tests" / "test_where.py").write_text(
        "import pathlib, fastconv\n"
        f"def test_where():\n    assert pathlib.Path(fastconv.__file__).resolve() == pathlib.Path({str(expected)!r})\n"
    )
    environment = dict(os.environ)
    if "site-packages" not in expected.parts:  # this run itself uses the checkout, built in place
        environment["PYTHONPATH"] = str(expected.parents[1])
    result = subprocess.run(
        [str(pytest_script), "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
