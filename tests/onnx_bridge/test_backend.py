"""The standard tests of the ONNX project, all cases whose operators and dtypes are on the list."""

from __future__ import annotations

import unittest
import warnings
from typing import Any

import numpy as np
import pytest
from onnx_bridge.standard_cases import CASES, folder_for_models  # noqa: F401 - the fixture

from fastconv.onnx.score import left_out


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


def test_what_is_left_out_is_left_out_for_a_reason() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the onnx package, as it makes its cases
        found = left_out()
    assert "" not in found
    assert any("Optional" in operators for operators in found.values())


def test_the_list_has_what_it_should() -> None:
    kinds = [case.kind for case in CASES]
    assert kinds.count("real") == 9
    assert len(CASES) > 650  # a newer onnx package has more
