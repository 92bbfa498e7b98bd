"""The ONNX project's interface for runtimes, through which its tests run."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv.onnx.errors import NeedsValueError, OnnxImportError, require_onnx
from fastconv.onnx.files import File, read
from fastconv.onnx.loading import convert

require_onnx()
from onnx.backend.base import Backend as BaseBackend  # noqa: E402 - where it is missing, the error says what to install
from onnx.backend.base import BackendRep  # noqa: E402


class Prepared(BackendRep):
    """A graph that is ready to run.

    Operands that layers hold, such as weights and shapes, may come from inputs of the graph. Then the model is made when they
    are known, and made again when they change.
    """

    def __init__(self, file: File) -> None:
        self.file = file
        self._held: list[str] = []
        self._model: Any = None
        self._key: Any = None
        self._try({})

    def _try(self, arrays: dict[str, np.ndarray]) -> None:
        """Make the model with what is known, and find out which inputs it needs."""
        while True:
            known = {name: arrays[name] for name in self._held if name in arrays}
            shapes = {name: array.shape for name, array in arrays.items() if name not in self._held}
            try:
                self._model = convert(self.file, constants=known, input_shapes=shapes or None)
            except NeedsValueError as error:
                if not error.names:
                    raise OnnxImportError(str(error)) from error
                self._held.extend(name for name in error.names if name not in self._held)
                if not arrays:
                    return
                continue
            return

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Return the outputs of the graph for its inputs, given in the order of the graph or by name."""
        names = [each.name for each in self.file.inputs]
        by_name = inputs if isinstance(inputs, dict) else dict(zip(names, inputs, strict=True))
        arrays = {name: np.asarray(by_name[name]) for name in names}
        if self._held:
            key = tuple((name, arrays[name].shape, arrays[name].tobytes()) for name in self._held)
            if key != self._key:
                self._try(arrays)
                self._key = key
        y = self._model(*(array for name, array in arrays.items() if name not in self._held))
        return y if isinstance(y, tuple) else (y,)


class Backend(BaseBackend):
    """fastconv as an engine: `prepare`, `run_model`, `run_node` and `supports_device` of ``onnx.backend.base.Backend``.

    ``onnx.backend.test.BackendTest(fastconv.onnx.Backend, __name__)`` are the tests of the ONNX project.
    """

    @classmethod
    def prepare(cls, model: Any, device: str = "CPU", **kwargs: Any) -> Prepared:
        """Return a model that is ready to run; `OnnxImportError` for one that cannot be."""
        if not cls.supports_device(device):
            raise ValueError(f"fastconv runs on the CPU, got device {device!r}")
        return Prepared(read(model))

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Return whether fastconv runs on a device: on the CPU, and nothing else."""
        return device.partition(":")[0] == "CPU"
