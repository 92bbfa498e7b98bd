"""Names that a test registers and that are forgotten after it."""

from __future__ import annotations

import importlib

import pytest

from fastconv import plugins
from fastconv.registry import _LATE


def forget_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget with `monkeypatch` what is registered from now on."""
    for module in _LATE.values():  # what registers itself must not do so later, when it would be forgotten too
        importlib.import_module(module)
    for group in plugins.GROUPS:
        registry = plugins.registry_of(group)
        for names in ("_members", "_names", "_origins"):
            monkeypatch.setattr(registry, names, dict(getattr(registry, names)))
