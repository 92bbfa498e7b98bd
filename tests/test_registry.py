"""Names and classes: decorators, entry points of (made-up) installed packages, and that nothing is imported early."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest
from programs import run_program

from fastconv import layers
from fastconv.layers import Layer, PluginLoadError, from_spec
from fastconv.registry import Entry, Registry

PLUGIN = """
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

    def install(self, package: str, version: str, points: dict[str, str], modules: dict[str, str]) -> None:
        for name, source in modules.items():
            (self.path / f"{name}.py").write_text(textwrap.dedent(source))
        info = self.path / f"{package.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        lines = [f"{name} = {value}" for name, value in points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[fastconv.layers]", *lines, ""]))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.syspath_prepend(str(tmp_path))
    return Folder(tmp_path)


@pytest.fixture
def registry() -> Registry:
    return Registry("layer", "fastconv.layers")


def test_built_in_layers_have_their_names() -> None:
    assert layers.get("Conv2d") is layers.Conv2d
    assert layers.get("Sequential").__name__ == "Sequential"
    entries = {entry.name: entry for entry in layers.entries()}
    assert entries["Conv2d"] == Entry("Conv2d", "fastconv", True)
    public = {name for name in layers.__all__ if isinstance(getattr(layers, name), type)}
    not_layers = {"Context", "Entry", "Layer", "PluginLoadError"}
    assert public - not_layers | {"Model", "Sequential"} == {e.name for e in entries.values() if e.source == "fastconv"}


def test_a_decorator_registers(registry: Registry) -> None:
    @registry.register("acme.Swish")
    class Swish(Layer):
        pass

    assert registry.get("acme.Swish") is Swish
    assert registry.name_of(Swish) == "acme.Swish"
    assert registry.entries()[0] == Entry("acme.Swish", f"module {__name__}", True)

    class Sub(Swish):
        pass

    assert registry.name_of(Sub) is None


def test_a_class_defined_again_replaces_the_old_one(registry: Registry) -> None:
    def define() -> type:
        @registry.register("acme.Swish")
        class Swish(Layer):
            pass

        return Swish

    old, new = define(), define()
    assert registry.get("acme.Swish") is new
    assert registry.name_of(old) is None


def test_a_built_in_cannot_be_shadowed() -> None:
    with pytest.raises(
        ValueError, match=r"'Conv2d' is a layer of fastconv and cannot be replaced: .* as in 'acme.Conv2d'"
    ):

        @layers.register("Conv2d")
        class Conv2d(Layer):
            pass

    assert layers.get("Conv2d") is layers.Conv2d


def test_a_name_belongs_to_one_class_and_a_class_has_one_name(registry: Registry) -> None:
    @registry.register("acme.A")
    class A(Layer):
        pass

    with pytest.raises(
        ValueError, match=r"the name 'acme.A' belongs to .*<locals>.A; choose another one for .*<locals>.B"
    ):

        @registry.register("acme.A")
        class B(Layer):
            pass

    with pytest.raises(ValueError, match=r"A is registered as 'acme.A' already; it cannot also be 'acme.C'"):
        registry.register("acme.C")(A)


@pytest.mark.parametrize("name", ["", "a b", "acme..A", ".A", "acme.A.", "1a"])
def test_names_that_are_none(registry: Registry, name: str) -> None:
    with pytest.raises(ValueError, match="the name of a layer must be identifiers joined by dots"):
        registry.register(name)


def test_register_wants_a_name_and_a_class(registry: Registry) -> None:
    with pytest.raises(TypeError, match=r"register needs a name, as in @register\('acme.Swish'\), got <class"):
        registry.register(Layer)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"only a class can be registered as a layer, got 3 for the name 'acme.A'"):
        registry.register("acme.A")(3)  # type: ignore[type-var]


def test_an_unknown_name_says_what_is_near() -> None:
    with pytest.raises(LookupError, match=r"there is no layer named 'conv2d'; did you mean 'Conv2d'\?"):
        layers.get("conv2d")
    with pytest.raises(LookupError, match=r"there is no layer named 'Xyzzy' \(neither in fastconv, nor registered"):
        layers.get("Xyzzy")
    with pytest.raises(TypeError, match="the name of a layer must be a string, got 3"):
        layers.get(3)  # type: ignore[arg-type]


