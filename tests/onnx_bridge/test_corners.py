"""Nodes alone with arguments that few files have, beside the onnx package's own definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the onnx package is not installed")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

from fastconv.onnx import OnnxImportError, load  # noqa: E402

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 2, 4, 5)).astype(np.float32)
UNIT = np.tanh(X)


def of_node(op: str, opset: int, x: np.ndarray, constants: Any = (), outputs: int = 1, **arguments: Any) -> Any:
    """Return a file of one node, whose first input is the file's and whose others (None: left out) are constants."""
    names = ["x", *("" if array is None else f"c{at}" for at, array in enumerate(constants))]
    results = [f"y{at}" for at in range(outputs)]
    held = [numpy_helper.from_array(array, f"c{at}") for at, array in enumerate(constants) if array is not None]
    info = helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
    ends = [onnx.ValueInfoProto(name=name) for name in results]
    graph = helper.make_graph([helper.make_node(op, names, results, **arguments)], "one", [info], ends, held)
    return onnx.shape_inference.infer_shapes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    )


def rows(*numbers: float, dtype: Any = np.int64) -> np.ndarray:
    return np.array(numbers, dtype)


SCALES = rows(1, 1, 1.5, 2, dtype=np.float32)
CROP = {"coordinate_transformation_mode": "tf_crop_and_resize", "mode": "linear"}
KEEP = {"axes": [2, 3], "mode": "linear", "keep_aspect_ratio_policy": "not_larger"}
LARGEST = {"axes": [2, 3], "mode": "cubic", "keep_aspect_ratio_policy": "not_smaller"}
CASES = {
    "slice: nothing along two axes": ("Slice", 13, X, (rows(2, 1, 1), rows(1, 1, 3), rows(0, 1, 3)), {}),
    "gather: nothing": ("Gather", 13, X, (rows(),), {"axis": 2}),
    "compress: nothing": ("Compress", 11, X, (np.zeros(2, bool),), {"axis": 1}),
    "resize: a region, scaled": ("Resize", 13, X, (rows(0, 0, 0.2, 0, 1, 1, 0.8, 0.7, dtype=np.float32), SCALES), CROP),
    "resize: proportions kept": ("Resize", 18, X, (None, None, rows(7, 7)), KEEP),
    "resize: proportions kept, cubic": ("Resize", 19, X, (None, None, rows(7, 7)), LARGEST),
    "matmul: integers": ("MatMul", 13, X.astype(np.int32), (np.arange(10, dtype=np.int32).reshape(5, 2),), {}),
    "relu: integers": ("Relu", 14, (4 * X).astype(np.int32), (), {}),
    "clip: integers": ("Clip", 13, (4 * X).astype(np.int64), (np.array(-1), np.array(2)), {}),
    "shrink": ("Shrink", 11, X, (), {"lambd": 0.3, "bias": 0.2}),
    "hardmax": ("Hardmax", 13, X, (), {"axis": 1}),
    "mean and variance": ("MeanVarianceNormalization", 13, X, (), {"axes": [2, 3]}),
    "root mean square": ("RMSNormalization", 23, X, (np.ones((4, 5), np.float32),), {"axis": 2}),
    **{op: (op, 14, UNIT, (), {}) for op in ("Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Atanh")},
    "Acosh": ("Acosh", 14, 1.01 + np.abs(X), (), {}),
}


@pytest.mark.parametrize("name", CASES)
def test_corner(name: str) -> None:
    op, opset, x, constants, arguments = CASES[name]
    model = of_node(op, opset, x, constants, **arguments)
    (expected,) = ReferenceEvaluator(model).run(None, {"x": x})
    y: Any = load(model)(x)
    assert y.shape == expected.shape and y.dtype == expected.dtype
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("axes", [[2, 3], [0, 2, 3]])
def test_the_gradient_of_constant_channels_is_zero_and_not_nan(axes: list[int]) -> None:
    x = np.full((1, 2, 1, 1), 3, np.float32)
    model: Any = load(of_node("MeanVarianceNormalization", 13, x, axes=axes))
    y, backward = model.forward(model.context(training=True, input_grad=True), x)
    assert not y.any() and not backward(np.ones_like(y))[0].any()


def test_the_statistics_of_layer_normalization_are_float32() -> None:
    model = of_node("LayerNormalization", 17, X.astype(np.float64), (np.ones(5),), outputs=3)
    y, mean, deviation = load(model)(X.astype(np.float64))
    assert (y.dtype, mean.dtype, deviation.dtype) == (np.float64, np.float32, np.float32)
    np.testing.assert_allclose(mean, X.mean(-1, keepdims=True), atol=1e-6)
    np.testing.assert_allclose(deviation, 1 / np.sqrt(X.var(-1, keepdims=True) + 1e-5), rtol=1e-5)


