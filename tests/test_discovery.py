"""What is read of installed packages, and that nonsense in the metadata of one spoils nothing of another."""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path

import pytest
from plugin_folders import TWICE, Folder, folder

from fastconv import discovery, layers, plugins
from fastconv.discovery import Offer, PluginLoadError
from fastconv.registry import UnknownNameError

__all__ = ["folder"]  # a fixture


def offered(package: str) -> list[Offer]:
    return [offer for offer in discovery.offers() if offer.package == package]


def test_every_group_is_read_with_package_and_version(folder: Folder) -> None:
    for number, group in enumerate(discovery.GROUPS):
        folder.install(f"acme-{number}", f"1.{number}", {f"acme{number}.thing": "acme:thing"}, group=group)
        assert offered(f"acme-{number}") == [
            Offer(group, f"acme{number}.thing", "acme:thing", f"acme-{number}", f"1.{number}")
        ]
    kinds = {plugin.kind for plugin in plugins.entries() if plugin.package.startswith("acme-")}
    assert kinds == {"layer", "loss", "optimizer", "callback", "data set", "network", "ONNX operator"}


def test_others_entry_points_are_none_of_ours(folder: Folder) -> None:
    text = (
        b"[console_scripts]\nacme = acme:main\n\n[fastconv.layers]\n# no\n\nacme.A = acme:A [extra]\n[other]\nx = y:z\n"
    )
    folder.install_raw("acme", "1", text)
    assert offered("acme") == [Offer("fastconv.layers", "acme.A", "acme:A [extra]", "acme", "1")]
    assert discovery.split_target("acme:A [extra]") == ("acme", "A")


def test_a_byte_order_mark_is_no_part_of_the_first_line(folder: Folder) -> None:
    folder.install_raw("acme", "1", b"\xef\xbb\xbf[fastconv.layers]\r\nacme.A = acme:A\r\n")
    assert [offer.name for offer in offered("acme")] == ["acme.A"]


