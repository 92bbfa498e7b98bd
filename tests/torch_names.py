"""Names and shapes of a state dict in a few characters, to compare networks that are not here."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping


def digest(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Return the SHA-256 of the sorted lines ``name 64x3x7x7``."""
    lines = sorted(f"{name} {'x'.join(map(str, shape))}\n" for name, shape in shapes.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()
