"""The checks, one group per file; importing this package fills the table in their order."""

from fastconv.testing.checks import api, arrays, mathematics, state, concurrency, packaging  # isort: skip
from fastconv.testing.checks.registry import CHECKS, GROUPS, Check

__all__ = ["CHECKS", "GROUPS", "Check", "api", "arrays", "concurrency", "mathematics", "packaging", "state"]
