"""Files that come in: layers as one would write them, names, batches, training, plugins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the onnx package is not installed")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402
from plugin_folders import Folder, folder  # noqa: E402, F401

import fastconv  # noqa: E402
from fastconv import layers as L  # noqa: E402
from fastconv.onnx import OnnxImportError, builder, load  # noqa: E402
from fastconv.unbatched import Unbatched  # noqa: E402

RNG = np.random.default_rng(0)


def tensor(name: str, *shape: int) -> TensorProto:
    return numpy_helper.from_array(RNG.standard_normal(shape).astype(np.float32), name)


def row(name: str, *numbers: int) -> TensorProto:
    return numpy_helper.from_array(np.array(numbers, np.int64), name)


def model_of(nodes, inputs, outputs, tensors=(), opset=17):
    infos = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name, shape in each.items()]
        for each in (inputs, outputs)
    ]
    graph = helper.make_graph(nodes, "graph", *infos, list(tensors))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def expected(model, *xs):
    return ReferenceEvaluator(model).run(None, {each.name: x for each, x in zip(model.graph.input, xs, strict=True)})


def moved(source: Any, monkeypatch: Any) -> list[tuple[int, ...]]:
    """Load a file, and return the shapes of the weights that were moved to memory of their own."""
    shapes: list[tuple[int, ...]] = []

    def noting(move: Any) -> Any:
        return lambda array, *rest: shapes.append(array.shape) or move(array, *rest)

    for name in ("contiguous", "copied"):
        monkeypatch.setattr(builder, name, noting(getattr(builder, name)))
    load(source)
    return shapes


def test_an_attempt_that_fails_moves_no_weights(monkeypatch: Any) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["1"]),
        helper.make_node("Transpose", ["1"], ["y"], perm=[1, 0, 2, 3]),  # the batch is not first any more
    ]
    model = model_of(nodes, {"x": (2, 3, 8, 8)}, {"y": (4, 2, 8, 8)}, [tensor("w", 4, 3, 1, 1)])
    assert isinstance(load(model), Unbatched)
    assert moved(model, monkeypatch) == [(1, 1, 3, 4)]


NETWORK = model_of(
    [
        helper.make_node("Conv", ["x", "w", "b"], ["1"], name="/stem/Conv", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["1", "s", "b", "m", "v"], ["2"], name="norm"),
        helper.make_node("Relu", ["2"], ["3"], name="relu"),
        helper.make_node("MaxPool", ["3"], ["4"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Shape", ["4"], ["5"]),
        helper.make_node("Gather", ["5", "zero"], ["6"]),
        helper.make_node("Concat", ["6", "rest"], ["7"], axis=0),
        helper.make_node("Reshape", ["4", "7"], ["8"], name="row"),
        helper.make_node("Dropout", ["8"], ["9"], name="drop"),
        helper.make_node("Gemm", ["9", "g", "c"], ["y"], name="head", transB=1),
    ],
    {"x": ("N", 3, 8, 6)},
    {"y": ("N", 5)},
    [tensor("w", 4, 3, 3, 3), tensor("b", 4), tensor("s", 4), tensor("m", 4), tensor("g", 5, 48), tensor("c", 5),
     numpy_helper.from_array(np.ones(4, np.float32), "v"), row("zero", 0), row("rest", -1)],
)  # fmt: skip


def test_a_network_is_the_layers_that_one_would_write() -> None:
    model = load(NETWORK)
    kinds = [type(layer) for layer in model.layers]
    assert kinds == [L.Transpose, L.Conv2d, L.BatchNorm, L.ReLU, L.MaxPool2d, L.Flatten, L.Dropout, L.Linear]
    assert [layer.name for layer in model.layers][1:] == ["stem.Conv", "norm", "relu", "pool", "row", "drop", "head"]
    assert (model.input_names, model.output_names) == (["x"], ["y"])
    assert type(model) is fastconv.Model
    for batch in (1, 4):
        x = RNG.standard_normal((batch, 3, 8, 6)).astype(np.float32)
        np.testing.assert_allclose(model(x), expected(NETWORK, x)[0], rtol=1e-4, atol=1e-5)


def test_it_trains_and_is_saved(tmp_path: Path) -> None:
    model = load(NETWORK)
    x, labels = RNG.standard_normal((16, 3, 8, 6)).astype(np.float32), np.arange(16) % 5
    before = model.evaluate(x, labels, loss="cross_entropy")["loss"]
    model.fit(x, labels, loss="cross_entropy", epochs=20, verbose=False)
    assert model.evaluate(x, labels, loss="cross_entropy")["loss"] < before
    model.save(tmp_path / "model")
    again = fastconv.load_model(tmp_path / "model")
    np.testing.assert_array_equal(again(x), model(x))
    assert again.output_names == ["y"]


@pytest.mark.parametrize("opset", [6, 9, 12, 17])
def test_transpositions_cost_nothing_until_they_are_needed(opset: int) -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["1"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["1", "w"], ["2"]),
        helper.make_node("Relu", ["2"], ["3"]),
        helper.make_node("Transpose", ["3"], ["y"], perm=[0, 2, 3, 1]),
    ]
    proto = model_of(nodes, {"x": ("N", 8, 6, 3)}, {"y": ("N", 6, 4, 2)}, [tensor("w", 2, 3, 3, 3)], opset)
    model = load(proto)
    assert [type(layer) for layer in model.layers] == [L.Conv2d, L.ReLU]
    x = RNG.standard_normal((2, 8, 6, 3)).astype(np.float32)
    np.testing.assert_allclose(model(x), expected(proto, x)[0], rtol=1e-4, atol=1e-5)


def test_channels_are_shuffled_and_joined_where_they_lie() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["1"]),
        helper.make_node("Reshape", ["1", "apart"], ["2"]),
        helper.make_node("Transpose", ["2"], ["3"], perm=[0, 2, 1, 3, 4]),
        helper.make_node("Reshape", ["3", "together"], ["4"]),
        helper.make_node("Concat", ["4", "1"], ["5"], axis=1),
        helper.make_node("ReduceMean", ["5"], ["6"], axes=[2, 3], keepdims=0),
        helper.make_node("Softmax", ["6"], ["y"], axis=1),
    ]
    tensors = [tensor("w", 4, 3, 1, 1), row("apart", 0, 2, 2, 5, 4), row("together", 0, -1, 5, 4)]
    proto = model_of(nodes, {"x": ("N", 3, 5, 4)}, {"y": ("N", 8)}, tensors)
    x = RNG.standard_normal((3, 3, 5, 4)).astype(np.float32)
    model = load(proto)
    assert type(model) is fastconv.Model
    np.testing.assert_allclose(model(x), expected(proto, x)[0], rtol=1e-4, atol=1e-5)


def test_weights_that_are_computed_from_constants() -> None:
    """A weight that is standardized by a batch normalization, as in NFNets, and a table that a convolution makes of another."""
    nodes = [
        helper.make_node("Reshape", ["w", "flat"], ["1"]),
        helper.make_node("BatchNormalization", ["1", "gain", "zero", "zero", "gain"], ["2", "", ""], training_mode=1),
        helper.make_node("Reshape", ["2", "back"], ["3"]),
        helper.make_node("Conv", ["x", "3"], ["4"]),
        helper.make_node("MaxPool", ["places"], ["5"], kernel_shape=[2, 2]),
        helper.make_node("Conv", ["5", "v"], ["6"]),
        helper.make_node("Add", ["4", "6"], ["y"]),
    ]
    tensors = [
        *(tensor("w", 4, 3, 3, 3), tensor("gain", 4), tensor("places", 1, 2, 4, 3), tensor("v", 4, 2, 1, 1)),
        *(row("flat", 1, 4, -1), row("back", 4, 3, 3, 3), numpy_helper.from_array(np.zeros(4, np.float32), "zero")),
    ]
    proto = model_of(nodes, {"x": ("N", 3, 5, 4)}, {"y": ("N", 4, 3, 2)}, tensors)
    x = RNG.standard_normal((2, 3, 5, 4)).astype(np.float32)
    model = load(proto)
    np.testing.assert_allclose(model(x), expected(proto, x)[0], rtol=1e-4, atol=1e-5)
    assert [type(layer).__name__ for layer in model.layers] == ["Transpose", "Conv2d", "Partial", "Transpose"]


def test_sums_of_products_of_constants() -> None:
    """A table of relative positions, as MaxViT makes it of two smaller ones."""
    nodes = [
        helper.make_node("Einsum", ["t", "a"], ["1"], equation="nhw,ixh->nixw"),
        helper.make_node("Einsum", ["1", "b"], ["2"], equation="nixw,jyw->nijxy"),
        helper.make_node("Reshape", ["2", "flat"], ["3"]),
        helper.make_node("Add", ["x", "3"], ["y"]),
    ]
    tensors = [tensor("t", 2, 3, 5), tensor("a", 2, 2, 3), tensor("b", 3, 3, 5), row("flat", 1, 2, 6, 6)]
    proto = model_of(nodes, {"x": ("N", 2, 6, 6)}, {"y": ("N", 2, 6, 6)}, tensors)
    x = RNG.standard_normal((3, 2, 6, 6)).astype(np.float32)
    model = load(proto)
    np.testing.assert_allclose(model(x), expected(proto, x)[0], rtol=1e-4, atol=1e-5)
    assert [type(layer).__name__ for layer in model.layers] == ["Partial"]


def test_what_mixes_the_first_axis_has_no_batch() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["1"]),
        helper.make_node("ReduceMean", ["1"], ["2"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["1", "2"], ["y"]),
    ]
    proto = model_of(nodes, {"x": (4, 3, 5, 4)}, {"y": (4, 2, 3, 2)}, [tensor("w", 2, 3, 3, 3)])
    model = load(proto)
    assert isinstance(model, Unbatched)
    x = RNG.standard_normal((4, 3, 5, 4)).astype(np.float32)
    np.testing.assert_allclose(model(x), expected(proto, x)[0], rtol=1e-4, atol=1e-5)
    y, backward = model.forward(model.context(training=True, input_grad=True), x)
    dx, gradients = backward(np.ones_like(y))
    assert dx.shape == x.shape
    assert {name: gradient.shape for name, gradient in gradients.items()} == {
        name: param.shape for name, param in model.params.items()
    }


def test_operands_that_come_from_outside() -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    proto = model_of(nodes, {"x": ("N", 3), "w": (3, 2)}, {"y": ("N", 2)})
    x, w = RNG.standard_normal((4, 3)).astype(np.float32), RNG.standard_normal((3, 2)).astype(np.float32)
    np.testing.assert_allclose(load(proto)(x, w), x @ w, rtol=1e-5)
    fixed = load(proto, constants={"w": w})
    assert [type(layer) for layer in fixed.layers] == [L.Linear]
    np.testing.assert_allclose(fixed(x), x @ w, rtol=1e-5)
    conv = model_of(
        [helper.make_node("Conv", ["x", "w"], ["y"])], {"x": (1, 3, 5, 5), "w": (2, 3, 3, 3)}, {"y": (1, 2, 3, 3)}
    )
    with pytest.raises(OnnxImportError, match=r"weight must be known when the model is made: give it with load\(.*'w'"):
        load(conv)
    with pytest.raises(OnnxImportError, match="has no input 'v'"):
        load(conv, constants={"v": w})


@pytest.mark.parametrize(
    ("op", "arrays", "arguments", "message"),
    [
        ("ConvTranspose", [(4, 3, 3, 3), (2,)], {}, r"one number for each of 3 output channels, got \(2,\)"),
        ("ConvTranspose", [(4, 3, 3, 3)], {"pads": [-1, 0, 0, 0]}, r"padding must be at least 0"),
        ("ConvTranspose", [(4, 3, 3, 3)], {"output_shape": [9]}, r"one size for each spatial axis, got \[9\]"),
        ("Conv", [(3, 4, 3, 3), (4,)], {}, r"one number for each of 3 output channels, got \(4,\)"),
        (
            "Conv",
            [(3, 4, 3, 3)],
            {"kernel_shape": [5, 5]},
            r"kernel_shape \[5, 5\] is not that of weight \(3, 4, 3, 3\)",
        ),
        ("InstanceNormalization", [(3,), (4,)], {}, "scale and B must have 4 numbers"),
    ],
)
def test_weights_that_do_not_fit(op: str, arrays: Any, arguments: Any, message: str) -> None:
    names = [f"w{at}" for at in range(len(arrays))]
    held = [tensor(name, *shape) for name, shape in zip(names, arrays, strict=True)]
    node = helper.make_node(op, ["x", *names], ["y"], name="n", **arguments)
    with pytest.raises(OnnxImportError, match=message):
        load(model_of([node], {"x": ("N", 4, 5, 5)}, {"y": ("N", 3, None, None)}, held))


def test_open_sizes_of_images() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["1"], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["1"], ["2"]),
        helper.make_node("Flatten", ["2"], ["y"]),
    ]
    proto = model_of(nodes, {"x": ("N", 3, "H", "W")}, {"y": ("N", 2)}, [tensor("w", 2, 3, 3, 3)])
    model = load(proto)
    for size in ((2, 3, 9, 7), (1, 3, 20, 30)):
        x = RNG.standard_normal(size).astype(np.float32)
        np.testing.assert_allclose(model(x), expected(proto, x)[0], rtol=1e-4, atol=1e-5)
    assert load(proto, input_shapes={"x": (1, 3, 32, 48)}).input_shapes == ((3, 32, 48),)
    with pytest.raises(OnnxImportError, match=r"'x' has shape .* does not fit"):
        load(proto, input_shapes={"x": (1, 4, 32, 48)})


def test_operators_of_packages(folder: Folder) -> None:  # noqa: F811
    source = "from fastconv import layers\n\ndef whoosh(b, node, x):\n    return b.elementwise(layers.SiLU(), x)\n"
    nodes = [helper.make_node("Whoosh", ["x"], ["y"], domain="acme")]
    proto = model_of(nodes, {"x": ("N", 3)}, {"y": ("N", 3)})
    with pytest.raises(OnnxImportError, match=r"acme\.Whoosh"):
        load(proto)
    folder.install("acme-ops", "1", {"acme.Whoosh": "acme_ops:whoosh"}, {"acme_ops": source}, group="fastconv.onnx_ops")
    x = RNG.standard_normal((2, 3)).astype(np.float32)
    np.testing.assert_array_equal(load(proto)(x), L.SiLU()(x))


def test_without_onnx_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"pip install 'fastconv\[onnx\]'"):
        load(b"")
    with pytest.raises(TypeError, match="a path, bytes or a ModelProto"):
        monkeypatch.undo()
        load(3)


def test_a_grid_that_is_known() -> None:
    grid = numpy_helper.from_array(RNG.uniform(-1, 1, (2, 4, 5, 2)).astype(np.float32), "grid")
    file = model_of(
        [helper.make_node("GridSample", ["x", "grid"], ["y"])], {"x": (2, 3, 6, 7)}, {"y": (2, 3, 4, 5)}, [grid]
    )
    x = RNG.standard_normal((2, 3, 6, 7)).astype(np.float32)
    np.testing.assert_allclose(load(file)(x), expected(file, x)[0], rtol=1e-5, atol=1e-6)
