"""Frozen models of arrays without a batch axis."""

from __future__ import annotations

import numpy as np
import pytest
from frozen_cases import assert_equal_outputs, trained

import fastconv
from fastconv import layers as L
from fastconv.frozen.unbatched import FrozenUnbatched
from fastconv.layers.symbol import Symbol
from fastconv.model import Input, Model
from fastconv.saving import ModelFileError
from fastconv.unbatched import Unbatched


def windows():
    """Convolve an image, cut it into windows, and let each attend to itself; with an input that is not used, and a constant."""
    x = Input((1, 8, 8, 4))
    y = L.ReLU()(L.TimeDistributed(L.BatchNorm())(L.TimeDistributed(L.Conv2d(6, 3, padding=1))(x)))
    y = L.Transpose((1, 3, 2, 4, 5))(L.Reshape((2, 4, 2, 4, 6))(y))
    y = L.Reshape((4, 16, 6))(y)
    y = L.Add()(y, L.MatMul()(L.Softmax()(L.MatMul()(y, L.Transpose((1, 3, 2))(y))), y))
    body = Model(x, [y, L.ReduceMean((1, 2, 3))(y)])
    inputs = [{"name": "x", "shape": [1, 8, 8, 4], "used": True}, {"name": "no", "shape": [], "used": False}]
    outputs = [
        {"name": "y", "from": 0},
        {"name": "shape", "shape": [2], "dtype": "int64"},
        {"name": "mean", "from": 1},
        {"name": "again", "from": 0},
    ]
    model = Unbatched(trained(body), inputs, outputs)
    model.own("buffers")["output_1"][...] = (4, 16)
    return model


def constant():
    return Unbatched(
        None, [{"name": "x", "shape": [2], "used": False}], [{"name": "y", "shape": [1], "dtype": "float32"}]
    )


def arrays():
    rng = np.random.default_rng(0)
    return rng.standard_normal((1, 8, 8, 4)).astype(np.float32), np.float32(3)


def test_it_computes_what_the_model_does():
    model, xs = windows(), arrays()
    frozen = fastconv.freeze(model)
    assert isinstance(frozen, FrozenUnbatched)
    assert frozen.input_shapes == model.input_shapes
    for threads in (1, 2, 1):
        with fastconv.num_threads(threads):
            got = frozen(*xs)
        assert_equal_outputs(got, model(*xs))
        assert not any(np.shares_memory(y, got[0]) for y in got[1:])
    got[1][:] = 0
    np.testing.assert_array_equal(frozen(*xs)[1], (4, 16))


def test_axes_that_are_no_batch_may_have_another_size():
    model = windows()
    rows = Model(x := Input((3, 4)), L.TimeDistributed(L.Linear(2))(L.Softmax()(x)))
    model = Unbatched(trained(rows), [{"name": "x", "shape": [3, 4], "used": True}], [{"name": "y", "from": 0}])
    frozen = fastconv.freeze(model)
    for n in (1, 3, 9):
        x = np.random.default_rng(0).standard_normal((n, 4)).astype(np.float32)
        assert_equal_outputs(frozen(x), model(x))


@pytest.mark.parametrize("made", [windows, constant])
def test_saved_and_loaded_it_gives_the_same_bits(made, tmp_path):
    frozen = fastconv.freeze(made())
    xs = arrays() if made is windows else (np.zeros(2, np.float32),)
    frozen.save(tmp_path / "a.safetensors")
    again = fastconv.load_frozen(tmp_path / "a.safetensors")
    assert_same(again(*xs), frozen(*xs))
    again.save(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def assert_same(got, want):
    got, want = (y if isinstance(y, tuple) else (y,) for y in (got, want))
    assert [(y.dtype, y.shape, y.tobytes()) for y in got] == [(y.dtype, y.shape, y.tobytes()) for y in want]


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays: arrays["outputs"][0].update({"from": 5}),
        lambda arrays: arrays["inputs"][0].update(used=False),
        lambda arrays: arrays["inputs"].clear(),
        lambda arrays: arrays["fixed"].update({"1": "nothing"}),
        lambda arrays: arrays["outputs"].append({}),
    ],
)
def test_a_file_whose_ends_do_not_fit_is_refused(change, tmp_path):
    from fastconv.saving import load, save

    path = tmp_path / "frozen.safetensors"
    fastconv.freeze(windows()).save(path)
    tensors, metadata = load(path)
    change(metadata["frozen"]["arrays"])
    save(path, tensors, metadata)
    with pytest.raises(ModelFileError):
        fastconv.load_frozen(path)


def test_a_constant_is_returned_without_any_step():
    frozen = fastconv.freeze(constant())
    np.testing.assert_array_equal(frozen(np.zeros(2, np.float32)), [0])
    assert frozen.program.steps == ()


def test_it_explains_itself_and_plans():
    frozen = fastconv.freeze(windows())
    assert "conv" in str(frozen.explain(repeats=1))
    assert "conv" in str(frozen.explain(arrays()[0], repeats=1))
    frozen.prepare()
    assert frozen.arena_bytes() > 0
    with pytest.raises(ValueError, match="batch must be 1 for a model without a batch axis, got 2"):
        frozen.explain(batch=2)


def test_wrong_inputs():
    frozen = fastconv.freeze(windows())
    x, no = arrays()
    with pytest.raises(ValueError, match="takes 2 inputs, got 1"):
        frozen(x)
    with pytest.raises(ValueError, match=r"takes input 'x' with 4 axes, got shape \(8, 8, 4\)"):
        frozen(x[0], no)
    with pytest.raises(TypeError, match="is float32 and got an input of float64"):
        frozen(x.astype(np.float64), no)
    with pytest.raises(ValueError, match="in "):
        frozen(x[..., :3], no)
    with pytest.raises(TypeError, match="takes arrays without a batch axis"):
        frozen.predict(x)


def test_a_subclass_that_computes_something_else_is_refused():
    class Other(Unbatched):
        def forward(self, ctx, *xs):
            return xs[0], lambda dy: (dy, {})

    model = Other(None, [{"name": "x", "shape": [2], "used": False}], [{"name": "y", "shape": [1], "dtype": "float32"}])
    with pytest.raises(TypeError, match="Other does more than run its layers, so it cannot be frozen"):
        fastconv.freeze(model)


@pytest.mark.parametrize("at", [(5, 1), (1, 5), (5, 5)])
def test_sizes_that_are_open_for_themselves_stretch(at):
    x, y = (Symbol((2, 3), name=name, free=(0,)) for name in "xy")
    body = trained(Model([x, y], L.Add()(L.ScaleShift(2.0)(x), y)))
    inputs = [{"name": name, "shape": [2, 3], "used": True, "free": [0]} for name in "xy"]
    model = Unbatched(body, inputs, [{"name": "sum", "from": 0, "free": [0]}])
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((size, 3)).astype(np.float32) for size in at]
    assert_equal_outputs((fastconv.freeze(model)(*arrays),), (model(*arrays),))
