"""Operations that pool windows of pixels, channel by channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastconv.frozen.operation import Operation, register, require_image
from fastconv.functional._pool_plan import PoolPlan, adaptive_plan, pool_plan
from fastconv.functional.calls import Call, View
from fastconv.layers.symbol import Shape


class Pooling(Operation):
    """What the operations on windows share: `how` is "max" or "avg"."""

    how: str

    def plan(self, shape: Shape) -> PoolPlan:
        """Return the plan for an input of `shape`."""
        raise NotImplementedError

    def output_shape(self, *shapes: Shape) -> Shape:
        return self.plan(shapes[0]).y_shape

    def reads_channels(self, *shapes: Shape) -> bool:
        return True

    def writes_channels(self, *shapes: Shape) -> bool:
        return True

    def calls(self, kernels: Any, reads: Sequence[View], writes: Sequence[View]) -> list[Call]:
        return self._calls(kernels, self.plan(reads[0].shape), reads[0], writes[0])

    def line_calls(self, kernels: Any, x: View, y: View, shape: Shape, x_first: int, first: int) -> list[Call]:
        """Return the calls that write y, lines from `first` on for an image of `shape`; x are its lines from `x_first` on."""
        plan = self.plan(shape).of_lines(first, first + y.shape[1], x_first, x_first + x.shape[1])
        return self._calls(kernels, plan, x, y)

    def _calls(self, kernels: Any, plan: PoolPlan, x: View, y: View) -> list[Call]:
        if self.how not in ("max", "avg"):
            raise ValueError(f'a pooling takes "max" or "avg", got {self.how!r:.80}')
        kernel = kernels.max_pool_forward if self.how == "max" else kernels.avg_pool_forward
        arguments = (x, x.first, y, y.first, plan.axes, *plan.sizes)
        return [Call(f"{self.how} pool", kernel, arguments, plan.reads)] if y.size else []


@register
@dataclass(frozen=True, eq=False)
class Pool(Pooling):
    """Windows of pixels; the arguments are those of `fastconv.functional.max_pool`."""

    how: str
    kernel_size: Any
    stride: Any = None
    padding: Any = 0
    dilation: Any = 1
    ceil_mode: bool = False
    count_include_pad: bool = False

    kind = "pool"

    def plan(self, shape: Shape) -> PoolPlan:
        require_image(shape)
        arguments = self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.count_include_pad
        return pool_plan(shape, *arguments)


@register
@dataclass(frozen=True, eq=False)
class AdaptivePool(Pooling):
    """`output_size` windows that cover the image; () is one window and no spatial axes."""

    how: str
    output_size: tuple[int, ...]

    kind = "adaptive_pool"

    def plan(self, shape: Shape) -> PoolPlan:
        require_image(shape)
        return adaptive_plan(shape, self.output_size or 1)

    def output_shape(self, *shapes: Shape) -> Shape:
        shape = self.plan(shapes[0]).y_shape
        return shape if self.output_size else (shape[0], shape[-1])
