"""Frozen models as files: the same bits come back, and a bad file is one clear error."""

from __future__ import annotations

import json

import numpy as np
import pytest
from frozen_cases import SMALL, inputs, trained
from hypothesis import given
from hypothesis import strategies as st

import fastconv
from fastconv import layers as L
from fastconv import networks
from fastconv.model import Input, Model
from fastconv.saving import ModelFileError, load, save
from fastconv.sequential import Sequential


@L.register("tests.FrozenShift")
class Shift(L.Layer):
    def __init__(self, start=1.0):
        self.start = start

    def build(self, shape, rng):
        self.params["shift"] = np.full(shape[-1], self.start, np.float32)
        self.buffers["seen"] = np.zeros(1, np.float32)

    def output_shape(self, shape):
        return shape

    def forward(self, ctx, x):
        return x + self.params["shift"], lambda dy: (dy, {"shift": dy.sum(axis=0)})


class Unregistered(Shift):
    pass


@pytest.fixture
def path(tmp_path):
    return tmp_path / "frozen.safetensors"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", SMALL)
def test_the_same_bits_come_back(name, dtype, path):
    frozen = fastconv.freeze(trained(networks.create(name, (20, 20, 3), 10).astype(dtype)))
    frozen.save(path)
    again, xs = fastconv.load_frozen(path), inputs(frozen)
    assert again(*xs).tobytes() == frozen(*xs).tobytes()
    assert (again.dtype, again.input_shapes) == (frozen.dtype, frozen.input_shapes)
    assert [step.layers for step in again.program.steps] == [step.layers for step in frozen.program.steps]


def test_a_file_once_more_is_the_same_file(path):
    frozen = fastconv.freeze(trained(networks.create("resnet20", (20, 20, 3), 10)))
    frozen.save(path)
    first = path.read_bytes()
    fastconv.load_frozen(path).save(path)
    assert path.read_bytes() == first


def test_layers_of_others_come_back_with_their_parameters(path):
    x = Input((4, 4, 2), name="x")
    shift = Shift(2.0)
    model = trained(Model(x, [shift(L.Conv2d(3, 1)(x)), shift(L.PReLU()(L.Conv2d(3, 1)(x)))]))
    model.params["shift_1/shift"][...] = 5.0
    frozen = fastconv.freeze(model)
    frozen.save(path)
    again, xs = fastconv.load_frozen(path), inputs(model)
    for y, z in zip(again(*xs), frozen(*xs), strict=True):
        assert y.tobytes() == z.tobytes()
    assert sum(name.endswith("/shift") for name in load(path)[0]) == 1  # shared, so written once


def test_a_layer_that_is_not_registered_cannot_be_saved(path):
    frozen = fastconv.freeze(Sequential([Unregistered()], input_shape=(3,)).build())
    with pytest.raises(ValueError, match=r"cannot be saved, because its class .* is not registered"):
        frozen.save(path)
    assert not path.exists()


def test_a_layer_of_a_plugin_can_be_refused(path):
    fastconv.freeze(Sequential([Shift()], input_shape=(3,)).build()).save(path)
    assert fastconv.load_frozen(path, allow_plugins=False)  # registered by this program itself
    tensors, metadata = load(path)
    metadata["frozen"]["steps"][0]["layer"]["layer"] = "nobody.Has"
    save(path, tensors, metadata)
    with pytest.raises(ModelFileError, match=r"nobody\.Has"):
        fastconv.load_frozen(path)


def test_each_kind_of_file_names_the_function_that_reads_it(path):
    model = Sequential([L.Linear(2)], input_shape=(3,)).build()
    model.save(path)
    with pytest.raises(ModelFileError, match=r"fastconv\.freeze\(fastconv\.load_model\(path\)\)"):
        fastconv.load_frozen(path)
    fastconv.freeze(model).save(path)
    with pytest.raises(ModelFileError, match=r"read it with fastconv\.load_frozen"):
        fastconv.load_model(path)
    save(path, {}, {})
    with pytest.raises(ModelFileError, match="and it holds none"):
        fastconv.load_frozen(path)


def test_a_file_that_cannot_be_written_leaves_the_old_one(path, monkeypatch):
    frozen = fastconv.freeze(Sequential([L.Linear(2)], input_shape=(3,)).build())
    frozen.save(path)
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        frozen.save(path)
    assert path.read_bytes() == before and len(list(path.parent.iterdir())) == 1


