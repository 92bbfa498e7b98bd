"""The suite itself: each check finds the layers that are wrong in its way, and says what somebody needs to know."""

from __future__ import annotations

import numpy as np
import pytest
from plugin_folders import Folder, folder
from testing.broken_layers import Plain, Sound, TakesMoreThanItCan
from testing.broken_passes import BROKEN, NearlyRight, WrongAtOneBorderPixel, WrongForEvenKernels

from fastconv import layers as L
from fastconv.layers import Layer
from fastconv.testing import CHECKS, CheckResult, check_layer
from fastconv.testing.inference import entries_of
from fastconv.testing.runner import run_check

__all__ = ["folder"]  # a fixture

#: These need a package that is installed, and have tests of their own below.
INSTALLED = {"fresh_process", "entry_point", "requires_fastconv", "versions_match"}


def verdict(name: str, layer: Layer | type[Layer], **options: object) -> CheckResult:
    return run_check(CHECKS[name], entries_of(layer, **options), 25)


def test_every_check_has_a_broken_layer():
    assert BROKEN.keys() | INSTALLED == CHECKS.keys()


@pytest.mark.parametrize(
    ("name", "broken"),
    [(name, cls) for name, classes in BROKEN.items() for cls in classes],
    ids=lambda v: getattr(v, "__name__", v),
)
def test_the_check_finds_the_broken_layer(name, broken, monkeypatch):
    monkeypatch.setattr("fastconv.testing.processes.FORKED_PROCESS", 2.0)
    reference = (lambda x: 2 * x) if name == "equals_reference" else None
    result = verdict(name, broken, reference=reference)
    assert result.status == "failed", result
    assert "smallest failing example" in result.message
    assert f"docs/testing.md#{name}" in result.message


@pytest.mark.parametrize("cls", [Sound, L.ReLU])
def test_a_sound_layer_passes_everything(cls):
    results = check_layer(cls)
    assert [result.name for result in results] == list(CHECKS)
    assert {result.status for result in results} == {"passed", "skipped"}


def test_the_reference_is_compared():
    assert verdict("equals_reference", Sound(), reference=lambda x, scale: x * scale).status == "passed"
    message = verdict("equals_reference", NearlyRight(), reference=lambda x: 2 * x).message
    assert "got" in message
    assert "an error of" in message


def test_the_example_is_shrunk_and_the_place_is_named():
    message = verdict("input_gradient", WrongAtOneBorderPixel()).message
    assert "the gradient of the input is wrong at index (0, 0, 1, 0)" in message
    assert "shape (1, 1, 2, 1), evaluation" in message


def test_the_smallest_failing_layer_is_named():
    assert (
        "WrongForEvenKernels(kernel_size=2) on an input of shape (1, 3, 1)"
        in verdict("input_gradient", WrongForEvenKernels).message
    )


def test_the_example_can_be_made_again():
    example = verdict("input_gradient", WrongAtOneBorderPixel()).example
    (x,) = example.inputs()
    y, backward = example.layer().forward(example.context(), x)
    assert backward(np.ones_like(y))[0].ravel().tolist() == [2, 1]
    assert np.array2string(x, precision=6, separator=", ").replace("\n", "") in example.describe()


def test_one_mistake_in_output_shape_is_one_failure():
    results = check_layer(TakesMoreThanItCan(), max_examples=10, on_fail="return")
    (bad,) = [result for result in results if not result.ok]
    assert bad.name == "output_shape"
    assert "output_shape takes these inputs, and a pass raises ValueError: in layer TakesMoreThanItCan" in bad.message
    assert "on an input of shape (1, 1, 1), evaluation" in bad.message


def test_the_place_is_found_in_a_large_array_too():
    class WrongInside(Plain):
        def forward(self, ctx, x):
            def backward(dy):
                dx = 2 * dy
                dx[0, 13, 21] *= 0.5
                return dx, {}

            return 2 * x, backward

    message = verdict("input_gradient", WrongInside(), input_shapes=[(28, 28, 1)]).message
    assert "it is wrong at index (0, 13, 21, " in message


def test_float32_and_float64_tolerances_are_what_the_documentation_says():
    from fastconv.testing import compare, differences

    assert (compare.FLOAT32, compare.FLOAT64, differences.TOLERANCE) == (1e-4, 1e-9, 1e-6)


