"""Resizing of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastconv import _kernels
from fastconv.arguments import check_elements
from fastconv.frozen.operation import Array, Operation, register, require_image
from fastconv.functional._spans import resizing
from fastconv.functional.calls import Call, View
from fastconv.functional.interpolate import Line, Rule, image_lines, may_be_outside, sides, taps
from fastconv.layers.symbol import Shape


@register
@dataclass(frozen=True, eq=False)
class Resize(Operation):
    """The image in another size: by a `scale` or to a `size` (or both) for each spatial axis, or as large as a second one.

    `rule` has the fields of `fastconv.functional.interpolate.Rule`, in order.
    """

    rule: tuple[Any, ...]
    scale: tuple[float, ...] | None = None
    size: tuple[int, ...] | None = None
    region: tuple[tuple[float, float], ...] | None = None

    kind = "resize"

    def lines(self, *shapes: Shape) -> list[Line | None]:
        """Return the line of each axis for images of these shapes."""
        size = self.size if len(shapes) == 1 else shapes[1][1:-1]
        if self.scale is None and size is None:
            raise ValueError("scale or size must be given, got neither")
        return image_lines(shapes[0], self.scale, size, self.region, Rule(*self.rule))

    def output_shape(self, *shapes: Shape) -> Shape:
        for shape in shapes:
            require_image(shape)
        shape = tuple(n if line is None else line.size for n, line in zip(shapes[0], self.lines(*shapes), strict=True))
        check_elements(shape, "the output")
        return shape

    def is_view(self, *shapes: Shape) -> bool:
        return not any(self.lines(*shapes))

    def calls(self, kernels: Any, reads: Sequence[View], writes: Sequence[View]) -> list[Call]:
        x, y, rule = reads[0], writes[0], Rule(*self.rule)
        if not y.size:
            return []
        lines = self.lines(*(view.shape for view in reads))
        (dtype,) = (dtype for dtype, module in _kernels.modules.items() if module is kernels)
        rows = sides(x.shape, lines, rule).rows
        whole = tuple(None if line is None else rows(axis, 0, line.size) for axis, line in enumerate(lines))
        found = resizing(x.shape, whole, dtype)
        arguments = x.reshape(*found.x_shape), y.reshape(*found.y_shape), found.spans, found.weights
        calls = [Call(rule.mode, kernels.resize, arguments, found.work)]
        for axis, line in enumerate(lines):
            if line is not None and may_be_outside(rule):
                outside = taps(x.shape[axis], line, rule).outside
                calls.append(Call("fill", _fill, (y, axis, outside, rule.outside)))
        return calls


def _fill(y: Array, axis: int, places: Array, value: float) -> None:
    np.moveaxis(y, axis, 0)[places] = value
