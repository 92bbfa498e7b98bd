"""Model files: equal to the last bit, whole or not there at all, and a message for everything that can be wrong with one."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastconv import load_frozen, saving
from fastconv.layers import Add, BatchNorm, Conv2d, Dropout, Flatten, Layer, Linear, ReLU, register
from fastconv.model import Input, Model
from fastconv.saving import (
    ModelFileError,
    load,
    load_checkpoint,
    load_model,
    read_description,
    read_extra,
    save,
    write_atomically,
)
from fastconv.sequential import Sequential

IMAGES = np.random.default_rng(0).standard_normal((2, 6, 6, 1)).astype(np.float32)


@register("testsaving.Scale")
class Scale(Layer):
    """One learned factor per channel, and a count of integers."""

    def __init__(self, *, start=1.0):
        self.start = start

    def build(self, shape, rng):
        self.params["scale"] = np.full(shape[-1], self.start, np.float32)
        self.buffers["count"] = np.zeros((), np.int64)

    def output_shape(self, shape):
        return shape

    def forward(self, ctx, x):
        scale = self.params["scale"]
        return x * scale, lambda dy: (dy * scale, {"scale": (dy * x).sum(axis=tuple(range(x.ndim - 1)))})


def network() -> Model:
    x = Input((6, 6, 1), name="image")
    shared = Conv2d(2, 3, padding="same")
    y = Sequential([shared, BatchNorm(), ReLU()]).named("block")(x)
    y = Add()(y, shared(x))
    model = Model(x, Linear(3)(Dropout()(Flatten()(Scale(start=0.5)(y)))))
    model.forward(model.context(training=True), IMAGES)  # moves the running statistics and the generator
    return model


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    network().save(path)
    return path


def rewritten(file: Path, change: Any) -> None:
    """Write a model file again, its arrays and its description changed by `change(tensors, metadata)`."""
    tensors, metadata = load(file)
    change(tensors, metadata)
    save(file, tensors, metadata)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_comes_back_is_the_same(tmp_path: Path, dtype: Any) -> None:
    model = network().astype(dtype)
    model.save(tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert type(again) is Model
    assert again.dtype == dtype
    assert again.rng_state == model.rng_state
    assert again.input_shapes == model.input_shapes
    assert [layer.name for layer in again.layers] == [layer.name for layer in model.layers]
    for ours, theirs in ((model.params, again.params), (model.buffers, again.buffers)):
        assert list(ours) == list(theirs)
        for name, array in ours.items():
            assert (array.dtype, array.shape, array.tobytes()) == (
                theirs[name].dtype,
                theirs[name].shape,
                theirs[name].tobytes(),
            )
            assert theirs[name].flags.writeable
    x = IMAGES.astype(dtype)
    assert model(x).tobytes() == again(x).tobytes()
    draws = [each.forward(each.context(training=True), x)[0] for each in (model, again)]
    np.testing.assert_array_equal(*draws)


def test_equal_models_are_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        network().save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_file_is_safetensors_that_others_read(file: Path) -> None:
    from safetensors import safe_open

    with safe_open(file, framework="np") as opened:
        assert "linear_1/weight" in opened.keys()  # noqa: SIM118
        assert json.loads(opened.metadata()["fastconv"])["model"]["layer"] == "Model"


def test_a_fresh_process_loads_the_same(tmp_path: Path) -> None:
    model = Sequential([Conv2d(2, 3), BatchNorm(), Flatten(), Linear(3)], input_shape=(6, 6, 1))
    expected = model(IMAGES)
    model.save(tmp_path / "model")
    np.save(tmp_path / "x.npy", IMAGES)
    program = """
        import sys, numpy as np
        from fastconv.saving import load_model
        sys.stdout.buffer.write(load_model("model")(np.load("x.npy")).tobytes())
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=tmp_path,
        capture_output=True,
        timeout=300,
        check=False,
        env=environment,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == expected.tobytes()


class Momentum:
    def state_dict(self) -> dict[str, Any]:
        return {
            "step": np.int64(3),
            "rate": 0.1,
            "slots": {"linear_1/weight": np.ones(2), "x": [np.zeros((0, 3))]},
            "name": None,
        }