def test_the_nearest_pixel_of_version_10_is_beyond_the_corner_where_an_axis_shrinks() -> None:
    # the example of the operator's specification
    x = np.arange(1, 9, dtype=np.float32).reshape(1, 1, 2, 4)
    y: Any = load(of_node("Resize", 10, x, (rows(1, 1, 0.6, 0.6, dtype=np.float32),), mode="nearest"))(x)
    assert y.tolist() == [[[[1, 3]]]]


def test_what_the_definitions_lack() -> None:
    one: Any = load(of_node("Resize", 10, X[0, 0], (rows(1, 1, dtype=np.float32),)))(X[0, 0])
    np.testing.assert_array_equal(one, X[0, 0])
    norm: Any = load(of_node("GlobalLpPool", 11, X, p=3))(X)
    np.testing.assert_allclose(norm[..., 0, 0], (np.abs(X) ** 3).sum((2, 3)) ** (1 / 3), rtol=1e-5)
    hard: Any = load(of_node("Hardmax", 11, X, axis=2))(X)  # of the axes from there on together
    np.testing.assert_array_equal(hard.reshape(6, 20).argmax(1), X.reshape(6, 20).argmax(1))
    assert (hard.reshape(6, 20).sum(1) == 1).all()
    back: Any = load(of_node("Slice", 13, X, (rows(-9), rows(-9), rows(2), rows(-1))))(X)  # from the first one on
    np.testing.assert_array_equal(back, X[:, :, :1])
    round_: Any = load(of_node("Pad", 19, X, (rows(0, 0, -1, 0, 0, 0, 2, 1),), mode="wrap"))(X)
    np.testing.assert_array_equal(round_, np.pad(X[:, :, 1:], [(0, 0)] * 2 + [(0, 2), (0, 1)], "wrap"))
    few = np.ones((1, 2, 3, 5), np.int64)
    picked: Any = load(of_node("GatherElements", 13, X, (few,), axis=2))(X)
    np.testing.assert_array_equal(picked, X[:1, :, [1, 1, 1]])


def test_bounds_and_slopes_may_be_inputs() -> None:
    def loaded(node: Any, *shapes: tuple[int, ...]) -> Any:
        infos = [
            helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in zip("xab", shapes, strict=False)
        ]
        graph = helper.make_graph([node], "one", infos, [helper.make_empty_tensor_value_info("y")])
        return load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)]))

    low, high = np.array(-0.5, np.float32), np.array(0.7, np.float32)
    clip = loaded(helper.make_node("Clip", ["x", "a", "b"], ["y"]), X.shape, (), ())
    np.testing.assert_array_equal(clip(X, low, high), X.clip(-0.5, 0.7))
    slope = np.array([[[0.1]], [[0.3]]], np.float32)
    prelu = loaded(helper.make_node("PRelu", ["x", "a"], ["y"]), X.shape, slope.shape)
    np.testing.assert_allclose(prelu(X, slope), np.where(X < 0, X * slope, X), rtol=1e-6)


def test_sizes_that_a_file_leaves_open_are_not_taken_for_numbers_in_it() -> None:
    x = RNG.standard_normal((6, 4)).astype(np.float32)

    def loaded(op: str, *operands: list[int]) -> Any:
        model = of_node(op, 13, x, [rows(*numbers) for numbers in operands])
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
        return load(model, input_shapes=shapes)(x)

    shapes: dict[str, tuple[int, ...]] | None = None
    with pytest.raises(
        OnnxImportError, match=r"taken to be \{'x': \(2, 4\)\}: give others with load\(..., input_shapes=\)"
    ):
        loaded("Reshape", [2, -1, 4])
    np.testing.assert_array_equal(loaded("Reshape", [2, -1, 2]), x.reshape(2, -1, 2))
    shapes = {"x": (6, 4)}
    np.testing.assert_array_equal(loaded("Reshape", [2, -1, 4]), x.reshape(2, 3, 4))
    shapes = None
    np.testing.assert_array_equal(loaded("Slice", [0], [3], [0]), x[:3])


def test_a_transposed_convolution_whose_kernel_is_smaller_than_its_stride_ends_there() -> None:
    weight = np.ones((2, 3, 2, 1), np.float32)
    model = of_node("ConvTranspose", 11, X, (weight,), auto_pad="SAME_UPPER", strides=[3, 2])
    inferred = model.graph.output[0].type.tensor_type.shape.dim
    assert load(model)(X).shape == tuple(dim.dim_value for dim in inferred) == (3, 3, 11, 9)


