"""The file that all engines load: its inputs, and a batch that it does not have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the onnx package is not installed")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

from fastconv.engines import network  # noqa: E402
from fastconv.engines.files import free_batch  # noqa: E402
from fastconv.onnx import OnnxImportError  # noqa: E402


def info(name: str, *shape: Any, dtype: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, dtype, shape)


def model(nodes: list[Any], inputs: list[Any], outputs: list[Any], **constants: np.ndarray) -> Any:
    held = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def flat(batch: int = 1) -> Any:
    """A network that flattens by a Reshape to its own batch, and reshapes a bias to one row, which is no batch."""
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Reshape", ["a", "shape"], ["b"]),
        helper.make_node("MatMul", ["b", "w"], ["c"]),
        helper.make_node("Reshape", ["bias", "row"], ["d"]),
        helper.make_node("Add", ["c", "d"], ["y"]),
    ]
    constants = {
        "shape": np.array([batch, 8]),
        "w": np.arange(16, dtype=np.float32).reshape(8, 2),
        "bias": np.ones(2, np.float32),
        "row": np.array([1, 2]),
    }
    return model(nodes, [info("x", batch, 2, 2, 2)], [info("y", batch, 2)], **constants)


def shape_as(model: Any, how: str) -> Any:
    """Give the shape of the flattening Reshape in another way than an initializer."""
    nodes, held = model.graph.node, model.graph.initializer
    if how == "initializer":
        return model
    shape = next(tensor for tensor in held if tensor.name == "shape")
    held.remove(shape)
    value = {"value": shape} if how == "value" else {"value_ints": numpy_helper.to_array(shape).tolist()}
    nodes.insert(0, helper.make_node("Constant", [], ["shape"], **value))
    return model


@pytest.mark.parametrize("how", ["initializer", "value", "value_ints"])
def test_a_fixed_batch_is_freed(how: str) -> None:
    fixed, free = shape_as(flat(), how), shape_as(flat(), how)
    free_batch(free)
    onnx.checker.check_model(free, full_check=True)
    x = np.random.default_rng(0).standard_normal((3, 2, 2, 2)).astype(np.float32)
    (whole,) = ReferenceEvaluator(free).run(None, {"x": x})
    single = [ReferenceEvaluator(fixed).run(None, {"x": x[at : at + 1]})[0] for at in range(3)]
    np.testing.assert_allclose(whole, np.concatenate(single), rtol=1e-6)
    assert free.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"


def test_the_first_versions_of_reshape_have_their_shape_with_them() -> None:
    nodes = [helper.make_node("Reshape", ["x"], ["y"], shape=[4, -1])]
    free = model(nodes, [info("x", 4, 2, 3)], [info("y", 4, 6)])
    free_batch(free)
    assert list(free.graph.node[0].attribute[0].ints) == [0, -1]


def test_names_that_are_taken_already() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    free = model(nodes, [info("x", 1, "N")], [info("y", 1, "N")])
    free_batch(free)
    assert [dim.dim_param for dim in free.graph.input[0].type.tensor_type.shape.dim] == ["N0", "N"]


def test_what_the_file_says_is_taken(tmp_path: Path) -> None:
    onnx.save(flat(4), str(tmp_path / "flat.onnx"))
    found = network(tmp_path / "flat.onnx", tmp_path)
    assert (found.name, found.path, found.batch, found.sizes) == ("flat.onnx", tmp_path / "flat.onnx", 4, {})
    assert found.inputs["x"].shape == (4, 2, 2, 2) and found.inputs["x"].dtype == np.float32
    np.testing.assert_array_equal(found.inputs["x"], network(tmp_path / "flat.onnx", tmp_path).inputs["x"])


def test_another_batch_is_another_file(tmp_path: Path) -> None:
    onnx.save(flat(4), str(tmp_path / "flat.onnx"))
    found = network(tmp_path / "flat.onnx", tmp_path, batch=2)
    assert (found.name, found.batch, found.sizes) == ("flat.onnx", 2, {"N": 2})
    assert found.path != tmp_path / "flat.onnx"
    (y,) = ReferenceEvaluator(str(found.path)).run(None, found.inputs)
    assert y.shape == (2, 2)


def test_open_sizes(tmp_path: Path) -> None:
    nodes = [helper.make_node("Add", ["x", "n"], ["y"])]
    inputs = [info("x", "batch", 3, "height", "width"), info("n", "batch", 1, 1, 1)]
    path = tmp_path / "open.onnx"
    onnx.save(model(nodes, inputs, [info("y", "batch", 3, "height", "width")]), str(path))
    found = network(path, tmp_path, batch=2, shapes={"x": (3, 8, 9)})
    assert found.sizes == {"batch": 2, "height": 8, "width": 9}
    assert [x.shape for x in found.inputs.values()] == [(2, 3, 8, 9), (2, 1, 1, 1)]
    with pytest.raises(
        ValueError, match=r"open.onnx leaves the shape of its input 'x' open, any x 3 x any x any: give it"
    ):
        network(path, tmp_path)
    with pytest.raises(
        ValueError, match=r"'x' of .*open.onnx has shape any x 3 x any x any, which N x 4 x 8 x 9 does not fit"
    ):
        network(path, tmp_path, shapes={"x": (4, 8, 9)})
    with pytest.raises(ValueError, match="has no input 'z'; it has x, n"):
        network(path, tmp_path, shapes={"z": (1,)})
    with pytest.raises(ValueError, match="which is too large"):
        network(path, tmp_path, shapes={"x": (3, 10**5, 10**5)})


def test_integers_are_zeros_and_single_numbers_have_no_batch(tmp_path: Path) -> None:
    nodes = [helper.make_node("Gather", ["x", "at"], ["y"])]
    inputs = [info("x", 4, 3), info("at", dtype=TensorProto.INT64)]
    onnx.save(model(nodes, inputs, [info("y", 3)]), str(tmp_path / "gather.onnx"))
    found = network(tmp_path / "gather.onnx", tmp_path)
    assert found.inputs["at"].shape == () and found.inputs["at"] == 0 and found.inputs["at"].dtype == np.int64


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "none.onnx").write_bytes(b"nonsense")
    with pytest.raises(OnnxImportError, match="not an ONNX file"):
        network(tmp_path / "none.onnx", tmp_path)
    with pytest.raises(FileNotFoundError):
        network(tmp_path / "missing.onnx", tmp_path)
