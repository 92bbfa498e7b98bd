"""The standard tests of the ONNX project, all cases whose operators and dtypes are on the list."""

from __future__ import annotations

import unittest
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the onnx package is not installed")

from fastconv.onnx.score import cases  # noqa: E402 - which needs onnx

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


@pytest.mark.filterwarnings("ignore")  # of NumPy, where a case divides by zero on purpose, and of the onnx package
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Any) -> None:
    with np.errstate(all="ignore"):
        try:
            case.run()
        except unittest.SkipTest as skipped:
            pytest.fail(f"skipped: {skipped}")
    if case.name.startswith("test_vgg19"):
        import gc

        gc.collect()  # half a gigabyte of weights


def test_the_list_has_what_it_should() -> None:
    kinds = [case.kind for case in CASES]
    assert kinds.count("real") == 9
    assert len(CASES) > 650  # a newer onnx package has more
