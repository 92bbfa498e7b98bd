"""Calls that came before: their arguments have been checked, and what follows from them is known.

Of a small layer the checks take longer than the layer. So functions look for the `signature` of their arguments in a table of
what they found out about the same ones before.
"""

from __future__ import annotations

from typing import Any, TypeVar

Found = TypeVar("Found")

#: Calls that a table remembers before it begins anew.
MOST_CALLS = 1024

_tables: list[Known[Any]] = []


class Known(dict[bytes | None, Found]):
    """What one function found out about its calls, by their signatures; of those without one (None) nothing is known."""

    def __init__(self) -> None:
        _tables.append(self)

    def remember(self, call: bytes | None, found: Found) -> Found:
        """Keep what was found out about a call, and return it."""
        if call is not None:
            if len(self) >= MOST_CALLS:
                self.clear()
            self[call] = found
        return found


def forget_calls() -> None:
    """Empty all tables: what is in them depends on something that was changed."""
    for table in _tables:
        table.clear()
