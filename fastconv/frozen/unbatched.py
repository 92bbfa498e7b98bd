"""Frozen models without a batch axis: around a program with a batch of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastconv.arrays import as_array, is_foreign
from fastconv.frozen.explanation import Explanation
from fastconv.frozen.model import FrozenModel
from fastconv.frozen.operation import Array
from fastconv.frozen.plan import Plan
from fastconv.frozen.program import Program
from fastconv.layers.symbol import Shape


class FrozenUnbatched(FrozenModel):
    """What `fastconv.freeze` makes of a `fastconv.unbatched.Unbatched` model; called like it.

    `named_inputs` and `named_outputs` are those of the model, `fixed` the outputs that are constants, by their numbers. Shapes
    that `prepare`, `explain` and `arena_bytes` take are those of the arrays that the program uses, whole.
    """

    def __init__(
        self,
        program: Program,
        named_inputs: Sequence[Mapping[str, Any]],
        named_outputs: Sequence[Mapping[str, Any]],
        fixed: Mapping[int, Array],
    ) -> None:
        self.named_inputs = [dict(item) for item in named_inputs]
        self.named_outputs = [dict(item) for item in named_outputs]
        self.fixed = dict(fixed)
        self._used = [at for at, item in enumerate(self.named_inputs) if item["used"]]
        sources = [item["from"] for at, item in enumerate(self.named_outputs) if at not in self.fixed]
        if len(self._used) != len(program.input_shapes) or not all(0 <= n < len(program.outputs) for n in sources):
            raise ValueError("the inputs and outputs are not those of the program")
        super().__init__(program)
        self.input_shapes = tuple(tuple(item["shape"])[1:] for item in self.named_inputs)

    def __call__(self, *xs: Any) -> Any:
        """Return the output, a new array, or a tuple of them."""
        wanted = self.named_inputs
        if len(xs) != len(wanted):
            raise ValueError(f"{self._label} takes {len(wanted)} inputs, got {len(xs)}")
        xs = tuple(
            as_array(x, f"input {item['name']!r}") if is_foreign(x) else x for item, x in zip(wanted, xs, strict=True)
        )
        for item, x in zip(wanted, xs, strict=True):
            if np.ndim(x) != len(item["shape"]):
                raise ValueError(
                    f"{self._label} takes input {item['name']!r} with {len(item['shape'])} axes, got shape {np.shape(x)}"
                )
        made = super().__call__(*self._in_a_batch([xs[at] for at in self._used])) if self.program.outputs else ()
        ys = made if isinstance(made, tuple) else (made,)
        found, given = [], set[int]()
        for at, item in enumerate(self.named_outputs):
            y = self.fixed[at] if at in self.fixed else ys[item["from"]].reshape(ys[item["from"]].shape[1:])
            found.append(y.copy() if at in self.fixed or item["from"] in given else y)
            given.add(item.get("from", -1))
        return tuple(found) if len(found) > 1 else found[0]

    def predict(self, x: Any, *, batch_size: int = 64) -> Any:
        """Raise `TypeError`: there are no samples that could come one batch after the other."""
        raise TypeError(f"{self._label} takes arrays without a batch axis, so call it with them")

    def explain(self, *inputs: Any, batch: int = 1, repeats: int = 20) -> Explanation:
        """Return what each step does, as `FrozenModel.explain`; `batch` must be 1."""
        if batch != 1:
            raise ValueError(f"batch must be 1 for a model without a batch axis, got {batch!r}")
        given = self._in_a_batch(inputs) if inputs else self.program.input_shapes
        return super().explain(*given, repeats=repeats)

    def _planned(self, shapes: Sequence[Sequence[int]], batch: int) -> Plan:
        return super()._planned(shapes or self.program.input_shapes, batch)

    def _require_shapes(self, shapes: Sequence[Shape]) -> None:
        """Leave it to the steps: no axis is the channels for sure."""

    def _in_a_batch(self, inputs: Sequence[Any]) -> list[Any]:
        return [np.asarray(x)[None] if isinstance(x, (np.ndarray, np.generic)) else x for x in inputs]
