"""The table of a model: names, output shapes, parameters, multiply-adds, receptive fields."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from fastconv.geometry import ReceptiveField
from fastconv.layers.base import Layer
from fastconv.layers.checks import with_batch
from fastconv.layers.symbol import Shape, several
from fastconv.layers.tree import collect
from fastconv.model import Model

#: The receptive field along each spatial axis, or None where an output sees the whole input.
Field = tuple[ReceptiveField, ...] | None

_TITLES = ("layer", "output shape", "parameters", "multiply-adds", "receptive field")
_ALIGN = "<<>><"


class Row(NamedTuple):
    """One use of a layer; numbers are for one sample, and a shared layer has its parameters in its first row alone."""

    name: str
    kind: str
    output_shape: Any
    parameters: int
    multiply_adds: int
    receptive_field: tuple[int, ...] | None
    depth: int

    def cells(self) -> tuple[str, ...]:
        """Return the row as texts."""
        field = self.receptive_field
        return (
            f"{'  ' * self.depth}{self.name} ({self.kind})",
            ", ".join(map(with_batch, self.output_shape if several(self.output_shape) else [self.output_shape])),
            f"{self.parameters:,}",
            f"{self.multiply_adds:,}",
            "all" if field is None else " x ".join(map(str, field)) or "-",
        )


class Summary:
    """The table of a model; it prints as text, and a notebook shows it as a table.

    Attributes
    ----------
    rows : list of Row
        One for each use of a layer, in the order of computation; a nested model's rows follow its own, one deeper.
    parameters, buffers : int
        How many numbers are learned, and how many are kept beside them.
    parameter_bytes : int
        Bytes of the learned numbers.
    multiply_adds : int
        Multiplications (each with its addition) for one sample.

    Examples
    --------
    >>> from fastconv.layers import Conv2d, Flatten, Linear, MaxPool2d
    >>> from fastconv.sequential import Sequential
    >>> print(Sequential([Conv2d(8, 3), MaxPool2d(), Flatten(), Linear(10)], input_shape=(28, 28, 1)).summary())
    layer                    output shape    parameters  multiply-adds  receptive field
    conv2d_1 (Conv2d)        (N, 26, 26, 8)          80         48,672  3 x 3
    maxpool2d_1 (MaxPool2d)  (N, 13, 13, 8)           0              0  4 x 4
    flatten_1 (Flatten)      (N, 1352)                0              0  all
    linear_1 (Linear)        (N, 10)             13,530         13,520  all
    total: 13,610 parameters (54.4 kB float32), 0 buffers, 62,192 multiply-adds for one sample
    """

    def __init__(self, rows: list[Row], parameters: int, buffers: int, parameter_bytes: int, dtype: str) -> None:
        self.rows = rows
        self.parameters = parameters
        self.buffers = buffers
        self.parameter_bytes = parameter_bytes
        self.dtype = dtype
        self.multiply_adds = sum(row.multiply_adds for row in rows if row.depth == 0)

    def _total(self) -> str:
        return (
            f"total: {self.parameters:,} parameters ({_bytes_text(self.parameter_bytes)} {self.dtype}), "
            f"{self.buffers:,} buffers, {self.multiply_adds:,} multiply-adds for one sample"
        )

    def __str__(self) -> str:
        table = [_TITLES, *(row.cells() for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = []
        for row in table:
            cells = zip(row, widths, _ALIGN, strict=True)
            lines.append("  ".join(f"{cell:{side}{width}}" for cell, width, side in cells))
        return "\n".join([*(line.rstrip() for line in lines), self._total()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from html import escape

        head = "".join(f"<th>{title}</th>" for title in _TITLES)
        body = "".join(
            "<tr>" + "".join(f'<td style="white-space: pre">{escape(cell)}</td>' for cell in row.cells()) + "</tr>"
            for row in self.rows
        )
        return (
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
            f'<tfoot><tr><td colspan="{len(_TITLES)}">{escape(self._total())}</td></tr></tfoot></table>'
        )


def summarize(model: Model) -> Summary:
    """Return the summary of a model that knows the shape of its input; `ValueError` for another.

    >>> from fastconv.layers import ReLU
    >>> from fastconv.sequential import Sequential
    >>> summarize(Sequential([ReLU()], input_shape=(4,))).parameters
    0
    """
    params, buffers = model.params, model.buffers
    shapes = model.input_shapes
    if not shapes:
        raise ValueError(
            f"{model.label} does not know its input yet: call it, build((28, 28, 1)), or give input_shape="
        )
    rows: list[Row] = []
    start = [_unit(shape) for shape in shapes]
    _trace(model, shapes, start, rows, depth=0, seen=set())
    learned, kept = (sum(array.size for array in arrays.values()) for arrays in (params, buffers))
    return Summary(rows, learned, kept, sum(array.nbytes for array in params.values()), str(model.dtype))


def model_window(model: Model, *shapes: Shape) -> list[tuple[Any, Any]] | None:
    """Return what one output of a model sees of its inputs along each spatial axis, as `Layer.window` does."""
    fields = _trace(model, shapes, [_unit(shape) for shape in shapes], [], depth=0, seen=set())
    merged = _largest(fields)
    return None if merged is None else [(field.size, field.jump) for field in merged]


def _trace(
    model: Model, shapes: Sequence[Shape], fields: Sequence[Field], rows: list[Row], *, depth: int, seen: set[int]
) -> list[Field]:
    """Append a row for each layer that a pass uses, and return the receptive fields of the outputs."""
    graph = model.graph
    made_shapes = graph.shapes(*shapes)
    found: list[Field] = [*fields, *[None] * (graph.slots - len(fields))]
    for step in graph.steps:
        reads, made = ([made_shapes[slot] for slot in slots] for slots in (step.reads, step.writes))
        seeing = [found[slot] for slot in step.reads]
        at = len(rows)
        parameters = sum(array.size for array in _arrays(step.layer) if id(array) not in seen)
        if isinstance(step.layer, Model):
            after = _trace(step.layer, reads, seeing, rows, depth=depth + 1, seen=seen)
        else:
            after = [_after(step.layer, reads, _largest(seeing), shape) for shape in made]
        seen.update(map(id, _arrays(step.layer)))
        for slot, field in zip(step.writes, after, strict=True):
            found[slot] = field
        first = after[0]
        row = Row(
            str(step.layer.name),
            type(step.layer).__name__,
            tuple(made) if len(made) > 1 else made[0],
            parameters,
            step.layer.multiply_adds(*reads),
            None if first is None else tuple(math.ceil(axis.size) for axis in first),
            depth,
        )
        rows.insert(at, row)  # before the rows of the layers inside
    return [found[slot] for slot in graph.outputs]


def _arrays(layer: Layer) -> list[Any]:
    return list(collect(layer, "params").values())


def _unit(shape: Shape) -> Field:
    return (ReceptiveField(),) * (len(shape) - 1)


def _after(layer: Layer, shapes: Sequence[Shape], field: Field, made: Shape) -> Field:
    windows = layer.window(*shapes)
    if field is None or windows is None or not len(windows) == len(field) == len(made) - 1:
        return None
    return tuple(axis.then(span, stride) for axis, (span, stride) in zip(field, windows, strict=True))


def _largest(fields: Sequence[Field]) -> Field:
    """Return the field of what reads several: the largest of each axis."""
    known = [field for field in fields if field is not None]
    if len(known) < len(fields) or len({len(field) for field in known}) != 1:
        return None
    return tuple(max(axis) for axis in zip(*known, strict=True))


def _bytes_text(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"
