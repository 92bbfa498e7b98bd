"""How many of the ONNX project's own tests pass: ``python -m fastconv.onnx.score``.

On the list is every case whose operators are all supported and whose tensors are of dtypes that run here; what is left out
is left out by operator or dtype, never by case, and `LEFT_OUT` has the reasons.
"""

from __future__ import annotations

import os
import sys
import tempfile
import unittest
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastconv.onnx.errors import require_onnx
from fastconv.onnx.functions import WRITTEN_OUT
from fastconv.onnx.table import supported

KINDS = ("node", "real", "simple", "pytorch-converted", "pytorch-operator")

#: float32, int32, int64, bool, float64
DTYPES = {1, 6, 7, 9, 11}


#: Why operators of the suite are left out -> which. One that is supported is on the list, whatever stands here.
LEFT_OUT: dict[str, tuple[str, ...]] = {
    "optional values, text, files and graphs for each part of a sequence are no arrays of numbers": (
        *("Optional", "OptionalGetElement", "OptionalHasElement", "SequenceMap"),
        *("StringConcat", "StringNormalizer", "StringSplit", "RegexFullMatch", "TfIdfVectorizer", "ImageDecoder"),
        *("ai.onnx.ml.LabelEncoder",),
    ),
    "integers of few bits: models compute with float32 and float64": (
        *("BitCast", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "ConvInteger", "MatMulInteger"),
        *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul"),
    ),
    "optimizers are those of fit": (
        *("ai.onnx.preview.training.Adagrad", "ai.onnx.preview.training.Adam"),
        *("ai.onnx.preview.training.Gradient", "ai.onnx.preview.training.Momentum"),
    ),
    "random numbers are drawn in training alone": (
        *("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"),
    ),
    "spectra are complex numbers": (
        *("DFT", "STFT", "MelWeightMatrix", "BlackmanWindow", "HammingWindow", "HannWindow"),
    ),
    "of language models, with memories that grow from call to call": (
        *("TensorScatter", "ai.onnx.preview.FlexAttention"),
    ),
    "of models that are not networks, or known only as skl2onnx writes them": (
        *("ai.onnx.ml.ArrayFeatureExtractor", "ai.onnx.ml.Binarizer", "ai.onnx.ml.TreeEnsemble"),
    ),
    "in no network that was seen; a plugin can add them": (
        *("CumProd", "DeformConv", "Det", "ReverseSequence", "Unique"),
    ),
}


class SuiteCase(NamedTuple):
    """One case of the standard suite."""

    name: str
    kind: str
    operators: frozenset[str]
    run: Callable[[], Any]


def cases() -> list[SuiteCase]:
    """Return the cases on the list."""
    require_onnx()
    from onnx.backend.test import BackendTest
    from onnx.backend.test.loader import load_model_tests

    from fastconv.onnx.backend import Backend

    known = _known()
    found: dict[str, tuple[str, frozenset[str]]] = {}
    for kind in KINDS:
        for case in load_model_tests(kind=kind):
            operators, fits = _contents(case)
            if fits and operators <= known:
                found[case.name] = kind, operators
    listed = []
    for items in BackendTest(Backend, __name__)._test_items.values():
        for name, item in items.items():
            case_name = name.removesuffix("_cpu")
            if name.endswith("_cpu") and case_name in found:
                kind, operators = found[case_name]
                listed.append(SuiteCase(case_name, kind, operators, _runner(item.func)))
    return listed


def left_out() -> dict[str, list[str]]:
    """Return why operators of the suite are not on the list: reason to names; those without a reason are under ``""``."""
    from onnx.backend.test.loader import load_model_tests

    used = {operator for kind in KINDS for case in load_model_tests(kind=kind) for operator in _contents(case)[0]}
    reasons = {operator: reason for reason, operators in LEFT_OUT.items() for operator in operators}
    found: dict[str, list[str]] = {}
    for operator in sorted(used - _known()):
        found.setdefault(reasons.get(operator, ""), []).append(operator)
    return found


def _known() -> frozenset[str]:
    """Return the operators that are layers or written out."""
    return frozenset(supported() | WRITTEN_OUT)


def _runner(function: Callable[[Any], Any]) -> Callable[[], Any]:
    return lambda: function(None)


def _contents(case: Any) -> tuple[frozenset[str], bool]:
    """Return the operators of a case, and whether all its tensors are of dtypes that run here."""
    import onnx

    model = case.model
    if model is None and case.model_dir:
        model = onnx.load(os.path.join(case.model_dir, "model.onnx"))
    elif model is None:
        model = onnx.load(Path(onnx.__file__).parent.parent / case.url)
    graph = model.graph
    kinds = set()
    for value in (*graph.input, *graph.output, *graph.value_info):
        kinds.add(value.type.tensor_type.elem_type if value.type.WhichOneof("value") == "tensor_type" else -1)
    kinds.update(tensor.data_type for tensor in graph.initializer)
    names = frozenset(
        node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}" for node in _nodes(graph)
    )
    return names, kinds <= DTYPES


def _nodes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)


def main() -> int:
    """Run all cases on the list and print the score."""
    passed: Counter[str] = Counter()
    total: Counter[str] = Counter()
    failed = []
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        os.environ["ONNX_HOME"] = folder
        for case in cases():
            total[case.kind] += 1
            try:
                case.run()
                passed[case.kind] += 1
            except (Exception, unittest.SkipTest) as error:
                failed.append(f"{case.name}: {' '.join(str(error).split()):.120}")
    print("| cases | on the list | passed |\n|---|---|---|")
    for kind in KINDS:
        print(f"| {kind} | {total[kind]} | {passed[kind]} |")
    print(f"| all | {total.total()} | {passed.total()} |")
    for line in failed:
        print(line)
    print("\n| left out | why |\n|---|---|")
    for reason, operators in sorted(left_out().items()):
        print(f"| {', '.join(operators)} | {reason or 'nobody has said yet'} |")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
