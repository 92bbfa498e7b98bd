"""What writers spell out becomes one layer where it is just that, and stays what it is where it is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastconv
from fastconv import layers as L

onnx = pytest.importorskip("onnx", reason="the onnx package is not installed")

from onnx import helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

from fastconv.onnx import OnnxImportError, load  # noqa: E402

RNG = np.random.default_rng(0)
SCALE, BIAS = (RNG.standard_normal((8, 1, 1)).astype(np.float32) for _ in range(2))


def spelled_out(*, dtype: Any = np.float32, more: Any = (), outputs: Any = ("y",), **changed: Any) -> Any:
    """Return a file with a convolution and the nodes that PyTorch writes for a normalization of groups after it."""
    constants: dict[str, Any] = {
        "weight": RNG.standard_normal((8, 3, 3, 3)).astype(dtype),
        "split": np.array([0, 2, -1]),
        "ones": np.ones(2, dtype),
        "zeros": np.zeros(2, dtype),
        "scale": SCALE.astype(dtype),
        "bias": BIAS.astype(dtype),
        **changed,
    }
    nodes = [
        helper.make_node("Conv", ["x", "weight"], ["image"]),
        helper.make_node("Reshape", ["image", "split"], ["groups"]),
        helper.make_node("InstanceNormalization", ["groups", "ones", "zeros"], ["normal"], epsilon=1e-3, name="norm"),
        helper.make_node("Shape", ["image"], ["shape"]),
        helper.make_node("Reshape", ["normal", "shape"], ["whole"]),
        helper.make_node("Mul", ["scale", "whole"], ["scaled"]),
        *([helper.make_node("Add", ["scaled", "bias"], ["shifted"])] if constants["bias"] is not None else []),
        helper.make_node("Relu", ["shifted" if constants["bias"] is not None else "scaled"], ["y"]),
        *more,
    ]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", kind, ["N", 3, 10, 10])],
        [helper.make_tensor_value_info(name, kind, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items() if array is not None],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def checked(proto: Any, dtype: Any = np.float32) -> list[type]:
    """Return the kinds of layers that a file becomes, whose outputs are those of the reference."""
    model = load(proto)
    x = RNG.standard_normal((3, 3, 10, 10)).astype(dtype)
    made = model(x)
    wanted = ReferenceEvaluator(proto).run(None, {"x": x})
    for y, expected in zip(made if isinstance(made, tuple) else (made,), wanted, strict=True):
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
    return [type(layer) for layer in model.layers]


WHOLE = [L.Transpose, L.Conv2d, L.GroupNorm, L.ReLU, L.Transpose]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_group_normalization(dtype: Any) -> None:
    assert checked(spelled_out(dtype=dtype), dtype) == WHOLE
    (norm,) = (layer for layer in load(spelled_out()).layers if isinstance(layer, L.GroupNorm))
    assert (norm.groups, norm.name) == (2, "norm") and norm.eps == pytest.approx(1e-3)
    np.testing.assert_array_equal(norm.params["scale"], SCALE[:, 0, 0])
    np.testing.assert_array_equal(norm.params["bias"], BIAS[:, 0, 0])


def test_without_a_bias() -> None:
    assert checked(spelled_out(bias=None)) == WHOLE


@pytest.mark.parametrize(
    "changed",
    [
        {"ones": np.float32([1, 2])},
        {"zeros": np.float32([0, 0.5])},
        {"scale": np.ones((1, 1, 1), np.float32)},
        {"scale": RNG.standard_normal((8, 8, 1)).astype(np.float32)},
        {"scale": RNG.standard_normal(8).astype(np.float32)},  # of columns
        {"split": np.array([-1, 2, 256])},
        {"more": [helper.make_node("Neg", ["whole"], ["z"])], "outputs": ["y", "z"]},
        {"more": [helper.make_node("Neg", ["groups"], ["z"])], "outputs": ["y", "z"]},
        {"outputs": ["normal", "y"]},
        {"more": [helper.make_node("CastLike", ["x", "whole"], ["z"])], "outputs": ["y", "z"]},
    ],
)
def test_what_is_something_else_stays_that(changed: dict[str, Any]) -> None:
    kinds = checked(spelled_out(**changed))
    assert kinds[:5] != WHOLE


@pytest.mark.parametrize("changed", [{"bias": np.full((1, 1, 1), 0.5, np.float32)}, {"outputs": ["y", "scaled"]}])
def test_a_sum_that_is_no_bias_stays_a_sum(changed: dict[str, Any]) -> None:
    kinds = checked(spelled_out(**changed))
    assert kinds[:3] == WHOLE[:3] and len(kinds) > len(WHOLE)


@pytest.mark.parametrize(
    "inputs", [[], ["groups"], ["groups", "ones"], ["", "ones", "zeros"], ["normal", "ones", "zeros"]]
)
def test_broken_files_are_errors(inputs: list[str]) -> None:
    proto = spelled_out()
    (norm,) = (node for node in proto.graph.node if node.op_type == "InstanceNormalization")
    del norm.input[:]
    norm.input.extend(inputs)
    with pytest.raises(OnnxImportError):
        load(proto)


def classifier(shape: Any = (-1,), classes: Any = (30, 10, 20, 40), zipped: bool = True) -> Any:
    """Return a file as scikit-learn's writer makes it of a network that classifies: the class, and the probabilities."""
    constants = {
        "weight": RNG.standard_normal((6, 4)).astype(np.float32),
        "classes": np.array(classes, np.int64),
        "shape": np.array(shape, np.int64),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "weight"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["even"], axis=1),
        helper.make_node("ArgMax", ["even"], ["place"], axis=1),
        helper.make_node("ArrayFeatureExtractor", ["classes", "place"], ["row"], domain="ai.onnx.ml"),
        helper.make_node("Reshape", ["row", "shape"], ["label"]),
    ]
    probabilities = helper.make_tensor_value_info("even", 1, None)
    if zipped:
        nodes.append(
            helper.make_node("ZipMap", ["even"], ["maps"], domain="ai.onnx.ml", classlabels_int64s=list(classes))
        )
        maps = helper.make_sequence_type_proto(helper.make_map_type_proto(7, helper.make_tensor_type_proto(1, [])))
        probabilities = helper.make_value_info("maps", maps)
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("x", 1, ["N", 6])],
        [helper.make_tensor_value_info("label", 7, ["N"]), probabilities],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


