"""Made-up installed packages: a folder on the path in which a plugin lies as an installer would leave it."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from registrations import forget_afterwards

from fastconv import plugins

#: A module with one layer, which says when it is imported.
TWICE = """
    from fastconv.layers import Layer

    print("imported", __name__)

    class Twice(Layer):
        def output_shape(self, shape):
            return shape

        def forward(self, ctx, x):
            return x + x, lambda dy: (dy + dy, {})
"""


class Folder:
    """A folder on the path, in which packages can be installed as pip would."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def install(
        self,
        package: str,
        version: str,
        points: Mapping[str, str],
        modules: Mapping[str, str] = {},
        *,
        group: str = "fastconv.layers",
    ) -> Path:
        """Install a package with entry points in one group, and modules; return the folder of its metadata."""
        lines = [f"{name} = {value}" for name, value in points.items()]
        return self.install_raw(package, version, "\n".join([f"[{group}]", *lines, ""]).encode(), modules)

    def install_raw(self, package: str, version: str, entry_points: bytes, modules: Mapping[str, str] = {}) -> Path:
        """Install a package whose ``entry_points.txt`` is what is given."""
        for name, source in modules.items():
            (self.path / f"{name}.py").write_text(textwrap.dedent(source))
        info = self.path / f"{package.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n\nVersion: 9\n")
        (info / "entry_points.txt").write_bytes(entry_points)
        plugins.refresh()
        return info


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    """An empty `Folder`; afterwards its modules, names, preferences and metadata are forgotten."""
    path = tmp_path / "site"
    path.mkdir()
    monkeypatch.syspath_prepend(str(path))
    monkeypatch.setattr("fastconv.discovery._preferred", [])
    forget_afterwards(monkeypatch)
    before = set(sys.modules)
    plugins.refresh()
    yield Folder(path)
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(path) in str(sys.modules[name].__file__):
            del sys.modules[name]
    monkeypatch.undo()
    plugins.refresh()
