"""The networks of ``python -m benchmarks engines``, as ONNX files with random weights, channels first, in any batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastconv.engines.files import free_batch

#: The nine networks of the ONNX package's own model tests. The package has them without weights.
LIGHT = (
    *("bvlc_alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50"),
    *("shufflenet", "squeezenet", "vgg19", "zfnet512"),
)

#: Built-in networks that `fastconv.onnx.save` writes: the image and the number of classes.
BUILT_IN: dict[str, tuple[tuple[int, int, int], int]] = {
    "mobilenet_v2": ((224, 224, 3), 1000),
    "mobilenet_v3_large": ((224, 224, 3), 1000),
    "efficientnet_b0": ((224, 224, 3), 1000),
    "resnet18": ((224, 224, 3), 1000),
    "unet": ((256, 256, 3), 2),
    "lenet": ((28, 28, 1), 10),
}

NAMES = (*LIGHT, *BUILT_IN)

#: Of what is added to the way past it: in this way sums of sums stay as large as they were.
BRANCH = 0.25


def write(name: str, path: Path) -> None:
    """Write a network to a file, unless it is there already."""
    import onnx

    if not path.exists():
        model = light(name) if name in LIGHT else built_in(name)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, str(path))


def built_in(name: str) -> Any:
    """Return a built-in network as a ModelProto."""
    from fastconv import networks
    from fastconv.onnx.saving import to_proto

    shape, classes = BUILT_IN[name]
    model = networks.create(name, shape, classes)
    model.build(shape, rng=np.random.default_rng(0))
    proto = to_proto(model)
    channels_first(proto.graph)
    return proto


def channels_first(graph: Any) -> None:
    """Take the transpositions of images away from the input and the output, as files by others have none."""
    for value in (graph.input[0], graph.output[0]):
        dims = value.type.tensor_type.shape.dim
        if len(dims) != 4:
            continue
        edge = next(node for node in graph.node if node.op_type == "Transpose" and near(node, value.name, graph))
        before, after = edge.input[0], edge.output[0]
        for node in graph.node:
            node.input[:] = [before if name == after else name for name in node.input]
        graph.node.remove(edge)
        height, width, channels = (dim.dim_value for dim in dims[1:])
        for dim, size in zip(dims[1:], (channels, height, width), strict=True):
            dim.dim_value = size
    del graph.value_info[:]


def near(node: Any, name: str, graph: Any) -> bool:
    """Return whether a node reads this input, or makes this output, with nothing but an Identity between."""
    names = {name, *(each.input[0] for each in graph.node if each.op_type == "Identity" and name in each.output)}
    return bool(names.intersection((*node.input, *node.output)))


def light(name: str) -> Any:
    """Return a network of the ONNX package, with weights, as a ModelProto."""
    import onnx

    model = onnx.load(str(Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / f"light_{name}.onnx"))
    model.ir_version = 8  # from the fourth on weights are no inputs, which an engine would have to expect to change
    graph = model.graph
    held = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in held]
    del graph.input[:]
    graph.input.extend(inputs)
    draw_weights(graph)
    free_batch(model)
    drop_unread(graph)
    return model


def drop_unread(graph: Any) -> None:
    """Take away the tensors that no node reads."""
    read = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def draw_weights(graph: Any) -> None:
    """Put random numbers in the place of the nodes that make a weight of one number, and of the few real weights."""
    from onnx import numpy_helper

    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    shapes = {name: array.shape for name, array in held.items() if array.dtype == np.float32}
    for node in [node for node in graph.node if node.op_type == "ConstantOfShape"]:
        shapes[node.output[0]] = tuple(held[node.input[0]])
        graph.node.remove(node)
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    kept = [tensor for tensor in graph.initializer if tensor.name not in shapes]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    rng = np.random.default_rng(0)
    for name, shape in shapes.items():
        if name in readers:
            array = weight(name, shape, readers, rng).astype(np.float32)
            graph.initializer.append(numpy_helper.from_array(array, name))


def weight(name: str, shape: tuple[int, ...], readers: Mapping[str, list[Any]], rng: np.random.Generator) -> np.ndarray:
    """Return random numbers with which values are as large after a layer as before it (He et al. 2015)."""
    node = readers[name][0]
    while node.op_type in ("Unsqueeze", "Reshape"):  # of the weight itself
        name = node.output[0]
        node = readers[name][0]
    at = list(node.input).index(name)
    follows: Callable[[str], bool] = lambda op: leads_to(op, node.output[0], readers)  # noqa: E731 - short
    if node.op_type in ("Conv", "Gemm") and at == 1:
        gain = 2 if follows("Relu") else 1  # ReLU halves what comes of it
        return rng.standard_normal(shape) * math.sqrt(gain / math.prod(shape[1:]))
    if node.op_type == "Mul" or (node.op_type == "BatchNormalization" and at in (1, 4)):  # scale, variance
        return rng.uniform(0.8, 1.2, shape) * (BRANCH if at == 1 and follows("Sum") else 1)
    return 0.1 * rng.standard_normal(shape)


def leads_to(op: str, name: str, readers: Mapping[str, list[Any]]) -> bool:
    """Return whether a value reaches an operator through what keeps the size of values alone."""
    for node in readers.get(name, []):
        if node.op_type == op or (
            node.op_type in ("BatchNormalization", "Mul", "Add", "Concat") and leads_to(op, node.output[0], readers)
        ):
            return True
    return False
