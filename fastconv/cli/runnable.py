"""Files that can be run (ONNX files, models, frozen models) behind one interface."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastconv.cli.models import facts_of
from fastconv.cli.pictures import IMAGENET, Preparation
from fastconv.cli.runs import model_file

if TYPE_CHECKING:
    from fastconv.model import Model

Function = Callable[..., Any]


class Port(NamedTuple):
    """An input: its name, its shape with the batch (None for a size that is open, or for all of it), and its dtype."""

    name: str
    shape: tuple[int | None, ...] | None
    dtype: np.dtype[Any]

    @property
    def label(self) -> str:
        """How messages call it."""
        shape = "any shape" if self.shape is None else f"shape ({', '.join(map(_size, self.shape))})"
        return f"the input {self.name!r} of {shape}"


class Runnable(NamedTuple):
    """A network that can be run.

    `compiled` returns the function for inputs of these shapes. `channels_first` is how its images lie where their shape leaves
    it open. `classes` and `white` are what ``fastconv train`` wrote into the file.
    """

    inputs: list[Port]
    outputs: list[str]
    compiled: Callable[[Sequence[tuple[int, ...]]], Function]
    channels_first: bool
    classes: tuple[str, ...] | None = None
    white: float = 1.0

    def channel_axis(self, port: Port) -> int | None:
        """Return which axis of an input has the channels of images, 1 or 3 of them; None where it takes no images."""
        if port.shape is None or len(port.shape) not in (3, 4):
            return None
        ends = len(port.shape) - 3, len(port.shape) - 1  # a single image has no batch
        order = ends if self.channels_first else ends[::-1]
        return next((axis for axis in order if port.shape[axis] in (1, 3)), None)

    def preparation(self, port: Port) -> Preparation:
        """Return how images are prepared where nobody says: with channels first as PyTorch's classifiers of photographs take
        them, else as ``fastconv train`` does; single images, which detectors take, too.
        """
        if self.channel_axis(port) != 1:
            return Preparation(white=self.white)
        assert port.shape is not None
        return IMAGENET if port.shape[1] == 3 else Preparation(crop=IMAGENET.crop, white=self.white)


def open_runnable(path: str) -> Runnable:
    """Return the network in an ONNX file, a model file, a run's folder or a file of a frozen model.

    Raises what the readers of those files raise.
    """
    if path.lower().endswith(".onnx"):
        return _onnx(path)
    from fastconv import saving

    file = model_file(path)
    if "frozen" in saving.read_description(file):
        return _frozen(file)
    model, _, extra = saving.load_checkpoint(file)
    classes, white = facts_of(extra, file) or (None, 1.0)
    return _model(model)._replace(classes=classes, white=white)


def _onnx(path: str) -> Runnable:
    import fastconv
    from fastconv.onnx import load
    from fastconv.onnx.files import read

    file = read(path)
    inputs = [Port(*tensor[:3]) for tensor in file.inputs]

    def compiled(shapes: Sequence[tuple[int, ...]]) -> Function:
        is_open = [port.shape is None or None in port.shape for port in inputs]
        given = {port.name: shape for port, shape, said in zip(inputs, shapes, is_open, strict=True) if said}
        return fastconv.freeze(load(file, input_shapes=given or None), keep=False)

    return Runnable(inputs, [tensor.name for tensor in file.outputs], compiled, channels_first=True)


def _model(model: Model) -> Runnable:
    import fastconv
    from fastconv.unbatched import Unbatched

    whole: list[tuple[int | None, ...]]
    if isinstance(model, Unbatched):
        whole, first = [tuple(item["shape"]) for item in model.named_inputs], True
    else:
        whole, first = [(None, *shape) for shape in model.input_shapes], 0 in model.graph.channel_axes
    inputs = [
        Port(name, shape, model.dtype) for name, shape in zip(_named(model.input_names, "input"), whole, strict=True)
    ]
    function = fastconv.freeze(model, keep=False)
    return Runnable(inputs, _named(model.output_names, "output"), lambda shapes: function, first)


def _frozen(file: Path) -> Runnable:
    import fastconv
    from fastconv.frozen.unbatched import FrozenUnbatched

    frozen = fastconv.load_frozen(file)
    program = frozen.program
    if isinstance(frozen, FrozenUnbatched):
        inputs = [Port(item["name"], tuple(item["shape"]), frozen.dtype) for item in frozen.named_inputs]
        return Runnable(inputs, [item["name"] for item in frozen.named_outputs], lambda shapes: frozen, True)
    names = _named(program.input_names, "input")
    inputs = [Port(name, (None, *shape), frozen.dtype) for name, shape in zip(names, program.input_shapes, strict=True)]
    outputs = _named([None] * len(program.outputs), "output")
    return Runnable(inputs, outputs, lambda shapes: frozen, channels_first=False)


def _named(names: Sequence[str | None], what: str) -> list[str]:
    return [name or f"{what}_{at}" for at, name in enumerate(names, start=1)]


def _size(size: int | None) -> str:
    return "any" if size is None else str(size)
