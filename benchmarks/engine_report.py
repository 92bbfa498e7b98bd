"""What ``python -m benchmarks engines`` prints and writes: tables, the targets, a chart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from benchmarks import bars
from benchmarks.report import geometric_mean, milliseconds, table
from fastconv.engines import Comparison

#: How many times as fast as the best of the others a network should be. LeNet, of one image, counts for itself alone.
TARGETS = {"vgg19": 2.0, "resnet50": 1.4, "lenet": 1.5}
MEAN, LOWEST, OVERHEAD = 1.3, 1.0, 30e-6
SMALL = "lenet"

NOTE = (
    "Milliseconds of a call, medians; the ratio is the best of the others to ours, * below 1.0. Load and first call: of fresh "
    "processes, medians; ours freezes the network as it loads it. Memory: the most that the process of an engine had at once, "
    "with interpreter, libraries and weights. Difference: the largest between outputs of two engines, as a share of the "
    "largest output. Others: what other programs had of the processors during the turns."
)


def engine_names(results: Sequence[Comparison]) -> list[str]:
    """Return the engines of these results, ours first."""
    return list(dict.fromkeys(each.engine for result in results for each in result.engines))


def line(result: Comparison) -> str:
    """Return one result in a line."""
    taken = ", ".join(
        f"{each.engine} {each.error[:60] if each.error else f'{milliseconds(each.seconds)} ms'}"
        for each in result.engines
    )
    return f"{result.network:<20} batch {result.batch}, {threads_in_words(result.threads)}: {taken}; {ratio(result)}"


def threads_in_words(threads: int) -> str:
    """Return a number of threads with its noun."""
    return f"{threads} thread{'s' * (threads > 1)}"


def ratio(result: Comparison) -> str:
    """Return the ratio of a result, with a star where it is too low."""
    if result.ratio is None:
        return "failed"
    return f"{result.ratio:.2f}{' *' * (result.ratio < LOWEST)}"


def configurations(results: Iterable[Comparison]) -> dict[tuple[int, int], list[Comparison]]:
    """Return the results by threads and batch."""
    found: dict[tuple[int, int], list[Comparison]] = {}
    for result in results:
        found.setdefault((result.threads, result.batch), []).append(result)
    return dict(sorted(found.items()))


def markdown(results: Sequence[Comparison], overheads: dict[str, float], facts: dict[str, str]) -> str:
    """Return the whole report: the machine, the targets, and each network, by threads and batch."""
    parts = [table(("what", "on this machine"), facts.items()), targets(results, overheads), NOTE]
    names = engine_names(results)
    for (threads, batch), members in configurations(results).items():
        parts += [f"### {threads_in_words(threads)}, batch {batch}", networks(members, names)]
    return "\n\n".join(parts) + "\n"


def networks(results: Sequence[Comparison], names: Sequence[str]) -> str:
    """Return the table of networks with one batch and number of threads."""
    columns = ("ms", "load ms", "first call ms", "memory MB")
    header = (
        "network",
        f"ms: {' / '.join(names)}",
        "ratio",
        *(f"{column}" for column in columns[1:]),
        "difference",
        "others",
    )
    shown: list[Callable[..., str]] = [
        lambda each: milliseconds(each.seconds),
        lambda each: f"{1000 * each.load:.0f}",
        lambda each: milliseconds(each.first),
        lambda each: f"{each.peak / 1e6:.0f}",
    ]
    rows = []
    for result in results:
        by_name = {each.engine: each for each in result.engines}
        cells = [
            " / ".join("-" if name not in by_name or by_name[name].error else show(by_name[name]) for name in names)
            for show in shown
        ]
        rows.append(
            (
                result.network,
                cells[0],
                ratio(result),
                *cells[1:],
                f"{result.difference:.0e}",
                f"{result.disturbance:.0%}",
            )
        )
    return table(header, rows, left=1)


def targets(results: Sequence[Comparison], overheads: dict[str, float]) -> str:
    """Return the table of the targets, and what came of each, by threads and batch."""
    grouped = configurations(results)
    header = ("", "target", *(f"{threads_in_words(threads)}, batch {batch}" for threads, batch in grouped))
    large = [[r for r in members if r.network != SMALL] for members in grouped.values()]
    rows = [
        ("geometric mean", f"{MEAN}", *map(mean, large)),
        (f"below {LOWEST}", "none", *(share(members, lambda r: r.ratio < LOWEST) for members in large)),
    ]
    rows += [
        (name, f"{target}", *(of_network(name, members) for members in grouped.values()))
        for name, target in TARGETS.items()
        if name != SMALL
    ]
    single = [(threads, members if batch == 1 else []) for (threads, batch), members in grouped.items()]
    rows += [
        (f"{SMALL}, one image", f"{TARGETS[SMALL]}", *(of_network(SMALL, members) for _, members in single)),
        (
            f"{SMALL}, one image: us outside of kernels",
            f"{1e6 * OVERHEAD:.0f}",
            *(f"{1e6 * overheads[str(n)]:.1f}" if members and str(n) in overheads else "" for n, members in single),
        ),
        ("load slower than onnxruntime", "none", *(share(m, slower("load")) for m in grouped.values())),
        ("first call slower than onnxruntime", "none", *(share(m, slower("first")) for m in grouped.values())),
        ("peak memory not the lowest", "none", *(share(m, larger) for m in grouped.values())),
    ]
    return table(header, rows)


def mean(results: Sequence[Comparison]) -> str:
    """Return the geometric mean of the ratios."""
    ratios = [result.ratio for result in results if result.ratio is not None]
    return f"{geometric_mean(ratios):.2f}" if ratios else ""


def of_network(name: str, results: Sequence[Comparison]) -> str:
    """Return the ratio of a network."""
    return next((ratio(result) for result in results if result.network == name), "")


def share(results: Sequence[Comparison], fails: Callable[[Comparison], bool]) -> str:
    """Return how many fail, of those that have figures."""
    measured = [result for result in results if result.ratio is not None]
    return f"{sum(map(fails, measured))} of {len(measured)}" if measured else ""


def slower(what: str) -> Callable[[Comparison], bool]:
    """Return whether ours takes longer than ONNX Runtime to do something."""

    def fails(result: Comparison) -> bool:
        rivals = [getattr(each, what) for each in result.others if each.engine == "onnxruntime"]
        return any(getattr(result.ours, what) > theirs for theirs in rivals)

    return fails


def larger(result: Comparison) -> bool:
    """Return whether any of the others takes less memory."""
    return any(result.ours.peak > each.peak for each in result.others)


def chart(path: Path, results: Sequence[Comparison]) -> None:
    """Draw the ratio of each network as bars, one for each batch and number of threads, and a line for its target."""
    drawn = [
        bars.Bar(
            result.network, f"{threads_in_words(threads)}, batch {batch}", result.ratio, TARGETS.get(result.network)
        )
        for (threads, batch), members in configurations(results).items()
        for result in members
        if result.ratio is not None
    ]
    titles = {result.network: result.network for result in results}
    bars.draw(path, drawn, titles, "speed against the best of the other engines")
