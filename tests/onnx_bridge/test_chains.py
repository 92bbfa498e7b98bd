"""Normalizations that writers of ONNX spell in several nodes: which are one step of a frozen model that computes the same."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import fastconv
from fastconv.frozen import chains
from fastconv.frozen.normalization import LayerNorm

onnx = pytest.importorskip("onnx", reason="the onnx package is not installed")

from onnx import helper, numpy_helper  # noqa: E402

RNG = np.random.default_rng(0)
EPS = {np.float32: 1e-5, np.float64: 1e-12}

#: Lines "output = Operator(inputs) attributes" of files: the mean of a layer normalization, then its ends.
LAST = ["r = Div(one, s)", "y = Mul(x, r)"]
DIFFERENCE = ["m = ReduceMean(x) axes=-1", "d = Sub(x, m)"]
LAYER_NORM = {
    "torch": [
        *DIFFERENCE,
        "q = Pow(d, two)",
        "v = ReduceMean(q) axes=-1",
        "w = Add(v, eps)",
        "s = Sqrt(w)",
        "y = Div(d, s)",
    ],
    "mul": [
        *DIFFERENCE,
        "q = Mul(d, d)",
        "v = ReduceMean(q) axes=-1",
        "w = Add(eps, v)",
        "s = Sqrt(w)",
        "y = Div(d, s)",
    ],
    "reciprocal": [
        *(*DIFFERENCE, "q = Mul(d, d)", "v = ReduceMean(q) axes=-1", "w = Add(v, eps)", "s = Sqrt(w)"),
        *("r = Reciprocal(s)", "y = Mul(d, r)"),
    ],
    "twice": [
        *(*DIFFERENCE, "n = ReduceMean(x) axes=-1", "e = Sub(x, n)", "q = Pow(e, two)", "v = ReduceMean(q) axes=-1"),
        *("w = Add(v, eps)", "s = Sqrt(w)", "y = Div(d, s)"),
    ],
    "squares": [  # the mean of the squares less the square of the mean
        *("m = ReduceMean(x) axes=-1", "d = Sub(x, m)", "o = Mul(m, m)", "q = Mul(x, x)", "u = ReduceMean(q) axes=-1"),
        *("v = Sub(u, o)", "w = Add(v, eps)", "s = Sqrt(w)", "y = Div(d, s)"),
    ],
}
ROOT_MEAN_SQUARE = {
    "torch": [
        "q = Pow(x, two)",
        "v = ReduceMean(q) axes=-1",
        "w = Add(v, eps)",
        "s = Sqrt(w)",
        "r = Div(one, s)",
        "y = Mul(x, r)",
    ],
    "div": ["q = Mul(x, x)", "v = ReduceMean(q) axes=-1", "w = Add(v, eps)", "s = Sqrt(w)", "y = Div(x, s)"],
    "pow": ["q = Mul(x, x)", "v = ReduceMean(q) axes=-1", "w = Add(v, eps)", "r = Pow(w, minus)", "y = Mul(r, x)"],
}
LENGTH = {
    "torch": ["n = ReduceL2(x) axes=-1", "c = Clip(n, eps)", "h = Shape(x)", "e = Expand(c, h)", "y = Div(x, e)"],
    "max": ["q = Mul(x, x)", "v = ReduceSum(q) axes=-1", "w = Max(v, eps)", "s = Sqrt(w)", "y = Div(x, s)"],
    "sum": [
        "q = Mul(x, x)",
        "v = ReduceSum(q) axes=-1",
        "w = Add(v, eps)",
        "s = Sqrt(w)",
        "r = Reciprocal(s)",
        "y = Mul(x, r)",
    ],
    "bare": ["n = ReduceL2(x) axes=-1", "y = Div(x, n)"],
}


def file(lines: Any, dtype: Any, shape: Any = ("N", 7, 20), scaled: bool = False) -> Any:
    """Return a file with these nodes, and perhaps a scale and a bias for each channel after them."""
    numbers = {"two": 2, "one": 1, "minus": -0.5, "eps": EPS[dtype]}
    constants = {name: np.array(number, dtype) for name, number in numbers.items()}
    constants["kernel"] = RNG.standard_normal((20, 20, 1, 1)).astype(dtype)
    constants |= {name: RNG.standard_normal(shape[-1]).astype(dtype) for name in ("gamma", "beta")}
    nodes = []
    for line in [*lines, *(["t = Mul(y, gamma)", "z = Add(t, beta)"] if scaled else [])]:
        made, rest = line.split(" = ")
        operator, rest = rest.split("(")
        reads, attributes = rest.split(")")
        inputs = reads.split(", ")
        keywords = {}
        if "axes=" in attributes:
            if operator == "ReduceSum":
                inputs, constants["axes"] = [*inputs, "axes"], np.array([-1])
            else:
                keywords = {"axes": [int(attributes.split("=")[1])]}
        nodes.append(helper.make_node(operator, inputs, [made], **keywords))
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("z" if scaled else "y", kind, shape)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def operations(proto: Any, dtype: Any = np.float32, *, exact: bool = True) -> list[Any]:
    """Return the operations of the frozen model of a file, which computes what the model computes, of numbers of every size."""
    model = fastconv.onnx.load(proto.SerializeToString())
    frozen = fastconv.freeze(model)
    x = RNG.standard_normal((3, *model.input_shapes[0])).astype(dtype)
    for size in (1, 1e3, 1e-3, 1e-7):
        want, got = model(x * dtype(size)), frozen(x * dtype(size))
        tolerance = (3e-5 if dtype == np.float32 else 1e-11) if exact else 1e-3
        np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * abs(want).max())
    return [step.operation for step in frozen.program.steps]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("spelling", LAYER_NORM)
def test_a_layer_normalization_is_one_step(spelling, scaled, dtype, isa):
    (operation,) = operations(file(LAYER_NORM[spelling], dtype, scaled=scaled), dtype)
    assert isinstance(operation, LayerNorm)
    assert (operation.eps, operation.centred, operation.floor) == (EPS[dtype], True, 0)


def test_what_would_take_too_much_memory_to_try_stays(monkeypatch):
    monkeypatch.setattr(chains, "MOST_PROBES", 8)
    assert not any(isinstance(operation, LayerNorm) for operation in operations(file(LAYER_NORM["torch"], np.float32)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("spelling", ROOT_MEAN_SQUARE)
def test_a_division_by_the_root_mean_square_is_one_step(spelling, scaled, dtype, isa):
    (operation,) = operations(file(ROOT_MEAN_SQUARE[spelling], dtype, scaled=scaled), dtype)
    assert isinstance(operation, LayerNorm)
    assert (operation.eps, operation.centred, operation.floor) == (EPS[dtype], False, 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("spelling", LENGTH)
def test_a_vector_of_length_one_is_one_step(spelling, dtype, isa):
    (operation,) = operations(file(LENGTH[spelling], dtype), dtype)
    assert isinstance(operation, LayerNorm) and not operation.centred
    np.testing.assert_allclose(operation.scale, 20**-0.5, rtol=1e-6)
    eps, floor = {"torch": (0, EPS[dtype] ** 2), "max": (0, EPS[dtype]), "sum": (EPS[dtype], 0), "bare": (0, 0)}[
        spelling
    ]
    np.testing.assert_allclose([operation.eps, operation.floor], [eps / 20, floor / 20], rtol=5e-5)


@pytest.mark.parametrize("shape", [("N", 20), ("N", 2, 3, 20)])
def test_of_any_rank(shape):
    (operation,) = operations(file(LAYER_NORM["torch"], np.float32, shape))
    assert isinstance(operation, LayerNorm)


@pytest.mark.parametrize("lines", [LAYER_NORM["torch"], ROOT_MEAN_SQUARE["torch"], LENGTH["torch"]])
def test_channels_first(lines):
    of_conv = [re.sub(r"\bx\b", "image", line).replace("axes=-1", "axes=1") for line in lines]
    lines = ["image = Conv(x, kernel)", *of_conv]
    found = operations(file(lines, np.float32, ("N", 20, 6, 5)))
    assert [each.kind for each in found] == ["transpose", "conv", "layer_norm", "transpose"]


def test_a_scale_goes_on_into_the_weight_after_it():
    weight = RNG.standard_normal((20, 5)).astype(np.float32)
    proto = file(LAYER_NORM["torch"], np.float32, scaled=True)
    proto.graph.node.append(helper.make_node("MatMul", ["z", "weight"], ["product"]))
    proto.graph.initializer.append(numpy_helper.from_array(weight, "weight"))
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("product", onnx.TensorProto.FLOAT, ["N", 7, 5]))
    assert [each.kind for each in operations(proto)] == ["layer_norm", "linear"]


@pytest.mark.parametrize(
    "lines",
    [
        [line.replace("axes=-1", "axes=1") for line in LAYER_NORM["torch"]],
        [
            "m = ReduceMean(x) axes=-1",
            "d = Sub(x, m)",
            "q = Mul(x, x)",
            *LAYER_NORM["torch"][3:],
        ],  # squares of x itself
        ["n = ReduceL2(x) axes=-1", "c = Add(n, eps)", "y = Div(x, c)"],  # added to the root
        ["q = Mul(x, x)", "v = ReduceMean(q) axes=-1", "w = Add(v, one)", "y = Div(x, w)"],
        [*LAYER_NORM["torch"][:-1], "y = Mul(d, s)"],
    ],
)
def test_what_only_resembles_one_stays(lines):
    assert not any(isinstance(each, LayerNorm) for each in operations(file(lines, np.float32), exact=False))


def test_a_part_that_others_read_stays():
    proto = file(LAYER_NORM["torch"], np.float32)
    proto.graph.output.append(helper.make_tensor_value_info("s", onnx.TensorProto.FLOAT, ["N", 7, 1]))
    model = fastconv.onnx.load(proto.SerializeToString())
    frozen = fastconv.freeze(model)
    assert not any(isinstance(step.operation, LayerNorm) for step in frozen.program.steps)


def test_it_is_saved_and_loaded(tmp_path):
    frozen = fastconv.freeze(fastconv.onnx.load(file(LENGTH["torch"], np.float32).SerializeToString()))
    frozen.save(tmp_path / "frozen")
    x = RNG.standard_normal((2, 7, 20)).astype(np.float32)
    assert fastconv.load_frozen(tmp_path / "frozen")(x).tobytes() == frozen(x).tobytes()
