"""What a layer declares about itself, so that the conformance suite knows what to expect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple


class Traits(NamedTuple):
    """Properties of a layer that nobody can see from outside; set them as ``traits = Traits(...)`` on the class.

    A layer whose properties depend on its arguments makes `traits` a property. A layer with others inside need not repeat
    `mixes_samples` and `shares_input` of theirs.

    Parameters
    ----------
    linear : bool
        The output is a linear function of the inputs, plus a constant that does not depend on them (a bias).
    mixes_samples : bool
        In training the output for one sample depends on the others of the batch, as in batch normalization.
    shares_input : bool
        The output may share the memory of an input, as in `Flatten`.
    kinks : tuple of float, "ties" or callable
        Where the layer cannot be differentiated: at these values of any input; or where two values of an input are equal
        (``"ties"``, as in max pooling); or a function of the inputs that returns how far they are from the nearest such point.
    domain : (float, float)
        Between which numbers inputs make sense, as (0.1, 4) for a logarithm.
    integers : bool or tuple of int
        Inputs may be integers or booleans, as those of an embedding; a tuple says which, ``(1,)`` the second. For any other
        input, what is not float32 or float64 is a `TypeError` before it comes to `forward`.
    discrete : bool
        Outputs may be integers or booleans, whatever the dtype of the layer, and the backward pass is zero for them, as for the
        place of the largest value.
    counts : bool
        How long the output is depends on numbers of the inputs, as for the places that are not 0; `output_shape` says then what
        models are planned with.

    Examples
    --------
    >>> from fastconv.layers import Linear, ReLU
    >>> Linear.traits.linear, ReLU.traits.kinks
    (True, (0.0,))
    """

    linear: bool = False
    mixes_samples: bool = False
    shares_input: bool = False
    kinks: tuple[float, ...] | Literal["ties"] | Callable[..., Any] = ()
    domain: tuple[float, float] = (-4.0, 4.0)
    integers: bool | tuple[int, ...] = False
    discrete: bool = False
    counts: bool = False

    def takes_integers(self, at: int) -> bool:
        """Return whether input number `at` may be integers.

        >>> Traits(integers=(1,)).takes_integers(0), Traits(integers=True).takes_integers(0)
        (False, True)
        """
        return at in self.integers if isinstance(self.integers, tuple) else self.integers
