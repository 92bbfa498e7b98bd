"""Plain text and Markdown tables, and numbers with units."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence


def table(rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """Return `rows` of cells as lines in aligned columns, two spaces apart; the columns in `right` are flush right.

    >>> print(table([["layer", "size"], ["conv", "9"], ["linear", "10"]], right=[1]))
    layer   size
    conv       9
    linear    10
    """
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def plural(count: int, noun: str) -> str:
    """Return a count with its noun.

    >>> plural(1, "image"), plural(2000, "image")
    ('1 image', '2,000 images')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 2) -> str:
    """Return rows as Markdown that also reads well as it is; the first `left` columns are words, the others numbers.

    >>> print(markdown(["case", "ms"], [["small", "0.1"], ["large", "12"]], left=1))
    | case  |  ms |
    |-------|----:|
    | small | 0.1 |
    | large |  12 |
    """
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]

    def written(line: Sequence[str]) -> str:
        cells = [
            cell.ljust(w) if i < left else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        ]
        return f"| {' | '.join(cells)} |"

    rule = "|".join("-" * (w + 2) if i < left else "-" * (w + 1) + ":" for i, w in enumerate(widths))
    return "\n".join([written(lines[0]), f"|{rule}|", *map(written, lines[1:])])


def seconds_in_words(seconds: float) -> str:
    """Return a time with three digits.

    >>> seconds_in_words(0.0000554), seconds_in_words(0.01), seconds_in_words(12.345)
    ('55.4 us', '10.0 ms', '12.3 s')
    """
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size or unit == "us":
            break
    value = seconds / size
    digits = 2 - math.floor(math.log10(value)) if value > 0 else 2
    return f"{value:.{min(max(digits, 0), 2)}f} {unit}"


def bytes_in_words(count: int) -> str:
    """Return a size in memory.

    >>> bytes_in_words(54_325_248)
    '54 MB'
    """
    return f"{count / 1e6:,.0f} MB"
