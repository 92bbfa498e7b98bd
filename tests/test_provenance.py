"""Model files and the packages of their layers: what is recorded, and what who lacks a package is told."""

from __future__ import annotations

import shutil
import textwrap
from pathlib import Path

import numpy as np
import pytest
from plugin_folders import TWICE, Folder, folder
from programs import run_program

import fastconv
from fastconv import layers, plugins, saving
from fastconv.saving import ModelFileError, load_model

__all__ = ["folder"]  # a fixture

X = np.ones((1, 3), np.float32)


def saved(path: Path, *names: str) -> Path:
    """Save a model with the layers of these names."""
    chain = [layers.get(name)() for name in names]
    fastconv.Sequential([*chain, layers.Linear(2)], input_shape=(3,)).save(path / "model.safetensors")
    return path / "model.safetensors"


def records(path: Path) -> object:
    return saving.load(path)[1].get("plugins")


def change(path: Path, **changes: object) -> None:
    tensors, metadata = saving.load(path)
    saving.save(path, tensors, {**metadata, **changes})


def loaded_elsewhere(path: Path, folder: Folder | None, options: str = "") -> str:
    """Load a model in a process that has imported nothing else; return what it printed last."""
    program = f"""
        import sys
        sys.path[:0] = {[str(folder.path)] if folder else []!r}
        import numpy as np
        import fastconv
        try:
            print("output", fastconv.load_model({str(path)!r}{options})(np.ones((1, 3), np.float32)).shape)
        except Exception as error:
            print(type(error).__name__, error)
    """
    return run_program(textwrap.dedent(program)).stdout.splitlines()[-1]


def test_package_and_version_are_recorded(folder: Folder, tmp_path: Path) -> None:
    folder.install("acme-layers", "1.2", {"rec.Twice": "rec_mod:Twice"}, {"rec_mod": TWICE})
    path = saved(tmp_path, "ReLU", "rec.Twice", "Twice")
    assert records(path) == {"rec.Twice": {"package": "acme-layers", "version": "1.2"}}
    assert loaded_elsewhere(path, folder) == "output (1, 2)"


def test_a_model_of_built_in_layers_records_nothing(tmp_path: Path) -> None:
    assert records(saved(tmp_path, "ReLU")) is None


def test_a_layer_of_the_program_is_recorded_with_its_module(tmp_path: Path) -> None:
    @layers.register("rec.Mine")
    class Mine(layers.ReLU):
        pass

    path = saved(tmp_path, "rec.Mine")
    assert records(path) == {"rec.Mine": {"module": __name__}}
    said = loaded_elsewhere(path, None)
    assert said.startswith(f"ModelFileError {path}: there is no layer named 'rec.Mine'")
    assert said.endswith(
        f"'rec.Mine' was registered by the module {__name__} of the program that wrote the file: import it first"
    )
    assert load_model(path, allow_plugins=False)(X).shape == (1, 2)


def test_a_layer_of_an_installed_package_without_an_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Mine(layers.ReLU):
        pass

    Mine.__module__ = "numpy.layers"
    Mine.__qualname__ = "Mine"
    layers.register("rec.Numpy")(Mine)
    assert records(saved(tmp_path, "rec.Numpy")) == {"rec.Numpy": {"package": "numpy", "version": np.__version__}}


def test_a_missing_package_is_named(folder: Folder, tmp_path: Path) -> None:
    folder.install("acme-layers", "1.2", {"gone.Twice": "gone_mod:Twice"}, {"gone_mod": TWICE})
    path = saved(tmp_path, "gone.Twice")
    said = loaded_elsewhere(path, None)
    assert said.startswith(f"ModelFileError {path}: there is no layer named 'gone.Twice'")
    assert said.endswith("; the file was written with the package acme-layers 1.2, which is not installed here")


def test_another_version_that_cannot_read_it_is_named(folder: Folder, tmp_path: Path) -> None:
    info = folder.install("acme-layers", "1.2", {"old.Twice": "old_mod:Twice"}, {"old_mod": TWICE})
    path = saved(tmp_path, "old.Twice")
    shutil.rmtree(info)
    folder.install("acme-layers", "2.0", {"old.Thrice": "old_mod:Twice"})
    said = loaded_elsewhere(path, folder)
    assert "there is no layer named 'old.Twice'; did you mean 'old.Thrice'?" in said
    assert said.endswith("; the file was written with acme-layers 1.2, and here acme-layers 2.0 is installed")


