"""Networks as files that every engine loads, and the report of what it took."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the onnx package is not installed")

from benchmarks import __main__, engine_networks, engine_report, engines  # noqa: E402
from fastconv.engines import Comparison, Engine, Measured  # noqa: E402
from fastconv.onnx import load  # noqa: E402

FAKES = str(Path(__file__).parents[1] / "engines" / "fake_openers.py")
FACTS = {"processor": "none", "versions": "none"}


def result(network: str, batch: int, threads: int, *seconds: float, peaks: tuple[int, ...] = (1, 2, 3)) -> Comparison:
    names = ("fastconv", "onnxruntime", "openvino")
    measured = [
        Measured(name, "", each, each, 5, 0.1, 2 * each, 3 * each, 1, peak)
        for name, each, peak in zip(names, seconds, peaks, strict=True)
    ]
    return Comparison(network, batch, threads, tuple(measured), 1e-6, 0.02)


RESULTS = [
    result("vgg19", 1, 1, 1.0, 4.0, 3.0),
    result("resnet50", 1, 1, 1.0, 0.75, 2.0, peaks=(2, 1, 3)),
    result("lenet", 1, 1, 1e-5, 2e-5, 4e-5),
    result("lenet", 8, 1, 1e-4, 2e-4, 4e-4),
]


@pytest.mark.parametrize("name", ["shufflenet", "squeezenet"])
def test_light_networks_get_weights_and_any_batch(name: str, tmp_path: Path) -> None:
    engine_networks.write(name, tmp_path / "net.onnx")
    graph = onnx.load(str(tmp_path / "net.onnx")).graph
    assert not any(node.op_type == "ConstantOfShape" for node in graph.node)
    assert {tensor.name for tensor in graph.initializer}.isdisjoint(value.name for value in graph.input)
    weights = [onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer]
    assert all(array.std() > 0 for array in weights if array.dtype == np.float32 and array.size > 1)
    x = np.random.default_rng(0).standard_normal((2, 3, 224, 224)).astype(np.float32)
    y = load(tmp_path / "net.onnx")(x)
    assert y.shape[:2] == (2, 1000)
    np.testing.assert_allclose(y.reshape(2, -1).sum(axis=1), 1, rtol=1e-5)
    assert y.max() > 1e-3 and np.unique(y).size > 500  # neither all the same nor all but one of no weight


def test_weights_keep_the_size_of_values(tmp_path: Path) -> None:
    engine_networks.write("shufflenet", tmp_path / "net.onnx")
    graph = onnx.load(str(tmp_path / "net.onnx")).graph
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    gains = [(arrays[node.input[1]] ** 2).mean() * arrays[node.input[1]][0].size for node in convolutions]
    assert gains[0] == pytest.approx(2, rel=0.1)  # ReLU follows, after batch normalization
    assert gains[2] == pytest.approx(1, rel=0.1)  # another convolution does
    norms = [node for node in graph.node if node.op_type == "BatchNormalization"]
    assert all(arrays[node.input[4]].min() >= 0.8 for node in norms)
    summed = {name for node in graph.node if node.op_type == "Sum" for name in node.input}
    scales = [arrays[node.input[1]].max() for node in norms if node.output[0] in summed]
    assert len(scales) > 10 and max(scales) <= 0.3


def test_weights_are_the_same_again(tmp_path: Path) -> None:
    for at in "ab":
        engine_networks.write("squeezenet", tmp_path / f"{at}.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    (tmp_path / "a.onnx").write_bytes(b"kept")
    engine_networks.write("squeezenet", tmp_path / "a.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == b"kept"


def test_built_in_networks_take_and_return_channels_first() -> None:
    from fastconv import networks

    rng = np.random.default_rng(0)
    model = networks.create("unet", (16, 32, 3), 2).build(rng=np.random.default_rng(1))
    from fastconv.onnx.saving import to_proto

    proto = to_proto(model)
    engine_networks.channels_first(proto.graph)
    onnx.checker.check_model(proto, full_check=True)
    assert not any(node.op_type == "Transpose" for node in proto.graph.node)
    x = rng.standard_normal((2, 16, 32, 3)).astype(np.float32)
    y = load(proto)(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
    assert y.shape == (2, 2, 16, 32)
    np.testing.assert_allclose(y.transpose(0, 2, 3, 1), model(x), rtol=1e-3, atol=1e-4)


def test_every_network_of_the_list_is_there() -> None:
    assert len(engine_networks.LIGHT) == 9 and len(engine_networks.NAMES) == 15
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    found = {path.stem.removeprefix("light_") for path in folder.glob("light_*.onnx")}
    assert found >= set(engine_networks.LIGHT)


def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]


def test_the_targets() -> None:
    table = {row[0]: row[1:] for row in cells(engine_report.targets(RESULTS, {"1": 12.34e-6}))}
    assert table[""] == ["target", "1 thread, batch 1", "1 thread, batch 8"]
    assert table["geometric mean"] == ["1.3", "1.50", ""]  # of 3 and 0.75
    assert table["below 1.0"] == ["none", "1 of 2", ""]
    assert table["vgg19"] == ["2.0", "3.00", ""] and table["resnet50"] == ["1.4", "0.75 *", ""]
    assert table["lenet, one image"] == ["1.5", "2.00", ""]
    assert table["lenet, one image: us outside of kernels"] == ["30", "12.3", ""]
    assert table["load slower than onnxruntime"] == ["none", "1 of 3", "0 of 1"]
    assert table["first call slower than onnxruntime"] == ["none", "1 of 3", "0 of 1"]
    assert table["peak memory not the lowest"] == ["none", "1 of 3", "0 of 1"]


def test_a_row_has_all_engines() -> None:
    failed = RESULTS[1]._replace(engines=(*RESULTS[1].engines[:2], Measured("openvino", error="no")))
    names = engine_report.engine_names(RESULTS)
    header, row = cells(engine_report.networks([failed], names))
    assert header[:3] == ["network", "ms: fastconv / onnxruntime / openvino", "ratio"]
    assert row[:3] == ["resnet50", "1000 / 750 / -", "0.75 *"]
    assert row[-2:] == ["1e-06", "2%"]
    assert "openvino no" in engine_report.line(failed)


def test_one_command_measures_writes_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def team(names: list[str], threads: int) -> list[Engine]:
        return [Engine(name, threads, (), FAKES) for name in ("fastconv", "sleepy")]

    monkeypatch.setattr(engines, "engines", team)
    words = "--networks lenet --batches 1 2 --threads 1 --rounds 1 --seconds 0 --starts 1"
    command = ["engines", *words.split(), "--output", str(tmp_path / "out"), "--files", str(tmp_path / "files")]
    __main__.main([*command, "--limit", "0"])
    assert "the time is over" in capsys.readouterr().out and not (tmp_path / "out.json").exists()
    __main__.main(command)
    assert capsys.readouterr().out.startswith("lenet                batch 1, 1 thread: fastconv ")
    results, overheads, facts = engines.load(tmp_path / "out.json")
    assert [(each.network, each.batch, each.threads) for each in results] == [("lenet", 1, 1), ("lenet", 2, 1)]
    assert all(each.ratio is not None and each.ratio > 1 for each in results)
    assert 0 < overheads["1"] < 1e-2 and "Python" in facts["versions"]
    assert "### 1 thread, batch 2\n" in (tmp_path / "out.md").read_text()
    assert (tmp_path / "out.png").stat().st_size > 10_000
    assert (tmp_path / "files" / "lenet.onnx").exists()
    capsys.readouterr()
    __main__.main([*command, "--resume"])
    assert "batch 1, 1 thread: fastconv" not in capsys.readouterr().out
    assert engines.load(tmp_path / "out.json")[0] == results
    content = json.loads((tmp_path / "out.json").read_text())
    (tmp_path / "out.json").write_text(json.dumps({**content, "machine": {}}))
    with pytest.raises(SystemExit, match="measured elsewhere"):
        __main__.main([*command, "--resume"])
