"""The engines themselves, where they are installed: each loads a file with an open batch and says what fastconv says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the onnx package is not installed")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

import fastconv  # noqa: E402
from fastconv.engines import Engine, compare, engines, network  # noqa: E402
from fastconv.engines.engine import KINDS  # noqa: E402
from fastconv.engines.openers import open_fastconv  # noqa: E402


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Two inputs, of which the second comes first in the graph, and two outputs."""
    weight = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["a"]),
        helper.make_node("Relu", ["a"], ["first"]),
        helper.make_node("Sub", ["first", "shift"], ["second"]),
    ]
    inputs = [
        helper.make_tensor_value_info("shift", TensorProto.FLOAT, ["n", 4, 6, 7]),
        helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, "h", 9]),
    ]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4, 6, 7]) for name in ("first", "second")]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, [numpy_helper.from_array(weight, "w")])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(tmp_path / "net.onnx")
    )
    return tmp_path / "net.onnx"


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", [name for name in KINDS if name != "fastconv"])
def test_it_runs_a_file(name: str, threads: int, path: Path, tmp_path: Path) -> None:
    for module in KINDS[name].modules:
        pytest.importorskip(module, reason=f"{module} is not installed")
    found = network(path, tmp_path, batch=2, shapes={"image": (3, 8, 9)})
    result = compare(found, engines([name], threads), rounds=1, seconds=0.0, starts=1)
    assert result.errors == []
    assert [each.engine for each in result.engines] == ["fastconv", name]
    assert result.difference < 1e-5


def test_ours_says_what_the_definition_says(path: Path, tmp_path: Path) -> None:
    found = network(path, tmp_path, batch=2, shapes={"image": (3, 8, 9)})
    expected = ReferenceEvaluator(str(path)).run(None, found.inputs)
    with fastconv.num_threads(1):  # which puts back what the opener sets
        in_another_order = dict(reversed(found.inputs.items()))
        outputs = open_fastconv(1)(str(path), in_another_order, found.sizes)()
    assert len(outputs) == 2
    for y, wanted in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(y, wanted, rtol=1e-4, atol=1e-5)


def test_a_model_with_several_settings_counts_once(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    found = network(path, tmp_path, batch=1, shapes={"image": (3, 8, 9)})
    team: list[Engine] = engines(["onnxruntime"], 2)
    assert len(team) == 3
    result = compare(found, team, rounds=1, seconds=0.0, starts=1)
    assert len(result.engines) == 2 and result.engines[1].settings in ("spinning", "not spinning")
