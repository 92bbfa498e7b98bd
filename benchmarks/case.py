"""What a benchmark runs: one layer or one network on images of one size, and one pass through it; and who runs it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from fastconv import geometry

#: A case with more work forward or larger arrays than this gets smaller images: both its gradients take about two seconds on
#: one core, and three libraries' arrays a few GB.
MOST_OPERATIONS = 5e10
MOST_ELEMENTS = 2**27

#: A multiply-add, a comparison or an exponential count alike where arrays stream through memory; see `Case.bytes`.
MEMORY_BOUND = ("max_pool", "avg_pool", "global_avg_pool", "batch_norm", "activation")


@dataclass(frozen=True)
class Case:
    """A layer: what the operation is called, the image that it takes, and its arguments.

    `op` is ``conv``, ``conv_transpose``, ``linear``, one of `MEMORY_BOUND`, or ``network``. `size` are the pixels of an image
    along each axis, `channels` those of the input, `outputs` those of the output (of a network: the classes). `name` is the
    activation or the network. `networks` says where the layer is from.
    """

    op: str
    size: tuple[int, ...]
    channels: int
    outputs: int = 0
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: int = 1
    groups: int = 1
    name: str = ""
    batch: int = 1
    networks: str = ""

    @property
    def output_size(self) -> tuple[int, ...]:
        """Pixels of the output along each axis."""
        rank = len(self.size)
        pairs = tuple((before, before) for before in self.padding)
        if self.op == "conv_transpose":
            return geometry.conv_transpose_output(self.size, self.kernel, self.stride, pairs, (1,) * rank, (0,) * rank)
        if self.op in ("conv", "max_pool", "avg_pool"):
            return geometry.conv_output(self.size, self.kernel, self.stride, pairs, (self.dilation,) * rank)
        return (1,) * rank if self.op == "global_avg_pool" else self.size

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input, channels last."""
        return (self.batch, *self.size, self.channels)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output, channels last."""
        return (self.batch, *self.output_size, self.outputs or self.channels)

    def operations(self, work: str) -> int:
        """Twice the multiply-adds of the definition, padding included; 0 where the memory is what matters."""
        pixels = self.input_shape[:-1] if self.op == "conv_transpose" else self.output_shape[:-1]
        if self.op not in ("conv", "conv_transpose", "linear"):
            return 0
        once = 2 * math.prod(pixels) * math.prod(self.kernel) * self.channels * self.outputs // self.groups
        return once * (2 if work == "backward" else 1)

    def bytes(self, work: str, itemsize: int = 4) -> int:
        """Bytes that must be moved at least: each input read once, each output written once; 0 for what multiplies."""
        if self.op not in MEMORY_BOUND:
            return 0
        x, y = math.prod(self.input_shape), math.prod(self.output_shape)
        reads_x = not (work == "backward" and self.op in ("avg_pool", "global_avg_pool"))
        return itemsize * ((x if reads_x else 0) + y + (x if work == "backward" else 0))

    def fitted(self) -> Case:
        """Return the case with images halved until a call takes at most about two seconds, then fewer of them."""
        case = self
        while case._too_much() and min(case.size) // 2 >= max((1, *case.kernel)) * case.dilation:
            case = replace(case, size=tuple(n // 2 for n in case.size))
        while case._too_much() and case.batch > 1:
            case = replace(case, batch=case.batch // 2)
        return case

    def _too_much(self) -> bool:
        elements = math.prod(self.input_shape) + math.prod(self.output_shape)
        return self.operations("forward") > MOST_OPERATIONS or elements > MOST_ELEMENTS

    def __str__(self) -> str:
        images = f"{self.batch} x {_times(self.size)}" if self.size else f"{self.batch} rows"
        if self.op == "network":
            return f"{self.name} {images}"
        text = f"{images} {self.name or self.op} {self.channels}"
        if self.outputs:
            text += f" -> {self.outputs}"
        if self.kernel:
            text += f" {_times(self.kernel)}"
        if set(self.stride) - {1}:
            text += f" / {_times(self.stride)}"
        if self.dilation > 1:
            text += f" dilated {self.dilation}"
        if self.groups > 1:
            text += f" in {self.groups} groups"
        return text


def _times(sizes: tuple[int, ...]) -> str:
    """Write sizes as 3x3; a line is written as its length alone.

    >>> _times((3, 3)), _times((80,))
    ('3x3', '80')
    """
    return "x".join(map(str, sizes))


class Engine(NamedTuple):
    """Who computes: a library, how its arrays lie, the dtype, the instruction set (None for the best) and the threads."""

    library: str  # "fastconv" or "torch"
    layout: str = "channels_last"
    dtype: str = "float32"
    isa: str | None = None
    threads: int = 1

    def __str__(self) -> str:
        return f"{self.library} {self.layout if self.library == 'torch' else ''} {self.dtype} {self.isa or ''}".strip()


def draw(shape: Sequence[int], dtype: Any, *, seed: int = 0) -> np.ndarray:
    """Return normally distributed numbers, a few thousand of them again and again."""
    return np.resize(np.random.default_rng(seed).standard_normal(65521).astype(dtype), tuple(shape))
