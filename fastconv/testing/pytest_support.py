"""The checks as pytest tests: one per layer and check, in a test file or for every installed package."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import pytest

from fastconv import plugins
from fastconv.layers import Layer
from fastconv.registry import layers as registry
from fastconv.testing.cases import Entry
from fastconv.testing.checks import CHECKS, Check
from fastconv.testing.inference import entries_of
from fastconv.testing.result import CheckFailed, CheckResult
from fastconv.testing.runner import expected_of, require_hypothesis, run_check

#: What may stand beside a layer in `parametrize_with_layer_checks`.
_OPTIONS = ("input_shapes", "reference", "expected_failures", "max_examples")


class _Examined:
    """What all checks of one layer share: the inputs that were found for it, once, when the first check runs."""

    def __init__(self, input_shapes: Any = None, reference: Any = None) -> None:
        self.arguments = input_shapes, reference
        self.found: tuple[Any, list[Entry]] | None = None

    def entries_of(self, layer: Layer | type[Layer]) -> list[Entry]:
        if self.found is None or self.found[0] is not layer:
            self.found = layer, entries_of(layer, *self.arguments)
        return self.found[1]


class LayerCheck:
    """One check with its options, to be called with the layer: it fails, skips or expects to fail as a test does."""

    def __init__(self, check: Check, examined: _Examined, max_examples: int, expected: str | None = None) -> None:
        self.check = check
        self.examined = examined
        self.max_examples = max_examples
        self.expected = expected

    def __call__(self, layer: Layer | type[Layer]) -> None:
        """Run the check; raise what tells pytest how it went."""
        __tracebackhide__ = True
        tell(run_check(self.check, self.examined.entries_of(layer), self.max_examples, self.expected))

    def __repr__(self) -> str:
        return self.check.name


def tell(result: CheckResult) -> None:
    """Raise what tells pytest the status of a result: nothing where it passed."""
    __tracebackhide__ = True
    if result.status == "skipped":
        pytest.skip(result.message)
    if result.status == "expected failure":
        pytest.xfail(result.message)
    if not result.ok:
        _fail(result)


def _fail(result: CheckResult) -> NoReturn:
    __tracebackhide__ = True
    cause = result.error.__cause__ if result.error is not None else None
    # what the layer raised is shown with its traceback; what a check found says all in its message
    raise CheckFailed(f"{result.name}: {result.message}") from (None if isinstance(cause, CheckFailed) else cause)


def parametrize_with_layer_checks(
    layers: Sequence[Any], *, expected_failures: Mapping[str, str] | None = None, max_examples: int = 25
) -> Callable[[Any], Any]:
    """Return a decorator that makes of one test one for each layer and check; the test calls ``check(layer)``.

    Parameters
    ----------
    layers : list
        Layers, classes of layers, or pairs of one and a dict of `check_layer`'s keywords: ``input_shapes``, ``reference``,
        ``expected_failures``, ``max_examples``.
    expected_failures : dict of str, optional
        Names of checks that are known to fail for all of them, and why: these tests are expected to fail, strictly.
    max_examples : int
        How many examples each check draws.

    Examples
    --------
    >>> from fastconv.layers import Linear, ReLU
    >>> from fastconv.testing import parametrize_with_layer_checks
    >>> @parametrize_with_layer_checks([ReLU(), (Linear(3), {"input_shapes": [(4,)]})])
    ... def test_layer(layer, check):
    ...     check(layer)
    """
    require_hypothesis()
    params = []
    for item in layers:
        layer, given = item if isinstance(item, tuple) else (item, {})
        unknown = sorted(set(given) - set(_OPTIONS))
        if unknown:
            raise ValueError(f"a layer may be given {', '.join(_OPTIONS)}, got {unknown[0]!r}")
        expected = expected_of({**(expected_failures or {}), **given.get("expected_failures", {})})
        examined = _Examined(given.get("input_shapes"), given.get("reference"))
        examples = given.get("max_examples", max_examples)
        label = layer.__name__ if isinstance(layer, type) else repr(layer)
        params += [
            pytest.param(layer, LayerCheck(check, examined, examples, expected.get(name)), id=f"{label}-{name}")
            for name, check in CHECKS.items()
        ]
    return pytest.mark.parametrize(("layer", "check"), params)


class PluginLayers(pytest.Collector):
    """The layers of all installed packages, each with every check: what ``pytest --fastconv-plugins`` adds.

    A layer that cannot be imported, or made, or for which no inputs are found, is one test that fails.
    """

    def collect(self) -> Iterator[pytest.Item]:
        """Yield one item for each layer and check, or one that fails where the layer cannot be had."""
        for plugin in plugins.entries():
            if plugin.kind != "layer":
                continue
            examined, examples = _Examined(), self.config.getoption("fastconv_max_examples")
            try:
                layer = registry.get(plugin.name)
                examined.entries_of(layer)
            except Exception as error:  # examples() of a stranger may raise anything
                step = "import" if isinstance(error, (LookupError, plugins.PluginLoadError)) else "inputs"
                yield PluginItem.from_parent(self, name=f"{plugin.name}[{step}]", error=error)
                continue
            for check in CHECKS.values():
                bound = LayerCheck(check, examined, examples)
                yield PluginItem.from_parent(self, name=f"{plugin.name}[{check.name}]", layer=layer, check=bound)


class PluginItem(pytest.Item):
    """One check of one layer of an installed package."""

    def __init__(
        self, *, layer: Any = None, check: Any = None, error: Exception | None = None, **keywords: Any
    ) -> None:
        super().__init__(**keywords)
        self.layer = layer
        self.check = check
        self.error = error

    def runtest(self) -> None:
        """Run the check."""
        if self.error is not None:
            raise self.error
        self.check(self.layer)

    def repr_failure(self, excinfo: Any, style: Any = None) -> Any:
        """Return the message alone where it says all."""
        if excinfo.errisinstance(CheckFailed) and excinfo.value.__cause__ is None:
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Any, int | None, str]:
        """Return how reports call it."""
        return self.path, None, self.name


def plugin_items(session: pytest.Session) -> list[pytest.Item]:
    """Return the tests of all installed layers."""
    require_hypothesis()
    collector = PluginLayers.from_parent(session, name="fastconv-plugins", nodeid="fastconv-plugins")
    return list(collector.collect())