def test_an_entry_point_is_imported_when_it_is_asked_for(
    folder: Folder, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.install(
        "acme-layers",
        "1.2",
        {"acme.Twice": "acme_one:Twice", "acme.Other": "acme_two:Twice"},
        {"acme_one": PLUGIN, "acme_two": PLUGIN},
    )
    listed = {entry.name: entry for entry in registry.entries()}
    assert listed["acme.Twice"] == Entry("acme.Twice", "acme-layers 1.2", False)
    assert capsys.readouterr().out == ""
    twice = registry.get("acme.Twice")
    assert capsys.readouterr().out == "imported acme_one\n"
    assert registry.get("acme.Twice") is twice
    assert registry.name_of(twice) == "acme.Twice"
    assert {entry.name: entry for entry in registry.entries()}["acme.Twice"] == Entry(
        "acme.Twice", "acme-layers 1.2", True
    )
    assert "acme_two" not in sys.modules
    del sys.modules["acme_one"]


def test_a_plugin_that_registers_itself_too(folder: Folder) -> None:
    source = "from fastconv import layers\n" + textwrap.dedent(PLUGIN).replace(
        "class Twice", "@layers.register('selfacme.Twice')\nclass Twice"
    )
    folder.install("selfacme", "1", {"selfacme.Twice": "selfacme_mod:Twice"}, {"selfacme_mod": source})
    assert layers.get("selfacme.Twice").__name__ == "Twice"
    assert from_spec({"layer": "selfacme.Twice"}).config == {}


def test_a_plugin_cannot_shadow_a_built_in(folder: Folder) -> None:
    folder.install("evil", "1", {"Conv2d": "evil_mod:Twice"}, {"evil_mod": PLUGIN})
    assert layers.get("Conv2d") is layers.Conv2d
    assert "evil_mod" not in sys.modules
    assert [entry.source for entry in layers.entries() if entry.name == "Conv2d"] == ["fastconv"]


def test_two_packages_with_one_name(folder: Folder, registry: Registry) -> None:
    folder.install("acme-a", "1", {"acme.Twice": "acme_one:Twice"}, {"acme_one": PLUGIN})
    folder.install("acme-b", "2", {"acme.Twice": "acme_one:Twice"}, {})
    with pytest.raises(
        LookupError, match=r"the layer 'acme.Twice' is offered by acme-a 1 and acme-b 2: uninstall all but one"
    ):
        registry.get("acme.Twice")
    assert [entry.source for entry in registry.entries() if entry.name == "acme.Twice"] == ["acme-a 1", "acme-b 2"]


@pytest.mark.parametrize(
    ("value", "source", "message"),
    [
        ("broken_a:Twice", "raise ZeroDivisionError('oops')", "could not be imported: ZeroDivisionError: oops"),
        ("broken_b:Missing", "", "could not be imported: AttributeError: .*has no attribute 'Missing'"),
        ("broken_c:thing", "thing = 3", "could not be registered: only a class can be registered as a layer, got 3"),
        (
            "broken_d:Twice",
            "from fastconv.registry import layers\n@layers.register('broken.Different')\nclass Twice: pass",
            "could not be registered: broken_d.Twice is registered as 'broken.Different' already",
        ),
    ],
)
def test_a_broken_plugin_breaks_itself_alone(folder: Folder, value: str, source: str, message: str) -> None:
    module = value.partition(":")[0]
    folder.install("broken", "3", {f"{module}.Twice": value}, {module: source})
    with pytest.raises(PluginLoadError, match=rf"the layer '{module}.Twice' of broken 3 \({value}\) {message}"):
        layers.get(f"{module}.Twice")
    assert layers.get("Conv2d") is layers.Conv2d
    assert f"{module}.Twice" in {entry.name for entry in layers.entries()}


def test_importing_fastconv_reads_no_metadata_and_imports_no_plugin(folder: Folder) -> None:
    folder.install("acme-layers", "1", {"acme.Twice": "acme_one:Twice"}, {"acme_one": PLUGIN})
    program = f"""
        import sys
        sys.path.insert(0, {str(folder.path)!r})
        from fastconv import layers, model, saving, summary
        assert "importlib.metadata" not in sys.modules
        assert "safetensors" not in sys.modules
        layers.get("Conv2d")
        assert "importlib.metadata" not in sys.modules
        assert "acme_one" not in sys.modules
        assert any(entry.name == "acme.Twice" for entry in layers.entries())
        assert "acme_one" not in sys.modules
        layers.get("acme.Twice")
        assert "acme_one" in sys.modules
    """
    done = run_program(textwrap.dedent(program))
    assert (done.returncode, done.stdout, done.stderr) == (0, "imported acme_one\n", "")
