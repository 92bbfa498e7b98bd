"""Names and classes: decorators, entry points of (made-up) installed packages, and that nothing is imported early."""

from __future__ import annotations

import sys
import textwrap

import pytest
from plugin_folders import TWICE, Folder, folder
from programs import run_program

from fastconv import layers, plugins
from fastconv.layers import Layer, PluginLoadError, from_spec
from fastconv.registry import AmbiguousNameError, Entry, Origin, Registry, UnknownNameError

__all__ = ["folder"]  # a fixture


@pytest.fixture
def registry() -> Registry:
    return Registry("fastconv.layers")


def test_built_in_layers_have_their_names() -> None:
    assert layers.get("Conv2d") is layers.Conv2d
    assert layers.get("Sequential").__name__ == "Sequential"
    entries = {entry.name: entry for entry in layers.entries()}
    assert entries["Conv2d"] == Entry("Conv2d", "fastconv", True)
    public = {name for name in layers.__all__ if isinstance(getattr(layers, name), type)}
    not_layers = {"Context", "Entry", "Layer", "PluginLoadError", "Prototype", "TorchLayer", "Traits"}
    assert public - not_layers | {"Model", "Sequential", "Unbatched", "Branch"} == {
        e.name for e in entries.values() if e.source == "fastconv"
    }


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
    with pytest.raises(ValueError, match="the name of a layer must be words joined by dots"):
        registry.register(name)


def test_register_wants_a_name_and_a_class(registry: Registry) -> None:
    with pytest.raises(TypeError, match=r"register needs a name, as in @register\('acme.Swish'\), got <class"):
        registry.register(Layer)  # type: ignore[arg-type]
    with pytest.raises(
        TypeError, match=r"only a class or function can be registered as a layer, got 3 for the name 'a.B'"
    ):
        registry.register("a.B")(3)
    only = r"only a subclass of fastconv.layers.Layer can be registered as a layer, got"
    with pytest.raises(TypeError, match=rf"{only} <class 'int'> for the name 'X'"):
        layers.register("X")(int)
    with pytest.raises(TypeError, match=rf"{only} ReLU\(\) for the name 'acme.X'"):
        layers.register("acme.X")(layers.ReLU())


@pytest.mark.parametrize("name", ["Swish", "fastconv.Swish"])
def test_names_of_fastconv_are_for_nobody_else(name: str) -> None:
    class Swish(Layer):
        pass

    with pytest.raises(
        ValueError, match=rf"'{name}' cannot be the name of a layer of yours: .*'acme.Swish', 'my.Swish'"
    ):
        layers.register(name)(Swish)


def test_a_short_name_works_while_it_is_unique(registry: Registry, folder: Folder) -> None:
    @registry.register("my.Swish")
    class Swish(Layer):
        pass

    assert registry.get("Swish") is Swish
    with pytest.raises(UnknownNameError):
        registry.get("wish")
    folder.install(
        "acme-layers", "1.2", {"acme.Swish": "acme_one:Twice", "acme.Twice": "acme_one:Twice"}, {"acme_one": TWICE}
    )
    both = (
        r"the layer 'Swish' may be 'acme.Swish' \(acme-layers 1.2\) or 'my.Swish' \(module .*test_registry\): write the"
    )
    with pytest.raises(AmbiguousNameError, match=both):
        registry.get("Swish")
    assert registry.get("Twice") is registry.get("acme.Twice")


def test_a_short_name_of_two_packages(registry: Registry, folder: Folder) -> None:
    folder.install("acme-layers", "1.2", {"acme.Twice": "acme_one:Twice"}, {"acme_one": TWICE})
    folder.install("beta", "2", {"beta.deep.Twice": "beta_one:Twice"}, {"beta_one": TWICE})
    both = r"may be 'acme.Twice' \(acme-layers 1.2\) or 'beta.deep.Twice' \(beta 2\): .*plugins.prefer\('acme-layers'\)"
    with pytest.raises(AmbiguousNameError, match=both):
        registry.get("Twice")
    plugins.prefer("acme")
    for _ in range(2):
        assert registry.get("Twice").__module__ == "acme_one"
    plugins.prefer("beta")
    assert registry.get("Twice").__module__ == "beta_one"


