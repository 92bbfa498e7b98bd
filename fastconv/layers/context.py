"""The context of one pass through a layer or a model."""

from __future__ import annotations

import numpy as np


class Context:
    """What belongs to one pass alone: the mode, the random numbers, and whose gradient is wanted.

    Parameters
    ----------
    training : bool
        Dropout drops, batch normalization takes the statistics of the batch.
    rng : numpy.random.Generator, optional
        What dropout and its like draw from. A model lends its own where none is given.
    input_grad : bool
        False where nobody will use the gradient of the input: ``backward`` may then return None for it.
    inference : bool
        True where nobody will go back: a model then drops every closure, and with it what the backward pass would need.

    Examples
    --------
    >>> import numpy as np
    >>> ctx = Context(training=True, rng=np.random.default_rng(0))
    >>> ctx.training, ctx.input_grad
    (True, True)
    """

    __slots__ = ("_rng", "inference", "input_grad", "training")

    def __init__(
        self,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_grad: bool = True,
        *,
        inference: bool = False,
    ) -> None:
        if inference and training:
            raise ValueError("a pass is either for inference or for training: got training=True and inference=True")
        if rng is not None and not isinstance(rng, np.random.Generator):
            raise TypeError(f"rng must be a numpy.random.Generator, as made by numpy.random.default_rng, got {rng!r}")
        self.training = training
        self.input_grad = input_grad
        self.inference = inference
        self._rng = rng

    @property
    def rng(self) -> np.random.Generator:
        """The generator of this pass; `RuntimeError` where none was given."""
        if self._rng is None:
            raise RuntimeError(
                "this pass draws random numbers but has no generator: "
                "give it one with Context(training=True, rng=numpy.random.default_rng(0))"
            )
        return self._rng

    @property
    def has_rng(self) -> bool:
        """Whether this pass can draw random numbers."""
        return self._rng is not None

    def replace(
        self,
        *,
        training: bool | None = None,
        rng: np.random.Generator | None = None,
        input_grad: bool | None = None,
        inference: bool | None = None,
    ) -> Context:
        """Return the same context with what is given in the place of what it has."""
        return Context(
            self.training if training is None else training,
            self._rng if rng is None else rng,
            self.input_grad if input_grad is None else input_grad,
            inference=self.inference if inference is None else inference,
        )

    def __repr__(self) -> str:
        return f"Context(training={self.training}, rng={self._rng}, input_grad={self.input_grad}, inference={self.inference})"
