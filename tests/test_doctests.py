"""Every example in every docstring of the package runs and prints what it says."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import fastconv
from fastconv import functional, reference


def names():
    """Return the package's modules that are written in Python; importing `__main__` would run the program."""
    found = ["fastconv"]
    for module in pkgutil.walk_packages(fastconv.__path__, "fastconv."):
        spec = module.module_finder.find_spec(module.name)
        if spec.origin.endswith(".py") and not module.name.endswith(".__main__"):
            found.append(module.name)
    return found


@pytest.mark.parametrize("name", names())
def test_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # an example may write files
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        if "fastconv[" not in str(error):
            raise
        pytest.skip(str(error))  # needs an extra that is not installed
    result = doctest.testmod(module)
    assert result.failed == 0, f"{result.failed} of {result.attempted} examples of {name} fail; see the output"


def test_the_public_functions_have_examples():
    finder = doctest.DocTestFinder(recurse=False)
    without = [
        f"{package.__name__}.{name}"
        for package in (functional, reference)
        for name in package.__all__
        if callable(getattr(package, name)) and not finder.find(getattr(package, name), name)[0].examples
    ]
    assert not without