def test_the_first_package_on_the_path_counts(folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.install("acme-layers", "1", {"acme.A": "acme:A"})
    newer = Folder(tmp_path / "newer")
    newer.path.mkdir()
    monkeypatch.syspath_prepend(str(newer.path))
    newer.install("Acme.Layers", "2", {"acme.B": "acme:B"})
    assert [
        (offer.name, offer.version) for offer in discovery.offers() if offer.package.lower().startswith("acme")
    ] == [("acme.B", "2")]


def test_packages_in_a_zip_file(folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "plugins.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("zipped-3.dist-info/METADATA", "Metadata-Version: 2.1\nName: zipped\nVersion: 3\n")
        file.writestr("zipped-3.dist-info/entry_points.txt", "[fastconv.layers]\nzipped.A = zipped:A\n")
    monkeypatch.syspath_prepend(str(archive))
    plugins.refresh()
    assert offered("zipped") == [Offer("fastconv.layers", "zipped.A", "zipped:A", "zipped", "3")]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"[fastconv.layers]\nacme.A\n", "line 2 of its metadata has no '='"),
        (b"[fastconv.layers]\nacme.A = \n", "an entry point must be 'module:name', as in 'acme.layers:Swish', got ''"),
        (b"[fastconv.layers]\nacme.A = acme.layers\n", "an entry point must be 'module:name'.* got 'acme.layers'"),
        (b"[fastconv.layers]\nacme.A = os;rm:-rf\n", "an entry point must be 'module:name'.* got 'os;rm:-rf'"),
        (b"[fastconv.layers]\nacme.A = .acme:A\n", "an entry point must be 'module:name'"),
        (b"[fastconv.layers]\nacme..A = acme:A\n", "must be words joined by dots, as in 'acme.Swish', got 'acme..A'"),
        (b"[fastconv.layers]\n = acme:A\n", "must be words joined by dots, as in 'acme.Swish', got ''"),
        (b"[fastconv.layers]\nConv2d = acme:A\n", "'Conv2d' cannot be the name of a layer of yours"),
        (b"[fastconv.layers]\nacme.A = acme:A\nacme.A = acme:B\n", "its package names it twice"),
        (b"[fastconv.layers\nacme.A = acme:A\n", r"its entry_points.txt says '\[fastconv.layers': line 1 has no '\]'"),
        (
            b"[fastconv.layer]\nacme.A = acme:A\n",
            "says '\\[fastconv.layer\\]': the groups are fastconv.layers, fastconv.losses",
        ),
        (b"[fastconv.layers]\nacme.\xff = acme:A\n", "its entry_points.txt is not in UTF-8"),
        ("[fastconv.layers]\nacme.A = acme:A\n".encode("utf-16"), "its entry_points.txt is not in UTF-8"),
        (b"[fastconv.layers]\n" + b"x" * 10**6 + b" = acme:A\n", r"'x{80}\.\.\.'$"),
        (b"\x00\x01fastconv.layers\xfe\xff", "its entry_points.txt is not in UTF-8"),
    ],
)
def test_malformed_metadata_is_listed_and_harms_nobody(
    folder: Folder, text: bytes, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.install_raw("broken", "1", text)
    folder.install("good", "1", {"good.Twice": "good_mod:Twice"}, {"good_mod": TWICE})
    broken = [plugin for plugin in plugins.entries() if plugin.package == "broken"]
    assert broken
    for plugin in broken:
        with pytest.raises(AssertionError, match=problem):
            raise AssertionError(plugin.error)
    assert layers.get("good.Twice").__name__ == "Twice"
    assert layers.get("Conv2d") is layers.Conv2d
    with pytest.raises((PluginLoadError, UnknownNameError)):
        layers.get("acme.A")
    plugins.refresh()
    monkeypatch.setenv("FASTCONV_RAISE_PLUGIN_ERRORS", "1")
    with pytest.raises(PluginLoadError, match=problem):
        plugins.entries()


def test_metadata_that_is_not_there(folder: Folder) -> None:
    info = folder.install("bare", "1.5", {"bare.A": "bare:A"})
    (info / "METADATA").unlink()
    (folder.path / "empty-1.dist-info").mkdir()
    (folder.path / "file-1.dist-info").write_text("no folder")
    (folder.path / "strange.dist-info").mkdir()
    (folder.path / "strange.dist-info" / "entry_points.txt").write_text("[fastconv.layers]\nstrange.A = strange:A\n")
    plugins.refresh()
    assert offered("bare")[0].source == "bare 1.5"
    assert offered("strange")[0].source == "strange of unknown version"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_metadata_that_is_no_file(folder: Folder) -> None:
    for name in ("pipe", "folder", "loop"):
        (folder.path / f"{name}-1.dist-info").mkdir()
    os.mkfifo(folder.path / "pipe-1.dist-info" / "entry_points.txt")
    (folder.path / "folder-1.dist-info" / "entry_points.txt").mkdir()
    (folder.path / "loop-1.dist-info" / "entry_points.txt").symlink_to("entry_points.txt")
    folder.install("acme", "1", {"acme.A": "acme:A"})
    assert len(offered("acme")) == 1


def test_metadata_cannot_write_to_a_terminal(folder: Folder) -> None:
    info = folder.install("loud", "1", {"loud.\x1b[31mA": "loud:\x1b[0mA"})
    (info / "METADATA").write_text("Name: loud\x1b[2J\nVersion: 1\x07\n")
    (folder.path / "~oud-1.dist-info").mkdir()
    (folder.path / "~oud-1.dist-info" / "entry_points.txt").write_text("[fastconv.layers]\nleft.Over = left:Over\n")
    plugins.refresh()
    (listed,) = (plugin for plugin in plugins.entries() if "loud" in plugin.package)
    assert all(str(field).isprintable() for field in listed)
    assert listed.error is not None
    assert "left.Over" not in {plugin.name for plugin in plugins.entries()}


def test_metadata_is_read_once_until_refresh(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    info = folder.install("acme", "1", {"acme.A": "acme:A"})
    assert len(offered("acme")) == 1
    (info / "entry_points.txt").write_text("[fastconv.layers]\nacme.A = acme:A\nacme.B = acme:B\n")
    assert len(offered("acme")) == 1
    plugins.refresh()
    assert len(offered("acme")) == 2


def test_a_changed_path_is_read_at_once(folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Folder(tmp_path / "other")
    other.path.mkdir()
    other.install("acme", "1", {"acme.A": "acme:A"})
    assert offered("acme") == []
    monkeypatch.setattr(sys, "path", [*sys.path, str(other.path)])
    assert len(offered("acme")) == 1


def test_plugins_can_be_disabled(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.install("acme", "1", {"acme.Twice": "acme_mod:Twice"}, {"acme_mod": TWICE})
    monkeypatch.setenv("FASTCONV_DISABLE_PLUGINS", "1")
    assert plugins.entries() == []
    with pytest.raises(
        UnknownNameError, match=r"there is no layer named 'acme.Twice'.*FASTCONV_DISABLE_PLUGINS keeps plugins"
    ):
        layers.get("acme.Twice")
    assert "acme_mod" not in sys.modules
    monkeypatch.setenv("FASTCONV_DISABLE_PLUGINS", "0")
    assert layers.get("acme.Twice").__name__ == "Twice"


def test_only_what_is_there_can_be_preferred(folder: Folder) -> None:
    folder.install("acme", "1", {"acme.A": "acme:A"})
    with pytest.raises(
        LookupError, match=r"no installed package 'beta' has plugins for fastconv; those that do: .*acme"
    ):
        plugins.prefer("beta")
    with pytest.raises(TypeError, match="package must be the name of an installed package, got 3"):
        plugins.prefer(3)  # type: ignore[arg-type]
