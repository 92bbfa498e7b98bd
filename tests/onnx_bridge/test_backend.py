"""The standard tests of the ONNX project, all cases whose operators and dtypes are on the list."""

from __future__ import annotations

import unittest
from typing import Any

import numpy as np
import pytest
from onnx_bridge.standard_cases import CASES, folder_for_models  # noqa: F401 - the fixture


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
