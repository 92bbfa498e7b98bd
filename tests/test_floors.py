"""Imports only point down: the floors of the house, walked by reading every file of the package."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import fastconv

PACKAGE = Path(fastconv.__file__).parent

FLOORS = {
    "_kernels": 0,
    "version": 0,
    "accuracy": 1,
    "arguments": 1,
    "arrays": 1,
    "collector": 1,
    "config": 1,
    "discovery": 1,
    "geometry": 1,
    "lasting": 1,
    "loading": 1,
    "reference": 1,
    "registry": 1,
    "threads": 1,
    "functional": 2,
    "layers": 3,
    "branch": 4,
    "fusion": 4,
    "graph": 4,
    "model": 4,
    "program": 4,
    "provenance": 4,
    "saving": 4,
    "sequential": 4,
    "summary": 4,
    "unbatched": 4,
    "data": 5,
    "frozen": 5,
    "networks": 5,
    "training": 5,
    "weights": 5,
    "plugins": 6,
    "testing": 6,
    "onnx": 6,
    "engines": 6,
    "cli": 6,
    "__main__": 6,
    "__init__": 7,
}

#: Inside methods of a model, so that one method call trains it; see the docstring of `fastconv.model`.
EXCEPTIONS = {("model", "training")}


def floor_name(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(tree: ast.AST) -> list[tuple[str, int]]:
    """Return the parts of fastconv that a file imports, wherever the import stands, and the line."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            top, _, rest = name.partition(".")
            if top == "fastconv":
                part = rest.partition(".")[0]
                # `from fastconv import Model` is the front door; a file or folder of that name is a floor
                is_floor = part and ((PACKAGE / part).is_dir() or list(PACKAGE.glob(f"{part}.*")))
                found.append((part if is_floor else "__init__", node.lineno))
    return found


def violations(path: Path, source: str) -> list[str]:
    here = floor_name(path)
    found = []
    for there, line in imported(ast.parse(source)):
        if (
            FLOORS[there] > FLOORS[here]
            and (here, there) not in EXCEPTIONS
            and not (FLOORS[here] >= 6 and there == "__init__")
        ):
            found.append(
                f"{path.relative_to(PACKAGE)}:{line} imports {there} (floor {FLOORS[there]}) from floor {FLOORS[here]}"
            )
    return found


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    assert floor_name(path) in FLOORS, f"give {floor_name(path)} a floor in this test and in docs/architecture.md"
    assert violations(path, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import fastconv.model",
        "from fastconv import model",
        "from fastconv.model import Model",
        "def f():\n    from fastconv.model import Model",
        "from fastconv import Model",
        "import fastconv",
    ],
)
def test_the_walk_finds_what_points_up(source: str) -> None:
    assert len(violations(PACKAGE / "layers" / "base.py", source)) == 1
    assert violations(PACKAGE / "cli" / "train.py", source) == []


def test_only_the_model_imports_training_and_only_inside_methods() -> None:
    tree = ast.parse((PACKAGE / "model.py").read_text(encoding="utf-8"))
    outside = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert not any("training" in ast.unparse(node) for node in outside)