def test_a_broken_package_is_named(folder: Folder, tmp_path: Path) -> None:
    folder.install("acme-layers", "1.2", {"spoilt.Twice": "spoilt_mod:Twice"}, {"spoilt_mod": TWICE})
    path = saved(tmp_path, "spoilt.Twice")
    (folder.path / "spoilt_mod.py").write_text("import sys; sys.exit(0)  # another length than before\n")
    said = loaded_elsewhere(path, folder)
    assert "of acme-layers 1.2 (spoilt_mod:Twice) could not be imported: SystemExit: 0 (it calls sys.exit)" in said


def test_a_constructor_that_ends_the_process_does_not(folder: Folder, tmp_path: Path) -> None:
    source = textwrap.dedent(TWICE) + "    def __init__(self, *, leave=False):\n        if leave: raise SystemExit(3)\n"
    folder.install("leaver", "1", {"leaver.Twice": "leaver_mod:Twice"}, {"leaver_mod": source})
    path = saved(tmp_path, "leaver.Twice")
    spec = saving.load(path)[1]["model"]
    spec["config"]["layers"][0]["config"]["leave"] = True
    change(path, model=spec)
    with pytest.raises(ModelFileError, match=r"model.safetensors: SystemExit: 3 \(it calls sys.exit\)"):
        load_model(path)


def test_plugins_that_are_not_allowed(folder: Folder, tmp_path: Path) -> None:
    folder.install("acme-layers", "1.2", {"shut.Twice": "shut_mod:Twice"}, {"shut_mod": TWICE})
    path = saved(tmp_path, "shut.Twice")
    refused = r"'shut.Twice' is no layer of fastconv, nor one that this program registered{}, and plugins are not allowed here"
    with pytest.raises(ModelFileError, match=refused.format(r" \(it is from acme-layers 1.2\)")):
        load_model(path, allow_plugins=False)  # although it is imported
    said = loaded_elsewhere(path, folder, ", allow_plugins=False")
    assert refused.format("") in said
    assert "imported" not in said
    assert load_model(path)(X).shape == (1, 2)


def test_what_a_plugin_registers_while_it_is_imported_is_the_plugins(folder: Folder, tmp_path: Path) -> None:
    source = (
        textwrap.dedent(TWICE)
        + "\nfrom fastconv import layers\n@layers.register('side.Effect')\nclass Effect(Twice): pass\n"
    )
    folder.install("side", "3", {"side.Twice": "side_mod:Twice"}, {"side_mod": source})
    layers.get("side.Twice")
    path = saved(tmp_path, "side.Effect")
    assert records(path) == {"side.Effect": {"package": "side", "version": "3"}}
    with pytest.raises(ModelFileError, match="plugins are not allowed here"):
        load_model(path, allow_plugins=False)


@pytest.mark.parametrize(
    "odd",
    [
        3,
        [],
        "x",
        {"gone.X": 3},
        {"gone.X": {"package": 3}},
        {"gone.X": {"package": ""}},
        {"gone.X": {"package": "../etc"}},
    ],
)
def test_odd_records_do_not_hide_the_error(tmp_path: Path, odd: object) -> None:
    path = saved(tmp_path, "ReLU")
    spec = {"layer": "gone.X"}
    change(path, model=spec, plugins=odd)
    with pytest.raises(ModelFileError, match=r"there is no layer named 'gone.X'"):
        load_model(path)
    change(path, model=spec, plugins={"gone.X": {"package": "a\x1b[31m" + "b" * 500, "version": "1"}})
    with pytest.raises(ModelFileError) as got:
        load_model(path)
    assert "\x1b" not in str(got.value)
    assert len(str(got.value)) < 600


def test_refresh_finds_a_package_installed_meanwhile(folder: Folder, tmp_path: Path) -> None:
    with pytest.raises(LookupError):
        layers.get("late.Twice")
    folder.install("late", "1", {"late.Twice": "late_mod:Twice"}, {"late_mod": TWICE})
    plugins.refresh()
    assert layers.get("late.Twice").__name__ == "Twice"


def test_broken_metadata_of_another_package_does_not_keep_a_model_from_being_saved(
    folder: Folder, tmp_path: Path
) -> None:
    other = folder.install("another", "1", {})
    (other / "top_level.txt").write_bytes(b"\xff\xfe\x00")
    (other / "RECORD").write_bytes(b"\xff\xfe\x00")

    @layers.register("unrecorded.Same")
    class Same(layers.ReLU):
        pass

    assert records(saved(tmp_path, "unrecorded.Same")) == {"unrecorded.Same": {"module": Same.__module__}}