def test_the_state_of_the_optimizer_and_extras(tmp_path: Path) -> None:
    path = tmp_path / "model"
    extra = {"epoch": 7, "losses": [1.5, float("inf"), float("nan")], "mask": np.array([True, False]), "text": "ü"}
    network().save(path, optimizer=Momentum(), extra=extra)
    _, state = load_model(path, with_optimizer=True)
    assert (state["step"], state["rate"], state["name"]) == (3, 0.1, None)
    np.testing.assert_array_equal(state["slots"]["linear_1/weight"], np.ones(2))
    assert state["slots"]["x"][0].shape == (0, 3)
    checkpoint = load_checkpoint(path)
    for found in (checkpoint.extra, read_extra(path)):
        assert (found["epoch"], found["text"], found["losses"][:2]) == (7, "ü", [1.5, float("inf")])
        assert np.isnan(found["losses"][2])
        np.testing.assert_array_equal(found["mask"], extra["mask"])
    network().save(path, optimizer={"step": 1})
    assert load_model(path, with_optimizer=True)[1] == {"step": 1}


def test_a_file_without_the_state_of_the_optimizer(file: Path) -> None:
    with pytest.raises(ModelFileError, match="no optimizer state was saved with this model"):
        load_model(file, with_optimizer=True)
    assert load_checkpoint(file).optimizer is None
    assert read_extra(file) == {}


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    class Hidden(Scale):
        pass

    path = tmp_path / "model"
    with pytest.raises(ValueError, match="the model is not built yet, so there is nothing to save"):
        Sequential([Linear(3)]).save(path)
    with pytest.raises(
        ValueError, match=r"layer 'hidden_1' \(Hidden\) cannot be saved, because its class .* is not registered"
    ):
        Sequential([Hidden()], input_shape=(3,)).save(path)
    with pytest.raises(TypeError, match=r"only a model can be saved, got ReLU\(\): put a layer into a Sequential"):
        saving.save_model(ReLU(), path)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"extra/deep/0 must be made of arrays and JSON values .* got set"):
        network().save(path, extra={"deep": [{1}]})
    with pytest.raises(TypeError, match=r"optimizer must be made of arrays and JSON values .* got dict"):
        network().save(path, optimizer={1: 2})
    with pytest.raises(TypeError, match=r"the array '@extra/z' cannot be saved: .* got an array of complex128"):
        network().save(path, extra={"z": np.zeros(2, complex)})
    with pytest.raises(TypeError, match="the array 'a' cannot be saved: it must be an array of numbers, got list"):
        save(path, {"a": [1.0]}, {})  # type: ignore[dict-item]
    model = network()
    model.layers[3].buffers["scale"] = np.zeros(2, np.float32)
    with pytest.raises(ValueError, match="'scale_1/scale' is a parameter and a buffer: give one of them another name"):
        model.save(path)
    assert list(tmp_path.iterdir()) == []


@given(st.integers(0, 2000))
def test_a_file_that_is_cut_short_anywhere_says_so(length: int) -> None:
    content = CONTENT[: length * len(CONTENT) // 2001]
    with pytest.raises(
        ModelFileError, match=r"is empty|is cut short|is not a model file: it is not in the safetensors format"
    ):
        saving._parsed(content)


def _content() -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        network().save(Path(folder) / "model")
        return (Path(folder) / "model").read_bytes()


CONTENT = _content()


@given(st.integers(0, len(CONTENT) - 1), st.integers(0, 255))
def test_a_changed_byte_never_does_worse_than_an_error(position: int, byte: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        path.write_bytes(CONTENT[:position] + bytes([byte]) + CONTENT[position + 1 :])
        try:
            load_model(path)
        except ModelFileError as error:
            assert str(path) in str(error)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04 a zip file, not a model", "is not a model file: it is not in the safetensors format"),
        (b"short", "is not a model file: it is not in the safetensors format, or it is truncated"),
        ((9).to_bytes(8, "little") + b"{not json}", "is not a model file: its header is not JSON"),
        (CONTENT[:200], r"is cut short: it has 200 bytes, and its header alone is \d+"),
        (CONTENT[:-1], rf"is cut short: it has {len(CONTENT) - 1} of {len(CONTENT)} bytes"),
        (CONTENT + b"x", "is damaged: .*"),
        ((1 << 60).to_bytes(8, "little") + b"{}", "is not a model file"),
        (
            (len(b'{"a":{"dtype":"F32"}}')).to_bytes(8, "little") + b'{"a":{"dtype":"F32"}}',
            "is a safetensors file, but not one that fastconv wrote",
        ),
    ],
)
def test_what_is_no_model_file(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "some.file"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=f"some.file: {message}"):
        load_model(path)


