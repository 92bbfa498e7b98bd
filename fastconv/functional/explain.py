"""Why a convolution is computed as it is: what the cost model chose for each pass, and what it expects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from fastconv import _kernels
from fastconv.arguments import positive, shape_tuple
from fastconv.functional._conv_algorithm import Algorithm, wish
from fastconv.functional._conv_plan import conv_plan
from fastconv.functional._pool_plan import image_shape
from fastconv.functional._validate import flat_arguments, float_dtype

#: Why the product stands in for Strassen's algorithm.
NO_STRASSEN = "Strassen's algorithm is for float32 with AVX-512, the product takes its place"


class ConvExplanation(NamedTuple):
    """What `explain_conv` returns; printed, a line for each pass.

    Each pass has a `name` ("product", "winograd", "strassen" or "depthwise"), a `tile` (outputs of a Winograd tile along the
    last two axes), a `share` (the expected rate of the definition's multiply-adds, as a share of the machine's peak: those of
    Winograd and Strassen may be above 1, since they need fewer) and `why`, in words.
    """

    x_shape: tuple[int, ...]
    weight_shape: tuple[int, ...]
    y_shape: tuple[int, ...]
    multiply_adds: int
    forward: Algorithm
    backward_input: Algorithm
    backward_weight: Algorithm

    def __str__(self) -> str:
        lines = [
            f"convolution of {self.x_shape} with {self.weight_shape} to {self.y_shape}: {self.multiply_adds:,} multiply-adds"
        ]
        for title, choice in zip(("forward", "backward input", "backward weight"), self[4:], strict=True):
            name = choice.name
            if name == "winograd":
                name += f" F({choice.tile[0]} x {choice.tile[1]})"
            lines.append(f"  {title:<16} {name:<17} {choice.share:>5.0%} of the peak expected; {choice.why}")
        return "\n".join(lines)


def explain_conv(
    x_shape: Sequence[int],
    weight_shape: Sequence[int],
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    algorithm: str | None = None,
    dtype: DTypeLike = np.float32,
) -> ConvExplanation:
    """Say which algorithm computes a convolution and its gradients, and why.

    Parameters
    ----------
    x_shape, weight_shape : sequences of int
        Shapes of the arrays: (N, *spatial, C) and (*kernel, C // groups, O).
    stride, padding, dilation, groups, algorithm
        As given to `fastconv.functional.conv`.
    dtype : float32 or float64
        That of the arrays.

    Returns
    -------
    ConvExplanation
        For the mode of `fastconv.precision` that is in force now, on this processor.

    Raises
    ------
    TypeError, ValueError
        As `fastconv.functional.conv`.

    Examples
    --------
    >>> import fastconv
    >>> choice = fastconv.explain_conv((16, 56, 56, 64), (3, 3, 64, 64), padding=1)
    >>> choice.forward.name, choice.forward.tile
    ('winograd', (7, 7))
    >>> fastconv.explain_conv((1, 4, 4, 64), (3, 3, 64, 64), padding=1).forward.name
    'product'
    """
    kernels = _kernels.modules[float_dtype(dtype)]
    arguments = (
        image_shape(x_shape, "x_shape"),
        shape_tuple(weight_shape, "weight_shape"),
        flat_arguments(stride, "stride"),
        flat_arguments(padding, "padding"),
        flat_arguments(dilation, "dilation"),
        positive(groups, "groups"),
    )
    plan = conv_plan(*arguments, wish(algorithm))
    product = conv_plan(*arguments, "product").forward._replace(why=NO_STRASSEN)
    has_strassen = kernels.describe()["strassen"]
    choices = (
        choice if has_strassen or choice.name != "strassen" else product
        for choice in (plan.forward, plan.adjoint.algorithm, plan.weight_gradient.algorithm)
    )
    return ConvExplanation(plan.x_shape, plan.weight_shape, plan.y_shape, plan.multiply_adds, *choices)
