"""Hostile files: whole ones with bytes changed, cut out or doubled, and with fields of the graph that lie."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def seeds() -> list[bytes]:
    """Return small whole files: a network, arithmetic on shapes, operators whose sizes come from operands, and one
    operator that is spelled out.
    """
    rng = np.random.default_rng(0)

    def array(name: str, *shape: int) -> TensorProto:
        return numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)

    def row(name: str, *numbers: int) -> TensorProto:
        return numpy_helper.from_array(np.array(numbers, np.int64), name)

    network = (
        [
            helper.make_node("Conv", ["x", "w", "b"], ["1"], pads=[1, 1, 1, 1], strides=[2, 2]),
            helper.make_node("BatchNormalization", ["1", "s", "b", "m", "s"], ["2"]),
            helper.make_node("Relu", ["2"], ["3"]),
            helper.make_node("MaxPool", ["3"], ["4"], kernel_shape=[2, 2], strides=[2, 2]),
            helper.make_node("Flatten", ["4"], ["5"]),
            helper.make_node("Gemm", ["5", "g"], ["y"]),
        ],
        [array("w", 4, 3, 3, 3), array("b", 4), array("s", 4), array("m", 4), array("g", 16, 5)],
        (["N", 3, 8, 8], ["N", 5]),
    )
    shapes = (
        [
            helper.make_node("Shape", ["x"], ["1"]),
            helper.make_node("Gather", ["1", "zero"], ["2"]),
            helper.make_node("Concat", ["2", "rest"], ["3"], axis=0),
            helper.make_node("Reshape", ["x", "3"], ["4"]),
            helper.make_node("ConstantOfShape", ["few"], ["5"]),
            helper.make_node("Add", ["4", "5"], ["6"]),
            helper.make_node("Transpose", ["6"], ["y"], perm=[0, 2, 1]),
        ],
        [row("zero", 0), row("rest", -1, 4), row("few", 1, 1, 4)],
        (["N", 3, 8, 8], ["N", 4, 48]),
    )
    sizes = (
        [
            helper.make_node("Pad", ["x", "pads"], ["1"]),
            helper.make_node("Resize", ["1", "", "scales"], ["2"], mode="linear"),
            helper.make_node("Tile", ["2", "times"], ["3"]),
            helper.make_node("Slice", ["3", "first", "last", "axes"], ["4"]),
            helper.make_node("Expand", ["4", "wide"], ["5"]),
            helper.make_node("TopK", ["5", "k"], ["6", "7"]),
            helper.make_node("ReduceSum", ["6", "axes"], ["y"]),
        ],
        [
            row("pads", 0, 0, 1, 1, 0, 0, 1, 1),
            numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales"),
            row("times", 1, 2, 1, 1),
            row("first", 0),
            row("last", 4),
            row("axes", 2),
            row("wide", 1, 6, 4, 20),
            row("k", 3),
        ],
        (["N", 3, 8, 8], ["N", 6, 1, 3]),
    )
    spelled_out = (
        [
            helper.make_node("Reshape", ["x", "split"], ["1"]),
            helper.make_node("ConstantOfShape", ["three"], ["zeros"]),
            helper.make_node("Exp", ["zeros"], ["ones"]),
            helper.make_node("InstanceNormalization", ["1", "ones", "zeros"], ["2"]),
            helper.make_node("Shape", ["x"], ["3"]),
            helper.make_node("Reshape", ["2", "3"], ["4"]),
            helper.make_node("Mul", ["4", "s"], ["5"]),
            helper.make_node("Unsqueeze", ["b", "last"], ["6"]),
            helper.make_node("Add", ["5", "6"], ["y"]),
        ],
        [row("split", 0, 3, -1), row("three", 3), array("s", 3, 1, 1), array("b", 3), row("last", 1, 2)],
        (["N", 3, 8, 8], ["N", 3, 8, 8]),
    )
    return [_file(*each) for each in (network, shapes, sizes, spelled_out)]


def _file(nodes: Sequence[onnx.NodeProto], tensors: Sequence[TensorProto], shapes: Sequence[list]) -> bytes:
    infos = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in zip("xy", shapes, strict=True)
    ]
    graph = helper.make_graph(nodes, "graph", infos[:1], infos[1:], tensors)
    model: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    return model


def mutated(rng: np.random.Generator, whole: bytes) -> bytes:
    """Return a file with a few mistakes in it."""
    return _bytes(rng, whole) if rng.random() < 0.5 else _fields(rng, whole)


def _bytes(rng: np.random.Generator, whole: bytes) -> bytes:
    data = bytearray(whole)
    for _ in range(int(rng.integers(1, 5))):
        at, kind = int(rng.integers(len(data) + 1)), rng.integers(6)
        if kind == 0:
            del data[at:]
        elif kind == 1:
            del data[at : at + int(rng.integers(1, 20))]
        elif kind == 2:
            data[at:at] = rng.bytes(int(rng.integers(1, 20)))
        elif kind == 3:
            data[at:at] = data[at : at + int(rng.integers(1, 40))]
        elif at < len(data):
            data[at] = int(rng.integers(256)) if kind == 4 else data[at] ^ (1 << int(rng.integers(8)))
        if not data:
            break
    return bytes(data)


_NUMBERS = (-(2**63), -(2**31), -7, -1, 0, 1, 2, 3, 5, 100, 2**20, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1)


def _fields(rng: np.random.Generator, whole: bytes) -> bytes:
    model = onnx.ModelProto()
    model.ParseFromString(whole)
    graph = model.graph

    def number() -> int:
        return int(_NUMBERS[rng.integers(len(_NUMBERS))])

    def name() -> str:
        names = [n for node in graph.node for n in (*node.input, *node.output)] + ["", "nobody"]
        return str(names[rng.integers(len(names))])

    for _ in range(int(rng.integers(1, 4))):
        kind = rng.integers(8)
        node = graph.node[rng.integers(len(graph.node))]
        tensor = graph.initializer[rng.integers(len(graph.initializer))]
        if kind == 0 and node.input:
            node.input[rng.integers(len(node.input))] = name()
        elif kind == 1 and node.output:
            node.output[rng.integers(len(node.output))] = name()
        elif kind == 2 and node.attribute:
            attribute = node.attribute[rng.integers(len(node.attribute))]
            attribute.i = number()
            if attribute.ints:
                attribute.ints[rng.integers(len(attribute.ints))] = number()
        elif kind == 3 and tensor.dims:
            tensor.dims[rng.integers(len(tensor.dims))] = number()
        elif kind == 4:
            numbers = rng.choice(np.array(_NUMBERS, object), rng.integers(1, 6)).astype(np.int64)
            tensor.CopyFrom(numpy_helper.from_array(numbers, tensor.name))
        elif kind == 5:
            node.op_type = graph.node[rng.integers(len(graph.node))].op_type
        elif kind == 6:
            info = (graph.input[0], graph.output[0])[rng.integers(2)]
            dims = info.type.tensor_type.shape.dim
            if dims:
                dims[rng.integers(len(dims))].dim_value = number()
        else:
            model.opset_import[0].version = number()
    result: bytes = model.SerializeToString()
    return result