def small(path):
    x = Input((6, 6, 2))
    y = L.ReLU()(L.BatchNorm()(L.Conv2d(4, 3)(x)))
    y = L.Concat()(L.AvgPool2d(2)(y), L.MaxPool2d(2)(L.GroupNorm(2)(y)))
    frozen = fastconv.freeze(trained(Model(x, L.Linear(3)(L.Flatten()(Shift()(L.PReLU()(L.LayerNorm()(y))))))))
    frozen.save(path)
    return frozen


def test_a_file_cut_short(path):
    small(path)
    whole = path.read_bytes()
    for size in (0, 5, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ModelFileError, match=r"frozen\.safetensors: (is|has)"):
            fastconv.load_frozen(path)


#: What a description may hold by mistake or malice.
WORDS = ["x", "relu", "same", "max"]
LISTS = [[], [0], [[1, 1]], {}, {"array": "none"}, {"array": "0/weight"}]
JUNK = st.sampled_from([None, True, -1, 0, 1, 3, 10**12, 1.5, *WORDS, *LISTS])


@given(st.data())
def test_a_description_that_was_changed_is_refused_or_runs(tmp_path_factory, data):
    """Whatever stands in the description: a `ModelFileError`, or a model that runs or says what is wrong."""
    path = tmp_path_factory.mktemp("frozen") / "model"
    small(path)
    tensors, metadata = load(path)
    description = json.loads(json.dumps(metadata["frozen"]))
    place = description
    while isinstance(place, (dict, list)) and place:
        keys = sorted(place) if isinstance(place, dict) else range(len(place))
        key = data.draw(st.sampled_from(list(keys)))
        if not isinstance(place[key], (dict, list)) or not place[key] or data.draw(st.integers(0, 3)) == 0:
            place[key] = data.draw(JUNK)
            break
        place = place[key]
    save(path, tensors, {"frozen": description})
    try:
        frozen = fastconv.load_frozen(path)
    except ModelFileError:
        return
    xs = [np.ones((1, *shape), frozen.dtype) for shape in frozen.input_shapes if np.prod(shape) < 10**6]
    if len(xs) == len(frozen.input_shapes):
        try:
            frozen(*xs)
        except (TypeError, ValueError):
            return


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.pop("steps"), "is not that of a frozen model"),
        (lambda d: d.update(dtype="int32"), "float32 or float64, not int32"),
        (lambda d: d.update(outputs=[99]), r"its outputs \(99,\) are not all computed"),
        (lambda d: d.update(outputs="no"), "values are numbers from 0 on"),
        (lambda d: d.update(input_names=[]), "1 inputs and 0 names"),
        (lambda d: d["steps"][0].update(reads=[7]), r"a step reads \(7,\)"),
        (lambda d: d["steps"][1].update(writes=[0]), "write what is not"),
        (lambda d: d["steps"][0].update(operation="eval"), "there is no operation 'eval'"),
        (
            lambda d: d["steps"][0]["fields"].update(weight={"array": "other"}),
            "lacks an array that its description names",
        ),
        (lambda d: d["steps"][0]["fields"].update(bias={"array": "0/weight"}), "in conv2d_1.*: bias must have shape"),
        (
            lambda d: d["steps"][0]["fields"].update(activation={"activation": ["exp", 0, 0, None]}),
            "no activation 'exp'",
        ),
        (lambda d: d["steps"][0]["fields"].update(groups=3), "groups must divide"),
    ],
)
def test_messages(path, change, said):
    small(path)
    tensors, metadata = load(path)
    change(metadata["frozen"])
    save(path, tensors, metadata)
    with pytest.raises(ModelFileError, match=f"frozen.safetensors: .*{said}"):
        fastconv.load_frozen(path)


def test_an_array_of_another_shape_is_named(path):
    fastconv.freeze(Sequential([Shift()], input_shape=(3,)).build()).save(path)
    tensors, metadata = load(path)
    tensors["0/params/shift"] = np.zeros(4, np.float32)
    save(path, tensors, metadata)
    with pytest.raises(ModelFileError, match=r"'shift' of .* must be float32 of shape \(3,\), the file has .* \(4,\)"):
        fastconv.load_frozen(path)