def test_a_safetensors_file_of_somebody_else(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    for metadata in (None, {"format": "pt"}):
        save_file({"a": np.ones(3)}, tmp_path / "theirs", metadata=metadata)
        with pytest.raises(ModelFileError, match="theirs: is a safetensors file, but not one that fastconv wrote"):
            load_model(tmp_path / "theirs")
    for text, message in (
        ("{", "its description is no JSON"),
        ("[]", "has format version None"),
        ("{}", "has format version None"),
    ):
        save_file({"a": np.ones(3)}, tmp_path / "theirs", metadata={"fastconv": text})
        with pytest.raises(ModelFileError, match=message):
            load_model(tmp_path / "theirs")
    entry = b'{"__metadata__":{"fastconv":"{\\"version\\":1}"},"a":{"dtype":"F32","shape":[1]}}'
    (tmp_path / "theirs").write_bytes(len(entry).to_bytes(8, "little") + entry)
    with pytest.raises(ModelFileError, match="is damaged: its header does not say where the arrays lie"):
        load_model(tmp_path / "theirs")


def test_a_file_of_another_version(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "FORMAT_VERSION", 2)
    with pytest.raises(ModelFileError, match="has format version 1, and this fastconv reads version 2: read it with"):
        load_model(file)


def test_arrays_without_a_model(tmp_path: Path) -> None:
    save(tmp_path / "arrays", {"a": np.ones(3)}, {"note": "x"})
    tensors, metadata = load(tmp_path / "arrays")
    np.testing.assert_array_equal(tensors["a"], np.ones(3))
    assert metadata == {"note": "x"}
    with pytest.raises(
        ModelFileError, match="holds no model, because its description lacks 'dtype', 'extra', 'input_shapes' and 3"
    ):
        load_model(tmp_path / "arrays")


def _drop(tensors: dict[str, np.ndarray], metadata: Any) -> None:
    del tensors["linear_1/bias"]


def _add(tensors: dict[str, np.ndarray], metadata: Any) -> None:
    tensors["linear_9/bias"] = np.ones(3, np.float32)


def _reshape(tensors: dict[str, np.ndarray], metadata: Any) -> None:
    tensors["linear_1/weight"] = tensors["linear_1/weight"].T


def _cast(tensors: dict[str, np.ndarray], metadata: Any) -> None:
    tensors["linear_1/weight"] = tensors["linear_1/weight"].astype(np.float64)


def _rename(tensors: dict[str, np.ndarray], metadata: Any) -> None:
    metadata["model"]["config"]["layers"][0]["layer"] = "acme.Swish"


def _misspell(tensors: dict[str, np.ndarray], metadata: Any) -> None:
    metadata["model"]["config"]["layers"][-1]["config"]["featurse"] = 3


def _no_model(tensors: dict[str, np.ndarray], metadata: Any) -> None:
    metadata["model"] = {"layer": "ReLU", "config": {}}


def _no_spec(tensors: dict[str, np.ndarray], metadata: Any) -> None:
    metadata["model"] = [1, 2]


def _no_dtype(tensors: dict[str, np.ndarray], metadata: Any) -> None:
    metadata["dtype"] = "int8"


def _no_shapes(tensors: dict[str, np.ndarray], metadata: Any) -> None:
    metadata["input_shapes"] = [[6, 6, 2]]


def _no_generator(tensors: dict[str, np.ndarray], metadata: Any) -> None:
    metadata["rng"] = {"bit_generator": "None"}


def _no_extra(tensors: dict[str, np.ndarray], metadata: Any) -> None:
    metadata["extra"] = {"mask": {"@array": "@extra/mask"}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_drop, "lacks arrays of the model: 'linear_1/bias'"),
        (_add, "has arrays that the model does not: 'linear_9/bias'"),
        (_reshape, r"'linear_1/weight' must be float32 of shape \(72, 3\), the file has float32 of shape \(3, 72\)"),
        (_cast, r"'linear_1/weight' must be float32 of shape \(72, 3\), the file has float64 of shape \(72, 3\)"),
        (_rename, "there is no layer named 'acme.Swish'"),
        (_misspell, r"layer 'linear_1' \(Linear\) cannot be made from its config: .*'featurse'"),
        (_no_model, "the outermost layer must be a model, got layer ReLU"),
        (_no_spec, "a layer is described by"),
        (_no_dtype, "a layer computes in float32 or float64, got dtype int8"),
        (_no_shapes, r"takes input 'image' with shape \(N, 6, 6, 1\)"),
        (_no_generator, "rng_state must be what model.rng_state returned"),
        (_no_extra, "lacks an array that its description names: '@extra/mask'"),
    ],
)
def test_a_file_that_does_not_fit_says_exactly_how(file: Path, change: Any, message: str) -> None:
    rewritten(file, change)
    with pytest.raises(ModelFileError, match=f"model.safetensors: .*{message}"):
        load_model(file)


