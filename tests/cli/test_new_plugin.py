"""``fastconv new-plugin``: which files it writes, and which names it refuses. That they work: tests/test_plugin_packages.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastconv.cli import main
from fastconv.cli.new_plugin import files, names_of

FILES = {
    ".github/workflows/test.yml",
    ".gitignore",
    "README.md",
    "pyproject.toml",
    "src/acme_layers/__init__.py",
    "src/acme_layers/layers.py",
    "tests/test_layers.py",
}


def test_a_whole_package_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new-plugin", "acme-layers"]) == 0
    said = capsys.readouterr().out
    assert "wrote acme-layers/ with the layer acme.Scale in src/acme_layers/layers.py" in said
    assert "pip install -e '.[test]'" in said
    written = {str(path.relative_to("acme-layers")): path for path in Path("acme-layers").rglob("*") if path.is_file()}
    assert set(written) == FILES
    for path in written.values():
        assert "__PACKAGE__" not in path.read_text()
    assert '"acme.Scale" = "acme_layers.layers:Scale"' in written["pyproject.toml"].read_text()


def test_nothing_is_left_to_fill_in() -> None:
    for path, text in files(names_of("Acme.Net-Layers", "net")):
        for left in ("__P", "__M", "__V", "__A", "TODO"):
            assert left not in str(path) + text
    assert names_of("Acme.Net-Layers")["MODULE"] == "acme_net_layers"


def test_the_prefix_and_the_folder_can_be_chosen(tmp_path: Path) -> None:
    assert main(["new-plugin", "acme", "--prefix", "roadrunner", "--out", str(tmp_path / "there")]) == 0
    assert '"roadrunner.Scale" = "acme.layers:Scale"' in (tmp_path / "there" / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["a b"], "NAME must be letters and digits, with single '-', '_' or '.' in between, got 'a b'"),
        (["../etc"], "NAME must be letters and digits"),
        (["-x-"], "NAME"),
        (["class"], "a package 'class' could not be imported, because 'class' is something else in Python"),
        (["json"], "could not be imported, because 'json' is something else in Python"),
        (["PyTest"], "could not be imported, because 'pytest' is something else"),
        (["fastconv"], "could not be imported, because 'fastconv' is something else"),
        (["acme", "--prefix", "fastconv"], "--prefix must be a word of yours, as in 'acme', got 'fastconv'"),
        (["acme", "--prefix", "a.b"], "--prefix must be a word of yours"),
    ],
)
def test_names_that_cannot_be(
    argv: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["new-plugin", *argv, "--out", str(out)]) in (1, 2)
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_nothing_is_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").write_text("precious")
    assert main(["new-plugin", "acme", "--out", str(tmp_path)]) == 1
    assert "is not empty: choose another one with --out" in capsys.readouterr().err
    assert main(["new-plugin", "acme", "--out", str(tmp_path / "mine")]) == 1
    assert "is a file, not a folder" in capsys.readouterr().err
    assert (tmp_path / "mine").read_text() == "precious"
