"""Every layer of fastconv passes its own conformance suite, check by check."""

from __future__ import annotations

import pytest
from layers.cases import ALL, IDS, Case

from fastconv.testing import check_layer


@pytest.mark.parametrize(("name", "case"), ALL, ids=IDS)
def test_it_passes_every_check(name: str, case: Case) -> None:
    check_layer(case.make(), input_shapes=case.shapes, max_examples=5)
