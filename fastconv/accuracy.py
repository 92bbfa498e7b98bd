"""Whether algorithms may be chosen that round more than the definition does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

#: What `precision` takes.
MODES = ("fast", "exact")

_mode: ContextVar[str] = ContextVar("fastconv_precision", default="fast")


@contextmanager
def precision(mode: str) -> Iterator[None]:
    """Choose how convolutions called in a ``with`` block may round; other Python threads keep their own choice.

    Parameters
    ----------
    mode : "fast" or "exact"
        "fast", the default, allows every algorithm: Winograd's transforms lose two to six bits against the sum of the
        definition, Strassen's sums one or two, and an infinity or NaN reaches other outputs too. "exact" allows only
        algorithms that multiply and add what the definition does. A gradient is computed in the mode of the moment it is
        asked for.

    Raises
    ------
    ValueError
        For anything else.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> x, weight = np.ones((1, 32, 32, 64), np.float32), np.ones((3, 3, 64, 64), np.float32)
    >>> with fastconv.precision("exact"):
    ...     float(fastconv.functional.conv(x, weight)[0, 0, 0, 0])
    576.0
    """
    if mode not in MODES:
        raise ValueError(f"precision must be one of {', '.join(map(repr, MODES))}, got {mode!r}")
    token = _mode.set(mode)
    try:
        yield
    finally:
        _mode.reset(token)


#: What `precision` says at this moment, as fast as it can be asked.
current_mode = _mode.get


def is_exact() -> bool:
    """Whether the calls of this moment are within ``precision("exact")``."""
    return _mode.get() == "exact"
