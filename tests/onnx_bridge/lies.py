"""Files of the standard suite whose fields lie: they parse, and reach the function of every operator."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

NUMBERS = (-(2**63), -(2**31), -7, -1, 0, 1, 2, 3, 5, 7, 2**20, 2**31 - 1, 2**31, 2**40, 2**63 - 1)
FLOATS = (0.0, 1.0, -1.0, 0.5, 7.0, 1e30, -1e30, 1e-30, np.inf, -np.inf, np.nan)
TEXTS = (b"", b"SAME_LOWER", b"linear", b"cubic", b"wrap", b"\xff", b"ij,jk->ik", b"...")
DTYPES = ("float32", "float64", "int32", "int64", "uint8", "bool")


def standard_files() -> list[onnx.ModelProto]:
    """Return the models of the suite's cases of one node, with all inputs but the first as constants."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = load_model_tests(kind="node")
    found = []
    for case in cases:
        if case.model is None or not case.model.graph.input:
            continue
        model = onnx.ModelProto()
        model.CopyFrom(case.model)
        arrays = case.data_sets[0][0]
        for info, array in list(zip(model.graph.input, arrays, strict=False))[1:]:
            if isinstance(array, np.ndarray) and array.dtype.kind in "fiub":
                model.graph.initializer.append(numpy_helper.from_array(array, info.name))
        found.append(model)
    return found


def lying(rng: np.random.Generator, model: onnx.ModelProto) -> bytes:
    """Return a file with one or two fields of another value than before."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for _ in range(int(rng.integers(1, 3))):
        _CHANGES[rng.integers(len(_CHANGES))](rng, changed)
    content: bytes = changed.SerializeToString()
    return content


def _any(rng: np.random.Generator, things: Any) -> Any:
    return things[rng.integers(len(things))]


def _operand(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    node = _any(rng, model.graph.node)
    names = [*node.input, *node.output, "", "nobody"]
    if node.input and rng.random() < 0.6:
        node.input[rng.integers(len(node.input))] = _any(rng, names)
    elif node.input:
        del node.input[-1]


def _attribute(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    attributes = _any(rng, model.graph.node).attribute
    if not attributes:
        return
    one = _any(rng, attributes)
    if rng.random() < 0.1:
        attributes.remove(one)
    elif one.type == one.INT:
        one.i = _any(rng, NUMBERS)
    elif one.type == one.FLOAT:
        one.f = _any(rng, FLOATS)
    elif one.type == one.STRING:
        one.s = _any(rng, TEXTS)
    elif one.type == one.INTS and one.ints:
        one.ints[rng.integers(len(one.ints))] = _any(rng, NUMBERS)
        if rng.random() < 0.2:
            one.ints.append(_any(rng, NUMBERS))
    elif one.type == one.FLOATS and one.floats:
        one.floats[rng.integers(len(one.floats))] = _any(rng, FLOATS)


def _constant(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    if not model.graph.initializer:
        return
    tensor = _any(rng, model.graph.initializer)
    array = numpy_helper.to_array(tensor).copy()
    way = rng.random()
    if way < 0.6 and array.size and array.dtype.kind in "if":
        number = _any(rng, NUMBERS if array.dtype.kind == "i" else FLOATS)
        with np.errstate(over="ignore"):
            array.reshape(-1)[rng.integers(array.size)] = np.asarray(number).astype(array.dtype)
    elif way < 0.7:
        array = array.reshape(-1)
    elif way < 0.8:
        array = array[None]
    elif way < 0.9:
        array = array.reshape(-1)[:0]
    else:
        with np.errstate(invalid="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            array = array.astype(_any(rng, DTYPES))
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), tensor.name))


def _input(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    kind = model.graph.input[0].type.tensor_type
    way = rng.random()
    if way < 0.2:
        kind.elem_type = int(rng.integers(0, 20))
    elif way < 0.3:
        kind.shape.dim.add(dim_value=_any(rng, NUMBERS))
    elif not kind.shape.dim:
        return
    elif way < 0.4:
        del kind.shape.dim[-1]
    elif way < 0.6:
        _any(rng, kind.shape.dim).dim_param = "N"
    else:
        _any(rng, kind.shape.dim).dim_value = _any(rng, NUMBERS)


def _version(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    model.opset_import[0].version = int(rng.integers(1, 30))


_CHANGES = (_operand, _attribute, _attribute, _attribute, _constant, _constant, _input, _version)
