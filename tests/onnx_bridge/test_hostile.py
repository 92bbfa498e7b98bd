"""Files that are broken or hostile are refused with one kind of error, without much time or memory."""

from __future__ import annotations

import os
import time
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the onnx package is not installed")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx_bridge.lies import lying, standard_files  # noqa: E402
from onnx_bridge.mutations import mutated, seeds  # noqa: E402

from fastconv.model import Model  # noqa: E402
from fastconv.onnx import OnnxImportError, load, wire  # noqa: E402

MOST = 2**24


def survives(source: bytes | Path) -> bool:
    """Return whether a file loads; anything but a model or an `OnnxImportError` is an error of the test."""
    try:
        assert isinstance(load(source, max_bytes=MOST), Model)
    except OnnxImportError:
        return False
    return True


def fuzz(first: int, count: int, folder: Path) -> int:
    """Load so many mutated files, and return how many were whole enough; ``fuzz(0, 20_000, folder)`` takes half a minute.

    In turn they come as bytes, as files that are mapped, and as such with tensors in a file beside them.
    """
    whole, loaded = seeds(), 0
    beside = [with_data_beside(content, folder / f"{at}.bin") for at, content in enumerate(whole)]
    for number in range(first, first + count):
        rng, which, way = np.random.default_rng(number), number % len(whole), number // len(whole) % 3
        content = mutated(rng, (beside if way == 2 else whole)[which])
        path = folder / "mutated.onnx"
        path.write_bytes(content)
        try:
            loaded += survives(path if way else content)
        except BaseException:
            print(f"file {number}")
            raise
    return loaded


@pytest.mark.parametrize("which", range(len(seeds())))
def test_the_files_are_whole_before(which: int) -> None:
    assert survives(seeds()[which])


def with_data_beside(content: bytes, path: Path) -> bytes:
    """Return a file whose tensors lie in another one, and write that."""
    model, data = onnx.ModelProto.FromString(content), b""
    for tensor in model.graph.initializer:
        raw = tensor.raw_data
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", path.name), ("offset", len(data)), ("length", len(raw))):
            tensor.external_data.add(key=key, value=str(value))
        data += raw
    path.write_bytes(data)
    result: bytes = model.SerializeToString()
    return result