def test_a_built_in_goes_before_every_short_name(folder: Folder) -> None:
    folder.install(
        "evil", "1", {"evil.Conv2d": "evil_one:Twice", "evil.Sequential": "evil_one:Twice"}, {"evil_one": TWICE}
    )
    assert layers.get("Conv2d") is layers.Conv2d
    program = "from fastconv import layers; print(layers.get('Sequential').__module__)"
    done = run_program(f"import sys; sys.path.insert(0, {str(folder.path)!r}); {program}")
    assert done.stdout == "fastconv.sequential\n"


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
        {"acme_one": TWICE, "acme_two": TWICE},
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
    source = "from fastconv import layers\n" + textwrap.dedent(TWICE).replace(
        "class Twice", "@layers.register('selfacme.Twice')\nclass Twice"
    )
    folder.install("selfacme", "1", {"selfacme.Twice": "selfacme_mod:Twice"}, {"selfacme_mod": source})
    assert layers.get("selfacme.Twice").__name__ == "Twice"
    assert from_spec({"layer": "selfacme.Twice"}).config == {}


def test_a_plugin_cannot_shadow_a_built_in(folder: Folder) -> None:
    folder.install("evil", "1", {"Conv2d": "evil_mod:Twice"}, {"evil_mod": TWICE})
    assert layers.get("Conv2d") is layers.Conv2d
    assert "evil_mod" not in sys.modules
    evil, mine = (entry for entry in layers.entries() if entry.name == "Conv2d")
    assert (evil.source, mine.source, mine.error) == ("evil 1", "fastconv", None)
    assert evil.error is not None and "'Conv2d' cannot be the name of a layer of yours" in evil.error


def test_two_packages_with_one_name(folder: Folder, registry: Registry) -> None:
    folder.install("acme-a", "1", {"acme.Twice": "acme_one:Twice"}, {"acme_one": TWICE})
    folder.install("acme-b", "2", {"acme.Twice": "acme_two:Twice"}, {"acme_two": TWICE})
    with pytest.raises(
        AmbiguousNameError,
        match=r"'acme.Twice' is offered by acme-a 1 and acme-b 2: uninstall all but one, .*plugins.prefer\('acme-a'\)",
    ):
        registry.get("acme.Twice")
    assert [entry.source for entry in registry.entries() if entry.name == "acme.Twice"] == ["acme-a 1", "acme-b 2"]
    plugins.prefer("Acme_B")
    registry.get("acme.Twice")
    assert registry.origin("acme.Twice") == Origin("acme-b", "2", "acme_two")


@pytest.mark.parametrize(
    ("value", "source", "message"),
    [
        ("broken_a:Twice", "raise ZeroDivisionError('oops')", "could not be imported: ZeroDivisionError: oops"),
        ("broken_b:Missing", "", "could not be imported: AttributeError: .*has no attribute 'Missing'"),
        ("broken_c:thing", "thing = 3", "could not be registered: only a subclass of fastconv.layers.Layer .* got 3"),
        (
            "broken_d:Twice",
            "from fastconv import layers as L\n@L.register('broken.Different')\nclass Twice(L.Layer): pass",
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


def test_a_class_of_a_plugin_has_its_name_however_it_was_imported(folder: Folder) -> None:
    folder.install("direct", "1.5", {"direct.Twice": "direct_mod:Twice"}, {"direct_mod": TWICE})
    import direct_mod  # type: ignore[import-not-found]

    assert layers.to_spec(direct_mod.Twice())["layer"] == "direct.Twice"
    assert layers.get("direct.Twice") is direct_mod.Twice
    assert Entry("direct.Twice", "direct 1.5", True) in layers.entries()


def test_the_layer_api_has_a_version(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    source = textwrap.dedent(TWICE)
    for version in ("2", "1", "'1'"):
        name = "api" + "".join(filter(str.isdigit, version)) + ("x" if "'" in version else "")
        changed = source.replace("class Twice(Layer):", f"class Twice(Layer):\n    api_version = {version}\n")
        folder.install(name, version.strip("'"), {f"{name}.Twice": f"{name}:Twice"}, {name: changed})
    with pytest.raises(
        PluginLoadError, match=r"of api2 2 .*for version 2 of the layer API.* has version 1: upgrade fastconv"
    ):
        layers.get("api2.Twice")
    with pytest.raises(PluginLoadError, match=r"api_version of Twice must be an integer of at least 1, got '1'"):
        layers.get("api1x.Twice")
    monkeypatch.setattr("fastconv.layers.base.OLDEST_API_VERSION", 2)
    monkeypatch.setattr("fastconv.layers.base.API_VERSION", 3)
    with pytest.raises(PluginLoadError, match=r"supports versions 2 to 3: upgrade the package that Twice comes from"):
        layers.get("api1.Twice")


def test_importing_fastconv_reads_no_metadata_and_imports_no_plugin(folder: Folder) -> None:
    folder.install("acme-layers", "1", {"acme.Twice": "acme_one:Twice"}, {"acme_one": TWICE})
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
