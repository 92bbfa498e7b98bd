"""docs/writing-a-layer.md, step by step, in a virtual environment, as a reader at a shell would take it."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest
from environments import Environment

PAGE = Path(__file__).resolve().parents[1] / "docs" / "writing-a-layer.md"

_BLOCK = re.compile(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


#: One session of Python for the whole page: a line of JSON is a block, and a line of output says that it has run.
SESSION = """
import json, sys
namespace = {"__name__": "__main__"}
for line in sys.stdin:
    exec(compile(json.loads(line), "docs/writing-a-layer.md", "exec"), namespace)
    print("ran", flush=True)
"""


class Reader:
    """Somebody who does what the page says; `cwd` is where their shell is."""

    def __init__(self, environment: Environment, cwd: Path) -> None:
        self.environment = environment
        self.cwd = cwd
        self.session: subprocess.Popen[str] | None = None
        self.seen: list[str] = []

    def take(self, language: str, file: str | None, code: str) -> None:
        """Do one step."""
        if file:
            target = self.cwd / file
            assert target.is_file(), f"{file}, which the page replaces, is not there"
            target.write_text(code)
        elif language == "python":
            self.python(code)
        elif language == "toml":
            project = self.cwd / "pyproject.toml"
            changed, count = re.subn(r'^"acme\.\w+" = .*\n', code, project.read_text(), flags=re.MULTILINE)
            assert count == 1
            project.write_text(changed)
        elif language == "sh":
            for line in code.splitlines():
                self.shell(line)

    def python(self, code: str) -> None:
        """Run one block in the reader's session, which begins with the first."""
        if self.session is None:
            self.session = self.environment.start("-c", SESSION, cwd=self.cwd)
        assert self.session.stdin is not None
        assert self.session.stdout is not None
        print(json.dumps(code), file=self.session.stdin, flush=True)
        for line in self.session.stdout:
            if line == "ran\n":
                return
            self.seen.append(line)
        raise AssertionError("".join(self.seen[-40:]))

    def close(self) -> None:
        """End the session."""
        if self.session is not None:
            self.session.communicate()

    def shell(self, line: str) -> None:
        """Run one line: programs are those of the environment, and nothing is fetched or uploaded."""
        word, *rest = shlex.split(line)
        if word == "cd":
            self.cwd = self.cwd / rest[0]
        elif word == "pip":
            assert rest == ["install", "-e", ".[test]"]
            self.environment.install(self.cwd)
        elif rest[:2] == ["-m", "build"]:
            if find_spec("build"):
                self.environment.run(*rest, "--no-isolation", "--skip-dependency-check", cwd=self.cwd)
                assert {path.suffix for path in (self.cwd / "dist").iterdir()} == {".gz", ".whl"}
        elif rest[:2] == ["-m", "twine"]:
            assert rest == ["-m", "twine", "upload", "dist/*"]
        else:
            assert word in ("fastconv", "pytest", "python"), line
            command = rest if word == "python" else ["-m", word, *rest]
            self.seen.append(self.environment.run(*command, cwd=self.cwd))


def steps() -> list[tuple[str, str | None, str]]:
    return [(language, file or None, code) for language, file, code in _BLOCK.findall(PAGE.read_text(encoding="utf-8"))]


@pytest.mark.slow
def test_every_step_does_what_the_page_says(tmp_path: Path) -> None:
    pytest.importorskip("hypothesis")
    reader = Reader(Environment(tmp_path / "venv"), tmp_path / "home")
    reader.cwd.mkdir()
    try:
        for step in steps():
            reader.take(*step)
    finally:
        reader.close()
    said = "\n".join(reader.seen)
    assert "wrote acme-layers/ with the layer acme.Scale" in said
    assert re.search(r"acme\.Swish: \d+ checks passed, none failed", said)
    assert "acme_layers" not in said.partition("acme.Swish  ")[0] or "acme-layers 0.1.0" in said
    assert len(re.findall(r"\d+ passed", said)) >= 2


def test_the_page_has_all_kinds_of_steps() -> None:
    kinds = {(language, bool(file)) for language, file, _ in steps()}
    assert kinds == {("sh", False), ("python", False), ("python", True), ("toml", False), ("cython", False)}
