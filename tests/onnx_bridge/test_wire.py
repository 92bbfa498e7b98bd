"""Large tensors are read where they lie in the file: the graph is the one that the whole message says."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

onnx = pytest.importorskip("onnx", reason="the onnx package is not installed")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx_bridge.mutations import mutated, seeds  # noqa: E402

from fastconv.onnx import OnnxImportError, files, load, wire  # noqa: E402


def network(*tensors: TensorProto, producer: str = "tests") -> onnx.ModelProto:
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4]) for name in ("x", "y")]
    node = helper.make_node("Gemm", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "graph", infos[:1], infos[1:], list(tensors))
    return helper.make_model(graph, producer_name=producer, opset_imports=[helper.make_opsetid("", 17)])


def tensor(name: str, *shape: int, dtype: str = "float32") -> TensorProto:
    return numpy_helper.from_array(np.random.default_rng(0).integers(0, 99, shape).astype(dtype), name)


def outcome(content: bytes) -> object:
    """Return what is read of a file, or why not."""
    try:
        file = files.read(content)
    except OnnxImportError as error:
        return str(error)
    return (
        [node._replace(attributes={}) for node in file.nodes],
        file.inputs,
        file.outputs,
        {name: (array.dtype.name, array.shape, array.tobytes()) for name, array in file.constants.items()},
    )


@given(sizes=st.lists(st.integers(0, 300), max_size=6))
def test_what_was_cut_out_and_the_rest_are_the_whole_message(sizes: list[int]) -> None:
    model = network(*(tensor(str(at), size) for at, size in enumerate(sizes)), producer="x" * 200)
    content = model.SerializeToString()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "LARGE", 100)
        less = wire.slim(onnx, memoryview(content))
    large = [at for at, each in enumerate(model.graph.initializer) if each.ByteSize() >= 100]
    assert large == sorted({} if less is None else less.data)
    if less is not None:
        rest = onnx.ModelProto.FromString(less.content)
        for at, data in less.data.items():
            assert not rest.graph.initializer[at].HasField("raw_data")
            rest.graph.initializer[at].raw_data = bytes(data)
        assert rest == model


def test_mutated_files_are_read_as_whole_messages_are(monkeypatch) -> None:
    whole, read = seeds(), 0
    for number in range(600):
        content = mutated(np.random.default_rng(number), whole[number % len(whole)])
        monkeypatch.setattr(wire, "LARGE", 2**40)
        expected = outcome(content)
        monkeypatch.setattr(wire, "LARGE", 4)
        assert outcome(content) == expected, number
        read += not isinstance(expected, str)
    assert read > 50


@pytest.mark.parametrize(
    "content",
    [
        b"\x3a\xff\xff\xff\xff\x0f" + bytes(20),  # a graph that is longer than the file
        b"\x3a" + b"\xff" * 12,  # a length without end
        b"\x0b\x0c" * 20,  # groups
        b"\x3a\x02\x12\x00" * 2,  # two graphs
        b"\x39" + bytes(8) + b"\x3d" + bytes(4),  # a graph that is a number
        b"\x08",  # cut short
        b"\x08\x01" * 20,  # no graph
    ],
)
def test_what_is_unusual_is_left_to_the_library(content: bytes, monkeypatch) -> None:
    monkeypatch.setattr(wire, "LARGE", 0)
    assert wire.slim(onnx, memoryview(content)) is None


def test_a_row_of_tiny_fields_is_left_to_the_library(monkeypatch) -> None:
    monkeypatch.setattr(wire, "MOST_FIELDS", 50)
    content = network(tensor("w", 4, 2000)).SerializeToString()
    assert wire.slim(onnx, memoryview(content)) is not None
    assert wire.slim(onnx, memoryview(b"\x08\x01" * 50 + content)) is None


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool", "float16", "uint8"])
def test_large_tensors_of_every_dtype(dtype: str, tmp_path: Path) -> None:
    expected = tensor("w", 300, 77, dtype=dtype)
    path = tmp_path / "large.onnx"
    path.write_bytes(network(expected).SerializeToString())
    for source in (path, str(path), path.read_bytes(), bytearray(path.read_bytes())):
        array = files.read(source).constants["w"]
        assert array.dtype == dtype and (array == numpy_helper.to_array(expected)).all()


def test_a_large_tensor_that_lies_about_its_shape() -> None:
    model = network(tensor("w", 4, 2000))
    model.graph.initializer[0].dims[1] = 1999
    with pytest.raises(OnnxImportError, match=r"'w' of shape \(4, 1999\) is broken"):
        files.read(model.SerializeToString())
    model.graph.initializer[0].dims[1] = 2**40
    with pytest.raises(OnnxImportError, match="the file is shorter than that"):
        files.read(model.SerializeToString())


def test_functions_are_written_out_with_large_tensors() -> None:
    model = network(tensor("w", 4, 2000))
    body = [helper.make_node("Gemm", ["a", "b"], ["c"])]
    model.functions.append(helper.make_function("mine", "Product", ["a", "b"], ["c"], body, model.opset_import[:1]))
    model.opset_import.append(helper.make_opsetid("mine", 1))
    model.graph.node[0].CopyFrom(helper.make_node("Product", ["x", "w"], ["y"], domain="mine"))
    file = files.read(model.SerializeToString())
    assert [node.op for node in file.nodes] == ["Gemm"] and file.constants["w"].shape == (4, 2000)


def test_a_model_keeps_nothing_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "large.onnx"
    path.write_bytes(network(tensor("w", 4, 2000)).SerializeToString())
    model = load(path)
    x = np.ones((2, 4), np.float32)
    before = model(x)
    path.write_bytes(bytes(path.stat().st_size))
    assert (model(x) == before).all()
    for array in model.params.values():
        array += 1  # it is the model's own


def test_memory_of_the_file_is_given_back_as_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large.onnx"
    path.write_bytes(network(tensor("w", 4, 2_000_000)).SerializeToString())
    file = files.read(path)
    assert not isinstance(file.release, type(files.File._field_defaults["release"]))
    array = file.constants["w"]
    before = array.sum()
    file.release(array.nbytes)
    assert array.sum() == before  # read again


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_cannot_be_mapped(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.onnx"
    os.mkfifo(pipe)
    content = network(tensor("w", 4, 2000)).SerializeToString()
    writer = threading.Thread(target=pipe.write_bytes, args=(content,))
    writer.start()
    try:
        assert files.read(pipe).constants["w"].shape == (4, 2000)
    finally:
        writer.join()
