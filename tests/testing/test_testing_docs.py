"""docs/testing.md explains every check, in the order of the suite, and says what the suite says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from fastconv.layers import Layer, Traits, register
from fastconv.testing import CHECKS, check_layer
from fastconv.testing.checks import GROUPS
from fastconv.testing.result import DOCS

PAGE = Path(__file__).resolve().parents[2] / DOCS


def test_every_check_has_a_section_in_its_group():
    text = PAGE.read_text(encoding="utf-8")
    assert re.findall(r"^### (\w+)$", text, re.MULTILINE) == list(CHECKS)
    for group in GROUPS:
        section = text.partition(f"\n## {group}\n")[2].partition("\n## ")[0]
        assert re.findall(r"^### (\w+)$", section, re.MULTILINE) == [
            c.name for c in CHECKS.values() if c.group == group
        ]
    assert f"{len(CHECKS)} checks" in text


def test_every_check_says_what_it_proves():
    for check in CHECKS.values():
        assert len(check.about) > 60, check.name


def test_the_layer_of_the_readme_passes():
    text = (PAGE.parents[1] / "README.md").read_text(encoding="utf-8")
    (code,) = (code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "class Scale" in code)
    namespace: dict[str, object] = {"__name__": "readme"}
    exec(code.replace("example.Scale", "readme.Scale"), namespace)
    check_layer(namespace["Scale"], max_examples=5)  # type: ignore[arg-type]


def test_the_failure_that_the_page_shows_is_real():
    @register("test.Forgetful")
    class Shrink(Layer):
        traits = Traits(kinks=(0.0,))

        def output_shape(self, shape):
            return shape

        def forward(self, ctx, x):
            return np.where(x < 0, -x * x, x), lambda dy: (np.where(x < 0, -x * dy, dy), {})

    results = check_layer(Shrink(), on_fail="return")
    (bad,) = [result for result in results if not result.ok]
    shown = PAGE.read_text(encoding="utf-8").partition("```text\n")[2].partition("```")[0]
    first, example, *_ = f"{bad.name} ({bad.group}): {bad.message}".split("\n")
    for line in (first, example):  # the digits are those of one version of hypothesis
        assert re.sub(r"[-\d.]+", "#", line.strip()) in re.sub(r"[-\d.]+", "#", " ".join(shown.split()))