def test_a_batch_of_nothing() -> None:
    model = of_node("GlobalAveragePool", 17, X)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    y: Any = load(model, input_shapes={"x": (0, *X.shape[1:])})(X[:0])
    assert y.shape == (0, 2, 1, 1)


def test_attention_is_written_out() -> None:
    model = of_node("Attention", 23, X, (X[:, :, ::-1].copy(), X[:, :, :, ::-1].copy()), is_causal=1)
    before = model.SerializeToString()
    (expected,) = ReferenceEvaluator(model).run(None, {"x": X})
    np.testing.assert_allclose(load(model)(X), expected, rtol=1e-4, atol=1e-5)
    assert model.SerializeToString() == before


def places_of(x: np.ndarray, **arguments: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest numbers of windows of images of two axes, and where they are in the tensor."""
    found: Any = load(of_node("MaxPool", 12, x, outputs=2, **arguments))(x)
    return found


def unpooling(x: np.ndarray, places: np.ndarray, *held: np.ndarray, **arguments: Any) -> Any:
    infos = [helper.make_tensor_value_info(n, kind, x.shape) for n, kind in (("x", 1), ("p", TensorProto.INT64))]
    node = helper.make_node("MaxUnpool", ["x", "p", *("size" for _ in held)], ["y"], **arguments)
    graph = helper.make_graph([node], "one", infos, [helper.make_empty_tensor_value_info("y")])
    graph.initializer.extend(numpy_helper.from_array(each, "size") for each in held)
    return load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)]))(x, places)


def test_places_may_be_in_any_image() -> None:
    two = {"kernel_shape": [2, 2], "strides": [2, 2]}
    values, places = places_of(X[:, :, :, :4], **two)
    y = unpooling(values, places, **two)
    np.testing.assert_array_equal(y.ravel()[places.ravel()], values.ravel())
    assert np.count_nonzero(y) == values.size and y.shape == (3, 2, 4, 4)
    turned = unpooling(values, places[::-1, ::-1].copy(), **two)  # numbers of the first image at places of the last
    np.testing.assert_array_equal(turned.ravel()[places[::-1, ::-1].ravel()], values.ravel())
    larger = unpooling(values, places, rows(3, 2, 5, 6), **two)
    np.testing.assert_array_equal(larger[:, :, :4, :4], y)
    assert np.count_nonzero(larger) == values.size and larger.shape == (3, 2, 5, 6)


def test_places_count_through_any_number_of_images() -> None:
    model = of_node("MaxPool", 12, X, outputs=2, kernel_shape=[2, 2])
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    values, places = load(model)(X)
    np.testing.assert_array_equal(X.ravel()[places], values)


def test_a_number_that_is_the_largest_of_several_windows_is_put_back_once() -> None:
    x = np.zeros((1, 1, 5, 5), np.float32)
    x[0, 0, 2, 2] = 3
    nodes = [
        helper.make_node("MaxPool", ["x"], ["v", "p"], kernel_shape=[3, 3], strides=[2, 2]),
        helper.make_node("MaxUnpool", ["v", "p", "size"], ["y"], kernel_shape=[3, 3], strides=[2, 2]),
    ]
    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *x.shape[1:]])
    graph = helper.make_graph(nodes, "two", [info], [helper.make_empty_tensor_value_info("y")])
    graph.initializer.append(numpy_helper.from_array(rows(1, 1, 5, 5), "size"))
    y: Any = load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)]))(x)
    np.testing.assert_array_equal(y, x)


def test_the_nearest_pixel_is_exact() -> None:
    x = np.arange(14, dtype=np.float32).reshape(1, 1, 14)
    nearest = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    for n in (2, 8, 18, 58):
        y: Any = load(of_node("Resize", 13, x, (None, None, rows(1, 1, n)), **nearest))(x)
        np.testing.assert_array_equal(y.ravel(), np.arange(n) * 14 // n)
    # 2.4 in float32 is more than that, 0.7 is less
    y = load(of_node("Resize", 13, x[:, :, :6], (None, rows(1, 1, 2.4, dtype=np.float32)), **nearest))(x[:, :, :6])
    np.testing.assert_array_equal(y.ravel(), np.arange(14) * 5 // 12)
    y = load(of_node("Resize", 13, x[:, :, :10], (None, rows(1, 1, 0.7, dtype=np.float32)), **nearest))(x[:, :, :10])
    np.testing.assert_array_equal(y.ravel(), np.arange(7) * 10 // 7)
