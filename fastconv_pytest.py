"""The plugin of pytest that comes with fastconv: ``pytest --fastconv-plugins`` checks the layers of every installed package.

It stands beside the package because pytest imports it in every session of an environment that has fastconv; that shall not load
NumPy and the kernels before somebody asks.
"""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("fastconv")
    group.addoption(
        "--fastconv-plugins", action="store_true", help="check the fastconv layers of every installed package, too"
    )
    group.addoption(
        "--fastconv-max-examples", type=int, default=25, metavar="N", help="examples that each check draws (25)"
    )


@pytest.hookimpl(tryfirst=True)  # so that -k and -m choose among them
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add a test for each layer and check."""
    if config.getoption("fastconv_plugins"):
        from fastconv.testing.pytest_support import plugin_items

        items += plugin_items(session)
