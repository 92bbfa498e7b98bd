"""The plugin packages under examples/, installed into a virtual environment as a user would, with their own tests."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from environments import LEFTOVERS, Environment

PLUGINS = Path(__file__).resolve().parents[1] / "examples" / "plugins"

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with both packages."""
    pytest.importorskip("Cython")
    folder = tmp_path_factory.mktemp("plugins")
    made = Environment(folder / "venv")
    for name in ("petals", "gated"):
        shutil.copytree(PLUGINS / name, folder / name, ignore=LEFTOVERS)
    made.install(folder / "petals", folder / "gated")
    return made


def sources(environment: Environment, name: str) -> Path:
    return environment.python.parents[2] / name


@pytest.mark.parametrize("name", ["petals", "gated"])
def test_its_own_tests_pass(environment: Environment, name: str) -> None:
    output = environment.run("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=sources(environment, name))
    assert " passed" in output
    assert "failed" not in output


def test_both_are_listed_and_good(environment: Environment, tmp_path: Path) -> None:
    listed = json.loads(environment.run("-m", "fastconv", "plugins", "--json", cwd=tmp_path))
    mine = {plugin["name"]: plugin for plugin in listed if plugin["package"] in ("fastconv-petals", "fastconv-gated")}
    assert sorted(mine) == ["gated.GatedConv2d", "petals.Swish", "petals.flowers", "petals.focal", "petals.tiny"]
    assert {plugin["error"] for plugin in mine.values()} == {None}
    assert "gated.GatedConv2d fastconv-gated 1.0 (not imported yet)" in " ".join(
        environment.run("-m", "fastconv", "layers", cwd=tmp_path).split()
    )


def test_the_commands_of_the_readme_train(environment: Environment, tmp_path: Path) -> None:
    train = ["-m", "fastconv", "train", "--model", "petals.tiny", "--data", "petals.flowers"]
    output = environment.run(*train, "--epochs", "3", "--out", "run", cwd=tmp_path)
    assert "test accuracy" in output
    assert "petals.Swish" in environment.run("-m", "fastconv", "summary", "run", "--json", cwd=tmp_path)
