"""How each engine opens an ONNX file, in float32 and with its best settings.

``open_<engine>(threads)`` imports it and returns ``load(path, inputs, sizes)``, which returns the call to time. `inputs` are
the arrays by name, `sizes` those of the axes that the file leaves open, by name: each engine learns all shapes before it plans.
The file is run in the process of an engine and imports nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Inputs = dict[str, Any]
Call = Callable[[], list[Any]]
Load = Callable[[str, Inputs, dict[str, int]], Call]

#: The newest version of the operators of which onnx2torch knows what networks use.
TORCH_OPSET = 17


def open_fastconv(threads: int) -> Load:
    """Ours: ``fastconv.freeze`` of what ``fastconv.onnx.load`` returns."""
    import onnx  # noqa: F401 - which loading needs

    import fastconv
    from fastconv.frozen import freeze
    from fastconv.onnx import load as load_onnx

    fastconv.set_num_threads(threads)

    def load(path: str, inputs: Inputs, sizes: dict[str, int]) -> Call:
        model = load_onnx(path, input_shapes={name: x.shape for name, x in inputs.items()})
        xs = [inputs[str(name)] for name in model.input_names]
        frozen = freeze(model, keep=False)
        del model  # a copy of the weights

        def call() -> list[Any]:
            y = frozen(*xs)
            return list(y) if isinstance(y, tuple) else [y]

        return call

    return load


def open_onnxruntime(threads: int, *, spinning: bool = True) -> Load:
    """ONNX Runtime: all optimizations; threads that wait may spin or not, whichever is better."""
    import onnxruntime as ort

    def load(path: str, inputs: Inputs, sizes: dict[str, int]) -> Call:
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
        for name, size in sizes.items():
            options.add_free_dimension_override_by_name(name, size)
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda: session.run(None, inputs)

    return load


def open_openvino(threads: int) -> Load:
    """OpenVINO: for the latency of one stream, in float32, on arrays that are not copied."""
    import openvino as ov

    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "NUM_STREAMS": 1,
    }

    def load(path: str, inputs: Inputs, sizes: dict[str, int]) -> Call:
        core = ov.Core()
        model = core.read_model(path)
        model.reshape({name: list(x.shape) for name, x in inputs.items()})
        request = core.compile_model(model, "CPU", settings).create_infer_request()
        places = range(len(model.outputs))

        def call() -> list[Any]:
            request.infer(inputs, share_inputs=True, share_outputs=True)
            return [request.get_output_tensor(place).data for place in places]

        return call

    return load


def open_torch(threads: int, *, channels_last: bool = False) -> Load:
    """PyTorch, through onnx2torch, in inference mode; images in either memory format, whichever is better."""
    import onnx
    import onnx2torch
    import torch
    from onnx import version_converter

    torch.set_num_threads(threads)

    def load(path: str, inputs: Inputs, sizes: dict[str, int]) -> Call:
        proto = onnx.load(path)
        try:
            module = onnx2torch.convert(proto).eval()
        except NotImplementedError:
            module = onnx2torch.convert(version_converter.convert_version(proto, TORCH_OPSET)).eval()
        xs = [torch.from_numpy(x) for x in inputs.values()]
        if channels_last:
            module = module.to(memory_format=torch.channels_last)
            xs = [x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x for x in xs]

        def call() -> list[Any]:
            with torch.inference_mode():
                y = module(*xs)
            return [each.numpy() for each in (y if isinstance(y, (tuple, list)) else [y])]

        return call

    return load