def test_mutated_files(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(wire, "LARGE", 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fuzz(0, 600, tmp_path) > 20


def fuzz_operators(first: int, count: int) -> tuple[int, float]:
    """Load so many files of the standard suite that lie; return how many were whole enough, and the most seconds of one."""
    models, loaded, longest = standard_files(), 0, 0.0
    for number in range(first, first + count):
        content = lying(np.random.default_rng(number), models[number % len(models)])
        begin = time.perf_counter()
        try:
            loaded += survives(content)
        except BaseException:
            print(f"file {number}")
            raise
        longest = max(longest, time.perf_counter() - begin)
    return loaded, longest


def test_operators_whose_arguments_lie() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded, longest = fuzz_operators(0, 4000)
    assert loaded > 400 and longest < 20


def graph_of(nodes, shape=("N", 4), tensors=(), outputs="y", opset=17):
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name in ("x", outputs)]
    graph = helper.make_graph(nodes, "graph", infos[:1], infos[1:], list(tensors))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


RELU = helper.make_node("Relu", ["x"], ["y"], name="bend")


@pytest.mark.parametrize(
    ("model", "match"),
    [
        (b"", "no ONNX model"),
        (b"\x00\x01\x02", "not an ONNX file"),
        (seeds()[0][:200], "not an ONNX file|no graph"),
        (graph_of([RELU], opset=999), "version 999 of the operators; known are 1 to"),
        (graph_of([RELU], opset=0), "version 0"),
        (graph_of([helper.make_node("Relu", ["z"], ["y"], name="bend")]), "'z', which node 'bend' .* is made by nothing"),
        (
            graph_of([helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"]),
                      helper.make_node("Relu", ["b"], ["y"])]),
            "has a cycle through",
        ),
        (graph_of([RELU, RELU]), "'y' is made twice"),
        (
            graph_of([helper.make_node("Mod", ["x", "half"], ["y"], fmod=1)],
                     tensors=[numpy_helper.from_array(np.ones(4, np.float16), "half")]),
            "the output 'y' is computed in float16; models have float32 and float64",
        ),
        (graph_of([helper.make_node("Abracadabra", ["x"], ["y"], name="spell")]), r"(?s)1 of 1 .*Abracadabra: node 'spell'"),
        (graph_of([RELU], shape=("N", 2**40)), "cannot have the shape"),
        (graph_of([RELU], shape=("N", -1)), "cannot have the shape"),
    ],
)  # fmt: skip
def test_the_error_says_what_is_wrong(model, match) -> None:
    with pytest.raises(OnnxImportError, match=match):
        load(model)


@pytest.mark.parametrize(
    ("op", "operands", "shape"),
    [
        ("Hardmax", [], (4, 2**31 - 1)),
        ("Trilu", [], (3, 2**15, 2**15)),
        ("EyeLike", [], (2**15, 2**15)),
        ("OneHot", ["depth", "values"], (4,)),
    ],
)
def test_constants_of_the_size_of_a_value_are_bounded(op, operands, shape) -> None:
    tensors = [numpy_helper.from_array(np.array(2**30), "depth"), numpy_helper.from_array(np.float32([0, 1]), "values")]
    tracemalloc.start()
    with pytest.raises(OnnxImportError, match="too many"):
        load(graph_of([helper.make_node(op, ["x", *operands], ["y"])], shape, tensors), max_bytes=MOST)
    assert tracemalloc.get_traced_memory()[1] < 2**26
    tracemalloc.stop()


def test_all_missing_operators_are_listed_at_once() -> None:
    nodes = [
        helper.make_node("First", ["x"], ["a"], name="one", domain="acme"),
        helper.make_node("Second", ["a"], ["y"], name="two"),
    ]
    with pytest.raises(OnnxImportError, match="2 of 2 nodes") as caught:
        load(graph_of(nodes))
    assert caught.value.unsupported == [("acme.First", "one"), ("Second", "two")]


def test_a_tensor_that_is_shorter_than_it_says() -> None:
    tensor = numpy_helper.from_array(np.zeros((4, 4), np.float32), "w")
    tensor.dims[0] = 2**40
    with pytest.raises(OnnxImportError, match="'w' says that its shape is"):
        load(graph_of([helper.make_node("MatMul", ["x", "w"], ["y"])], tensors=[tensor]))


def test_constants_that_are_too_large() -> None:
    huge = numpy_helper.from_array(np.array([2**20, 2**20], np.int64), "huge")
    nodes = [helper.make_node("ConstantOfShape", ["huge"], ["w"]), helper.make_node("Add", ["x", "w"], ["y"])]
    with pytest.raises(OnnxImportError, match="makes a constant of 1099511627776 numbers"):
        load(graph_of(nodes, tensors=[huge]))
    large = numpy_helper.from_array(np.array([4, 2**20], np.int64), "huge")
    nodes[1] = helper.make_node("MatMul", ["x", "w"], ["y"])
    with pytest.raises(OnnxImportError, match="more memory than max_bytes"):
        load(graph_of(nodes, tensors=[large]), max_bytes=2**20)


def test_constants_that_take_too_long() -> None:
    image, kernel = (
        numpy_helper.from_array(np.zeros((1, 1, n, n), np.float32), name) for n, name in ((400, "a"), (200, "b"))
    )
    nodes = [
        helper.make_node("Conv", ["a", "b"], ["c"], pads=[100, 100, 100, 100]),
        helper.make_node("Add", ["x", "c"], ["y"]),
    ]
    with pytest.raises(OnnxImportError, match="with others before are too many"):
        load(graph_of(nodes, tensors=[image, kernel]))


def test_a_product_of_constants_is_as_large_as_its_result() -> None:
    a, b = (
        numpy_helper.from_array(np.ones(shape, np.float32), name)
        for name, shape in (("a", (9, 4000)), ("b", (4000, 4)))
    )
    nodes = [helper.make_node("MatMul", ["a", "b"], ["w"]), helper.make_node("MatMul", ["x", "w"], ["y"])]
    assert load(graph_of(nodes, ("N", 9), [a, b]))(np.ones((2, 9), np.float32)).tolist() == [[36000] * 4] * 2


@pytest.mark.parametrize("equation", ["ab,cd->abcd", "ab,cd", "a...,b...->ab...", "ab,ac->bc"])
def test_sums_of_products_of_constants_have_a_limit(equation) -> None:
    wide = numpy_helper.from_array(np.zeros((2**8, 2**12), np.float32), "c")
    nodes = [
        helper.make_node("Einsum", ["c", "c"], ["w"], equation=equation),
        helper.make_node("Add", ["x", "w"], ["y"]),
    ]
    with pytest.raises(OnnxImportError, match=r"node|too many|more than|cannot be computed"):
        load(graph_of(nodes, tensors=[wide]))


def test_constants_that_are_too_many() -> None:
    """A hundred bytes for each node could ask for seconds of work and gigabytes each."""
    large = numpy_helper.from_array(np.array([2**13, 2**12], np.int64), "large")
    nodes = [helper.make_node("ConstantOfShape", ["large"], ["0"])]
    nodes += [helper.make_node("Exp", [str(at)], [str(at + 1)]) for at in range(4)]
    nodes += [
        helper.make_node("ReduceMax", ["4", "axes"], ["5"], keepdims=0),
        helper.make_node("Add", ["x", "5"], ["y"]),
    ]
    axes = numpy_helper.from_array(np.array([0], np.int64), "axes")
    with pytest.raises(
        OnnxImportError, match="makes a constant of 33554432 numbers, which with others before are too many"
    ):
        load(graph_of(nodes, ("N", 2**12), tensors=[large, axes], opset=18))
    wide = numpy_helper.from_array(np.array([2**14, 2**14], np.int64), "large")
    nodes[1:] = [helper.make_node("MatMul", ["0", "0"], ["5"]), helper.make_node("MatMul", ["x", "5"], ["y"])]
    with pytest.raises(OnnxImportError, match="makes a constant of 137438953472 numbers"):
        load(graph_of(nodes, ("N", 2**14), tensors=[wide]))


def test_sums_over_nothing_that_are_too_large() -> None:
    nodes = [helper.make_node("ReduceSumSquare", ["e", "axes"], ["s"]), helper.make_node("Add", ["x", "s"], ["y"])]
    empty = TensorProto(name="e", data_type=TensorProto.FLOAT, dims=[2, 0, 2**31 - 1])
    axes = numpy_helper.from_array(np.array([1], np.int64), "axes")
    with pytest.raises(OnnxImportError, match="makes a constant of 4294967295 numbers"):
        load(graph_of(nodes, tensors=[empty, axes], opset=18))


def test_an_axis_of_constants_that_is_far_away() -> None:
    w = numpy_helper.from_array(np.ones((4, 4), np.float32), "w")
    nodes = [
        helper.make_node("LayerNormalization", ["w", "w", "w"], ["n"], axis=-(2**31)),
        helper.make_node("Add", ["x", "n"], ["y"]),
    ]
    with pytest.raises(OnnxImportError, match="there is no axis -2147483648 in a tensor of 2"):
        load(graph_of(nodes, tensors=[w]))


def test_places_of_the_largest_in_many_images() -> None:
    node = helper.make_node("MaxPool", ["x"], ["y", "places"], kernel_shape=[2, 2])
    model = graph_of([node], (2**31 - 1, 1, 5, 5))
    model.graph.output.append(helper.make_tensor_value_info("places", TensorProto.INT64, None))
    assert load(model).output_names == ["y", "places"]  # nothing is held for each of them


def test_places_that_reach_too_far() -> None:
    node = helper.make_node("MaxUnpool", ["x", "places"], ["y"], kernel_shape=[2**15, 2**15])
    model = graph_of([node], (1, 1, 5, 5))
    model.graph.input.append(helper.make_tensor_value_info("places", TensorProto.INT64, (1, 1, 5, 5)))
    with pytest.raises(OnnxImportError, match="no tensor has shape"):
        load(model)


@pytest.mark.parametrize("count", [2**31, 2**63 - 1, -1, 7])
def test_more_parts_than_there_are_numbers(count: int) -> None:
    node = helper.make_node("Split", ["x"], ["y"], axis=1, num_outputs=count)
    with pytest.raises(OnnxImportError, match=f"it cannot split 4 numbers into {count}"):
        load(graph_of([node], opset=18))


def test_more_samples_of_a_box_than_make_sense() -> None:
    node = helper.make_node("RoiAlign", ["x", "boxes", "images"], ["y"], sampling_ratio=2**31)
    boxes = numpy_helper.from_array(np.zeros((1, 4), np.float32), "boxes")
    images = numpy_helper.from_array(np.zeros(1, np.int64), "images")
    with pytest.raises(OnnxImportError, match="samples"):
        load(graph_of([node], (1, 1, 8, 8), tensors=[boxes, images]))


@pytest.mark.parametrize("start", [b"", b"\x3a\xff\xff\xff\xff\x1f"])
def test_a_file_that_is_longer_than_a_message_can_be(start: bytes, tmp_path: Path) -> None:
    path = tmp_path / "huge.onnx"
    path.write_bytes(start)
    os.truncate(path, 2**33)
    with pytest.raises(OnnxImportError, match="8589934592 of its 8589934592 are not in large tensors"):
        load(path)


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname", "", "missing.bin", "inside/../../secret.bin"])
def test_tensors_outside_the_folder(location: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(64))
    model = graph_of([helper.make_node("MatMul", ["x", "w"], ["y"])], tensors=[external(location)])
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(OnnxImportError, match="not a file in the folder of the model"):
        load(folder / "model.onnx")
    with pytest.raises(OnnxImportError, match="lies in another file"):
        load(model.SerializeToString())


def external(location: str, **entries: int) -> TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4, 4], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def test_tensors_in_a_file_beside_the_model(tmp_path: Path) -> None:
    weight = np.arange(16, dtype=np.float32).reshape(4, 4)
    (tmp_path / "weights.bin").write_bytes(bytes(8) + weight.tobytes())
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    path = tmp_path / "model.onnx"
    path.write_bytes(graph_of(nodes, tensors=[external("weights.bin", offset=8)]).SerializeToString())
    model = load(path)
    np.testing.assert_array_equal(model(np.eye(4, dtype=np.float32)), weight)
    model.params["y/weight"][...] = 0  # the file stays as it is
    assert (tmp_path / "weights.bin").read_bytes() == bytes(8) + weight.tobytes()
    path.write_bytes(graph_of(nodes, tensors=[external("weights.bin", offset=16)]).SerializeToString())
    with pytest.raises(OnnxImportError, match="has 64 bytes, which are not in"):
        load(path)


@pytest.mark.parametrize(
    ("nodes", "shape"),
    [
        (
            [helper.make_node("ConstantOfShape", ["sizes"], ["c"]), helper.make_node("Add", ["x", "c"], ["y"])],
            ("N", 2, 4),
        ),
        (
            [
                helper.make_node("MaxPool", ["x"], ["a"], kernel_shape=[1, 1]),
                helper.make_node("Flatten", ["a"], ["b"]),
                helper.make_node("Gemm", ["b", "w"], ["y"]),
            ],
            ("N", 2, 2**24, 2),
        ),
    ],
)
def test_what_does_not_fit_takes_no_memory(nodes, shape) -> None:
    tensors = [
        numpy_helper.from_array(np.array([3, 2**25], np.int64), "sizes"),
        numpy_helper.from_array(np.zeros((16, 5), np.float32), "w"),
    ]
    tracemalloc.start()
    try:
        with pytest.raises(OnnxImportError, match=r"does not fit|must have one shape"):
            load(graph_of(nodes, shape, tensors))
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()
