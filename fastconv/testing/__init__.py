"""The conformance suite: one call runs every check that the layers of fastconv pass.

>>> from fastconv.layers import Linear
>>> from fastconv.testing import check_layer
>>> {result.status for result in check_layer(Linear(3), max_examples=2)} <= {"passed", "skipped"}
True

`check_layer` needs hypothesis (``pip install 'fastconv[test]'``) and no test runner; `parametrize_with_layer_checks` makes
tests of pytest of the same checks, ``pytest --fastconv-plugins`` checks the layers of every installed package, and
`fastconv.testing.strategies` has the hypothesis strategies behind them. Every check is explained in docs/testing.md.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastconv.testing.checks import CHECKS, Check
from fastconv.testing.result import CheckResult, LayerCheckError
from fastconv.testing.runner import check_layer

if TYPE_CHECKING:
    from fastconv.testing import strategies
    from fastconv.testing.pytest_support import parametrize_with_layer_checks

__all__ = [
    "CHECKS",
    "Check",
    "CheckResult",
    "LayerCheckError",
    "check_layer",
    "parametrize_with_layer_checks",
    "strategies",
]


def __getattr__(name: str) -> Any:
    # these need hypothesis and pytest, and this package can be imported without
    if name == "strategies":
        return import_module("fastconv.testing.strategies")
    if name == "parametrize_with_layer_checks":
        return import_module("fastconv.testing.pytest_support").parametrize_with_layer_checks
    raise AttributeError(f"module 'fastconv.testing' has no attribute {name!r}")