MODULE = """
    from fastconv.layers import Layer

    __version__ = "1.0"

    FACTOR = 2.0

    class Twice(Layer):
        def output_shape(self, shape):
            return shape

        def forward(self, ctx, x):
            return x * FACTOR, lambda dy: (dy * FACTOR, {})

    class Other(Twice):
        pass
"""


def install(site: Folder, *, target="acme_layers:Twice", requires="fastconv>=0.0", version="1.0") -> type[Layer]:
    info = site.install("acme-layers", version, {"acme.Twice": target}, {"acme_layers": MODULE})
    metadata = info / "METADATA"
    metadata.write_text(metadata.read_text().replace("\n\n", f"\nRequires-Dist: {requires}\n\n", 1))
    import acme_layers

    return acme_layers.Twice


def test_an_installed_layer_passes_everything(folder):
    results = {result.name: result.status for result in check_layer(install(folder))}
    assert {results[name] for name in INSTALLED} == {"passed"}


def test_a_layer_that_another_process_computes_differently(folder, monkeypatch):
    cls = install(folder)
    monkeypatch.setattr("acme_layers.FACTOR", 3.0)
    result = verdict("fresh_process", cls)
    assert result.status == "failed"
    assert "the output in a new process is wrong" in result.message


def test_a_layer_that_another_process_cannot_import(folder):
    cls = install(folder)
    (folder.path / "acme_layers.py").write_text("raise RuntimeError('not twice')")
    assert "a new process cannot load and run the model" in verdict("fresh_process", cls).message


def test_a_new_process_that_takes_too_long(folder, monkeypatch):
    cls = install(folder)
    monkeypatch.setattr("fastconv.testing.processes.NEW_PROCESS", 0.01)
    assert "within 0.01 s" in verdict("fresh_process", cls).message


def test_an_entry_point_that_leads_elsewhere(folder):
    cls = install(folder, target="acme_layers:Other")
    L.register("acme.Twice")(cls)
    assert "leads to <class 'acme_layers.Other'>" in verdict("entry_point", cls).message


def test_an_entry_point_that_leads_nowhere(folder):
    cls = install(folder, target="acme_layers:Thrice")
    L.register("acme.Twice")(cls)
    assert "leads nowhere: module 'acme_layers' has no attribute 'Thrice'" in verdict("entry_point", cls).message


@pytest.mark.parametrize("requires", ["numpy", "fastconvolution", 'fastconv; extra == "test"'])
def test_a_package_that_does_not_require_fastconv(folder, requires):
    assert (
        "acme-layers 1.0 does not require fastconv"
        in verdict("requires_fastconv", install(folder, requires=requires)).message
    )


def test_a_package_that_requires_another_fastconv(folder):
    message = verdict("versions_match", install(folder, requires="fastconv>=99")).message
    assert "acme-layers 1.0 requires fastconv>=99, and this is fastconv" in message


def test_a_package_that_says_another_version_than_its_metadata(folder):
    assert (
        "has version 1.1, its __version__ is 1.0" in verdict("versions_match", install(folder, version="1.1")).message
    )


def test_a_layer_of_another_layer_api(folder, monkeypatch):
    cls = install(folder)
    entries = entries_of(cls)
    monkeypatch.setattr(cls, "api_version", 99, raising=False)
    assert "upgrade fastconv" in run_check(CHECKS["versions_match"], entries, 1).message


def test_what_is_known_to_this_program_alone_skips_packaging():
    for name in INSTALLED:
        result = verdict(name, Sound)
        assert result.status == "skipped"
        assert "no installed package offers it" in result.message


def test_inputs_are_not_checked_where_they_are_integers():
    class Embedding(Plain):
        traits = L.Traits(integers=True)

        def build(self, shape, rng):
            self.params["rows"] = rng.standard_normal((9, 3)).astype(np.float32)

        def output_shape(self, shape):
            return (*shape, 3)

        def forward(self, ctx, x):
            rows = self.params["rows"]

            def backward(dy):
                drows = np.zeros_like(rows)
                np.add.at(drows, x + 4, dy)
                return None, {"rows": drows}

            return rows[x + 4], backward

    L.register("test.Embedding")(Embedding)
    results = check_layer(Embedding(), max_examples=5)
    assert {r.name: r.message for r in results}["input_gradient"] == "its inputs are integers"
