"""What a run printed and wrote: tables, Markdown, JSON and a bar chart, all from one list of results."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any, NamedTuple

from benchmarks import bars
from benchmarks.groups import BY_NAME, GROUPS, Group, lowest
from fastconv.cli.tables import markdown as table


class Result(NamedTuple):
    """One case, one pass, one number of threads: seconds of a call for us and for the others."""

    group: str
    case: str
    way: str
    threads: int
    networks: str
    ours: float
    others: dict[str, float]  # engine -> seconds; the best counts
    operations: int = 0
    bytes: int = 0
    peak: float = math.nan  # operations a second, of this many threads
    bandwidth: float = math.nan  # bytes a second
    dtype: str = "float32"
    isa: str | None = None
    against: str = "torch"

    @property
    def slow(self) -> bool:
        """Whether it is slower than any case should be."""
        return self.ratio < lowest(self.against)

    @property
    def theirs(self) -> float:
        """Seconds of the best alternative."""
        return min(self.others.values())

    @property
    def ratio(self) -> float:
        """How many times as fast as the best alternative."""
        return self.theirs / self.ours

    @property
    def rate(self) -> float:
        """Operations or bytes a second."""
        return (self.operations or self.bytes) / self.ours

    @property
    def share(self) -> float:
        """The rate as a share of what the machine can do; above 1 for algorithms with fewer operations, or in a cache."""
        return self.rate / (self.peak if self.operations else self.bandwidth)

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What no two results of a run have in common."""
        return (self.group, self.case, self.way, self.threads)


def geometric_mean(values: Iterable[float]) -> float:
    """Return the geometric mean of positive numbers.

    >>> geometric_mean([1.0, 4.0])
    2.0
    """
    values = list(values)
    return math.exp(sum(map(math.log, values)) / len(values))


def by_group(results: Sequence[Result], threads: int) -> list[tuple[Group, list[Result]]]:
    """Return the groups that have results on so many threads, in the order of the targets."""
    found = [(group, [r for r in results if r.group == group.name and r.threads == threads]) for group in GROUPS]
    return [(group, members) for group, members in found if members]


def counts(results: Sequence[Result]) -> list[int]:
    """Return the numbers of threads in these results."""
    return sorted({result.threads for result in results})


HEADER = ("case", "pass", "ours ms", "others' best", "rate", "share", "ratio")


def row(result: Result) -> tuple[str, ...]:
    """Return a result as the words of a table row, below `HEADER`; a ratio that is too low has a star."""
    rate, share = "", ""
    if result.operations or result.bytes:
        rate = f"{result.rate / 1e9:.0f} {'GFLOP/s' if result.operations else 'GB/s'}"
        share = f"{result.share:.0%}"
    best = min(result.others, key=result.others.__getitem__)
    star = " *" if result.slow else ""
    theirs = f"{milliseconds(result.theirs)} {best[:2]}"
    return (result.case, result.way, milliseconds(result.ours), theirs, rate, share, f"{result.ratio:.2f}{star}")


def milliseconds(seconds: float) -> str:
    """Write seconds as milliseconds with three digits.

    >>> milliseconds(0.0012345), milliseconds(2.5)
    ('1.23', '2500')
    """
    value = 1000 * seconds
    return f"{value:.{max(0, min(4, 2 - math.floor(math.log10(value))))}f}"


def summary(results: Sequence[Result], threads: int) -> str:
    """Return the table of the groups: what limits it, geometric mean, target, the slowest case."""
    rows = []
    for group, members in by_group(results, threads):
        mean = geometric_mean(r.ratio for r in members)
        target = group.target_for(threads, members[0].isa, members[0].against)
        met = "" if target is None else ("yes" if mean >= target else "no")
        rows.append(
            (
                *(
                    group.title,
                    group.limit,
                    str(len(members)),
                    f"{mean:.2f}",
                    "" if target is None else f"{target:.2f}",
                    met,
                ),
                *(f"{min(r.ratio for r in members):.2f}", str(sum(r.slow for r in members))),
            )
        )
    return table(("group", "limited by", "cases", "geometric mean", "target", "met", "lowest", "too slow *"), rows)


def markdown(results: Sequence[Result], machine: dict[str, str]) -> str:
    """Return the whole report: the machine, the groups, and every case, for each number of threads."""
    parts = [table(("what", "on this machine"), machine.items())]
    for threads in counts(results):
        parts += [f"## {threads} thread{'s' * (threads > 1)}", summary(results, threads)]
        for group, members in by_group(results, threads):
            parts += [f"### {group.title} ({threads} thread{'s' * (threads > 1)})", table(HEADER, map(row, members))]
    return "\n\n".join(parts) + "\n"


def show(results: Sequence[Result], worst: int = 0) -> None:
    """Print the groups, and so many of the lowest ratios."""
    for threads in counts(results):
        print(
            f"\n{threads} thread{'s' * (threads > 1)}; times are of a call, the ratio is the better alternative's over ours\n"
        )
        print(summary(results, threads))
    if worst:
        lowest = sorted(results, key=lambda result: result.ratio)[:worst]
        print("\nlowest ratios\n")
        print(table(("threads", *HEADER), [(str(result.threads), *row(result)) for result in lowest], left=3))


def write(output: Path, results: Sequence[Result], machine: dict[str, str]) -> None:
    """Write the three forms of a report: output.json, output.md and output.png."""
    save(output.with_suffix(".json"), results, machine)
    output.with_suffix(".md").write_text(markdown(results, machine), encoding="utf-8")
    chart(output.with_suffix(".png"), results)
    print(f"wrote {output}.json, .md and .png")


def save(path: Path, results: Sequence[Result], machine: dict[str, str]) -> None:
    """Write the results as JSON: what every other form is made from."""
    content = {"machine": machine, "results": [result._asdict() for result in results]}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def load(path: Path) -> tuple[list[Result], dict[str, str]]:
    """Read what `save` wrote."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return [Result(**item) for item in content["results"]], content["machine"]


def chart(path: Path, results: Sequence[Result]) -> None:
    """Draw a bar for the geometric mean of each group and number of threads, and a line for its target."""
    titles = {
        group.name: fill(BY_NAME[group.name].title, 38)
        for group in GROUPS
        if any(result.group == group.name for result in results)
    }
    drawn = [
        bars.Bar(
            group.name,
            f"{number} thread{'s' * (number > 1)}",
            geometric_mean(member.ratio for member in members),
            group.target_for(number, members[0].isa, members[0].against),
        )
        for number in counts(results)
        for group, members in by_group(results, number)
    ]
    bars.draw(path, drawn, titles, "speed against the best alternative")
