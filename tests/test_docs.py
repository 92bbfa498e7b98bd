"""The documentation tells the truth: its Python runs, its commands and files exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fastconv.cli import make_parser

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_BLOCK = re.compile(r"^```(\w*)(?: [^\n]*)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)

#: Whose steps are those of somebody with a shell: tests/test_writing_a_layer.py takes them.
WALKED = "writing-a-layer.md"


def blocks(page: Path, language: str) -> list[str]:
    """Return the code blocks of one language in a Markdown file."""
    return [code for found, code in _BLOCK.findall(page.read_text(encoding="utf-8")) if found == language]


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page, "python") and page.name != WALKED], ids=lambda page: page.name
)
def test_python_runs_from_top_to_bottom(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "__main__"}
    for code in blocks(page, "python"):
        exec(compile(code, str(page), "exec"), namespace)


def test_readme_examples_are_as_short_as_promised() -> None:
    example, layer = blocks(ROOT / "README.md", "python")
    assert len([line for line in example.splitlines() if line.strip()]) <= 22
    assert len([line for line in layer.splitlines() if line.strip()]) <= 15


def test_readme_has_the_two_commands() -> None:
    shell = "".join(blocks(ROOT / "README.md", "sh"))
    assert "pip install '.[plot]' && fastconv train" in shell
    assert "pip install '.[test]' && pytest" in shell


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page: Path) -> None:
    quoted = re.findall(r"`(fastconv [^`]*)`", page.read_text(encoding="utf-8"))
    commands = [found[1] for found in (re.match(r"fastconv ([a-z-]+)", text) for text in quoted) if found]
    known = next(action.choices for action in make_parser()._actions if action.dest == "command")
    for command in commands:
        assert command in known
