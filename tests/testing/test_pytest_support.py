"""The checks as tests of pytest, in test files and for installed packages; each run is a pytest of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from plugin_folders import TWICE, Folder, folder

import fastconv
from fastconv.layers import ReLU
from fastconv.testing import parametrize_with_layer_checks

__all__ = ["folder"]  # a fixture

ROOT = Path(fastconv.__file__).parents[1]

SCALES = """
from fastconv import layers as L
from fastconv.layers import Layer, register
from fastconv.testing import parametrize_with_layer_checks

@register("my.Half")
class Half(Layer):
    def output_shape(self, shape):
        return shape

    def forward(self, ctx, x):
        return x / 2, lambda dy: (dy, {})

half = (Half(), {"input_shapes": [(3, 2)], "expected_failures": EXPECTED})

@parametrize_with_layer_checks([L.Flatten(), half], max_examples=3)
def test_layer(layer, check):
    check(layer)
"""


def run_pytest(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)])}
    # alone: where fastconv is installed, pytest would load its plugin a second time
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    command = [sys.executable, "-m", "pytest", "-p", "fastconv_pytest", "-p", "no:cacheprovider", "-rA", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120).stdout


def test_each_layer_and_check_is_a_test(tmp_path):
    (tmp_path / "test_it.py").write_text(SCALES.replace("EXPECTED", '{"input_gradient": "the factor is missing"}'))
    out = run_pytest(tmp_path)
    assert "PASSED test_it.py::test_layer[Flatten()-input_gradient]" in out
    assert "XFAIL test_it.py::test_layer[Half()-input_gradient] - the factor is missing" in out
    assert "no installed package offers it" in out
    assert " failed" not in out


def test_failures_and_unexpected_passes_fail(tmp_path):
    (tmp_path / "test_it.py").write_text(SCALES.replace("EXPECTED", '{"dtype_stays": "I thought so"}'))
    out = run_pytest(tmp_path)
    assert "FAILED test_it.py::test_layer[Half()-input_gradient]" in out
    assert "smallest failing example: Half() on an input of shape (1, 1, 1)" in out
    assert "it was expected to fail (I thought so) and passes" in out
    assert "2 failed" in out


def test_what_a_layer_raises_keeps_its_traceback(tmp_path):
    code = SCALES.replace("EXPECTED", "{}").replace("return x / 2,", "return x.half(),")
    (tmp_path / "test_it.py").write_text(code)
    out = run_pytest(tmp_path, "-k", "Half and batch_of_one")
    assert "AttributeError: in layer Half: 'numpy.ndarray' object has no attribute 'half'" in out
    assert "test_it.py" in out.partition("AttributeError")[0]


def test_options_of_a_layer_are_checked():
    with pytest.raises(ValueError, match=r"a layer may be given input_shapes, .*got 'shapes'"):
        parametrize_with_layer_checks([(ReLU(), {"shapes": [(3,)]})])
    with pytest.raises(ValueError, match="names 'gradient', which is not a check"):
        parametrize_with_layer_checks([ReLU()], expected_failures={"gradient": "because"})


def test_installed_layers_are_checked_when_asked_for(folder: Folder):
    broken = TWICE.replace("dy + dy", "dy")
    folder.install("acme-layers", "1.0", {"acme.Twice": "acme_a:Twice", "acme.Gone": "acme_b:Gone"}, {"acme_a": TWICE})
    picky = TWICE.replace("            return shape", "            raise ValueError('never')")
    folder.install("bad-layers", "1.0", {"bad.Twice": "bad_a:Twice"}, {"bad_a": broken})
    folder.install("picky-layers", "1.0", {"picky.Twice": "picky_a:Twice"}, {"picky_a": picky})
    (folder.path / "test_own.py").write_text("def test_own(): pass")
    assert "1 passed" in run_pytest(folder.path)
    out = run_pytest(folder.path, "--fastconv-plugins", "--fastconv-max-examples", "3")
    assert "PASSED test_own.py::test_own" in out
    assert "PASSED fastconv-plugins::acme.Twice[input_gradient]" in out
    assert "FAILED fastconv-plugins::bad.Twice[input_gradient]" in out
    assert "FAILED fastconv-plugins::acme.Gone[import]" in out
    assert "PluginLoadError" in out
    assert "FAILED fastconv-plugins::acme.Twice[requires_fastconv]" in out
    assert "FAILED fastconv-plugins::picky.Twice[inputs]" in out
    assert "no input shapes were found that output_shape of layer Twice takes" in out
    assert "5 failed" in out
    chosen = run_pytest(folder.path, "--fastconv-plugins", "-k", "adjoint or thread_count")
    assert "thread_count" in chosen
    assert "input_gradient" not in chosen


def test_pytest_loads_no_kernels_without_being_asked(tmp_path):
    code = "import sys\ndef test_it(): assert 'fastconv' not in sys.modules and 'numpy' not in sys.modules"
    (tmp_path / "test_it.py").write_text(code)
    assert "1 passed" in run_pytest(tmp_path, "-p", "no:hypothesispytest")


def test_the_metadata_name_the_plugin():
    project = Path(__file__).resolve().parents[2] / "pyproject.toml"
    assert '[project.entry-points.pytest11]\nfastconv = "fastconv_pytest"' in project.read_text()
