"""Plugins whose import does what it should not: whatever that is, it breaks nothing but themselves, and is said clearly."""

from __future__ import annotations

import importlib
import sys
import textwrap

import numpy as np
import pytest
from plugin_folders import TWICE, Folder, folder
from programs import run_program

import fastconv
from fastconv import layers, loading, plugins
from fastconv.discovery import PluginLoadError, PluginWarning

__all__ = ["folder"]  # a fixture

WHOLE = textwrap.dedent(TWICE)


def install(folder: Folder, name: str, source: str) -> str:
    """Install a package with one layer, and return the layer's name."""
    folder.install(name, "1.2", {f"{name}.Twice": f"{name}_mod:Twice"}, {f"{name}_mod": source})
    return f"{name}.Twice"


@pytest.mark.parametrize(
    ("source", "said", "cause"),
    [
        ("import sys; sys.exit(3)", r"SystemExit: 3 \(it calls sys.exit\)", SystemExit),
        ("raise SystemExit", r"SystemExit \(it calls sys.exit\)", SystemExit),
        ("class Odd(BaseException): pass\nraise Odd('oops')", "Odd: oops", BaseException),
        ("class E(Exception):\n    def __str__(self): raise OSError\nraise E", r"E: \(and has no text\)", Exception),
        ("raise GeneratorExit", "GeneratorExit", GeneratorExit),
        ("def f(): f()\nf()", "RecursionError: ", RecursionError),
        ("raise MemoryError", "MemoryError", MemoryError),
        ("x = (", "SyntaxError: ", SyntaxError),
        ("import no_such_module_of_acme", "ModuleNotFoundError: No module named 'no_such_module_of_acme'", ImportError),
        ("", "AttributeError: module .* has no attribute 'Twice'", AttributeError),
        ("import bad_mod\nbad_mod.Twice", "AttributeError: partially initialized module 'bad_mod'", AttributeError),
        (
            "from fastconv import layers\n@layers.register('Conv2d')\nclass Twice(layers.Layer): pass",
            "ValueError: 'Conv2d' is a layer of fastconv and cannot be replaced",
            ValueError,
        ),
    ],
)
def test_whatever_an_import_raises_is_the_cause(
    folder: Folder, source: str, said: str, cause: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = install(folder, "bad", source)
    with pytest.raises(
        PluginLoadError, match=rf"the layer 'bad.Twice' of bad 1.2 \(bad_mod:Twice\) could not .*: {said}"
    ) as got:
        layers.get(name)
    assert isinstance(got.value.__cause__, cause)
    assert layers.get("Conv2d") is layers.Conv2d
    (listed,) = (plugin for plugin in plugins.entries() if plugin.package == "bad")
    assert (listed.version, listed.error, listed.loaded) == ("1.2", str(got.value), False)
    plugins.refresh()
    monkeypatch.setenv("FASTCONV_RAISE_PLUGIN_ERRORS", "1")
    with pytest.raises(cause):
        layers.get(name)


def test_what_failed_is_not_tried_again_before_refresh(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    name = install(folder, "bad", "print('tried')\nraise OSError('no')")
    for _ in range(2):
        with pytest.raises(PluginLoadError, match="could not be imported: OSError: no") as got:
            layers.get(name)
        assert isinstance(got.value.__cause__, OSError)
    assert capsys.readouterr().out == "tried\n"
    (folder.path / "bad_mod.py").write_text(WHOLE + "# mended\n")
    plugins.refresh()
    assert layers.get(name).__name__ == "Twice"


def test_imports_that_ask_for_each_other(folder: Folder) -> None:
    install(folder, "one", "from fastconv import layers\nlayers.get('two.Twice')\n" + WHOLE)
    install(folder, "two", "from fastconv import layers\nlayers.get('one.Twice')\n" + WHOLE)
    circle = "'one.Twice' -> 'two.Twice' -> 'one.Twice'"
    with pytest.raises(PluginLoadError, match=f"asks for itself while it is imported: {circle}"):
        layers.get("one.Twice")
    assert loading.importing() == []


def test_one_plugin_may_build_on_another(folder: Folder) -> None:
    install(folder, "base", WHOLE)
    install(folder, "more", "from fastconv import layers\nclass Twice(layers.get('base.Twice')): pass")
    assert layers.get("more.Twice").__mro__[1] is layers.get("base.Twice")


def test_an_import_that_takes_long_is_announced(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    say_slow = loading._say_slow
    announced: list[str] = []
    monkeypatch.setattr(loading, "PATIENCE", 0.05)
    monkeypatch.setattr(loading, "announced", announced, raising=False)
    monkeypatch.setattr(loading, "_say_slow", lambda offer: (say_slow(offer), announced.append(offer.name)))
    waits = "import time\nfrom fastconv import loading\nwhile not loading.announced: time.sleep(0.01)\n"
    name = install(folder, "slow", waits + WHOLE)
    assert layers.get(name).__name__ == "Twice"
    said = capfd.readouterr().err
    assert said.startswith("fastconv: importing the layer 'slow.Twice' of slow 1.2 (slow_mod:Twice) has taken 0.05 s")
    assert said.endswith("Ctrl-C stops it, FASTCONV_DISABLE_PLUGINS=1 leaves all plugins out\n")


def test_ctrl_c_ends_an_import_that_hangs(folder: Folder) -> None:
    source = """
        import _thread, threading, time
        threading.Timer(0.2, _thread.interrupt_main).start()
        while True:
            time.sleep(0.01)
    """
    name = install(folder, "stuck", source)
    done = run_program(
        textwrap.dedent(f"""
            import sys
            sys.path.insert(0, {str(folder.path)!r})
            from fastconv import layers
            try:
                layers.get({name!r})
            except KeyboardInterrupt:
                print("stopped")
            print(layers.get("Conv2d").__name__)
        """)
    )
    assert done.stdout == "stopped\nConv2d\n"


def test_numpys_global_state_is_put_back(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    disturb = "import numpy as np\nnp.seterr(all='raise')\nnp.set_printoptions(precision=1)\nnp.random.seed(0)\n"
    disturb += "np.setbufsize(32768)\n"
    name = install(folder, "rude", disturb + WHOLE)
    errors, options, size = np.geterr(), np.get_printoptions(), np.getbufsize()
    np.random.seed(7)  # noqa: NPY002
    expected = np.random.RandomState(7).random_sample(3)
    changed = r"importing the layer 'rude.Twice' of rude 1.2 .* changed the handling of floating-point errors .*, the size of "
    with pytest.warns(
        PluginWarning, match=changed + "buffers .*, the printing .*, the global random generator .*; it was put back"
    ):
        assert layers.get(name).__name__ == "Twice"
    assert (np.geterr(), np.get_printoptions(), np.getbufsize()) == (errors, options, size)
    np.testing.assert_array_equal(np.random.random_sample(3), expected)  # noqa: NPY002
    monkeypatch.setenv("FASTCONV_RAISE_PLUGIN_ERRORS", "1")
    name = install(folder, "ruder", disturb + WHOLE)
    with pytest.raises(PluginLoadError, match="changed the handling"):
        layers.get(name)


def test_numpys_state_is_put_back_after_a_failure_too(folder: Folder) -> None:
    errors = np.geterr()
    name = install(folder, "rude", "import numpy as np\nnp.seterr(all='raise')\n1 / 0")
    with pytest.raises(PluginLoadError):
        layers.get(name)
    assert np.geterr() == errors


def test_every_plugin_is_examined_in_a_process_of_its_own(folder: Folder) -> None:
    sources = {
        "good": WHOLE,
        "exits": "import os; os._exit(0)",
        "hangs": "import time\nwhile True: time.sleep(1)",
        "raises": "import sys; print('out'); sys.exit('no')",
        "stranger": "class Twice: pass",
    }
    points = {f"all.{name}": f"all_{name}:Twice" for name in sources}
    folder.install("all", "1", points, {f"all_{name}": source for name, source in sources.items()})
    operator = {"later": "def f(b, node, x): return x"}
    folder.install("later", "2", {"later.operator": "later:f"}, operator, group="fastconv.onnx_ops")
    found = {plugin.name: plugin for plugin in plugins.examine(timeout=3) if plugin.package in ("all", "later")}
    assert found["all.good"].error is None
    assert found["later.operator"].error is None
    assert found["all.exits"].error == (
        "importing the layer 'all.exits' of all 1 (all_exits:Twice) ended its process (exit code 0)"
    )
    assert (
        found["all.hangs"].error == "importing the layer 'all.hangs' of all 1 (all_hangs:Twice) was not done after 3 s"
    )
    assert "could not be imported: SystemExit: no (it calls sys.exit)" in str(found["all.raises"].error)
    assert "all_raises.py" in str(found["all.raises"].details)
    assert "only a subclass of fastconv.layers.Layer can be registered" in str(found["all.stranger"].error)
    assert not [name for name in sys.modules if name.startswith("all_")]
    with pytest.raises(ValueError, match="timeout must be a number of seconds greater than 0, got 0"):
        plugins.examine(timeout=0)


def test_what_a_plugin_has_started_ends_with_it(folder: Folder) -> None:
    """A forked child that lives on holds the pipe open: nobody waits for it."""
    name = install(
        folder, "forks", "import os, time\nif os.fork() == 0:\n    time.sleep(600)\nwhile True: time.sleep(1)"
    )
    (found,) = (plugin for plugin in plugins.examine(timeout=3) if plugin.name == name)
    assert "was not done after 3 s" in str(found.error)


def test_attributes_that_raise(folder: Folder) -> None:
    meta = "class Meta(type):\n    @property\n    def api_version(cls): raise KeyError('api')\n"
    name = install(folder, "meta", meta + WHOLE.replace("class Twice(Layer)", "class Twice(Layer, metaclass=Meta)"))
    with pytest.raises(PluginLoadError, match="could not be registered: KeyError: 'api'"):
        layers.get(name)
    install(folder, "lazy", "def __getattr__(name): raise OSError(name)")
    sys.modules.pop("lazy_mod", None)
    importlib.import_module("lazy_mod")

    class Other(layers.Layer):
        pass

    assert fastconv.registry.layers.name_of(Other) is None
    del sys.modules["lazy_mod"]


def test_a_name_that_the_program_has_taken_is_listed_as_such(folder: Folder) -> None:
    @layers.register("taken.Twice")
    class Mine(layers.Layer):
        pass

    install(folder, "taken", WHOLE)
    (listed,) = (plugin for plugin in plugins.entries() if plugin.package == "taken")
    assert listed.error is not None
    assert "the name 'taken.Twice' belongs to test_a_name_that_the_program_has_taken" in listed.error
    assert layers.get("taken.Twice") is Mine
