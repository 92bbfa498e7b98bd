"""Graphs that a file repeats: written out where it is known how often they run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the onnx package is not installed")

from onnx import numpy_helper, parser  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

import fastconv  # noqa: E402
from fastconv.onnx import OnnxImportError, builder, load, save  # noqa: E402

RNG = np.random.default_rng(0)
STEP = "product = MatMul (state, weight) next = Tanh (product)"
LOOP = f"{{ goes_on = Identity (going) {STEP} kept = Identity (next) }}"
GRAPHS = {
    "as often as a number says": "y, all = Loop (five, , x) <body = body (int64 i, bool going, float[n, 4] state) => "
    f"(bool goes_on, float[n, 4] next, float[n, 4] kept) {LOOP}> ",
    "with the number of the repetition": "y = Loop (five, yes, x) <body = body (int64 i, bool going, float[n, 4] state) => "
    "(bool going, float[n, 4] next) { number = Cast <to = 1> (i) next = Add (state, number) }>",
    "until a condition is false": "y = Loop (, yes, x) <body = body (int64 i, bool going, float[n, 4] state) => "
    f"(bool goes_on, float[n, 4] next) {{ goes_on = Less (i, five) {STEP} }}>",
    "a loop in a loop": "y = Loop (five, , x) <body = outer (int64 i, bool going, float[n, 4] outer_state) => "
    "(bool going, float[n, 4] made) { made = Loop (i, , outer_state) <body = inner (int64 j, bool inner_going, float[n, 4] "
    f"state) => (bool inner_going, float[n, 4] next) {{ {STEP} }}> }}>",
    "along an axis": "y, all = Scan <num_scan_inputs = 1, scan_input_axes = [1], scan_output_axes = [-1], body = body "
    "(float[n] state, float[n] part) => (float[n] next, float[n] kept) { next = Add (state, part) kept = Identity (next) }> "
    "(zeros, x)",
    "along an axis from its end": "y, all = Scan <num_scan_inputs = 1, scan_input_axes = [1], scan_output_axes = [1], "
    "scan_input_directions = [1], scan_output_directions = [1], body = body (float[n] state, float[n] part) => "
    "(float[n] next, float[n] kept) { next = Add (state, part) kept = Identity (next) }> (zeros, x)",
    "a list that grows": "empty = SequenceEmpty () y, list = Loop (five, , x, empty) <body = body (int64 i, bool going, "
    "float[n, 4] state, seq(float[n, 4]) before) => (bool going, float[n, 4] next, seq(float[n, 4]) after) { "
    f"{STEP} after = SequenceInsert (before, next) }}> all = ConcatFromSequence <axis = 0, new_axis = 1> (list)",
    "a list of parts": "columns = SplitToSequence <axis = 1, keepdims = 0> (x) less = SequenceErase (columns, none) "
    "last = SequenceAt (less, minus) pair = SequenceConstruct (last, last) more = SequenceInsert (pair, last, none) "
    "all = ConcatFromSequence <axis = -1, new_axis = 1> (more) count = SequenceLength (less) whole = Cast <to = 1> (count) "
    "y = Mul (last, whole)",
    "parts of sizes": "list = SplitToSequence <axis = 1> (x, sizes) same = Identity (list) one = SequenceAt (same, none) "
    "pairs = SplitToSequence <axis = 0> (x, two) y = SequenceAt (pairs, minus) all = ConcatFromSequence <axis = 0> (pairs)",
    "not at all": "y = Loop (none, , x) <body = body (int64 i, bool going, float[n, 4] state) => "
    f"(bool goes_on, float[n, 4] next) {LOOP}>",
}  # fmt: skip


def file(graph: str, outputs: str = "float[a, b] y", **more: Any) -> Any:
    head = f'<ir_version: 8, opset_import: ["" : 17]> graph (float[3, 4] x) => ({outputs})'
    model = parser.parse_model(f"{head} {{ {graph} }}")
    held = {
        "five": np.array(5), "none": np.array(0), "yes": np.array(True), "zeros": np.zeros(3, np.float32),
        "minus": np.array(-1), "two": np.array(2), "sizes": np.array([1, 3]),
        "weight": RNG.standard_normal((4, 4)).astype(np.float32), **more,
    }  # fmt: skip
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in held.items())
    return model


def steps(x: Any, weight: Any, count: int) -> list[Any]:
    made = [x]
    for _ in range(count):
        made.append(np.tanh(made[-1] @ weight))
    return made[1:]


WANTED = {
    "as often as a number says": lambda x, w: (steps(x, w, 5)[-1], np.stack(steps(x, w, 5))),
    "with the number of the repetition": lambda x, w: (x + 10,),
    "until a condition is false": lambda x, w: (steps(x, w, 6)[-1],),
    "a loop in a loop": lambda x, w: (steps(x, w, 10)[-1],),
    "along an axis": lambda x, w: (x.sum(axis=1), x.cumsum(axis=1)),
    "along an axis from its end": lambda x, w: (x.sum(axis=1), x[:, ::-1].cumsum(axis=1)[:, ::-1]),
    "a list that grows": lambda x, w: (steps(x, w, 5)[-1], np.stack(steps(x, w, 5))),
    "a list of parts": lambda x, w: (3 * x[:, 3], np.stack([x[:, 3]] * 3, axis=1)),
    "parts of sizes": lambda x, w: (x[2:], x),
    "not at all": lambda x, w: (x,),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_repeated_graphs_compute_what_onnx_defines(name: str, tmp_path: Any) -> None:
    model = file(GRAPHS[name])
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=each) for each in ("y", "all") if each in GRAPHS[name])
    (weight,) = (numpy_helper.to_array(each) for each in model.graph.initializer if each.name == "weight")
    x = RNG.standard_normal((3, 4)).astype(np.float32)
    want = WANTED[name](x, weight)
    loaded = load(model)
    save(loaded, tmp_path / "again.onnx")
    again = tuple(ReferenceEvaluator(str(tmp_path / "again.onnx")).run(None, {"x": x}))
    for made in (loaded(x), fastconv.freeze(loaded)(x), again):
        for got, right in zip(made if isinstance(made, tuple) else (made,), want, strict=True):
            np.testing.assert_allclose(got, right, rtol=1e-4, atol=1e-5)


def test_repetitions_share_their_weights() -> None:
    model = load(file(GRAPHS["as often as a number says"].replace("y, all", "y").replace(", float[n, 4] kept)", ")")))
    (weight,) = model.params.values()
    assert weight.shape == (4, 4)
    x = RNG.standard_normal((3, 4)).astype(np.float32)
    weight[...] = np.eye(4)
    np.testing.assert_allclose(model(x), np.tanh(np.tanh(np.tanh(np.tanh(np.tanh(x))))), rtol=1e-5, atol=1e-6)


def test_weights_of_repetitions_are_moved_once(monkeypatch: pytest.MonkeyPatch) -> None:
    copied, shapes = builder.copied, []
    monkeypatch.setattr(builder, "copied", lambda array: shapes.append(array.shape) or copied(array))
    load(file(GRAPHS["as often as a number says"].replace("y, all", "y").replace(", float[n, 4] kept)", ")")))
    assert shapes.count((4, 4)) == 1


def test_layers_with_weights_that_are_alike_each_come_again_as_themselves() -> None:
    graph = (
        "y = Loop (five, , x) <body = body (int64 i, bool going, float[n, 4] state) => (bool going, float[n, 4] next) { "
        "one = MatMul (state, weight) bent = Tanh (one) next = MatMul (bent, alike) }>"
    )
    weight = RNG.standard_normal((4, 4)).astype(np.float32)
    model = load(file(graph, weight=weight, alike=weight))
    assert [layer.name for layer in model.layers if layer.params] == ["one", "next"]
    first, second = model.params.values()
    first[...], second[...] = 2 * np.eye(4), np.eye(4) / 2
    x = RNG.standard_normal((3, 4)).astype(np.float32)
    want = x
    for _ in range(5):
        want = np.tanh(2 * want) / 2
    np.testing.assert_allclose(model(x), want, rtol=1e-5, atol=1e-6)


BODY = "body (int64 i, bool going, float[n, 4] state) => (bool goes_on, float[n, 4] next)"


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (f"y = Loop (many, , x) <body = {BODY} {LOOP}>", "more than 10000 nodes"),
        (f"y = Loop (, , x) <body = {BODY} {LOOP}>", "more than 10000 nodes"),
        ("y = Loop (five, , x)", "has no body"),
        (f"y = Loop (five) <body = {BODY} {LOOP}>", "do not fit"),
        (f"y = Scan <num_scan_inputs = 7, body = {BODY} {LOOP}> (five, yes, x)", "do not fit"),
        ("y = Scan <num_scan_inputs = 0, body = body (float[n] part) => (float[n] next) { next = Tanh (part) }> (x)",
         "num_scan_inputs"),
        (
            "y = Scan <num_scan_inputs = 1, scan_input_axes = [2], body = body (float[n] part) => (float[n] next) "
            "{ next = Tanh (part) }> (x)",
            "there is no axis 2",
        ),
        (
            "sum = ReduceSum <keepdims = 0> (x) more = Greater (sum, zero) y = Loop (, more, x) "
            f"<body = {BODY} {LOOP}>",
            "the condition of the loop must be known",
        ),
        (
            "unused, y = Loop (none, , x) <body = body (int64 i, bool going, float[n, 4] state) => "
            f"(bool goes_on, float[n, 4] next, float[n, 4] kept) {LOOP}>",
            "not run once",
        ),
        ("y = SequenceConstruct (x, x)", "output 'y' is a sequence"),
        ("list = SequenceConstruct (x, x) y = SequenceAt (list, five)", "no place 5 in a sequence of 2"),
        ("list = SequenceEmpty () y = ConcatFromSequence <axis = 0> (list)", "an empty sequence"),
        ("y = SequenceAt (x, five)", "takes a sequence"),
        ("list = SplitToSequence <axis = 0> (x, five_rows) y = SequenceAt (list, none)", "do not add up to 3"),
    ],
)  # fmt: skip
def test_what_cannot_be_repeated(graph: str, message: str) -> None:
    model = file(graph, many=np.array(10**9), five_rows=np.array([5]), zero=np.array(0, np.float32))
    with pytest.raises(OnnxImportError, match=message):
        load(model)
