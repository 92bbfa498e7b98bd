"""The standard tests of the ONNX project whose operators and dtypes are on the list, for the tests that run them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="the onnx package is not installed")

from fastconv.onnx.score import cases

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    CASES = cases()


@pytest.fixture(scope="module", autouse=True)
def folder_for_models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Let the tests of real networks keep what they write in a folder that goes again."""
    folder = tmp_path_factory.mktemp("onnx")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONNX_HOME", str(folder))
        yield folder