def test_extras_that_are_none(file: Path) -> None:
    rewritten(file, _no_extra)
    with pytest.raises(ModelFileError, match=r"model.safetensors: lacks an array that its description names"):
        read_extra(file)


def test_a_description_is_read_without_the_arrays(file: Path, tmp_path: Path) -> None:
    description = read_description(file)
    assert description == load(file)[1]
    whole = file.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    file.write_bytes(whole[:header])
    assert read_description(file) == description
    for content, message in (
        (whole[: header - 1], "is cut short"),
        (b"", "is empty"),
        (b"text, no model", "is not a model"),
    ):
        file.write_bytes(content)
        with pytest.raises(ModelFileError, match=f"model.safetensors: {message}"):
            read_description(file)
    with pytest.raises(FileNotFoundError):
        read_description(tmp_path / "nothing")


def test_a_file_can_run_no_code(file: Path) -> None:
    def change(tensors: dict[str, np.ndarray], metadata: Any) -> None:
        metadata["model"]["config"]["layers"][0]["layer"] = "os.system"

    rewritten(file, change)
    with pytest.raises(ModelFileError, match=r"there is no layer named 'os.system'"):
        load_model(file)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_model(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError):
        network().save(tmp_path / "no folder" / "model")


def test_writing_fails_and_the_old_file_stays(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = file.read_bytes()
    for function in ("fsync", "replace"):

        def fail(*args: Any) -> None:
            raise OSError("the disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(os, function, fail)
            with pytest.raises(OSError, match="the disk is full"):
                network().save(file)
        assert file.read_bytes() == before
        assert list(file.parent.iterdir()) == [file]


def test_a_crash_in_the_middle_leaves_the_old_file_whole(file: Path) -> None:
    before = file.read_bytes()
    program = f"""
        import os
        from fastconv import saving
        os.replace = lambda *args: os._exit(9)  # the plug is pulled when all is written but nothing is in its place
        saving.write_atomically({str(file)!r}, b"new")
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    # not from the checkout, whose kernels may not be built
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=file.parent, timeout=300, check=False, env=environment
    )
    assert done.returncode == 9
    assert file.read_bytes() == before


@pytest.mark.parametrize("path", [0, True, None])
def test_the_number_of_an_open_file_is_no_path(path: Any) -> None:
    for function in (load_model, read_description, load_frozen):
        with pytest.raises(TypeError, match=f"path must be a path, got {path}"):
            function(path)
    with pytest.raises(TypeError, match=f"path must be a path, got {path}"):
        network().save(path)


def test_an_interrupt_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_atomically(tmp_path / "file", b"content")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_leaves_the_old_file_and_is_an_error_that_names_it(file: Path, monkeypatch: Any) -> None:
    before = file.read_bytes()

    def fail(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")  # as where a file is written, which is named by nobody

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="No space left on device") as caught:
            write_atomically(file, b"content")
    assert str(caught.value).endswith(f"{str(file)!r}")
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


def test_an_error_names_the_file_that_was_to_be_written(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        write_atomically(tmp_path / "nowhere" / "file", b"content")
    assert caught.value.filename == str(tmp_path / "nowhere" / "file")
    assert str(caught.value).endswith(f"{str(tmp_path / 'nowhere' / 'file')!r}")
    with pytest.raises(IsADirectoryError) as caught_late:
        write_atomically(tmp_path, b"content")
    assert str(caught_late.value).endswith(f"{str(tmp_path)!r}")


def test_permissions_and_links_stay(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    target.chmod(0o640)
    link.symlink_to(target)
    write_atomically(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert target.stat().st_mode & 0o777 == 0o640
    write_atomically(tmp_path / "fresh", b"x")
    (tmp_path / "plain").write_bytes(b"x")
    assert (tmp_path / "fresh").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_arrays_of_any_memory_order_and_byte_order(tmp_path: Path) -> None:
    tensors = {
        "turned": np.arange(6.0).reshape(2, 3).T,
        "foreign": np.arange(3, dtype=">i4"),
        "strided": np.arange(10.0)[::3],
        "scalar": np.array(2.5, np.float32),
        "empty": np.zeros((0, 4)),
        "flags": np.array([True, False]),
    }
    save(tmp_path / "arrays", tensors, {})
    found, _ = load(tmp_path / "arrays")
    assert found.keys() == tensors.keys()
    for name, array in tensors.items():
        assert found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("extra", [3, None, ["a"]])
def test_an_extra_that_is_no_object(file: Path, extra: object) -> None:
    tensors, metadata = load(file)
    save(file, tensors, {**metadata, "extra": extra})
    with pytest.raises(ModelFileError, match="its extra must be a JSON object, got"):
        load_checkpoint(file)