@pytest.mark.parametrize("zipped", [True, False])
def test_classes_of_samples(zipped: bool) -> None:
    proto = classifier(zipped=zipped)
    model = load(proto)
    x = RNG.standard_normal((5, 6)).astype(np.float32)
    label, even = model(x)
    scores = x @ numpy_helper.to_array(proto.graph.initializer[0])
    np.testing.assert_array_equal(label, np.array([30, 10, 20, 40])[scores.argmax(1)])
    np.testing.assert_allclose(even.sum(1), 1, rtol=1e-5)
    np.testing.assert_array_equal(even.argmax(1), scores.argmax(1))
    assert model.output_names == ["label", "maps" if zipped else "even"]
    frozen = fastconv.freeze(model)(x)
    np.testing.assert_array_equal(frozen[0], label)
    np.testing.assert_allclose(frozen[1], even, rtol=1e-5)


def test_classes_in_another_shape_have_no_operator() -> None:
    with pytest.raises(OnnxImportError, match=r"register\('ai.onnx.ml.ArrayFeatureExtractor'\)"):
        load(classifier(shape=(-1, 1)))


def attention(
    parts: str, *, opset: int = 17, more: Any = (), outputs: Any = ("y",), perm: Any = (2, 0, 3, 1, 4)
) -> Any:
    """Return a file with queries, keys and values as PyTorch's writer cuts them: turned first, "split" or "picked" then."""
    constants = {
        "weight": RNG.standard_normal((8, 24)).astype(np.float32),
        "apart": np.array([0, 5, 3, 2, 4]),
        "together": np.array([0, 5, 8]),
        **{f"place_{at}": np.array(at) for at in range(3)},
        "first": np.array([0]),
    }
    cut = [helper.make_node("Gather", ["turned", f"place_{at}"], [name], axis=0) for at, name in enumerate("qkv")]
    if parts == "split":
        cut = [helper.make_node("Split", ["turned"], ["q1", "k1", "v1"], axis=0)]
        for name in "qkv":
            old = helper.make_node("Squeeze", [f"{name}1"], [name], axes=[0])
            cut.append(old if opset < 13 else helper.make_node("Squeeze", [f"{name}1", "first"], [name]))
    nodes = [
        helper.make_node("MatMul", ["x", "weight"], ["qkv"]),
        helper.make_node("Reshape", ["qkv", "apart"], ["heads"]),
        helper.make_node("Transpose", ["heads"], ["turned"], perm=perm),
        *cut,
        helper.make_node("Transpose", ["k"], ["kt"], perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["q", "kt"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["even"], axis=3),
        helper.make_node("MatMul", ["even", "v"], ["mixed"]),
        helper.make_node("Transpose", ["mixed"], ["back"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["back", "together"], ["y"]),
        *more,
    ]
    graph = helper.make_graph(
        nodes,
        "attention",
        [helper.make_tensor_value_info("x", 1, ["N", 5, 8])],
        [helper.make_tensor_value_info(name, 1, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@pytest.mark.parametrize(("parts", "opset"), [("split", 11), ("split", 17), ("picked", 17)])
def test_attention_keeps_its_batch(parts: str, opset: int) -> None:
    proto = attention(parts, opset=opset)
    model = load(proto)
    assert type(model) is fastconv.Model
    x = RNG.standard_normal((3, 5, 8)).astype(np.float32)
    want = ReferenceEvaluator(proto).run(None, {"x": x})[0]
    np.testing.assert_allclose(model(x), want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(fastconv.freeze(model)(x), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "changed",
    [
        {"more": [helper.make_node("Relu", ["turned"], ["z"])], "outputs": ("y", "z")},
        {"outputs": ("y", "turned")},
        {"more": [helper.make_node("Gather", ["turned", "first"], ["z"], axis=0)], "outputs": ("y", "z")},
        {"more": [helper.make_node("Identity", ["q1"], ["z"])], "outputs": ("y", "z")},
    ],
)
def test_turned_parts_that_somebody_else_reads_stay(changed: Any) -> None:
    proto = attention("split" if "q1" in str(changed) else "picked", **changed)
    model = load(proto)
    x = RNG.standard_normal((3, 5, 8)).astype(np.float32)
    for got, want in zip(model(x), ReferenceEvaluator(proto).run(None, {"x": x}), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
