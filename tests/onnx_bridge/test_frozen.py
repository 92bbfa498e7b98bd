"""Every model that the standard tests of the ONNX project load as, frozen: its outputs are those of the model's evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from frozen_cases import listed
from onnx_bridge.standard_cases import CASES, folder_for_models  # noqa: F401 - the fixture

import fastconv
from fastconv.onnx.backend import Prepared


def assert_frozen_alike(model: Any, xs: list[np.ndarray]) -> None:
    """Assert that a model computes the same frozen, at the first call and later, on one thread and on two."""
    want = listed(model(*xs))
    frozen = fastconv.freeze(model)
    for threads in (1, 1, 2):
        with fastconv.num_threads(threads):
            got = listed(frozen(*xs))
        assert [(y.shape, y.dtype) for y in got] == [(y.shape, y.dtype) for y in want]
        for y, z in zip(got, want, strict=True):
            finite = np.isfinite(z)
            np.testing.assert_array_equal(y[~finite], z[~finite])
            largest = np.abs(z[finite]).max(initial=1e-3)
            np.testing.assert_allclose(y[finite], z[finite], rtol=0, atol=0 if z.dtype.kind != "f" else 1e-4 * largest)


@pytest.mark.filterwarnings("ignore")  # of NumPy, where a case divides by zero on purpose, and of the onnx package
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    run = Prepared.run

    def compare(self: Prepared, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        outputs = run(self, inputs, **kwargs)
        arrays = [
            np.asarray(x) for each, x in zip(self.file.inputs, inputs, strict=True) if each.name not in self._held
        ]
        assert_frozen_alike(self._model, arrays)
        compared.append(case.name)
        return outputs

    monkeypatch.setattr(Prepared, "run", compare)
    with np.errstate(all="ignore"):
        case.run()
    assert compared
