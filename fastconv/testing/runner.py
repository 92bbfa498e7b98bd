"""Running checks on a layer: drawing examples, shrinking failures, wording messages."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

from fastconv.arguments import positive
from fastconv.layers import Layer
from fastconv.loading import describe
from fastconv.testing.cases import Case, Entry
from fastconv.testing.checks import CHECKS, Check
from fastconv.testing.inference import by_size, entries_of
from fastconv.testing.result import DOCS, CheckFailed, CheckResult, CheckSkipped, LayerCheckError


def check_layer(
    layer: Layer | type[Layer],
    *,
    input_shapes: Sequence[Any] | None = None,
    reference: Callable[..., Any] | None = None,
    expected_failures: Mapping[str, str] | None = None,
    max_examples: int = 25,
    on_fail: str = "raise",
) -> list[CheckResult]:
    """Prove a layer right: run every check of `fastconv.testing.CHECKS`, and return what each found.

    Examples are drawn anew around what the layer takes: images of other sizes, batches of none, one and several, training and
    evaluation. What fails is shrunk to the smallest example that does. The same layer gets the same examples each time. The
    layer itself is not changed: copies of it are.

    Parameters
    ----------
    layer : Layer, or a subclass of it
        Of a class, its `examples` are checked, or one made with as few arguments as possible.
    input_shapes : shape or list of shapes, optional
        One for each input, without the batch axis; found by trying where left out. A layer that is built already is checked
        with these alone, any other with variants of them that its `output_shape` takes.
    reference : callable, optional
        ``reference(*inputs, **params)`` returns what comes out in evaluation; compared in float64.
    expected_failures : dict of str, optional
        Names of checks that are known to fail, and why.
    max_examples : int
        How many examples each check draws.
    on_fail : "raise", "warn" or "return"
        What to do in the end where a check failed, or passed against what was expected.

    Returns
    -------
    list of CheckResult
        One for each check, in the order of `CHECKS`.

    Raises
    ------
    LayerCheckError
        An `AssertionError`; with ``on_fail="raise"`` where a check failed, or passed although `expected_failures` names it.
    ImportError
        Where hypothesis is not installed: ``pip install 'fastconv[test]'``.
    TypeError, ValueError
        For wrong arguments, a class that cannot be made, and a layer for which no input shapes are found.

    Examples
    --------
    >>> from fastconv.layers import ReLU
    >>> from fastconv.testing import check_layer
    >>> results = check_layer(ReLU(), max_examples=3)
    >>> all(result.ok for result in results)
    True
    """
    if on_fail not in ("raise", "warn", "return"):
        raise ValueError(f'on_fail must be "raise", "warn" or "return", got {on_fail!r}')
    positive(max_examples, "max_examples")
    expected = expected_of(expected_failures)
    require_hypothesis()
    entries = entries_of(layer, input_shapes, reference)
    results = [run_check(check, entries, max_examples, expected.get(name)) for name, check in CHECKS.items()]
    if not all(result.ok for result in results):
        error = LayerCheckError(entries[0].layer.label, results)
        if on_fail == "raise":
            raise error
        if on_fail == "warn":
            warnings.warn(str(error), stacklevel=2)
    return results


def expected_of(expected_failures: Mapping[str, str] | None) -> dict[str, str]:
    """Return `expected_failures`, checked to name checks and give reasons."""
    expected = dict(expected_failures or {})
    for name, reason in expected.items():
        if name not in CHECKS:
            raise ValueError(f"expected_failures names {name!r}, which is not a check; there are {', '.join(CHECKS)}")
        if not isinstance(reason, str) or not reason:
            raise TypeError(f"expected_failures[{name!r}] must be the reason in words, got {reason!r}")
    return expected


def require_hypothesis() -> None:
    """Raise `ImportError` that says what to install where hypothesis is missing."""
    try:
        import hypothesis  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "fastconv.testing draws its examples with hypothesis, which is not installed: pip install 'fastconv[test]'"
        ) from error
    except Exception as error:
        raise ImportError(
            f"fastconv.testing draws its examples with hypothesis, whose import raises {type(error).__name__}: {error}; "
            "it reads the metadata of every installed package, unless HYPOTHESIS_NO_PLUGINS=1 is set"
        ) from error


def run_check(check: Check, entries: Sequence[Entry], max_examples: int, expected: str | None = None) -> CheckResult:
    """Return what one check finds out about the layers of `entries`; `expected` is why it is known to fail."""
    start = time.perf_counter()
    try:
        error = _typical(check, entries) if check.once else _drawn(check, entries, max_examples)
    except CheckSkipped as skipped:
        return CheckResult(check.name, check.group, "skipped", str(skipped), time.perf_counter() - start)
    seconds = time.perf_counter() - start
    if error is None and expected:
        message = f"it was expected to fail ({expected}) and passes: take it out of expected_failures"
        return CheckResult(check.name, check.group, "unexpected pass", message, seconds)
    if error is None:
        return CheckResult(check.name, check.group, "passed", "", seconds)
    if expected:
        return CheckResult(check.name, check.group, "expected failure", expected, seconds, error, error.example)
    return CheckResult(check.name, check.group, "failed", str(error), seconds, error, error.example)


def _typical(check: Check, entries: Sequence[Entry]) -> CheckFailed | None:
    for entry, dtype in product(entries, check.dtypes):
        try:
            _apply(check, Case(entry, entry.typical, dtype=dtype))
        except CheckFailed as error:
            return error
    return None


def _drawn(check: Check, entries: Sequence[Entry], max_examples: int) -> CheckFailed | None:
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis.errors import FlakyFailure, Unsatisfiable

    from fastconv.testing.strategies import cases

    if check.doubtful:
        entries = [entry._replace(variants=by_size({*entry.variants, *entry.doubtful})) for entry in entries]

    @settings(
        max_examples=max_examples,
        database=None,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate, Phase.shrink],
        report_multiple_bugs=False,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(cases(entries, dtypes=check.dtypes))
    def examples(case: Case) -> None:
        _apply(check, case, failures)

    failures: list[CheckFailed] = []
    try:
        examples()
    except CheckFailed as error:
        return _smallest(check, error)
    except FlakyFailure:  # it fails now and then: the smallest failure that was seen
        return failures[-1]
    except Unsatisfiable as error:
        raise CheckSkipped("no example was found that keeps away from where the layer has kinks") from error
    return None


def _smallest(check: Check, error: CheckFailed) -> CheckFailed:
    """Return the failure on the smallest shapes with which the example of `error` fails; shrinking may have missed them."""
    from hypothesis.errors import HypothesisException, HypothesisWarning

    case: Case = error.example
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HypothesisWarning)  # an example may be rejected, here too
        for shapes in case.entry.variants:
            if shapes == case.shapes:
                break
            try:
                _apply(check, case._replace(shapes=shapes))
            except CheckFailed as smaller:
                return smaller
            except (CheckSkipped, HypothesisException):
                continue
    return error


def _apply(check: Check, case: Case, failures: list[CheckFailed] | None = None) -> None:
    """Run a check on one example; whatever the layer raises becomes a failure with the example in its words."""
    from hypothesis.errors import HypothesisException

    try:
        check.function(case)
    except (CheckSkipped, HypothesisException):
        raise
    except (Exception, SystemExit) as error:
        what = str(error) if isinstance(error, CheckFailed) else describe(error)
        failure = CheckFailed(
            f"{what}\n  smallest failing example: {case.describe()}\n  {check.about}\n  Read on: {DOCS}#{check.name}"
        )
        failure.example = case
        if failures is not None:
            failures.append(failure)
        raise failure from error
